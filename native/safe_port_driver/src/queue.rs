//! The queue of a port: data the driver still has to get rid of.

use std::collections::VecDeque;

use crate::bytes::Bytes;

/// Bytes in order, in pieces that are shared and not copied.
#[derive(Default)]
pub(crate) struct Queue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// The bytes in it.
    pub(crate) fn size(&self) -> usize {
        self.bytes
    }

    /// Adds `piece` at the tail.
    pub(crate) fn push_back(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Adds `piece` in front of everything else.
    pub(crate) fn push_front(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_front(piece);
        }
    }

    /// Removes `count` bytes from the head; `false`, and nothing removed, if there are fewer.
    pub(crate) fn remove(&mut self, count: usize) -> bool {
        if count > self.bytes {
            return false;
        }
        self.bytes -= count;
        let mut left = count;
        while let Some(piece) = self.pieces.pop_front() {
            if piece.len() > left {
                if let Some(rest) = piece.slice(left..piece.len()) {
                    self.pieces.push_front(rest);
                }
                break;
            }
            left -= piece.len();
        }
        true
    }

    /// Its pieces, head first.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        self.pieces.iter().cloned().collect()
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Queue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::bytes::Bytes;

    fn bytes(queue: &Queue) -> Vec<u8> {
        queue.pieces().concat()
    }

    fn piece(bytes: &[u8]) -> Bytes {
        Bytes::from(bytes)
    }

    #[test]
    fn remove_takes_whole_pieces_and_the_head_of_the_next() {
        let mut queue = Queue::default();
        queue.push_back(piece(b"cde"));
        queue.push_back(piece(b"fgh"));
        queue.push_front(piece(b"ab"));
        assert_eq!(queue.size(), 8);
        assert!(queue.remove(3));
        assert_eq!((bytes(&queue), queue.size()), (b"defgh".to_vec(), 5));
        assert!(queue.remove(5));
        assert_eq!((bytes(&queue), queue.size()), (Vec::new(), 0));
    }

    #[test]
    fn remove_of_more_than_there_is_changes_nothing() {
        let mut queue = Queue::default();
        queue.push_back(piece(b"ab"));
        assert!(!queue.remove(3));
        assert_eq!(bytes(&queue), b"ab");
    }

    #[test]
    fn empty_pieces_are_not_kept() {
        let mut queue = Queue::default();
        queue.push_back(piece(b""));
        queue.push_front(piece(b""));
        assert!(queue.pieces().is_empty());
    }
}
