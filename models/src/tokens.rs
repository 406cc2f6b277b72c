//! Tokens in fixed contexts: from text with a tokenizer, from pre-tokenised parquet shards, or from
//! a safetensors file.

use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use polars::prelude::{DataType, ParquetReader, SerReader};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::corpus::read_documents;
use crate::error::{ModelError, Result};

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

/// A sequence of contexts, of which any range can be read. Parquet shards are read range by range
/// and never held whole; text is tokenised once and held as token ids.
pub struct TokenSource {
    path: PathBuf,
    context_size: usize,
    contexts: usize,
    /// Whether contexts after the last are the first again.
    repeats: bool,
    data: Data,
}

enum Data {
    /// Packed contexts, one after another.
    Packed(Vec<u32>),
    /// Parquet shards and how many contexts each of their rows gives.
    Parquet { shards: Vec<Shard>, row_len: usize, per_row: usize },
}

struct Shard {
    path: PathBuf,
    rows: usize,
}

const COLUMNS: [&str; 2] = ["tokens", "input_ids"];

impl TokenSource {
    /// Opens a file, or a directory of parquet shards (read in the order of their names).
    ///
    /// `.parquet` and `.safetensors` hold tokens; anything else is text and needs the `tokenizer.json`
    /// of `tokenizer_dir`, whose token `eos` is put before each document.
    ///
    /// # Errors
    /// If the source is unreadable, has no token column, or its rows are shorter than a context.
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
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        if path.is_dir() || extension == "parquet" {
            return Self::open_parquet(path, context_size, rows);
        }
        let packed = if extension == "safetensors" {
            let tokens = read_safetensors(path)?;
            split_rows(path, tokens.iter().copied(), tokens.ncols(), context_size, rows)?
        } else {
            let Some(dir) = tokenizer_dir else {
                return Err(ModelError::data(
                    path,
                    "text needs a tokenizer; give a model directory that has tokenizer.json",
                ));
            };
            let Some(eos) = eos else {
                return Err(ModelError::data(
                    path,
                    "text needs an end-of-text token between documents, and config.json has no eos_token_id",
                ));
            };
            pack_documents(&tokenize(path, dir)?, eos)
        };
        Ok(Self {
            path: path.to_owned(),
            context_size,
            contexts: packed.len() / context_size,
            repeats: false,
            data: Data::Packed(packed),
        })
    }

    fn open_parquet(path: &Path, context_size: usize, rows: RowUse) -> Result<Self> {
        let files = if path.is_dir() { parquet_files(path)? } else { vec![path.to_owned()] };
        let mut shards = Vec::with_capacity(files.len());
        for path in files {
            let rows = reader(&path)?.num_rows().map_err(|e| ModelError::data(&path, e.to_string()))?;
            shards.push(Shard { path, rows });
        }
        let first = shards.iter().find(|s| s.rows > 0).ok_or_else(|| ModelError::data(path, "no rows in it"))?;
        let row_len = read_rows(&first.path, 0, 1)?[0].len();
        if row_len < context_size {
            return Err(ModelError::data(
                path,
                format!("rows of {row_len} tokens are shorter than context_size {context_size}"),
            ));
        }
        let per_row = match rows {
            RowUse::First => 1,
            RowUse::Split => row_len / context_size,
        };
        let contexts = shards.iter().map(|s| s.rows).sum::<usize>() * per_row;
        Ok(Self {
            path: path.to_owned(),
            context_size,
            contexts,
            repeats: false,
            data: Data::Parquet { shards, row_len, per_row },
        })
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

    /// How many contexts there are, without repetition.
    pub fn len(&self) -> usize {
        self.contexts
    }

    /// Whether there is no whole context.
    pub fn is_empty(&self) -> bool {
        self.contexts == 0
    }

    /// Contexts `first..first + count`, `[count, context_size]`.
    ///
    /// # Errors
    /// If there are not that many, or a shard is damaged.
    pub fn read(&self, first: usize, count: usize) -> Result<Array2<u32>> {
        self.check_range(first, count)?;
        let len = self.context_size;
        let (mut values, mut at) = (Vec::with_capacity(count * len), first);
        while at < first + count {
            let from = at % self.contexts;
            let part = (first + count - at).min(self.contexts - from);
            values.extend(self.read_once(from, part)?);
            at += part;
        }
        Ok(Array2::from_shape_vec((count, len), values).expect("as many values as contexts hold"))
    }

    /// Contexts that lie within the source.
    fn read_once(&self, first: usize, count: usize) -> Result<Vec<u32>> {
        let len = self.context_size;
        Ok(match &self.data {
            Data::Packed(tokens) => tokens[first * len..(first + count) * len].to_vec(),
            Data::Parquet { shards, row_len, per_row } => {
                let rows = first / per_row..(first + count).div_ceil(*per_row);
                let mut values = Vec::with_capacity(rows.len() * per_row * len);
                for row in read_range(shards, rows.start, rows.len())? {
                    let (path, row) = row;
                    if row.len() < *row_len.min(&(per_row * len)) {
                        return Err(ModelError::data(
                            path,
                            format!("a row of {} tokens among rows of {row_len}", row.len()),
                        ));
                    }
                    values.extend_from_slice(&row[..per_row * len]);
                }
                let skip = (first % per_row) * len;
                values.drain(..skip);
                values.truncate(count * len);
                values
            }
        })
    }

    /// Checks that contexts `first..first + count` exist.
    ///
    /// # Errors
    /// [`ModelError::TooFewTokens`] if they don't.
    pub fn check_range(&self, first: usize, count: usize) -> Result<()> {
        let enough = if self.repeats { self.contexts > 0 } else { first + count <= self.contexts };
        if !enough {
            return Err(ModelError::TooFewTokens {
                path: self.path.clone(),
                wanted: count,
                first,
                available: self.contexts,
                context_size: self.context_size,
            });
        }
        Ok(())
    }
}

