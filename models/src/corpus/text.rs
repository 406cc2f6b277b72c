//! Plain text: a file is one document; NUL bytes separate several.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::lines::{Lines, utf8};
use super::{Piece, Pieces, failed};
use crate::error::Result;

/// Bytes after which a document may be cut, at the end of a line.
const PIECE: usize = 1 << 18;

pub(super) fn documents(path: PathBuf, cut: bool) -> Pieces {
    match Lines::of_text(&path) {
        Ok(lines) => Box::new(TextFile {
            lines: lines.map(move |line| utf8(&path, line?)),
            piece: if cut { PIECE } else { usize::MAX },
            stretches: VecDeque::new(),
            pending: String::new(),
            starts: true,
        }),
        Err(e) => failed(e),
    }
}

struct TextFile<L> {
    lines: L,
    /// Bytes after which a document is cut.
    piece: usize,
    /// Of the line at hand what has not been looked at, between NULs; each but the last ends a document.
    stretches: VecDeque<String>,
    /// Of the document at hand what has been read and not handed out.
    pending: String,
    /// Whether `pending` is the start of its document.
    starts: bool,
}

impl<L> TextFile<L> {
    /// Hands out what is pending, up to some byte.
    fn hand_out(&mut self, end: usize) -> Piece {
        let rest = self.pending.split_off(end);
        Piece { text: std::mem::replace(&mut self.pending, rest), starts: std::mem::replace(&mut self.starts, false) }
    }

    fn end_document(&mut self) -> Option<Piece> {
        let piece = (!self.pending.is_empty()).then(|| self.hand_out(self.pending.len()));
        self.starts = true;
        piece
    }
}

impl<L: Iterator<Item = Result<String>>> Iterator for TextFile<L> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(stretch) = self.stretches.pop_front() {
                self.pending.push_str(&stretch);
                if !self.stretches.is_empty() {
                    if let Some(piece) = self.end_document() {
                        return Some(Ok(piece));
                    }
                } else if self.pending.len() >= self.piece {
                    // Before the white space at the line's end: no token goes across (`TextTokenizer::cuts`).
                    let end = self.pending.trim_end().len();
                    if end > 0 {
                        return Some(Ok(self.hand_out(end)));
                    }
                }
                continue;
            }
            match self.lines.next() {
                Some(Ok(line)) => self.stretches.extend(line.split('\0').map(str::to_owned)),
                Some(Err(e)) => return Some(Err(e)),
                None => return self.end_document().map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, piece: usize) -> Vec<(String, bool)> {
        let lines = text.split_inclusive('\n').map(|line| Ok(line.to_owned()));
        let file = TextFile { lines, piece, stretches: VecDeque::new(), pending: String::new(), starts: true };
        file.map(|p| p.map(|p| (p.text, p.starts)).unwrap()).collect()
    }

    #[test]
    fn documents_lie_between_nuls() {
        let of = |parts: &[&str]| parts.iter().map(|p| ((*p).to_owned(), true)).collect::<Vec<_>>();
        assert_eq!(pieces("a\nb\0c\n\0\0d", usize::MAX), of(&["a\nb", "c\n", "d"]));
        assert_eq!(pieces("", usize::MAX), []);
        assert_eq!(pieces("\0", usize::MAX), []);
    }

    #[test]
    fn long_documents_are_cut_before_the_white_space_at_the_end_of_a_line() {
        let of = |parts: &[(&str, bool)]| parts.iter().map(|&(p, s)| (p.to_owned(), s)).collect::<Vec<_>>();
        assert_eq!(
            pieces("ab \r\n\ncd\ne\0f", 2),
            of(&[("ab", true), (" \r\n\ncd", false), ("\ne", false), ("f", true)])
        );
        // Blank lines are not cut off by themselves.
        assert_eq!(pieces("\n\n\n\na\n", 1), of(&[("\n\n\n\na", true), ("\n", false)]));
        for size in 1..20 {
            let text = "one\n\n  two\r\nthree four\n";
            assert_eq!(pieces(text, size).into_iter().map(|(p, _)| p).collect::<String>(), text);
        }
    }
}
