//! Chunks merged into one file: of each latent its firings in the first chunk, then those in the second, and so on, so that tokens ascend.
//! Chunks are read from start to end, and the file is written so: once for the positions, once for the values.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{CHUNKS, EVENTS, header};
use crate::files::write_atomic_with;

/// Files that are read at once; more are merged in several rounds. Each is open twice.
const AT_ONCE: usize = 128;
/// Bytes of a file that are read at a time.
const BUFFER: usize = 1 << 16;

/// What is written, and its hash.
struct Hashed<W> {
    inner: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A chunk: its counts, and one of its two arrays.
struct Part {
    counts: BufReader<File>,
    array: BufReader<File>,
}

impl Part {
    /// Opens it at its positions, or at its values, which are as many.
    fn open(path: &Path, d_sae: usize, values: bool) -> std::io::Result<Self> {
        let (counts, mut array) = (File::open(path)?, File::open(path)?);
        let head = 4 * d_sae as u64;
        let events = (array.metadata()?.len() - head) / 8;
        array.seek(SeekFrom::Start(head + if values { 4 * events } else { 0 }))?;
        Ok(Self { counts: BufReader::with_capacity(BUFFER, counts), array: BufReader::with_capacity(BUFFER, array) })
    }

    /// How many firings the next latent has.
    fn count(&mut self) -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        self.counts.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// Merges chunks into [`EVENTS`] of a directory; gives the number of firings and the file's BLAKE3.
pub(super) fn merge(
    chunks: &[PathBuf],
    d_sae: usize,
    dir: &Path,
    advance: &mut dyn FnMut(u64),
) -> Result<(u64, String)> {
    let mut chunks = chunks.to_vec();
    let mut round = 0;
    while chunks.len() > AT_ONCE {
        let mut merged = Vec::new();
        for (at, group) in chunks.chunks(AT_ONCE).enumerate() {
            let path = dir.join(CHUNKS).join(format!("merged-{round}-{at:06}.bin"));
            write_atomic_with(&path, |file| {
                let mut out = BufWriter::with_capacity(1 << 20, file);
                for count in counts(group, d_sae)? {
                    // Positions are u32, so a latent has no more firings than that.
                    out.write_all(&(count as u32).to_le_bytes())?;
                }
                arrays(group, d_sae, &mut out, &mut |_| ())?;
                Ok(out.flush()?)
            })?;
            merged.push(path);
        }
        chunks = merged;
        round += 1;
    }
    let mut offsets = vec![0_u64];
    for count in counts(&chunks, d_sae)? {
        offsets.push(offsets[offsets.len() - 1] + count);
    }
    let events = offsets[d_sae];
    let head = header(&[
        ("offsets", "I64", vec![d_sae as u64 + 1], 8 * (d_sae as u64 + 1)),
        ("positions", "U32", vec![events], 4 * events),
        ("values", "F32", vec![events], 4 * events),
    ]);
    let mut hash = String::new();
    write_atomic_with(&dir.join(EVENTS), |file| {
        let hashed = Hashed { inner: file, hasher: blake3::Hasher::new() };
        let mut out = BufWriter::with_capacity(1 << 20, hashed);
        out.write_all(&head)?;
        for offset in &offsets {
            out.write_all(&offset.to_le_bytes())?;
        }
        arrays(&chunks, d_sae, &mut out, advance)?;
        out.flush()?;
        hash = out.get_ref().hasher.finalize().to_hex().to_string();
        Ok(())
    })?;
    Ok((events, hash))
}

fn open(chunks: &[PathBuf], d_sae: usize, values: bool) -> Result<Vec<Part>> {
    let part =
        |path: &PathBuf| Part::open(path, d_sae, values).with_context(|| format!("cannot read {}", path.display()));
    chunks.iter().map(part).collect()
}

/// Firings of each latent in all chunks.
fn counts(chunks: &[PathBuf], d_sae: usize) -> Result<Vec<u64>> {
    let mut parts = open(chunks, d_sae, false)?;
    let mut counts = Vec::with_capacity(d_sae);
    for _ in 0..d_sae {
        counts.push(parts.iter_mut().map(|part| Ok(u64::from(part.count()?))).sum::<Result<u64>>()?);
    }
    Ok(counts)
}

/// All positions, then all values, by latent.
fn arrays(chunks: &[PathBuf], d_sae: usize, out: &mut impl Write, advance: &mut dyn FnMut(u64)) -> Result<()> {
    for values in [false, true] {
        let mut parts = open(chunks, d_sae, values)?;
        for _ in 0..d_sae {
            let mut moved = 0;
            for part in &mut parts {
                let count = u64::from(part.count()?);
                std::io::copy(&mut part.array.by_ref().take(4 * count), out)?;
                moved += count;
            }
            advance(moved);
        }
    }
    Ok(())
}
