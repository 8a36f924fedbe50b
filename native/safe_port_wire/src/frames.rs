//! Finds the frames in a stream of bytes.

use crate::DecodeError;

/// The longest body, in bytes: the 2 MiB that the kernel takes as arguments and environment, with room to spare.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that have been received, up to the end of the last whole frame and beyond.
#[derive(Default)]
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Adds bytes as they were received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The body of the next frame; `None` if it is not whole yet.
    ///
    /// An error means that the other end does not speak this protocol.
    pub fn next_body(&mut self) -> Result<Option<&[u8]>, DecodeError> {
        let rest = &self.buffer[self.start..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_ne_bytes(*length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(DecodeError);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let body = self.start + 4;
        self.start = body + length;
        Ok(Some(&self.buffer[body..self.start]))
    }

    /// Whether everything received has been taken.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }
}
