//! The MLP, gated or plain.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu_approximate, relu, silu};

use super::linear::Linear;
use crate::config::Act;
use crate::kernels::gelu_exact;

/// The weights of an MLP.
pub(super) struct MlpWeights {
    /// `[d_model, d_mlp]`, if it is gated.
    pub(super) gate: Option<Linear>,
    /// `[d_model, d_mlp]`
    pub(super) up: Linear,
    /// `[d_mlp, d_model]`
    pub(super) down: Linear,
}

impl MlpWeights {
    /// `[batch, context, d_model]` both; see [`crate::config::Mlp`] for the formulas.
    pub(super) fn forward(&self, function: Act, x: Tensor<3>, pinned: bool) -> Tensor<3> {
        let hidden = match &self.gate {
            Some(gate) => act(function, gate.forward(x.clone(), pinned), pinned) * self.up.forward(x, pinned),
            None if function == Act::Gelu && !pinned => self.up.gelu(x),
            None => act(function, self.up.forward(x, pinned), pinned),
        };
        self.down.forward(hidden, pinned)
    }
}

fn act(function: Act, x: Tensor<3>, pinned: bool) -> Tensor<3> {
    match function {
        // Burn's own gradient of GELU is that of the tanh formula on some backends.
        Act::Gelu if pinned => {
            let phi = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
            x * phi * 0.5
        }
        Act::Gelu => gelu_exact(x),
        Act::GeluTanh => gelu_approximate(x),
        Act::Relu => relu(x),
        Act::Silu => silu(x),
    }
}
