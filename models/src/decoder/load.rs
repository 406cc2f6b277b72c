//! From the tensors of a checkpoint to those of the decoder.

use burn::tensor::{Device, Tensor, TensorData};

use super::layer::{Layer, LayerNorm, Linear};
use crate::config::NeoxConfig;
use crate::error::Result;
use crate::weights::Checkpoint;

/// Reads tensors of a checkpoint whose shapes have been checked (`Layout`).
pub(super) struct Loader<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) config: &'a NeoxConfig,
    pub(super) device: &'a Device,
}

impl Loader<'_> {
    pub(super) fn layer(&self, index: usize) -> Result<Layer> {
        let NeoxConfig { d_model, d_mlp, attention_bias, .. } = *self.config;
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        Ok(Layer {
            norm_attn: self.norm(&name("input_layernorm"))?,
            norm_mlp: self.norm(&name("post_attention_layernorm"))?,
            qkv: self.qkv(&name("attention.query_key_value"))?,
            attn_out: self.linear(&name("attention.dense"), d_model, d_model, attention_bias)?,
            mlp_in: self.linear(&name("mlp.dense_h_to_4h"), d_model, d_mlp, true)?,
            mlp_out: self.linear(&name("mlp.dense_4h_to_h"), d_mlp, d_model, true)?,
        })
    }

    pub(super) fn norm(&self, name: &str) -> Result<LayerNorm> {
        Ok(LayerNorm {
            weight: self.vector(&format!("{name}.weight"))?,
            bias: self.vector(&format!("{name}.bias"))?,
            eps: self.config.layer_norm_eps,
        })
    }

    fn linear(&self, name: &str, d_in: usize, d_out: usize, bias: bool) -> Result<Linear> {
        Ok(Linear {
            weight: self.linear_weight(&format!("{name}.weight"), d_in, d_out)?,
            bias: bias.then(|| self.vector(&format!("{name}.bias"))).transpose()?,
        })
    }

    /// The fused projection. On disk its rows are ordered head by head, (q, k, v) within each; here
    /// all of q comes first, then all of k, then all of v.
    fn qkv(&self, name: &str) -> Result<Linear> {
        let NeoxConfig { d_model, n_heads, attention_bias, .. } = *self.config;
        let d_head = self.config.d_head();
        let source = |row: usize| {
            let (part, rest) = (row / d_model, row % d_model);
            let (head, dim) = (rest / d_head, rest % d_head);
            (head * 3 + part) * d_head + dim
        };
        debug_assert_eq!(n_heads * d_head, d_model);
        let weight = self.checkpoint.read(&format!("{name}.weight"))?;
        let weight = transpose_rows(&weight, 3 * d_model, d_model, source);
        let bias = if attention_bias {
            let bias = self.checkpoint.read(&format!("{name}.bias"))?;
            let bias: Vec<f32> = (0..3 * d_model).map(|row| bias[source(row)]).collect();
            Some(Tensor::from_data(bias.as_slice(), self.device))
        } else {
            None
        };
        Ok(Linear { weight: self.tensor(weight, [d_model, 3 * d_model]), bias })
    }

    /// `[d_out, d_in]` on disk, `[d_in, d_out]` here.
    pub(super) fn linear_weight(&self, name: &str, d_in: usize, d_out: usize) -> Result<Tensor<2>> {
        let values = self.checkpoint.read(name)?;
        Ok(self.tensor(transpose_rows(&values, d_out, d_in, |row| row), [d_in, d_out]))
    }

    pub(super) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>> {
        let values = self.checkpoint.read(name)?;
        Ok(self.tensor(values, shape))
    }

    fn vector(&self, name: &str) -> Result<Tensor<1>> {
        let values = self.checkpoint.read(name)?;
        Ok(Tensor::from_data(values.as_slice(), self.device))
    }

    fn tensor(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }
}

/// `out[c, r] = values[source(r), c]` for a row-major `[rows, cols]` matrix.
fn transpose_rows(values: &[f32], rows: usize, cols: usize, source: impl Fn(usize) -> usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * cols];
    for row in 0..rows {
        let from = source(row) * cols;
        for (col, &value) in values[from..from + cols].iter().enumerate() {
            out[col * rows + row] = value;
        }
    }
    out
}
