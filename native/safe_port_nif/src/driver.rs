//! Linked-in drivers: the runner of this VM, loading, and opening.

mod call;
mod handle;
mod isolated;
mod terms;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustler::{
    Atom, Binary, Encoder, Env, LocalPid, NewBinary, NifMap, NifTuple, OwnedEnv, Reference, ResourceArc, Term,
};
use safe_port_core::driver::{
    BusyLimits, CallError, CloseMode, Config, DriverInfo, Library, Loaded, OpenError, Options, Runner,
    UnloadMode,
};

use self::handle::{DriverHandle, Sink};
use crate::{atoms, errno};

pub use self::call::command_in_caller;
pub use self::handle::{is_port, list};

static RUNNER: OnceLock<Runner> = OnceLock::new();

/// The runner; it is started when it is first needed.
fn runner() -> io::Result<&'static Runner> {
    if let Some(runner) = RUNNER.get() {
        return Ok(runner);
    }
    let built_in = [
        Library::builtin::<safe_port_echo_driver::Echo>(),
        Library::builtin::<safe_port_digest_driver::Digest>(),
        #[cfg(target_os = "linux")]
        Library::builtin::<safe_port_watch_driver::Watch>(),
    ];
    let new = Runner::new(Config::default(), &built_in)?;
    // One that another thread was quicker with is the one; ours ends.
    Ok(RUNNER.get_or_init(|| new))
}

/// How a driver's port is opened.
#[derive(NifMap)]
struct DriverConfig<'a> {
    command: Binary<'a>,
    owner: LocalPid,
    eof: bool,
    /// The longest line; 0 without lines.
    line: usize,
    busy_limits: Limits,
}

/// `{low, high}`, both 0 for the driver's own, both `u64::MAX` for none.
#[derive(NifTuple)]
struct Limits {
    low: u64,
    high: u64,
}

impl DriverConfig<'_> {
    fn options(&self) -> Options {
        let busy_limits = match self.busy_limits {
            Limits { low: 0, .. } => BusyLimits::Default,
            Limits { low: u64::MAX, .. } => BusyLimits::Disabled,
            Limits { low, high } => BusyLimits::Bytes { low, high },
        };
        Options { eof: self.eof, line: (self.line > 0).then_some(self.line), busy_limits }
    }
}

/// `Native.driver_open/1`: makes the calling process the port process of a driver's port. Never blocks.
///
/// Returns `{:ok, handle}` or `{:error, reason}`; `{handle, :started}` or `{handle, {:refused, reason}}` follows.
#[rustler::nif]
fn driver_open<'a>(env: Env<'a>, config: DriverConfig<'a>) -> Term<'a> {
    let runner = match runner() {
        Ok(runner) => runner,
        Err(error) => return env.error_tuple(errno::of(env, &error)),
    };
    let handle = ResourceArc::new(DriverHandle::new(env, config.owner));
    handle::serve(env, &handle, env.pid());
    let events = std::sync::Arc::new(Sink(handle.clone()));
    let caller = terms::number(env, config.owner);
    match runner.open(&config.command, config.options(), caller, events) {
        Err(OpenError::NoDriver) => env.error_tuple(atoms::no_driver()),
        Err(OpenError::NoThread(number)) => env.error_tuple(errno::atom(env, number)),
        Ok(opening) => {
            handle.set_port(&opening.port);
            let (server, later) = (env.pid(), handle.clone());
            let started = opening.started.listen(move |result| {
                let _ = OwnedEnv::new()
                    .send_and_clear(&server, |env| (&later, terms::started(env, &later, result)).encode(env));
            });
            if let Some(result) = started {
                let _ = env.send(&server, (&handle, terms::started(env, &handle, result)));
            }
            (atoms::ok(), handle).encode(env)
        }
    }
}

/// `Native.driver_attach/1`: makes the calling process the port process of a port that its driver has made.
#[rustler::nif]
fn driver_attach(env: Env, handle: ResourceArc<DriverHandle>) -> Atom {
    handle::serve(env, &handle, env.pid());
    handle::publish(&handle);
    atoms::ok()
}

