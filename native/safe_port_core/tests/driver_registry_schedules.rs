//! Loading, unloading, opening and closing at the same time, under every order in which the threads can run: `loom` tries
//! them all.
//!
//! The registry under test is the real one; the ports and the runner are reduced to what it asks of them.
#![allow(dead_code)] // The tests use a part of the files.

#[path = "../src/driver/lane.rs"]
mod lane;
#[path = "../src/driver/registry.rs"]
mod registry;
#[path = "../src/driver/slot.rs"]
mod slot;

/// `loom`'s versions of what these files take from `src/driver/sync.rs`.
mod sync {
    pub use std::time::Instant;

    pub use crossbeam_channel as channel;
    pub use loom::sync::atomic::{AtomicBool, Ordering};
    pub use loom::sync::{Arc, Mutex, MutexGuard};

    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }
}

/// What a lane asks of its pool.
mod pool {
    pub struct Worker;
}

/// What the registry asks of a port.
mod port {
    use std::sync::Arc;

    use super::sync::{lock, Mutex};

    pub struct Port {
        pub id: u64,
        /// Closes it.
        pub close: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    impl Port {
        pub fn unload(self: &Arc<Self>) {
            let close = lock(&self.close).take();
            if let Some(close) = close {
                close();
            }
        }
    }
}

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use loom::thread;
use safe_port_driver::abi::host::Library;
use safe_port_driver::{Driver, PortHandle, StartError};

use port::Port;
use registry::{LoadRefusal, Loaded, Origin, Registry, UnloadMode, UnloadRefusal};
use slot::{slot, Reply};

/// What a lane holds. There are none here.
pub struct Task;

/// What the registry asks of the runner.
pub struct Shared {
    registry: Registry,
    /// Not one of `loom`'s: no order depends on it.
    last_id: AtomicUsize,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared { registry: Registry::default(), last_id: AtomicUsize::new(0) })
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) as u64 + 1
    }

    #[allow(clippy::unused_self)]
    fn task(&self, work: impl FnOnce() + Send + 'static) {
        work();
    }

    fn load<D: Counted>(self: &Arc<Self>) -> Reply<Result<Loaded, LoadRefusal>> {
        let (replier, reply) = slot();
        self.registry.load(self, Library::builtin::<D>(), Origin::Added, replier);
        reply
    }

    fn unload<D: Counted>(self: &Arc<Self>, mode: UnloadMode) -> Reply<Result<usize, UnloadRefusal>> {
        let (replier, reply) = slot();
        self.registry.unload(self, D::NAME, mode, replier);
        reply
    }

    /// Opens a port; `None` if there is no such driver.
    fn open<D: Counted>(self: &Arc<Self>) -> Option<Arc<Port>> {
        let driver = self.registry.find(D::NAME)?;
        let id = self.next_id();
        let (shared, owner) = (Arc::clone(self), Arc::clone(&driver));
        let close = move || {
            D::counts().open.fetch_sub(1, Ordering::Relaxed);
            owner.stopped(id);
            shared.registry.unused(&shared, &owner);
        };
        let port = Arc::new(Port { id, close: sync::Mutex::new(Some(Box::new(close))) });
        if !driver.add(&port) {
            return None;
        }
        let counts = D::counts();
        counts.open.fetch_add(1, Ordering::Relaxed);
        counts.late.fetch_or(
            counts.finishes.load(Ordering::Relaxed) >= counts.inits.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Some(port)
    }
}

/// What was called of a driver. Each test has a driver of its own.
struct Counts {
    inits: AtomicUsize,
    finishes: AtomicUsize,
    /// Ports.
    open: AtomicUsize,
    /// Whether `finish` was called with a port open, or a port opened after it.
    late: AtomicBool,
}

impl Counts {
    const fn new() -> Counts {
        Counts {
            inits: AtomicUsize::new(0),
            finishes: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            late: AtomicBool::new(false),
        }
    }

    fn clear(&self) {
        for count in [&self.inits, &self.finishes, &self.open] {
            count.store(0, Ordering::Relaxed);
        }
        self.late.store(false, Ordering::Relaxed);
    }

    /// The calls of `init` and of `finish`, if all of `finish` came in time.
    fn calls(&self) -> (usize, usize) {
        assert!(!self.late.load(Ordering::Relaxed), "finish was called while a port was open");
        (self.inits.load(Ordering::Relaxed), self.finishes.load(Ordering::Relaxed))
    }
}

trait Counted: Driver {
    fn counts() -> &'static Counts;
}

macro_rules! counted {
    ($type:ident, $name:literal) => {
        struct $type;

        impl Counted for $type {
            fn counts() -> &'static Counts {
                static COUNTS: Counts = Counts::new();
                &COUNTS
            }
        }

        impl Driver for $type {
            const NAME: &'static str = $name;

            fn init() -> Result<(), String> {
                Self::counts().inits.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }

            fn start(_port: &PortHandle, _command: &[u8]) -> Result<Self, StartError> {
                Ok($type)
            }

            fn finish() {
                let counts = Self::counts();
                counts.finishes.fetch_add(1, Ordering::Relaxed);
                counts.late.fetch_or(counts.open.load(Ordering::Relaxed) > 0, Ordering::Relaxed);
            }
        }
    };
}

/// A thread with room for what the registry does in one go here: where a stack overflows `loom` goes round in circles.
fn spawn<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    thread::Builder::new().stack_size(0x8000).spawn(body).unwrap()
}

/// The answer, which is there.
fn answer<T>(reply: &Reply<T>) -> T {
    reply.take().expect("no answer").expect("the call was dropped")
}