/// Reads a whole token file: safetensors with an integer tensor `tokens` [S, T], or parquet with a
/// list column `tokens` or `input_ids` whose rows are of one length. Needs no tokenizer.
///
/// # Errors
/// If there is no such tensor or column, or its values are not token ids.
pub fn read_token_file(path: &Path) -> Result<Array2<u32>> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => read_safetensors(path),
        Some("parquet") => {
            let count = reader(path)?.num_rows().map_err(|e| ModelError::data(path, e.to_string()))?;
            let rows = read_rows(path, 0, count)?;
            let len = rows.first().map_or(0, Vec::len);
            if len < 2 || rows.iter().any(|row| row.len() != len) {
                return Err(ModelError::data(path, "its rows are not all of one length of at least 2 tokens"));
            }
            Ok(Array2::from_shape_vec((rows.len(), len), rows.concat()).expect("rows of one length"))
        }
        _ => Err(ModelError::data(path, "a token file ends in .safetensors or .parquet")),
    }
}

/// Token ids of each document of a text or jsonl file, without the leading end-of-text.
///
/// # Errors
/// If the text or `tokenizer.json` in `tokenizer_dir` is unreadable.
pub fn tokenize(path: &Path, tokenizer_dir: &Path) -> Result<Vec<Vec<u32>>> {
    let file = tokenizer_dir.join("tokenizer.json");
    if !file.is_file() {
        return Err(ModelError::data(&file, "not found; text needs the model's tokenizer (token files need none)"));
    }
    let tokenizer = Tokenizer::from_file(&file).map_err(|e| ModelError::data(&file, e.to_string()))?;
    let documents = read_documents(path)?;
    let encoded = tokenizer
        .encode_batch_fast(documents, false)
        .map_err(|e| ModelError::data(path, format!("the tokenizer refused it: {e}")))?;
    Ok(encoded.into_iter().map(|e| e.get_ids().to_vec()).collect())
}

/// All documents in one stream, each preceded by the end-of-text token.
pub fn pack_documents(documents: &[Vec<u32>], eos: u32) -> Vec<u32> {
    documents.iter().flat_map(|d| std::iter::once(eos).chain(d.iter().copied())).collect()
}

fn split_rows(
    path: &Path,
    tokens: impl Iterator<Item = u32>,
    row_len: usize,
    context_size: usize,
    rows: RowUse,
) -> Result<Vec<u32>> {
    if row_len < context_size {
        return Err(ModelError::data(
            path,
            format!("rows of {row_len} tokens are shorter than context_size {context_size}"),
        ));
    }
    let used = match rows {
        RowUse::First => context_size,
        RowUse::Split => row_len / context_size * context_size,
    };
    Ok(tokens.enumerate().filter(|(i, _)| i % row_len < used).map(|(_, t)| t).collect())
}

fn read_safetensors(path: &Path) -> Result<Array2<u32>> {
    let bytes = std::fs::read(path).map_err(|e| ModelError::read(path, e))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| ModelError::Corrupt { path: path.to_owned(), why: e.to_string() })?;
    let tensor = file
        .tensor("tokens")
        .map_err(|_| ModelError::MissingTensor { path: path.to_owned(), name: "tokens".to_owned() })?;
    let &[s, t] = tensor.shape() else {
        return Err(ModelError::data(
            path,
            format!("`tokens` has shape {:?}; [sequences, tokens] is needed", tensor.shape()),
        ));
    };
    if s == 0 || t < 2 {
        return Err(ModelError::data(
            path,
            format!("`tokens` has shape {:?}; at least one sequence of two tokens is needed", tensor.shape()),
        ));
    }
    let data = tensor.data();
    let values: Vec<i64> = match tensor.dtype() {
        Dtype::I64 => data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect(),
        Dtype::I32 => {
            data.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes(b.try_into().expect("4 bytes")))).collect()
        }
        Dtype::U32 => {
            data.chunks_exact(4).map(|b| i64::from(u32::from_le_bytes(b.try_into().expect("4 bytes")))).collect()
        }
        Dtype::U16 => data.chunks_exact(2).map(|b| i64::from(u16::from_le_bytes([b[0], b[1]]))).collect(),
        Dtype::I16 => data.chunks_exact(2).map(|b| i64::from(i16::from_le_bytes([b[0], b[1]]))).collect(),
        other => {
            return Err(ModelError::data(path, format!("`tokens` has dtype {other:?}; an integer type is needed")));
        }
    };
    let ids = values.into_iter().map(|v| token_id(path, v)).collect::<Result<Vec<u32>>>()?;
    Ok(Array2::from_shape_vec((s, t), ids).expect("the file's shape matches its data"))
}

