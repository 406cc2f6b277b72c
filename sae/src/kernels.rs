//! The operations in which an SAE spends its time, as a Burn backend extension: a backend that can
//! do them well implements them once, and nothing above this file knows which backend it runs on.
//!
//! - `sparse.rs`: encoder, decoder and gradients of sparse codes; `dense.rs`: products, sums, Adam.
//! - `scores.rs`: codes that are chosen once all of a batch is known; `nested.rs`: codes decoded at several widths; `jump.rs`: gradients
//!   of codes above thresholds.
//! - `cpu.rs`, `gpu.rs`: what does them.
//!
//! Codes are sparse ([`crate::SparseCode`]). Where as many latents are chosen of every token, the encoder's product and the selection
//! are one operation, so that a backend may select from pre-activations it never stores.
//!
//! Every sum has a fixed order, so that results do not depend on the number of threads.

#![expect(
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "tensors and scalars cross the dispatch boundary one by one"
)]

mod adam;
mod coming;
mod cpu;
mod dense;
#[cfg(feature = "gpu")]
mod gpu;
mod jump;
mod nested;
mod scores;
mod sparse;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};

pub use adam::AdamStep;
pub use assay_kernels::Precision;
pub use coming::Coming;
pub use dense::{adam, clip_factor, column_sums, product, row_norms, scale_rows, sum_squares, weighted_rows};
pub use jump::{Jump, JumpBy, JumpGradients, L0Grad, jump_gradients};
pub use nested::{Levels, latent_sums, nested_gradients, nested_residuals, spread, token_sums};
pub use scores::{Scores, Split, scores};
pub use sparse::{
    Counters, Dead, Encoder, LatentGradients, Selection, SparseGradient, decode, encode, encode_with_dead,
    latent_gradients, residual, value_gradients,
};

/// An encoder's tensors: see [`Encoder`].
#[derive(ExtensionType)]
pub struct EncoderOf<B: Backend> {
    w_enc: FloatTensor<B>,
    b_enc: FloatTensor<B>,
    #[extension_type]
    scale: VectorOf<B>,
    precision: Precision,
}

/// A number of every latent, `[d_sae]`, where there is one.
#[derive(ExtensionType)]
pub enum VectorOf<B: Backend> {
    None,
    Latents(FloatTensor<B>),
}

/// The tensors of [`Scores`].
#[derive(ExtensionType)]
pub struct ScoresOf<B: Backend> {
    pre: FloatTensor<B>,
    maxima: FloatTensor<B>,
    #[extension_type]
    scale: VectorOf<B>,
}

/// The tensors of a [`Jump`].
#[derive(ExtensionType)]
pub struct JumpOf<B: Backend> {
    threshold: FloatTensor<B>,
    norms: FloatTensor<B>,
    #[extension_type]
    dead: VectorOf<B>,
    #[extension_type]
    l0_grad: L0GradOf<B>,
    by: JumpBy,
}

/// The gradient of a token's L0: see [`L0Grad`].
#[derive(ExtensionType)]
pub enum L0GradOf<B: Backend> {
    Same(f32),
    Each(FloatTensor<B>),
}

/// The tensors of a [`crate::SparseCode`].
#[derive(ExtensionType)]
pub struct CodeOf<B: Backend> {
    values: FloatTensor<B>,
    indices: IntTensor<B>,
    #[extension_type]
    rows: RowsOf<B>,
    #[extension_type]
    marks: MarksOf<B>,
}

/// The tokens of each latent, where they are known.
#[derive(ExtensionType)]
pub enum MarksOf<B: Backend> {
    Unknown,
    Known(#[extension_type] TableOf<B>),
}

/// The tokens of each latent in the backend's own layout, and how many they are.
#[derive(ExtensionType)]
pub struct TableOf<B: Backend> {
    bits: IntTensor<B>,
    counts: IntTensor<B>,
}

/// Which entries of a code belong to which token.
#[derive(ExtensionType)]
pub enum RowsOf<B: Backend> {
    /// So many to each.
    Each(usize),
    /// To token t those from starts[t] up to starts[t + 1]; `[tokens + 1]`.
    Starts(IntTensor<B>),
}

/// The tensors of a [`SparseGradient`].
#[derive(ExtensionType)]
pub struct GradientOf<B: Backend> {
    #[extension_type]
    code: CodeOf<B>,
    value_grads: FloatTensor<B>,
    output_grad: FloatTensor<B>,
    #[extension_type]
    levels: LevelsOf<B>,
}

/// Whether every level of latents has an output gradient of its own.
#[derive(ExtensionType)]
pub enum LevelsOf<B: Backend> {
    /// One for all.
    One,
    /// Where the levels end; their gradients follow each other.
    Ends(IntTensor<B>),
}

/// The auxiliary path's share of a gradient.
#[derive(ExtensionType)]
pub enum AuxiliaryOf<B: Backend> {
    None,
    Path(#[extension_type] GradientOf<B>),
}

/// Backend operations of an SAE. The functions of this module wrap them for tensors and say what they do.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"))]
pub trait SaeOps: Backend {
    /// See [`product`].
    fn sae_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`encode`].
    fn sae_encode(
        input: FloatTensor<Self>,
        #[extension_type] encoder: EncoderOf<Self>,
        selection: Selection,
    ) -> (FloatTensor<Self>, IntTensor<Self>);

