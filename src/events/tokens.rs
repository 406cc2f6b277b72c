//! The contexts beside the firings, written once, and read back a block at a time.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use assay_models::TokenSource;

use super::{TOKENS, header};
use crate::files::write_atomic_with;

/// Contexts that are read at once.
const READ: usize = 1024;
/// Tokens of a block, and blocks that are kept: 8 MiB.
const BLOCK: usize = 1 << 15;
const KEPT: usize = 64;

/// Shows every token of contexts to `see`, in order.
///
/// # Errors
/// If they can't be read, or those of `see`.
pub(super) fn for_each(source: &TokenSource, sequences: usize, mut see: impl FnMut(u32) -> Result<()>) -> Result<()> {
    for first in (0..sequences).step_by(READ) {
        for token in source.read(first, READ.min(sequences - first))? {
            see(token)?;
        }
    }
    Ok(())
}

/// A file of tokens. Any may be asked for; to ask for them in order is cheap.
pub struct Tokens {
    path: PathBuf,
    file: File,
    start: u64,
    sequences: usize,
    context_size: usize,
    /// Block b is kept in place b mod [`KEPT`].
    kept: Vec<Option<(usize, Vec<u32>)>>,
}

impl Tokens {
    /// BLAKE3 of the ids themselves, as [`super::Contents::tokens`] has it.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn hash(source: &TokenSource, sequences: usize) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for_each(source, sequences, |token| {
            hasher.update(&token.to_le_bytes());
            Ok(())
        })?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Writes the contexts of a source into a directory.
    ///
    /// # Errors
    /// If they can't be read or written.
    pub fn write(dir: &Path, source: &TokenSource, sequences: usize) -> Result<()> {
        write_atomic_with(&dir.join(TOKENS), |file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            out.write_all(&head(sequences, source.context_size()))?;
            for_each(source, sequences, |token| Ok(out.write_all(&token.to_le_bytes())?))?;
            Ok(out.flush()?)
        })
    }

    /// Opens the contexts of a directory, `[sequences, context_size]`.
    ///
    /// # Errors
    /// If they are not there, or not that many.
    pub fn open(dir: &Path, sequences: usize, context_size: usize) -> Result<Self> {
        let path = dir.join(TOKENS);
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let start = head(sequences, context_size).len() as u64;
        let expected = start + 4 * (sequences * context_size) as u64;
        ensure!(
            file.metadata()?.len() == expected,
            "{} is damaged: {expected} bytes are expected; remove the directory and start again",
            path.display()
        );
        Ok(Self { path, file, start, sequences, context_size, kept: vec![None; KEPT] })
    }

    /// The same file, to be read by somebody else at the same time.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn again(&self) -> Result<Self> {
        let file = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(Self { path: self.path.clone(), file, kept: vec![None; KEPT], ..*self })
    }

    /// T.
    pub fn context_size(&self) -> usize {
        self.context_size
    }

    /// S·T.
    pub fn len(&self) -> usize {
        self.sequences * self.context_size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some tokens from a position on, which counts through all contexts: of few in many places this reads less than [`Self::at`].
    ///
    /// # Errors
    /// If the file can't be read.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn read(&mut self, first: usize, count: usize) -> Result<Vec<u32>> {
        assert!(first + count <= self.len(), "there are {} tokens", self.len());
        let mut bytes = vec![0; 4 * count];
        let read = self.file.seek(SeekFrom::Start(self.start + 4 * first as u64));
        read.and_then(|_| self.file.read_exact(&mut bytes))
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes"))).collect())
    }

    /// The token at a position, which counts through all contexts.
    ///
    /// # Errors
    /// If the file can't be read.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn at(&mut self, position: usize) -> Result<u32> {
        assert!(position < self.len(), "there are {} tokens", self.len());
        let block = position / BLOCK;
        let slot = block % KEPT;
        if self.kept[slot].as_ref().is_none_or(|(kept, _)| *kept != block) {
            let first = block * BLOCK;
            let tokens = self.read(first, BLOCK.min(self.len() - first))?;
            self.kept[slot] = Some((block, tokens));
        }
        let (_, tokens) = self.kept[slot].as_ref().expect("it was just read");
        Ok(tokens[position % BLOCK])
    }
}

fn head(sequences: usize, context_size: usize) -> Vec<u8> {
    let (rows, columns) = (sequences as u64, context_size as u64);
    header(&[("tokens", "I32", vec![rows, columns], 4 * rows * columns)])
}
