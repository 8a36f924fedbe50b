//! The link's thread: a loop around one `poll(2)`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use safe_port_os::errno;
use safe_port_os::poll::{poll, PollFd};
use safe_port_wire::{Event, PortId, Request, Spawn, Stage};

use super::connection::{Connection, Lost};
use super::{Command, Exit, LinkEvent, Listener, Shared};

/// The thread's state.
pub struct Worker {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    listeners: HashMap<PortId, Arc<dyn Listener>>,
    connection: Option<Connection>,
    /// Names this VM in the cookies of its programs.
    vm: u64,
    generation: u64,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, commands: Receiver<Command>) -> Worker {
        // The standard library seeds its hashers from the system's random numbers.
        let vm = RandomState::new().hash_one(std::process::id());
        Worker { shared, commands, listeners: HashMap::new(), connection: None, vm, generation: 0 }
    }

    /// Serves for ever.
    pub fn run(mut self) {
        loop {
            self.wait();
            while let Ok(command) = self.commands.try_recv() {
                self.command(command);
            }
            if let Err(lost) = self.serve() {
                self.lost(&lost);
            }
        }
    }

    /// Until there is a command or an event.
    fn wait(&self) {
        let Some(wake) = self.shared.wake.get() else { return };
        let mut fds = vec![PollFd::new(wake.as_fd(), true, false)];
        if let Some(connection) = &self.connection {
            fds.push(PollFd::new(connection.as_fd(), true, connection.is_pending()));
        }
        // A failure, for lack of memory, is as good as a wake-up.
        let _ = poll(&mut fds, None);
        if fds[0].readable() {
            wake.drain();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Spawn { spawn, fds, listener } => self.spawn(spawn, fds, listener),
            Command::Close(id) => self.request(id, &Request::Close { id }),
            Command::Signal { id, ticket, signal, target } => {
                self.request(id, &Request::Signal { id, ticket, signal, target });
            }
        }
    }

    fn spawn(&mut self, spawn: Box<Spawn>, fds: Vec<OwnedFd>, listener: Arc<dyn Listener>) {
        let id = spawn.id;
        if self.connection.is_none() {
            self.generation += 1;
            match Connection::start(&self.shared.config.guardian, self.vm, self.generation) {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(errno::EIO);
                    tell(&*listener, LinkEvent::Refused { stage: Stage::Fork, errno });
                    return;
                }
            }
        }
        let Some(connection) = &mut self.connection else { return };
        if connection.push(&Request::Spawn(spawn), fds) {
            self.listeners.insert(id, listener);
        } else {
            // A frame has room for more than any system takes as arguments and environment.
            tell(&*listener, LinkEvent::Refused { stage: Stage::Exec, errno: errno::E2BIG });
        }
    }

    /// Sends a request about a port that has not ended.
    fn request(&mut self, id: PortId, request: &Request) {
        if let (Some(connection), true) = (&mut self.connection, self.listeners.contains_key(&id)) {
            connection.push(request, Vec::new());
        }
    }

    /// Sends and receives what can be.
    fn serve(&mut self) -> Result<(), Lost> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let flushed = connection.flush();
        // Also when sending failed: what the guardian reported before it went still counts.
        let (listeners, shared) = (&mut self.listeners, &self.shared);
        connection.receive(|event| dispatch(listeners, shared, event))?;
        flushed
    }

    /// The guardian is gone: its ports end, and spawns that it has not seen wait for the next one.
    fn lost(&mut self, _lost: &Lost) {
        self.shared.guardian.store(0, Ordering::Release);
        let unsent = self.connection.take().map(Connection::unsent_spawns).unwrap_or_default();
        let waiting: HashMap<PortId, Arc<dyn Listener>> =
            unsent.iter().filter_map(|(id, ..)| self.listeners.remove_entry(id)).collect();
        for (_, listener) in std::mem::replace(&mut self.listeners, waiting) {
            tell(&*listener, LinkEvent::GuardianDown);
        }
        if unsent.is_empty() {
            return;
        }
        self.generation += 1;
        match Connection::start(&self.shared.config.guardian, self.vm, self.generation) {
            Ok(mut connection) => {
                for spawn in unsent {
                    connection.push_again(spawn);
                }
                self.connection = Some(connection);
                if let Some(wake) = self.shared.wake.get() {
                    wake.notify();
                }
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(errno::EIO);
                for (_, listener) in self.listeners.drain() {
                    tell(&*listener, LinkEvent::Refused { stage: Stage::Fork, errno });
                }
            }
        }
    }
}

/// Passes an event to the listener of its port.
fn dispatch(listeners: &mut HashMap<PortId, Arc<dyn Listener>>, shared: &Shared, event: Event) {
    let (id, last, event) = match event {
        Event::Ready { os_pid } => {
            shared.guardian.store(os_pid, Ordering::Release);
            return;
        }
        Event::Spawned { id, os_pid } => (id, false, LinkEvent::Spawned { os_pid }),
        Event::Refused { id, stage, errno } => (id, true, LinkEvent::Refused { stage, errno }),
        Event::Exited { id, status, usage } => {
            (id, false, LinkEvent::Exited { exit: Exit::from_wait_status(status), usage })
        }
        Event::Ended { id } => (id, true, LinkEvent::Ended),
        Event::Signalled { id, ticket, errno } => (id, false, LinkEvent::Signalled { ticket, errno }),
    };
    let listener = if last { listeners.remove(&id) } else { listeners.get(&id).cloned() };
    if let Some(listener) = listener {
        tell(&*listener, event);
    }
}

/// A listener that panics must not take the others' link with it.
fn tell(listener: &dyn Listener, event: LinkEvent) {
    let _ = catch_unwind(AssertUnwindSafe(|| listener.event(event)));
}
