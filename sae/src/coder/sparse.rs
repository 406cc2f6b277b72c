//! Codes of as many chosen pre-activations of every token: z_j = ReLU(pre_j) of the latents j that a class chooses, and x̂ = z·W_dec + b_dec.
//!
//! Which latents are chosen has no gradient, so that ∂pre_j = ∂z_j where z_j is active. The chosen dead latents have a gradient of their
//! own, but add nothing to b_dec from the decoder, and are chosen and decoded without the ReLU. Under `rescale_acts_by_decoder_norm` the
//! norm multiplies before the selection and divides after it, so that only the selection sees it.

use burn::tensor::Tensor;

use super::frame::Frame;
use super::{Batch, Gradients, Objective, Params, Pass};
use crate::code::SparseCode;
use crate::config::TrainConfig;
use crate::kernels::{self, Counters, Selection};
use crate::loss::{Term, TermKind};

/// A batch whose latents are chosen.
pub(super) struct Chosen {
    frame: Frame,
    code: SparseCode,
    dead: Option<SparseCode>,
    /// The gradient of what the dead decode to, once the loss has asked for it, `[batch, d_model]`.
    dead_grad: Option<Tensor<2>>,
}

impl Chosen {
    pub(super) fn encode(
        config: &TrainConfig,
        params: &Params,
        Batch { x, dead, .. }: Batch,
        selection: Selection,
    ) -> Self {
        let chosen = (selection.k() * x.dims()[0]) as f64;
        let frame = Frame::new(config, params, x).for_entries(chosen);
        let (input, encoder) = (frame.input.clone(), frame.encoder());
        let (code, dead) = if let Some(dead) = dead {
            let [code, dead] = kernels::encode_with_dead(input, encoder, selection, dead);
            (code, Some(dead))
        } else {
            (kernels::encode(input, encoder, selection), None)
        };
        Self { frame, code, dead, dead_grad: None }
    }
}

impl Pass for Chosen {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(&self.code)
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.frame.residual(&self.code, target)
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let Some(dead) = self.dead.clone() else { return Vec::new() };
        let dead_output = kernels::decode(dead, self.frame.rows.clone());
        let auxiliary = of.firing.auxiliary(of.config, 0..self.code.d_sae(), dead_output, of.residual, of.weight);
        self.dead_grad = Some(auxiliary.output_grad);
        vec![Term::whole(TermKind::Auxiliary, auxiliary.loss)]
    }

    fn active(&self) -> Tensor<1> {
        count_active(&self.code)
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let Self { frame, code, dead, dead_grad } = *self;
        let dead = dead.zip(dead_grad).map(|(code, grad)| frame.gradient(code, grad, None));
        let b_dec = kernels::column_sums(output_grad.clone());
        let main = frame.gradient(code, output_grad, None);
        let (to, counters) = frame.latents(main, dead, counters);
        (frame.finish(to, b_dec), counters)
    }
}

/// Active entries of a code, in one element.
pub(super) fn count_active(code: &SparseCode) -> Tensor<1> {
    // Squares of ones: a count, in the order and width of the other sums.
    kernels::sum_squares(code.values().greater_elem(0.0).float())
}
