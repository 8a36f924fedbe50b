//! Numbers, byte strings and lists as bytes, and back.

use std::fmt;

/// Why a frame could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends inside a field.
    Short {
        /// Bytes the field needs.
        expected: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// A tag or choice that the protocol does not have.
    Unknown {
        /// Which tag.
        what: &'static str,
        /// Its value.
        value: u8,
    },
    /// Bytes are left over behind the last field.
    Trailing(usize),
    /// A frame announces more bytes than [`MAX_FRAME_BYTES`](crate::MAX_FRAME_BYTES).
    TooLong(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { expected, found } => {
                write!(f, "a field needs {expected} bytes, {found} are left in the frame")
            }
            Self::Unknown { what, value } => write!(f, "there is no {what} {value}"),
            Self::Trailing(bytes) => write!(f, "{bytes} bytes are left over behind the last field"),
            Self::TooLong(bytes) => {
                write!(f, "a frame of {bytes} bytes, the limit is {}", crate::MAX_FRAME_BYTES)
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends a frame to `out`: its length, then what `body` appends.
pub(crate) fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let bytes = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_u32(out, items.len() as u32);
    for item in items {
        put(out, item);
    }
}

pub(crate) fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// Takes the fields of a frame one by one.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let short = DecodeError::Short { expected: bytes, found: self.0.len() };
        let (field, rest) = self.0.split_at_checked(bytes).ok_or(short)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, DecodeError> {
        let bytes = self.u32()? as usize;
        self.take(bytes).map(<[u8]>::to_vec)
    }

    pub fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        // Not allocated in advance: the announced number is only as good as the bytes that follow.
        (0..self.u32()?).map(|_| item(self)).collect()
    }

    pub fn option<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => item(self).map(Some),
            value => Err(DecodeError::Unknown { what: "presence flag", value }),
        }
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.0.len()))
        }
    }
}
