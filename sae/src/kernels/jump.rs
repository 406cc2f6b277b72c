//! What becomes of the gradient of a JumpReLU's code: see [`jump_gradients`].

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::{JumpOf, L0GradOf, SaeOps, VectorOf};
use crate::code::SparseCode;

/// What the gradients of a code of `z = pre·[pre > θ]` depend on.
#[derive(Clone, Debug)]
pub struct Jump {
    /// θ, `[d_sae]`.
    pub threshold: Tensor<1>,
    /// ‖W_dec\[j]‖, `[d_sae]`.
    pub norms: Tensor<1>,
    /// 1 where a latent is dead, `[d_sae]`; `None`: no loss asks.
    pub dead: Option<Tensor<1>>,
    /// g, the gradient of a token's L0.
    pub l0_grad: L0Grad,
    /// The numbers.
    pub by: JumpBy,
}

/// The gradient of a token's L0.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a batch")]
pub enum L0Grad {
    /// The same of all tokens.
    Same(f32),
    /// One of each, `[batch]`.
    Each(Tensor<1>),
}

impl Default for L0Grad {
    fn default() -> Self {
        Self::Same(0.0)
    }
}

/// The numbers that the gradients depend on.
#[derive(Clone, Copy, Debug)]
pub struct JumpBy {
    /// ε, the width of the rectangle that stands for the slope of the step.
    pub bandwidth: f64,
    /// Whether what the threshold receives goes to the pre-activation too, with the other sign.
    pub ste_to_input: bool,
    /// The factor f and the scale c of the loss f·Σ tanh(c·z·‖W_dec‖).
    pub tanh: Option<(f64, f64)>,
    /// The factor p of the loss p·Σ ReLU(θ − pre)·‖W_dec‖ of dead latents.
    pub pre_act: f64,
}

/// Gradients of the entries of a code, and what they add to those of thresholds and decoder norms; one for each entry.
pub struct JumpGradients {
    /// ∂pre
    pub pre: Tensor<1>,
    /// Of θ.
    pub threshold: Tensor<1>,
    /// Of ‖W_dec‖.
    pub norms: Tensor<1>,
}

/// From ∂x̂·W_dec\[j] of the entries of a code, which are `active`, z = pre, or are not, z = 0:
///
/// - ∂z is that and, of the tanh loss with its slope s = f·c·(1 − tanh²(c·z·‖W_dec‖)), s·‖W_dec‖; ‖W_dec‖ receives s·z.
/// - r = \[|(pre − θ)/ε| < ½]·(θ·∂z + g)/ε goes to the threshold as −r, and to the pre-activation as r where `ste_to_input`.
/// - The pre-activation receives ∂z where the entry is active.
/// - Of a dead latent with pre < θ that is not active, the pre-activation receives −p·‖W_dec‖, the threshold p·‖W_dec‖, and ‖W_dec‖
///   p·(θ − pre).
///
/// # Shapes
/// - `code`: its values are pre; `z_grads`: one for each entry
pub fn jump_gradients(code: SparseCode, z_grads: Tensor<1>, jump: Jump, active: bool) -> JumpGradients {
    let Jump { threshold, norms, dead, l0_grad, by } = jump;
    let tensors = JumpOf {
        threshold: threshold.into_dispatch(),
        norms: norms.into_dispatch(),
        dead: dead.map_or(VectorOf::None, |dead| VectorOf::Latents(dead.into_dispatch())),
        l0_grad: match l0_grad {
            L0Grad::Same(of_all) => L0GradOf::Same(of_all),
            L0Grad::Each(of_tokens) => L0GradOf::Each(of_tokens.into_dispatch()),
        },
        by,
    };
    let (pre, threshold, norms) =
        Dispatch::sae_jump_gradients(code.into_dispatch(), z_grads.into_dispatch(), tensors, active);
    JumpGradients {
        pre: Tensor::from_dispatch(pre),
        threshold: Tensor::from_dispatch(threshold),
        norms: Tensor::from_dispatch(norms),
    }
}
