//! Cuts a stream of bytes into frames.

use crate::codec::DecodeError;

/// Bytes of the longest frame, its length not counted. More than any system takes as arguments and environment
/// (6 MiB on Linux, with an unlimited stack), so that what is too long for `exec` is refused by `exec`.
pub const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// What a [`Frames`] that has nothing to hold may keep allocated.
const KEPT_BYTES: usize = 64 * 1024;

/// The frames in a stream, as it arrives.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Takes what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BYTES);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, without its length; `None` until it is whole.
    ///
    /// After an error the stream cannot be read on: where the next frame begins is not known.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, DecodeError> {
        let Some((length, rest)) = self.buffer[self.start..].split_first_chunk() else {
            self.settle();
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(DecodeError::TooLong(length));
        }
        if rest.len() < length {
            self.settle();
            return Ok(None);
        }
        let from = self.start + 4;
        self.start = from + length;
        Ok(Some(&self.buffer[from..from + length]))
    }

    /// Moves the beginning of an unfinished frame to the front, so that the buffer does not grow with the stream.
    fn settle(&mut self) {
        self.buffer.drain(..std::mem::take(&mut self.start));
    }
}
