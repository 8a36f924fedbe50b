//! An environment in one piece.

use std::ffi::{c_char, CStr};

/// Strings one after the other, each followed by a NUL: what `/proc/<pid>/environ` shows.
#[derive(Debug)]
pub struct Block(Vec<u8>);

impl Block {
    /// The strings of `bytes`; the NUL of the last one may be missing.
    pub fn new(mut bytes: Vec<u8>) -> Block {
        if bytes.last().is_some_and(|last| *last != 0) {
            bytes.push(0);
        }
        Block(bytes)
    }

    fn strings(&self) -> impl Iterator<Item = &CStr> {
        // Each piece ends with the one NUL it has.
        self.0.split_inclusive(|byte| *byte == 0).filter_map(|string| CStr::from_bytes_with_nul(string).ok())
    }

    /// Where its strings are, for as long as the block is neither changed nor dropped.
    pub(super) fn pointers(&self) -> impl Iterator<Item = *const c_char> + '_ {
        self.strings().map(CStr::as_ptr)
    }
}

#[cfg(test)]
mod tests {
    use super::Block;

    #[test]
    fn a_block_has_the_strings_that_it_was_made_of() {
        let strings = |bytes: &[u8]| -> Vec<Vec<u8>> {
            Block::new(bytes.to_vec()).strings().map(|string| string.to_bytes().to_vec()).collect()
        };
        assert_eq!(strings(b"A=1\0\0B=\0"), [&b"A=1"[..], b"", b"B="]);
        assert_eq!(strings(b"A=1\0B=2"), [b"A=1", b"B=2"]);
        assert_eq!(strings(b""), [b""; 0]);
    }
}
