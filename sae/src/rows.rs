//! Activations in files of tensors, one row per token, read one batch at a time.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Result, SaeError};
use crate::tensors::{Float, NpyHeader, TensorFile, Unread, is_lfs_pointer, open};

/// A tensor of activations: its last dimension is their width, the others together are tokens.
#[derive(Debug)]
pub struct Rows {
    path: PathBuf,
    name: String,
    rows: usize,
    width: usize,
    float: Float,
    from: BufReader<File>,
    read: usize,
}

impl Rows {
    /// Opens a file of safetensors or of numpy (`.npy`). Of several tensors it is the one of that name; without a name the only one of floats
    /// with two or more dimensions, or else the one that `usual` names first.
    ///
    /// # Errors
    /// If the file can't be read or is neither, or no tensor or several could be meant.
    pub fn open(path: &Path, tensor: Option<&str>, usual: &[&str]) -> Result<Self> {
        let read = |e: std::io::Error| SaeError::read(path, e);
        let mut file = open(path)?;
        let mut begin = Vec::new();
        (&mut file).take(128).read_to_end(&mut begin).map_err(read)?;
        if is_lfs_pointer(&begin) {
            return Err(SaeError::LfsPointer { path: path.to_owned() });
        }
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        let (name, float, start, shape) = if NpyHeader::is(&begin) {
            if let Some(name) = tensor {
                return Err(SaeError::config(path, format!("it is one array without a name; leave out `:{name}`")));
            }
            let len = file.metadata().map_err(read)?.len();
            let header = NpyHeader::read(&mut file).map_err(|why| SaeError::config(path, why))?;
            if header.fortran_order && header.shape.len() > 1 {
                let why = "it is in Fortran's order, column by column; write numpy.ascontiguousarray of it";
                return Err(SaeError::config(path, why));
            }
            let float = header.float().map_err(|why| SaeError::config(path, why))?;
            let bytes = header.count().and_then(|count| count.checked_mul(float.size()));
            if bytes.and_then(|bytes| header.len.checked_add(bytes as u64)) != Some(len) {
                let why = format!("its {len} bytes are not the array of shape {:?} that it names", header.shape);
                return Err(SaeError::config(path, why));
            }
            ("its array".to_owned(), float, header.len, header.shape)
        } else {
            let (name, float, start, shape) = TensorFile::open(path, "whoever reads it")?.activations(tensor, usual)?;
            (format!("`{name}`"), float, start, shape)
        };
        let Some((&width, tokens)) = shape.split_last().filter(|(width, tokens)| **width > 0 && !tokens.is_empty())
        else {
            let why = format!("{name} has shape {shape:?}; activations are [tokens, width]");
            return Err(SaeError::config(path, why));
        };
        file.seek(SeekFrom::Start(start)).map_err(read)?;
        Ok(Self {
            path: path.to_owned(),
            name,
            rows: tokens.iter().product(),
            width,
            float,
            from: BufReader::with_capacity(1 << 20, file),
            read: 0,
        })
    }

    /// Tokens.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in each.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The next rows, `most` at most, one after another; none at the end.
    ///
    /// # Errors
    /// If they can't be read, or a number is not finite.
    pub fn read(&mut self, most: usize) -> Result<Vec<f32>> {
        let rows = most.min(self.rows - self.read);
        let values = self.float.read(&mut self.from, rows * self.width).map_err(|why| match why {
            Unread::Io(source) => SaeError::read(&self.path, source),
            Unread::NotFinite { value, index } => SaeError::config(
                &self.path,
                format!(
                    "{} holds {value} in row {}, column {}; activations are finite numbers",
                    self.name,
                    self.read + index / self.width,
                    index % self.width
                ),
            ),
        })?;
        self.read += rows;
        Ok(values)
    }
}
