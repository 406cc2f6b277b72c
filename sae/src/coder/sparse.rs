//! Codes of chosen pre-activations: z_j = ReLU(pre_j) of the latents j that a class chooses, and x̂ = z·W_dec + b_dec.
//!
//! Which latents are chosen has no gradient. An active z_j has gradient ∂x̂·W_dec[j], which goes to W_enc[j] times the input and to
//! b_enc[j]; W_dec[j] receives z_j·∂x̂. b_dec receives Σ_t ∂x̂ from the decoder and −Σ_j ∂b_enc[j]·W_enc[j] through the encoder's input. The
//! chosen dead latents do the same with a gradient of their own, but add nothing to b_dec from the decoder, and are chosen and decoded
//! without the ReLU. Under `rescale_acts_by_decoder_norm` the norm multiplies before the selection and divides after it, so that only the
//! selection sees it.

use burn::tensor::{FloatDType, Tensor};

use super::{Gradients, Params, Pass};
use crate::code::SparseCode;
use crate::config::{DecoderNorm, TrainConfig};
use crate::kernels::{self, Counters, Dead, Encoder, Selection, SparseGradient};

/// A batch whose latents are chosen.
pub(super) struct Chosen {
    params: Params,
    /// What the encoder sees, `[batch, d_model]`.
    input: Tensor<2>,
    code: SparseCode,
    dead: Option<SparseCode>,
    /// The decoder as the sparse products gather it, `[d_sae, d_model]`.
    rows: Tensor<2>,
    /// Whether gathered rows are rounded to bf16.
    rounded: bool,
    /// Whether the decoder's gradient loses its part along the decoder's rows.
    project: bool,
    apply_b_dec_to_input: bool,
}

impl Chosen {
    pub(super) fn encode(
        config: &TrainConfig,
        params: &Params,
        x: Tensor<2>,
        selection: Selection,
        dead: Option<Dead>,
    ) -> Self {
        let rounded = config.gathers_bf16(x.dims()[0]);
        let input = if config.apply_b_dec_to_input { x - params.b_dec.clone().unsqueeze() } else { x };
        let encoder = Encoder {
            w_enc: params.w_enc.clone(),
            b_enc: params.b_enc.clone(),
            scale: config.rescale_acts_by_decoder_norm.then(|| kernels::row_norms(params.w_dec.clone())),
            precision: config.precision,
        };
        let (code, dead) = if let Some(dead) = dead {
            let [code, dead] = kernels::encode_with_dead(input.clone(), encoder, selection, dead);
            (code, Some(dead))
        } else {
            (kernels::encode(input.clone(), encoder, selection), None)
        };
        Self {
            input,
            code,
            dead,
            rows: gathered(params.w_dec.clone(), rounded),
            rounded,
            project: config.decoder_norm == DecoderNorm::Unit,
            apply_b_dec_to_input: config.apply_b_dec_to_input,
            params: params.clone(),
        }
    }

    fn gradient(&self, code: SparseCode, output_grad: Tensor<2>) -> SparseGradient {
        SparseGradient {
            value_grads: kernels::value_gradients(output_grad.clone(), code.clone(), self.rows.clone()),
            code,
            output_grad: gathered(output_grad, self.rounded),
        }
    }
}

impl Pass for Chosen {
    fn reconstruction(&self) -> Tensor<2> {
        kernels::decode(self.code.clone(), self.rows.clone()) + self.params.b_dec.clone().unsqueeze()
    }

    fn residual(&self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        kernels::residual(self.code.clone(), self.rows.clone(), self.params.b_dec.clone(), target)
    }

    fn dead_output(&self) -> Option<Tensor<2>> {
        self.dead.clone().map(|dead| kernels::decode(dead, self.rows.clone()))
    }

    fn active(&self) -> Tensor<1> {
        // Squares of ones: a count, in the order and width of the other sums.
        kernels::sum_squares(self.code.values().greater_elem(0.0).float())
    }

    fn backward(
        self: Box<Self>,
        output_grad: Tensor<2>,
        dead_grad: Option<Tensor<2>>,
        counters: Counters,
    ) -> (Gradients, Counters) {
        let dead = self.dead.clone().zip(dead_grad).map(|(code, grad)| self.gradient(code, grad));
        let mut b_dec = kernels::column_sums(output_grad.clone());
        let main = self.gradient(self.code.clone(), output_grad);
        let input = gathered(self.input, self.rounded);
        let (to, counters) = kernels::latent_gradients(main, dead, input, self.params.w_dec, counters, self.project);
        if self.apply_b_dec_to_input {
            b_dec = b_dec - kernels::weighted_rows(to.b_enc.clone(), self.params.w_enc);
        }
        let gradients = Params { w_enc: to.w_enc, b_enc: to.b_enc, w_dec: to.w_dec, b_dec };
        (Gradients { gradients, squares: to.squares }, counters)
    }
}

fn gathered(rows: Tensor<2>, rounded: bool) -> Tensor<2> {
    if rounded { rows.cast(FloatDType::BF16) } else { rows }
}
