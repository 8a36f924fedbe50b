//! Reads a program's output and cuts it into pieces, with as few copies as the sizes allow.

use std::io;
use std::os::fd::BorrowedFd;

use safe_port_os::pipe;

use crate::codec::{Framing, Kind, Piece, TooLong};
use crate::volume::Volume;

/// Bytes of the buffer that small reads go through; also what a pipe holds unless it is enlarged.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// Bytes of one read from a program that has proved to move bulk data.
const BULK_BYTES: usize = 256 * 1024;

/// A buffer that finished pieces may share. The NIF's are binaries of the VM.
pub trait Chunk: Sized {
    /// A buffer of `bytes` bytes with any content; `None` if there is no memory.
    fn alloc(bytes: usize) -> Option<Self>;
    /// Grows or shrinks to `bytes` bytes; `false` if there is no memory.
    fn resize(&mut self, bytes: usize) -> bool;
    /// Its bytes.
    fn bytes(&self) -> &[u8];
    /// Its bytes, to read into.
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl Chunk for Vec<u8> {
    fn alloc(bytes: usize) -> Option<Self> {
        Some(vec![0; bytes])
    }
    fn resize(&mut self, bytes: usize) -> bool {
        Vec::resize(self, bytes, 0);
        true
    }
    fn bytes(&self) -> &[u8] {
        self
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Memory that a thread lends to each read it makes, so that an idle port holds none.
pub struct Scratch {
    bytes: Box<[u8]>,
    /// The pieces that the last read yielded.
    pub pieces: Vec<Piece>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { bytes: vec![0; SCRATCH_BYTES].into_boxed_slice(), pieces: Vec::new() }
    }
}

impl Scratch {
    /// The bytes that pieces from [`Source::Scratch`] point into.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Where the bytes of the pieces are.
pub enum Source<C> {
    /// In the scratch memory: copy them.
    Scratch,
    /// In the reader's carry: copy them.
    Carry,
    /// In a chunk of their own, which may be handed on with them.
    Chunk(C),
}

/// How many pieces one read may yield.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    most: usize,
    about: usize,
}

impl Limit {
    /// No more than `most`.
    pub fn most(most: usize) -> Limit {
        Limit { most, about: usize::MAX }
    }

    /// No more than `most`, and about `about` if there are more: the last few are not left for a read of their own.
    pub fn about(about: usize, most: usize) -> Limit {
        Limit { most, about }
    }

    /// Whether `pieces` are enough, which took `used` bytes and left `rest`.
    fn is_reached(self, pieces: usize, used: usize, rest: usize) -> bool {
        pieces >= self.most || (pieces >= self.about && rest > used / 4)
    }
}

/// What the reader can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read again at once: there may be more.
    More,
    /// Wait until the descriptor is readable.
    Wait,
    /// Nothing will come any more.
    Eof,
}

/// What one read brought, beside the pieces in the scratch memory.
pub struct Outcome<C> {
    /// Where the bytes of the pieces are.
    pub source: Source<C>,
    /// What to do next.
    pub next: Next,
}

/// Why a port cannot read on.
#[derive(Debug)]
pub enum ReadError {
    /// `read(2)` failed.
    Os(io::Error),
    /// A packet is longer than the port accepts.
    TooLong(TooLong),
    /// There is no memory for a packet of this many bytes.
    NoMemory(usize),
}

/// A frame longer than the scratch memory, read into a chunk of its own.
struct Long<C> {
    chunk: C,
    filled: usize,
    frame: usize,
}

/// The reading side of a port.
pub struct Reader<C> {
    framing: Framing,
    /// Bytes read but not cut yet, from `start` on; `scanned` of them hold no newline.
    carry: Vec<u8>,
    start: usize,
    scanned: usize,
    /// Whether the carry may hold whole pieces, because the last read was limited.
    whole: bool,
    long: Option<Long<C>>,
    volume: Volume,
    /// Bytes that may still be read; `None` while the program runs.
    left: Option<usize>,
    eof: bool,
    input: u64,
}

impl<C: Chunk> Reader<C> {
    /// A reader that cuts by `framing`.
    pub fn new(framing: Framing) -> Self {
        Reader {
            framing,
            carry: Vec::new(),
            start: 0,
            scanned: 0,
            whole: false,
            long: None,
            volume: Volume::default(),
            left: None,
            eof: false,
            input: 0,
        }
    }

    /// Payload bytes that came so far: newlines count, prefixes do not (contract I8).
    pub fn input(&self) -> u64 {
        self.input
    }

    /// Whether the end of the input was reached.
    pub fn is_eof(&self) -> bool {
        self.eof
    }

    /// Whether the program ended, see [`Reader::end_after`].
    pub fn is_ending(&self) -> bool {
        self.left.is_some()
    }

    /// The program ended: only the `bytes` that were in the pipe then are still its own.
    pub fn end_after(&mut self, bytes: usize) {
        self.left.get_or_insert(bytes);
    }

