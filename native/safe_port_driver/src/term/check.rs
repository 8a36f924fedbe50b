//! Checks that bytes are one well-formed term before the format's crate reads them.
//!
//! That crate trusts the counts it reads (a count of four billion items is allocated at once), recurses as deep as the
//! term goes and stops with a panic at some tags. All three would take more down than the port. It also takes atoms in
//! Latin-1, as VMs before OTP 26 send them, for UTF-8: it is given those in UTF-8.

use std::borrow::Cow;
use std::ops::Range;

use super::TermError;

/// How deep lists, tuples and maps may be nested in a term.
pub const MAX_DEPTH: usize = 256;
/// The longest atom of the VM.
pub(super) const MAX_ATOM_CHARACTERS: usize = 255;

const VERSION: u8 = 131;
const ATOM_UTF8: u8 = 118;

/// What follows a tag.
enum Body {
    /// Bytes, already passed over.
    Leaf,
    /// This many terms.
    Terms(u64),
}

/// If `bytes` are exactly one term that is safe to decode: these, without atoms in Latin-1.
pub(super) fn check(bytes: &[u8]) -> Result<Cow<'_, [u8]>, TermError> {
    let mut input = Input { bytes, at: 0, latin1: Vec::new() };
    if input.u8()? != VERSION {
        return Err(TermError::new(format!("a term begins with byte {VERSION}")));
    }
    // The terms still to come, level by level.
    let mut open: Vec<u64> = vec![1];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        if let Body::Terms(count) = input.body()? {
            // Each takes a byte at least: the counts cannot promise more than there is.
            if count > (bytes.len() - input.at) as u64 {
                return Err(input.ends_early());
            }
            if open.len() > MAX_DEPTH + 1 {
                return Err(TermError::new(format!("a term must be nested at most {MAX_DEPTH} levels deep")));
            }
            open.push(count);
        }
    }
    match bytes.len() - input.at {
        0 => Ok(input.in_utf8()),
        rest => Err(TermError::new(format!("{rest} bytes follow the term"))),
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Atoms that are not the same in UTF-8: where the tag is, and where the text.
    latin1: Vec<(usize, Range<usize>)>,
}

impl<'a> Input<'a> {
    fn body(&mut self) -> Result<Body, TermError> {
        let tag = self.u8()?;
        match tag {
            // SMALL_INTEGER, INTEGER, NEW_FLOAT, FLOAT
            97 => self.skip(1),
            98 => self.skip(4),
            70 => self.skip(8),
            99 => self.skip(31),
            // SMALL_BIG, LARGE_BIG: the sign is not counted
            110 => self.u8().and_then(|bytes| self.skip(u64::from(bytes) + 1)),
            111 => self.u32().and_then(|bytes| self.skip(u64::from(bytes) + 1)),
            // ATOM, SMALL_ATOM in Latin-1, then both in UTF-8
            100 | 115 | 118 | 119 => self.atom(tag),
            // STRING, BINARY, BIT_BINARY
            107 => self.u16().and_then(|bytes| self.skip(bytes.into())),
            109 => self.u32().and_then(|bytes| self.skip(bytes.into())),
            77 => self.bit_binary(),
            // NIL
            106 => Ok(Body::Leaf),
            // LIST and its tail, SMALL_TUPLE, LARGE_TUPLE, MAP
            108 => self.u32().map(|count| Body::Terms(u64::from(count) + 1)),
            104 => self.u8().map(|count| Body::Terms(count.into())),
            105 => self.u32().map(|count| Body::Terms(count.into())),
            116 => self.u32().map(|pairs| Body::Terms(u64::from(pairs) * 2)),
            // NEW_PID and V4_PORT, PID, NEW_PORT, PORT and REFERENCE
            88 | 120 => self.node(12),
            103 => self.node(9),
            89 => self.node(8),
            101 | 102 => self.node(5),
            // NEWER_REFERENCE, NEW_REFERENCE
            90 => self.u16().and_then(|words| self.node(4 + 4 * u64::from(words))),
            114 => self.u16().and_then(|words| self.node(1 + 4 * u64::from(words))),
            // EXPORT
            113 => Ok(Body::Terms(3)),
            _ => Err(TermError::new(format!("no term begins with tag {tag} at byte {}", self.at - 1))),
        }
    }

    /// The atom of a node, then `bytes` bytes.
    fn node(&mut self, bytes: u64) -> Result<Body, TermError> {
        let tag = self.u8()?;
        if !matches!(tag, 100 | 115 | 118 | 119) {
            return Err(TermError::new(format!("the node of a pid, port or reference is no atom: {tag}")));
        }
        self.atom(tag)?;
        self.skip(bytes)
    }

    /// What follows the tag of an atom.
    fn atom(&mut self, tag: u8) -> Result<Body, TermError> {
        let start = self.at - 1;
        let length = if matches!(tag, 100 | 118) { self.u16()? } else { self.u8()?.into() };
        let text = self.take(length.into())?;
        if matches!(tag, 100 | 115) && !text.is_ascii() {
            self.latin1.push((start, self.at - text.len()..self.at));
        }
        Ok(Body::Leaf)
    }