    /// See [`encode_with_dead`].
    fn sae_encode_with_dead(
        input: FloatTensor<Self>,
        #[extension_type] encoder: EncoderOf<Self>,
        selection: Selection,
        since_fired: IntTensor<Self>,
        dead_after: i32,
        k_aux: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, IntTensor<Self>);

    /// See [`scores`].
    fn sae_scores(
        input: FloatTensor<Self>,
        #[extension_type] encoder: EncoderOf<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`Scores::largest`].
    fn sae_largest(
        #[extension_type] scores: ScoresOf<Self>,
        count: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>, FloatTensor<Self>);

    /// See [`Scores::dead`]: of the latents from `first` on, as many as there are numbers in `since_fired`.
    fn sae_dead(
        #[extension_type] scores: ScoresOf<Self>,
        since_fired: IntTensor<Self>,
        dead_after: i32,
        k: usize,
        first: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>);

    /// See [`Scores::split`].
    fn sae_split(
        #[extension_type] scores: ScoresOf<Self>,
        threshold: FloatTensor<Self>,
        low: FloatTensor<Self>,
        both: bool,
        room: Option<([usize; 2], Coming)>,
    ) -> (
        FloatTensor<Self>,
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
    );

    /// See [`SparseCode::marked`](crate::SparseCode).
    fn sae_mark(#[extension_type] code: CodeOf<Self>, d_sae: usize) -> (IntTensor<Self>, IntTensor<Self>);

    /// See [`nested_residuals`].
    fn sae_nested_residuals(
        #[extension_type] code: CodeOf<Self>,
        ends: IntTensor<Self>,
        w_dec: FloatTensor<Self>,
        b_dec: FloatTensor<Self>,
        x: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`nested_gradients`].
    fn sae_nested_gradients(
        residuals: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        factor: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`latent_sums`].
    fn sae_latent_sums(
        #[extension_type] code: CodeOf<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        d_sae: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`jump_gradients`].
    fn sae_jump_gradients(
        #[extension_type] code: CodeOf<Self>,
        z_grads: FloatTensor<Self>,
        #[extension_type] jump: JumpOf<Self>,
        active: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`spread`].
    fn sae_spread(#[extension_type] code: CodeOf<Self>, numbers: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`decode`].
    fn sae_decode(#[extension_type] code: CodeOf<Self>, w_dec: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`residual`].
    fn sae_residual(
        #[extension_type] code: CodeOf<Self>,
        w_dec: FloatTensor<Self>,
        b_dec: FloatTensor<Self>,
        x: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`value_gradients`].
    fn sae_value_gradients(
        grad: FloatTensor<Self>,
        #[extension_type] code: CodeOf<Self>,
        w_dec: FloatTensor<Self>,
        #[extension_type] levels: LevelsOf<Self>,
    ) -> FloatTensor<Self>;

    /// See [`latent_gradients`].
    fn sae_latent_gradients(
        #[extension_type] main: GradientOf<Self>,
        #[extension_type] auxiliary: AuxiliaryOf<Self>,
        input: FloatTensor<Self>,
        w_dec: FloatTensor<Self>,
        since_fired: IntTensor<Self>,
        fires: IntTensor<Self>,
        project: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>);

    /// See [`sum_squares`].
    fn sae_sum_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`row_norms`].
    fn sae_row_norms(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`scale_rows`].
    fn sae_scale_rows(x: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`clip_factor`].
    fn sae_clip_factor(
        squares: FloatTensor<Self>,
        extra: FloatTensor<Self>,
        #[extension_type] vectors: VectorOf<Self>,
        limit: f64,
    ) -> FloatTensor<Self>;

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
