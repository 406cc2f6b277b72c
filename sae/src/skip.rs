//! The linear map of a skip transcoder: x̂ = z·W_dec + b_dec + x·W_skipᵀ (Paulo et al. 2025, arXiv:2501.18823).
//!
//! The codes' part reconstructs what the map leaves of the target, so that its residual is that of both. W_skip receives Σ_t ∂x̂·xᵀ; the
//! auxiliary loss of dead latents, whose error is detached, gives it nothing.

use burn::tensor::{Device, Tensor};

use crate::kernels;

/// The map, and Adam's moments of it: `[d_out, d_in]` each.
pub(crate) struct Skip {
    pub weights: Tensor<2>,
    pub first: Tensor<2>,
    pub second: Tensor<2>,
}

impl Skip {
    /// That maps everything to 0, as sparsify and SAELens start.
    pub(crate) fn new(d_model: usize, device: &Device) -> Self {
        let zeros = || Tensor::zeros([d_model, d_model], device);
        Self { weights: zeros(), first: zeros(), second: zeros() }
    }

    /// x·W_skipᵀ, `[batch, d_out]`.
    pub(crate) fn of(&self, x: Tensor<2>) -> Tensor<2> {
        skipped(x, &self.weights)
    }

    /// The gradient of the map.
    ///
    /// # Shapes
    /// - `output_grad`: `[batch, d_out]`; `x`: `[batch, d_in]`
    pub(crate) fn gradient(output_grad: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        kernels::product(output_grad.transpose(), x)
    }
}

/// x·W_skipᵀ of a map `[d_out, d_in]`.
pub(crate) fn skipped(x: Tensor<2>, weights: &Tensor<2>) -> Tensor<2> {
    kernels::product(x, weights.clone().transpose())
}
