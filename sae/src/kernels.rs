//! The operations in which an SAE spends its time, as a Burn backend extension: a backend that can
//! do them well implements them once, and nothing above this file knows which backend it runs on.
//!
//! Sparse activations are a pair `values`, `indices`, both `[batch, k]`: of each token, the k chosen
//! latents in ascending order. An entry with value 0 is not active. Nothing here has to be dense in `[batch, d_sae]`: the
//! encoder's product and the selection are one operation, so that a backend may select from pre-activations it never stores.
//!
//! Every sum has a fixed order, so that results do not depend on the number of threads.

#![expect(clippy::too_many_arguments, reason = "tensors and scalars cross the dispatch boundary one by one")]

mod adam;
mod cpu;
mod encode;
mod select;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

pub use adam::AdamStep;

/// Backend operations of a TopK SAE. The functions of this module wrap them for tensors and say what they do.
#[backend_extension(Flex)]
pub trait SaeOps: Backend {
    /// See [`encode_topk`].
    fn sae_encode_topk(
        input: FloatTensor<Self>,
        w_enc: FloatTensor<Self>,
        b_enc: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        k: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>);

    /// See [`encode_topk_and_dead`].
    fn sae_encode_topk_and_dead(
        input: FloatTensor<Self>,
        w_enc: FloatTensor<Self>,
        b_enc: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        since_fired: IntTensor<Self>,
        k: usize,
        dead_after: i32,
        k_aux: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, IntTensor<Self>);

    /// See [`decode`].
    fn sae_decode(values: FloatTensor<Self>, indices: IntTensor<Self>, w_dec: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`value_gradients`].
    fn sae_value_gradients(
        grad: FloatTensor<Self>,
        values: FloatTensor<Self>,
        indices: IntTensor<Self>,
        w_dec: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`latent_gradients`].
    fn sae_latent_gradients(
        values: FloatTensor<Self>,
        value_grads: FloatTensor<Self>,
        indices: IntTensor<Self>,
        input: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        d_sae: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`accumulate_gradients`].
    fn sae_accumulate_gradients(
        w_enc: FloatTensor<Self>,
        b_enc: FloatTensor<Self>,
        w_dec: FloatTensor<Self>,
        values: FloatTensor<Self>,
        value_grads: FloatTensor<Self>,
        indices: IntTensor<Self>,
        input: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`count_fires`].
    fn sae_count_fires(
        since_fired: IntTensor<Self>,
        fires: IntTensor<Self>,
        values: FloatTensor<Self>,
        indices: IntTensor<Self>,
    ) -> (IntTensor<Self>, IntTensor<Self>);

