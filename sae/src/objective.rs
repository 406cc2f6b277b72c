//! The gradient that a reconstruction gets, by objective.

use burn::tensor::Tensor;

use crate::config::Objective;
use crate::loss::Weight;

/// What a model says with a batch's reconstructions patched in, against what it says without: see [`Objective::Kl`].
#[derive(Clone, Debug)]
pub struct Divergence {
    /// KL(p ‖ q) of the next token's distribution at each token, in nats, `[batch]`.
    pub kl: Tensor<1>,
    /// The gradient of its mean with respect to [`Forward::reconstruction`](crate::Forward::reconstruction), `[batch, d_model]`.
    pub output_grad: Tensor<2>,
}

/// Which loss a step goes down, beside the terms of the class.
pub(crate) enum Descent {
    /// The reconstruction loss.
    Reconstruction,
    /// One that is known by its gradient alone, with respect to x̂ in the units of the input.
    Given(Box<Tensor<2>>),
    /// The divergence, or both, as the objective says.
    Divergence(Box<Divergence>),
}

/// The reconstruction loss w·Σ‖x̂ − x‖² of a step, in the units in which the SAE computes.
pub(crate) struct Reconstruction<'a> {
    /// x̂ − x, `[batch, d_model]`.
    pub residual: &'a Tensor<2>,
    /// Sums that add up to Σ‖x̂ − x‖².
    pub squares: &'a Tensor<1>,
    pub weight: &'a Weight,
}

impl Reconstruction<'_> {
    fn output_grad(&self) -> Tensor<2> {
        self.weight.scale(self.residual.clone(), 2.0)
    }
}

impl Descent {
    /// The divergence by token, if there is one.
    pub fn kl(&self) -> Option<Tensor<1>> {
        match self {
            Self::Divergence(divergence) => Some(divergence.kl.clone()),
            Self::Reconstruction | Self::Given(_) => None,
        }
    }

    /// ∂x̂ in the units in which the SAE computes, which are those of the input times `input_scale`.
    pub fn output_grad(self, objective: Objective, reconstruction: Reconstruction<'_>, input_scale: f64) -> Tensor<2> {
        let scaled = |grad: Tensor<2>| if input_scale == 1.0 { grad } else { grad.div_scalar(input_scale) };
        match (self, objective) {
            (Self::Reconstruction, _) => reconstruction.output_grad(),
            (Self::Given(grad), _) => scaled(*grad),
            (Self::Divergence(divergence), Objective::KlMse { .. }) => {
                let Divergence { kl, output_grad } = *divergence;
                let loss = reconstruction.weight.times(reconstruction.squares.clone().sum());
                let alpha = loss / kl.mean().add_scalar(1e-8);
                (reconstruction.output_grad() + scaled(output_grad) * alpha.unsqueeze()).mul_scalar(0.5)
            }
            (Self::Divergence(divergence), Objective::Kl | Objective::Reconstruction) => scaled(divergence.output_grad),
        }
    }
}