fn token_id(path: &Path, value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| ModelError::data(path, format!("{value} is not a token id")))
}

/// The shards in a directory and those below it, in the order of their paths.
fn parquet_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| ModelError::read(&dir, e))? {
            let path = entry.map_err(|e| ModelError::read(&dir, e))?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ModelError::data(dir, "no .parquet files in it"));
    }
    Ok(files)
}

fn reader(path: &Path) -> Result<ParquetReader<File>> {
    Ok(ParquetReader::new(File::open(path).map_err(|e| ModelError::read(path, e))?))
}

/// Rows `first..first + count` over all shards, each with the path that it comes from.
fn read_range(shards: &[Shard], first: usize, count: usize) -> Result<Vec<(&Path, Vec<u32>)>> {
    let (mut skip, mut left) = (first, count);
    let mut out = Vec::with_capacity(count);
    for shard in shards {
        if left == 0 {
            break;
        }
        if skip >= shard.rows {
            skip -= shard.rows;
            continue;
        }
        let take = left.min(shard.rows - skip);
        out.extend(read_rows(&shard.path, skip, take)?.into_iter().map(|row| (shard.path.as_path(), row)));
        left -= take;
        skip = 0;
    }
    Ok(out)
}

fn read_rows(path: &Path, first: usize, count: usize) -> Result<Vec<Vec<u32>>> {
    let bad = |e: polars::error::PolarsError| ModelError::data(path, e.to_string());
    let schema = reader(path)?.schema().map_err(bad)?;
    let column = COLUMNS.into_iter().find(|c| schema.contains(c)).ok_or_else(|| {
        ModelError::data(path, "no column `tokens` or `input_ids`; a pre-tokenised dataset has one of them")
    })?;
    let frame = reader(path)?
        .with_columns(Some(vec![column.to_owned()]))
        .with_slice(Some((first, count)))
        .finish()
        .map_err(bad)?;
    let series = frame.column(column).map_err(bad)?.as_materialized_series().clone();
    if !series.dtype().inner_dtype().is_some_and(DataType::is_integer) {
        return Err(ModelError::data(path, format!("column `{column}` is {}, not lists of integers", series.dtype())));
    }
    let lists = series.cast(&DataType::List(Box::new(DataType::Int64))).map_err(|_| {
        ModelError::data(path, format!("column `{column}` is {}, not lists of integers", series.dtype()))
    })?;
    let lists = lists.list().map_err(bad)?;
    let mut rows = Vec::with_capacity(count);
    for row in 0..lists.len() {
        let values =
            lists.get_as_series(row).ok_or_else(|| ModelError::data(path, format!("row {} is null", first + row)))?;
        let ids =
            values.i64().map_err(bad)?.iter().map(|v| token_id(path, v.unwrap_or(-1))).collect::<Result<Vec<u32>>>()?;
        rows.push(ids);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_separated_by_the_end_of_text_token() {
        let packed = pack_documents(&[vec![5, 6], vec![7]], 0);
        assert_eq!(packed, [0, 5, 6, 0, 7]);
    }

    #[test]
    fn a_repeating_source_starts_over() {
        let packed = |repeats| TokenSource {
            path: PathBuf::from("t"),
            context_size: 2,
            contexts: 3,
            repeats,
            data: Data::Packed(vec![0, 1, 2, 3, 4, 5, 6]),
        };
        assert_eq!(packed(true).read(2, 5).unwrap().into_raw_vec_and_offset().0, [4, 5, 0, 1, 2, 3, 4, 5, 0, 1]);
        assert!(packed(false).read(2, 2).is_err());
    }

    #[test]
    fn rows_give_their_first_context_or_all() {
        let path = Path::new("t");
        let rows = || 0..14_u32;
        assert_eq!(split_rows(path, rows(), 7, 3, RowUse::First).unwrap(), [0, 1, 2, 7, 8, 9]);
        assert_eq!(split_rows(path, rows(), 7, 3, RowUse::Split).unwrap(), [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]);
        assert!(split_rows(path, rows(), 7, 8, RowUse::First).is_err());
    }
}
