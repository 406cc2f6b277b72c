//! The tensors of a checkpoint, read as f32 by their names: of one safetensors file, of shards with an index, or of a GGUF file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

use crate::error::{ModelError, Result};
use crate::files::{self, read_text};
use crate::finite::first_not_finite;
use crate::gguf::{Gguf, TensorInfo, TensorType};

/// An opened checkpoint, whose tensors are read by name.
pub struct Checkpoint {
    /// The directory, or the GGUF file.
    path: PathBuf,
    shards: Vec<(PathBuf, Mmap)>,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    shard: usize,
    format: Format,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// How numbers are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// In a way that is read.
    Read(TensorType),
    /// As safetensors stores what no weights are read from.
    Other(Dtype),
}

impl Format {
    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F64 => Self::Read(TensorType::F64),
            Dtype::F32 => Self::Read(TensorType::F32),
            Dtype::F16 => Self::Read(TensorType::F16),
            Dtype::BF16 => Self::Read(TensorType::BF16),
            other => Self::Other(other),
        }
    }

    /// Its name, in hashes too: not to change with what a library calls it, as far as weights are read from it.
    fn name(self) -> String {
        match self {
            Self::Read(kind) => kind.name().to_owned(),
            Self::Other(dtype) => format!("{dtype:?}"),
        }
    }

    fn widen(self, bytes: &[u8]) -> Option<Vec<f32>> {
        match self {
            Self::Read(kind) => Some(kind.widen(bytes)),
            Self::Other(_) => None,
        }
    }
}

