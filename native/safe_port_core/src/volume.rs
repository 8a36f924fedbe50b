//! Learns from the reads of a port how much its program writes, and in what pieces.

/// A read of so many bytes speaks for a program that moves bulk data, a smaller one against it.
const LARGE_READ_BYTES: usize = 16 * 1024;
/// How many more large reads than small ones make a program one that moves bulk data.
const LARGE_READS_TO_BULK: u8 = 8;
/// Pieces of fewer bytes on average are better copied than shared.
const SMALL_PIECE_BYTES: usize = 256;

/// What the reads so far have shown.
#[derive(Default)]
pub struct Volume {
    /// Large reads less small ones, from none to `LARGE_READS_TO_BULK`.
    large_reads: u8,
    bulk: bool,
    small_pieces: bool,
}

impl Volume {
    /// `bytes` bytes were read; whether that has just made the program one that moves bulk data.
    pub fn read(&mut self, bytes: usize) -> bool {
        if bytes < LARGE_READ_BYTES {
            self.large_reads = self.large_reads.saturating_sub(1);
            self.bulk &= self.large_reads > 0;
            return false;
        }
        self.large_reads = LARGE_READS_TO_BULK.min(self.large_reads + 1);
        self.large_reads == LARGE_READS_TO_BULK && !std::mem::replace(&mut self.bulk, true)
    }

    /// `bytes` bytes were cut into so many pieces.
    pub fn cut(&mut self, bytes: usize, pieces: usize) {
        self.small_pieces = pieces * SMALL_PIECE_BYTES > bytes;
    }

    /// Whether to read into a large chunk that the pieces then share.
    pub fn is_shared(&self) -> bool {
        self.bulk && !self.small_pieces
    }
}

#[cfg(test)]
mod tests {
    use super::{Volume, LARGE_READS_TO_BULK, LARGE_READ_BYTES, SMALL_PIECE_BYTES};

    #[test]
    fn a_program_moves_bulk_data_after_some_large_reads_until_as_many_small_ones_follow() {
        let mut volume = Volume::default();
        for _ in 1..LARGE_READS_TO_BULK {
            assert!(!volume.read(LARGE_READ_BYTES));
        }
        assert!(volume.read(LARGE_READ_BYTES));
        assert!(!volume.read(LARGE_READ_BYTES), "it is told once");
        for _ in 0..LARGE_READS_TO_BULK {
            assert!(volume.is_shared());
            assert!(!volume.read(LARGE_READ_BYTES - 1));
        }
        assert!(!volume.is_shared());
    }

    #[test]
    fn small_pieces_are_not_shared_however_many_come() {
        let mut volume = Volume::default();
        for _ in 0..LARGE_READS_TO_BULK {
            volume.read(LARGE_READ_BYTES);
        }
        volume.cut(LARGE_READ_BYTES, LARGE_READ_BYTES / SMALL_PIECE_BYTES + 1);
        assert!(!volume.is_shared());
        volume.cut(LARGE_READ_BYTES, LARGE_READ_BYTES / SMALL_PIECE_BYTES);
        assert!(volume.is_shared());
    }
}
