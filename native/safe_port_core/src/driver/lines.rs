//! Cuts a driver's output into lines, for ports that are opened with `:line`.

use crate::codec::{Framing, Kind};

/// What is left of the line that has not ended yet.
pub(super) struct Lines {
    framing: Option<Framing>,
    rest: Vec<u8>,
}

impl Lines {
    /// Lines of at most `max` bytes; `None` for output as it comes.
    pub fn new(max: Option<usize>) -> Lines {
        Lines { framing: max.map(|max| Framing::Line { max }), rest: Vec::new() }
    }

    /// Gives the pieces that `data` completes to `deliver`.
    pub fn cut(&mut self, data: &[u8], mut deliver: impl FnMut(Kind, &[u8])) {
        let Some(framing) = self.framing else { return deliver(Kind::Whole, data) };
        // The last byte of the rest may be the `\r` of a newline.
        let mut scanned = self.rest.len().saturating_sub(1);
        self.rest.extend_from_slice(data);
        let mut at = 0;
        // Lines are never refused.
        while let Ok(Some(piece)) = framing.split(&self.rest, &mut at, scanned) {
            deliver(piece.kind, &self.rest[piece.range]);
            scanned = 0;
        }
        self.rest.drain(..at);
    }

    /// Gives out the line that was not ended.
    pub fn flush(&mut self, mut deliver: impl FnMut(Kind, &[u8])) {
        let rest = std::mem::take(&mut self.rest);
        if let Some(Framing::Line { max }) = self.framing {
            rest.chunks(max).for_each(|piece| deliver(Kind::Noeol, piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use crate::codec::Kind;

    fn pieces(lines: &mut Lines, data: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let mut pieces = Vec::new();
        lines.cut(data, |kind, piece| pieces.push((kind, piece.to_vec())));
        pieces
    }

    #[test]
    fn a_line_is_put_together_from_several_outputs() {
        let mut lines = Lines::new(Some(5));
        assert_eq!(pieces(&mut lines, b"ab"), []);
        assert_eq!(pieces(&mut lines, b"c\r"), []);
        assert_eq!(pieces(&mut lines, b"\nde"), [(Kind::Eol, b"abc".to_vec())]);
        assert_eq!(
            pieces(&mut lines, b"fghi\n"),
            [(Kind::Noeol, b"defgh".to_vec()), (Kind::Eol, b"i".to_vec())]
        );
        assert_eq!(pieces(&mut lines, b"rest"), []);
        let mut rest = Vec::new();
        lines.flush(|kind, piece| rest.push((kind, piece.to_vec())));
        assert_eq!(rest, [(Kind::Noeol, b"rest".to_vec())]);
    }

    #[test]
    fn without_lines_output_comes_as_it_is() {
        let mut lines = Lines::new(None);
        assert_eq!(pieces(&mut lines, b"a\nb"), [(Kind::Whole, b"a\nb".to_vec())]);
        assert_eq!(pieces(&mut lines, b""), [(Kind::Whole, Vec::new())]);
    }
}
