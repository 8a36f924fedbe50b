//! Guardians that do what a test wants.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use crossbeam_channel::{unbounded, Receiver};
use safe_port_core::link::{Link, Started};
use safe_port_os::poll::{poll, PollFd};
use safe_port_os::socket;
use safe_port_wire::{Event, Frames, Request, Spawn};

use super::PATIENCE;

/// The guardians that a link starts.
pub struct Fakes(Receiver<(u64, OwnedFd)>);

impl Fakes {
    /// A link, and its guardians.
    pub fn link() -> (Link, Fakes) {
        let (sender, receiver) = unbounded();
        let start = move |generation| {
            let (ours, theirs) = socket::pair()?;
            // An error means that the test is over.
            let _ = sender.send((generation, theirs));
            Ok(Started { socket: ours, process: None, tally: None })
        };
        (Link::with_start(start), Fakes(receiver))
    }

    /// The next guardian.
    pub fn next(&self) -> Fake {
        let (generation, socket) = self.0.recv_timeout(PATIENCE).expect("a guardian is started");
        Fake { generation, socket, frames: Frames::default(), fds: VecDeque::new() }
    }

    /// How many were started since the last call.
    pub fn count(&self) -> usize {
        self.0.try_iter().count()
    }
}

/// One guardian.
pub struct Fake {
    pub generation: u64,
    socket: OwnedFd,
    frames: Frames,
    fds: VecDeque<Vec<OwnedFd>>,
}

impl Fake {
    /// The next request, with its descriptors; `None` if the link has let go of this guardian.
    pub fn request(&mut self) -> Option<(Request, Vec<OwnedFd>)> {
        loop {
            if let Some(frame) = self.frames.next_frame().expect("a good stream") {
                let request = Request::decode(frame).expect("a request");
                let fds = match &request {
                    Request::Spawn(_) => self.fds.pop_front().expect("its descriptors have come with it"),
                    Request::Close { .. } | Request::Signal { .. } => Vec::new(),
                };
                return Some((request, fds));
            }
            if !self.receive() {
                return None;
            }
        }
    }

    fn receive(&mut self) -> bool {
        let mut ready = [PollFd::new(self.socket.as_fd(), true, false)];
        assert_eq!(poll(&mut ready, Some(PATIENCE)).expect("polled"), 1, "nothing is sent");
        let (mut buffer, mut fds) = ([0; 16 * 1024], Vec::new());
        // An error is a link that went with something unread.
        let bytes = socket::recv(self.socket.as_fd(), &mut buffer, &mut fds).map_or(0, |got| got.bytes);
        if !fds.is_empty() {
            self.fds.push_back(fds);
        }
        self.frames.push(&buffer[..bytes]);
        bytes > 0
    }

    /// The next request, which is a spawn.
    pub fn spawn(&mut self) -> (Spawn, Vec<OwnedFd>) {
        match self.request() {
            Some((Request::Spawn(spawn), fds)) => (*spawn, fds),
            other => panic!("expected a spawn, got {other:?}"),
        }
    }

    /// Receives one part of what is sent, and leaves the rest.
    pub fn take_a_part(&mut self) {
        assert!(self.receive(), "the link is still there");
    }

    /// Waits until the link has let go of this guardian; what it asks for until then is returned.
    pub fn rest(&mut self) -> Vec<Request> {
        std::iter::from_fn(|| self.request().map(|(request, _)| request)).collect()
    }

    pub fn send(&self, events: &[Event]) {
        let mut bytes = Vec::new();
        for event in events {
            event.encode(&mut bytes);
        }
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut ready = [PollFd::new(self.socket.as_fd(), false, true)];
            assert_eq!(poll(&mut ready, Some(PATIENCE)).expect("polled"), 1, "nothing is received");
            match socket::send(self.socket.as_fd(), bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
    }

    /// Says that it is at work.
    pub fn ready(&self) {
        self.send(&[Event::Ready { os_pid: 4711 }]);
    }
}
