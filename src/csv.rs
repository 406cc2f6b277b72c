//! Comma-separated values as RFC 4180 has them: a cell in quotation marks may hold commas, line ends and doubled quotation marks.

use std::fmt;

use csv_core::{ReadFieldResult, Reader};

/// A row of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line that it begins on, from 1.
    pub line: usize,
    /// Its cells, without their quotation marks.
    pub cells: Vec<String>,
}

/// What can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The line that its row begins on, from 1: where a quotation mark is open, no later line can be told from the cell.
    pub line: usize,
    /// The cell's number in the row, from 0.
    pub cell: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.cell + 1, self.what)
    }
}

impl std::error::Error for Damage {}

/// The rows of a text; blank lines are none, and after damage there are no more.
pub fn rows(text: &str) -> impl Iterator<Item = Result<Row, Damage>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut line, mut reader) = (1, Reader::new());
    // No cell is longer than what it is read from.
    let mut cell = vec![0; rest.len()];
    std::iter::from_fn(move || {
        let begins = rest.trim_start_matches(['\r', '\n']);
        line += lines(&rest[..rest.len() - begins.len()]);
        if begins.is_empty() {
            return None;
        }
        reader.reset();
        let row = row(&mut reader, begins, &mut cell);
        let row = row.map_err(|(cell, what)| Damage { line, cell, what }).map(|(cells, read)| {
            let row = Row { line, cells };
            (line, rest) = (line + lines(&begins[..read]), &begins[read..]);
            row
        });
        if row.is_err() {
            rest = "";
        }
        Some(row)
    })
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

/// The first row of a text, with the bytes that it takes; or the cell that is damaged, and how.
fn row(reader: &mut Reader, text: &str, buffer: &mut [u8]) -> Result<(Vec<String>, usize), (usize, &'static str)> {
    let (mut cells, mut at) = (Vec::new(), 0);
    loop {
        let (mut found, read, written) = reader.read_field(&text.as_bytes()[at..], buffer);
        let is_last = found == ReadFieldResult::InputEmpty;
        if is_last {
            // The end of the text ends the cell, too.
            (found, ..) = reader.read_field(&[], &mut buffer[written..]);
        }
        let cell = String::from_utf8_lossy(&buffer[..written]).into_owned();
        // With what ends it, a comma or the end of a line, which the end of the text is not.
        let raw = &text[at..at + read];
        let raw = if is_last { raw } else { raw.strip_suffix([',', '\r', '\n']).unwrap_or(raw) };
        // The reader takes quotation marks as they come; by the rules there are two around a cell, two for each inside, and no others.
        let is_quoted = raw.starts_with('"');
        let is_whole = !is_quoted || (raw.len() > 1 && raw.ends_with('"'));
        let marks = |text: &str| text.matches('"').count();
        if !is_whole || marks(raw) != 2 * usize::from(is_quoted) + 2 * marks(&cell) {
            let what = if is_last && is_quoted {
                "its quotation mark is not closed"
            } else {
                "a quotation mark stands inside it; a cell with quotation marks is put in quotation marks, and its own are doubled"
            };
            return Err((cells.len(), what));
        }
        cells.push(cell);
        at += read;
        if found != (ReadFieldResult::Field { record_end: false }) {
            return Ok((cells, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The inverse: quotation marks where they are needed, and around an only cell that is empty, which would be a blank line.
    fn written(rows: &[Vec<String>], end: &str, all_quoted: bool) -> String {
        let cell = |cell: &String, is_alone: bool| {
            let needs = cell.contains([',', '"', '\r', '\n']) || (is_alone && cell.is_empty());
            if all_quoted || needs { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.clone() }
        };
        let line = |row: &Vec<String>| row.iter().map(|of| cell(of, row.len() == 1)).collect::<Vec<_>>().join(",");
        rows.iter().map(line).collect::<Vec<_>>().join(end)
    }

    fn read(text: &str) -> Result<Vec<Row>, Damage> {
        rows(text).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            table in prop::collection::vec(prop::collection::vec("[a−\", \r\n]{0,6}", 1..5), 0..5),
            crlf: bool,
            all_quoted: bool,
            ends: bool,
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let text = written(&table, end, all_quoted) + if ends { end } else { "" };
            let found: Vec<Vec<String>> = read(&text).unwrap().into_iter().map(|row| row.cells).collect();
            prop_assert_eq!(found, table);
        }

        /// What is accepted says the same when it is written by the rules.
        #[test]
        fn any_text_is_read_or_refused(text in "[aé\",\r\n]{0,30}") {
            if let Ok(found) = read(&text) {
                let cells: Vec<Vec<String>> = found.into_iter().map(|row| row.cells).collect();
                let again: Vec<Vec<String>> = read(&written(&cells, "\n", true)).unwrap().into_iter().map(|row| row.cells).collect();
                prop_assert_eq!(again, cells);
            }
        }
    }

    #[test]
    fn rows_know_their_lines() {
        let found = read("\u{feff}a,b\n\n\"c\nd\",\r\ne,\"\"\"f\"\"\"").unwrap();
        assert_eq!(found.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(found[1].cells, ["c\nd", ""]);
        assert_eq!(found[2].cells, ["e", "\"f\""]);
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn damage_is_placed_and_ends_the_text() {
        let place = |text| read(text).map_err(|damage| (damage.line, damage.cell));
        for (text, expected) in [
            ("a,b\nc,\"d\n", (2, 1)),
            ("a,b\nc,\"d\"\"", (2, 1)),
            ("a,b\nc,\"", (2, 1)),
            ("a,b\nc\"d,e\n", (2, 0)),
            ("a\"b\"c,d\n", (1, 0)),
            ("\"a\nb\",\"c\" d\n", (1, 1)),
            ("\"a\"b\"\n", (1, 0)),
        ] {
            assert_eq!(place(text), Err(expected), "{text:?}");
        }
        assert_eq!(rows("a\"b\nc\n").count(), 1);
        let shown = read("a,b\nc,\"d\n").unwrap_err().to_string();
        assert_eq!(shown, "line 2, column 2: its quotation mark is not closed");
    }
}
