//! The operations in which an SAE spends its time, as a Burn backend extension: a backend that can
//! do them well implements them once, and nothing above this file knows which backend it runs on.
//!
//! Sparse activations are a pair `values`, `indices`, both `[batch, k]`: of each token, the k chosen
//! latents in ascending order. An entry with value 0 is not active. Nothing here has to be dense in `[batch, d_sae]`: the
//! encoder's product and the selection are one operation, so that a backend may select from pre-activations it never stores.
//!
//! Every sum has a fixed order, so that results do not depend on the number of threads.

#![expect(
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "tensors and scalars cross the dispatch boundary one by one"
)]

mod adam;
mod cpu;
mod encode;
#[cfg(feature = "gpu")]
mod gpu;
mod select;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

pub use adam::AdamStep;
pub use assay_kernels::Precision;

/// Backend operations of an SAE. The functions of this module wrap them for tensors and say what they do.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"))]
pub trait SaeOps: Backend {
    /// See [`product`].
    fn sae_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`encode_topk`].
    fn sae_encode_topk(
        input: FloatTensor<Self>,
        w_enc: FloatTensor<Self>,
        b_enc: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        k: usize,
        scaled: bool,
        precision: Precision,
    ) -> (FloatTensor<Self>, IntTensor<Self>);

    /// See [`encode_topk_and_dead`].
    fn sae_encode_topk_and_dead(
        input: FloatTensor<Self>,
        w_enc: FloatTensor<Self>,
        b_enc: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        since_fired: IntTensor<Self>,
        k: usize,
        scaled: bool,
        precision: Precision,
        dead_after: i32,
        k_aux: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, IntTensor<Self>);

    /// See [`decode`].
    fn sae_decode(values: FloatTensor<Self>, indices: IntTensor<Self>, w_dec: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`residual`].
    fn sae_residual(
        values: FloatTensor<Self>,
        indices: IntTensor<Self>,
        w_dec: FloatTensor<Self>,
        b_dec: FloatTensor<Self>,
        x: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`value_gradients`].
    fn sae_value_gradients(
        grad: FloatTensor<Self>,
        values: FloatTensor<Self>,
        indices: IntTensor<Self>,
        w_dec: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`latent_gradients`]; without an auxiliary path its tensors are those of the main one again, and ignored.
    fn sae_latent_gradients(
        values: FloatTensor<Self>,
        value_grads: FloatTensor<Self>,
        indices: IntTensor<Self>,
        output_grad: FloatTensor<Self>,
        aux_values: FloatTensor<Self>,
        aux_value_grads: FloatTensor<Self>,
        aux_indices: IntTensor<Self>,
        aux_output_grad: FloatTensor<Self>,
        input: FloatTensor<Self>,
        w_dec: FloatTensor<Self>,
        since_fired: IntTensor<Self>,
        fires: IntTensor<Self>,
        with_aux: bool,
        project: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>);

    /// See [`sum_squares`].
    fn sae_sum_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`row_norms`].
    fn sae_row_norms(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`scale_rows`].
    fn sae_scale_rows(x: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`clip_factor`].
    fn sae_clip_factor(squares: FloatTensor<Self>, extra: FloatTensor<Self>, limit: f64) -> FloatTensor<Self>;

    /// See [`column_sums`].
    fn sae_column_sums(rows: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`weighted_rows`].
    fn sae_weighted_rows(weights: FloatTensor<Self>, rows: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`adam`].
    fn sae_adam(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        step: u64,
        unit_rows: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// An encoder as the kernels see it.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`
    pub b_enc: Tensor<1>,
    /// Factors on the pre-activations in the selection alone, `[d_sae]`; `None`: no factors.
    pub scale: Option<Tensor<1>>,
    /// Number format of the product.
    pub precision: Precision,
}

impl Encoder {
    /// The factors, or something of their type that is not looked at.
    fn scale(&self) -> Tensor<1> {
        self.scale.clone().unwrap_or_else(|| self.b_enc.clone())
    }
}