    /// The bytes that pieces from [`Source::Carry`] point into.
    pub fn carry(&self) -> &[u8] {
        &self.carry
    }

    /// Reads once at most and cuts pieces into `scratch.pieces`, as many as `limit` says.
    pub fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        scratch: &mut Scratch,
        limit: Limit,
    ) -> Result<Outcome<C>, ReadError> {
        scratch.pieces.clear();
        if self.start == self.carry.len() {
            self.keep(&[]);
        }
        if self.whole && self.cut_carry(&mut scratch.pieces, limit)? {
            return Ok(Outcome { source: Source::Carry, next: Next::More });
        }
        if self.eof || self.left == Some(0) {
            return Ok(self.end(&mut scratch.pieces, limit));
        }
        let rest = self.carry.len() - self.start;
        let frame = self.framing.frame_length(&self.carry[self.start..]);
        if self.long.is_some() || frame.is_some_and(|frame| frame > SCRATCH_BYTES / 2) {
            return self.read_long(fd, scratch, frame.unwrap_or(0));
        }
        if rest >= SCRATCH_BYTES / 2 {
            return self.read_line(fd, scratch, limit);
        }
        if self.volume.is_shared() {
            return self.read_bulk(fd, scratch, limit);
        }
        scratch.bytes[..rest].copy_from_slice(&self.carry[self.start..]);
        let want = self.want(SCRATCH_BYTES - rest);
        let Some(count) = self.fill(fd, &mut scratch.bytes[rest..rest + want])? else {
            return Ok(waiting());
        };
        if count == 0 {
            return Ok(self.end(&mut scratch.pieces, limit));
        }
        self.volume.moved(count, fd);
        let filled = rest + count;
        let at = self.cut(&scratch.bytes[..filled], &mut scratch.pieces, limit)?;
        self.keep(&scratch.bytes[at..filled]);
        Ok(Outcome { source: Source::Scratch, next: self.next(count == want) })
    }

    /// Reads into a large chunk that its pieces then share.
    fn read_bulk(
        &mut self,
        fd: BorrowedFd<'_>,
        scratch: &mut Scratch,
        limit: Limit,
    ) -> Result<Outcome<C>, ReadError> {
        let rest = self.carry.len() - self.start;
        let want = self.want(BULK_BYTES);
        let mut chunk = C::alloc(rest + want).ok_or(ReadError::NoMemory(rest + want))?;
        chunk.bytes_mut()[..rest].copy_from_slice(&self.carry[self.start..]);
        let Some(count) = self.fill(fd, &mut chunk.bytes_mut()[rest..])? else { return Ok(waiting()) };
        if count == 0 {
            return Ok(self.end(&mut scratch.pieces, limit));
        }
        self.volume.moved(count, fd);
        let filled = rest + count;
        let at = self.cut(&chunk.bytes()[..filled], &mut scratch.pieces, limit)?;
        self.keep(&chunk.bytes()[at..filled]);
        if filled < chunk.bytes().len() && !chunk.resize(filled) {
            return Err(ReadError::NoMemory(filled));
        }
        Ok(Outcome { source: Source::Chunk(chunk), next: self.next(count == want) })
    }

    /// Reads on in a frame that is longer than the scratch memory, and nothing behind it.
    fn read_long(
        &mut self,
        fd: BorrowedFd<'_>,
        scratch: &mut Scratch,
        frame: usize,
    ) -> Result<Outcome<C>, ReadError> {
        let mut long = match self.long.take() {
            Some(long) => long,
            None => self.begin_long(frame)?,
        };
        // Grown as the bytes come: an announced length alone must not take memory.
        if long.filled == long.chunk.bytes().len() {
            let bytes = long.frame.min(long.filled * 2);
            if !long.chunk.resize(bytes) {
                return Err(ReadError::NoMemory(bytes));
            }
        }
        let want = self.want((long.chunk.bytes().len() - long.filled).min(BULK_BYTES));
        let read = self.fill(fd, &mut long.chunk.bytes_mut()[long.filled..long.filled + want])?;
        let Some(count) = read else {
            self.long = Some(long);
            return Ok(waiting());
        };
        if count == 0 {
            return Ok(self.end(&mut scratch.pieces, Limit::most(1)));
        }
        self.volume.moved(count, fd);
        long.filled += count;
        let next = self.next(count == want);
        if long.filled < long.frame {
            self.long = Some(long);
            return Ok(Outcome { source: Source::Scratch, next });
        }
        self.cut(long.chunk.bytes(), &mut scratch.pieces, Limit::most(1))?;
        Ok(Outcome { source: Source::Chunk(long.chunk), next })
    }

