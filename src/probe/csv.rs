//! Comma-separated values as RFC 4180 has them: cells in quotation marks may hold commas, line breaks and doubled quotation marks.

use anyhow::{Result, bail};

/// The line on which a row begins, from 1, and its cells.
pub(super) type Row = (usize, Vec<String>);

/// The rows of a text, without blank lines; after an error there are no more.
pub(super) fn rows(text: &str) -> impl Iterator<Item = Result<Row>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let begins = line;
            let row = row(&mut rest, &mut line);
            match row {
                Ok(cells) if cells.len() == 1 && cells[0].is_empty() => {}
                Ok(cells) => return Some(Ok((begins, cells))),
                Err(error) => {
                    rest = "";
                    return Some(Err(error.context(format!("line {begins}"))));
                }
            }
        }
    })
}

/// Takes a row off the text.
fn row(rest: &mut &str, line: &mut usize) -> Result<Vec<String>> {
    let mut cells = Vec::new();
    loop {
        let mut cell = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let Some(end) = quoted.find('"') else { bail!("a quotation mark is never closed") };
                cell.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(after) => {
                        cell.push('"');
                        quoted = after;
                    }
                    None => break,
                }
            }
            *line += cell.matches('\n').count();
            *rest = quoted;
        } else {
            let end = rest.find([',', '\n']).unwrap_or(rest.len());
            cell.push_str(rest[..end].strip_suffix('\r').unwrap_or(&rest[..end]));
            *rest = &rest[end..];
        }
        cells.push(cell);
        if let Some(after) = rest.strip_prefix(',') {
            *rest = after;
            continue;
        }
        match rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')) {
            Some(after) => {
                *line += 1;
                *rest = after;
            }
            None if rest.is_empty() => {}
            None => bail!("text follows a quotation mark that closes a cell"),
        }
        return Ok(cells);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_counted_through_cells() {
        let found: Vec<Row> = rows("a,b\r\n\"1\n2\",\"\"\"x\"\"\"\n\n,\n").collect::<Result<_>>().unwrap();
        let cells = |of: &[&str]| of.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        assert_eq!(found, [(1, cells(&["a", "b"])), (2, cells(&["1\n2", "\"x\""])), (5, cells(&["", ""]))]);
        assert!(rows("\"a\"b").next().unwrap().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_by_the_rules_is_read_as_it_was(
            table in prop::collection::vec(prop::collection::vec("[a,\"\n\r é]{0,6}", 2..4), 1..6),
        ) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let text: String = table.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n").collect();
            let found: Vec<Vec<String>> = rows(&text).map(|row| row.unwrap().1).collect();
            prop_assert_eq!(found, table);
        }

        #[test]
        fn no_text_panics(text in "[a,\"\n\r]{0,30}") {
            rows(&text).for_each(drop);
        }
    }
}
