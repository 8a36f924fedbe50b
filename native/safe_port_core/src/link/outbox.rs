//! Requests on their way to the guardian, and who waits for what becomes of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use safe_port_os::{errno, socket};
use safe_port_wire::{Event, PortId, Request, Spawn, Stage, MAX_FRAME_BYTES};

use super::frame::{frame_bytes, Command, Frame};
use super::{Exit, LinkEvent, Listener};

/// How soon a send is tried again that the system had no means for.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a spawn is tried for which the system has no means.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a frame's length, which its limit leaves out.
const LENGTH_BYTES: usize = 4;

/// An event and whom it is for.
pub type Delivery = (Arc<dyn Listener>, LinkEvent);

/// A port that has not ended.
struct Port {
    listener: Arc<dyn Listener>,
    /// The how-manieth spawn that was sent to the present guardian it is; `None` until it was sent whole.
    ordinal: Option<u64>,
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

/// The sending side of the link, and all ports that have not ended.
pub struct Outbox {
    socket: Option<Arc<OwnedFd>>,
    flow: Flow,
    /// In the order they were submitted; only the first may have been sent in part.
    queue: VecDeque<Frame>,
    ports: HashMap<PortId, Port>,
    /// The spawns sent to the present guardian.
    sent: u64,
    /// Refusals that did not need a guardian.
    refusals: Vec<Delivery>,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox {
            socket: None,
            flow: Flow::Absent,
            queue: VecDeque::new(),
            ports: HashMap::new(),
            sent: 0,
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
        if self.ports.contains_key(&id) {
            self.queue.push_back(Frame::about(id, &request));
        }
    }

    fn accept_spawn(&mut self, spawn: Box<Spawn>, fds: Vec<OwnedFd>, listener: Arc<dyn Listener>) {
        let refusal = if frame_bytes(&spawn) > LENGTH_BYTES + MAX_FRAME_BYTES {
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
        self.ports.insert(spawn.id, Port { listener, ordinal: None });
        self.queue.push_back(Frame::spawn(spawn, fds));
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        if matches!(self.flow, Flow::Absent | Flow::Broken) {
            return;
        }
        let Some(socket) = self.socket.clone() else { return };
        while let Some(frame) = self.queue.front_mut() {
            match frame.send(socket.as_fd()) {
                Ok(()) => {
                    if frame.is_spawn {
                        self.sent += 1;
                        if let Some(port) = self.ports.get_mut(&frame.id) {
                            port.ordinal = Some(self.sent);
                        }
                    }
                    self.queue.pop_front();
                    self.flow = Flow::Free;
                }
                Err(error) => {
                    if !self.hindered(&error, Instant::now()) {
                        return;
                    }
                }
            }
        }
        self.flow = Flow::Free;
    }

    /// The first frame could not be sent. Whether the next one can be.
    fn hindered(&mut self, error: &io::Error, now: Instant) -> bool {
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];
        if error.kind() == io::ErrorKind::WouldBlock {
            self.flow = Flow::Full;
            return false;
        }
        let Some(number) = error.raw_os_error().filter(|_| !gone.contains(&error.kind())) else {
            self.flow = Flow::Broken;
            return false;
        };
        let since = if let Flow::Short(since) = self.flow { since } else { now };
        let is_short = matches!(number, errno::ENOMEM | errno::ENOBUFS | errno::ETOOMANYREFS);
        let refusable = self.queue.front().is_some_and(Frame::is_unseen_spawn);
        if is_short && (!refusable || now < since + PATIENCE) {
            self.flow = Flow::Short(since);
            return false;
        }
        if !refusable {
            self.flow = Flow::Broken;
            return false;
        }
        // These descriptors cannot be passed. What was said about the port goes with it.
        if let Some(frame) = self.queue.pop_front() {
            self.refuse(frame.id, number);
            self.queue.retain(|other| other.id != frame.id);
        }
        true
    }

    fn refuse(&mut self, id: PortId, errno: i32) {
        if let Some(Port { listener, .. }) = self.ports.remove(&id) {
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
        self.sent = 0;
        self.flow = Flow::Free;
    }

    /// There is no guardian to be had: what waits for one is refused.
    pub fn refuse_all(&mut self, errno: i32) {
        for frame in std::mem::take(&mut self.queue) {
            // Once for each port, whatever else was said about it.
            self.refuse(frame.id, errno);
        }
    }

    /// The refusals since the last call.
    pub fn take_refusals(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.refusals)
    }

