//! Tokens in fixed contexts: from text with a tokenizer, from pre-tokenised parquet shards or JSON lines, or from a safetensors
//! file.

mod describe;
mod rows;
mod spool;
pub(crate) mod stored;
mod tensor;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::corpus::files::Files;
use crate::corpus::{self, FileKind, jsonl};
use crate::error::{ModelError, Result};
use crate::parquet::{self, Shard};
use crate::reading::{Column, LeftOut};
pub use crate::reading::{Contents, Reading};
use rows::Rows;
use spool::Spool;
use stored::Row;
use tensor::Tensor;
use tokenizer::TextTokenizer;

pub use describe::{Description, describe};
pub use stored::{read_sequences, read_token_file};
pub use tokenizer::Texts;

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
        Ok(self.of_counted(row_len, context_size))
    }

    /// Tokens that are used of those that count of a padded row: none, if they are fewer than a context.
    fn of_counted(self, counted: usize, context_size: usize) -> usize {
        match self {
            Self::First if counted >= context_size => context_size,
            Self::First => 0,
            Self::Split => counted / context_size * context_size,
        }
    }
}

/// A sequence of contexts, of which any range can be read. Memory does not grow with it, but for safetensors: parquet is read
/// a block of rows at a time, and what is made from text or JSON lines waits in a temporary file (in `TMPDIR`, 4 bytes per token),
/// made only as far as anybody has asked. A row, and a document of JSON lines or parquet, is held whole.
pub struct TokenSource {
    path: PathBuf,
    context_size: usize,
    /// Whether contexts after the last are the first again.
    repeats: bool,
    data: Data,
    bos: Option<u32>,
    left_out: LeftOut,
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
    /// Opens a file, all files of a directory, or those that a glob matches, in the order of their paths; what is there is read, token
    /// ids where both are.
    ///
    /// # Errors
    /// As [`Self::open_as`].
    pub fn open(path: &Path, context_size: usize, rows: RowUse, texts: Option<Texts<'_>>) -> Result<Self> {
        Self::open_as(path, context_size, rows, texts, &Reading::default())
    }

    /// Opens a file, all files of a directory, or those that a glob matches, in the order of their paths.
    ///
    /// What a file is follows from what it begins with, and from its name where that does not settle it:
    ///
    /// - Parquet: lists of token ids in `tokens` or `input_ids`, or strings in `text`;
    /// - JSON objects (one per line, in an array or one after another, also `.gz` or `.zst`) with an array of token ids in `tokens` or
    ///   `input_ids`, or a string `text`;
    /// - safetensors: an integer tensor `tokens` or `input_ids`;
    /// - anything else is text, also `.gz` or `.zst`: each file is a document, or several with NUL bytes between them.
    ///
    /// Where `attention_mask` or `mask` is beside token ids, tokens where it is 0 are padding and dropped, and rows that then have less
    /// than a context are left out. Text needs `texts`, which says how it is tokenised and which tokens are put around documents; token
    /// ids are never changed.
    ///
    /// # Errors
    /// If the source is unreadable, empty, of several kinds, has no column of what is wanted, or its rows are shorter than a context.
    pub fn open_as(
        path: &Path,
        context_size: usize,
        rows_of: RowUse,
        texts: Option<Texts<'_>>,
        reading: &Reading,
    ) -> Result<Self> {
        if context_size < 2 {
            return Err(ModelError::data(
                path,
                format!("context_size {context_size}: a context needs two tokens at least"),
            ));
        }
        let files = Files::find(path, reading)?;
        let left_out = files.left_out.clone();
        let mut bos = None;
        let mut text = |files, column: &str| -> Result<Data> {
            let tokens;
            (tokens, bos) = tokenised(path, files, column, context_size, texts)?;
            Ok(Data::Made(Spool::new(path, tokens)))
        };
        let padded = |files| -> Result<Data> {
            let rows = stored::rows(files)?.1;
            Ok(Data::Made(Spool::new(path, counted(rows, rows_of, context_size, left_out.clone()))))
        };
        let data = match files.kind {
            FileKind::Text => {
                refuse_text(path, reading)?;
                text(files, "")?
            }
            FileKind::Json => match jsonl::column(&files)? {
                (Column { contents: Contents::Text, name, .. }, _) => text(files, &name)?,
                (Column { mask: Some(_), .. }, _) => padded(files)?,
                (column, row_len) => {
                    let used = rows_of.of_row(path, row_len, context_size)?;
                    Data::Made(Spool::new(path, listed(files, column, row_len, used)))
                }
            },
            FileKind::Parquet => match parquet::open_all(&files.paths, reading)? {
                (_, Contents::Text) => text(files, "")?,
                (shards, Contents::Tokens) if shards.iter().any(Shard::is_padded) => padded(files)?,
                (shards, Contents::Tokens) => Data::Rows(Rows::new(path, shards, context_size, rows_of)?),
            },
            FileKind::Safetensors => match files.paths.as_slice() {
                [file] if Tensor::read(file, reading)?.column().mask.is_none() => {
                    let (tokens, _) = read_sequences(path, reading, None, None)?;
                    let used = rows_of.of_row(file, tokens.ncols(), context_size)?;
                    Data::Packed(tokens.slice(ndarray::s![.., ..used]).iter().copied().collect())
                }
                [_] => padded(files)?,
                _ => return Err(ModelError::data(path, "several safetensors files; name one")),
            },
        };
        Ok(Self { path: path.to_owned(), context_size, repeats: false, data, bos, left_out })
    }