impl Checkpoint {
    /// The tensors of a GGUF file.
    pub(crate) fn of_gguf(file: Gguf) -> Self {
        let (path, map, tensors) = file.into_weights();
        let entry = |info: TensorInfo| Entry {
            shard: 0,
            format: Format::Read(info.kind),
            shape: info.shape,
            bytes: info.bytes,
        };
        let entries = tensors.into_iter().map(|(name, info)| (name, entry(info))).collect();
        Self { path: path.clone(), shards: vec![(path, map)], entries }
    }

    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// If there are no weights, or a file is unreadable or truncated.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut this = Self { path: dir.to_owned(), shards: Vec::new(), entries: BTreeMap::new() };
        for path in weight_files(dir)? {
            this.add_shard(path)?;
        }
        Ok(this)
    }

    fn add_shard(&mut self, path: PathBuf) -> Result<()> {
        let map = files::map(&path)?;
        let shard = self.shards.len();
        let tensors = SafeTensors::deserialize(&map)
            .map_err(|e| ModelError::Corrupt { path: path.clone(), why: e.to_string() })?;
        let base = map.as_ptr() as usize;
        for (name, view) in tensors.iter() {
            let start = view.data().as_ptr() as usize - base;
            let entry = Entry {
                shard,
                format: Format::of(view.dtype()),
                shape: view.shape().to_vec(),
                bytes: start..start + view.data().len(),
            };
            if let Some(other) = self.entries.insert(name.to_owned(), entry) {
                return Err(ModelError::Twice {
                    path,
                    name: name.to_owned(),
                    other: self.shards[other.shard].0.clone(),
                });
            }
        }
        drop(tensors);
        self.shards.push((path, map));
        Ok(())
    }

    /// The directory of the files, or the GGUF file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a tensor of that name is in the files.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether two tensors hold the same values: of one shape and, each widened to f32, equal element by element.
    pub(crate) fn same(&self, a: &str, b: &str) -> bool {
        let (Some(a), Some(b)) = (self.entries.get(a), self.entries.get(b)) else { return false };
        if a.shape != b.shape {
            return false;
        }
        let bytes = |entry: &Entry| &self.shards[entry.shard].1[entry.bytes.clone()];
        if a.format == b.format {
            return bytes(a) == bytes(b);
        }
        a.format.widen(bytes(a)).is_some_and(|values| Some(values) == b.format.widen(bytes(b)))
    }

    /// Checks by the headers that the files hold tensors of these names and shapes, and no others that `ignored` does not know.
    ///
    /// # Errors
    /// Names the first that is missing, misshapen, not of floats or surplus.
    pub(crate) fn check(&self, shapes: &BTreeMap<String, Vec<usize>>, ignored: impl Fn(&str) -> bool) -> Result<()> {
        for (name, shape) in shapes {
            let entry = self.entry(name)?;
            let path = || self.shards[entry.shard].0.clone();
            if entry.shape != *shape {
                return Err(ModelError::WrongShape {
                    path: path(),
                    name: name.clone(),
                    expected: shape.clone(),
                    found: entry.shape.clone(),
                });
            }
            if let Format::Other(_) = entry.format {
                return Err(self.no_float(name, entry));
            }
        }
        let mut surplus = self.entries.keys().filter(|name| !shapes.contains_key(*name) && !ignored(name));
        match surplus.next() {
            None => Ok(()),
            Some(first) => Err(ModelError::SurplusTensors {
                path: self.path.clone(),
                count: 1 + surplus.count(),
                first: first.clone(),
            }),
        }
    }

    /// The number format of a tensor of floats of two bytes.
    pub(crate) fn half_type(&self, name: &str) -> Option<burn::tensor::DType> {
        match self.entries.get(name)?.format {
            Format::Read(TensorType::BF16) => Some(burn::tensor::DType::BF16),
            Format::Read(TensorType::F16) => Some(burn::tensor::DType::F16),
            Format::Read(_) | Format::Other(_) => None,
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let missing = || ModelError::MissingTensor { path: self.path.clone(), name: name.to_owned() };
        self.entries.get(name).ok_or_else(missing)
    }

    fn no_float(&self, name: &str, entry: &Entry) -> ModelError {
        let path = self.shards[entry.shard].0.clone();
        ModelError::Dtype { path, name: name.to_owned(), dtype: entry.format.name() }
    }

    fn not_finite(&self, name: &str, entry: &Entry, (index, value): (usize, f32)) -> ModelError {
        let path = self.shards[entry.shard].0.clone();
        ModelError::NotFinite { path, name: name.to_owned(), value, index }
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.shards[entry.shard].1[entry.bytes.clone()]
    }

    /// The values of a tensor, widened to f32, in row-major order.
    ///
    /// # Errors
    /// If the tensor is missing, is not of floats, or holds NaN or infinity.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        let values = entry.format.widen(self.bytes(entry)).ok_or_else(|| self.no_float(name, entry))?;
        match first_not_finite(&values) {
            None => Ok(values),
            Some(index) => Err(self.not_finite(name, entry, (index, values[index]))),
        }
    }

    /// Whether [`Self::read`] would give the values, which are not kept.
    fn look_at(&self, name: &str) -> Result<()> {
        let entry = self.entry(name)?;
        let Format::Read(kind) = entry.format else { return Err(self.no_float(name, entry)) };
        match kind.first_not_finite(self.bytes(entry)) {
            None => Ok(()),
            Some(first) => Err(self.not_finite(name, entry, first)),
        }
    }

    /// Checks that the tensors which `ignored` does not name hold only finite values.
    ///
    /// # Errors
    /// Names the first that does not.
    pub(crate) fn check_values(&self, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let names: Vec<&String> = self.entries.keys().filter(|name| !ignored(name)).collect();
        names.into_par_iter().find_map_first(|name| self.look_at(name).err()).map_or(Ok(()), Err)
    }

    /// Elements, bytes and dtypes of the tensors that `ignored` does not name.
    pub(crate) fn size(&self, ignored: impl Fn(&str) -> bool) -> (u64, u64, Vec<String>) {
        let counted = || self.entries.iter().filter(|(name, _)| !ignored(name)).map(|(_, entry)| entry);
        let elements = counted().map(|entry| entry.shape.iter().map(|&n| n as u64).product::<u64>()).sum();
        let bytes = counted().map(|entry| entry.bytes.len() as u64).sum();
        let mut dtypes: Vec<String> = counted().map(|entry| entry.format.name()).collect();
        dtypes.sort();
        dtypes.dedup();
        (elements, bytes, dtypes)
    }

    /// Bytes of memory that the tensors take that `ignored` does not name: two a number on a GPU, if they are bf16 or f16, else four.
    pub(crate) fn memory(&self, gpu: bool, ignored: impl Fn(&str) -> bool) -> u64 {
        let bytes = |(name, entry): (&String, &Entry)| {
            let elements = entry.shape.iter().map(|&n| n as u64).product::<u64>();
            elements * if gpu && entry.shape.len() > 1 && self.half_type(name).is_some() { 2 } else { 4 }
        };
        self.entries.iter().filter(|(name, _)| !ignored(name)).map(bytes).sum()
    }

    /// A hash of a configuration's fingerprint and of every tensor's name, dtype, shape and bytes: the same however
    /// the checkpoint is sharded and wherever it lies. Tensors that `ignored` names don't count.
    pub(crate) fn hash(&self, fingerprint: &str, ignored: impl Fn(&str) -> bool) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(fingerprint.as_bytes());
        for (name, entry) in self.entries.iter().filter(|(name, _)| !ignored(name)) {
            let shape: Vec<String> = entry.shape.iter().map(ToString::to_string).collect();
            hasher.update(format!("{name} {} [{}]\n", entry.format.name(), shape.join(", ")).as_bytes());
            hasher.update_rayon(self.bytes(entry));
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The safetensors files of a checkpoint directory, in order.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = dir.join("model.safetensors.index.json");
    if !index.is_file() {
        return Err(ModelError::NoWeights { dir: dir.to_owned() });
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = read_text(&index)?;
    let parsed: Index =
        serde_json::from_str(&text).map_err(|e| ModelError::Config { path: index.clone(), why: e.to_string() })?;
    let mut names: Vec<String> = parsed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // A shard is a file beside its index; a path that leaves the directory is not one.
    if let Some(bad) = names.iter().find(|name| name.contains(['/', '\\'])) {
        return Err(ModelError::Config { path: index, why: format!("shard `{bad}` is not a plain file name") });
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}