/// `Native.driver_isolated/0`: makes the calling process known as a driver's port whose driver runs in a host.
#[rustler::nif]
fn driver_isolated(env: Env) -> ResourceArc<DriverHandle> {
    let handle = ResourceArc::new(DriverHandle::isolated(env));
    handle::serve(env, &handle, env.pid());
    handle::publish(&handle);
    handle
}

/// `Native.driver_publish/1`: the driver has started; from now on the port can be found.
#[rustler::nif]
fn driver_publish(handle: ResourceArc<DriverHandle>) -> Atom {
    handle::publish(&handle);
    atoms::ok()
}

/// `Native.driver_events/1`: what has happened, for the port process; `[]` when that is all.
#[rustler::nif]
fn driver_events(env: Env<'_>, handle: ResourceArc<DriverHandle>) -> Vec<Term<'_>> {
    handle.take_events().into_iter().map(|event| terms::event(env, event)).collect()
}

/// `Native.driver_close/2`: closes the port, `:flush` or `:kill`. Never blocks; `:closed` is among the events when the
/// driver has stopped. The port can no longer be found.
#[rustler::nif]
fn driver_close(handle: ResourceArc<DriverHandle>, mode: Atom) -> Atom {
    handle.close(if mode == atoms::flush() { CloseMode::Flush } else { CloseMode::Kill });
    atoms::ok()
}

/// `Native.driver_hand_over/2`: `successor` gets the events from now on, and its death no longer means anything.
#[rustler::nif]
fn driver_hand_over(env: Env, handle: ResourceArc<DriverHandle>, successor: LocalPid) -> Atom {
    handle::serve(env, &handle, successor);
    atoms::ok()
}

/// `Native.driver_set_owner/2`.
#[rustler::nif]
fn driver_set_owner(env: Env, handle: ResourceArc<DriverHandle>, owner: LocalPid) -> Atom {
    handle.set_owner(env, owner);
    atoms::ok()
}

/// `Native.driver_info/1`: the port's figures; `nil` if it is closed.
#[rustler::nif]
fn driver_info(env: Env<'_>, handle: ResourceArc<DriverHandle>) -> Option<Term<'_>> {
    handle.port().map(|port| terms::info(env, &handle, &port.info()))
}

/// `Native.driver_known/1`: whether a command begins with the name of a driver that was loaded.
#[rustler::nif]
fn driver_known(command: Binary) -> bool {
    // Without a runner nothing was loaded.
    RUNNER.get().is_some_and(|runner| runner.has_loaded_driver(&command))
        || isolated::path(&command).is_some()
}

/// `Native.driver_file/1`: the file of the driver that a command begins with the name of.
///
/// `{:ok, path, only_isolated}`, the path empty for a built-in driver, or `{:error, :no_driver}`.
#[rustler::nif]
fn driver_file<'a>(env: Env<'a>, command: Binary<'a>) -> Term<'a> {
    let found = |path: &Path, only: bool| {
        let path = NewBinary::from_slice(env, path.as_os_str().as_bytes());
        (atoms::ok(), Term::from(path), only).encode(env)
    };
    if let Some(path) = isolated::path(&command) {
        return found(&path, true);
    }
    match runner() {
        Err(error) => env.error_tuple(errno::of(env, &error)),
        Ok(runner) if !runner.has_driver(&command) => env.error_tuple(atoms::no_driver()),
        Ok(runner) => found(&runner.file(&command).unwrap_or_default(), false),
    }
}

/// `Native.driver_load/3`: loads the driver in a file, or only notes it for hosts if `isolated`.
/// `{reference, {:ok, name} | {:error, {kind, text}}}` follows.
#[rustler::nif]
fn driver_load<'a>(env: Env<'a>, path: Binary<'a>, isolated: bool, reference: Reference<'a>) -> Term<'a> {
    let runner = match runner() {
        Ok(runner) => runner,
        Err(error) => return env.error_tuple(errno::of(env, &error)),
    };
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
    if isolated {
        let known = |name: &str| runner.has_driver(name.as_bytes());
        let result = isolated::load(&path, known).map(|name| Loaded { name, loads: 1 });
        let _ = env.send(&env.pid(), (reference, terms::loaded(env, Ok(result))));
        return atoms::ok().encode(env);
    }
    answer_later(env, reference, runner.load(path), terms::loaded)
}

