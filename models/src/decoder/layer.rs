//! A layer of the decoder: attention and MLP, each behind its LayerNorm.

use burn::tensor::activation::{gelu_approximate, relu, softmax};
use burn::tensor::module::{attention, layer_norm, linear};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Tensor, TensorData};

use crate::config::{HiddenAct, NeoxConfig};
use crate::kernels::{PackedBlock, gelu_exact, product};
use crate::rotary::Rotary;

/// The weights of a layer.
pub(super) struct Layer {
    pub(super) norm_attn: LayerNorm,
    pub(super) norm_mlp: LayerNorm,
    pub(super) qkv: Linear,
    pub(super) attn_out: Linear,
    pub(super) mlp_in: Linear,
    pub(super) mlp_out: Linear,
}

/// A LayerNorm over d_model.
pub(super) struct LayerNorm {
    pub(super) weight: Tensor<1>,
    pub(super) bias: Tensor<1>,
    pub(super) eps: f64,
}

/// `x W + b`, W of shape `[d_in, d_out]`.
pub(super) struct Linear {
    pub(super) weight: Tensor<2>,
    pub(super) bias: Option<Tensor<1>>,
}

impl LayerNorm {
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        layer_norm(x, self.weight.clone(), Some(self.bias.clone()), self.eps)
    }
}

impl Linear {
    pub(super) fn forward(&self, x: Tensor<3>, pinned: bool) -> Tensor<3> {
        if !pinned {
            return linear(x, self.weight.clone(), self.bias.clone());
        }
        let out = product(x, self.weight.clone().unsqueeze());
        match &self.bias {
            Some(bias) => out + bias.clone().unsqueeze(),
            None => out,
        }
    }
}

impl Layer {
    /// The weights for passes in bf16.
    pub(super) fn packed(&self) -> PackedBlock {
        let norm = |n: &LayerNorm| [n.weight.clone(), n.bias.clone()];
        let map = |l: &Linear| (l.weight.clone(), l.bias.clone());
        PackedBlock::new(
            [norm(&self.norm_attn), norm(&self.norm_mlp)],
            [map(&self.qkv), map(&self.attn_out), map(&self.mlp_in), map(&self.mlp_out)],
        )
    }

    /// What attention's heads mix of the residual stream `x`, head by head, which W_O reads; `[batch, context, d_model]` both.
    pub(super) fn mix(&self, config: &NeoxConfig, rotary: &Rotary, x: Tensor<3>, pinned: bool) -> Tensor<3> {
        let [batch, context, d_model] = x.dims();
        let qkv = self.qkv.forward(self.norm_attn.forward(x), pinned);
        let head = |part: usize| {
            qkv.clone()
                .slice([0..batch, 0..context, part * d_model..(part + 1) * d_model])
                .reshape([batch, context, config.n_heads, config.d_head()])
                .swap_dims(1, 2)
        };
        let (q, k, v) = (rotary.apply(head(0)), rotary.apply(head(1)), head(2));
        let mixed = if pinned {
            causal_attention(q, k, v)
        } else {
            attention(q, k, v, None, None, AttentionModuleOptions { is_causal: true, ..Default::default() })
        };
        mixed.swap_dims(1, 2).reshape([batch, context, d_model])
    }

    /// What the MLP adds to its input `x`, `[batch, context, d_model]`.
    pub(super) fn mlp(&self, config: &NeoxConfig, x: Tensor<3>, pinned: bool) -> Tensor<3> {
        let hidden = self.mlp_in.forward(self.norm_mlp.forward(x), pinned);
        let hidden = match config.hidden_act {
            // Burn's own gradient of GELU is that of the tanh formula on some backends.
            HiddenAct::Gelu if pinned => {
                let phi = (hidden.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
                hidden * phi * 0.5
            }
            HiddenAct::Gelu => gelu_exact(hidden),
            HiddenAct::GeluTanh => gelu_approximate(hidden),
            HiddenAct::Relu => relu(hidden),
        };
        self.mlp_out.forward(hidden, pinned)
    }
}

/// softmax(q·kᵀ/√d_head with −∞ above the diagonal)·v, `[batch, n_heads, context, d_head]` each.
fn causal_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let [.., context, d_head] = q.dims();
    let mask: Vec<f32> =
        (0..context * context).map(|at| if at % context > at / context { f32::NEG_INFINITY } else { 0.0 }).collect();
    let mask: Tensor<2> = Tensor::from_data(TensorData::new(mask, [context, context]), &q.device());
    let scores = product(q, k.swap_dims(2, 3)).mul_scalar(1.0 / (d_head as f64).sqrt()) + mask.unsqueeze();
    product(softmax(scores, 3), v)
}
