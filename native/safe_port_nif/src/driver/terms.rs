//! What drivers say, as terms.

use std::os::unix::ffi::OsStrExt;

use rustler::{Binary, Encoder, Env, LocalPid, NewBinary, NifMap, Term};
use safe_port_core::codec::Kind;
use safe_port_core::driver::{
    Bytes, CallError, ControlReply, Crew, DriverInfo, Failure, LoadError, LoadRefusal, Loaded, Pids,
    PortInfo, Reason, RunnerInfo, StartRefusal, UnloadRefusal,
};

use super::handle::{serve, Answer, Data, DriverHandle, Happening};
use crate::{atoms, errno};

/// The runner's number of a process.
pub fn number(env: Env, pid: LocalPid) -> u64 {
    // Every pid is long enough for one.
    Pids::number(&pid.encode(env).to_binary()).unwrap_or_default()
}

/// The process with this number.
pub fn process(env: Env, pids: &Pids, number: u64) -> Option<LocalPid> {
    let (term, _) = env.binary_to_term(&pids.to_term(number))?;
    term.decode().ok()
}

fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

/// A term in external term format; `nil` if it is none, which no driver can send.
fn decoded<'a>(env: Env<'a>, term: &[u8]) -> Term<'a> {
    env.binary_to_term(term).map(|(term, _)| term).encode(env)
}

/// What `driver_events/1` has in its list.
pub fn event(env: Env<'_>, happening: Happening) -> Term<'_> {
    match happening {
        Happening::Data { kind, header, data } => {
            let data = match data {
                Data::Short(data) => binary(env, &data),
                Data::Long(data) => Binary::from_owned(data, env).encode(env),
            };
            let data = match kind {
                Kind::Whole => data,
                Kind::Eol => (atoms::eol(), data).encode(env),
                Kind::Noeol => (atoms::noeol(), data).encode(env),
            };
            if header.is_empty() {
                (atoms::data(), data).encode(env)
            } else {
                (atoms::data(), binary(env, &header), data).encode(env)
            }
        }
        Happening::Term(term) => (atoms::term(), decoded(env, &term)).encode(env),
        Happening::Eof => atoms::eof().encode(env),
        Happening::Failed(reason) => failed(env, &reason),
        Happening::Busy(on) => (atoms::busy(), on).encode(env),
        Happening::Closed => atoms::closed().encode(env),
        Happening::CreatePort { owner, name, made } => {
            // Ours until its own port process takes it.
            serve(env, &made.0, env.pid());
            (atoms::create_port(), owner, binary(env, &name), &made.0).encode(env)
        }
        Happening::Reply { to, from, reply } => {
            let reference = from.env.run(|own| from.reference.load(own).in_env(env));
            (atoms::reply(), to, reference, answer(env, &reply)).encode(env)
        }
        Happening::Log(text) => (atoms::log(), text).encode(env),
    }
}

fn failed<'a>(env: Env<'a>, reason: &Reason) -> Term<'a> {
    let failed = |reason: Term<'a>| (atoms::failed(), reason).encode(env);
    let normal = || atoms::normal().encode(env);
    let posix = |number: i32| errno::atom(env, number).encode(env);
    match reason {
        Reason::Unloaded => failed(atoms::driver_unloaded().encode(env)),
        Reason::Driver(Failure::Eof) => failed(normal()),
        Reason::Driver(Failure::Code(code)) => failed(code.encode(env)),
        Reason::Driver(Failure::Atom(name)) => failed(atom(env, name)),
        Reason::Driver(Failure::Errno(number)) => failed(posix(*number)),
        Reason::Driver(Failure::Panic(message)) => failed((atoms::driver_panic(), message).encode(env)),
        Reason::Driver(Failure::Exit(0)) => (atoms::exit(), normal()).encode(env),
        Reason::Driver(Failure::Exit(number)) => (atoms::exit(), posix(*number)).encode(env),
    }
}

/// The atom `name`; a binary if the VM has no such atom.
fn atom<'a>(env: Env<'a>, name: &str) -> Term<'a> {
    rustler::Atom::from_str(env, name).map_or_else(|_| name.encode(env), |atom| atom.encode(env))
}

/// `:started` or `{:refused, reason}`.
pub fn started<'a>(
    env: Env<'a>,
    handle: &DriverHandle,
    result: Result<Result<(), StartRefusal>, CallError>,
) -> Term<'a> {
    let reason = match result {
        Ok(Ok(())) => return atoms::started().encode(env),
        Ok(Err(StartRefusal::General)) => errno::atom(env, safe_port_os::errno::EINVAL).encode(env),
        Ok(Err(StartRefusal::Errno(number))) => errno::atom(env, number).encode(env),
        Ok(Err(StartRefusal::BadArg)) => atoms::badarg().encode(env),
        Ok(Err(StartRefusal::Panic(message))) => (atoms::driver_panic(), message).encode(env),
        Err(_) => atoms::closed().encode(env),
    };
    handle.forget_port();
    (atoms::refused(), reason).encode(env)
}

