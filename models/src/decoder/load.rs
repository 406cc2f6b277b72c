//! From the tensors of a checkpoint to those of the decoder.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::attention::AttentionWeights;
use super::block::Block;
use super::linear::Linear;
use super::mlp::MlpWeights;
use super::norm::NormWeights;
use super::redrawn::redraw;
use crate::config::{Attention, DecoderConfig, Norm, NormKind};
use crate::device::runs_on_cpu;
use crate::error::Result;
use crate::families::{LayerNames, Names, Qkv};
use crate::weights::Checkpoint;

/// Reads tensors of a checkpoint whose shapes have been checked (`Inventory`).
pub(super) struct Loader<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) config: &'a DecoderConfig,
    pub(super) names: &'a Names,
    pub(super) device: &'a Device,
    /// Seed with which matrices are drawn anew, if they are.
    pub(super) redrawn: Option<u64>,
}

/// The matrix of a linear map on its way, `[d_out, d_in]` row by row, with its bias.
struct Rows {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    d_in: usize,
    /// The format of the file, if it is one of two bytes.
    half: Option<DType>,
}

impl Loader<'_> {
    /// The values of a matrix: those of the files, or others like them.
    fn matrix(&self, name: &str) -> Result<Vec<f32>> {
        let mut weight = self.checkpoint.read(name)?;
        if let Some(seed) = self.redrawn {
            redraw(&mut weight, name, seed);
        }
        Ok(weight)
    }

    pub(super) fn block(&self, index: usize) -> Result<Block> {
        let config = self.config;
        let Attention { qkv_bias, out_bias, .. } = config.attention;
        let names = &self.names.layers[index];
        let (d_model, d_mlp, bias) = (config.d_model, config.mlp.d_mlp, config.mlp.bias);
        let norm = |stem: &Option<String>| stem.as_ref().map(|stem| self.norm(stem)).transpose();
        let map = |stem: &str, d_in, d_out, bias| Ok(self.linear(self.map(stem, d_in, d_out, bias)?));
        Ok(Block {
            kind: config.layers[index],
            norm_attn: norm(&names.norm_attn)?,
            attention: AttentionWeights {
                qkv: self.linear(self.qkv(names, qkv_bias)?),
                q_norm: self.gain_of(&names.q_norm)?,
                k_norm: self.gain_of(&names.k_norm)?,
                out: map(&names.attn_out, config.attention.d_q(), d_model, out_bias)?,
            },
            post_attn: norm(&names.post_attn)?,
            norm_mlp: norm(&names.norm_mlp)?,
            mlp: MlpWeights {
                gate: names.gate.as_ref().map(|gate| map(gate, d_model, d_mlp, bias)).transpose()?,
                up: map(&names.up, d_model, d_mlp, bias)?,
                down: map(&names.down, d_mlp, d_model, bias)?,
            },
            post_mlp: norm(&names.post_mlp)?,
        })
    }

    /// A norm of the residual stream.
    pub(super) fn norm(&self, stem: &str) -> Result<NormWeights> {
        let norm = self.config.norm;
        let bias = (norm.kind == NormKind::Layer).then(|| self.checkpoint.read(&format!("{stem}.bias"))).transpose()?;
        Ok(NormWeights { norm, gain: self.gain(stem, norm.kind)?, bias: bias.map(|bias| self.vector(&bias)) })
    }

    /// A norm of queries or keys, which is an RMS norm.
    fn gain_of(&self, stem: &Option<String>) -> Result<Option<NormWeights>> {
        let norm = Norm { kind: NormKind::Rms, ..self.config.norm };
        let read = |stem: &String| Ok(NormWeights { norm, gain: self.gain(stem, norm.kind)?, bias: None });
        stem.as_ref().map(read).transpose()
    }

    fn gain(&self, stem: &str, kind: NormKind) -> Result<Tensor<1>> {
        let mut gain = self.checkpoint.read(&format!("{stem}.weight"))?;
        if kind == NormKind::Rms && self.names.gain_offset != 0.0 {
            gain.iter_mut().for_each(|gain| *gain += self.names.gain_offset);
        }
        Ok(self.vector(&gain))
    }

    /// An embedding as it is in the file, a row for each token or position.
    pub(super) fn rows(&self, name: &str) -> Result<Tensor<2>> {
        let weight = self.matrix(name)?;
        let shape = [weight.len() / self.config.d_model, self.config.d_model];
        Ok(self.tensor(weight, shape, self.checkpoint.half_type(name)))
    }

    /// An unembedding of its own, `[vocab_size, d_model]` in the file, `[d_model, vocab_size]` here.
    pub(super) fn unembed(&self, name: &str) -> Result<Tensor<2>> {
        let (weight, half) = (self.matrix(name)?, self.checkpoint.half_type(name));
        Ok(self.linear(Rows { weight, bias: None, d_in: self.config.d_model, half }).weight)
    }

    fn map(&self, stem: &str, d_in: usize, d_out: usize, bias: bool) -> Result<Rows> {
        let name = format!("{stem}.weight");
        let weight = self.matrix(&name)?;
        let weight = if self.names.is_transposed { transposed(&weight, d_in, d_out) } else { weight };
        let bias = bias.then(|| self.checkpoint.read(&format!("{stem}.bias"))).transpose()?;
        Ok(Rows { weight, bias, d_in, half: self.checkpoint.half_type(&name) })
    }

    /// The projections to all queries, all keys and all values, as one.
    fn qkv(&self, names: &LayerNames, bias: bool) -> Result<Rows> {
        let (d_model, attention) = (self.config.d_model, self.config.attention);
        let Attention { n_heads, n_kv_heads, d_head, .. } = attention;
        let (d_q, d_kv) = (attention.d_q(), attention.d_kv());
        let halves = |rows: Rows, heads: usize| {
            let order = |row: usize| {
                let (head, dim) = (row / d_head, row % d_head);
                head * d_head + dim % (d_head / 2) * 2 + dim / (d_head / 2)
            };
            if self.names.is_interleaved { rows.ordered(heads * d_head, order) } else { rows }
        };
        match &names.qkv {
            Qkv::Split([q, k, v]) => {
                let q = halves(self.map(q, d_model, d_q, bias)?, n_heads);
                let k = halves(self.map(k, d_model, d_kv, bias)?, n_kv_heads);
                Ok(q.and(k).and(self.map(v, d_model, d_kv, bias)?))
            }
            Qkv::Fused(stem) => self.map(stem, d_model, d_q + 2 * d_kv, bias),
            Qkv::ByHead(stem) => {
                let order = |row: usize| {
                    let (part, rest) = (row / d_q, row % d_q);
                    let (head, dim) = (rest / d_head, rest % d_head);
                    (head * 3 + part) * d_head + dim
                };
                Ok(self.map(stem, d_model, 3 * d_q, bias)?.ordered(3 * d_q, order))
            }
        }
    }

    fn linear(&self, rows: Rows) -> Linear {
        let Rows { weight, bias, d_in, half } = rows;
        let d_out = weight.len() / d_in;
        // A GPU's products read the right factor by columns, so the rows of the file are what they want.
        let weight = if runs_on_cpu(self.device) {
            self.tensor(transposed(&weight, d_out, d_in), [d_in, d_out], half)
        } else {
            self.tensor(weight, [d_out, d_in], half).transpose()
        };
        Linear { weight, bias: bias.map(|bias| self.vector(&bias)) }
    }

    fn vector(&self, values: &[f32]) -> Tensor<1> {
        Tensor::from_data(values, self.device)
    }

    /// On a GPU a matrix stays in the format of its file, if that is one of two bytes; on the CPU all are f32.
    fn tensor(&self, values: Vec<f32>, shape: [usize; 2], half: Option<DType>) -> Tensor<2> {
        let tensor: Tensor<2> = Tensor::from_data(TensorData::new(values, shape), self.device);
        match half.filter(|_| !runs_on_cpu(self.device)) {
            Some(half) => tensor.cast(half),
            None => tensor,
        }
    }
}

