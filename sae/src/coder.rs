//! Classes of SAE in training: x̂ as a function of an input and the parameters, and its gradient.
//!
//! - `topk.rs`, `groupmax.rs`: a class each; `sparse.rs`: what classes share whose codes are chosen pre-activations.
//!
//! What x̂ is good for is none of a class's business: a loss, or a model into which x̂ was patched, says what the gradient ∂x̂ is. So any
//! class goes with any objective.

mod groupmax;
mod sparse;
mod topk;

use burn::tensor::{Device, Tensor};

use crate::config::{Architecture, TrainConfig};
use crate::kernels::{Counters, Dead};

/// The four parameters of an SAE, or anything that exists once for each.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`
    pub b_enc: Tensor<1>,
    /// `[d_sae, d_model]`
    pub w_dec: Tensor<2>,
    /// `[d_model]`
    pub b_dec: Tensor<1>,
}

impl Params {
    pub(crate) fn zeros(config: &TrainConfig, device: &Device) -> Self {
        let TrainConfig { d_model, d_sae, .. } = *config;
        Self {
            w_enc: Tensor::zeros([d_sae, d_model], device),
            b_enc: Tensor::zeros([d_sae], device),
            w_dec: Tensor::zeros([d_sae, d_model], device),
            b_dec: Tensor::zeros([d_model], device),
        }
    }
}

/// The gradients of a step, and sums of the squares of all but b_dec's.
pub(crate) struct Gradients {
    pub gradients: Params,
    pub squares: Tensor<1>,
}

/// A class of SAE.
pub(crate) trait Coder {
    /// Encodes a batch; with `dead`, the dead latents of largest pre-activation too, for the auxiliary loss.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`
    fn forward(&self, config: &TrainConfig, params: &Params, x: Tensor<2>, dead: Option<Dead>) -> Box<dyn Pass>;
}

/// A batch that was encoded, with what decoding and the gradient need. It holds the parameters, so it is to be gone before they change.
pub(crate) trait Pass {
    /// x̂, `[batch, d_model]`.
    fn reconstruction(&self) -> Tensor<2>;

    /// x̂ − target, and sums of its squares that add up to the whole: cheaper than from x̂.
    ///
    /// # Shapes
    /// - `target` and the residual: `[batch, d_model]`
    fn residual(&self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>);

    /// What the chosen dead latents decode to, without b_dec, `[batch, d_model]`; `None` if none were asked for.
    fn dead_output(&self) -> Option<Tensor<2>>;

    /// Active entries of the code, in one element.
    fn active(&self) -> Tensor<1>;

    /// The gradient of the parameters from ∂x̂, and from `dead_grad`, the gradient with respect to [`Self::dead_output`]. The counters go
    /// forward by the batch.
    ///
    /// # Shapes
    /// - `output_grad`, `dead_grad`: `[batch, d_model]`
    fn backward(
        self: Box<Self>,
        output_grad: Tensor<2>,
        dead_grad: Option<Tensor<2>>,
        counters: Counters,
    ) -> (Gradients, Counters);
}

impl Architecture {
    /// The class of that name.
    pub(crate) fn coder(self) -> &'static dyn Coder {
        match self {
            Self::TopK => &topk::TopK,
            Self::GroupMax => &groupmax::GroupMax,
        }
    }
}