fn model<D: Counted>(body: impl Fn(&Arc<Shared>) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        D::counts().clear();
        body(&Shared::new());
    });
}

counted!(Twice, "twice");

#[test]
fn a_driver_that_two_load_at_once_is_initialised_once() {
    model::<Twice>(|shared| {
        let other = Arc::clone(shared);
        let loading = spawn(move || other.load::<Twice>());
        let replies = [shared.load::<Twice>(), loading.join().unwrap()];
        let mut loads = replies.map(|reply| answer(&reply).unwrap().loads);
        loads.sort_unstable();
        assert_eq!(loads, [1, 2]);
        assert_eq!(Twice::counts().calls(), (1, 0));
        assert_eq!(answer(&shared.unload::<Twice>(UnloadMode::Wait)), Ok(1));
        assert_eq!(answer(&shared.unload::<Twice>(UnloadMode::Wait)), Ok(0));
        assert_eq!(Twice::counts().calls(), (1, 1));
    });
}

counted!(Opened, "opened");

#[test]
fn a_port_that_is_opened_while_its_driver_is_unloaded_is_refused_or_keeps_it() {
    model::<Opened>(|shared| {
        answer(&shared.load::<Opened>()).unwrap();
        let other = Arc::clone(shared);
        let opening = spawn(move || {
            let port = other.open::<Opened>();
            let was_open = port.is_some();
            thread::yield_now();
            port.inspect(Port::unload);
            was_open
        });
        let reply = shared.unload::<Opened>(UnloadMode::Wait);
        opening.join().unwrap();
        assert_eq!(answer(&reply), Ok(0));
        assert_eq!(Opened::counts().calls(), (1, 1));
        assert!(shared.open::<Opened>().is_none());
    });
}

counted!(Again, "again");

#[test]
fn a_driver_that_is_loaded_while_it_is_unloaded_stays_or_begins_anew() {
    model::<Again>(|shared| {
        answer(&shared.load::<Again>()).unwrap();
        let port = shared.open::<Again>().unwrap();
        let (one, other) = (Arc::clone(shared), Arc::clone(shared));
        let unloading = spawn(move || one.unload::<Again>(UnloadMode::Wait));
        let loading = spawn(move || other.load::<Again>());
        port.unload();
        let (unloaded, loaded) = (unloading.join().unwrap(), loading.join().unwrap());
        let (unloaded, loads) = (answer(&unloaded), answer(&loaded).unwrap().loads);
        let (inits, finishes) = Again::counts().calls();
        match unloaded {
            // It was loaded before the unload, or taken back.
            Ok(1) => assert_eq!((loads, inits, finishes), (2, 1, 0)),
            Err(UnloadRefusal::LoadedAgain) => assert_eq!((loads, inits, finishes), (1, 1, 0)),
            // It was gone, and came again.
            Ok(0) => assert_eq!((loads, inits, finishes), (1, 2, 1)),
            other => panic!("{other:?}"),
        }
        assert!(shared.registry.find("again").is_some());
        assert_eq!(answer(&shared.unload::<Again>(UnloadMode::Wait)), Ok(0));
        assert_eq!(Again::counts().calls(), (inits, inits));
    });
}

counted!(Last, "last");

#[test]
fn the_last_of_several_ports_finishes_the_driver_once() {
    model::<Last>(|shared| {
        answer(&shared.load::<Last>()).unwrap();
        let (first, second) = (shared.open::<Last>().unwrap(), shared.open::<Last>().unwrap());
        let other = Arc::clone(shared);
        let closing = spawn(move || first.unload());
        let unloading = spawn(move || {
            let waiting = other.unload::<Last>(UnloadMode::Wait);
            (waiting, other.unload::<Last>(UnloadMode::Kill))
        });
        second.unload();
        closing.join().unwrap();
        let (waiting, killing) = unloading.join().unwrap();
        assert_eq!(answer(&waiting), Ok(0));
        // Too late if no port was left.
        assert!(matches!(answer(&killing), Ok(0) | Err(UnloadRefusal::NotLoaded)));
        assert_eq!(Last::counts().calls(), (1, 1));
    });
}

counted!(Killed, "killed");

#[test]
fn a_port_that_closes_while_it_is_killed_is_closed_once() {
    model::<Killed>(|shared| {
        answer(&shared.load::<Killed>()).unwrap();
        let port = shared.open::<Killed>().unwrap();
        let other = Arc::clone(shared);
        let killing = spawn(move || other.unload::<Killed>(UnloadMode::Kill));
        port.unload();
        let reply = killing.join().unwrap();
        assert_eq!(answer(&reply), Ok(0));
        assert_eq!(Killed::counts().calls(), (1, 1));
    });
}

counted!(Stuck, "stuck");

#[test]
fn a_driver_whose_port_was_given_up_goes_without_its_finish() {
    model::<Stuck>(|shared| {
        answer(&shared.load::<Stuck>()).unwrap();
        let driver = shared.registry.find("stuck").unwrap();
        let port = shared.open::<Stuck>().unwrap();
        let (other, id, owner) = (Arc::clone(shared), port.id, Arc::clone(&driver));
        let giving_up = spawn(move || {
            owner.given_up(id);
            other.registry.unused(&other, &owner);
        });
        let reply = shared.unload::<Stuck>(UnloadMode::Wait);
        // Its callback may return after all, at any time.
        let coming_back = spawn(move || port.unload());
        giving_up.join().unwrap();
        let early = reply.take();
        coming_back.join().unwrap();
        assert_eq!(early.unwrap_or_else(|| reply.take().unwrap()), Ok(Ok(0)));
        assert!(Stuck::counts().calls().1 <= 1);
    });
}
