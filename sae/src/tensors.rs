//! Safetensors files in and out.

mod floats;
mod npy;
mod npz;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo, View, serialize};

use crate::error::{Result, SaeError};

pub(crate) use self::floats::{Float, Unread};
pub use self::npy::Header as NpyHeader;
pub(crate) use self::npz::Npz;

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

/// Opens a file that is read at several places. One would wait for a pipe without an end.
pub(crate) fn open(path: &Path) -> Result<File> {
    let read = |e: std::io::Error| SaeError::read(path, e);
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(SaeError::config(
            path,
            "it is no regular file but, for example, a pipe or a directory; write its contents to a file first",
        ));
    }
    File::open(path).map_err(read)
}

/// A safetensors file of which one tensor is read at a time, and the name of the file that says which shapes its tensors have.
pub(crate) struct TensorFile {
    path: PathBuf,
    config: &'static str,
    file: File,
    header: Metadata,
    /// Where the tensors' bytes begin.
    start: u64,
}

/// Bytes of the length before the header.
const LENGTH: u64 = 8;
/// The longest header that the library takes.
const LONGEST_HEADER: u64 = 100_000_000;

impl TensorFile {
    pub(crate) fn open(path: &Path, config: &'static str) -> Result<Self> {
        let corrupt = |why: SafeTensorError| SaeError::Corrupt { path: path.to_owned(), why: why.to_string() };
        let read = |e: std::io::Error| SaeError::read(path, e);
        let mut file = open(path)?;
        let len = file.metadata().map_err(read)?.len();
        let mut begin = Vec::new();
        Read::by_ref(&mut file).take(128).read_to_end(&mut begin).map_err(read)?;
        if is_lfs_pointer(&begin) {
            return Err(SaeError::LfsPointer { path: path.to_owned() });
        }
        let length = begin.first_chunk().ok_or_else(|| corrupt(SafeTensorError::HeaderTooSmall))?;
        let length = u64::from_le_bytes(*length);
        if length > LONGEST_HEADER {
            return Err(corrupt(SafeTensorError::HeaderTooLarge));
        }
        if length > len - LENGTH {
            return Err(corrupt(SafeTensorError::InvalidHeaderLength));
        }
        let mut header = vec![0; length as usize];
        file.seek(SeekFrom::Start(LENGTH)).and_then(|_| file.read_exact(&mut header)).map_err(read)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| corrupt(SafeTensorError::InvalidHeaderDeserialization(e)))?;
        let start = LENGTH + length;
        if (len - start) != header.data_len() as u64 {
            return Err(corrupt(SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self { path: path.to_owned(), config, file, header, start })
    }

    pub(crate) fn metadata(&self, key: &str) -> Option<String> {
        self.header.metadata().as_ref().and_then(|m| m.get(key)).cloned()
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.tensor(name)?.shape.clone())
    }

    /// The shape of a matrix.
    pub(crate) fn matrix_shape(&self, name: &str) -> Result<[usize; 2]> {
        let shape = self.shape(name)?;
        <[usize; 2]>::try_from(shape).map_err(|shape| {
            SaeError::config(&self.path, format!("`{name}` has shape {shape:?}; a matrix is expected"))
        })
    }

