//! The parameters of a pass with what the encoder sees, and how gradients of a code reach them.
//!
//! An active z_j has gradient ∂x̂·W_dec[j]; W_dec[j] receives z_j·∂x̂. What a class makes of the former, ∂pre_j, goes to W_enc[j] times the
//! input and to b_enc[j]. b_dec receives Σ_t ∂x̂ from the decoder and −Σ_j ∂b_enc[j]·W_enc[j] through the encoder's input.

use burn::tensor::{FloatDType, Tensor};

use super::{Gradients, Params};
use crate::code::SparseCode;
use crate::config::{DecoderNorm, TrainConfig};
use crate::kernels::{self, Counters, Encoder, LatentGradients, Levels, Precision, SparseGradient};

/// What the passes of all classes hold.
pub(super) struct Frame {
    pub(super) params: Params,
    /// What the encoder sees, `[batch, d_model]`.
    pub(super) input: Tensor<2>,
    /// The decoder as the sparse products gather it, `[d_sae, d_model]`.
    pub(super) rows: Tensor<2>,
    /// Factors on the pre-activations where latents are chosen, `[d_sae]`.
    pub(super) scale: Option<Tensor<1>>,
    precision: Precision,
    /// How many entries a code has at least whose rows are gathered rounded to bf16.
    rounded_from: f64,
    /// Whether gathered rows are rounded.
    rounded: bool,
    /// Whether the decoder's gradient loses its part along the decoder's rows.
    project: bool,
    apply_b_dec_to_input: bool,
}

impl Frame {
    pub(super) fn new(config: &TrainConfig, params: &Params, x: Tensor<2>) -> Self {
        Self {
            input: if config.apply_b_dec_to_input { x - params.b_dec.clone().unsqueeze() } else { x },
            scale: config.rescale_acts_by_decoder_norm.then(|| kernels::row_norms(params.w_dec.clone())),
            rows: params.w_dec.clone(),
            precision: config.precision,
            rounded_from: config.bf16_gathers_from(),
            rounded: false,
            project: config.decoder_norm == DecoderNorm::Unit,
            apply_b_dec_to_input: config.apply_b_dec_to_input,
            params: params.clone(),
        }
    }

    /// The same for a code of so many entries: they decide in which format rows are gathered.
    pub(super) fn for_entries(mut self, entries: f64) -> Self {
        self.fit(entries);
        self
    }

    /// Becomes the frame for a code of so many entries; whether it was one for another format.
    pub(super) fn fit(&mut self, entries: f64) -> bool {
        let rounded = entries >= self.rounded_from;
        let changes = rounded != self.rounded;
        if changes {
            self.rounded = rounded;
            self.rows = self.gathered(self.params.w_dec.clone());
        }
        changes
    }

    fn gathered(&self, rows: Tensor<2>) -> Tensor<2> {
        if self.rounded { rows.cast(FloatDType::BF16) } else { rows }
    }

    pub(super) fn encoder(&self) -> Encoder {
        Encoder {
            w_enc: self.params.w_enc.clone(),
            b_enc: self.params.b_enc.clone(),
            scale: self.scale.clone(),
            precision: self.precision,
        }
    }

    pub(super) fn reconstruction(&self, code: &SparseCode) -> Tensor<2> {
        kernels::decode(code.clone(), self.rows.clone()) + self.params.b_dec.clone().unsqueeze()
    }

    pub(super) fn residual(&self, code: &SparseCode, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        kernels::residual(code.clone(), self.rows.clone(), self.params.b_dec.clone(), target)
    }

    /// ∂x̂·W_dec\[j] of every entry whose value is not 0, `[entries]`.
    pub(super) fn value_grads(&self, code: &SparseCode, output_grad: &Tensor<2>, levels: Option<&Levels>) -> Tensor<1> {
        kernels::value_gradients(output_grad.clone(), code.clone(), self.rows.clone(), levels)
    }

    /// What the decoder sends back, where ∂pre = ∂z.
    pub(super) fn gradient(&self, code: SparseCode, output_grad: Tensor<2>, levels: Option<Levels>) -> SparseGradient {
        let value_grads = self.value_grads(&code, &output_grad, levels.as_ref());
        SparseGradient { value_grads, code, output_grad: self.gathered(output_grad), levels }
    }

    /// The same of any ∂pre.
    pub(super) fn gradient_of(
        &self,
        code: SparseCode,
        value_grads: Tensor<1>,
        output_grad: Tensor<2>,
    ) -> SparseGradient {
        SparseGradient { value_grads, code, output_grad: self.gathered(output_grad), levels: None }
    }

    /// The gradients of the latents.
    pub(super) fn latents(
        &self,
        main: SparseGradient,
        auxiliary: Option<SparseGradient>,
        counters: Counters,
    ) -> (LatentGradients, Counters) {
        let input = self.gathered(self.input.clone());
        kernels::latent_gradients(main, auxiliary, input, self.params.w_dec.clone(), counters, self.project)
    }

    /// All gradients from those of the latents and Σ_t of all that reaches b_dec from the decoder.
    pub(super) fn finish(self, to: LatentGradients, mut b_dec: Tensor<1>) -> Gradients {
        if self.apply_b_dec_to_input {
            b_dec = b_dec - kernels::weighted_rows(to.b_enc.clone(), self.params.w_enc);
        }
        let gradients = Params { w_enc: to.w_enc, b_enc: to.b_enc, w_dec: to.w_dec, b_dec, vectors: Vec::new() };
        Gradients { gradients, squares: to.squares }
    }

    /// Adds to the decoder's gradient what comes from the norms of its rows, ∂‖W_dec\[j]‖·W_dec\[j]/‖W_dec\[j]‖; nothing is left of that where
    /// the gradient loses its part along the rows.
    pub(super) fn add_norm_gradients(&self, to: &mut LatentGradients, norm_grads: Tensor<1>, norms: Tensor<1>) {
        if self.project {
            return;
        }
        let factors = norm_grads / norms.clamp_min(f32::MIN_POSITIVE);
        to.w_dec = to.w_dec.clone() + kernels::scale_rows(self.params.w_dec.clone(), factors);
        to.squares = squares_of([&to.w_enc, &to.w_dec], &to.b_enc);
    }
}

/// Sums of the squares of matrices and of a vector.
pub(super) fn squares_of(matrices: [&Tensor<2>; 2], vector: &Tensor<1>) -> Tensor<1> {
    let [first, second] = matrices.map(|matrix| kernels::sum_squares(matrix.clone()));
    Tensor::cat(vec![first, second, kernels::sum_squares(vector.clone())], 0)
}
