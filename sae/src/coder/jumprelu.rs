//! z = pre·[pre > θ], with a penalty on the number of active latents.
//!
//! A step has no gradient; a straight-through estimator takes that of a rectangle about the threshold instead, r = [|pre − θ| < ε/2] for the
//! bandwidth ε (Rajamanoharan et al. 2024, arXiv:2407.14435, section 4). With the step's own gradient g, of which the sparsity loss
//! consists, the threshold receives −Σ_t r·(θ·∂z + g)/ε. The pre-activation receives ∂z where z is active, and under `ste_to_input` what the
//! threshold receives, with the other sign.
//!
//! The loss of dead latents is c·Σ_j ReLU(θ_j − pre_j)·‖W_dec[j]‖, mean over tokens (Anthropic, January 2025 update, of dead ones alone as in
//! SAELens).

use burn::tensor::{Bool, Tensor};

use super::frame::Frame;
use super::listing::Listing;
use super::{Batch, Coder, Gradients, Objective, Params, Pass};
use crate::activation::Activation;
use crate::code::SparseCode;
use crate::config::{JumpRelu, Sparsity, TrainConfig};
use crate::kernels::{self, Counters, Jump, JumpBy, JumpGradients, L0Grad};
use crate::loss::{Term, TermKind, Weight};

impl Coder for JumpRelu {
    fn vectors(&self) -> Vec<(&'static str, f32)> {
        vec![("threshold", self.init_threshold as f32)]
    }

    /// Below 0 a threshold would let negative pre-activations pass.
    fn project(&self, params: &mut Params) {
        params.vectors[0] = params.vectors[0].clone().clamp(0.0, f32::INFINITY);
    }

    fn forward(&self, config: &TrainConfig, params: &Params, batch: Batch) -> Box<dyn Pass> {
        let tokens = batch.x.dims()[0];
        let frame = Frame::new(config, params, batch.x);
        let threshold = params.vectors[0].clone();
        let dead = batch.dead.map(|dead| dead.since_fired.greater_elem(dead.after));
        // Whatever may have a gradient without being active: near the threshold, or dead and below it. The factor leaves it to
        // the gradients to say what is near.
        let mut low = threshold.clone().sub_scalar(0.50001 * self.bandwidth);
        if let Some(dead) = &dead {
            low = low.mask_fill(dead.clone(), f32::NEG_INFINITY);
        }
        let scores = kernels::scores(frame.input.clone(), frame.encoder());
        let listing = Listing::new(scores, threshold.clone(), Some(low), batch.entries_before);
        Box::new(Jumped {
            settings: self.clone(),
            tokens,
            norms: if self.asks_for_norms() { kernels::row_norms(params.w_dec.clone()) } else { threshold.clone() },
            dead: dead.map(Tensor::<1, Bool>::float),
            frame: frame.for_entries(listing.entries()[0] as f64),
            threshold,
            listing,
            l0_grad: L0Grad::default(),
            tanh: None,
            pre_act: 0.0,
        })
    }

    fn activation(&self, vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::JumpRelu { threshold: vectors[0].clone() }
    }
}

impl JumpRelu {
    /// Whether a loss depends on the decoder's norms.
    fn asks_for_norms(&self) -> bool {
        self.pre_act_coefficient > 0.0 || matches!(self.sparsity, Sparsity::Tanh { .. })
    }
}

struct Jumped {
    settings: JumpRelu,
    tokens: usize,
    frame: Frame,
    /// θ
    threshold: Tensor<1>,
    /// ‖W_dec\[j]‖, where a loss asks.
    norms: Tensor<1>,
    /// 1 where a latent is dead; nothing where no loss asks.
    dead: Option<Tensor<1>>,
    /// What is above its threshold, active: values are z, which is pre there. And what is below, silent, but has a gradient: values are pre.
    listing: Listing,
    /// g, once the loss has asked for it.
    l0_grad: L0Grad,
    /// The factor of Σ tanh(scale·z·‖W_dec‖), and the scale.
    tanh: Option<(f64, f64)>,
    /// The factor of Σ ReLU(θ − pre)·‖W_dec‖ of dead latents.
    pre_act: f64,
}

impl Jumped {
    fn active(&self) -> &SparseCode {
        self.listing.above()
    }

    fn silent(&self) -> &SparseCode {
        self.listing.between().expect("it was asked for")
    }

