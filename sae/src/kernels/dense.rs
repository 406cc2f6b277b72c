//! Products, sums and Adam.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::{AdamStep, SaeOps, VectorOf};

/// `lhs · rhs` in f32, on every device and in every process by the same kernel; TF32 is never used.
///
/// # Shapes
/// - `lhs`: `[m, k]`; `rhs`: `[k, n]`
pub fn product(lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_product(lhs.into_dispatch(), rhs.into_dispatch()))
}

/// Σ x² as a tensor of one element, accumulated in f64 on the CPU, in f32 by parts of fixed order on a GPU.
pub fn sum_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_sum_squares(x.into_dispatch()))
}

/// Euclidean norm of each row: `[rows, d]` to `[rows]`.
pub fn row_norms(x: Tensor<2>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_row_norms(x.into_dispatch()))
}

/// Multiplies row i of `x` by `factors[i]`.
pub fn scale_rows(x: Tensor<2>, factors: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_scale_rows(x.into_dispatch(), factors.into_dispatch()))
}

/// min(1, limit/(‖g‖ + 1e-6)) for the norm ‖g‖ of all gradients: of those whose squares add up to `squares`, of `extra`, and of `vectors`.
pub fn clip_factor(squares: Tensor<1>, extra: Tensor<1>, vectors: Option<Tensor<1>>, limit: f64) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_clip_factor(
        squares.into_dispatch(),
        extra.into_dispatch(),
        vectors.map_or(VectorOf::None, |vectors| VectorOf::Latents(vectors.into_dispatch())),
        limit,
    ))
}

/// The sum of rows: `[n, d]` to `[d]`.
pub fn column_sums(rows: Tensor<2>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_column_sums(rows.into_dispatch()))
}

/// The sum of rows, each times its weight: `[n]` and `[n, d]` to `[d]`.
pub fn weighted_rows(weights: Tensor<1>, rows: Tensor<2>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_weighted_rows(weights.into_dispatch(), rows.into_dispatch()))
}

/// One Adam update (Kingma and Ba 2015, arXiv:1412.6980) of a parameter and its moments, in place
/// where they are not shared; the gradient is first multiplied by `clip`, a tensor of one element. With `unit_rows` each row of
/// the new parameter is divided by its norm.
pub fn adam<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    moments: (Tensor<D>, Tensor<D>),
    clip: Tensor<1>,
    step: AdamStep,
    unit_rows: bool,
) -> (Tensor<D>, (Tensor<D>, Tensor<D>)) {
    let (param, first, second) = Dispatch::sae_adam(
        param.into_dispatch(),
        grad.into_dispatch(),
        moments.0.into_dispatch(),
        moments.1.into_dispatch(),
        clip.into_dispatch(),
        step.lr,
        step.beta1,
        step.beta2,
        step.eps,
        step.step,
        unit_rows,
    );
    (Tensor::from_dispatch(param), (Tensor::from_dispatch(first), Tensor::from_dispatch(second)))
}
