//! Events from the guardian.

use std::io;
use std::os::fd::BorrowedFd;

use safe_port_os::socket;
use safe_port_wire::{Event, Frames};

/// Bytes received at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// Receives in one go at the most, so that a guardian that never stops does not keep requests from being sent.
const RECEIVES: usize = 16;

/// What is to be expected of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing more at the moment.
    Dry,
    /// More.
    More,
    /// Nothing more, ever: the guardian is gone.
    Over,
    /// Nothing that could be understood: what it sends is not our protocol.
    Nonsense,
}

/// The receiving side of the link.
pub struct Inbox {
    frames: Frames,
    buffer: Box<[u8]>,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox { frames: Frames::default(), buffer: vec![0; BUFFER_BYTES].into_boxed_slice() }
    }
}

impl Inbox {
    /// Receives what is there, and appends it to `events`.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, events: &mut Vec<Event>) -> State {
        for _ in 0..RECEIVES {
            // A guardian sends no descriptors; should some come, they are closed.
            let count = match socket::recv(socket, &mut self.buffer, &mut Vec::new()) {
                Ok(received) => received.bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return State::Dry,
                Err(_) => return State::Over,
            };
            if count == 0 {
                return State::Over;
            }
            self.frames.push(&self.buffer[..count]);
            loop {
                let event = match self.frames.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => Event::decode(frame),
                    Err(error) => Err(error),
                };
                match event {
                    Ok(event) => events.push(event),
                    Err(_) => return State::Nonsense,
                }
            }
            if count < self.buffer.len() {
                return State::Dry;
            }
        }
        State::More
    }
}
