//! What a source of tokens or text holds, without a model.

use std::path::Path;

use super::stored::read_token_file;
use crate::corpus::files::{Files, Kind};
use crate::corpus::{self, jsonl};
use crate::error::{ModelError, Result};
use crate::parquet::{Contents, Shard, open_all};

/// Rows of token ids, counted.
#[derive(Default)]
struct Tally {
    rows: u64,
    /// Shortest and longest.
    lengths: Option<(usize, usize)>,
    largest: Option<i64>,
}

impl Tally {
    fn row(&mut self, ids: impl ExactSizeIterator<Item = i64>) {
        let (shortest, longest) = self.lengths.unwrap_or((usize::MAX, 0));
        self.lengths = Some((shortest.min(ids.len()), longest.max(ids.len())));
        self.rows += 1;
        self.largest = self.largest.max(ids.max());
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
            ("tokens a sequence", length),
            ("largest id", self.largest.map_or_else(|| "none".to_owned(), |id| id.to_string())),
        ]
    }
}

/// What a file, a directory or the files of a glob hold, as named facts. All of it is read, but never held.
///
/// # Errors
/// If a file is not tokens or text, or is damaged.
pub fn describe(path: &Path) -> Result<Vec<(&'static str, String)>> {
    let files = Files::find(path)?;
    let count = files.paths.len();
    let mut columns = Vec::new();
    let mut facts = match files.kind {
        Kind::Safetensors => {
            let mut tally = Tally::default();
            for file in &files.paths {
                for row in read_token_file(file)?.rows() {
                    tally.row(row.iter().map(|&id| i64::from(id)));
                }
            }
            tally.facts()
        }
        Kind::Parquet => {
            let (shards, contents) = open_all(&files.paths)?;
            columns = shards[0].columns().to_vec();
            if contents == Contents::Tokens { lists(&shards)? } else { texts(files)? }
        }
        Kind::JsonLines => match jsonl::contents(&files.paths)? {
            jsonl::Contents::Text => texts(files)?,
            jsonl::Contents::Tokens(_) => {
                let mut tally = Tally::default();
                for row in files.paths.into_iter().flat_map(jsonl::rows) {
                    tally.row(row?.1.into_iter().map(i64::from));
                }
                tally.facts()
            }
        },
        Kind::Text => texts(files)?,
    };
    if !columns.is_empty() {
        facts.push(("columns", columns.join(", ")));
    }
    if count > 1 {
        facts.push(("files", count.to_string()));
    }
    Ok(facts)
}

fn lists(shards: &[Shard]) -> Result<Vec<(&'static str, String)>> {
    let mut tally = Tally::default();
    for shard in shards {
        for rows in shard.blocks() {
            let mut null = None;
            shard.lists(rows, |row, ids| match ids {
                Some(ids) => tally.row(ids.iter().copied()),
                None => null = null.or(Some(row)),
            })?;
            if let Some(row) = null {
                return Err(shard.null_row(row));
            }
        }
    }
    Ok(tally.facts())
}

fn texts(files: Files) -> Result<Vec<(&'static str, String)>> {
    let (mut documents, mut characters) = (0_u64, 0);
    let first = files.paths[0].clone();
    for piece in corpus::documents(files, true) {
        let piece = piece?;
        documents += u64::from(piece.starts);
        characters += piece.text.chars().count();
    }
    if documents == 0 {
        return Err(ModelError::data(&first, "no documents in it"));
    }
    Ok(vec![("kind", "text".to_owned()), ("documents", documents.to_string()), ("characters", characters.to_string())])
}
