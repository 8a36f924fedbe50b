//! Requests on their way to the guardian, and who waits for what becomes of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use safe_port_os::{errno, socket};
use safe_port_wire::{Event, PortId, Request, Spawn, Stage, Target, MAX_FRAME_BYTES};

use super::{Exit, LinkEvent, Listener};

/// How soon a send is tried again that the system had no means for.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a spawn is tried for which the system has no means.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a caller asks for.
pub enum Command {
    Spawn { spawn: Box<Spawn>, fds: Vec<OwnedFd>, listener: Arc<dyn Listener> },
    Close(PortId),
    Signal { id: PortId, ticket: u64, signal: i32, target: Target },
}

impl Command {
    /// How many bytes its frame has, or fewer than matter.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Spawn { spawn, .. } => frame_bytes(spawn),
            Command::Close(_) | Command::Signal { .. } => 0,
        }
    }
}

/// How many bytes the frame of a spawn has, its length included.
fn frame_bytes(spawn: &Spawn) -> usize {
    let list = |items: &[Vec<u8>]| 4 + items.iter().map(|item| 4 + item.len()).sum::<usize>();
    let option = |item: &Option<Vec<u8>>| 1 + item.as_ref().map_or(0, |item| 4 + item.len());
    let ending = 1 + spawn.ending.eof_timeout_ms.map_or(0, |_| 4) + 4 + 1;
    let fixed = 4 + 1 + 8;
    let strings = 4 + spawn.file.len() + list(&spawn.args) + list(&spawn.env) + option(&spawn.dir);
    fixed + strings + 4 + 4 * spawn.fds.len() + ending + option(&spawn.cgroup)
}

/// An event and whom it is for.
pub type Delivery = (Arc<dyn Listener>, LinkEvent);

/// A request that has not been sent whole.
struct Frame {
    id: PortId,
    is_spawn: bool,
    bytes: Vec<u8>,
    sent: usize,
    /// Travel with the first byte, and are closed when it has gone.
    fds: Vec<OwnedFd>,
}

impl Frame {
    fn new(id: PortId, request: &Request, bytes: usize, fds: Vec<OwnedFd>) -> Frame {
        let mut frame = Vec::with_capacity(bytes);
        request.encode(&mut frame);
        Frame { id, is_spawn: matches!(request, Request::Spawn(_)), bytes: frame, sent: 0, fds }
    }

    /// Sends what the socket takes. Whether that was all.
    fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            let rest = &self.bytes[self.sent..];
            if self.fds.is_empty() {
                self.sent += socket::send(socket, rest)?;
            } else {
                let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
                self.sent += socket::send_with_fds(socket, rest, &fds)?;
                self.fds.clear();
            }
        }
        Ok(true)
    }
}

/// How sending goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// There is no guardian.
    Absent,
    /// All that was to be sent was sent.
    Free,
    /// The socket takes no more at the moment.
    Full,
    /// The system has had no means to send since then: memory, or descriptors in flight.
    Short(Instant),
    /// The guardian is gone.
    Broken,
}

/// What the thread has to do about the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing, until something happens.
    Nothing,
    /// A look at it, now.
    Attention,
    /// A guardian.
    Guardian,
    /// To see that the guardian is gone.
    Funeral,
    /// To wait until the socket takes more.
    Room,
    /// To wait for this long.
    Pause(Duration),
}

/// The sending side of the link, and the listeners of all ports that have not ended.
pub struct Outbox {
    socket: Option<Arc<OwnedFd>>,
    flow: Flow,
    /// In the order they were submitted; only the first may have been sent in part.
    queue: VecDeque<Frame>,
    listeners: HashMap<PortId, Arc<dyn Listener>>,
    /// Refusals that did not need a guardian.
    refusals: Vec<Delivery>,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox {
            socket: None,
            flow: Flow::Absent,
            queue: VecDeque::new(),
            listeners: HashMap::new(),
            refusals: Vec::new(),
        }
    }
}

