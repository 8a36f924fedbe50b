//! Bytes that several holders share without copying them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A shared, immutable run of bytes: what an `ErlDrvBinary` with an offset is to a C driver.
///
/// A clone and a [`slice`](Bytes::slice) share the memory; it is freed with the last of them. The data of
/// [`Driver::outputv`](crate::Driver::outputv) comes as such, so that a driver can keep it or queue it without a copy.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// The bytes of `owner`, which lives until the last clone is gone.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Bytes {
        let range = 0..owner.as_ref().len();
        Bytes { owner: Arc::new(owner), range }
    }

    /// A part of these bytes, sharing their memory; `None` if `range` reaches beyond them.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        self.get(range.clone())?;
        let start = self.range.start + range.start;
        Some(Bytes { owner: Arc::clone(&self.owner), range: start..start + range.len() })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // An owner whose length changes is a mistake of its author: it must not become a panic here.
        (*self.owner).as_ref().get(self.range.clone()).unwrap_or(&[])
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        Bytes::from_owner(bytes.to_vec())
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn a_slice_shares_the_memory_of_its_whole() {
        let whole = Bytes::from(b"abcdef".to_vec());
        let part = whole.slice(1..5).and_then(|part| part.slice(1..3)).unwrap();
        assert_eq!(&part[..], b"cd");
        assert_eq!(part.as_ptr(), whole[2..].as_ptr());
    }

    #[test]
    fn a_slice_beyond_the_end_is_refused() {
        let bytes = Bytes::from(b"abc".to_vec());
        assert_eq!(bytes.slice(2..4), None);
        assert_eq!(bytes.slice(3..3).as_deref(), Some(&b""[..]));
    }
}
