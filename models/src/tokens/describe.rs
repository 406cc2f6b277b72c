//! What a source of tokens or text holds, without a model.

use std::path::Path;

use super::refuse_text;
use super::stored::{Row, rows};
use crate::corpus::files::Files;
use crate::corpus::{self, FileKind, jsonl};
use crate::error::{ModelError, Result};
use crate::parquet::open_all;
use crate::reading::{Column, Contents, Reading};

/// What a source holds.
#[derive(Clone, Debug)]
pub struct Description {
    /// Named values, in the order in which they are shown.
    pub facts: Vec<(&'static str, String)>,
    /// What was left out of it.
    pub notes: Vec<String>,
}

/// Rows of token ids, counted.
#[derive(Default)]
struct Tally {
    rows: u64,
    tokens: u64,
    /// Shortest and longest.
    lengths: Option<(usize, usize)>,
    largest: Option<u32>,
}

impl Tally {
    fn row(&mut self, Row { ids, .. }: &Row) {
        let (shortest, longest) = self.lengths.unwrap_or((usize::MAX, 0));
        self.lengths = Some((shortest.min(ids.len()), longest.max(ids.len())));
        self.rows += 1;
        self.tokens += ids.len() as u64;
        self.largest = self.largest.max(ids.iter().copied().max());
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let length = match self.lengths {
            None => "none".to_owned(),
            Some((shortest, longest)) if shortest == longest => longest.to_string(),
            Some((shortest, longest)) => format!("{shortest} to {longest}"),
        };
        vec![
            ("kind", "tokens".to_owned()),
            ("sequences", self.rows.to_string()),
            ("tokens per sequence", length),
            ("largest id", self.largest.map_or_else(|| "none".to_owned(), |id| id.to_string())),
        ]
    }
}

/// What a file, a directory or the files of a glob hold. All of it is read, but never held.
///
/// # Errors
/// If a file is not tokens or text, or is damaged.
pub fn describe(path: &Path, reading: &Reading) -> Result<Description> {
    let files = Files::find(path, reading)?;
    let (count, left_out) = (files.paths.len(), files.left_out.clone());
    let mut columns = Vec::new();
    let mut facts = match files.kind {
        FileKind::Safetensors => tokens(files)?,
        FileKind::Parquet => {
            let (shards, contents) = open_all(&files.paths, reading)?;
            columns = shards[0].columns().to_vec();
            if contents == Contents::Tokens { tokens(files)? } else { texts(files, "")? }
        }
        FileKind::Json => match jsonl::column(&files)?.0 {
            Column { contents: Contents::Text, name, .. } => texts(files, &name)?,
            _ => tokens(files)?,
        },
        FileKind::Text => {
            refuse_text(path, reading)?;
            texts(files, "")?
        }
    };
    if !columns.is_empty() {
        facts.push(("columns", columns.join(", ")));
    }
    if count > 1 {
        facts.push(("files", count.to_string()));
    }
    Ok(Description { facts, notes: left_out.notes() })
}

fn tokens(files: Files) -> Result<Vec<(&'static str, String)>> {
    let mut tally = Tally::default();
    let (column, rows) = rows(files)?;
    for row in rows {
        tally.row(&row?);
    }
    let mut facts = tally.facts();
    if let Some(mask) = column.mask {
        facts.push(("tokens that count", tally.tokens.to_string()));
        facts.push(("padding named by", mask));
    }
    Ok(facts)
}

fn texts(files: Files, column: &str) -> Result<Vec<(&'static str, String)>> {
    let (mut documents, mut characters) = (0_u64, 0);
    let first = files.paths[0].clone();
    for piece in corpus::documents(files, column, true) {
        let piece = piece?;
        documents += u64::from(piece.starts);
        characters += piece.text.chars().count();
    }
    if documents == 0 {
        return Err(ModelError::data(&first, "no documents in it"));
    }
    Ok(vec![("kind", "text".to_owned()), ("documents", documents.to_string()), ("characters", characters.to_string())])
}
