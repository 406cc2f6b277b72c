//! Tokens in fixed contexts: from text with a tokenizer, from pre-tokenised parquet shards or JSON lines, or from a safetensors
//! file.

mod describe;
mod rows;
mod spool;
mod stored;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::corpus::files::{Files, Kind};
use crate::corpus::{self, jsonl};
use crate::error::{ModelError, Result};
use crate::parquet;
use rows::Rows;
use spool::Spool;
use tokenizer::TextTokenizer;

pub use describe::describe;
pub use stored::read_token_file;

/// How rows of a pre-tokenised dataset become contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowUse {
    /// The first `context_size` tokens of each row, as SAELens does.
    #[default]
    First,
    /// Every whole context of each row.
    Split,
}

impl RowUse {
    /// Tokens that are used of a row of `row_len`.
    fn of_row(self, path: &Path, row_len: usize, context_size: usize) -> Result<usize> {
        if row_len < context_size {
            return Err(ModelError::data(
                path,
                format!("rows of {row_len} tokens are shorter than context_size {context_size}"),
            ));
        }
        Ok(match self {
            Self::First => context_size,
            Self::Split => row_len / context_size * context_size,
        })
    }
}

/// A sequence of contexts, of which any range can be read. Memory does not grow with it, but for safetensors: parquet is read
/// a block of rows at a time, and what is made from text or JSON lines waits in a temporary file (in `TMPDIR`, 4 bytes a token),
/// made only as far as anybody has asked. A row, and a document of JSON lines or parquet, is held whole.
pub struct TokenSource {
    path: PathBuf,
    context_size: usize,
    /// Whether contexts after the last are the first again.
    repeats: bool,
    data: Data,
}

enum Data {
    /// Packed contexts, one after another.
    Packed(Vec<u32>),
    /// Rows of parquet shards.
    Rows(Rows),
    /// Packed contexts that are made on the way.
    Made(Spool),
}

impl TokenSource {
    /// Opens a file, all files of a directory, or those that a glob matches, in the order of their paths.
    ///
    /// - `.parquet`: lists of token ids in `tokens` or `input_ids`, or strings in `text`;
    /// - `.jsonl`, also `.gz` or `.zst`: objects with a string `text`, or an array of token ids in `tokens` or `input_ids`;
    /// - `.safetensors`: a tensor `tokens`;
    /// - anything else is text, also `.gz` or `.zst`: each file is a document, or several with NUL bytes between them.
    ///
    /// Text needs the `tokenizer.json` of `tokenizer_dir`, whose token `eos` is put before each document.
    ///
    /// # Errors
    /// If the source is unreadable, empty, of several kinds, has no token or text column, or its rows are shorter than a context.
    pub fn open(
        path: &Path,
        context_size: usize,
        rows: RowUse,
        tokenizer_dir: Option<&Path>,
        eos: Option<u32>,
    ) -> Result<Self> {
        if context_size < 2 {
            return Err(ModelError::data(
                path,
                format!("context_size {context_size}: a context needs two tokens at least"),
            ));
        }
        let files = Files::find(path)?;
        let text = |files| Ok(Data::Made(Spool::new(path, tokenised(path, files, tokenizer_dir, eos)?)));
        let data = match files.kind {
            Kind::Text => text(files)?,
            Kind::JsonLines => match jsonl::contents(&files.paths)? {
                jsonl::Contents::Text => text(files)?,
                jsonl::Contents::Tokens(row_len) => {
                    let used = rows.of_row(path, row_len, context_size)?;
                    Data::Made(Spool::new(path, listed(files, row_len, used)))
                }
            },
            Kind::Parquet => {
                let (shards, contents) = parquet::open_all(&files.paths)?;
                match contents {
                    parquet::Contents::Text => text(files)?,
                    parquet::Contents::Tokens => Data::Rows(Rows::new(path, shards, context_size, rows)?),
                }
            }
            Kind::Safetensors => Data::Packed(stored::packed(&files.paths, path, context_size, rows)?),
        };
        Ok(Self { path: path.to_owned(), context_size, repeats: false, data })
    }

    /// Goes on from the first context after the last, without end.
    #[must_use]
    pub fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Tokens a context.
    pub fn context_size(&self) -> usize {
        self.context_size
    }

    /// How many contexts there are, without repetition. Text is tokenised to its end for it.
    ///
    /// # Errors
    /// If the text can't be read.
    pub fn contexts(&self) -> Result<usize> {
        self.contexts_up_to(usize::MAX, &mut |_| ())
    }

