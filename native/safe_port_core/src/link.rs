//! The link to the guardian: one thread that passes requests on and brings events back.
//!
//! The thread is started with the first request and lives as long as the VM. It starts the guardian at the first spawn,
//! and again at the first spawn after that one is gone.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{unbounded, Sender};
use safe_port_os::errno;
use safe_port_os::poll::Notify;
use safe_port_wire::{PortId, Spawn, Stage, Target, Usage};

mod connection;
mod exit;
mod worker;

pub use exit::Exit;

use worker::Worker;

/// What a link needs to know.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The guardian's executable.
    pub guardian: PathBuf,
}

/// Gets the events of one port, on the link's thread and with no lock held. It must not block.
pub trait Listener: Send + Sync {
    /// Something happened.
    fn event(&self, event: LinkEvent);
}

/// What happens to a port's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It runs: `execve(2)` has succeeded.
    Spawned {
        /// Its process id.
        os_pid: u32,
    },
    /// It could not be started; the last event.
    Refused {
        /// What failed.
        stage: Stage,
        /// With which error.
        errno: i32,
    },
    /// The program itself ended.
    Exited {
        /// How.
        exit: Exit,
        /// What it used.
        usage: Usage,
    },
    /// Nothing of its tree is left; the last event.
    Ended,
    /// The answer to [`Link::signal`].
    Signalled {
        /// That of the call.
        ticket: u64,
        /// 0 if the signal was sent; `ESRCH` if nothing was left to signal.
        errno: i32,
    },
    /// The guardian is gone, and the program with it; the last event.
    GuardianDown,
}

/// What the thread is asked to do. One entry per operation on a port, so the channel is as long as callers are many.
enum Command {
    Spawn { spawn: Box<Spawn>, fds: Vec<OwnedFd>, listener: Arc<dyn Listener> },
    Close(PortId),
    Signal { id: PortId, ticket: u64, signal: i32, target: Target },
}

/// What the thread and its callers share.
struct Shared {
    config: LinkConfig,
    wake: OnceLock<Notify>,
    /// The guardian's process id; 0 while there is none.
    guardian: AtomicU32,
}

/// The link of a VM. Its methods never block.
pub struct Link {
    shared: Arc<Shared>,
    sender: OnceLock<Result<Sender<Command>, i32>>,
    next_id: AtomicU64,
}

impl Link {
    /// A link that has not started anything yet.
    pub fn new(config: LinkConfig) -> Link {
        Link {
            shared: Arc::new(Shared { config, wake: OnceLock::new(), guardian: AtomicU32::new(0) }),
            sender: OnceLock::new(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Starts a program; `spawn.id` is filled in. `fds` are the working directory and the descriptors of `spawn.fds`;
    /// they are closed on this side, whatever becomes of the request.
    ///
    /// The listener gets [`LinkEvent::Spawned`] or [`LinkEvent::Refused`] first.
    pub fn spawn(&self, mut spawn: Spawn, fds: Vec<OwnedFd>, listener: Arc<dyn Listener>) -> PortId {
        let id = PortId(self.next_id.fetch_add(1, Ordering::Relaxed));
        spawn.id = id;
        match self.sender() {
            Ok(sender) => self.send(sender, Command::Spawn { spawn: Box::new(spawn), fds, listener }),
            Err(errno) => listener.event(LinkEvent::Refused { stage: Stage::Fork, errno: *errno }),
        }
        id
    }

    /// The VM has let go of the port: its tree ends as its spawn said. Unknown and ended ports are ignored.
    pub fn close(&self, id: PortId) {
        if let Ok(sender) = self.sender() {
            self.send(sender, Command::Close(id));
        }
    }

    /// Sends a signal; the port's listener gets [`LinkEvent::Signalled`], unless the port has ended.
    pub fn signal(&self, id: PortId, ticket: u64, signal: i32, target: Target) {
        if let Ok(sender) = self.sender() {
            self.send(sender, Command::Signal { id, ticket, signal, target });
        }
    }

    /// The guardian's process id, while there is one.
    pub fn guardian_pid(&self) -> Option<u32> {
        Some(self.shared.guardian.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// The way to the thread, which is started by the first caller; the error if it cannot be.
    fn sender(&self) -> &Result<Sender<Command>, i32> {
        self.sender.get_or_init(|| {
            let wake = Notify::new().map_err(|error| error.raw_os_error().unwrap_or(errno::EIO))?;
            let _ = self.shared.wake.set(wake);
            let (sender, receiver) = unbounded();
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new()
                .name("safe_port_link".into())
                .spawn(move || Worker::new(shared, receiver).run())
                .map_err(|error| error.raw_os_error().unwrap_or(errno::EAGAIN))?;
            Ok(sender)
        })
    }

    fn send(&self, sender: &Sender<Command>, command: Command) {
        // The thread never ends, so neither does its channel.
        let _ = sender.send(command);
        if let Some(wake) = self.shared.wake.get() {
            wake.notify();
        }
    }
}