    /// The guardian is gone, which was asked for `received` programs and knew of no other spawn. Returns what the ports are
    /// to be told that went with it.
    ///
    /// If `keep` is set, spawns of which it cannot have seen anything wait for the next one, with all that was said about
    /// their ports; and of those that it has not received whole it is said that they were lost on the way.
    pub fn disconnect(&mut self, keep: bool, received: u64) -> Vec<Delivery> {
        self.socket = None;
        self.flow = Flow::Absent;
        let unseen = self.queue.iter().filter(|frame| keep && frame.is_unseen_spawn());
        let kept: HashSet<PortId> = unseen.map(|frame| frame.id).collect();
        self.queue.retain(|frame| kept.contains(&frame.id));
        let gone = self.ports.extract_if(|id, _| !kept.contains(id));
        gone.map(|(_, port)| {
            let never_begun = port.ordinal.is_none_or(|ordinal| ordinal > received);
            (port.listener, if keep && never_begun { LinkEvent::Lost } else { LinkEvent::GuardianDown })
        })
        .collect()
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
        let listener = if is_last {
            self.ports.remove(&id).map(|port| port.listener)
        } else {
            self.ports.get(&id).map(|port| Arc::clone(&port.listener))
        };
        Some((listener?, event))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::bare_spawn;
    use super::*;

    struct Deaf;

    impl Listener for Deaf {
        fn event(&self, _event: LinkEvent) {}
    }

    fn spawn(id: u64) -> Command {
        Command::Spawn { spawn: Box::new(bare_spawn(id)), fds: Vec::new(), listener: Arc::new(Deaf) }
    }

    /// One that is connected, with two spawns and a close of each that are not sent, and the other end.
    fn loaded() -> (Outbox, OwnedFd) {
        let (ours, theirs) = socket::pair().expect("a socket pair");
        let mut outbox = Outbox::default();
        outbox.connect(Arc::new(ours));
        for command in [spawn(1), spawn(2), Command::Close(PortId(1)), Command::Close(PortId(2))] {
            outbox.accept(command);
        }
        (outbox, theirs)
    }

    fn failure(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    fn refused(outbox: &mut Outbox) -> Vec<LinkEvent> {
        outbox.take_refusals().into_iter().map(|(_, event)| event).collect()
    }

    #[test]
    fn a_spawn_that_the_system_has_no_means_for_is_tried_for_a_while() {
        let (mut outbox, _theirs) = loaded();
        let short = failure(errno::ETOOMANYREFS);
        let now = Instant::now();
        assert!(!outbox.hindered(&short, now));
        assert_eq!(outbox.need(), Need::Pause(PAUSE));
        assert!(!outbox.hindered(&short, now + PATIENCE / 2));
        assert!(outbox.hindered(&short, now + PATIENCE));
        let refusal = LinkEvent::Refused { stage: Stage::Fork, errno: errno::ETOOMANYREFS };
        assert_eq!(refused(&mut outbox), [refusal]);
        // There is no sense in waiting for the next one as well.
        assert!(outbox.hindered(&short, now + PATIENCE));
        assert_eq!(refused(&mut outbox), [refusal]);
        assert_eq!(outbox.queue.len(), 0, "what was said about them went with them");
    }

    #[test]
    fn patience_begins_anew_with_every_frame_that_was_sent() {
        let (mut outbox, _theirs) = loaded();
        let now = Instant::now();
        assert!(!outbox.hindered(&failure(errno::ENOBUFS), now));
        outbox.flush();
        assert_eq!((outbox.need(), outbox.flow), (Need::Nothing, Flow::Free));
        outbox.accept(spawn(3));
        assert!(!outbox.hindered(&failure(errno::ENOBUFS), now + PATIENCE));
        assert_eq!(refused(&mut outbox), []);
    }

    #[test]
    fn a_spawn_that_may_not_be_sent_is_refused_and_the_rest_goes_on() {
        let (mut outbox, _theirs) = loaded();
        assert!(outbox.hindered(&failure(errno::EPERM), Instant::now()));
        let refusal = LinkEvent::Refused { stage: Stage::Fork, errno: errno::EPERM };
        assert_eq!(refused(&mut outbox), [refusal]);
        outbox.flush();
        assert_eq!((outbox.need(), outbox.ports.len()), (Need::Nothing, 1));
    }

    #[test]
    fn a_socket_without_another_end_is_broken() {
        let (mut outbox, theirs) = loaded();
        drop(theirs);
        outbox.flush();
        assert_eq!(outbox.need(), Need::Funeral);
        assert_eq!((outbox.disconnect(true, 0).len(), outbox.need()), (0, Need::Guardian));
        assert_eq!((outbox.disconnect(false, 0).len(), outbox.need()), (2, Need::Nothing));
    }
}
