//! Activations on disk: a directory of safetensors files, the shards, and `index.json`, which says what they are.
//!
//! A shard has one tensor, `activations`, `[rows, d]`. Rows are tokens: sequence after sequence, so that row r of all shards together is
//! token r mod T of sequence ⌊r/T⌋. Only finished shards are in the index, and each is there whole or not at all, so that a killed capture
//! goes on where it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use half::bf16;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::differences::differences;
use crate::files::{ON_ITS_WAY, read_json, write_atomic, write_atomic_with};

/// The name of the tensor.
pub const TENSOR: &str = "activations";

/// What says of a directory that it has activations.
pub const INDEX: &str = "index.json";
const FORMAT: &str = "assay activations 1";

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Dtype {
    /// 4 bytes, as they are computed
    F32,
    /// 2 bytes, rounded to the nearest
    BF16,
}

impl Dtype {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::BF16 => 2,
        }
    }

    fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        }
    }
}

/// What activations they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The model, as it was named.
    pub model: String,
    /// BLAKE3 of its configuration and weights.
    pub weights: String,
    /// The hook, and whether the mean over d_model is left out.
    pub hook: String,
    /// BLAKE3 of the token ids, u32 in little-endian order, sequence after sequence.
    pub tokens: String,
    /// S.
    pub sequences: usize,
    /// T.
    pub context_size: usize,
    /// The token that was put at the start of each sequence of text.
    pub bos: Option<u32>,
    /// How numbers are written.
    pub dtype: Dtype,
    /// Rows and columns of all shards together: S·T and d.
    pub shape: [usize; 2],
    /// Sequences of a shard; the last may have fewer.
    pub shard_sequences: usize,
}

/// `index.json`.
#[derive(Serialize, Deserialize)]
struct Index {
    format: String,
    #[serde(flatten)]
    contents: Contents,
    /// Those that are finished: file, and its rows.
    shards: BTreeMap<String, usize>,
}

/// A directory of shards.
pub struct Shards {
    dir: PathBuf,
    index: Index,
}

impl Shards {
    /// Checks that a directory can take shards: that it is empty, not there, or has some already.
    ///
    /// # Errors
    /// If it holds something else, or an index that can't be read.
    pub fn check(dir: &Path) -> Result<()> {
        Self::there(dir).map(|_| ())
    }

    /// The index of a directory, if it has one.
    fn there(dir: &Path) -> Result<Option<Index>> {
        let shown = dir.display();
        ensure!(dir.is_dir() || dir.symlink_metadata().is_err(), "{shown} is a file; give another --out");
        let index: Option<Index> = read_json(&dir.join(INDEX), "it is no index of activations; give another --out")?;
        match index {
            Some(index) => {
                ensure!(
                    index.format == FORMAT,
                    "{shown} has `{}`, expected `{FORMAT}`; give another --out",
                    index.format
                );
                Ok(Some(index))
            }
            None => {
                let mut names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
                // What a killed process leaves of a file on its way is nobody's.
                let other = names.find(|name| !name.to_string_lossy().starts_with(ON_ITS_WAY));
                ensure!(
                    other.is_none(),
                    "{shown} is there already and has no activations but other files, such as {}; give another --out",
                    other.unwrap_or_default().display()
                );
                Ok(None)
            }
        }
    }

    /// Opens a directory for these activations; the shards of the same that are there are kept.
    ///
    /// # Errors
    /// As [`Self::check`]; if it has other activations: the message says in what they differ.
    pub fn open(dir: &Path, contents: Contents) -> Result<Self> {
        let mut shards = BTreeMap::new();
        if let Some(there) = Self::there(dir)?.filter(|there| !there.shards.is_empty()) {
            // A model may be named otherwise and be the same.
            let same = Contents { model: contents.model.clone(), ..there.contents.clone() };
            if same != contents {
                let differs = differences(&serde_json::to_value(&same)?, &serde_json::to_value(&contents)?);
                bail!("{} has other activations: {differs}; give another --out", dir.display());
            }
            shards = there.shards;
        }
        let mut this = Self { dir: dir.to_owned(), index: Index { format: FORMAT.to_owned(), contents, shards } };
        // A file that somebody cut short or took away is written again.
        let finished =
            this.shards().filter(|shard| this.is_whole(shard)).map(|shard| (shard.file, shard.rows)).collect();
        this.index.shards = finished;
        Ok(this)
    }

    /// All shards, finished or not.
    fn shards(&self) -> impl Iterator<Item = Shard> + use<> {
        shards(&self.index.contents).collect::<Vec<_>>().into_iter()
    }

    fn is_whole(&self, shard: &Shard) -> bool {
        let expected = (header(&self.index.contents, shard).len() + self.index.contents.bytes(shard.rows)) as u64;
        let found = self.dir.join(&shard.file).metadata();
        self.index.shards.contains_key(&shard.file) && found.is_ok_and(|found| found.len() == expected)
    }