    fn in_utf8(&self) -> Cow<'a, [u8]> {
        let mut copied = 0;
        let mut bytes = Vec::new();
        for (start, text) in &self.latin1 {
            // A character of Latin-1 is the code point of the same number.
            let utf8: String = self.bytes[text.clone()].iter().map(|byte| char::from(*byte)).collect();
            bytes.extend(&self.bytes[copied..*start]);
            bytes.push(ATOM_UTF8);
            bytes.extend((utf8.len() as u16).to_be_bytes());
            bytes.extend(utf8.as_bytes());
            copied = text.end;
        }
        if copied == 0 {
            return Cow::Borrowed(self.bytes);
        }
        bytes.extend(&self.bytes[copied..]);
        Cow::Owned(bytes)
    }

    fn bit_binary(&mut self) -> Result<Body, TermError> {
        let length = self.u32()?;
        let bits = self.u8()?;
        if !(1..=8).contains(&bits) || length == 0 {
            return Err(TermError::new(format!("a bitstring of {length} bytes cannot end in {bits} bits")));
        }
        self.skip(length.into())
    }

    fn skip(&mut self, count: u64) -> Result<Body, TermError> {
        self.take(count).map(|_| Body::Leaf)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], TermError> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(self.ends_early()),
        }
    }

    fn number(&mut self, width: u64) -> Result<u32, TermError> {
        Ok(self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    fn u8(&mut self) -> Result<u8, TermError> {
        self.number(1).map(|value| value as u8)
    }

    fn u16(&mut self) -> Result<u16, TermError> {
        self.number(2).map(|value| value as u16)
    }

    fn u32(&mut self) -> Result<u32, TermError> {
        self.number(4)
    }

    fn ends_early(&self) -> TermError {
        TermError::new(format!("the term is longer than its {} bytes", self.bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Term;
    use super::check;

    /// Every kind of term the VM sends, made by `term_to_binary/1` of OTP 25 from
    /// `{1, 300, -5, 1.5, 1 bsl 70, abc, "hi", [a | b], <<"bin">>, <<1:3>>, #{k => v}, self(), make_ref(), fun lists:map/2}`.
    const ALL: &[u8] = &[
        131, 104, 14, 97, 1, 98, 0, 0, 1, 44, 98, 255, 255, 255, 251, 70, 63, 248, 0, 0, 0, 0, 0, 0, 110, 9,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 100, 0, 3, 97, 98, 99, 107, 0, 2, 104, 105, 108, 0, 0, 0, 1, 100, 0,
        1, 97, 100, 0, 1, 98, 109, 0, 0, 0, 3, 98, 105, 110, 77, 0, 0, 0, 1, 3, 32, 116, 0, 0, 0, 1, 100, 0,
        1, 107, 100, 0, 1, 118, 88, 100, 0, 13, 110, 111, 110, 111, 100, 101, 64, 110, 111, 104, 111, 115,
        116, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 90, 0, 3, 100, 0, 13, 110, 111, 110, 111, 100, 101, 64,
        110, 111, 104, 111, 115, 116, 0, 0, 0, 0, 0, 1, 152, 137, 87, 140, 0, 4, 105, 70, 94, 128, 113, 100,
        0, 5, 108, 105, 115, 116, 115, 100, 0, 3, 109, 97, 112, 97, 2,
    ];

    #[test]
    fn terms_of_the_vm_pass_and_decode() {
        let term = Term::decode(ALL).unwrap();
        assert_eq!(term.as_tuple().map(<[_]>::len), Some(14));
    }

    #[test]
    fn every_cut_is_refused() {
        for length in 0..ALL.len() {
            assert!(check(&ALL[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn every_changed_byte_is_refused_or_decodes_without_a_panic() {
        for at in 0..ALL.len() {
            for value in 0..=255 {
                let mut bytes = ALL.to_vec();
                bytes[at] = value;
                let _ = Term::decode(&bytes);
            }
        }
    }

    #[test]
    fn atoms_in_latin1_are_read_as_such() {
        // {'ä', 'Ã¤'}: the bytes of the second are "ä" in UTF-8.
        let bytes = [131, 104, 2, 100, 0, 1, 228, 115, 2, 195, 164];
        let term = Term::decode(&bytes).unwrap();
        assert_eq!(term, Term::tuple([Term::atom("ä"), Term::atom("Ã¤")]));
        assert_eq!(Term::decode(&term.encode().unwrap()), Ok(term));
    }

    #[test]
    fn counts_that_promise_more_than_there_is_are_refused() {
        for tag in [105, 108, 109, 111, 116] {
            assert!(check(&[131, tag, 255, 255, 255, 255, 106]).is_err(), "tag {tag}");
        }
    }

    #[test]
    fn bytes_behind_the_term_are_refused() {
        assert!(check(&[131, 106, 106]).is_err());
    }
}