    /// Whether contexts are made from text on the way, which takes time.
    pub fn is_made_on_the_way(&self) -> bool {
        matches!(self.data, Data::Made(_))
    }

    /// Contexts `first..first + count`, `[count, context_size]`.
    ///
    /// # Errors
    /// If there are not that many, or a file is damaged.
    pub fn read(&self, first: usize, count: usize) -> Result<Array2<u32>> {
        let contexts = self.available(first, count, |_| ())?;
        let len = self.context_size;
        let (mut values, mut at) = (Vec::with_capacity(count * len), first);
        while at < first + count {
            let from = at % contexts;
            let part = (first + count - at).min(contexts - from);
            values.extend(self.read_once(from, part)?);
            at += part;
        }
        Ok(Array2::from_shape_vec((count, len), values).expect("as many values as contexts hold"))
    }

    /// Contexts that lie within the source.
    fn read_once(&self, first: usize, count: usize) -> Result<Vec<u32>> {
        let len = self.context_size;
        match &self.data {
            Data::Packed(tokens) => Ok(tokens[first * len..(first + count) * len].to_vec()),
            Data::Rows(rows) => rows.read(first, count),
            Data::Made(spool) => spool.read(first * len, count * len),
        }
    }

    /// Checks that contexts `first..first + count` exist; makes them if they are made on the way.
    ///
    /// # Errors
    /// [`ModelError::TooFewTokens`] if they don't exist, or if the text can't be read.
    pub fn check_range(&self, first: usize, count: usize) -> Result<()> {
        self.check_range_with(first, count, |_| ())
    }

    /// As [`Self::check_range`]; `made` is told how many tokens came to be, each time that some did.
    ///
    /// # Errors
    /// As [`Self::check_range`].
    pub fn check_range_with(&self, first: usize, count: usize, made: impl FnMut(u64)) -> Result<()> {
        self.available(first, count, made).map(|_| ())
    }

    /// The number of contexts, if `first..first + count` exist: all of them, or as many as these need if there are more.
    fn available(&self, first: usize, count: usize, mut made: impl FnMut(u64)) -> Result<usize> {
        let available = self.contexts_up_to(first + count, &mut made)?;
        let enough = if self.repeats { available > 0 } else { first + count <= available };
        if !enough {
            return Err(ModelError::TooFewTokens {
                path: self.path.clone(),
                wanted: count,
                first,
                available,
                context_size: self.context_size,
            });
        }
        Ok(available)
    }

    /// How many contexts there are, but not more than `wanted`.
    fn contexts_up_to(&self, wanted: usize, made: &mut dyn FnMut(u64)) -> Result<usize> {
        let contexts = match &self.data {
            Data::Packed(tokens) => tokens.len() / self.context_size,
            Data::Rows(rows) => rows.contexts(),
            Data::Made(spool) => spool.make(wanted.saturating_mul(self.context_size), made)? / self.context_size,
        };
        Ok(contexts.min(wanted))
    }
}

/// The tokens of documents, each with the end-of-text token before it.
fn tokenised(path: &Path, files: Files, tokenizer_dir: Option<&Path>, eos: Option<u32>) -> Result<spool::Tokens> {
    let Some(dir) = tokenizer_dir else {
        return Err(ModelError::data(path, "text needs a tokenizer; give a model directory that has tokenizer.json"));
    };
    let Some(eos) = eos else {
        return Err(ModelError::data(
            path,
            "text needs an end-of-text token between documents, and config.json has no eos_token_id",
        ));
    };
    let tokenizer = TextTokenizer::load(dir, eos)?;
    let mut pieces = corpus::documents(files, tokenizer.cuts()).peekable();
    if pieces.peek().is_none() {
        return Err(ModelError::data(path, "no documents in it"));
    }
    Ok(tokenizer.tokens(pieces))
}

/// What is used of the rows of JSON lines.
fn listed(files: Files, row_len: usize, used: usize) -> spool::Tokens {
    let rows = files.paths.into_iter().flat_map(|path| jsonl::rows(path.clone()).map(move |row| (path.clone(), row)));
    Box::new(rows.map(move |(path, row)| {
        let (line, mut row) = row?;
        if row.len() < used {
            let why = format!("line {line} has {} tokens among rows of {row_len}", row.len());
            return Err(ModelError::data(&path, why));
        }
        row.truncate(used);
        Ok(row)
    }))
}
