//! Comma-separated values as RFC 4180 has them: a field in quotes may hold commas, line ends and doubled quotes.

/// One record.
#[derive(Debug, PartialEq)]
pub struct CsvRecord {
    /// The line that it starts on, from 1.
    pub line: usize,
    /// Its fields, without their quotes.
    pub fields: Vec<String>,
}

/// What can't be read.
#[derive(Debug, PartialEq)]
pub struct Damage {
    /// The line that its record starts on, from 1: where a quote is open, no later line can be told from the field.
    pub line: usize,
    /// The field's number in the record, from 0.
    pub field: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// All records of a text; empty lines are none.
pub fn records(text: &str) -> Result<Vec<CsvRecord>, Damage> {
    let mut chars = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
    let (mut records, mut line) = (Vec::new(), 1);
    loop {
        while let Some(end) = chars.next_if(|c| "\r\n".contains(*c)) {
            line += usize::from(end == '\n');
        }
        if chars.peek().is_none() {
            return Ok(records);
        }
        let mut record = CsvRecord { line, fields: Vec::new() };
        loop {
            let damage = |what| Damage { line: record.line, field: record.fields.len(), what };
            let mut field = String::new();
            if chars.next_if_eq(&'"').is_some() {
                loop {
                    match chars.next() {
                        Some('"') if chars.next_if_eq(&'"').is_none() => break,
                        Some(c) => {
                            line += usize::from(c == '\n');
                            field.push(c);
                        }
                        None => return Err(damage("its quote is not closed")),
                    }
                }
            } else {
                field.extend(std::iter::from_fn(|| chars.next_if(|c| !"\",\r\n".contains(*c))));
            }
            let next = chars.next_if(|c| *c == ',');
            if next.is_none() && chars.peek().is_some_and(|c| !"\r\n".contains(*c)) {
                return Err(damage("a quote stands inside it; a field with quotes is quoted and its quotes doubled"));
            }
            record.fields.push(field);
            if next.is_none() {
                break;
            }
        }
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The inverse: quotes where they are needed, and around an only field that is empty, which would be an empty line.
    fn written(records: &[Vec<String>], end: &str) -> String {
        let field = |f: &String, alone: bool| {
            let quoted = f.contains([',', '"', '\r', '\n']) || (alone && f.is_empty());
            if quoted { format!("\"{}\"", f.replace('"', "\"\"")) } else { f.clone() }
        };
        let line = |r: &Vec<String>| r.iter().map(|f| field(f, r.len() == 1)).collect::<Vec<_>>().join(",");
        records.iter().map(|r| line(r) + end).collect()
    }

    fn fields(text: &str) -> Vec<Vec<String>> {
        records(text).unwrap().into_iter().map(|r| r.fields).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            records in prop::collection::vec(prop::collection::vec("[a−\", \r\n]{0,6}", 1..5), 0..5),
            crlf: bool,
        ) {
            prop_assert_eq!(fields(&written(&records, if crlf { "\r\n" } else { "\n" })), records);
        }

        #[test]
        fn nothing_makes_it_panic(text in "[a\",\r\n]{0,30}") {
            let _ = records(&text);
        }
    }

    #[test]
    fn records_know_their_lines() {
        let found = records("\u{feff}a,b\n\n\"c\nd\",\r\ne,f").unwrap();
        assert_eq!(found.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(found[1].fields, ["c\nd", ""]);
    }

    #[test]
    fn damage_is_placed() {
        let place = |text| records(text).map_err(|d| (d.line, d.field));
        assert_eq!(place("a,b\nc,\"d\n"), Err((2, 1)));
        assert_eq!(place("a,b\nc\"d,e\n"), Err((2, 0)));
        assert_eq!(place("\"a\nb\",\"c\" d\n"), Err((1, 1)));
    }
}