impl Rows {
    /// Row r of the result is row `source(r)`.
    fn ordered(self, rows: usize, source: impl Fn(usize) -> usize + Sync) -> Self {
        let d_in = self.d_in;
        let mut weight = vec![0.0; rows * d_in];
        weight.par_chunks_mut(d_in).enumerate().for_each(|(row, to)| {
            let from = source(row) * d_in;
            to.copy_from_slice(&self.weight[from..from + d_in]);
        });
        let bias = self.bias.as_ref().map(|bias| (0..rows).map(|r| bias[source(r)]).collect());
        Self { weight, bias, d_in, half: self.half }
    }

    /// These rows, and then others.
    fn and(mut self, other: Self) -> Self {
        self.weight.extend(other.weight);
        self.bias = self.bias.zip(other.bias).map(|(mut bias, more)| {
            bias.extend(more);
            bias
        });
        self.half = self.half.filter(|half| other.half == Some(*half));
        self
    }
}

/// A row-major `[rows, cols]` matrix as `[cols, rows]`.
fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    // As many columns at a time as there are numbers in a cache line.
    const COLUMNS: usize = 16;
    let mut out = vec![0.0; rows * cols];
    out.par_chunks_mut(rows * COLUMNS).enumerate().for_each(|(block, out)| {
        let first = block * COLUMNS;
        for (row, from) in values.chunks_exact(cols).enumerate() {
            for (column, &value) in from[first..].iter().take(COLUMNS).enumerate() {
                out[column * rows + row] = value;
            }
        }
    });
    out
}
