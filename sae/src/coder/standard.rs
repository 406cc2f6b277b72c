//! z = ReLU(pre), with the penalty c·‖z·‖W_dec‖‖_p, mean over tokens.
//!
//! With v_j = z_j·‖W_dec[j]‖ and s = ‖v‖_p, ∂s/∂v_j = (v_j/s)^(p−1) of the active latents. So ∂z_j gains c/batch·‖W_dec[j]‖ times that, and
//! ‖W_dec[j]‖ gains c/batch·z_j times it.

use burn::tensor::Tensor;

use super::frame::Frame;
use super::listing::Listing;
use super::{Batch, Coder, Gradients, Objective, Params, Pass};
use crate::activation::Activation;
use crate::code::SparseCode;
use crate::config::{Standard, TrainConfig};
use crate::kernels::{self, Counters};
use crate::loss::{Term, TermKind, Weight};

impl Coder for Standard {
    fn forward(&self, config: &TrainConfig, params: &Params, batch: Batch) -> Box<dyn Pass> {
        let tokens = batch.x.dims()[0];
        let frame = Frame::new(config, params, batch.x);
        let scores = kernels::scores(frame.input.clone(), frame.encoder());
        let listing = Listing::new(scores, params.b_enc.zeros_like(), None, batch.entries_before);
        let frame = frame.for_entries(listing.entries()[0] as f64);
        let norms = kernels::row_norms(params.w_dec.clone());
        Box::new(Penalised { settings: self.clone(), tokens, frame, listing, norms, penalty: None })
    }

    fn activation(&self, _vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::Relu
    }
}

struct Penalised {
    settings: Standard,
    tokens: usize,
    frame: Frame,
    listing: Listing,
    /// ‖W_dec\[j]‖
    norms: Tensor<1>,
    penalty: Option<Penalty>,
}

/// The gradient of a penalty on the size of activations.
pub(super) struct Penalty {
    /// Of the value of each entry.
    pub(super) values: Tensor<1>,
    /// Of the norm of each row of the decoder.
    pub(super) norms: Tensor<1>,
}

impl Penalty {
    /// The penalty factor·Σ_t ‖z·‖W_dec‖‖_p as a term, and its gradient.
    pub(super) fn of(code: &SparseCode, norms: &Tensor<1>, p: f64, factor: f64) -> (Term, Self) {
        let (z, norms) = (code.values(), norms.clone().select(0, code.indices()));
        let scaled = z.clone() * norms.clone();
        let (sizes, shares) = if p == 1.0 {
            (kernels::token_sums(code.clone(), scaled), z.ones_like())
        } else {
            let sizes = kernels::token_sums(code.clone(), scaled.clone().powf_scalar(p)).powf_scalar(p.recip());
            let relative = scaled / kernels::spread(code.clone(), sizes.clone()).clamp_min(f32::MIN_POSITIVE);
            (sizes, relative.powf_scalar(p - 1.0))
        };
        let shares = shares.mul_scalar(factor);
        let [norm_grads, _] = kernels::latent_sums(code.clone(), [z * shares.clone(), shares.clone()]);
        let term = Term { kind: TermKind::L1, parts: sizes, weight: Weight::Known(factor as f32) };
        (term, Self { values: norms * shares, norms: norm_grads })
    }
}

impl Pass for Penalised {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(self.listing.above())
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.listing.residual(&mut self.frame, target)
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let factor = of.coefficient / self.tokens as f64;
        let (term, penalty) = Penalty::of(self.listing.above(), &self.norms, self.settings.lp_norm, factor);
        self.penalty = Some(penalty);
        vec![term]
    }

    fn active(&self) -> Tensor<1> {
        self.listing.active()
    }

    fn entries(&self) -> Option<[usize; 2]> {
        Some(self.listing.entries())
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let Self { frame, listing, norms, penalty, .. } = *self;
        let b_dec = kernels::column_sums(output_grad.clone());
        let mut main = frame.gradient(listing.above().clone(), output_grad, None);
        if let Some(penalty) = &penalty {
            main.value_grads = main.value_grads + penalty.values.clone();
        }
        let (mut to, counters) = frame.latents(main, None, counters);
        if let Some(penalty) = penalty {
            frame.add_norm_gradients(&mut to, penalty.norms, norms);
        }
        (frame.finish(to, b_dec), counters)
    }
}
