//! Runs linked-in drivers: loads them, calls them on threads of its own, and does what they ask of their ports.
//!
//! Each port has a *lane*, a queue of jobs of which one runs at a time (all ports of a driver share one if the driver
//! wants that). A *pool* of threads runs the lanes: a job that takes long holds up its lane and nothing else, for the
//! pool has as many threads as there are lanes at work, up to [`MAX_WORKERS`]. One more thread waits for descriptors and
//! timers; a second, smaller pool does the drivers' long jobs.
//!
//! A port that is to close while a callback does not return is given up after [`Config::stuck_after`]: it counts as
//! closed, its thread is written off and replaced, up to [`MAX_LOST_WORKERS`] times. Should the callback return one day,
//! the driver is stopped then and the thread ends.
//!
//! No type of the BEAM appears here. What a port has to tell goes to its [`Events`]; see there for what an
//! implementation must do.

mod busy;
mod events;
mod host;
mod jobs;
mod lane;
mod lines;
mod pids;
mod poller;
mod pool;
mod port;
mod registry;
mod run;
mod slot;
mod sync;
mod types;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::patience;

pub use safe_port_driver::abi::host::{Library, LoadError};
pub use safe_port_driver::Bytes;

pub use self::events::{Event, Events, Failure, Reason, StartRefusal};
pub use self::pids::Pids;
pub use self::pool::Crew;
pub use self::port::Port;
pub use self::registry::{DriverInfo, LoadRefusal, Loaded, UnloadMode, UnloadRefusal};
pub use self::slot::{Answer, CallError, Reply};
pub use self::types::{BusyLimits, CloseMode, CommandError, CommandMode, ControlReply, Options, PortInfo};

use self::jobs::Jobs;
use self::lane::Lane;
use self::poller::Poller;
use self::pool::{Limits, Pool, Work};
use self::port::Job;
use self::registry::{Origin, Registry};
use self::slot::slot;

/// Threads that run callbacks, at the most.
pub const MAX_WORKERS: usize = 64;
/// Threads beside these that may be inside a callback that never returns.
pub const MAX_LOST_WORKERS: usize = 64;
/// Threads that do long jobs, at the most.
pub const MAX_JOB_WORKERS: usize = 16;
/// The longest answer of `control` and `call`, in bytes.
pub const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// What can be chosen about a runner.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long a callback of a port that is to close may run before the port is given up.
    pub stuck_after: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { stuck_after: Duration::from_secs(5) }
    }
}

/// Figures of a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerInfo {
    /// The threads that run callbacks.
    pub workers: Crew,
    /// The threads that do long jobs.
    pub job_workers: Crew,
}

/// Why a port is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// No driver has the name that the command begins with.
    NoDriver,
    /// The system gives no thread.
    NoThread(i32),
}

/// A port that is being opened.
pub struct Opening {
    /// The port. It can be closed before it has started.
    pub port: Arc<Port>,
    /// Whether it has started. Events of the port may come before this.
    pub started: Reply<Result<(), StartRefusal>>,
}

/// The runner of all drivers of a VM. Dropped, its threads end as soon as they can.
pub struct Runner(Arc<Shared>);

struct Shared {
    config: Config,
    pool: Pool<Task>,
    jobs: Jobs,
    poller: Poller,
    registry: Registry,
    last_id: AtomicU64,
}

/// What the threads of the pools do.
enum Task {
    Port(Arc<Port>, Job),
    Async { port: Arc<Port>, key: Option<(u64, u64)>, job: safe_port_driver::abi::host::Job },
    Other(Box<dyn FnOnce() + Send>),
}

impl Work for Task {
    fn work(self) {
        match self {
            Task::Port(port, job) => port.run(job),
            Task::Async { port, key, job } => Jobs::work(&port, key, job),
            Task::Other(work) => work(),
        }
    }
}

impl Runner {
    /// A runner with these built-in drivers.
    pub fn new(config: Config, built_in: &[Library]) -> io::Result<Runner> {
        let limits = Limits { max: MAX_WORKERS, max_lost: MAX_LOST_WORKERS, idle: IDLE };
        let runner = Runner(Arc::new(Shared {
            config,
            pool: Pool::new("sp_driver", limits),
            jobs: Jobs::new(Limits { max: MAX_JOB_WORKERS, max_lost: 0, idle: IDLE }),
            poller: Poller::new()?,
            registry: Registry::default(),
            last_id: AtomicU64::new(0),
        }));
        for library in built_in {
            // Their `init` is called here, on the caller's thread: it is short. One that refuses is not in the list.
            runner.0.registry.load(&runner.0, *library, Origin::BuiltIn, slot().0);
        }
        Ok(runner)
    }

