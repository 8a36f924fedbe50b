//! Computes the SHA-256 of the data that its port is sent, on a thread of the pool for long jobs.
//!
//! Commands are queued as they come, without a copy. One job at a time hashes what is in the queue; what it has hashed
//! leaves the queue when the job is done. So the queue is what is still to be hashed: it makes the port busy when it
//! grows, and it delays closing the port until all is hashed.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use safe_port_driver::{export, BadArg, Bytes, Driver, JobResult, Key, PortHandle, StartError};
use sha2::{Digest as _, Sha256};

/// `control` operation: reply with the number of bytes hashed so far, 8 bytes big-endian.
pub const COUNT: u32 = 0;
/// `control` operation: when all that was sent before is hashed, send its digest (32 bytes) to the owner as data, and
/// begin anew. The reply is empty.
pub const FINISH: u32 = 1;
/// `control` operation: reply with the digest of the data given, which has nothing to do with what was sent.
pub const HASH: u32 = 2;

/// Bytes in the queue from which on the port is busy.
const HIGH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes in the queue below which it is no longer.
const LOW_BYTES: usize = HIGH_BYTES / 2;

/// A port's state.
pub struct Digest {
    /// `None` while a job has it.
    hasher: Option<Sha256>,
    hashed: u64,
    /// Where, counted in bytes sent, digests are to be sent.
    ends: VecDeque<u64>,
    sent: u64,
}

/// What a job gives back.
struct Hashed {
    hasher: Sha256,
    bytes: usize,
}

impl Digest {
    /// Has the next job done, unless one is being done or there is nothing to do.
    fn go_on(&mut self, port: &PortHandle) {
        while self.ends.front() == Some(&self.hashed) {
            let Some(hasher) = &mut self.hasher else { return };
            port.output(&hasher.finalize_reset());
            self.ends.pop_front();
        }
        // Not beyond the next end: what follows belongs to another digest.
        let limit = self.ends.front().map_or(usize::MAX, |end| (end - self.hashed) as usize);
        let pieces = first(port.peekq(), limit);
        if pieces.is_empty() {
            return;
        }
        if let Some(mut hasher) = self.hasher.take() {
            port.run(Key::Port, move || {
                let mut bytes = 0;
                for piece in pieces {
                    hasher.update(&piece);
                    bytes += piece.len();
                }
                Hashed { hasher, bytes }
            });
        }
    }
}

/// The first `limit` bytes of `pieces`.
fn first(mut pieces: Vec<Bytes>, limit: usize) -> Vec<Bytes> {
    let mut left = limit;
    for piece in &mut pieces {
        let part = piece.slice(0..piece.len().min(left));
        *piece = part.unwrap_or_else(|| piece.clone());
        left -= piece.len();
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

impl Driver for Digest {
    const NAME: &'static str = "digest";

    fn start(port: &PortHandle, _command: &[u8]) -> Result<Digest, StartError> {
        port.set_control_binary(true);
        Ok(Digest { hasher: Some(Sha256::new()), hashed: 0, ends: VecDeque::new(), sent: 0 })
    }

    fn outputv(&mut self, port: &PortHandle, data: Vec<Bytes>) {
        self.sent += data.iter().map(|piece| piece.len() as u64).sum::<u64>();
        port.enqv(&data, 0);
        if port.sizeq() >= HIGH_BYTES {
            port.set_busy(true);
        }
        self.go_on(port);
    }

    fn ready_async(&mut self, port: &PortHandle, result: JobResult) {
        let Ok(Hashed { hasher, bytes }) = result.downcast() else { return };
        self.hasher = Some(hasher);
        self.hashed += bytes as u64;
        port.deq(bytes);
        if port.sizeq() < LOW_BYTES {
            port.set_busy(false);
        }
        self.go_on(port);
    }

    fn control(&mut self, port: &PortHandle, op: u32, data: &[u8]) -> Result<Vec<u8>, BadArg> {
        match op {
            COUNT => Ok(self.hashed.to_be_bytes().to_vec()),
            FINISH => {
                self.ends.push_back(self.sent);
                self.go_on(port);
                Ok(Vec::new())
            }
            HASH => Ok(Sha256::digest(data).to_vec()),
            _ => Err(BadArg),
        }
    }
}

export!(Digest);