/// `lhs · rhs` in f32, on every device and in every process by the same kernel; TF32 is never used.
///
/// # Shapes
/// - `lhs`: `[m, k]`; `rhs`: `[k, n]`
pub fn product(lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_product(lhs.into_dispatch(), rhs.into_dispatch()))
}

/// The k latents of each token with the largest `pre·scale`, pre = input·W_encᵀ + b_enc, ties to the lowest index; values
/// are `ReLU(pre)`, not scaled.
///
/// # Shapes
/// - `input`: `[batch, d_model]`
/// - result: values and indices, `[batch, k]`, indices ascending
pub fn encode_topk(input: Tensor<2>, encoder: Encoder, k: usize) -> (Tensor<2>, Tensor<2, Int>) {
    let (values, indices) = Dispatch::sae_encode_topk(
        input.into_dispatch(),
        encoder.w_enc.clone().into_dispatch(),
        encoder.b_enc.clone().into_dispatch(),
        encoder.scale().into_dispatch(),
        k,
        encoder.scale.is_some(),
        encoder.precision,
    );
    (Tensor::from_dispatch(values), Tensor::from_dispatch(indices))
}

/// Which latents the auxiliary loss may use.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Tokens since each latent was active, `[d_sae]`.
    pub since_fired: Tensor<1, Int>,
    /// A latent is dead above this many.
    pub after: i32,
    /// How many of them a token may use.
    pub k: usize,
}

/// As [`encode_topk`], and with it, from the same pre-activations, the `dead.k` largest among the dead latents: without the
/// ReLU, so negative values are kept. Where fewer are dead, the entries left over have value 0.
pub fn encode_topk_and_dead(
    input: Tensor<2>,
    encoder: Encoder,
    k: usize,
    dead: Dead,
) -> [(Tensor<2>, Tensor<2, Int>); 2] {
    let (values, indices, dead_values, dead_indices) = Dispatch::sae_encode_topk_and_dead(
        input.into_dispatch(),
        encoder.w_enc.clone().into_dispatch(),
        encoder.b_enc.clone().into_dispatch(),
        encoder.scale().into_dispatch(),
        dead.since_fired.into_dispatch(),
        k,
        encoder.scale.is_some(),
        encoder.precision,
        dead.after,
        dead.k,
    );
    [
        (Tensor::from_dispatch(values), Tensor::from_dispatch(indices)),
        (Tensor::from_dispatch(dead_values), Tensor::from_dispatch(dead_indices)),
    ]
}

/// `Σ_j values[t, j] · w_dec[indices[t, j]]`, the sparse product z·W_dec.
///
/// # Shapes
/// - `w_dec`: `[d_sae, d_model]`; result `[batch, d_model]`
pub fn decode(values: Tensor<2>, indices: Tensor<2, Int>, w_dec: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_decode(values.into_dispatch(), indices.into_dispatch(), w_dec.into_dispatch()))
}

/// x̂ − x with x̂ = [`decode`] + b_dec, and sums of its squares: of every token or of some tokens together, so that all of them add
/// up to the whole.
///
/// # Shapes
/// - `b_dec`: `[d_model]`; `x` and the residual: `[batch, d_model]`
pub fn residual(
    values: Tensor<2>,
    indices: Tensor<2, Int>,
    w_dec: Tensor<2>,
    b_dec: Tensor<1>,
    x: Tensor<2>,
) -> (Tensor<2>, Tensor<1>) {
    let (residual, squares) = Dispatch::sae_residual(
        values.into_dispatch(),
        indices.into_dispatch(),
        w_dec.into_dispatch(),
        b_dec.into_dispatch(),
        x.into_dispatch(),
    );
    (Tensor::from_dispatch(residual), Tensor::from_dispatch(squares))
}

