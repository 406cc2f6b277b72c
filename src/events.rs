//! The event store: every firing of every latent on some tokens, sorted by latent.
//!
//! A directory with three files:
//!
//! - `tokens.safetensors`: `tokens`, `[S, T]` i32, the contexts;
//! - `events.safetensors`: `offsets`, `[d_sae + 1]` i64: latent l has the entries from `offsets[l]` up to `offsets[l + 1]` of `positions`, u32,
//!   which ascend and count tokens through all contexts (context ⌊p/T⌋, position p mod T), and of `values`, f32, how active it is there, as
//!   it was computed;
//! - `events.json`: of what model, SAE, hook and tokens they are ([`Contents`]), and the BLAKE3 of both files.
//!
//! In Python: `e = safetensors.numpy.load_file("events.safetensors")`, then `e["values"][e["offsets"][l]:e["offsets"][l + 1]]`; all as a
//! matrix: `scipy.sparse.csr_matrix((e["values"], e["positions"], e["offsets"]))`.
//!
//! While tokens go by, firings gather in memory and are written as chunks, each sorted by latent (`chunk.rs`); at the end these are
//! merged (`merge.rs`). Chunks end where they happen to, after so many firings, some time or an interrupt: no byte of the store depends
//! on it. So a pass that was killed goes on after the last chunk, and memory depends neither on the tokens nor on the firings.

mod chunk;
mod merge;
mod read;
mod tokens;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use assay_models::DecoderConfig;
use serde::{Deserialize, Serialize};

pub use read::Events;
pub use tokens::Tokens;

use crate::differences::differences;
use crate::files::{ON_ITS_WAY, read_json, sync_dir, write_atomic};
use chunk::Gathered;

/// The firings.
pub const EVENTS: &str = "events.safetensors";
/// The contexts.
pub const TOKENS: &str = "tokens.safetensors";
/// What both are of.
pub const INDEX: &str = "events.json";
const CHUNKS: &str = "chunks";
const FORMAT: &str = "assay events 2";

/// What firings they are. Two stores of equal contents have the same bytes on one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The model, as it was named.
    pub model: String,
    /// BLAKE3 of its configuration and weights.
    pub weights: String,
    /// The SAE, as it was named.
    pub sae: String,
    /// BLAKE3 of what it computes with.
    pub sae_weights: String,
    /// Where it reads.
    pub hook: String,
    /// The kind of device that made them, whose rounding is in their values, and in which latents fire at all.
    pub device: String,
    /// BLAKE3 of the token ids, u32 in little-endian order, sequence after sequence.
    pub tokens: String,
    /// S.
    pub sequences: usize,
    /// T.
    pub context_size: usize,
    /// Contexts of a forward pass.
    pub batch: usize,
    /// The token that was put at the start of each context of text.
    pub bos: Option<u32>,
    /// Whether contexts were cut from a text, so that documents go on from one to the next.
    pub is_text: bool,
    /// The tokens that stand between documents.
    pub separators: Vec<u32>,
    /// The number of latents.
    pub d_sae: usize,
}