    /// A tensor of f32, f16, bf16 or f64, as f32.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (kind, mut from) = self.open_floats(name, shape)?;
        kind.read(&mut from, shape.iter().product()).map_err(|e| self.unread(name, e))
    }

    /// A matrix `[rows, cols]` that the file holds transposed, `[cols, rows]`.
    pub(crate) fn transposed(&self, name: &str, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        let (kind, mut from) = self.open_floats(name, &[cols, rows])?;
        kind.read_transposed(&mut from, [cols, rows]).map_err(|e| self.unread(name, e))
    }

    /// The tensor that is one of activations: of that name, or without a name the only one of floats with two or more dimensions, or the one
    /// that `usual` names first. Gives its name, number format, first byte in the file and shape.
    pub(crate) fn activations(&self, name: Option<&str>, usual: &[&str]) -> Result<(String, Float, u64, Vec<usize>)> {
        let fits = |name: &str| {
            let tensor = self.header.info(name)?;
            float(tensor.dtype).filter(|_| tensor.shape.len() >= 2 || self.header.tensors().len() == 1)
        };
        let names = self.header.offset_keys();
        let fitting: Vec<&str> = names.iter().map(String::as_str).filter(|name| fits(name).is_some()).collect();
        let chosen = match (name, &fitting[..]) {
            (Some(name), _) => Some(name),
            (None, &[only]) => Some(only),
            (None, _) => usual.iter().find(|name| fitting.contains(name)).copied(),
        };
        let found = chosen.and_then(|name| Some((name, self.header.info(name)?)));
        let Some((name, tensor, kind)) = found.and_then(|(name, tensor)| Some((name, tensor, float(tensor.dtype)?)))
        else {
            let of = |name: &String| {
                let tensor = self.header.info(name).expect("its own name");
                format!("`{name}` ({:?} {:?})", tensor.dtype, tensor.shape).to_lowercase()
            };
            let there: Vec<String> = names.iter().map(of).collect();
            let why = match name {
                Some(name) => format!("`{name}` is no tensor of floats in it"),
                None => "say after a `:` which of its tensors has the activations".to_owned(),
            };
            return Err(SaeError::config(&self.path, format!("{why}; there are {}", there.join(", "))));
        };
        let start = self.start + tensor.data_offsets.0 as u64;
        Ok((name.to_owned(), kind, start, tensor.shape.clone()))
    }

    /// A vector of i32.
    pub(crate) fn ints(&self, name: &str, len: usize) -> Result<Vec<i32>> {
        let tensor = self.tensor(name)?;
        if tensor.dtype != Dtype::I32 || tensor.shape != [len] {
            return Err(self.wrong_shape(name, tensor, &[len]));
        }
        let bytes = self.bytes(tensor)?;
        Ok(bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// A single number, of whatever float or integer type, as a tensor without dimensions or with one element.
    pub(crate) fn scalar(&self, name: &str) -> Result<f64> {
        let tensor = self.tensor(name)?;
        if tensor.shape.iter().product::<usize>() != 1 {
            return Err(self.wrong_shape(name, tensor, &[]));
        }
        let bytes = self.bytes(tensor)?;
        let value = match (tensor.dtype, &bytes[..]) {
            (Dtype::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
            // Numbers that large are no counts, so that rounding one to f64 hides nothing.
            (Dtype::I64, &[a, b, c, d, e, f, g, h]) => i64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64,
            (dtype, bytes) => {
                let kind = float(dtype).ok_or_else(|| self.wrong_shape(name, tensor, &[]))?;
                kind.read(&mut &*bytes, 1).map_err(|e| self.unread(name, e))?[0].into()
            }
        };
        Ok(value)
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.header.info(name).ok_or_else(|| SaeError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
            config: self.config,
        })
    }

    /// Its bytes, to be read one after another.
    fn reader<'a>(&'a self, tensor: &TensorInfo) -> Result<impl Read + use<'a>> {
        let (begin, end) = tensor.data_offsets;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + begin as u64)).map_err(|e| SaeError::read(&self.path, e))?;
        Ok(file.take((end - begin) as u64))
    }

    fn bytes(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader(tensor)?.read_to_end(&mut bytes).map_err(|e| SaeError::read(&self.path, e))?;
        Ok(bytes)
    }

    fn open_floats<'a>(&'a self, name: &str, shape: &[usize]) -> Result<(Float, impl Read + use<'a>)> {
        let tensor = self.tensor(name)?;
        let kind = float(tensor.dtype).filter(|_| tensor.shape == shape);
        Ok((kind.ok_or_else(|| self.wrong_shape(name, tensor, shape))?, self.reader(tensor)?))
    }

    fn unread(&self, name: &str, why: Unread) -> SaeError {
        SaeError::unread(&self.path, name, why)
    }

    fn wrong_shape(&self, name: &str, found: &TensorInfo, expected: &[usize]) -> SaeError {
        SaeError::WrongShape {
            path: self.path.clone(),
            name: name.to_owned(),
            config: self.config,
            expected: expected.to_vec(),
            found: format!("{:?} {:?}", found.dtype, found.shape).to_lowercase(),
        }
    }
}

/// The floats of a dtype; `None` if it is none of floats that are read.
fn float(dtype: Dtype) -> Option<Float> {
    Some(match dtype {
        Dtype::F32 => Float::F32,
        Dtype::F16 => Float::F16,
        Dtype::BF16 => Float::Bf16,
        Dtype::F64 => Float::F64,
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
