//! Rows of token ids as they are stored, and sequences that are read whole.

use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;

use super::no_tokens;
use super::tensor::Tensor;
use crate::corpus::files::Files;
use crate::corpus::{FileKind, jsonl};
use crate::error::{ModelError, Result};
use crate::parquet::{Shard, open_all};
use crate::reading::{Column, Contents, Reading};

/// Reads all sequences of a token file, which are of one length. Needs no tokenizer.
///
/// # Errors
/// As [`read_sequences`].
pub fn read_token_file(path: &Path) -> Result<Array2<u32>> {
    Ok(read_sequences(path, &Reading::tokens(), None, None)?.0)
}

/// Reads the first sequences of a token file, not more than `most`, `[sequences, context_size]`: a tensor of safetensors, a list column of Parquet or
/// an array in each object of JSON. Each row is a sequence, without the padding that `attention_mask` or `mask` names; with
/// `context_size` the first tokens of it. Also says what was left out ([`super::TokenSource::notes`]).
///
/// # Errors
/// If there is no such tensor or column, its values are not token ids, there are no rows, or rows have different lengths and no
/// `context_size` that all have is given.
pub fn read_sequences(
    path: &Path,
    reading: &Reading,
    most: Option<usize>,
    context_size: Option<usize>,
) -> Result<(Array2<u32>, Vec<String>)> {
    let reading = Reading { wanted: Some(Contents::Tokens), ..reading.clone() };
    let files = Files::find(path, &reading)?;
    let (at, left_out) = (files.kind.place(), files.left_out.clone());
    let (column, stored) = rows(files)?;
    let mut found: Vec<Row> = stored.take(most.unwrap_or(usize::MAX)).collect::<Result<_>>()?;
    let longest = found.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let columns = context_size.unwrap_or(longest);
    if found.is_empty() || columns > longest || columns < 2 {
        let rows = found.len();
        let why = match columns {
            _ if rows == 0 || longest < 2 => "at least one sequence of two tokens is needed".to_owned(),
            0 | 1 => format!("{columns} of each is asked for, and two are needed, one to predict the other"),
            columns => format!("{columns} tokens of each are asked for"),
        };
        return Err(ModelError::data(path, format!("it contains {rows} sequences of up to {longest} tokens; {why}")));
    }
    if let Some(short) = found.iter().min_by_key(|row| row.ids.len()).filter(|row| row.ids.len() < columns) {
        let len = short.ids.len();
        let padding = column.mask.map_or(String::new(), |mask| format!(" without the padding that `{mask}` names"));
        let remedy = match len {
            0 | 1 => "leave out the short ones".to_owned(),
            _ => format!("--context-size {len} uses the first {len} of each"),
        };
        return Err(ModelError::data(
            path,
            format!(
                "sequences of one length are needed, and its rows have {len} ({at} {}) to {longest} tokens{padding}; {remedy}",
                short.number
            ),
        ));
    }
    for row in &mut found {
        row.ids.truncate(columns);
    }
    let tokens: Vec<u32> = found.iter().flat_map(|row| row.ids.iter().copied()).collect();
    let tokens = Array2::from_shape_vec((found.len(), columns), tokens).expect("as many of each row");
    Ok((tokens, left_out.notes()))
}

/// A row of token ids.
pub(crate) struct Row {
    /// Its number in its file: of JSON, that of its line.
    pub number: usize,
    /// The ids that count.
    pub ids: Vec<u32>,
}

/// Rows, one after another.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<Row>> + Send>;

/// The rows of token files, and which column they are.
pub(super) fn rows(files: Files) -> Result<(Column, Rows)> {
    match files.kind {
        FileKind::Text => Err(no_tokens(&files.paths[0])),
        FileKind::Json => {
            let (column, _) = jsonl::column(&files)?;
            let (paths, of) = (files.paths.clone(), column.clone());
            Ok((column, Box::new(paths.into_iter().flat_map(move |path| jsonl::rows(path, &of, &files)))))
        }
        FileKind::Parquet => {
            let (shards, _) = open_all(&files.paths, &files.reading)?;
            let first = shards.iter().position(Shard::is_padded).unwrap_or(0);
            Ok((shards[first].column().clone(), Box::new(shards.into_iter().flat_map(shard_rows))))
        }
        FileKind::Safetensors => {
            let mut found = None;
            let mut tensors = Vec::new();
            for path in &files.paths {
                let tensor = Tensor::read(path, &files.reading)?;
                found = found.or_else(|| Some(tensor.column().clone()));
                tensors.push(tensor);
            }
            let column = found.ok_or_else(|| ModelError::data(Path::new(""), "no files"))?;
            Ok((column, Box::new(tensors.into_iter().flat_map(Tensor::into_rows))))
        }
    }
}

fn shard_rows(shard: Shard) -> impl Iterator<Item = Result<Row>> + Send {
    let shard = Arc::new(shard);
    let blocks: Vec<_> = shard.blocks().collect();
    blocks.into_iter().flat_map(move |block| {
        let mut rows = Vec::with_capacity(block.len());
        let read = shard.lists(block, |number, ids| {
            rows.push(ids.map_err(|why| shard.bad_row(number, why)).and_then(|ids| {
                let id = |&id: &i64| u32::try_from(id).map_err(|_| shard.no_token(number, id));
                Ok(Row { number, ids: ids.iter().map(id).collect::<Result<_>>()? })
            }));
        });
        rows.extend(read.err().map(Err));
        rows
    })
}
