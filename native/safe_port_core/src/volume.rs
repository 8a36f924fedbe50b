//! Learns how much goes through a pipe, and in what pieces, and enlarges the pipes of those who move bulk data.

use std::os::fd::BorrowedFd;

use safe_port_os::pipe;

/// What such a pipe is enlarged to, in bytes, where the user's quota allows it.
const BULK_PIPE_BYTES: usize = 1024 * 1024;
/// So many bytes at once speak for bulk data, fewer against it.
const LARGE_BYTES: usize = 16 * 1024;
/// How many more times there must be many than few.
const TIMES_TO_BULK: u8 = 8;
/// Pieces of fewer bytes on average are better copied than shared.
const SMALL_PIECE_BYTES: usize = 256;

/// What the reads, or the writes, of one pipe have shown so far.
#[derive(Default)]
pub struct Volume {
    /// Times many bytes were moved less times few were, from none to `TIMES_TO_BULK`.
    score: u8,
    bulk: bool,
    small_pieces: bool,
}

impl Volume {
    /// `bytes` bytes were moved at once through `pipe`, which is enlarged if it has proved to need it.
    ///
    /// None at all says nothing: the other side had no time yet.
    pub fn moved(&mut self, bytes: usize, pipe: BorrowedFd<'_>) {
        if self.is_bulk_after(bytes) {
            // Refused where the user's quota is used up: then the pipe stays as it is.
            let _ = pipe::set_size(pipe, BULK_PIPE_BYTES);
        }
    }

    /// Whether so many bytes have just proved that bulk data is moved.
    fn is_bulk_after(&mut self, bytes: usize) -> bool {
        if bytes == 0 {
            return false;
        }
        if bytes < LARGE_BYTES {
            self.score = self.score.saturating_sub(1);
            self.bulk &= self.score > 0;
            return false;
        }
        self.score = TIMES_TO_BULK.min(self.score + 1);
        self.score == TIMES_TO_BULK && !std::mem::replace(&mut self.bulk, true)
    }

    /// `bytes` bytes were cut into so many pieces.
    pub fn cut(&mut self, bytes: usize, pieces: usize) {
        self.small_pieces = pieces * SMALL_PIECE_BYTES > bytes;
    }

    /// Whether bulk data is moved.
    pub fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// Whether to read into a large chunk that the pieces then share.
    pub fn is_shared(&self) -> bool {
        self.bulk && !self.small_pieces
    }
}

#[cfg(test)]
mod tests {
    use super::{Volume, LARGE_BYTES, SMALL_PIECE_BYTES, TIMES_TO_BULK};

    #[test]
    fn bulk_data_is_moved_after_some_large_reads_until_as_many_small_ones_follow() {
        let mut volume = Volume::default();
        for _ in 1..TIMES_TO_BULK {
            assert!(!volume.is_bulk_after(LARGE_BYTES));
        }
        assert!(volume.is_bulk_after(LARGE_BYTES));
        assert!(!volume.is_bulk_after(LARGE_BYTES), "it is told once");
        for _ in 0..TIMES_TO_BULK {
            assert!(!volume.is_bulk_after(0) && volume.is_bulk());
        }
        for _ in 0..TIMES_TO_BULK {
            assert!(volume.is_shared());
            assert!(!volume.is_bulk_after(LARGE_BYTES - 1));
        }
        assert!(!volume.is_shared());
    }

    #[test]
    fn small_pieces_are_not_shared_however_many_come() {
        let mut volume = Volume::default();
        for _ in 0..TIMES_TO_BULK {
            volume.is_bulk_after(LARGE_BYTES);
        }
        volume.cut(LARGE_BYTES, LARGE_BYTES / SMALL_PIECE_BYTES + 1);
        assert!(!volume.is_shared());
        volume.cut(LARGE_BYTES, LARGE_BYTES / SMALL_PIECE_BYTES);
        assert!(volume.is_shared());
    }
}
