//! Data to the program: straight into its pipe, or back to the port process to be queued.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustler::{Atom, Binary, Encoder, Env, LocalPid, NewBinary, ResourceArc, Term};
use safe_port_core::writer::{write_parts, write_parts_awake};

use crate::handle::{lock, Output, PortHandle};
use crate::select::Ready;
use crate::timing::{self, Timer};
use crate::{atoms, driver, errno, registry};

/// What became of the data of a command.
enum Accepted<'a> {
    /// All of it is in the pipe.
    Written,
    /// These binaries, of so many bytes, have to be queued: the pipe is full.
    Rest(Term<'a>, usize),
    /// As above, behind what is queued already.
    Behind(Term<'a>, usize),
    /// The program's standard input was closed before.
    HalfClosed,
    /// The port cannot take it and ends with this reason.
    Failed(Atom),
}

/// `Native.command/2`: a command in the caller's context. Never blocks.
///
/// What does not fit the pipe goes to the port process before this returns, so a caller that is killed leaves no half of
/// a frame behind.
#[rustler::nif]
fn command<'a>(env: Env<'a>, port: LocalPid, iovec: Vec<Binary<'a>>) -> Atom {
    let _timer = Timer::start();
    let Some(handle) = registry::find(port) else {
        return driver::command_in_caller(env, port, &iovec).unwrap_or_else(atoms::closed);
    };
    let accepted = {
        let mut output = lock(&handle.output);
        if output.queued || (output.pipe.is_none() && !output.half_closed) {
            return atoms::server();
        }
        accept(env, &handle, &mut output, &iovec)
    };
    let event = match accepted {
        Accepted::Written => {
            // In passive mode whoever reads waits awake.
            if handle.turns.asked() && !handle.passive.load(Ordering::Acquire) {
                let _ = env.send(&handle.port, (&handle, atoms::asked()));
            }
            return atoms::ok();
        }
        Accepted::HalfClosed => return atoms::half_closed(),
        Accepted::Rest(rest, bytes) | Accepted::Behind(rest, bytes) => {
            (atoms::queue(), rest, bytes).encode(env)
        }
        Accepted::Failed(reason) => (atoms::write_failed(), reason).encode(env),
    };
    // The port process knows from `queued` that this is on its way. If it is gone, so is the port.
    let _ = env.send(&handle.port, (&handle, event));
    atoms::ok()
}

/// `Native.accept/2`: a command in the port process. Never blocks.
#[rustler::nif]
fn accept_command<'a>(env: Env<'a>, handle: ResourceArc<PortHandle>, iovec: Vec<Binary<'a>>) -> Term<'a> {
    let _timer = Timer::start();
    match accept(env, &handle, &mut lock(&handle.output), &iovec) {
        Accepted::Written if handle.turns.asked() => atoms::asked().encode(env),
        Accepted::Written => atoms::ok().encode(env),
        Accepted::HalfClosed => atoms::half_closed().encode(env),
        Accepted::Rest(rest, bytes) => (atoms::queue(), rest, bytes).encode(env),
        Accepted::Behind(rest, bytes) => (atoms::behind(), rest, bytes).encode(env),
        Accepted::Failed(reason) => env.error_tuple(reason),
    }
}

/// `Native.drain/2`: writes from the head of the queue; returns what is left. Never blocks.
#[rustler::nif]
fn drain<'a>(env: Env<'a>, handle: ResourceArc<PortHandle>, iovec: Vec<Binary<'a>>) -> Term<'a> {
    let _timer = Timer::start();
    let parts: Vec<&[u8]> = iovec.iter().map(Binary::as_slice).collect();
    let mut output = lock(&handle.output);
    let Output { pipe: Some(pipe), volume, .. } = &mut *output else {
        return env.error_tuple(errno::atom(env, safe_port_os::errno::EBADF));
    };
    let written = write_parts(pipe.as_fd(), &parts);
    timing::moved(env, parts.iter().map(|part| part.len()).sum());
    volume.moved(written.as_ref().map_or(0, |written| *written), pipe.as_fd());
    match written {
        Ok(written) => (atoms::ok(), rest(env, &[], &iovec, written), written).encode(env),
        Err(error) => env.error_tuple(errno::of(env, &error)),
    }
}

