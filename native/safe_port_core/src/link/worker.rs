//! The link's thread: a loop around one `poll(2)`.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use safe_port_os::poll::{poll, PollFd};
use safe_port_os::tally::Tally;
use safe_port_os::{errno, signal};
use safe_port_wire::Event;

use super::frame::Command;
use super::inbox::{Inbox, State};
use super::line::Shared;
use super::outbox::{Delivery, Need};
use super::start::{Processes, Start, Started};
use super::{LinkEvent, Listener};

/// Guardians in a row that may go before they are ready. Spawns that the last of them has not seen are given up.
const FALSE_STARTS: u32 = 3;
/// A pause after a failure that is none of ours, so that it does not keep a processor busy.
const SECOND_WIND: Duration = Duration::from_millis(10);
/// Receives from a guardian that takes no more requests: more than a socket holds.
const LAST_RECEIVES: usize = 64;

/// The thread's state.
pub struct Worker {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    start: Arc<Start>,
    /// The same as the outbox has.
    socket: Option<Arc<OwnedFd>>,
    tally: Option<Tally>,
    processes: Processes,
    inbox: Inbox,
    events: Vec<Event>,
    deliveries: Vec<Delivery>,
    /// Whether the guardian has said that it is at work.
    ready: bool,
    false_starts: u32,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, commands: Receiver<Command>, start: Arc<Start>) -> Worker {
        Worker {
            shared,
            commands,
            start,
            socket: None,
            tally: None,
            processes: Processes::default(),
            inbox: Inbox::default(),
            events: Vec::new(),
            deliveries: Vec::new(),
            ready: false,
            false_starts: 0,
        }
    }

    /// Serves until the link is dropped.
    pub fn run(mut self) {
        // The VM's handlers are not for this thread.
        signal::block_all();
        while !self.is_closing() {
            // Nothing here panics. Should it still, the ports of this guardian are lost, and not those of the next.
            if catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
                self.events.clear();
                self.deliveries.clear();
                self.bury(State::Nonsense);
            }
        }
        self.take_commands();
        self.false_starts = FALSE_STARTS;
        self.bury(State::Dry);
        while !self.processes.is_empty() {
            self.poll(false, None);
        }
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    fn serve(&mut self) {
        while !self.is_closing() {
            if self.wait() {
                match self.receive() {
                    State::Dry | State::More => {}
                    last @ (State::Over | State::Nonsense) => self.bury(last),
                }
            }
            self.take_commands();
            let need = {
                let mut outbox = self.shared.outbox();
                outbox.flush();
                self.deliveries.append(&mut outbox.take_refusals());
                outbox.need()
            };
            self.deliver();
            match need {
                Need::Guardian => self.start(),
                Need::Funeral => self.hear_last_words(),
                Need::Nothing | Need::Attention | Need::Room | Need::Pause(_) => {}
            }
        }
    }

    /// Carries out what callers could not do themselves.
    fn take_commands(&self) {
        if self.commands.is_empty() {
            return;
        }
        // Locked before the first is taken: a caller that finds the channel empty finds them queued.
        let mut outbox = self.shared.outbox();
        while let Ok(command) = self.commands.try_recv() {
            outbox.accept(command);
        }
    }

    /// Until there is something to do. Whether there is something to receive.
    fn wait(&mut self) -> bool {
        self.shared.wake.rest();
        let need = self.shared.outbox().need();
        if !self.commands.is_empty() || self.is_closing() {
            self.shared.wake.rise(false);
            return false;
        }
        match need {
            Need::Nothing => self.poll(false, None),
            Need::Room => self.poll(true, None),
            Need::Pause(pause) => self.poll(false, Some(pause)),
            Need::Attention | Need::Guardian | Need::Funeral => {
                self.shared.wake.rise(false);
                false
            }
        }
    }

    /// Sleeps until the bell rings, there is something to receive or, if that is asked for, room to send, or a guardian's
    /// process ends, which is reaped. Whether there is something to receive.
    fn poll(&mut self, room: bool, timeout: Option<Duration>) -> bool {
        let mut fds = Vec::with_capacity(4);
        fds.push(PollFd::new(self.shared.wake.as_fd(), true, false));
        fds.extend(self.socket.iter().map(|socket| PollFd::new(socket.as_fd(), true, room)));
        let others = fds.len();
        fds.extend(self.processes.fds().map(|fd| PollFd::new(fd, true, false)));
        if poll(&mut fds, timeout).is_err() {
            // Out of memory, say.
            std::thread::sleep(SECOND_WIND);
        }
        let (rung, readable) = (fds[0].readable(), others > 1 && fds[1].readable());
        let ended: Vec<bool> = fds[others..].iter().map(PollFd::readable).collect();
        self.processes.reap(ended);
        self.shared.wake.rise(rung);
        readable
    }

    fn start(&mut self) {
        let generation = self.shared.generation.load(Ordering::Relaxed) + 1;
        match (self.start)(generation) {
            Ok(Started { socket, process, tally }) => {
                self.shared.generation.store(generation, Ordering::Release);
                if let Some(process) = process {
                    self.processes.add(process);
                }
                let socket = Arc::new(socket);
                self.shared.outbox().connect(Arc::clone(&socket));
                self.socket = Some(socket);
                self.tally = tally;
            }
            Err(error) => {
                // Without a number only if the name of the executable cannot be one.
                self.shared.outbox().refuse_all(error.raw_os_error().unwrap_or(errno::EINVAL));
            }
        }
    }

    fn receive(&mut self) -> State {
        let Some(socket) = &self.socket else { return State::Dry };
        let state = self.inbox.receive(socket.as_fd(), &mut self.events);
        {
            let mut outbox = self.shared.outbox();
            for event in self.events.drain(..) {
                if let Event::Ready { os_pid } = event {
                    self.shared.guardian.store(os_pid, Ordering::Release);
                    self.ready = true;
                    self.false_starts = 0;
                }
                self.deliveries.extend(outbox.resolve(&event));
            }
        }
        self.deliver();
        state
    }

    fn deliver(&mut self) {
        for (listener, event) in self.deliveries.drain(..) {
            tell(listener, event);
        }
    }

    /// The guardian takes nothing any more; what it said before it went still counts.
    fn hear_last_words(&mut self) {
        let mut states = (0..LAST_RECEIVES).map(|_| self.receive());
        let last = states.find(|state| matches!(state, State::Over | State::Nonsense));
        self.bury(last.unwrap_or(State::Dry));
    }

    /// The guardian is gone, or given up; `last` is what was heard last.
    fn bury(&mut self, last: State) {
        self.socket = None;
        self.inbox = Inbox::default();
        self.shared.guardian.store(0, Ordering::Release);
        if !std::mem::take(&mut self.ready) {
            self.false_starts += 1;
        }
        let keep = self.false_starts < FALSE_STARTS;
        if !keep {
            self.false_starts = 0;
        }
        // When its socket is closed, its last thread has gone and counts no more. Otherwise it may count on.
        let tally = self.tally.take().filter(|_| last == State::Over);
        let received = tally.and_then(|tally| tally.take()).unwrap_or(u64::MAX);
        let news = self.shared.outbox().disconnect(keep, received);
        for (listener, event) in news {
            tell(listener, event);
        }
    }
}

/// A listener that panics must not take the others' link with it.
fn tell(listener: Arc<dyn Listener>, event: LinkEvent) {
    let _ = catch_unwind(AssertUnwindSafe(|| listener.event(event)));
    let _ = catch_unwind(AssertUnwindSafe(|| drop(listener)));
}