    /// Contexts that are in memory, `[contexts, context_size]`; `path` is what errors call them.
    pub fn of(path: &Path, contexts: ArrayView2<'_, u32>) -> Self {
        Self {
            path: path.to_owned(),
            context_size: contexts.ncols(),
            repeats: false,
            data: Data::Packed(contexts.iter().copied().collect()),
            bos: None,
            left_out: LeftOut::default(),
        }
    }

    /// What was left out so far, each a sentence: files of a directory that are no data, lines that can't be read, rows of padding.
    pub fn notes(&self) -> Vec<String> {
        self.left_out.notes()
    }

    /// Goes on from the first context after the last, without end.
    #[must_use]
    pub fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// The token that was put at the start of every context, if it was made from text and that is the model's way ([`Texts`]).
    pub fn bos(&self) -> Option<u32> {
        self.bos
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

/// The error of plain text where token ids are wanted.
fn no_tokens(path: &Path) -> ModelError {
    ModelError::data(path, "it is plain text, not token ids; to have it tokenised give it as text (`--text`)")
}

/// Refuses plain text where something else is wanted.
fn refuse_text(path: &Path, reading: &Reading) -> Result<()> {
    match &reading.column {
        _ if reading.wanted == Some(Contents::Tokens) => Err(no_tokens(path)),
        Some(column) => Err(ModelError::data(path, format!("it is plain text, and has no column `{column}`"))),
        None => Ok(()),
    }
}

/// The tokens of documents, and the one that contexts begin with.
fn tokenised(
    path: &Path,
    files: Files,
    column: &str,
    context_size: usize,
    texts: Option<Texts<'_>>,
) -> Result<(spool::Tokens, Option<u32>)> {
    let Some(texts) = texts else {
        return Err(ModelError::data(path, "text needs a tokenizer; give a model that has one"));
    };
    let tokenizer = TextTokenizer::load(texts)?;
    let mut pieces = corpus::documents(files, column, tokenizer.cuts()).peekable();
    if pieces.peek().is_none() {
        return Err(ModelError::data(path, "no documents in it"));
    }
    let bos = tokenizer.bos();
    Ok((tokenizer.tokens(pieces, context_size), bos))
}

/// What is used of the rows of JSON: as many tokens of each.
fn listed(files: Files, column: Column, row_len: usize, used: usize) -> spool::Tokens {
    let paths = files.paths.clone();
    let rows = paths.into_iter().flat_map(move |path| {
        let rows = jsonl::rows(path.clone(), &column, &files);
        rows.map(move |row| (path.clone(), row))
    });
    Box::new(rows.map(move |(path, row)| {
        let Row { number, mut ids } = row?;
        if ids.len() < used {
            let why = format!("line {number} has {} tokens among rows of {row_len}", ids.len());
            return Err(ModelError::data(&path, why));
        }
        ids.truncate(used);
        Ok(ids)
    }))
}

/// What is used of the tokens that count of padded rows. These have different lengths, so contexts have no fixed place and are made in
/// order; rows of less than a context are left out.
fn counted(rows: stored::Rows, rows_of: RowUse, context_size: usize, left_out: LeftOut) -> spool::Tokens {
    Box::new(rows.map(move |row| {
        let mut ids = row?.ids;
        ids.truncate(rows_of.of_counted(ids.len(), context_size));
        if ids.is_empty() {
            left_out.short_row();
        }
        Ok(ids)
    }))
}