    /// The sparsity loss; its factors are kept.
    fn sparsity(&mut self, coefficient: f64) -> Term {
        let factor = coefficient / self.tokens as f64;
        let weight = Weight::Known(factor as f32);
        let active = self.active().clone();
        let parts = match self.settings.sparsity {
            Sparsity::Step => {
                self.l0_grad = L0Grad::Same(factor as f32);
                self.listing.active()
            }
            Sparsity::Quadratic { target_l0 } => {
                let l0 = kernels::token_sums(active.clone(), active.values().ones_like());
                let over = l0.sub_scalar(target_l0);
                self.l0_grad = L0Grad::Each(over.clone().mul_scalar(4.0 / target_l0 * factor));
                over.clone() * over.mul_scalar(2.0 / target_l0)
            }
            Sparsity::Tanh { scale } => {
                self.tanh = Some((factor, scale));
                let size = active.values() * self.norms.clone().select(0, active.indices());
                kernels::token_sums(active, size.mul_scalar(scale).tanh())
            }
        };
        Term { kind: TermKind::L0, parts, weight }
    }

    /// The loss of dead latents, if there are any; its factor is kept.
    fn pre_act_loss(&mut self) -> Option<Term> {
        let dead = self.dead.clone().filter(|_| self.settings.pre_act_coefficient > 0.0)?;
        self.pre_act = self.settings.pre_act_coefficient / self.tokens as f64;
        let silent = self.silent();
        let of_latents = |vector: &Tensor<1>| vector.clone().select(0, silent.indices());
        let below = of_latents(&self.threshold) - silent.values();
        let loss = below * of_latents(&self.norms) * of_latents(&dead);
        let parts = kernels::token_sums(ones(silent), loss);
        Some(Term { kind: TermKind::PreActivation, parts, weight: Weight::Known(self.pre_act as f32) })
    }

    /// What the loss terms have left for the gradients.
    fn jump(&self) -> Jump {
        let JumpRelu { bandwidth, ste_to_input, .. } = self.settings;
        Jump {
            threshold: self.threshold.clone(),
            norms: self.norms.clone(),
            dead: self.dead.clone(),
            l0_grad: self.l0_grad.clone(),
            by: JumpBy { bandwidth, ste_to_input, tanh: self.tanh, pre_act: self.pre_act },
        }
    }
}

/// A code whose entries all count, whatever their values: kernels pass over those of 0.
fn ones(code: &SparseCode) -> SparseCode {
    code.clone().map_values(|values| values.ones_like())
}

impl Pass for Jumped {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(self.listing.above())
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.listing.residual(&mut self.frame, target)
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let mut terms = vec![self.sparsity(of.coefficient)];
        terms.extend(self.pre_act_loss());
        terms
    }

    fn active(&self) -> Tensor<1> {
        self.listing.active()
    }

    fn entries(&self) -> Option<[usize; 2]> {
        Some(self.listing.entries())
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let (above, between) = (self.listing.above(), self.silent());
        let marked = ones(between);
        let decoded = self.frame.value_grads(above, &output_grad, None);
        let active = kernels::jump_gradients(above.clone(), decoded, self.jump(), true);
        let decoded = self.frame.value_grads(&marked, &output_grad, None);
        let silent = kernels::jump_gradients(between.clone(), decoded, self.jump(), false);
        let sums = |code: &SparseCode, of: &JumpGradients| {
            kernels::latent_sums(code.clone(), [of.threshold.clone(), of.norms.clone()])
        };
        let ([active_thresholds, active_norms], [silent_thresholds, silent_norms]) =
            (sums(above, &active), sums(&marked, &silent));

        let reached = self.settings.ste_to_input || self.dead.is_some();
        let has_norm_grads = self.tanh.is_some() || self.dead.is_some();
        let code = above.clone();
        let Self { frame, norms, .. } = *self;
        let b_dec = kernels::column_sums(output_grad.clone());
        let auxiliary = reached.then(|| frame.gradient_of(marked, silent.pre, output_grad.zeros_like()));
        let main = frame.gradient_of(code, active.pre, output_grad);
        let (mut to, counters) = frame.latents(main, auxiliary, counters);
        if has_norm_grads {
            frame.add_norm_gradients(&mut to, active_norms + silent_norms, norms);
        }
        let Gradients { gradients, squares } = frame.finish(to, b_dec);
        let threshold = active_thresholds + silent_thresholds;
        (Gradients { gradients: Params { vectors: vec![threshold], ..gradients }, squares }, counters)
    }
}
