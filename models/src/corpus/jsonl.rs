//! JSON objects: a document (`text`) or a row of token ids (`tokens`, `input_ids`) each.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Deserializer as _;
use serde::de::{Deserialize, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::files::Files;
use super::json::{lenient, values};
use super::lines::{Line, utf8};
use super::{Piece, Pieces, failed, padding};
use crate::error::{ModelError, Result};
use crate::reading::{Column, Contents, Field, LeftOut, MASKS, Reading};
use crate::tokens::stored::{Row, Rows};

const FORM: &str =
    "each line is an object with a string `text`, or with an array of token ids in `tokens` or `input_ids`";

/// What is read of the objects of some files, by the first of them, and how many tokens its row has.
pub(crate) fn column(files: &Files) -> Result<(Column, usize)> {
    let skip = files.reading.skip_bad_lines;
    let mut unfit = None;
    for path in &files.paths {
        for value in values(path)? {
            let (number, bytes) = value?;
            match first(path, (number, bytes), &files.reading) {
                Ok(found) => return Ok(found),
                Err(error) if skip => unfit = unfit.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
    }
    Err(unfit.unwrap_or_else(|| ModelError::data(&files.paths[0], "no documents in it")))
}

fn first(path: &Path, line: Line, reading: &Reading) -> Result<(Column, usize)> {
    let number = line.0;
    let object: Value = parsed(path, line, |text| serde_json::from_str(text))?;
    let Value::Object(object) = object else {
        return Err(bad_line(path, number, format!("{}, not an object", kind(&object))));
    };
    let fields: Vec<Field> = object
        .iter()
        .map(|(name, value)| {
            let is_mask = value.as_array().is_some_and(|v| v.iter().all(|v| v.is_i64() || v.is_boolean()));
            Field { name: name.clone(), fits: fits(value), is_mask, kind: kind(value).to_owned() }
        })
        .collect();
    let column =
        reading.choose(&fields, "field").map_err(|why| ModelError::data(path, format!("line {number}: {why}")))?;
    let length = object.get(&column.name).and_then(Value::as_array).map_or(0, Vec::len);
    Ok((column, length))
}

/// Whether a file is one JSON object that is no data: it describes other files.
pub(super) fn is_description(path: &Path, reading: &Reading) -> bool {
    let Ok(mut values) = values(path) else { return false };
    let Some(Ok((number, bytes))) = values.next() else { return false };
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    is_object && values.next().is_none() && first(path, (number, bytes), reading).is_err()
}

fn fits(value: &Value) -> Option<Contents> {
    match value {
        Value::String(_) => Some(Contents::Text),
        Value::Array(values) => values.iter().all(|v| v.is_i64() || v.is_u64()).then_some(Contents::Tokens),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(values) if values.iter().all(Value::is_string) => "an array of strings",
        Value::Array(values) if values.iter().all(Value::is_object) => "an array of objects",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) fn documents(path: PathBuf, column: &str, files: &Files) -> Pieces {
    let values = match values(&path) {
        Ok(values) => values,
        Err(e) => return failed(e),
    };
    let (name, skip, left_out) = (column.to_owned(), files.reading.skip_bad_lines, files.left_out.clone());
    let document = move |line: Line| -> Result<Piece> {
        let number = line.0;
        let text: Option<String> = parsed(&path, line, |text| picked(text, &name))?;
        text.map(Piece::document).ok_or_else(|| bad_line(&path, number, format!("missing field `{name}`")))
    };
    Box::new(readable(values, skip, left_out, document))
}

/// Rows of token ids.
pub(crate) fn rows(path: PathBuf, column: &Column, files: &Files) -> Rows {
    let values = match values(&path) {
        Ok(values) => values,
        Err(e) => return Box::new(std::iter::once(Err(e))),
    };
    let (skip, left_out) = (files.reading.skip_bad_lines, files.left_out.clone());
    let Column { name, mask, .. } = column.clone();
    let row = move |line: Line| -> Result<Row> {
        let number = line.0;
        let missing = |name: &str| bad_line(&path, number, format!("missing field `{name}`"));
        let (ids, flags, late) = parsed(&path, line, |text| {
            let flags = mask.as_deref().map(|mask| picked::<Vec<Flag>>(text, mask)).transpose()?;
            let late = if mask.is_none() { late_mask(text)? } else { None };
            Ok((picked::<Vec<u32>>(text, &name)?, flags, late))
        })?;
        let mut ids = ids.ok_or_else(|| missing(&name))?;
        if let Some((mask, flags)) =
            late.filter(|(_, flags)| flags.len() == ids.len() && !flags.iter().all(|&f| f == 1))
        {
            let padding = flags.iter().filter(|&&flag| flag != 1).count();
            let why = format!("leaves {padding} tokens out, but the first line has none; give every line one");
            return Err(bad_mask(&path, number, mask, &why));
        }
        if let (Some(mask), Some(flags)) = (&mask, flags) {
            let flags: Vec<i64> = flags.ok_or_else(|| missing(mask))?.into_iter().map(i64::from).collect();
            let range = padding::counted(ids.len(), &flags).map_err(|why| bad_mask(&path, number, mask, &why))?;
            ids.truncate(range.end);
            ids.drain(..range.start);
        }
        Ok(Row { number, ids })
    };
    Box::new(readable(values, skip, left_out, row))
}

/// The mask of a row of which the first row had none: what the first row has decides how all are read, and padding that is counted
/// would go unnoticed.
fn late_mask(text: &str) -> serde_json::Result<Option<(&'static str, Vec<i64>)>> {
    if !text.contains("mask\"") {
        return Ok(None);
    }
    for name in MASKS {
        let Some(Value::Array(flags)) = picked::<Value>(text, name)? else { continue };
        let flags: Option<Vec<i64>> = flags.iter().map(|f| f.as_i64().or_else(|| f.as_bool().map(i64::from))).collect();
        if let Some(flags) = flags {
            return Ok(Some((name, flags)));
        }
    }
    Ok(None)
}

/// What is read of each value; with `skip`, of each that can be read.
fn readable<T: 'static>(
    values: impl Iterator<Item = Result<Line>> + Send + 'static,
    skip: bool,
    left_out: LeftOut,
    read: impl Fn(Line) -> Result<T> + Send + 'static,
) -> impl Iterator<Item = Result<T>> + Send {
    // An error of the values themselves is one of the file: there are no more.
    values.filter_map(move |line| match line.map(&read) {
        Ok(Err(error)) if skip => {
            left_out.bad_line(error);
            None
        }
        Ok(read) => Some(read),
        Err(error) => Some(Err(error)),
    })
}

fn bad_line(path: &Path, number: usize, why: impl std::fmt::Display) -> ModelError {
    ModelError::data(path, format!("line {number}: {why}; {FORM}"))
}

fn bad_mask(path: &Path, number: usize, mask: &str, why: &str) -> ModelError {
    ModelError::data(path, format!("line {number}: `{mask}` {why}"))
}

/// A value parsed; once more with what only Python takes for JSON, if it is none.
fn parsed<T>(path: &Path, line: Line, parse: impl Fn(&str) -> serde_json::Result<T>) -> Result<T> {
    let number = line.0;
    let text = utf8(path, line)?;
    let text = text.trim_end();
    let error = match parse(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let tolerated = String::from_utf8_lossy(&lenient(text.as_bytes())).into_owned();
    if tolerated != text
        && let Ok(value) = parse(&tolerated)
    {
        return Ok(value);
    }
    // Without the parser's own count of lines, which begins with this value.
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(why, _)| why);
    let why = match error.classify() {
        Category::Data => said.to_owned(),
        Category::Eof => format!("the JSON ends in the middle ({said})"),
        Category::Syntax | Category::Io => format!("not JSON at byte {}: {said}", error.column()),
    };
    Err(bad_line(path, number + error.line().saturating_sub(1), why))
}

/// 0 or 1, in whichever way it is written.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Integer(i64),
}

impl From<Flag> for i64 {
    fn from(flag: Flag) -> Self {
        match flag {
            Flag::Bool(yes) => Self::from(yes),
            Flag::Integer(value) => value,
        }
    }
}

/// The value of a key of an object, if it is there; the last, as in Python, if it is there twice.
fn picked<'a, T: Deserialize<'a>>(text: &'a str, key: &str) -> serde_json::Result<Option<T>> {
    struct Picker<'k, T>(&'k str, PhantomData<T>);

    impl<'a, T: Deserialize<'a>> Visitor<'a> for Picker<'_, T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> std::result::Result<Self::Value, M::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<String>()? {
                if key == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    let mut json = serde_json::Deserializer::from_str(text);
    let found = json.deserialize_map(Picker(key, PhantomData))?;
    json.end()?;
    Ok(found)
}