impl Outbox {
    /// Queues the command, and sends it if nothing is in the way. Whether that leaves something for the thread to do that
    /// it does not know of.
    pub fn submit(&mut self, command: Command) -> bool {
        self.accept(command);
        match self.flow {
            Flow::Free => {
                self.flush();
                self.flow != Flow::Free || !self.refusals.is_empty()
            }
            Flow::Absent => self.need() != Need::Nothing,
            Flow::Full | Flow::Short(_) | Flow::Broken => !self.refusals.is_empty(),
        }
    }

    /// Queues the command. One for a port that has ended, or never was, is dropped.
    pub fn accept(&mut self, command: Command) {
        let (id, request) = match command {
            Command::Spawn { spawn, fds, listener } => return self.accept_spawn(spawn, fds, listener),
            Command::Close(id) => (id, Request::Close { id }),
            Command::Signal { id, ticket, signal, target } => {
                (id, Request::Signal { id, ticket, signal, target })
            }
        };
        if self.listeners.contains_key(&id) {
            self.queue.push_back(Frame::new(id, &request, 32, Vec::new()));
        }
    }

    fn accept_spawn(&mut self, spawn: Box<Spawn>, fds: Vec<OwnedFd>, listener: Arc<dyn Listener>) {
        let (id, bytes) = (spawn.id, frame_bytes(&spawn));
        let refusal = if bytes > 4 + MAX_FRAME_BYTES {
            Some((Stage::Exec, errno::E2BIG))
        } else if fds.len() > socket::MAX_FDS {
            Some((Stage::Fork, errno::EINVAL))
        } else {
            None
        };
        if let Some((stage, errno)) = refusal {
            self.refusals.push((listener, LinkEvent::Refused { stage, errno }));
            return;
        }
        self.listeners.insert(id, listener);
        self.queue.push_back(Frame::new(id, &Request::Spawn(spawn), bytes, fds));
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        if matches!(self.flow, Flow::Absent | Flow::Broken) {
            return;
        }
        let Some(socket) = self.socket.clone() else { return };
        while let Some(frame) = self.queue.front_mut() {
            match frame.send(socket.as_fd()) {
                Ok(_) => {
                    self.queue.pop_front();
                }
                Err(error) => {
                    if !self.hindered(&error) {
                        return;
                    }
                }
            }
        }
        self.flow = Flow::Free;
    }

