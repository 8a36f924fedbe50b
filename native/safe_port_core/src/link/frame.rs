//! One request as bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use safe_port_os::socket;
use safe_port_wire::{PortId, Request, Spawn, Target};

use super::Listener;

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
pub fn frame_bytes(spawn: &Spawn) -> usize {
    let list = |items: &[Vec<u8>]| 4 + items.iter().map(|item| 4 + item.len()).sum::<usize>();
    let option = |item: &Option<Vec<u8>>| 1 + item.as_ref().map_or(0, |item| 4 + item.len());
    let ending = 1 + spawn.ending.eof_timeout_ms.map_or(0, |_| 4) + 4 + 1;
    let fixed = 4 + 1 + 8;
    let strings = 4 + spawn.file.len() + list(&spawn.args) + 4 + spawn.env.len() + option(&spawn.dir);
    fixed + strings + 4 + 4 * spawn.fds.len() + ending + option(&spawn.cgroup)
}

/// More than the frame of a close or a signal has.
const SMALL_BYTES: usize = 32;

/// A request that has not been sent whole.
pub struct Frame {
    /// The port it is about.
    pub id: PortId,
    /// Whether it asks for a program.
    pub is_spawn: bool,
    bytes: Vec<u8>,
    sent: usize,
    /// Travel with the first byte, and are closed when it has gone.
    fds: Vec<OwnedFd>,
}

impl Frame {
    /// A request to start a program, with what is passed beside it.
    pub fn spawn(spawn: Box<Spawn>, fds: Vec<OwnedFd>) -> Frame {
        let (id, bytes) = (spawn.id, frame_bytes(&spawn));
        Frame { is_spawn: true, fds, ..Frame::new(id, &Request::Spawn(spawn), bytes) }
    }

    /// Another request about a port.
    pub fn about(id: PortId, request: &Request) -> Frame {
        Frame::new(id, request, SMALL_BYTES)
    }

    fn new(id: PortId, request: &Request, bytes: usize) -> Frame {
        let mut frame = Vec::with_capacity(bytes);
        request.encode(&mut frame);
        Frame { id, is_spawn: false, bytes: frame, sent: 0, fds: Vec::new() }
    }

    /// Whether it is a spawn of which the guardian cannot have seen anything.
    pub fn is_unseen_spawn(&self) -> bool {
        self.is_spawn && self.sent == 0
    }

    /// Sends what is left of it; an error if the socket does not take all of that.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
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
        Ok(())
    }
}

/// The least that a spawn can be.
#[cfg(test)]
pub fn bare_spawn(id: u64) -> Spawn {
    use safe_port_wire::{Ending, Orphans};
    Spawn {
        id: PortId(id),
        file: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        dir: None,
        fds: Vec::new(),
        ending: Ending { eof_timeout_ms: None, kill_timeout_ms: 5, orphans: Orphans::Kill },
        cgroup: None,
    }
}

#[cfg(test)]
mod tests {
    use safe_port_wire::Ending;

    use super::*;

    #[test]
    fn the_size_of_a_frame_is_known_before_it_is_made() {
        let bare = bare_spawn(7);
        let full = Spawn {
            file: b"/bin/cat".to_vec(),
            args: vec![b"cat".to_vec(), Vec::new()],
            env: b"A=1\0".to_vec(),
            dir: Some(b"/".to_vec()),
            fds: vec![0, 1, 2],
            ending: Ending { eof_timeout_ms: Some(1), ..bare.ending },
            cgroup: Some(b"/sys/fs/cgroup".to_vec()),
            ..bare.clone()
        };
        for spawn in [bare, full] {
            assert_eq!(frame_bytes(&spawn), Frame::spawn(Box::new(spawn.clone()), Vec::new()).bytes.len());
        }
        let signal = Request::Signal { id: PortId(1), ticket: 2, signal: 9, target: Target::Tree };
        assert!(Frame::about(PortId(1), &signal).bytes.len() <= SMALL_BYTES);
    }
}
