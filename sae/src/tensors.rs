//! Safetensors files in and out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View, serialize};

use crate::error::{Result, SaeError};

/// A tensor on its way into a file.
pub(crate) struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    pub(crate) fn floats(values: &[f32], shape: &[usize]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    pub(crate) fn ints(values: &[i32], shape: &[usize]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: Dtype::I32, shape: shape.to_vec(), bytes }
    }
}

impl View for Array {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

pub(crate) fn write_tensors<N: AsRef<str> + Ord + std::fmt::Display>(
    path: &Path,
    tensors: impl IntoIterator<Item = (N, Array)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let bytes = serialize(tensors, metadata).map_err(|e| SaeError::config(path, e.to_string()))?;
    write_synced(path, &bytes)
}

/// Writes a file and waits until it is on disk: what is renamed into place afterwards must not be empty after a power cut.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| SaeError::write(path, e))
}

/// Whether a file is what Git LFS leaves where it has not fetched the real one
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
pub(crate) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// A safetensors file in memory, and the name of the file that says which shapes its tensors have.
pub(crate) struct TensorFile {
    path: PathBuf,
    config: &'static str,
    bytes: Vec<u8>,
}

impl TensorFile {
    pub(crate) fn open(path: &Path, config: &'static str) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| SaeError::read(path, e))?;
        if is_lfs_pointer(&bytes) {
            return Err(SaeError::LfsPointer { path: path.to_owned() });
        }
        let file = Self { path: path.to_owned(), config, bytes };
        file.tensors()?;
        Ok(file)
    }

    pub(crate) fn metadata(&self, key: &str) -> Result<Option<String>> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(|e| self.corrupt(&e))?;
        Ok(header.metadata().as_ref().and_then(|m| m.get(key)).cloned())
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        Ok(self.tensors()?.tensor(name).is_ok())
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.tensor(name)?.shape().to_vec())
    }

    /// A tensor of f32, f16, bf16 or f64, as f32.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let values = (tensor.shape() == shape).then(|| widen(tensor.data(), tensor.dtype())).flatten();
        let values = values.ok_or_else(|| self.wrong_shape(name, &tensor, shape))?;
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(index) => Err(self.not_finite(name, values[index], index)),
        }
    }

    /// A matrix `[rows, cols]` that the file holds transposed, `[cols, rows]`.
    pub(crate) fn transposed(&self, name: &str, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        Ok(transposed(&self.floats(name, &[cols, rows])?, cols, rows))
    }

    /// A vector of i32.
    pub(crate) fn ints(&self, name: &str, len: usize) -> Result<Vec<i32>> {
        let tensor = self.tensor(name)?;
        if tensor.dtype() != Dtype::I32 || tensor.shape() != [len] {
            return Err(self.wrong_shape(name, &tensor, &[len]));
        }
        Ok(tensor.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// A single number, of whatever float or integer type, as a tensor without dimensions or with one element.
    pub(crate) fn scalar(&self, name: &str) -> Result<f64> {
        let tensor = self.tensor(name)?;
        let value = match (tensor.dtype(), tensor.data()) {
            _ if tensor.shape().iter().product::<usize>() != 1 => None,
            (Dtype::I32, &[a, b, c, d]) => Some(i32::from_le_bytes([a, b, c, d]).into()),
            // Numbers that large are no counts, so that rounding one to f64 hides nothing.
            (Dtype::I64, &[a, b, c, d, e, f, g, h]) => Some(i64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64),
            (dtype, data) => widen(data, dtype).map(|values| values[0].into()),
        };
        let value = value.ok_or_else(|| self.wrong_shape(name, &tensor, &[]))?;
        if value.is_finite() { Ok(value) } else { Err(self.not_finite(name, value as f32, 0)) }
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| self.corrupt(&e))
    }

    fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensors()?.tensor(name).map_err(|_| SaeError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
            config: self.config,
        })
    }

    fn corrupt(&self, why: &safetensors::SafeTensorError) -> SaeError {
        SaeError::Corrupt { path: self.path.clone(), why: why.to_string() }
    }

    fn not_finite(&self, name: &str, value: f32, index: usize) -> SaeError {
        SaeError::NotFinite { path: self.path.clone(), name: name.to_owned(), value, index }
    }

    fn wrong_shape(&self, name: &str, found: &TensorView<'_>, expected: &[usize]) -> SaeError {
        SaeError::WrongShape {
            path: self.path.clone(),
            name: name.to_owned(),
            config: self.config,
            expected: expected.to_vec(),
            found: format!("{:?} {:?}", found.dtype(), found.shape()).to_lowercase(),
        }
    }
}

/// Floats as f32; `None` for another dtype.
fn widen(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F64 => bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
            .collect(),
        _ => return None,
    })
}

/// `[rows, cols]` to `[cols, rows]`.
pub(crate) fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (row, line) in values.chunks(cols.max(1)).enumerate() {
        for (col, &v) in line.iter().enumerate() {
            out[col * rows + row] = v;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn narrow_floats_widen_exactly() {
        let values = [0.0_f32, -1.5, 65504.0, 6.103_515_6e-5, f32::INFINITY];
        let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        assert_eq!(widen(&halves, Dtype::F16).unwrap(), values);
        let brains: Vec<u8> = [1.0_f32, -3.5].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        assert_eq!(widen(&brains, Dtype::BF16).unwrap(), [1.0, -3.5]);
        assert_eq!(widen(&1e-3_f64.to_le_bytes(), Dtype::F64).unwrap(), [1e-3_f32]);
        assert!(widen(&[0; 4], Dtype::I32).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile_of(&bytes);
            let _ = TensorFile::open(&dir, "cfg.json").and_then(|file| file.floats("W_enc", &[2, 3]));
            std::fs::remove_file(&dir).unwrap();
        }

        #[test]
        fn transposing_twice_changes_nothing(rows in 1_usize..7, cols in 1_usize..7) {
            let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            prop_assert_eq!(&transposed(&transposed(&values, rows, cols), cols, rows), &values);
        }
    }

    fn tempfile_of(bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("assay-tensors-{}.safetensors", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }
}
