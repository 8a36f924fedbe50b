//! The link to the guardian: passes requests on, and brings events back.
//!
//! One thread, started for the first program. It alone starts guardians, receives events and calls listeners. What is
//! asked for is sent by the caller itself if that takes no waiting, which saves waking the thread; otherwise it goes to
//! the thread through a channel. Either way the order of a caller's requests is kept:
//!
//! * whoever has locked the [`Outbox`] may queue and send; a caller only tries to lock it, and never waits;
//! * the channel is emptied under that lock, and a caller sends by itself only while it is empty.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use safe_port_wire::{PortId, Spawn, Stage, Target, Usage};

mod exit;
mod frame;
mod inbox;
mod line;
mod outbox;
mod start;
mod wake;
mod worker;

pub use exit::Exit;
pub use start::Started;

use frame::Command;
use line::Line;
#[cfg(doc)]
use outbox::Outbox;
use start::Start;

/// What a link needs to know.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The guardian's executable.
    pub guardian: PathBuf,
}

/// Gets the events of one port, one after the other, on the link's thread and with no lock held. It must not block.
///
/// It is dropped after the port's last event.
pub trait Listener: Send + Sync {
    /// Something happened. A panic is contained: what comes after it is still passed on.
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
        /// What failed; [`Stage::Fork`] also if there is no guardian.
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
    /// The guardian is gone, and the spawn was lost on the way to it: no program was started, and another try starts
    /// another guardian; the last event.
    Lost,
}

/// The link of a VM. Its methods never block.
///
/// Dropping it is what the end of the VM is: the guardian ends all programs and itself, and listeners that still wait get
/// [`LinkEvent::GuardianDown`].
pub struct Link {
    start: Arc<Start>,
    line: OnceLock<Line>,
    /// Held while the thread is started.
    starting: Mutex<()>,
    next_id: AtomicU64,
}

impl Link {
    /// A link that has not started anything yet.
    pub fn new(config: LinkConfig) -> Link {
        Link::with_start(start::executable(config.guardian))
    }

    /// A link whose guardians are started by `start`, on the link's thread.
    ///
    /// Its argument is the guardian's generation: how many there were before it, and one.
    pub fn with_start(start: impl Fn(u64) -> io::Result<Started> + Send + Sync + 'static) -> Link {
        Link {
            start: Arc::new(start),
            line: OnceLock::new(),
            starting: Mutex::new(()),
            next_id: AtomicU64::new(1),
        }
    }

    /// Starts a program; `spawn.id` is filled in. `fds` are the working directory and the descriptors of `spawn.fds`;
    /// they are closed on this side as soon as they are passed, and whatever becomes of the request.
    ///
    /// The listener gets [`LinkEvent::Spawned`], [`LinkEvent::Refused`], [`LinkEvent::GuardianDown`] or [`LinkEvent::Lost`]
    /// first. An error means that this process may not have another thread or descriptor for the link; the listener then
    /// gets nothing.
    pub fn spawn(
        &self,
        mut spawn: Spawn,
        fds: Vec<OwnedFd>,
        listener: Arc<dyn Listener>,
    ) -> io::Result<PortId> {
        let line = self.line()?;
        let id = PortId(self.next_id.fetch_add(1, Ordering::Relaxed));
        spawn.id = id;
        line.submit(Command::Spawn { spawn: Box::new(spawn), fds, listener });
        Ok(id)
    }

    /// The VM has let go of the port: its tree ends as its spawn said. Unknown and ended ports are ignored.
    pub fn close(&self, id: PortId) {
        self.submit(Command::Close(id));
    }

    /// Sends a signal; the port's listener gets [`LinkEvent::Signalled`], unless the port has ended.
    pub fn signal(&self, id: PortId, ticket: u64, signal: i32, target: Target) {
        self.submit(Command::Signal { id, ticket, signal, target });
    }

    /// The guardian's process id, while there is one.
    pub fn guardian_pid(&self) -> Option<u32> {
        self.line.get().and_then(Line::guardian_pid)
    }

    /// How many guardians there were.
    pub fn generation(&self) -> u64 {
        self.line.get().map_or(0, Line::generation)
    }

    fn submit(&self, command: Command) {
        // Without a line nothing was ever started.
        if let Some(line) = self.line.get() {
            line.submit(command);
        }
    }

    /// The way to the thread, which is started for the first caller.
    fn line(&self) -> io::Result<&Line> {
        if let Some(line) = self.line.get() {
            return Ok(line);
        }
        let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = self.line.get() {
            return Ok(line);
        }
        let line = Line::open(Arc::clone(&self.start))?;
        Ok(self.line.get_or_init(|| line))
    }
}
