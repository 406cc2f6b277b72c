//! JSON values one after another: one per line, one after another over several lines, or the elements of an array.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::lines::{Line, Lines};
use crate::error::{ModelError, Result};
use crate::files::without_bom;

/// The values of a file as bytes, each with the number of the line on which it begins.
pub(super) type Values = Box<dyn Iterator<Item = Result<Line>> + Send>;

/// Cuts a file into its values; which way follows from the first line that is not blank.
pub(super) fn values(path: &Path) -> Result<Values> {
    let mut lines = Lines::open(path)?;
    let blank = |line: &Result<Line>| matches!(line, Ok((_, bytes)) if bytes.trim_ascii().is_empty());
    let Some(first) = lines.find(|line| !blank(line)).transpose()? else {
        return Ok(Box::new(std::iter::empty()));
    };
    let is_long = goes_on(&first.1);
    let form = if first.1.trim_ascii_start().starts_with(b"[") { Form::Opening } else { Form::Sequence };
    let path = lines.path().to_owned();
    let lines = std::iter::once(Ok(first)).chain(lines);
    if !is_long {
        let lines = lines.filter(move |line| !blank(line));
        // Files that were put together keep the mark that each began with.
        return Ok(Box::new(lines.map(|line| line.map(|(number, bytes)| (number, without_bom(&bytes).to_vec())))));
    }
    Ok(Box::new(Long { path, lines, pending: Vec::new(), at: 0, number: 0, value: Value::default(), form }))
}

/// Whether the first line holds no whole value: it opens an array, or an object that goes on in the next line.
fn goes_on(line: &[u8]) -> bool {
    match line.trim_ascii_start().first() {
        Some(b'[') => true,
        Some(b'{') => match serde_json::from_slice::<IgnoredAny>(&lenient(line)) {
            // A line break within a string is none that JSON allows: such a line is cut short.
            Err(error) => error.is_eof() && !error.to_string().contains("string"),
            Ok(_) => false,
        },
        _ => false,
    }
}

/// Where in a file one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Before the bracket of an array.
    Opening,
    /// Among the elements of the array.
    Array,
    /// Behind it.
    Closed,
    /// Among values that follow each other.
    Sequence,
    /// At the end, or at an error.
    Over,
}

/// Values that may go over several lines.
struct Long<L> {
    path: PathBuf,
    lines: L,
    /// The line at hand, how far it has been looked at, and its number.
    pending: Vec<u8>,
    at: usize,
    number: usize,
    value: Value,
    form: Form,
}

/// The value at hand.
#[derive(Default)]
struct Value {
    bytes: Vec<u8>,
    starts: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Value {
    /// Takes a byte; says whether the value ends with it. Numbers and words end before the byte that follows them (`ends_before`).
    fn take(&mut self, byte: u8) -> bool {
        self.bytes.push(byte);
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = byte == b'\\' && !self.escaped;
            return !self.in_string && self.depth == 0;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        matches!(byte, b'}' | b']') && self.depth == 0
    }

    fn ends_before(&self, byte: u8) -> bool {
        let is_plain = !self.bytes.is_empty() && self.depth == 0 && !self.in_string;
        is_plain && (byte.is_ascii_whitespace() || matches!(byte, b',' | b']'))
    }
}

impl<L: Iterator<Item = Result<Line>>> Long<L> {
    fn error(&mut self, number: usize, why: &str) -> Option<Result<Line>> {
        self.form = Form::Over;
        Some(Err(ModelError::data(&self.path, format!("line {number}: {why}"))))
    }

    fn hand_out(&mut self) -> Option<Result<Line>> {
        let value = std::mem::take(&mut self.value);
        Some(Ok((value.starts, value.bytes)))
    }

    fn end(&mut self) -> Option<Result<Line>> {
        let form = std::mem::replace(&mut self.form, Form::Over);
        if !self.value.bytes.is_empty() && (self.value.depth > 0 || self.value.in_string) {
            let why = "the value that begins here does not end: the file is not complete, copy it again";
            return self.error(self.value.starts, why);
        }
        if form == Form::Array {
            return self.error(self.number, "its array does not end: the file is not complete, copy it again");
        }
        if self.value.bytes.is_empty() { None } else { self.hand_out() }
    }
}

impl<L: Iterator<Item = Result<Line>>> Iterator for Long<L> {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.form != Form::Over {
            let Some(&byte) = self.pending.get(self.at) else {
                match self.lines.next() {
                    Some(Ok((number, bytes))) => (self.number, self.pending, self.at) = (number, bytes, 0),
                    Some(Err(error)) => return Some(Err(error)),
                    None => return self.end(),
                }
                continue;
            };
            if self.value.ends_before(byte) {
                return self.hand_out();
            }
            self.at += 1;
            if self.value.bytes.is_empty() {
                self.form = match (byte, self.form) {
                    (byte, form) if byte.is_ascii_whitespace() => form,
                    (_, Form::Opening) | (b',', Form::Array) => Form::Array,
                    (b']', Form::Array) => Form::Closed,
                    (_, Form::Closed) => return self.error(self.number, "something follows the end of the array"),
                    _ => {
                        self.value.starts = self.number;
                        if self.value.take(byte) {
                            return self.hand_out();
                        }
                        continue;
                    }
                };
            } else if self.value.take(byte) {
                return self.hand_out();
            }
        }
        None
    }
}