    /// The shards that are not finished.
    pub fn missing(&self) -> Vec<Shard> {
        self.shards().filter(|shard| !self.index.shards.contains_key(&shard.file)).collect()
    }

    /// Writes a shard, of which `fill` gives the rows, in order and in parts of any size, and adds it to the index.
    ///
    /// # Errors
    /// If it can't be written, or those of `fill`; then there is nothing of the shard.
    pub fn write(
        &mut self,
        shard: &Shard,
        fill: impl FnOnce(&mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        // Before the first shard, so that a directory is ours from then on.
        self.write_index()?;
        write_shard(&self.dir.join(&shard.file), &self.index.contents, shard, fill)?;
        self.index.shards.insert(shard.file.clone(), shard.rows);
        self.write_index()
    }

    fn write_index(&self) -> Result<()> {
        write_atomic(&self.dir.join(INDEX), &serde_json::to_vec_pretty(&self.index)?)
    }
}

/// A shard: a file, and which rows of all it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The name of the file.
    pub file: String,
    /// Its first row.
    pub first: usize,
    /// How many it has.
    pub rows: usize,
}

/// What is in a directory of shards, and the shards in the order of their rows; `None` if it has no index.
///
/// # Errors
/// If the index can't be read, a shard is missing, or a file is not the shard that its name says: of other activations, other rows, or
/// another length.
pub fn finished(dir: &Path) -> Result<Option<(Contents, Vec<Shard>)>> {
    let index: Option<Index> = read_json(&dir.join(INDEX), "it is no index of activations")?;
    let Some(Index { format, contents, shards: listed }) = index else { return Ok(None) };
    let shown = dir.join(INDEX);
    let shown = shown.display();
    ensure!(format == FORMAT, "{shown}: the format is `{format}`, expected `{FORMAT}`");
    let Contents { sequences, context_size, shape: [rows, width], shard_sequences, .. } = contents;
    ensure!(
        sequences.checked_mul(context_size) == Some(rows) && width > 0 && shard_sequences > 0,
        "{shown}: its shape [{rows}, {width}] is not that of {sequences} sequences of {context_size} tokens"
    );
    let mut all = Vec::new();
    for shard in shards(&contents) {
        ensure!(
            listed.get(&shard.file) == Some(&shard.rows),
            "the activations in {} are not finished: {} is not there with {} rows; capture the rest first",
            dir.display(),
            shard.file,
            shard.rows
        );
        let path = dir.join(&shard.file);
        let is_it = is_shard(&path, &contents, &shard).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            is_it,
            "{} is not the shard that {INDEX} says: it has other rows, or is of other activations; remove it and capture again",
            path.display()
        );
        all.push(shard);
    }
    Ok(Some((contents, all)))
}

/// The hook whose activations a file has, if `assay capture` wrote it.
pub fn captured_at(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    // A capture's header is short.
    let length = Some(u64::from_le_bytes(length)).filter(|length| *length < 1 << 16)?;
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let metadata = serde_json::from_slice::<Value>(&header).ok()?["__metadata__"].take();
    (metadata["format"] == FORMAT).then(|| metadata["hook"].as_str().map(str::to_owned)).flatten()
}

/// Whether a file begins as that shard does, but for the model's name, and is as long.
fn is_shard(path: &Path, contents: &Contents, shard: &Shard) -> std::io::Result<bool> {
    let parsed = |header: &[u8]| -> Option<Value> {
        let mut value: Value = serde_json::from_slice(header.get(8..)?).ok()?;
        value["__metadata__"].as_object_mut()?.remove("model");
        Some(value)
    };
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let expected = header(contents, shard);
    // A name of a model can't be longer than a path.
    let Some(length) = usize::try_from(u64::from_le_bytes(length)).ok().filter(|n| *n < expected.len() + 8192) else {
        return Ok(false);
    };
    let mut found = vec![0; 8 + length];
    file.read_exact(&mut found[8..])?;
    let whole = (found.len() + contents.bytes(shard.rows)) as u64;
    Ok(parsed(&found).is_some_and(|found| Some(found) == parsed(&expected)) && file.metadata()?.len() == whole)
}

impl Contents {
    /// Bytes of so many rows.
    pub fn bytes(&self, rows: usize) -> usize {
        rows * self.shape[1] * self.dtype.size()
    }

    /// All rows in one shard, without a name.
    pub fn single(&self) -> Shard {
        Shard { file: String::new(), first: 0, rows: self.shape[0] }
    }
}

fn shards(contents: &Contents) -> impl Iterator<Item = Shard> {
    let [rows, _] = contents.shape;
    let step = (contents.shard_sequences * contents.context_size).max(1);
    (0..rows.div_ceil(step)).map(move |at| {
        let first = at * step;
        Shard { file: format!("{TENSOR}-{at:05}.safetensors"), first, rows: step.min(rows - first) }
    })
}