    /// The first frame could not be sent. Whether the next one can be.
    fn hindered(&mut self, error: &io::Error) -> bool {
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];
        if error.kind() == io::ErrorKind::WouldBlock {
            self.flow = Flow::Full;
            return false;
        }
        let Some(number) = error.raw_os_error().filter(|_| !gone.contains(&error.kind())) else {
            self.flow = Flow::Broken;
            return false;
        };
        let now = Instant::now();
        let since = if let Flow::Short(since) = self.flow { since } else { now };
        let is_short = matches!(number, errno::ENOMEM | errno::ENOBUFS | errno::ETOOMANYREFS);
        let refusable = self.queue.front().is_some_and(|frame| frame.is_spawn && frame.sent == 0);
        if is_short && (!refusable || now < since + PATIENCE) {
            self.flow = Flow::Short(since);
            return false;
        }
        if !refusable {
            self.flow = Flow::Broken;
            return false;
        }
        // These descriptors may not be passed. What was said about the port goes with it.
        if let Some(frame) = self.queue.pop_front() {
            self.refuse(frame.id, number);
            self.queue.retain(|other| other.id != frame.id);
        }
        self.flow = Flow::Free;
        true
    }

    fn refuse(&mut self, id: PortId, errno: i32) {
        if let Some(listener) = self.listeners.remove(&id) {
            self.refusals.push((listener, LinkEvent::Refused { stage: Stage::Fork, errno }));
        }
    }

    /// What the thread has to do now, or is to wait for.
    pub fn need(&self) -> Need {
        if !self.refusals.is_empty() {
            return Need::Attention;
        }
        match self.flow {
            Flow::Broken => Need::Funeral,
            _ if self.queue.is_empty() => Need::Nothing,
            Flow::Absent => Need::Guardian,
            Flow::Free => Need::Attention,
            Flow::Full => Need::Room,
            Flow::Short(_) => Need::Pause(PAUSE),
        }
    }

    /// There is a guardian at the other end of `socket`.
    pub fn connect(&mut self, socket: Arc<OwnedFd>) {
        self.socket = Some(socket);
        self.flow = Flow::Free;
    }

    /// There is no guardian to be had: what waits for one is refused.
    pub fn refuse_all(&mut self, errno: i32) {
        let ids: Vec<PortId> =
            self.queue.drain(..).filter(|frame| frame.is_spawn).map(|frame| frame.id).collect();
        for id in ids {
            self.refuse(id, errno);
        }
    }

    /// The refusals since the last call.
    pub fn take_refusals(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.refusals)
    }

    /// The guardian is gone. Returns the listeners whose ports went with it.
    ///
    /// If `keep` is set, spawns of which it cannot have seen anything wait for the next one, with all that was said about
    /// their ports.
    pub fn disconnect(&mut self, keep: bool) -> Vec<Arc<dyn Listener>> {
        self.socket = None;
        self.flow = Flow::Absent;
        let unseen = |frame: &&Frame| keep && frame.is_spawn && frame.sent == 0;
        let kept: HashSet<PortId> = self.queue.iter().filter(unseen).map(|frame| frame.id).collect();
        self.queue.retain(|frame| kept.contains(&frame.id));
        self.listeners.extract_if(|id, _| !kept.contains(id)).map(|(_, listener)| listener).collect()
    }

    /// Whom an event is for, and what it tells him. After a port's last event nobody listens any more.
    pub fn resolve(&mut self, event: &Event) -> Option<Delivery> {
        let (id, is_last, event) = match *event {
            Event::Ready { .. } => return None,
            Event::Spawned { id, os_pid } => (id, false, LinkEvent::Spawned { os_pid }),
            Event::Refused { id, stage, errno } => (id, true, LinkEvent::Refused { stage, errno }),
            Event::Exited { id, status, usage } => {
                (id, false, LinkEvent::Exited { exit: Exit::from_wait_status(status), usage })
            }
            Event::Ended { id } => (id, true, LinkEvent::Ended),
            Event::Signalled { id, ticket, errno } => (id, false, LinkEvent::Signalled { ticket, errno }),
        };
        let listener = if is_last { self.listeners.remove(&id) } else { self.listeners.get(&id).cloned() };
        Some((listener?, event))
    }
}

#[cfg(test)]
mod tests {
    use safe_port_wire::{Ending, Orphans};

    use super::*;

    #[test]
    fn the_size_of_a_frame_is_known_before_it_is_made() {
        let ending = Ending { eof_timeout_ms: None, kill_timeout_ms: 5, orphans: Orphans::Kill };
        let bare = Spawn {
            id: PortId(7),
            file: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            fds: Vec::new(),
            ending,
            cgroup: None,
        };
        let full = Spawn {
            file: b"/bin/cat".to_vec(),
            args: vec![b"cat".to_vec(), Vec::new()],
            env: vec![b"A=1".to_vec()],
            dir: Some(b"/".to_vec()),
            fds: vec![0, 1, 2],
            ending: Ending { eof_timeout_ms: Some(1), ..ending },
            cgroup: Some(b"/sys/fs/cgroup".to_vec()),
            ..bare.clone()
        };
        for spawn in [bare, full] {
            let mut frame = Vec::new();
            Request::Spawn(Box::new(spawn.clone())).encode(&mut frame);
            assert_eq!(frame_bytes(&spawn), frame.len());
        }
        let mut frame = Vec::new();
        let signal = Request::Signal { id: PortId(1), ticket: 2, signal: 9, target: Target::Tree };
        signal.encode(&mut frame);
        assert!(frame.len() <= 32, "{}", frame.len());
    }
}
