//! A layer of the decoder: attention and MLP, with the norms around them.

use burn::tensor::Tensor;

use super::attention::AttentionWeights;
use super::linear::Linear;
use super::mlp::MlpWeights;
use super::norm::NormWeights;
use super::positions::Positions;
use crate::config::{DecoderConfig, LayerKind};
use crate::kernels::{BlockWeights, PackedBlock};

/// The weights of a layer. Which norms there are follows from the configuration's layout.
pub(super) struct Block {
    pub(super) kind: LayerKind,
    pub(super) norm_attn: Option<NormWeights>,
    pub(super) attention: AttentionWeights,
    pub(super) post_attn: Option<NormWeights>,
    pub(super) norm_mlp: Option<NormWeights>,
    pub(super) mlp: MlpWeights,
    pub(super) post_mlp: Option<NormWeights>,
}

impl Block {
    /// The weights for passes in bf16.
    pub(super) fn packed(&self) -> PackedBlock {
        let norm = |norm: &Option<NormWeights>| norm.as_ref().map(|norm| (norm.gain.clone(), norm.bias.clone()));
        let map = |map: &Linear| (map.weight.clone(), map.bias.clone());
        let AttentionWeights { qkv, q_norm, k_norm, out } = &self.attention;
        PackedBlock::new(BlockWeights {
            norm_attn: norm(&self.norm_attn),
            post_attn: norm(&self.post_attn),
            norm_mlp: norm(&self.norm_mlp),
            post_mlp: norm(&self.post_mlp),
            qk_norm: q_norm.as_ref().zip(k_norm.as_ref()).map(|(q, k)| [q.gain.clone(), k.gain.clone()]),
            qkv: map(qkv),
            attn_out: map(out),
            gate: self.mlp.gate.as_ref().map(map),
            up: map(&self.mlp.up),
            down: map(&self.mlp.down),
        })
    }

    /// What attention's heads mix of the residual stream `x`, which W_O reads; `[batch, context, d_model]` to
    /// `[batch, context, n_heads · d_head]`.
    pub(super) fn mix(&self, config: &DecoderConfig, positions: &Positions, x: Tensor<3>, pinned: bool) -> Tensor<3> {
        self.attention.mix(&config.attention, &self.kind, positions, through(&self.norm_attn, x), pinned)
    }

    /// What attention adds to the residual stream, of what its heads mix.
    pub(super) fn attn_out(&self, z: Tensor<3>, pinned: bool) -> Tensor<3> {
        through(&self.post_attn, self.attention.out.forward(z, pinned))
    }

    /// What the MLP's matrices read, of the residual stream `x`, `[batch, context, d_model]` both.
    pub(super) fn mlp_in(&self, x: Tensor<3>) -> Tensor<3> {
        through(&self.norm_mlp, x)
    }

    /// What the MLP adds to the residual stream, of what its matrices read.
    pub(super) fn mlp_out(&self, config: &DecoderConfig, input: Tensor<3>, pinned: bool) -> Tensor<3> {
        through(&self.post_mlp, self.mlp.forward(config.mlp.act, input, pinned))
    }
}

fn through(norm: &Option<NormWeights>, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