/// `Native.driver_unload/3`: takes a load away, and closes the ports with the last if `kill`. `{reference, result}`
/// follows, with the last load when its ports are closed.
#[rustler::nif]
fn driver_unload<'a>(env: Env<'a>, name: &'a str, kill: bool, reference: Reference<'a>) -> Term<'a> {
    if isolated::unload(name) {
        let _ = env.send(&env.pid(), (reference, terms::unloaded(env, Ok(Ok(0)))));
        return atoms::ok().encode(env);
    }
    let runner = match runner() {
        Ok(runner) => runner,
        Err(error) => return env.error_tuple(errno::of(env, &error)),
    };
    let mode = if kill { UnloadMode::Kill } else { UnloadMode::Wait };
    answer_later(env, reference, runner.unload(name, mode), terms::unloaded)
}

/// `Native.driver_list/0`: `{:ok, [{name, path, loads, ports, unloading, only_isolated}]}`.
#[rustler::nif]
fn driver_list(env: Env<'_>) -> Term<'_> {
    let runner = match runner() {
        Ok(runner) => runner,
        Err(error) => return env.error_tuple(errno::of(env, &error)),
    };
    let mut list: Vec<Term> = runner.list().iter().map(|driver| terms::driver(env, driver, false)).collect();
    list.extend(isolated::list().into_iter().map(|(name, path, loads)| {
        let driver = DriverInfo { name, path: Some(path), loads, ports: 0, unloading: false };
        terms::driver(env, &driver, true)
    }));
    (atoms::ok(), list).encode(env)
}

/// `Native.driver_port?/1`: whether this is the pid of a driver's port in this VM.
#[rustler::nif(name = "driver_port?")]
fn is_driver_port(pid: LocalPid) -> bool {
    is_port(pid)
}

/// `Native.driver_workers/0`: the threads of the runner.
#[rustler::nif]
fn driver_workers(env: Env<'_>) -> Term<'_> {
    terms::workers(env, RUNNER.get().map(Runner::info))
}

/// `Native.driver_shut_down/3`: unloads all drivers, for good. Closed ports have `flush_ms` to empty their queues, the
/// drivers of the others `stop_ms` to stop; `{reference, :ok}` follows.
#[rustler::nif]
fn driver_shut_down<'a>(env: Env<'a>, flush_ms: u64, stop_ms: u64, reference: Reference<'a>) -> Atom {
    let Some(runner) = RUNNER.get() else { return atoms::closed() };
    let (caller, mut own) = (env.pid(), OwnedEnv::new());
    let reference = own.save(reference);
    let thread = std::thread::Builder::new().name("sp_driver_end".to_owned()).spawn(move || {
        runner.shut_down(Duration::from_millis(flush_ms), Duration::from_millis(stop_ms));
        let _ = own.send_and_clear(&caller, |env| (reference.load(env), atoms::ok()).encode(env));
    });
    if thread.is_ok() {
        atoms::ok()
    } else {
        atoms::closed()
    }
}

/// Sends the calling process `{reference, result}` when `reply` comes.
fn answer_later<'a, T: Send + 'static>(
    env: Env<'a>,
    reference: Reference<'a>,
    reply: safe_port_core::driver::Reply<T>,
    result: for<'b> fn(Env<'b>, Result<T, CallError>) -> Term<'b>,
) -> Term<'a> {
    let (caller, mut own) = (env.pid(), OwnedEnv::new());
    let saved = own.save(reference);
    let here = reply.listen(move |answer| {
        let _ = own.send_and_clear(&caller, |env| (saved.load(env), result(env, answer)).encode(env));
    });
    if let Some(answer) = here {
        let _ = env.send(&caller, (reference, result(env, answer)));
    }
    atoms::ok().encode(env)
}