/// `grad[t] · w_dec[indices[t, j]]` where `values[t, j] ≠ 0`, else 0: the gradient of the active values
/// when `grad` is that of the decoder's output.
///
/// # Shapes
/// - `grad`: `[batch, d_model]`; result `[batch, k]`
pub fn value_gradients(grad: Tensor<2>, values: Tensor<2>, indices: Tensor<2, Int>, w_dec: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_value_gradients(
        grad.into_dispatch(),
        values.into_dispatch(),
        indices.into_dispatch(),
        w_dec.into_dispatch(),
    ))
}

/// Sparse activations, the gradient of their values, and that of what they decode to.
#[derive(Clone, Debug)]
pub struct SparseGradient {
    /// `[batch, k]`
    pub values: Tensor<2>,
    /// `[batch, k]`
    pub value_grads: Tensor<2>,
    /// `[batch, k]`
    pub indices: Tensor<2, Int>,
    /// `[batch, d_model]`
    pub output_grad: Tensor<2>,
}

/// Gradients of the encoder (stored as `[d_sae, d_model]`), its bias and the decoder.
pub struct LatentGradients {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`
    pub b_enc: Tensor<1>,
    /// `[d_sae, d_model]`
    pub w_dec: Tensor<2>,
    /// Sums of the squares of all three, of every latent or of some together.
    pub squares: Tensor<1>,
}

/// What is counted of every latent while it trains, `[d_sae]` each.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Tokens since the latent was active.
    pub since_fired: Tensor<1, Int>,
    /// Tokens on which it was active.
    pub fires: Tensor<1, Int>,
}

/// Each latent's gradients, summed over the tokens on which it is active, in token order: value_grads·input for `w_enc`,
/// value_grads for `b_enc`, values·output_grad for `w_dec`; of the main path, then of the auxiliary one. With `project`, each row
/// g of `w_dec`'s gradient loses its part along the decoder's row w: g − (g·w)w/‖w‖².
///
/// The counters are brought forward by the main path: `since_fired` grows by the batch's tokens and is 0 where a latent was
/// active, `fires` grows by the number of tokens on which it was.
///
/// # Shapes
/// - `input`: `[batch, d_model]`; `w_dec`: `[d_sae, d_model]`
pub fn latent_gradients(
    main: SparseGradient,
    aux: Option<SparseGradient>,
    input: Tensor<2>,
    w_dec: Tensor<2>,
    counters: Counters,
    project: bool,
) -> (LatentGradients, Counters) {
    let with_aux = aux.is_some();
    let aux = aux.unwrap_or_else(|| main.clone());
    let (w_enc, b_enc, w_dec, squares, since_fired, fires) = Dispatch::sae_latent_gradients(
        main.values.into_dispatch(),
        main.value_grads.into_dispatch(),
        main.indices.into_dispatch(),
        main.output_grad.into_dispatch(),
        aux.values.into_dispatch(),
        aux.value_grads.into_dispatch(),
        aux.indices.into_dispatch(),
        aux.output_grad.into_dispatch(),
        input.into_dispatch(),
        w_dec.into_dispatch(),
        counters.since_fired.into_dispatch(),
        counters.fires.into_dispatch(),
        with_aux,
        project,
    );
    (
        LatentGradients {
            w_enc: Tensor::from_dispatch(w_enc),
            b_enc: Tensor::from_dispatch(b_enc),
            w_dec: Tensor::from_dispatch(w_dec),
            squares: Tensor::from_dispatch(squares),
        },
        Counters { since_fired: Tensor::from_dispatch(since_fired), fires: Tensor::from_dispatch(fires) },
    )
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

/// min(1, limit/(‖g‖ + 1e-6)) for the norm ‖g‖ of all gradients: of those whose squares add up to `squares`, and of `extra`.
pub fn clip_factor(squares: Tensor<1>, extra: Tensor<1>, limit: f64) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_clip_factor(squares.into_dispatch(), extra.into_dispatch(), limit))
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
