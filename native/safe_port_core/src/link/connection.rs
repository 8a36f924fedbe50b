//! The socket to one guardian: frames and descriptors out, frames in.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use safe_port_os::{dir, pipe, socket, spawn};
use safe_port_wire::{DecodeError, Event, Frames, PortId, Request, MAX_FRAME_BYTES};

/// Bytes received at once.
const BUFFER_BYTES: usize = 8 * 1024;

/// A frame that has not been sent whole.
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Travel with the first byte, and are closed when it has gone.
    fds: Vec<OwnedFd>,
    /// The port that a spawn is for.
    spawns: Option<PortId>,
}

/// Why a connection is over.
#[derive(Debug)]
pub enum Lost {
    /// The guardian closed it, or it cannot be used.
    Closed,
    /// What came is not our protocol.
    Malformed,
}

impl From<DecodeError> for Lost {
    fn from(_: DecodeError) -> Self {
        Lost::Malformed
    }
}

/// A guardian, seen from the link.
pub struct Connection {
    socket: OwnedFd,
    out: VecDeque<Outgoing>,
    frames: Frames,
}

impl Connection {
    /// Starts a guardian: its socket is descriptor 3, its standard descriptors lead nowhere.
    pub fn start(executable: &Path, vm: u64, generation: u64) -> io::Result<Connection> {
        let program = CString::new(executable.as_os_str().as_bytes())?;
        let args =
            [program.clone(), CString::new(format!("{vm:016x}"))?, CString::new(generation.to_string())?];
        let (ours, theirs) = socket::pair()?;
        pipe::set_nonblocking(ours.as_fd(), true)?;
        let null = dir::null()?;
        let fds = [(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2), (theirs.as_fd(), 3)];
        spawn::daemon(&program, &args, &fds)?;
        Ok(Connection::over(ours))
    }

    /// Takes over a connected, non-blocking socket.
    pub fn over(socket: OwnedFd) -> Connection {
        Connection { socket, out: VecDeque::new(), frames: Frames::default() }
    }

    /// Whether something waits to be sent.
    pub fn is_pending(&self) -> bool {
        !self.out.is_empty()
    }

    /// Queues a request; [`Connection::flush`] sends it. `false` if it is longer than a frame may be.
    pub fn push(&mut self, request: &Request, fds: Vec<OwnedFd>) -> bool {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        if bytes.len() > MAX_FRAME_BYTES {
            return false;
        }
        let spawns = match request {
            Request::Spawn(spawn) => Some(spawn.id),
            Request::Close { .. } | Request::Signal { .. } => None,
        };
        self.out.push_back(Outgoing { bytes, sent: 0, fds, spawns });
        true
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) -> Result<(), Lost> {
        while let Some(frame) = self.out.front_mut() {
            let rest = &frame.bytes[frame.sent..];
            let sent = if frame.sent == 0 && !frame.fds.is_empty() {
                let fds: Vec<BorrowedFd<'_>> = frame.fds.iter().map(AsFd::as_fd).collect();
                socket::send_with_fds(self.socket.as_fd(), rest, &fds)
            } else {
                socket::send(self.socket.as_fd(), rest)
            };
            match sent {
                Ok(count) => {
                    frame.sent += count;
                    frame.fds.clear();
                    if frame.sent == frame.bytes.len() {
                        self.out.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Lost::Closed),
            }
        }
        Ok(())
    }

    /// Receives what is there and passes each event to `handle`.
    pub fn receive(&mut self, mut handle: impl FnMut(Event)) -> Result<(), Lost> {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            // A guardian sends no descriptors; should some come, they are closed.
            let count = match socket::recv(self.socket.as_fd(), &mut buffer, &mut Vec::new()) {
                Ok(received) => received.bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Lost::Closed),
            };
            if count == 0 {
                return Err(Lost::Closed);
            }
            self.frames.push(&buffer[..count]);
            while let Some(frame) = self.frames.next_frame()? {
                handle(Event::decode(frame)?);
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// The spawns that the guardian cannot have seen, as nothing of them was sent, with their descriptors.
    pub fn unsent_spawns(self) -> Vec<(PortId, Vec<u8>, Vec<OwnedFd>)> {
        self.out
            .into_iter()
            .filter(|frame| frame.sent == 0)
            .filter_map(|frame| frame.spawns.map(|id| (id, frame.bytes, frame.fds)))
            .collect()
    }

    /// Queues a spawn that an earlier guardian did not see.
    pub fn push_again(&mut self, (id, bytes, fds): (PortId, Vec<u8>, Vec<OwnedFd>)) {
        self.out.push_back(Outgoing { bytes, sent: 0, fds, spawns: Some(id) });
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