/// What a caller of `control` or `call` gets.
pub fn answer<'a>(env: Env<'a>, answer: &Answer) -> Term<'a> {
    match answer {
        Answer::Control(Ok(reply)) => (atoms::ok(), control_reply(env, reply)).encode(env),
        Answer::Call(Ok(term)) => (atoms::ok(), decoded(env, term)).encode(env),
        Answer::Control(Err(error)) | Answer::Call(Err(error)) => env.error_tuple(call_error(env, error)),
    }
}

fn control_reply<'a>(env: Env<'a>, reply: &ControlReply) -> Term<'a> {
    let bytes: &Bytes = &reply.bytes;
    if reply.binary {
        binary(env, bytes)
    } else {
        bytes.iter().map(|byte| u32::from(*byte)).collect::<Vec<u32>>().encode(env)
    }
}

fn call_error<'a>(env: Env<'a>, error: &CallError) -> Term<'a> {
    match error {
        CallError::BadArg => atoms::badarg().encode(env),
        CallError::Closed => atoms::closed().encode(env),
        CallError::TooLarge(bytes) => (atoms::too_large(), bytes).encode(env),
        CallError::Panic(message) => (atoms::driver_panic(), message).encode(env),
    }
}

/// A port's figures.
#[derive(NifMap)]
struct Info {
    input: u64,
    output: u64,
    queue_size: u64,
    os_pid: Option<u32>,
    driver_locking: bool,
    monitors: Vec<LocalPid>,
}

/// A port's figures as a map.
pub fn info<'a>(env: Env<'a>, handle: &DriverHandle, info: &PortInfo) -> Term<'a> {
    let PortInfo { input, output, queue_size, os_pid, driver_locking, .. } = *info;
    let monitors = info.monitors.iter().filter_map(|number| process(env, &handle.pids, *number)).collect();
    Info { input, output, queue_size, os_pid, driver_locking, monitors }.encode(env)
}

/// An item of `driver_list/0`.
pub fn driver<'a>(env: Env<'a>, driver: &DriverInfo, only_isolated: bool) -> Term<'a> {
    let path = driver.path.as_ref().map(|path| binary(env, path.as_os_str().as_bytes()));
    (&driver.name, path, driver.loads, driver.ports, driver.unloading, only_isolated).encode(env)
}

/// `{{live, idle, lost}, {live, idle, lost}}`: the threads that run callbacks, and those that do long jobs.
pub fn workers(env: Env<'_>, info: Option<RunnerInfo>) -> Term<'_> {
    let crew = |crew: Crew| (crew.live, crew.idle, crew.lost);
    let none = Crew::default();
    let (workers, jobs) = info.map_or((none, none), |info| (info.workers, info.job_workers));
    (crew(workers), crew(jobs)).encode(env)
}

/// `{:ok, name}` or `{:error, {kind, text}}`.
pub fn loaded(env: Env<'_>, result: Result<Result<Loaded, LoadRefusal>, CallError>) -> Term<'_> {
    let refusal = match result {
        Ok(Ok(loaded)) => return (atoms::ok(), loaded.name).encode(env),
        Ok(Err(refusal)) => refusal,
        Err(_) => return env.error_tuple(atoms::closed()),
    };
    let kind = match &refusal {
        LoadRefusal::File(LoadError::File(_, error)) => errno::of(env, error),
        LoadRefusal::File(LoadError::NotALibrary(..) | LoadError::NoEntry(_) | LoadError::Link(..)) => {
            atoms::not_a_driver()
        }
        LoadRefusal::File(LoadError::AbiVersion(..) | LoadError::SdkVersion(..)) => atoms::wrong_version(),
        LoadRefusal::NameTaken(_) => atoms::name_taken(),
        LoadRefusal::Init(..) => atoms::init_refused(),
    };
    env.error_tuple((kind, refusal.to_string()))
}

/// `:ok` or `{:error, reason}`.
pub fn unloaded(env: Env<'_>, result: Result<Result<usize, UnloadRefusal>, CallError>) -> Term<'_> {
    let reason = match result {
        Ok(Ok(_loads)) => return atoms::ok().encode(env),
        Ok(Err(UnloadRefusal::NotLoaded)) => atoms::not_loaded(),
        Ok(Err(UnloadRefusal::BuiltIn)) => atoms::built_in(),
        Ok(Err(UnloadRefusal::LoadedAgain)) => atoms::loaded_again(),
        Err(_) => atoms::closed(),
    };
    env.error_tuple(reason)
}
