//! Token ids in a tensor of a safetensors file.

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::stored::Row;
use crate::corpus::padding;
use crate::error::{ModelError, Result};
use crate::files::{is_lfs_pointer, lfs_pointer};
use crate::reading::{Column, Contents, Field, Reading};

/// Ids `[rows, len]`, and which of them count.
pub(super) struct Tensor {
    path: PathBuf,
    column: Column,
    len: usize,
    ids: Vec<i64>,
    mask: Option<Vec<i64>>,
}

impl Tensor {
    /// Reads the tensor of token ids of a file.
    ///
    /// # Errors
    /// If there is none, it has another shape than `[rows, len]`, or is not of integers.
    pub(super) fn read(path: &Path, reading: &Reading) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| ModelError::read(path, e))?;
        if is_lfs_pointer(&bytes) {
            return Err(lfs_pointer(path));
        }
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| ModelError::Corrupt { path: path.to_owned(), why: e.to_string() })?;
        let mut fields: Vec<Field> = file.iter().map(|(name, tensor)| field(name, &tensor)).collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let column = reading.choose(&fields, "tensor").map_err(|why| ModelError::data(path, why))?;
        let bad = |why: String| ModelError::data(path, why);
        let tensor = |name: &str| file.tensor(name).map_err(|e| bad(e.to_string()));
        let ids = tensor(&column.name)?;
        let &[rows, len] = ids.shape() else {
            return Err(bad(format!("`{}` has shape {:?}; [sequences, tokens] is needed", column.name, ids.shape())));
        };
        if rows == 0 || len < 2 {
            return Err(bad(format!(
                "`{}` has shape {:?}; at least one sequence of two tokens is needed",
                column.name,
                ids.shape()
            )));
        }
        let mask = column.mask.as_deref().map(tensor).transpose()?;
        if let (Some(name), Some(mask)) = (&column.mask, &mask)
            && mask.shape() != ids.shape()
        {
            return Err(bad(format!("`{name}` has shape {:?}, `{}` {:?}", mask.shape(), column.name, ids.shape())));
        }
        let values = |tensor: &TensorView<'_>| integers(tensor).expect("only integers are chosen");
        Ok(Self { path: path.to_owned(), len, ids: values(&ids), mask: mask.as_ref().map(values), column })
    }

    pub(super) fn column(&self) -> &Column {
        &self.column
    }

    /// The ids that count of each row.
    pub(super) fn into_rows(self) -> impl Iterator<Item = Result<Row>> {
        (0..self.ids.len() / self.len).map(move |number| {
            let all = number * self.len..(number + 1) * self.len;
            let bad = |why: String| ModelError::data(&self.path, format!("row {number}: {why}"));
            let counted = match (&self.mask, &self.column.mask) {
                (Some(mask), Some(name)) => {
                    padding::counted(self.len, &mask[all.clone()]).map_err(|why| bad(format!("`{name}` {why}")))?
                }
                _ => 0..self.len,
            };
            let id = |&id: &i64| u32::try_from(id).map_err(|_| bad(format!("{id} is not a token id")));
            Ok(Row { number, ids: self.ids[all][counted].iter().map(id).collect::<Result<_>>()? })
        })
    }
}

/// A tensor as a column.
fn field(name: &str, tensor: &TensorView<'_>) -> Field {
    let is_integer = is_integer(tensor.dtype());
    Field {
        name: name.to_owned(),
        fits: is_integer.then_some(Contents::Tokens),
        is_mask: is_integer || tensor.dtype() == Dtype::BOOL,
        kind: format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
    }
}

fn is_integer(dtype: Dtype) -> bool {
    use Dtype::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// The values of a tensor of integers or booleans; those beyond `i64` as −1, which is no token id either.
fn integers(tensor: &TensorView<'_>) -> Option<Vec<i64>> {
    fn read<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> i64) -> Vec<i64> {
        bytes.as_chunks::<N>().0.iter().map(|&b| value(b)).collect()
    }
    let data = tensor.data();
    Some(match tensor.dtype() {
        Dtype::BOOL | Dtype::U8 => data.iter().map(|&b| i64::from(b)).collect(),
        Dtype::I8 => data.iter().map(|&b| i64::from(b as i8)).collect(),
        Dtype::I16 => read(data, |b| i64::from(i16::from_le_bytes(b))),
        Dtype::U16 => read(data, |b| i64::from(u16::from_le_bytes(b))),
        Dtype::I32 => read(data, |b| i64::from(i32::from_le_bytes(b))),
        Dtype::U32 => read(data, |b| i64::from(u32::from_le_bytes(b))),
        Dtype::I64 => read(data, i64::from_le_bytes),
        Dtype::U64 => read(data, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(-1)),
        _ => return None,
    })
}
