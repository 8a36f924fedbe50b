//! Commands, control calls and calls of a driver, from the caller's own context or from the port process.

use std::sync::Arc;
use std::time::Duration;

use rustler::{Atom, Binary, Encoder, Env, LocalPid, OwnedEnv, Reference, ResourceArc, Term};
use safe_port_core::driver::{Bytes, CallError, CommandError, CommandMode, Port, Reply};

use super::handle::{find, report, tell, Answer, DriverHandle, From, Happening};
use super::terms;
use crate::atoms;

/// How long a caller waits awake for the answer of a driver that was quick before: about what waking it would take.
const AWAKE: Duration = Duration::from_micros(30);

/// The data of a command, in the pieces that it came in, which share one copy.
fn copy(iovec: &[Binary]) -> Vec<Bytes> {
    let whole: Vec<u8> = iovec.iter().flat_map(|part| part.as_slice().iter().copied()).collect();
    let whole = Bytes::from(whole);
    let mut at = 0;
    let piece = |part: &Binary| {
        let start = at;
        at += part.len();
        whole.slice(start..at)
    };
    iovec.iter().filter_map(piece).collect()
}

/// A command for the driver's port `port`, in the caller's context. `None` if it is no driver's port.
///
/// `:server` sends the caller to the port process, where it waits if the port is busy.
pub fn command_in_caller(env: Env, port: LocalPid, iovec: &[Binary]) -> Option<Atom> {
    let handle = find(port)?;
    if handle.is_isolated {
        return Some(atoms::server());
    }
    Some(match send(env, &handle, env.pid(), iovec, CommandMode::Refuse) {
        Ok(()) => atoms::ok(),
        Err(CommandError::Closed) => atoms::closed(),
        Err(CommandError::Busy | CommandError::NotSupported) => atoms::server(),
    })
}

fn send(
    env: Env,
    handle: &ResourceArc<DriverHandle>,
    caller: LocalPid,
    iovec: &[Binary],
    mode: CommandMode,
) -> Result<(), CommandError> {
    let port = handle.port().ok_or(CommandError::Closed)?;
    let result = port.command(copy(iovec), terms::number(env, caller), mode);
    // The command may have made the port busy, which the port process has to know.
    tell(env, handle);
    result
}

/// `Native.driver_command/4`: a command that `caller` has sent, in the port process. Never blocks.
#[rustler::nif]
fn driver_command(
    env: Env,
    handle: ResourceArc<DriverHandle>,
    caller: LocalPid,
    iovec: Vec<Binary>,
    force: bool,
) -> Atom {
    let mode = if force { CommandMode::Force } else { CommandMode::Refuse };
    match send(env, &handle, caller, &iovec, mode) {
        Ok(()) => atoms::ok(),
        Err(CommandError::Busy) => atoms::busy(),
        Err(CommandError::Closed) => atoms::closed(),
        Err(CommandError::NotSupported) => atoms::notsup(),
    }
}

/// `Native.driver_control/4`: calls the driver of the port `port` in the caller's context.
///
/// Returns the answer, if it is quick, or `:wait`: then `{reference, answer}` follows. `{:behind, answer}` means that
/// the port process has something for the caller that came before the answer, `:server` that only the port process can
/// call the driver.
#[rustler::nif]
fn driver_control<'a>(
    env: Env<'a>,
    port: LocalPid,
    reference: Reference<'a>,
    op: u32,
    data: Binary<'a>,
) -> Term<'a> {
    let Some(handle) = find(port) else { return atoms::closed().encode(env) };
    let call = |port: &Arc<Port>, caller| port.control(op, Bytes::from(data.as_slice()), caller);
    ask(env, &handle, reference, call, Answer::Control)
}

/// `Native.driver_call/4`: as `driver_control/4`, with a term.
#[rustler::nif]
fn driver_call<'a>(
    env: Env<'a>,
    port: LocalPid,
    reference: Reference<'a>,
    op: u32,
    term: Term<'a>,
) -> Term<'a> {
    let Some(handle) = find(port) else { return atoms::closed().encode(env) };
    let call = |port: &Arc<Port>, caller| port.call(op, external(term), caller);
    ask(env, &handle, reference, call, Answer::Call)
}

/// `Native.driver_control_for/5`: as `driver_control/4` in the port process, for `caller`, who gets the answer.
#[rustler::nif]
fn driver_control_for(
    env: Env,
    handle: ResourceArc<DriverHandle>,
    caller: LocalPid,
    reference: Reference,
    op: u32,
    data: Binary,
) -> Atom {
    let Some(port) = handle.port() else { return atoms::closed() };
    let answering = Answering::new(&handle, caller, reference);
    let answer = move |answer| answering.answer(Answer::Control(answer));
    port.control_to(op, Bytes::from(data.as_slice()), terms::number(env, caller), answer);
    atoms::wait()
}

/// `Native.driver_call_for/5`: as `driver_control_for/5`, with a term.
#[rustler::nif]
fn driver_call_for(
    env: Env,
    handle: ResourceArc<DriverHandle>,
    caller: LocalPid,
    reference: Reference,
    op: u32,
    term: Term,
) -> Atom {
    let Some(port) = handle.port() else { return atoms::closed() };
    let answering = Answering::new(&handle, caller, reference);
    let answer = move |answer| answering.answer(Answer::Call(answer));
    port.call_to(op, external(term), terms::number(env, caller), answer);
    atoms::wait()
}

fn external(term: Term) -> Bytes {
    Bytes::from(term.to_binary().as_slice())
}

fn ask<'a, T: Send + 'static>(
    env: Env<'a>,
    handle: &ResourceArc<DriverHandle>,
    reference: Reference<'a>,
    call: impl FnOnce(&Arc<Port>, u64) -> Reply<T>,
    wrap: fn(Result<T, CallError>) -> Answer,
) -> Term<'a> {
    if handle.is_isolated {
        return atoms::server().encode(env);
    }
    let Some(port) = handle.port() else { return atoms::closed().encode(env) };
    let reply = call(&port, terms::number(env, env.pid()));
    let mut answer = None;
    // That an answer comes soon to a caller that sleeps does not mean that it would come to one that stays awake: the
    // driver's thread may need the very processor.
    if handle.patience.tries() {
        answer = handle.patience.wait(AWAKE, || reply.take());
    }
    let answer = answer.or_else(|| {
        let answering = Answering::new(handle, env.pid(), reference);
        reply.listen(move |answer| answering.answer(wrap(answer)))
    });
    let Some(answer) = answer else { return atoms::wait().encode(env) };
    let answer = terms::answer(env, &wrap(answer));
    if handle.is_behind() && handle.owner() == env.pid() {
        (atoms::behind(), answer).encode(env)
    } else {
        answer
    }
}

/// A caller that waits for `{reference, answer}`.
struct Answering {
    handle: ResourceArc<DriverHandle>,
    caller: LocalPid,
    from: From,
}

impl Answering {
    fn new(handle: &ResourceArc<DriverHandle>, caller: LocalPid, reference: Reference) -> Answering {
        let env = OwnedEnv::new();
        let reference = env.save(reference);
        Answering { handle: handle.clone(), caller, from: From { env, reference } }
    }

    /// On a thread of the runner.
    fn answer(self, reply: Answer) {
        let Answering { handle, caller: to, mut from } = self;
        if handle.is_behind() {
            // What the driver has sent before goes first (contract M11).
            report(&handle, Happening::Reply { to, from, reply });
        } else {
            let message = |env| (from.reference.load(env), terms::answer(env, &reply)).encode(env);
            let _ = from.env.send_and_clear(&to, message);
        }
    }
}
