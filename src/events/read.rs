//! A finished store, read latent by latent.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use super::{Contents, EVENTS, Tokens, hash_file, header, there};

/// Firings that are read at a time.
const BLOCK: u64 = 1 << 15;

/// The firings of a store. Memory depends on the number of latents alone.
pub struct Events {
    path: PathBuf,
    file: File,
    contents: Arc<Contents>,
    /// Latent l has entries offsets[l]..offsets[l + 1].
    offsets: Arc<Vec<u64>>,
    /// Where the positions begin.
    start: u64,
    positions: Vec<u8>,
    values: Vec<u8>,
}

impl Events {
    /// Opens the store of a directory.
    ///
    /// # Errors
    /// If there is none, it is not finished, or it is damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let index = there(dir)?.with_context(|| format!("{shown} has no firings; `assay features` writes them"))?;
        let finished = index.finished.with_context(|| {
            format!("the firings in {shown} are not finished; the command that started them resumes")
        })?;
        let (path, d_sae) = (dir.join(EVENTS), index.contents.d_sae as u64);
        let cannot = || format!("cannot read {}", path.display());
        let mut file = File::open(&path).with_context(cannot)?;
        let events = finished.events;
        let head = header(&[
            ("offsets", "I64", vec![d_sae + 1], 8 * (d_sae + 1)),
            ("positions", "U32", vec![events], 4 * events),
            ("values", "F32", vec![events], 4 * events),
        ]);
        let damaged = || format!("{} is damaged; remove {shown} and start again", path.display());
        let start = head.len() as u64 + 8 * (d_sae + 1);
        ensure!(file.metadata().with_context(cannot)?.len() == start + 8 * events, damaged());
        let mut bytes = vec![0; usize::try_from(start)?];
        file.read_exact(&mut bytes).with_context(cannot)?;
        ensure!(bytes.starts_with(&head), damaged());
        let offsets: Vec<u64> =
            bytes[head.len()..].chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
        ensure!(offsets[0] == 0 && offsets.is_sorted() && offsets[offsets.len() - 1] == events, damaged());
        let (contents, offsets) = (Arc::new(index.contents), Arc::new(offsets));
        Ok(Self { path, file, contents, offsets, start, positions: Vec::new(), values: Vec::new() })
    }

    /// Checks both files of a directory against their BLAKE3.
    ///
    /// # Errors
    /// If one is not what was written.
    pub fn verify(dir: &Path) -> Result<()> {
        let finished = there(dir)?.and_then(|index| index.finished).context("the firings are not finished")?;
        for (file, expected) in [(EVENTS, finished.events_blake3), (super::TOKENS, finished.tokens_blake3)] {
            let path = dir.join(file);
            ensure!(
                hash_file(&path)? == expected,
                "{} is not what was written (its BLAKE3 is another); remove {} and start again",
                path.display(),
                dir.display()
            );
        }
        Ok(())
    }

    /// The same store, to be read by somebody else at the same time.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn again(&self) -> Result<Self> {
        let file = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let (contents, offsets, path) = (Arc::clone(&self.contents), Arc::clone(&self.offsets), self.path.clone());
        Ok(Self { path, file, contents, offsets, start: self.start, positions: Vec::new(), values: Vec::new() })
    }

    /// What firings they are.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The contexts, if `dir` is where the store is.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn tokens(&self) -> Result<Tokens> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        Tokens::open(dir, self.contents.sequences, self.contents.context_size)
    }

    /// Firings of all latents.
    pub fn total(&self) -> u64 {
        self.offsets[self.offsets.len() - 1]
    }

    /// Firings of a latent.
    pub fn firings(&self, latent: usize) -> u64 {
        self.offsets[latent + 1] - self.offsets[latent]
    }

    /// Shows every firing of a latent: its position, which counts through all contexts, and its value. Positions ascend.
    ///
    /// # Errors
    /// If the file can't be read or is damaged, or those of `see`.
    pub fn each(&mut self, latent: usize, mut see: impl FnMut(u32, f32) -> Result<()>) -> Result<()> {
        let (mut at, end) = (self.offsets[latent], self.offsets[latent + 1]);
        let tokens = self.contents.sequences * self.contents.context_size;
        while at < end {
            let count = (end - at).min(BLOCK);
            let values = self.start + 4 * self.total();
            let block = |file: &mut File, bytes: &mut Vec<u8>, start: u64| -> std::io::Result<()> {
                bytes.resize(4 * count as usize, 0);
                file.seek(SeekFrom::Start(start + 4 * at))?;
                file.read_exact(bytes)
            };
            block(&mut self.file, &mut self.positions, self.start)
                .and_then(|()| block(&mut self.file, &mut self.values, values))
                .with_context(|| format!("cannot read {}", self.path.display()))?;
            for (position, value) in self.positions.chunks_exact(4).zip(self.values.chunks_exact(4)) {
                let position = u32::from_le_bytes(position.try_into().expect("four bytes"));
                ensure!(
                    (position as usize) < tokens,
                    "{}: a firing at token {position} of {tokens}",
                    self.path.display()
                );
                see(position, f32::from_le_bytes(value.try_into().expect("four bytes")))?;
            }
            at += count;
        }
        Ok(())
    }
}