/// The tokens that stand between documents of a model's text whose contexts begin with `bos`, ascending.
pub fn separators(config: &DecoderConfig, bos: Option<u32>) -> Vec<u32> {
    let mut found: Vec<u32> = config.eos.into_iter().chain(config.bos).chain(bos).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A chunk that is finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chunk {
    /// The first context that is not in it, nor in those before it.
    end: usize,
    events: u64,
    blake3: String,
}

/// BLAKE3 of the finished files, and how many firings there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Finished {
    events: u64,
    events_blake3: String,
    tokens_blake3: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Index {
    format: String,
    #[serde(flatten)]
    contents: Contents,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<Chunk>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<Finished>,
}

/// A store that is being made.
pub struct Store {
    dir: PathBuf,
    index: Index,
    gathered: Gathered,
}

impl Store {
    /// Checks that a directory can take a store: that it is empty, not there, or has one already.
    ///
    /// # Errors
    /// If it holds something else, or an index that can't be read.
    pub fn check(dir: &Path) -> Result<()> {
        there(dir).map(|_| ())
    }

    /// Opens a directory for these firings; what is there of the same is kept.
    ///
    /// # Errors
    /// As [`Self::check`]; if it has the firings of something else: the message says in what they differ.
    pub fn open(dir: &Path, contents: Contents) -> Result<Self> {
        let (mut chunks, mut finished) = (Vec::new(), None);
        if let Some(there) = there(dir)? {
            // Both may be named otherwise and be the same.
            let (model, sae) = (contents.model.clone(), contents.sae.clone());
            let same = Contents { model, sae, ..there.contents.clone() };
            if same != contents {
                let differs = differences(&serde_json::to_value(&same)?, &serde_json::to_value(&contents)?);
                bail!("{} has other firings: {differs}; give another --out", dir.display());
            }
            finished = there.finished.filter(|_| dir.join(EVENTS).is_file() && dir.join(TOKENS).is_file());
            chunks = there.chunks;
            if finished.is_some() {
                // Those of a process that was killed before it could.
                remove_chunks(dir)?;
            }
        }
        // A chunk that somebody cut short or took away is made again, and so are those after it.
        let is_whole = |at: usize, chunk: &Chunk| {
            let length = chunk_path(dir, at).metadata().map(|found| found.len());
            length.is_ok_and(|length| length == chunk::bytes(contents.d_sae, chunk.events))
        };
        let whole = chunks.iter().enumerate().take_while(|(at, chunk)| is_whole(*at, chunk)).count();
        chunks.truncate(whole);
        let gathered = Gathered::new(contents.d_sae);
        Ok(Self {
            dir: dir.to_owned(),
            index: Index { format: FORMAT.to_owned(), contents, chunks, finished },
            gathered,
        })
    }

    /// Claims the directory: from then on it is one of firings, however the work ends.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn begin(&self) -> Result<()> {
        self.write_index()
    }

    /// Whether there is nothing left to do.
    pub fn is_finished(&self) -> bool {
        self.index.finished.is_some()
    }

    /// The first context whose firings are in no chunk yet.
    pub fn next(&self) -> usize {
        self.index.chunks.last().map_or(0, |chunk| chunk.end)
    }

    /// Takes a firing; within a latent tokens must ascend.
    pub fn push(&mut self, latent: usize, position: u32, value: f32) {
        self.gathered.push(latent as u32, position, value);
    }

    /// To be called where a pass ends: writes a chunk of what has gathered since the last one, if that is enough or `now` is said.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn reached(&mut self, end: usize, now: bool) -> Result<()> {
        if end == self.next() || !(now || self.gathered.is_enough()) {
            return Ok(());
        }
        let (events, blake3) = self.gathered.write(&chunk_path(&self.dir, self.index.chunks.len()))?;
        self.index.chunks.push(Chunk { end, events, blake3 });
        self.write_index()
    }

    /// Merges the chunks, once they have all contexts; `advance` is told of firings that were merged, of twice [`Self::events`].
    ///
    /// # Errors
    /// If a chunk is damaged, or the store can't be written.
    pub fn finish(mut self, tokens_blake3: String, advance: &mut dyn FnMut(u64)) -> Result<()> {
        let contents = &self.index.contents;
        assert_eq!(self.next(), contents.sequences, "all contexts have been encoded");
        let mut parts = Vec::new();
        for (at, chunk) in self.index.chunks.iter().enumerate() {
            let path = chunk_path(&self.dir, at);
            ensure!(
                hash_file(&path)? == chunk.blake3,
                "{} is damaged; remove {} and start again",
                path.display(),
                self.dir.display()
            );
            parts.push(path);
        }
        let (events, events_blake3) = merge::merge(&parts, contents.d_sae, &self.dir, advance)?;
        self.index.finished = Some(Finished { events, events_blake3, tokens_blake3 });
        self.index.chunks.clear();
        self.write_index()?;
        remove_chunks(&self.dir)
    }

    /// Firings in chunks so far.
    pub fn events(&self) -> u64 {
        self.index.chunks.iter().map(|chunk| chunk.events).sum()
    }

    fn write_index(&self) -> Result<()> {
        write_atomic(&self.dir.join(INDEX), &serde_json::to_vec_pretty(&self.index)?)
    }
}

fn chunk_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(CHUNKS).join(format!("{number:06}.bin"))
}

/// Removes what is no longer needed.
fn remove_chunks(dir: &Path) -> Result<()> {
    let chunks = dir.join(CHUNKS);
    if chunks.is_dir() {
        std::fs::remove_dir_all(&chunks).with_context(|| format!("cannot remove {}", chunks.display()))?;
        sync_dir(dir)?;
    }
    Ok(())
}

/// The index of a directory, if it has one.
fn there(dir: &Path) -> Result<Option<Index>> {
    let shown = dir.display();
    ensure!(dir.is_dir() || dir.symlink_metadata().is_err(), "{shown} is a file; give another --out");
    let index: Option<Index> = read_json(&dir.join(INDEX), "it is no index of firings; give another --out")?;
    if let Some(index) = &index {
        ensure!(index.format == FORMAT, "{shown} has `{}`, expected `{FORMAT}`; give another --out", index.format);
        return Ok(Some(index.clone()));
    }
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let other = names.map(|name| name.to_string_lossy().into_owned()).find(|name| !name.starts_with(ON_ITS_WAY));
    ensure!(
        other.is_none(),
        "{shown} is there already and has no firings but other files, such as {}; give another --out",
        other.unwrap_or_default()
    );
    Ok(None)
}

/// BLAKE3 of a file.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    std::io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The length and the header of a safetensors file of these tensors: name, dtype, shape, and bytes.
pub(crate) fn header(tensors: &[(&str, &str, Vec<u64>, u64)]) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    let mut at = 0;
    for (name, dtype, shape, bytes) in tensors {
        let value = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] });
        object.insert((*name).to_owned(), value);
        at += bytes;
    }
    let mut text = serde_json::Value::Object(object).to_string().into_bytes();
    // Tensors begin at a multiple of 8.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

#[cfg(test)]
mod tests;
