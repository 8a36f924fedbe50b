//! Cuts the bytes of a program into pieces and frames the bytes sent to it. Pure: no descriptors, no terms.

use std::ops::Range;

/// Width in bytes of the length in front of each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// One byte: packets of up to 255 bytes.
    One = 1,
    /// Two bytes: packets of up to 65,535 bytes.
    Two = 2,
    /// Four bytes: packets of up to 4,294,967,295 bytes.
    Four = 4,
}

impl Prefix {
    /// The prefix of `bytes` bytes; only 1, 2 and 4 exist.
    pub fn new(bytes: usize) -> Option<Prefix> {
        match bytes {
            1 => Some(Prefix::One),
            2 => Some(Prefix::Two),
            4 => Some(Prefix::Four),
            _ => None,
        }
    }

    /// The longest packet this prefix can announce, in bytes.
    pub fn max_packet(self) -> usize {
        match self {
            Prefix::One => 0xff,
            Prefix::Two => 0xffff,
            Prefix::Four => 0xffff_ffff,
        }
    }
}

/// Byte order of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Most significant byte first, as the built-in ports have it.
    Big,
    /// Least significant byte first.
    Little,
}

/// How the bytes of one direction are cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Chunks as they were read.
    Stream,
    /// Packets behind a length prefix.
    Packet {
        /// Width of the length.
        prefix: Prefix,
        /// Byte order of the length.
        endian: Endian,
        /// The longest packet that is accepted from the program, in bytes.
        max: usize,
    },
    /// Lines of at most `max` bytes; longer ones come in several pieces.
    Line {
        /// The longest piece, in bytes, without its newline.
        max: usize,
    },
}

/// What a piece is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A chunk or a packet.
    Whole,
    /// The end of a line; its newline is not part of the piece.
    Eol,
    /// Part of a line that goes on in the next piece.
    Noeol,
}

/// One piece, as a range of the input it was cut from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where its bytes are.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// The program announced a packet longer than the port accepts: there is no way to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The announced length in bytes.
    pub bytes: usize,
}

/// The data of a command does not fit the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversized;

impl Framing {
    /// Cuts the next piece from `input`, starting at `*at`, and moves `*at` past it.
    ///
    /// `None` means that what is left is not a whole piece yet. `scanned` bytes after `*at` are known to hold no
    /// newline, so that a long line is not searched again with each read.
    #[inline]
    pub fn split(self, input: &[u8], at: &mut usize, scanned: usize) -> Result<Option<Piece>, TooLong> {
        let start = *at;
        let rest = &input[start..];
        match self {
            Framing::Stream if rest.is_empty() => Ok(None),
            Framing::Stream => {
                *at = input.len();
                Ok(Some(Piece { range: start..input.len(), kind: Kind::Whole }))
            }
            Framing::Packet { prefix, endian, max } => {
                let Some(length) = announced(rest, prefix, endian) else { return Ok(None) };
                if length > max {
                    return Err(TooLong { bytes: length });
                }
                let body = start + prefix as usize;
                if input.len() - body < length {
                    return Ok(None);
                }
                *at = body + length;
                Ok(Some(Piece { range: body..*at, kind: Kind::Whole }))
            }
            Framing::Line { max } => Ok(split_line(rest, max, scanned).map(|(length, used, kind)| {
                *at = start + used;
                Piece { range: start..start + length, kind }
            })),
        }
    }

    /// The whole length of the frame that `input` begins, prefix included, as far as it can be told.
    pub fn frame_length(self, input: &[u8]) -> Option<usize> {
        match self {
            Framing::Packet { prefix, endian, .. } => {
                announced(input, prefix, endian).map(|length| prefix as usize + length)
            }
            Framing::Stream | Framing::Line { .. } => None,
        }
    }

    /// The prefix for a command of `length` bytes: the bytes and how many of them count.
    pub fn header(self, length: usize) -> Result<Header, Oversized> {
        match self {
            Framing::Packet { prefix, endian, .. } if length <= prefix.max_packet() => {
                let width = prefix as usize;
                let mut bytes = [0; 4];
                match endian {
                    Endian::Big => {
                        bytes[..width].copy_from_slice(&(length as u32).to_be_bytes()[4 - width..]);
                    }
                    Endian::Little => bytes[..width].copy_from_slice(&(length as u32).to_le_bytes()[..width]),
                }
                Ok(Header { bytes, width })
            }
            Framing::Packet { .. } => Err(Oversized),
            Framing::Stream | Framing::Line { .. } => Ok(Header { bytes: [0; 4], width: 0 }),
        }
    }
}

/// What goes in front of the data of a command; empty unless packets are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; 4],
    width: usize,
}

impl Header {
    /// The bytes to send.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.width]
    }
}

/// The length that the prefix at the front of `bytes` announces, if it is whole.
#[inline]
fn announced(bytes: &[u8], prefix: Prefix, endian: Endian) -> Option<usize> {
    let number = match prefix {
        Prefix::One => u32::from(*bytes.first()?),
        Prefix::Two => {
            let bytes = *bytes.first_chunk()?;
            u32::from(if endian == Endian::Big {
                u16::from_be_bytes(bytes)
            } else {
                u16::from_le_bytes(bytes)
            })
        }
        Prefix::Four => {
            let bytes = *bytes.first_chunk()?;
            if endian == Endian::Big {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        }
    };
    Some(number as usize)
}

/// The length of the next piece of a line, the bytes it uses up, and its kind.
///
/// A newline is `\n` or `\r\n`. A piece is cut off after `max` bytes only when the byte behind it can no longer belong
/// to a newline (contract I4 and I5).
#[inline]
fn split_line(input: &[u8], max: usize, scanned: usize) -> Option<(usize, usize, Kind)> {
    // A newline behind the first `max` + 2 bytes (`\r\n`) is of no interest to this piece.
    let window = &input[..input.len().min(max.saturating_add(2))];
    let from = scanned.min(window.len());
    if let Some(newline) = memchr::memchr(b'\n', &window[from..]).map(|index| from + index) {
        let carriage_return = newline > 0 && window[newline - 1] == b'\r';
        let length = newline - usize::from(carriage_return);
        if length <= max {
            return Some((length, newline + 1, Kind::Eol));
        }
        return Some((max, max, Kind::Noeol));
    }
    let next = *input.get(max)?;
    if next == b'\r' && input.len() == max + 1 {
        return None;
    }
    Some((max, max, Kind::Noeol))
}
