//! Requests from the VM, each spawn with its descriptors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use safe_port_os::socket;
use safe_port_wire::{Frames, Request};

/// Bytes received at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Receives in one go at the most, so that a busy VM does not keep the guardian from watching.
const RECEIVES: usize = 16;

/// The descriptors that came with one spawn.
#[derive(Debug, Default)]
pub struct Batch {
    /// As they were passed.
    pub fds: Vec<OwnedFd>,
    /// Whether some could not be received.
    pub incomplete: bool,
}

/// The receiving side of the socket.
pub struct Inbox {
    frames: Frames,
    buffer: Box<[u8]>,
    batches: VecDeque<Batch>,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox {
            frames: Frames::default(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            batches: VecDeque::new(),
        }
    }
}

impl Inbox {
    /// Receives what is there and passes each request to `handle`, spawns with their descriptors.
    ///
    /// Returns whether the VM is still there; one that sends what is no request is not.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, mut handle: impl FnMut(Request, Batch)) -> bool {
        for _ in 0..RECEIVES {
            let mut fds = Vec::new();
            let received = match socket::recv(socket, &mut self.buffer, &mut fds) {
                Ok(received) => received,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            if received.bytes == 0 {
                return false;
            }
            if received.lost_fds || !fds.is_empty() {
                self.batches.push_back(Batch { fds, incomplete: received.lost_fds });
            }
            self.frames.push(&self.buffer[..received.bytes]);
            loop {
                let request = match self.frames.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => Request::decode(frame),
                    Err(error) => Err(error),
                };
                let batch = match &request {
                    Ok(Request::Spawn(_)) => self.batches.pop_front().unwrap_or_default(),
                    Ok(_) => Batch::default(),
                    Err(_) => return false,
                };
                if let Ok(request) = request {
                    handle(request, batch);
                }
            }
            if received.bytes < self.buffer.len() {
                break;
            }
        }
        true
    }
}
