//! Token files that are read whole.

use std::path::{Path, PathBuf};

use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};

use super::RowUse;
use crate::error::{ModelError, Result};
use crate::parquet::Shard;

/// Reads a whole token file: safetensors with an integer tensor `tokens` [S, T], or parquet with a
/// list column `tokens` or `input_ids` whose rows are of one length. Needs no tokenizer.
///
/// # Errors
/// If there is no such tensor or column, or its values are not token ids.
pub fn read_token_file(path: &Path) -> Result<Array2<u32>> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => read_safetensors(path),
        Some("parquet") => read_parquet(path),
        _ => Err(ModelError::data(path, "a token file ends in .safetensors or .parquet")),
    }
}

/// What is used of the rows of a safetensors file.
pub(super) fn packed(files: &[PathBuf], path: &Path, context_size: usize, rows: RowUse) -> Result<Vec<u32>> {
    let [file] = files else {
        return Err(ModelError::data(path, "several safetensors files; name one"));
    };
    let tokens = read_safetensors(file)?;
    let used = rows.of_row(file, tokens.ncols(), context_size)?;
    Ok(tokens.slice(ndarray::s![.., ..used]).iter().copied().collect())
}

fn read_parquet(path: &Path) -> Result<Array2<u32>> {
    let shard = Shard::open(path)?;
    let (mut tokens, mut len, mut fault) = (Vec::new(), None, None);
    for rows in shard.blocks() {
        shard.lists(rows, |row, ids| {
            let Some(ids) = ids else {
                return fault = fault.take().or_else(|| Some(shard.null_row(row)));
            };
            if *len.get_or_insert(ids.len()) != ids.len() || ids.len() < 2 {
                let why = format!("row {row}: its rows are not all of one length of at least 2 tokens");
                fault = fault.take().or_else(|| Some(ModelError::data(path, why)));
            }
            for &id in ids {
                match u32::try_from(id) {
                    Ok(id) => tokens.push(id),
                    Err(_) => {
                        let why = format!("row {row}: {id} is not a token id");
                        fault = fault.take().or_else(|| Some(ModelError::data(path, why)));
                    }
                }
            }
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    let len = len.ok_or_else(|| ModelError::data(path, "no rows in it"))?;
    Ok(Array2::from_shape_vec((tokens.len() / len, len), tokens).expect("rows of one length"))
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