    fn begin_long(&mut self, frame: usize) -> Result<Long<C>, ReadError> {
        // Checks the length against the port's limit before any memory is taken for it.
        let mut at = 0;
        self.framing.split(&self.carry[self.start..], &mut at, 0).map_err(ReadError::TooLong)?;
        let filled = self.carry.len() - self.start;
        let bytes = frame.min(BULK_BYTES.max(filled));
        let mut chunk = C::alloc(bytes).ok_or(ReadError::NoMemory(bytes))?;
        chunk.bytes_mut()[..filled].copy_from_slice(&self.carry[self.start..]);
        self.keep(&[]);
        Ok(Long { chunk, filled, frame })
    }

    /// Reads on behind a long unfinished line, in the carry itself.
    fn read_line(
        &mut self,
        fd: BorrowedFd<'_>,
        scratch: &mut Scratch,
        limit: Limit,
    ) -> Result<Outcome<C>, ReadError> {
        let want = self.want(SCRATCH_BYTES);
        let Some(count) = self.fill(fd, &mut scratch.bytes[..want])? else { return Ok(waiting()) };
        if count == 0 {
            return Ok(self.end(&mut scratch.pieces, limit));
        }
        self.carry.drain(..std::mem::take(&mut self.start));
        self.carry.extend_from_slice(&scratch.bytes[..count]);
        self.cut_carry(&mut scratch.pieces, limit)?;
        Ok(Outcome { source: Source::Carry, next: self.next(count == want) })
    }

    /// How many bytes to ask for, out of `room`.
    fn want(&self, room: usize) -> usize {
        self.left.map_or(room, |left| left.min(room))
    }

    /// One `read(2)`; `None` if nothing is there yet.
    fn fill(&mut self, fd: BorrowedFd<'_>, room: &mut [u8]) -> Result<Option<usize>, ReadError> {
        match pipe::read(fd, room) {
            Ok(count) => {
                if let Some(left) = &mut self.left {
                    *left -= count;
                }
                if !matches!(self.framing, Framing::Packet { .. }) {
                    self.input += count as u64;
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(ReadError::Os(error)),
        }
    }

    /// Cuts pieces from `input`, as many as `limit` says; returns where the rest begins.
    fn cut(&mut self, input: &[u8], pieces: &mut Vec<Piece>, limit: Limit) -> Result<usize, ReadError> {
        let end = self.cut_from(input, 0, pieces, limit)?;
        self.volume.cut(end, pieces.len());
        Ok(end)
    }

    fn cut_from(
        &mut self,
        input: &[u8],
        start: usize,
        pieces: &mut Vec<Piece>,
        limit: Limit,
    ) -> Result<usize, ReadError> {
        let mut at = start;
        let packets = matches!(self.framing, Framing::Packet { .. });
        let mut scanned = std::mem::take(&mut self.scanned);
        self.whole = false;
        while !limit.is_reached(pieces.len(), at - start, input.len() - at) {
            match self.framing.split(input, &mut at, scanned) {
                Ok(Some(piece)) => {
                    self.input += if packets { piece.range.len() as u64 } else { 0 };
                    pieces.push(piece);
                }
                Ok(None) => {
                    self.scanned = input.len() - at;
                    return Ok(at);
                }
                // What came before the packet that is too long is delivered first.
                Err(_) if !pieces.is_empty() => break,
                Err(too_long) => return Err(ReadError::TooLong(too_long)),
            }
            scanned = 0;
        }
        self.whole = at < input.len();
        Ok(at)
    }

    /// Cuts from the carry; whether that gave anything.
    fn cut_carry(&mut self, pieces: &mut Vec<Piece>, limit: Limit) -> Result<bool, ReadError> {
        let carry = std::mem::take(&mut self.carry);
        let cut = self.cut_from(&carry, self.start, pieces, limit);
        self.carry = carry;
        self.start = cut?;
        Ok(!pieces.is_empty())
    }

    /// Keeps `rest` for the next read.
    fn keep(&mut self, rest: &[u8]) {
        self.start = 0;
        if rest.is_empty() {
            // An idle port holds no memory.
            self.carry = Vec::new();
        } else {
            self.carry.clear();
            self.carry.extend_from_slice(rest);
        }
    }

    /// The input is over: an unfinished line is delivered, an unfinished packet dropped (contract I3 and I6).
    fn end(&mut self, pieces: &mut Vec<Piece>, limit: Limit) -> Outcome<C> {
        self.eof = true;
        self.long = None;
        if let Framing::Line { max } = self.framing {
            while self.start < self.carry.len() && pieces.len() < limit.most {
                let end = self.carry.len().min(self.start.saturating_add(max));
                pieces.push(Piece { range: self.start..end, kind: Kind::Noeol });
                self.start = end;
            }
            if self.start < self.carry.len() {
                return Outcome { source: Source::Carry, next: Next::More };
            }
        }
        Outcome { source: Source::Carry, next: Next::Eof }
    }

    fn next(&self, full: bool) -> Next {
        if full || self.whole {
            Next::More
        } else {
            Next::Wait
        }
    }
}

fn waiting<C>() -> Outcome<C> {
    Outcome { source: Source::Scratch, next: Next::Wait }
}