/// `Native.arm_output/2`: asks for one `{:select, _, tag, :ready_output}` message.
#[rustler::nif]
fn arm_output(env: Env, handle: ResourceArc<PortHandle>, tag: Term) -> bool {
    lock(&handle.output).pipe.as_ref().is_some_and(|pipe| pipe.arm(env, Ready::Output, None, tag))
}

/// `Native.drained/1`: the port process holds no bytes any more, commands may write directly again.
///
/// A half-close that waited for that is carried out.
#[rustler::nif]
fn drained(env: Env, handle: ResourceArc<PortHandle>) -> Atom {
    lock(&handle.output).queued = false;
    handle.close_output_if(env, |output| output.half_closed);
    atoms::ok()
}

/// `Native.close_stdin/1`: the half-close. Commands are refused from now on, and the program sees the end of its input
/// when what is queued has been written.
#[rustler::nif]
fn close_stdin(env: Env, handle: ResourceArc<PortHandle>) -> Atom {
    lock(&handle.output).half_closed = true;
    handle.close_output_if(env, |output| !output.queued);
    atoms::ok()
}

/// `Native.queued/1`: whether bytes are queued, or on their way to the port process to be.
#[rustler::nif]
fn queued(handle: ResourceArc<PortHandle>) -> bool {
    lock(&handle.output).queued
}

fn accept<'a>(env: Env<'a>, handle: &PortHandle, output: &mut Output, iovec: &[Binary<'a>]) -> Accepted<'a> {
    if output.half_closed {
        return Accepted::HalfClosed;
    }
    let payload: usize = iovec.iter().map(|part| part.len()).sum();
    let Ok(header) = handle.framing.header(payload) else {
        return Accepted::Failed(errno::atom(env, safe_port_os::errno::EINVAL));
    };
    let Some(pipe) = &output.pipe else {
        return Accepted::Failed(errno::atom(env, safe_port_os::errno::EBADF));
    };
    let bytes = header.as_slice().len() + payload;
    output.payload += payload as u64;
    if bytes == 0 {
        return Accepted::Written;
    }
    if output.queued {
        return Accepted::Behind(rest(env, header.as_slice(), iovec, 0), bytes);
    }
    let mut parts: Vec<&[u8]> = Vec::with_capacity(iovec.len() + 1);
    parts.push(header.as_slice());
    for part in iovec {
        parts.push(part);
    }
    timing::moved(env, bytes);
    let written = if output.volume.is_bulk() {
        write_parts_awake(pipe.as_fd(), &parts, &output.patience)
    } else {
        write_parts(pipe.as_fd(), &parts)
    };
    match written {
        Ok(written) if written == bytes => Accepted::Written,
        Ok(written) => {
            output.volume.moved(written, pipe.as_fd());
            output.queued = true;
            Accepted::Rest(rest(env, header.as_slice(), iovec, written), bytes - written)
        }
        Err(error) => Accepted::Failed(errno::of(env, &error)),
    }
}

/// What is left of a frame after `written` bytes, as a list of binaries that share the command's data.
fn rest<'a>(env: Env<'a>, header: &[u8], iovec: &[Binary<'a>], written: usize) -> Term<'a> {
    let mut left: Vec<Term<'a>> = Vec::with_capacity(iovec.len() + 1);
    let mut skip = written;
    if skip < header.len() {
        let mut binary = NewBinary::new(env, header.len() - skip);
        binary.as_mut_slice().copy_from_slice(&header[skip..]);
        left.push(Term::from(binary));
    }
    skip = skip.saturating_sub(header.len());
    for part in iovec {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        match part.make_subbinary(skip, part.len() - skip) {
            Ok(binary) => left.push(binary.to_term(env)),
            Err(_) => unreachable!("a range within the binary"),
        }
        skip = 0;
    }
    left.encode(env)
}