/// Writes rows to a file, as [`Shards::write`] does those of a shard.
///
/// # Errors
/// As [`Shards::write`].
pub fn write_shard(
    path: &Path,
    contents: &Contents,
    shard: &Shard,
    fill: impl FnOnce(&mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    write_atomic_with(path, |file: &mut File| {
        let mut out = BufWriter::new(file);
        out.write_all(&header(contents, shard))?;
        let mut left = shard.rows * contents.shape[1];
        fill(&mut |values| {
            left = left.checked_sub(values.len()).context("more activations than rows")?;
            Ok(out.write_all(&contents.dtype.bytes(values))?)
        })?;
        ensure!(left == 0, "{left} numbers are missing of the shard that begins at row {}", shard.first);
        Ok(out.flush()?)
    })
}

/// What stands before the numbers in a safetensors file: the length of the JSON, and the JSON, which is filled up with spaces so that the
/// numbers are aligned (<https://github.com/huggingface/safetensors#format>).
fn header(contents: &Contents, shard: &Shard) -> Vec<u8> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut metadata: BTreeMap<String, String> = serde_json::to_value(contents)
        .ok()
        .and_then(|value| Some(value.as_object()?.iter().map(|(key, value)| (key.clone(), text(value))).collect()))
        .unwrap_or_default();
    metadata.insert("format".to_owned(), FORMAT.to_owned());
    metadata.insert("first_row".to_owned(), shard.first.to_string());
    let end = contents.bytes(shard.rows);
    let tensor = json!({ "dtype": contents.dtype, "shape": [shard.rows, contents.shape[1]], "data_offsets": [0, end] });
    let mut json = json!({ "__metadata__": metadata, TENSOR: tensor }).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;
    use safetensors::tensor::Dtype as Written;

    use super::*;

    fn contents(dtype: Dtype) -> Contents {
        Contents {
            model: "org/model".to_owned(),
            weights: "ab".to_owned(),
            hook: "blocks.1.hook_resid_post".to_owned(),
            tokens: "cd".to_owned(),
            sequences: 5,
            context_size: 3,
            bos: None,
            dtype,
            shape: [15, 2],
            shard_sequences: 2,
        }
    }

    fn value(row: usize, column: usize) -> f32 {
        row as f32 + column as f32 / 3.0
    }

    fn fill(shards: &mut Shards, shard: &Shard) {
        let rows = shard.first..shard.first + shard.rows;
        let write = |push: &mut dyn FnMut(&[f32]) -> Result<()>| {
            rows.into_iter().try_for_each(|row| push(&[value(row, 0), value(row, 1)]))
        };
        shards.write(shard, write).unwrap();
    }

    #[test]
    fn shards_are_safetensors_and_only_missing_ones_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut shards = Shards::open(&out, contents(Dtype::F32)).unwrap();
        let all = shards.missing();
        assert_eq!(all.iter().map(|shard| (shard.first, shard.rows)).collect::<Vec<_>>(), [(0, 6), (6, 6), (12, 3)]);
        all.iter().for_each(|shard| fill(&mut shards, shard));
        let bytes = std::fs::read(out.join(&all[1].file)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = file.tensor(TENSOR).unwrap();
        assert_eq!((tensor.shape(), tensor.dtype()), ([6, 2].as_slice(), Written::F32));
        let expected: Vec<u8> =
            (6..12).flat_map(|row| [value(row, 0), value(row, 1)]).flat_map(f32::to_le_bytes).collect();
        assert_eq!(tensor.data(), expected);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["hook"], "blocks.1.hook_resid_post");

        // One is gone, one was cut: they are written again, and the third stays.
        std::fs::remove_file(out.join(&all[0].file)).unwrap();
        File::options().write(true).open(out.join(&all[2].file)).unwrap().set_len(100).unwrap();
        let shards = Shards::open(&out, Contents { model: "/a/path".to_owned(), ..contents(Dtype::F32) }).unwrap();
        assert_eq!(shards.missing(), [all[0].clone(), all[2].clone()]);
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_bf16() {
        assert_eq!(Dtype::BF16.bytes(&[1.0, 1.006]), [0x80, 0x3f, 0x81, 0x3f]);
    }

    #[test]
    fn other_activations_and_other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut shards = Shards::open(&out, contents(Dtype::F32)).unwrap();
        let first = shards.missing().remove(0);
        fill(&mut shards, &first);
        let error = Shards::open(&out, contents(Dtype::BF16)).err().unwrap().to_string();
        assert!(error.contains("dtype is \"F32\" there, \"BF16\" here; give another --out"), "{error}");
        std::fs::write(out.join("index.json"), "{}").unwrap();
        assert!(Shards::check(&out).unwrap_err().to_string().contains("no index of activations"));
        let error = Shards::check(dir.path()).unwrap_err().to_string();
        assert!(error.contains("has no activations but other files, such as out"), "{error}");
        assert!(Shards::check(&out.join("index.json")).unwrap_err().to_string().contains("is a file"));
        assert!(Shards::check(&dir.path().join("new")).is_ok());
    }
}
