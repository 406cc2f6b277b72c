//! Codes that are decoded at several nested widths, each of which takes the first so many latents; and numbers beside the entries of a
//! code: sums over those of a latent or of a token, and a token's number for each of its entries.

use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor};

use super::SaeOps;
use crate::code::SparseCode;

/// Nested widths: the level of a latent is the first width that it is below.
#[derive(Clone, Debug)]
pub struct Levels {
    ends: Tensor<1, Int>,
    count: usize,
}

impl Levels {
    /// Levels of ascending widths; the last is d_sae.
    pub fn new(widths: &[usize], device: &Device) -> Self {
        let ends: Vec<i32> = widths.iter().map(|&width| width as i32).collect();
        Self { ends: Tensor::from_data(ends.as_slice(), device), count: widths.len() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    pub(super) fn ends(&self) -> Tensor<1, Int> {
        self.ends.clone()
    }
}

/// Of every level l, x̂_l − x with x̂_l = Σ_{j: level(j) ≤ l} z_j·W_dec\[j] + b_dec, in one pass over the code; and its squares, a number a token.
///
/// # Shapes
/// - `w_dec`: `[d_sae, d_model]`; `b_dec`: `[d_model]`; `x`: `[batch, d_model]`
/// - result: `[levels·batch, d_model]` and `[levels·batch]`, level after level
pub fn nested_residuals(
    code: SparseCode,
    levels: &Levels,
    w_dec: Tensor<2>,
    b_dec: Tensor<1>,
    x: Tensor<2>,
) -> (Tensor<2>, Tensor<1>) {
    let (residuals, squares) = Dispatch::sae_nested_residuals(
        code.into_dispatch(),
        levels.ends().into_dispatch(),
        w_dec.into_dispatch(),
        b_dec.into_dispatch(),
        x.into_dispatch(),
    );
    (Tensor::from_dispatch(residuals), Tensor::from_dispatch(squares))
}

/// What reaches the entries of every level l: output_grad + factor·Σ_{l ≤ i < last} residual_i, the sum of the gradients of all x̂ that it is in.
///
/// # Shapes
/// - `residuals`: as of [`nested_residuals`]; `output_grad`, of the last level: `[batch, d_model]`; `factor`: one element
/// - result: `[levels·batch, d_model]`
pub fn nested_gradients(residuals: Tensor<2>, output_grad: Tensor<2>, factor: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_nested_gradients(
        residuals.into_dispatch(),
        output_grad.into_dispatch(),
        factor.into_dispatch(),
    ))
}

/// Two numbers of every entry whose value is not 0, each summed over the entries of each latent, in token order.
///
/// # Shapes
/// - `numbers`: one for each entry of the code; the results: `[d_sae]`
pub fn latent_sums(code: SparseCode, [first, second]: [Tensor<1>; 2]) -> [Tensor<1>; 2] {
    let d_sae = code.d_sae();
    let (first, second) =
        Dispatch::sae_latent_sums(code.into_dispatch(), first.into_dispatch(), second.into_dispatch(), d_sae);
    [Tensor::from_dispatch(first), Tensor::from_dispatch(second)]
}

/// A number of every entry whose own is not 0, summed over the entries of each token, in their order.
///
/// # Shapes
/// - `numbers`: one for each entry of the code; the result: `[batch]`
pub fn token_sums(code: SparseCode, numbers: Tensor<1>) -> Tensor<1> {
    let ones = Tensor::ones([code.d_sae(), 1], &numbers.device());
    super::decode(code.map_values(|_| numbers), ones).flatten(0, 1)
}

/// The number of its token for every entry of a code.
///
/// # Shapes
/// - `numbers`: `[batch]`; the result: one for each entry
pub fn spread(code: SparseCode, numbers: Tensor<1>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_spread(code.into_dispatch(), numbers.into_dispatch()))
}
