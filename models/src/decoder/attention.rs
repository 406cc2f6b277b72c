//! Causal self-attention: grouped heads, rotated or not, with windows, soft caps, and norms of queries and keys.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::linear::Linear;
use super::norm::NormWeights;
use super::positions::Positions;
use crate::config::{Attention, LayerKind, QkNorm};
use crate::kernels::{self, product, wide};

/// The weights of attention in a layer.
pub(super) struct AttentionWeights {
    /// To all queries, then all keys, then all values, `[d_model, (n_heads + 2·n_kv_heads)·d_head]`.
    pub(super) qkv: Linear,
    pub(super) q_norm: Option<NormWeights>,
    pub(super) k_norm: Option<NormWeights>,
    /// W_O, `[n_heads · d_head, d_model]`.
    pub(super) out: Linear,
}

impl AttentionWeights {
    /// What the heads mix from the values, head by head, which W_O reads.
    ///
    /// # Shapes
    /// - `x`: `[batch, context, d_model]`; the result is `[batch, context, n_heads · d_head]`.
    pub(super) fn mix(
        &self,
        config: &Attention,
        layer: &LayerKind,
        positions: &Positions,
        x: Tensor<3>,
        pinned: bool,
    ) -> Tensor<3> {
        let [batch, context, _] = x.dims();
        let (d_q, d_kv) = (config.d_q(), config.d_kv());
        let qkv = self.qkv.forward(x, pinned);
        let part = |from: usize, width: usize| qkv.clone().slice([0..batch, 0..context, from..from + width]);
        let q = self.normed(part(0, d_q), config, config.n_heads, self.q_norm.as_ref());
        let k = self.normed(part(d_q, d_kv), config, config.n_kv_heads, self.k_norm.as_ref());
        let v = part(d_q + d_kv, d_kv);
        let rotary = layer.rope.map(|index| positions.rotary(index));
        if pinned && wide::takes_attention(&qkv, config) {
            let is_normed = self.q_norm.is_some() || self.k_norm.is_some();
            let qkv = if is_normed { Tensor::cat(vec![q, k, v], 2) } else { qkv };
            return wide::attention(qkv, config, layer, rotary);
        }
        if !pinned && let Some(mixed) = kernels::attention([&q, &k, &v], rotary, config, layer) {
            return mixed;
        }
        let heads = |x: Tensor<3>, count: usize| x.reshape([batch, context, count, config.d_head]).swap_dims(1, 2);
        let (q, k, v) = (heads(q, config.n_heads), heads(k, config.n_kv_heads), heads(v, config.n_kv_heads));
        let (q, k) = match rotary {
            Some(rotary) => (rotary.apply(q), rotary.apply(k)),
            None => (q, k),
        };
        let (k, v) = (repeated(k, config), repeated(v, config));
        let mixed = if pinned {
            // Products that are the same in every process; the scores are held whole.
            let scores = product(q, k.swap_dims(2, 3)).mul_scalar(layer.score_scale);
            let scores = match config.score_cap {
                Some(cap) => (scores / cap).tanh() * cap,
                None => scores,
            };
            product(softmax(scores + positions.bias(layer.window).unsqueeze(), 3), v)
        } else {
            let options =
                AttentionModuleOptions { scale: Some(layer.score_scale), softcap: config.score_cap, is_causal: true };
            attention(q, k, v, positions.hidden(layer.window), None, options)
        };
        mixed.swap_dims(1, 2).reshape([batch, context, d_q])
    }

    /// What the biases of the values add to what the heads mix, `[1, 1, n_heads · d_head]`; `None` where there are no biases.
    pub(super) fn value_bias(&self, config: &Attention) -> Option<Tensor<3>> {
        let (d_q, d_kv) = (config.d_q(), config.d_kv());
        let values = self.qkv.bias.clone()?.narrow(0, d_q + d_kv, d_kv);
        let heads: Tensor<4> = values.reshape([1, config.n_kv_heads, 1, config.d_head]);
        Some(repeated(heads, config).reshape([1, 1, d_q]))
    }

    /// Queries or keys of `count` heads, `[batch, context, count · d_head]`, normed.
    fn normed(&self, x: Tensor<3>, config: &Attention, count: usize, norm: Option<&NormWeights>) -> Tensor<3> {
        let [batch, context, width] = x.dims();
        match (norm, config.qk_norm) {
            (Some(norm), QkNorm::Flat) => norm.forward(x),
            (Some(norm), QkNorm::PerHead) => {
                let heads: Tensor<4> = x.reshape([batch, context, count, config.d_head]);
                norm.forward(heads).reshape([batch, context, width])
            }
            (Some(_), QkNorm::None) | (None, _) => x,
        }
    }
}

/// Keys or values for every query head: each group of n_heads / n_kv_heads neighbours shares one.
fn repeated(x: Tensor<4>, config: &Attention) -> Tensor<4> {
    let [batch, count, context, d_head] = x.dims();
    let group = config.n_heads / config.n_kv_heads;
    if group == 1 {
        return x;
    }
    let x: Tensor<5> = x.reshape([batch, count, 1, context, d_head]).expand([batch, count, group, context, d_head]);
    x.reshape([batch, count * group, context, d_head])
}
