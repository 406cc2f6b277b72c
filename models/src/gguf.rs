//! GGUF, the file format of llama.cpp: a model's weights, its configuration and its tokenizer in one file.
//!
//! - `reader`: the header, `value`: its keys' values, `kind` and `blocks`: number formats to f32.
//! - `tokenizer`: the tokenizer that the file describes (`splitting`: into words, `scores`: SentencePiece's order of merges).
//! - `config`: the decoder that it describes (`rope`: its rotary embeddings), `names`: what its tensors are called.

mod blocks;
mod config;
mod kind;
mod names;
mod reader;
mod rope;
mod scores;
mod splitting;
mod tokenizer;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{ModelError, Result};
use crate::files;
pub(crate) use config::config;
pub use kind::TensorType;
pub(crate) use names::names;
pub use reader::TensorInfo;
use reader::{Bad, Cursor};
pub use tokenizer::{FileTokenizer, tokenizer};
pub use value::{Data, Type, Value};

/// An opened file. It stays mapped into memory; strings and tensors are read from there.
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    /// The keys and their values.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors by name. Their places are checked: aligned, inside the file and apart from each other.
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// If the file is unreadable, is not GGUF of version 2 or 3 in little-endian order, is a part of a split model, holds a
    /// tensor in a number format that is not read, or contradicts itself; with the byte, and the key or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let map = files::map(path)?;
        match reader::parse(&map) {
            Ok(header) => Ok(Self { path: path.to_owned(), map, metadata: header.metadata, tensors: header.tensors }),
            Err(bad) => Err(error(path, bad)),
        }
    }

    /// The file, mapped, and its tensors.
    pub(crate) fn into_weights(self) -> (PathBuf, Mmap, BTreeMap<String, TensorInfo>) {
        (self.path, self.map, self.tensors)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a tensor.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.map[tensor.bytes.clone()]
    }

    /// The string of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else, or not UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a string", |value| match &value.data {
            Data::Text(range) => std::str::from_utf8(&self.map[range.clone()]).ok(),
            _ => None,
        })
    }

    /// The whole number of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else, negative, or larger than memory has places.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number", |value| usize::try_from(value.unsigned()?).ok())
    }

    /// The floating-point number of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else, or not finite.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a finite floating-point number", |value| match value.data {
            Data::Float(number) if number.is_finite() => Some(number),
            _ => None,
        })
    }

    /// The truth value of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| match value.data {
            Data::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// The strings of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else, or one of them is not UTF-8.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.array(key, "an array of strings in UTF-8", |data| match data {
            Data::Text(range) => std::str::from_utf8(&self.map[range]).ok(),
            _ => None,
        })
    }

    /// The whole numbers of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else, or one of them is negative or above 2^32 − 1.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.array(key, "an array of whole numbers from 0 to 2^32 - 1", |data| match data {
            Data::Unsigned(n) => u32::try_from(n).ok(),
            Data::Signed(n) => u32::try_from(n).ok(),
            _ => None,
        })
    }

    /// The floating-point numbers of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else, or one of them is not finite.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.array(key, "an array of finite floating-point numbers", |data| match data {
            Data::Float(n) if n.is_finite() => Some(n),
            _ => None,
        })
    }

    /// The truth values of a key, if it is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.array(key, "an array of true and false", |data| match data {
            Data::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    fn get<'a, T>(&'a self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let bad = || self.bad(key, format!("is {} where {wanted} is expected", value.what()));
        read(value).map(Some).ok_or_else(bad)
    }

    fn array<T>(&self, key: &str, wanted: &str, read: impl Fn(Data) -> Option<T>) -> Result<Option<Vec<T>>> {
        self.get(key, wanted, |value| {
            let Data::Array { of, len, bytes } = &value.data else { return None };
            let mut cursor = Cursor { bytes: &self.map[..bytes.end], at: bytes.start };
            (0..*len).map(|_| read(value::read_as(*of, &mut cursor, 0).ok()?)).collect()
        })
    }

    /// The error of a key's value.
    fn bad(&self, key: &str, why: impl std::fmt::Display) -> ModelError {
        let at = self.metadata.get(key).map_or(0, |value| value.at);
        error(&self.path, Bad::new(at, format!("key `{key}` {why}")))
    }

    /// The error of a file without a key that it needs.
    fn missing(&self, key: &str) -> ModelError {
        ModelError::data(&self.path, format!("key `{key}` is missing; was the file made by llama.cpp's converter?"))
    }
}

fn error(path: &Path, bad: Bad) -> ModelError {
    ModelError::Gguf { path: path.to_owned(), at: bad.at, why: bad.why }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