    /// Loads the driver in the file `path`, once more if it is loaded.
    pub fn load(&self, path: PathBuf) -> Reply<Result<Loaded, LoadRefusal>> {
        let (replier, reply) = slot();
        let shared = Arc::clone(&self.0);
        self.0.task(move || match Library::load(&path) {
            Ok(library) => shared.registry.load(&shared, library, Origin::File(path), replier),
            Err(error) => replier.answer(Ok(Err(LoadRefusal::File(error)))),
        });
        reply
    }

    /// Loads a driver that is linked in, which can be unloaded as one from a file.
    pub fn add(&self, library: Library) -> Reply<Result<Loaded, LoadRefusal>> {
        let (replier, reply) = slot();
        let shared = Arc::clone(&self.0);
        self.0.task(move || shared.registry.load(&shared, library, Origin::Added, replier));
        reply
    }

    /// Unloads the driver `name`, which must be done as often as it was loaded. The reply, with the number of loads
    /// that are left, comes when that is done: with the last load after the last port was closed.
    pub fn unload(&self, name: &str, mode: UnloadMode) -> Reply<Result<usize, UnloadRefusal>> {
        let (replier, reply) = slot();
        self.0.registry.unload(&self.0, name, mode, replier);
        reply
    }

    /// The drivers, sorted by name.
    pub fn list(&self) -> Vec<DriverInfo> {
        self.0.registry.list()
    }

    /// Whether `command` begins with the name of a driver that can be opened.
    pub fn has_driver(&self, command: &[u8]) -> bool {
        name_in(command).is_some_and(|name| self.0.registry.find(name).is_some())
    }

    /// As [`has_driver`](Runner::has_driver), built-in drivers aside.
    pub fn has_loaded_driver(&self, command: &[u8]) -> bool {
        name_in(command).is_some_and(|name| self.0.registry.has_loaded(name))
    }

    /// The file of the driver that `command` begins with the name of; `None` if it is linked in, or there is none.
    pub fn file(&self, command: &[u8]) -> Option<PathBuf> {
        let name = name_in(command)?;
        self.list().into_iter().find(|driver| driver.name == name)?.path
    }

    /// Opens a port of the driver that `command` begins with the name of.
    pub fn open(
        &self,
        command: &[u8],
        options: Options,
        caller: u64,
        events: Arc<dyn Events>,
    ) -> Result<Opening, OpenError> {
        let driver =
            name_in(command).and_then(|name| self.0.registry.find(name)).ok_or(OpenError::NoDriver)?;
        let port = Arc::new(Port::new(&driver, &self.0, options));
        let _ = port.events.set(events);
        if !driver.add(&port) {
            return Err(OpenError::NoDriver);
        }
        let (replier, started) = slot();
        let job = Job::Start { command: command.to_vec(), caller, reply: replier };
        match self.0.pool.push(&port.lane, Task::Port(Arc::clone(&port), job)) {
            Ok(()) => Ok(Opening { port, started }),
            Err(error) => {
                // Should a thread come up later, the port starts only to be closed.
                port.close(CloseMode::Force);
                Err(OpenError::NoThread(error.raw_os_error().unwrap_or_default()))
            }
        }
    }

    /// Its figures.
    pub fn info(&self) -> RunnerInfo {
        RunnerInfo { workers: self.0.pool.crew(), job_workers: self.0.jobs.crew() }
    }

    /// Waits, at most for `flush`, until the ports that are being closed have emptied their queues; then closes all that
    /// are left and waits, at most for `time`, until their drivers have stopped. Calls `finish` of each driver.
    ///
    /// For the end of the VM: from the beginning of this no driver can be opened.
    pub fn shut_down(&self, flush: Duration, time: Duration) {
        for (mode, time) in [(UnloadMode::Wait, flush), (UnloadMode::Kill, time)] {
            let end = Instant::now() + time;
            for reply in self.0.registry.unload_all(&self.0, mode) {
                let _ = reply.wait_for(end.saturating_duration_since(Instant::now()));
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.0.pool.stop();
        self.0.jobs.stop();
    }
}

impl Shared {
    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has `work` done by the pool, beside everything else.
    fn task(&self, work: impl FnOnce() + Send + 'static) {
        // Without any thread it is done as soon as there is one.
        let _ = self.pool.push(&Arc::new(Lane::new()), Task::Other(Box::new(work)));
    }

    /// A port that `port`'s driver makes. It has no instance yet.
    fn create_port(self: &Arc<Self>, port: &Port) -> Option<Arc<Port>> {
        let port = Arc::new(Port::new(&port.driver, self, port.options));
        port.driver.add(&port).then_some(port)
    }
}

/// The first word of `command`.
fn name_in(command: &[u8]) -> Option<&str> {
    std::str::from_utf8(command.split(u8::is_ascii_whitespace).next()?).ok()
}
