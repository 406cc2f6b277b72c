//! Classes of SAE in training: x̂ as a function of an input and the parameters, what a class adds to the loss, and the gradient of both.
//!
//! - `topk.rs`, `groupmax.rs`, `hierarchical.rs`, `batchtopk.rs`, `matryoshka.rs`, `jumprelu.rs`, `gated.rs`, `standard.rs`: a class each.
//! - `sparse.rs`: what classes share that choose as many latents of every token; `nested.rs`: those that choose among a batch's.
//! - `listing.rs`: codes of any length.
//! - `frame.rs`: the parameters of a pass, and how gradients reach them.
//!
//! What x̂ is good for is none of a class's business: a loss, or a model into which x̂ was patched, says what the gradient ∂x̂ is. So any
//! class goes with any objective.

mod batchtopk;
mod frame;
mod gated;
mod groupmax;
mod hierarchical;
mod jumprelu;
mod listing;
mod matryoshka;
mod nested;
mod sparse;
mod standard;
mod topk;

use burn::tensor::{Device, Tensor};

use crate::activation::Activation;
use crate::config::{Architecture, TrainConfig};
use crate::dead::Firing;
use crate::kernels::{Counters, Dead};
use crate::loss::{Term, Weight};

/// The parameters of an SAE, or anything that exists once for each.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`; of a gated SAE the gate's.
    pub b_enc: Tensor<1>,
    /// `[d_sae, d_model]`
    pub w_dec: Tensor<2>,
    /// `[d_model]`
    pub b_dec: Tensor<1>,
    /// What [`Coder::vectors`] names, `[d_sae]` each.
    pub vectors: Vec<Tensor<1>>,
}

impl Params {
    pub(crate) fn zeros(config: &TrainConfig, device: &Device) -> Self {
        let TrainConfig { d_model, d_sae, .. } = *config;
        Self {
            w_enc: Tensor::zeros([d_sae, d_model], device),
            b_enc: Tensor::zeros([d_sae], device),
            w_dec: Tensor::zeros([d_sae, d_model], device),
            b_dec: Tensor::zeros([d_model], device),
            vectors: config.architecture.coder().vectors().iter().map(|_| Tensor::zeros([d_sae], device)).collect(),
        }
    }
}

/// The gradients of a step, and sums of the squares of those of the encoder with its bias and of the decoder.
pub(crate) struct Gradients {
    pub gradients: Params,
    pub squares: Tensor<1>,
}

/// What a class encodes.
pub(crate) struct Batch {
    /// `[batch, d_model]`
    pub x: Tensor<2>,
    /// Latents that a loss of the class may be about.
    pub dead: Option<Dead>,
    /// [`Pass::entries`] of the batch before. With it, the code may be a guess until [`Pass::residual`] was called.
    pub entries_before: Option<[usize; 2]>,
}

/// A class of SAE.
pub(crate) trait Coder {
    /// The vectors `[d_sae]` that it trains beside weights and biases, and the value at which each starts.
    fn vectors(&self) -> Vec<(&'static str, f32)> {
        Vec::new()
    }

    /// Brings parameters back to where they may be, before a forward pass.
    fn project(&self, _params: &mut Params) {}

    /// Encodes a batch.
    fn forward(&self, config: &TrainConfig, params: &Params, batch: Batch) -> Box<dyn Pass>;

    /// The share of a step in the running mean of [`Pass::least`], for a class whose threshold in inference that is.
    fn threshold_lr(&self) -> Option<f64> {
        None
    }

    /// The rule by which it makes latents when it is not trained, given its vectors and that running mean.
    fn activation(&self, vectors: &[Tensor<1>], threshold: Tensor<1>) -> Activation;
}

/// What a class's own loss terms depend on beside the pass.
pub(crate) struct Objective<'a> {
    pub config: &'a TrainConfig,
    pub firing: &'a Firing,
    /// Of the sparsity penalty in this step; 0 of a class that has none.
    pub coefficient: f64,
    /// x̂ − x, `[batch, d_model]`.
    pub residual: Tensor<2>,
    /// Of the reconstruction loss.
    pub weight: &'a Weight,
}

/// A batch that was encoded, with what decoding and the gradient need. It holds the parameters, so it is to be gone before they change.
pub(crate) trait Pass {
    /// x̂, `[batch, d_model]`.
    fn reconstruction(&self) -> Tensor<2>;

    /// x̂ − target, and sums of its squares that add up to the whole: cheaper than from x̂.
    ///
    /// # Shapes
    /// - `target` and the residual: `[batch, d_model]`
    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>);

    /// What the reconstruction loss of x̂ counts for in the loss.
    fn share(&self) -> f64 {
        1.0
    }

    /// What the class adds to the reconstruction loss; its gradient is part of [`Self::backward`]'s from then on. To be called after
    /// [`Self::residual`], whose result is in the objective.
    fn terms(&mut self, of: Objective<'_>) -> Vec<Term>;

    /// Active entries of the code, in one element.
    fn active(&self) -> Tensor<1>;

    /// How many entries its codes have, of a class whose codes have any length: known once [`Self::residual`] was called.
    fn entries(&self) -> Option<[usize; 2]> {
        None
    }

    /// The least value by which a latent was chosen, in one element, of a class whose threshold in inference is a mean of those; 0 if
    /// none was.
    fn least(&self) -> Option<Tensor<1>> {
        None
    }

    /// The gradient of the parameters from ∂x̂ and from the class's own terms. The counters go forward by the batch.
    ///
    /// # Shapes
    /// - `output_grad`: `[batch, d_model]`
    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters);
}

impl Architecture {
    /// The class.
    pub(crate) fn coder(&self) -> &dyn Coder {
        match self {
            Self::TopK(class) => class,
            Self::GroupMax(class) => class,
            Self::Hierarchical(class) => class,
            Self::BatchTopK(class) => class,
            Self::Matryoshka(class) => class,
            Self::JumpRelu(class) => class,
            Self::Gated(class) => class,
            Self::Standard(class) => class,
        }
    }
}