/// What Python's `json` takes for JSON, as JSON: `NaN` and infinities, which it writes for numbers that are none, become null, and
/// escapes of half a character (a lone surrogate, where an emoji was cut) become U+FFFD.
pub(crate) fn lenient(text: &[u8]) -> Cow<'_, [u8]> {
    lenient_with(text, b"null")
}

/// As [`lenient`], with something else than null in place of what is no number.
pub(crate) fn lenient_with<'a>(text: &'a [u8], no_number: &'a [u8]) -> Cow<'a, [u8]> {
    let mut out = Vec::new();
    let (mut kept, mut at, mut in_string) = (0, 0, false);
    let hex = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    while at < text.len() {
        let (skipped, instead): (usize, Option<&[u8]>) = match text[at] {
            b'\\' if in_string => match (hex(at), hex(at + 6)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, None),
                (Some(0xd800..=0xdfff), _) => (6, Some(b"\\ufffd".as_slice())),
                _ => (2, None),
            },
            b'"' => {
                in_string = !in_string;
                (1, None)
            }
            b'N' | b'I' | b'-' if !in_string => {
                let word =
                    [b"NaN".as_slice(), b"Infinity", b"-Infinity"].into_iter().find(|w| text[at..].starts_with(w));
                word.map_or((1, None), |word| (word.len(), Some(no_number)))
            }
            _ => (1, None),
        };
        if let Some(instead) = instead {
            out.extend_from_slice(&text[kept..at]);
            out.extend_from_slice(instead);
            kept = at + skipped;
        }
        at += skipped;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(&text[kept..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<std::result::Result<(usize, String), String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        std::fs::write(&path, text).unwrap();
        let value = |v: Result<Line>| match v {
            Ok((number, bytes)) => Ok((number, String::from_utf8(bytes).unwrap().trim_end().to_owned())),
            Err(e) => Err(e.to_string()),
        };
        values(&path).unwrap().map(value).collect()
    }

    fn of(parts: &[(usize, &str)]) -> Vec<std::result::Result<(usize, String), String>> {
        parts.iter().map(|&(number, text)| Ok((number, text.to_owned()))).collect()
    }

    #[test]
    fn values_are_lines_or_elements_or_go_over_lines() {
        let (a, b) = ("{\"a\": \"]},{\\\"\"}", "{\"b\": [1, {}]}");
        let two = of(&[(1, a), (2, b)]);
        for text in [
            format!("{a}\n{b}"),
            format!("\u{feff}{a}\r\n\u{feff}{b}\r\n"),
            format!("[{a},\n{b}]\n"),
            format!("[{a}\n,{b}\n]"),
        ] {
            assert_eq!(cut(&text), two, "{text}");
        }
        assert_eq!(cut(&format!("\n\n[\n{a},{b}\n]\n\n")), of(&[(4, a), (4, b)]));
        assert_eq!(cut("{\n\"a\":\n1}\n{\n}{}"), of(&[(1, "{\n\"a\":\n1}"), (4, "{\n}"), (5, "{}")]));
        assert_eq!(cut("[1, \"a,]\", null]"), of(&[(1, "1"), (1, "\"a,]\""), (1, "null")]));
        assert_eq!(cut("[]"), []);
        assert_eq!(cut(" \n\n"), []);
        // A line that is cut short is one bad line.
        assert_eq!(cut("{\"a\": \"x\n{}"), of(&[(1, "{\"a\": \"x"), (2, "{}")]));
    }

    #[test]
    fn what_does_not_end_is_an_error_of_the_line_where_it_begins() {
        for (text, line, why) in [
            ("[{\"a\": 1},\n{\"a\": 2}", "line 2", "its array does not end"),
            ("[{\"a\": 1},\n{\"a\":", "line 2", "does not end"),
            ("{\n\"a\": {", "line 1", "does not end"),
            ("[{}]\n{}", "line 2", "follows the end"),
        ] {
            let found = cut(text);
            let message = found.last().unwrap().as_ref().unwrap_err();
            assert!(message.contains(line) && message.contains(why), "{message}");
            assert_eq!(found.iter().filter(|v| v.is_err()).count(), 1, "{found:?}");
        }
    }

    #[test]
    fn what_python_takes_for_json_is_json() {
        for (from, to) in [
            (r#"{"a": "\ud83d", "b": NaN}"#, r#"{"a": "\ufffd", "b": null}"#),
            (r#"["\ud83d\ude00", "\udc00x\uD83D\u0041"]"#, r#"["\ud83d\ude00", "\ufffdx\ufffd\u0041"]"#),
            (
                r#"["\\ud83d", "NaN", "\"NaN", -Infinity, Infinity, -1]"#,
                r#"["\\ud83d", "NaN", "\"NaN", null, null, -1]"#,
            ),
            (r#"["\ud83d\"]"#, r#"["\ufffd\"]"#),
            ("", ""),
            (r#"["\u12"#, r#"["\u12"#),
        ] {
            assert_eq!(lenient(from.as_bytes()), to.as_bytes(), "{from}");
        }
    }
}
