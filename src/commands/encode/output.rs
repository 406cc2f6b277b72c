//! The file of safetensors that `assay encode` writes, a batch at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Result, ensure};
use assay_sae::Code;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

/// What of the file is known before anything is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub rows: usize,
    pub d_sae: usize,
    pub d_out: usize,
    pub dense: bool,
}

/// A batch, encoded.
pub(super) struct Encoded {
    /// Active latents of each token: how many, which and how much.
    pub counts: Vec<usize>,
    pub indices: Vec<i64>,
    pub values: Vec<f32>,
    /// `[tokens, d_out]`
    pub reconstruction: Vec<f32>,
}

impl Encoded {
    pub(super) fn of(code: Code, tokens: usize, reconstruction: Vec<f32>) -> Self {
        let mut this = Self { counts: vec![0; tokens], indices: Vec::new(), values: Vec::new(), reconstruction };
        code.for_each_active(|token, latent, value| {
            this.counts[token] += 1;
            this.indices.push(latent as i64);
            this.values.push(value);
        });
        this
    }
}

/// Bytes for length and header; the header is filled up with blanks, which the format allows.
const HEAD: usize = 1024;

/// A file on its way. Tensors whose sizes are known have their places from the start; of active latents, the values come after them as they
/// are found, and the indices wait in a file of their own.
pub(super) struct Output<'a> {
    file: &'a mut File,
    layout: Layout,
    indices: BufWriter<File>,
    /// Tokens and entries that were written.
    tokens: usize,
    entries: usize,
}

impl<'a> Output<'a> {
    /// Begins a file; what waits does so in the directory `beside`.
    pub(super) fn begin(file: &'a mut File, layout: Layout, beside: &Path) -> Result<Self> {
        let indices = BufWriter::new(tempfile::tempfile_in(beside)?);
        let mut this = Self { file, layout, indices, tokens: 0, entries: 0 };
        if !layout.dense {
            this.write_at(HEAD, &0_i64.to_le_bytes())?;
        }
        Ok(this)
    }

    /// Where the latents begin: dense ones, or the offsets of each token's.
    fn latents_size(&self) -> usize {
        let Layout { rows, d_sae, dense, .. } = self.layout;
        if dense { rows * d_sae * 4 } else { (rows + 1) * 8 }
    }

    fn recon_at(&self) -> usize {
        HEAD + self.latents_size()
    }

    fn values_at(&self) -> usize {
        self.recon_at() + self.layout.rows * self.layout.d_out * 4
    }

    /// Appends a batch.
    pub(super) fn write(&mut self, batch: &Encoded) -> Result<()> {
        let Layout { d_sae, d_out, dense, .. } = self.layout;
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        self.write_at(self.recon_at() + self.tokens * d_out * 4, &floats(&batch.reconstruction))?;
        if dense {
            let mut latents = vec![0.0; batch.counts.len() * d_sae];
            let mut at = 0;
            for (row, &count) in latents.chunks_mut(d_sae).zip(&batch.counts) {
                for entry in at..at + count {
                    row[batch.indices[entry] as usize] = batch.values[entry];
                }
                at += count;
            }
            self.write_at(HEAD + self.tokens * d_sae * 4, &floats(&latents))?;
        } else {
            let mut end = self.entries;
            let ends = batch.counts.iter().flat_map(|count| {
                end += count;
                (end as i64).to_le_bytes()
            });
            let ends: Vec<u8> = ends.collect();
            self.write_at(HEAD + (self.tokens + 1) * 8, &ends)?;
            self.write_at(self.values_at() + self.entries * 4, &floats(&batch.values))?;
            let indices: Vec<u8> = batch.indices.iter().flat_map(|i| i.to_le_bytes()).collect();
            self.indices.write_all(&indices)?;
        }
        self.tokens += batch.counts.len();
        self.entries += batch.indices.len();
        Ok(())
    }

    /// Writes what was waiting, and the header; gives the number of active latents.
    pub(super) fn finish(self) -> Result<usize> {
        let Layout { rows, d_sae, d_out, dense } = self.layout;
        ensure!(self.tokens == rows, "{} of {rows} rows were encoded", self.tokens);
        let mut tensors: Vec<(&str, Dtype, Vec<usize>, usize)> = Vec::new();
        let size = self.latents_size();
        if dense {
            tensors.push(("latents", Dtype::F32, vec![rows, d_sae], size));
        } else {
            tensors.push(("offsets", Dtype::I64, vec![rows + 1], size));
        }
        if d_out > 0 {
            tensors.push(("reconstruction", Dtype::F32, vec![rows, d_out], rows * d_out * 4));
        }
        if !dense {
            tensors.push(("values", Dtype::F32, vec![self.entries], self.entries * 4));
            tensors.push(("indices", Dtype::I64, vec![self.entries], self.entries * 8));
            let mut indices = self.indices.into_inner()?;
            indices.seek(SeekFrom::Start(0))?;
            let at = HEAD + size + rows * d_out * 4 + self.entries * 4;
            self.file.seek(SeekFrom::Start(at as u64))?;
            std::io::copy(&mut indices.take(self.entries as u64 * 8), self.file)?;
        }
        let mut at = 0;
        let infos = tensors.into_iter().map(|(name, dtype, shape, size)| {
            at += size;
            (name.to_owned(), TensorInfo { dtype, shape, data_offsets: (at - size, at) })
        });
        let about = HashMap::from([
            ("d_sae".to_owned(), d_sae.to_string()),
            ("written_by".to_owned(), assay_sae::formats::PROGRAM.to_owned()),
        ]);
        let mut header = serde_json::to_value(Metadata::new(Some(about), infos.collect())?)?;
        // A hash map has another order in each process; the same command writes the same bytes.
        header.sort_all_objects();
        let header = header.to_string();
        let room = HEAD - 8;
        ensure!(header.len() <= room, "the header has {} bytes", header.len());
        let mut head = (room as u64).to_le_bytes().to_vec();
        head.extend(format!("{header:room$}").bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&head)?;
        Ok(self.entries)
    }

    fn write_at(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(at as u64))?;
        Ok(self.file.write_all(bytes)?)
    }
}