    /// See [`sum_squares`].
    fn sae_sum_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`row_norms`].
    fn sae_row_norms(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`remove_parallel`].
    fn sae_remove_parallel(grad: FloatTensor<Self>, rows: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`scale_rows`].
    fn sae_scale_rows(x: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self>;

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
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// The k latents of each token with the largest `pre·scale`, pre = input·W_encᵀ + b_enc, ties to the lowest index; values
/// are `ReLU(pre)`, not scaled.
///
/// # Shapes
/// - `input`: `[batch, d_model]`; `w_enc`: `[d_sae, d_model]`; `b_enc`, `scale`: `[d_sae]`
/// - result: values and indices, `[batch, k]`, indices ascending
pub fn encode_topk(
    input: Tensor<2>,
    w_enc: Tensor<2>,
    b_enc: Tensor<1>,
    scale: Tensor<1>,
    k: usize,
) -> (Tensor<2>, Tensor<2, Int>) {
    let (values, indices) = Dispatch::sae_encode_topk(
        input.into_dispatch(),
        w_enc.into_dispatch(),
        b_enc.into_dispatch(),
        scale.into_dispatch(),
        k,
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
    w_enc: Tensor<2>,
    b_enc: Tensor<1>,
    scale: Tensor<1>,
    k: usize,
    dead: Dead,
) -> [(Tensor<2>, Tensor<2, Int>); 2] {
    let (values, indices, dead_values, dead_indices) = Dispatch::sae_encode_topk_and_dead(
        input.into_dispatch(),
        w_enc.into_dispatch(),
        b_enc.into_dispatch(),
        scale.into_dispatch(),
        dead.since_fired.into_dispatch(),
        k,
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

/// Gradients of the encoder (stored as `[d_sae, d_model]`), its bias and the decoder.
pub struct LatentGradients {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`
    pub b_enc: Tensor<1>,
    /// `[d_sae, d_model]`
    pub w_dec: Tensor<2>,
}

/// Each latent's gradients, summed over the tokens on which it is active, in token order: value_grads·input for `w_enc`,
/// value_grads for `b_enc`, values·output_grad for `w_dec`.
///
/// # Shapes
/// - `values`, `value_grads`, `indices`: `[batch, k]`; `input`, `output_grad`: `[batch, d_model]`
pub fn latent_gradients(
    values: Tensor<2>,
    value_grads: Tensor<2>,
    indices: Tensor<2, Int>,
    input: Tensor<2>,
    output_grad: Tensor<2>,
    d_sae: usize,
) -> LatentGradients {
    let (w_enc, b_enc, w_dec) = Dispatch::sae_latent_gradients(
        values.into_dispatch(),
        value_grads.into_dispatch(),
        indices.into_dispatch(),
        input.into_dispatch(),
        output_grad.into_dispatch(),
        d_sae,
    );
    LatentGradients {
        w_enc: Tensor::from_dispatch(w_enc),
        b_enc: Tensor::from_dispatch(b_enc),
        w_dec: Tensor::from_dispatch(w_dec),
    }
}

/// As [`latent_gradients`], added to what is there.
pub fn accumulate_gradients(
    to: LatentGradients,
    values: Tensor<2>,
    value_grads: Tensor<2>,
    indices: Tensor<2, Int>,
    input: Tensor<2>,
    output_grad: Tensor<2>,
) -> LatentGradients {
    let (w_enc, b_enc, w_dec) = Dispatch::sae_accumulate_gradients(
        to.w_enc.into_dispatch(),
        to.b_enc.into_dispatch(),
        to.w_dec.into_dispatch(),
        values.into_dispatch(),
        value_grads.into_dispatch(),
        indices.into_dispatch(),
        input.into_dispatch(),
        output_grad.into_dispatch(),
    );
    LatentGradients {
        w_enc: Tensor::from_dispatch(w_enc),
        b_enc: Tensor::from_dispatch(b_enc),
        w_dec: Tensor::from_dispatch(w_dec),
    }
}

/// After a batch: `since_fired` grows by the batch's tokens and is 0 where a latent was active;
/// `fires` grows by the number of tokens on which each latent was active.
///
/// # Shapes
/// - `since_fired`, `fires`: `[d_sae]`; `values`, `indices`: `[batch, k]`
pub fn count_fires(
    since_fired: Tensor<1, Int>,
    fires: Tensor<1, Int>,
    values: Tensor<2>,
    indices: Tensor<2, Int>,
) -> (Tensor<1, Int>, Tensor<1, Int>) {
    let (since_fired, fires) = Dispatch::sae_count_fires(
        since_fired.into_dispatch(),
        fires.into_dispatch(),
        values.into_dispatch(),
        indices.into_dispatch(),
    );
    (Tensor::from_dispatch(since_fired), Tensor::from_dispatch(fires))
}

/// Σ x², accumulated in f64, as a tensor of one element.
pub fn sum_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_sum_squares(x.into_dispatch()))
}

/// Euclidean norm of each row: `[rows, d]` to `[rows]`.
pub fn row_norms(x: Tensor<2>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_row_norms(x.into_dispatch()))
}

/// Takes from each row of `grad` its part parallel to the same row of `rows`: g − (g·w)w/‖w‖².
pub fn remove_parallel(grad: Tensor<2>, rows: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_remove_parallel(grad.into_dispatch(), rows.into_dispatch()))
}

/// Multiplies row i of `x` by `factors[i]`.
pub fn scale_rows(x: Tensor<2>, factors: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_scale_rows(x.into_dispatch(), factors.into_dispatch()))
}

/// One Adam update (Kingma and Ba 2015, arXiv:1412.6980) of a parameter and its moments, in place
/// where they are not shared; the gradient is first multiplied by `clip`, a tensor of one element.
pub fn adam<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    moments: (Tensor<D>, Tensor<D>),
    clip: Tensor<1>,
    step: AdamStep,
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
    );
    (Tensor::from_dispatch(param), (Tensor::from_dispatch(first), Tensor::from_dispatch(second)))
}
