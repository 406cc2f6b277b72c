//! JSON lines: a document (`text`) or a row of token ids (`tokens`, `input_ids`) a line.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::lines::Lines;
use super::{Piece, Pieces, failed};
use crate::error::{ModelError, Result};

/// What the lines hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Documents.
    Text,
    /// Rows of token ids; the length of the first.
    Tokens(usize),
}

#[derive(serde::Deserialize)]
struct TextLine {
    text: String,
}

#[derive(serde::Deserialize)]
struct TokenLine {
    tokens: Option<Vec<u32>>,
    input_ids: Option<Vec<u32>>,
}

const FORM: &str =
    "each line is an object with a string `text`, or with an array of token ids in `tokens` or `input_ids`";

/// What the first line of the files holds. Where it has both, text is read.
pub(crate) fn contents(paths: &[PathBuf]) -> Result<Contents> {
    for path in paths {
        let mut objects = parsed::<serde_json::Map<String, serde_json::Value>>(Lines::open(path)?);
        let Some((number, object)) = objects.next().transpose()? else { continue };
        if object.contains_key("text") {
            return Ok(Contents::Text);
        }
        if object.contains_key("tokens") || object.contains_key("input_ids") {
            let first = rows(path.clone()).next().transpose()?;
            return Ok(Contents::Tokens(first.map_or(0, |(_, row)| row.len())));
        }
        let fields = object.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        return Err(ModelError::data(path, format!("line {number}: it has the fields {fields}; {FORM}")));
    }
    Err(ModelError::data(&paths[0], "no documents in it"))
}

pub(super) fn documents(path: PathBuf) -> Pieces {
    match Lines::open(&path) {
        Ok(lines) => Box::new(parsed::<TextLine>(lines).map(|line| Ok(Piece::document(line?.1.text)))),
        Err(e) => failed(e),
    }
}

/// Rows of token ids, with the numbers of their lines.
pub(crate) fn rows(path: PathBuf) -> Box<dyn Iterator<Item = Result<(usize, Vec<u32>)>> + Send> {
    let lines = match Lines::open(&path) {
        Ok(lines) => lines,
        Err(e) => return Box::new(std::iter::once(Err(e))),
    };
    Box::new(parsed::<TokenLine>(lines).map(move |line| {
        let (number, line) = line?;
        let row = line.tokens.or(line.input_ids);
        row.map(|row| (number, row)).ok_or_else(|| bad_line(&path, number, "no token ids in it"))
    }))
}

fn bad_line(path: &Path, number: usize, why: impl std::fmt::Display) -> ModelError {
    ModelError::data(path, format!("line {number}: {why}; {FORM}"))
}

/// Lines that are not blank, parsed.
fn parsed<T: DeserializeOwned + 'static>(lines: Lines) -> impl Iterator<Item = Result<(usize, T)>> + Send {
    let path = lines.path().to_owned();
    lines.filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty())).map(move |line| {
        let (number, text) = line?;
        let value = serde_json::from_str(&text).map_err(|e| bad_line(&path, number, e))?;
        Ok((number, value))
    })
}
