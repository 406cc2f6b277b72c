//! z = pre·[pre > θ], with a penalty on the number of active latents.
//!
//! A step has no gradient; a straight-through estimator takes that of a rectangle about the threshold instead, r = [|pre − θ| < ε/2] for the
//! bandwidth ε (Rajamanoharan et al. 2024, arXiv:2407.14435, section 4). With the step's own gradient g, of which the sparsity loss
//! consists, the threshold receives −Σ_t r·(θ·∂z + g)/ε. The pre-activation receives ∂z where z is active, and under `ste_to_input` what the
//! threshold receives, with the other sign.
//!
//! The loss of dead latents is c·Σ_j ReLU(θ_j − pre_j)·‖W_dec[j]‖, mean over tokens (Anthropic, January 2025 update, of dead ones alone as in
//! SAELens).

use burn::tensor::Tensor;

use super::frame::Frame;
use super::rows::{Pre, Rows, scalar, vector};
use super::sparse::count_active;
use super::{Coder, Gradients, Objective, Params, Pass};
use crate::activation::Activation;
use crate::code::SparseCode;
use crate::config::{JumpRelu, Sparsity, TrainConfig};
use crate::kernels::{self, Counters, Dead};
use crate::loss::{Term, TermKind};
use crate::readback::host;

impl Coder for JumpRelu {
    fn vectors(&self) -> Vec<(&'static str, f32)> {
        vec![("threshold", self.init_threshold as f32)]
    }

    /// Below 0 a threshold would let negative pre-activations pass.
    fn project(&self, params: &mut Params) {
        params.vectors[0] = params.vectors[0].clone().clamp_min(0.0);
    }

    fn forward(&self, config: &TrainConfig, params: &Params, x: Tensor<2>, dead: Option<Dead>) -> Box<dyn Pass> {
        let frame = Frame::new(config, params, x);
        let pre = Pre::read(frame.pre());
        let threshold = host(params.vectors[0].clone());
        let active = pre.rows(|latent, pre| (pre > threshold[latent]).then_some(pre));
        Box::new(Jumped {
            settings: self.clone(),
            code: active.code(&frame.device()),
            norms: host(kernels::row_norms(params.w_dec.clone())),
            dead: dead.map_or_else(|| vec![false; config.d_sae], |dead| dead.mask()),
            frame,
            pre,
            threshold,
            active,
            factors: Factors::default(),
        })
    }

    fn activation(&self, vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::JumpRelu { threshold: vectors[0].clone() }
    }
}

struct Jumped {
    settings: JumpRelu,
    frame: Frame,
    pre: Pre,
    /// θ
    threshold: Vec<f32>,
    /// ‖W_dec\[j]‖
    norms: Vec<f32>,
    /// Which latents are dead; none where no loss asks.
    dead: Vec<bool>,
    active: Rows,
    code: SparseCode,
    factors: Factors,
}

/// What the loss terms are multiplied by.
#[derive(Default)]
struct Factors {
    /// g, the gradient of each token's L0; empty where the sparsity loss is no function of it.
    l0: Vec<f64>,
    /// Of Σ tanh(scale·z·‖W_dec‖), and the scale.
    tanh: Option<(f64, f64)>,
    /// Of Σ ReLU(θ − pre)·‖W_dec‖ of dead latents.
    pre_act: f64,
}

/// Gradients on their way to a threshold, a decoder's norm and a pre-activation.
struct Sums {
    threshold: Vec<f64>,
    norms: Vec<f64>,
}

impl Jumped {
    /// Whether the estimator's rectangle covers a pre-activation.
    fn is_near(&self, latent: usize, pre: f32) -> bool {
        ((pre - self.threshold[latent]) / self.settings.bandwidth as f32).abs() < 0.5
    }

    /// Whether the loss of dead latents is about one.
    fn is_below(&self, latent: usize, pre: f32) -> bool {
        self.factors.pre_act > 0.0 && self.dead[latent] && pre < self.threshold[latent]
    }

    /// The sparsity loss; its factors are kept.
    fn sparsity(&mut self, coefficient: f64) -> f64 {
        let JumpRelu { sparsity, .. } = self.settings;
        let factor = coefficient / self.pre.tokens() as f64;
        let l0 = || self.active.tokens.iter().map(|(latents, _)| latents.len() as f64);
        match sparsity {
            Sparsity::Step => {
                let loss = l0().sum::<f64>() * factor;
                self.factors.l0 = vec![factor; self.pre.tokens()];
                loss
            }
            Sparsity::Quadratic { target_l0 } => {
                let loss = l0().map(|l0| 2.0 / target_l0 * (l0 - target_l0).powi(2)).sum::<f64>() * factor;
                self.factors.l0 = l0().map(|l0| 4.0 / target_l0 * (l0 - target_l0) * factor).collect();
                loss
            }
            Sparsity::Tanh { scale } => {
                self.factors.tanh = Some((factor, scale));
                let size = |(_, latent, z): (usize, usize, f32)| f64::from(z) * f64::from(self.norms[latent]);
                self.active.entries().map(|entry| (scale * size(entry)).tanh()).sum::<f64>() * factor
            }
        }
    }

    /// The loss of dead latents; its factor is kept.
    fn pre_act(&mut self) -> f64 {
        self.factors.pre_act = self.settings.pre_act_coefficient / self.pre.tokens() as f64;
        let below = self.pre.rows(|latent, pre| {
            self.is_below(latent, pre).then(|| (self.threshold[latent] - pre) * self.norms[latent])
        });
        below.entries().map(|(_, _, value)| f64::from(value)).sum::<f64>() * self.factors.pre_act
    }

    /// ∂pre of an entry from ∂z as the decoder sends it back.
    fn through(&self, (token, latent, z): (usize, usize, f32), decoded: f32, sums: &mut Sums) -> f64 {
        let (pre, threshold) = (self.pre.of(token)[latent], self.threshold[latent]);
        let (wide_pre, wide_threshold) = (f64::from(pre), f64::from(threshold));
        let (norm, bandwidth) = (f64::from(self.norms[latent]), self.settings.bandwidth);
        let mut z_grad = f64::from(decoded);
        if let Some((factor, scale)) = self.factors.tanh {
            let slope = factor * scale * (1.0 - (scale * f64::from(z) * norm).tanh().powi(2));
            z_grad += slope * norm;
            sums.norms[latent] += slope * f64::from(z);
        }
        let mut pre_grad = if pre > threshold { z_grad } else { 0.0 };
        if self.is_near(latent, pre) {
            let l0_grad = self.factors.l0.get(token).copied().unwrap_or(0.0);
            let smeared = (wide_threshold * z_grad + l0_grad) / bandwidth;
            sums.threshold[latent] -= smeared;
            if self.settings.ste_to_input {
                pre_grad += smeared;
            }
        }
        if self.is_below(latent, pre) {
            let lift = self.factors.pre_act * norm;
            pre_grad -= lift;
            sums.threshold[latent] += lift;
            sums.norms[latent] += self.factors.pre_act * (wide_threshold - wide_pre);
        }
        pre_grad
    }
}

impl Pass for Jumped {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(&self.code)
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.frame.residual(&self.code, target)
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let device = self.frame.device();
        let term = |kind, loss| Term { kind, value: scalar(loss, &device) };
        let mut terms = vec![term(TermKind::L0, self.sparsity(of.coefficient))];
        if self.settings.pre_act_coefficient > 0.0 {
            terms.push(term(TermKind::PreActivation, self.pre_act()));
        }
        terms
    }

    fn active(&self) -> Tensor<1> {
        count_active(&self.code)
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let device = self.frame.device();
        let d_sae = self.threshold.len();
        let mut sums = Sums { threshold: vec![0.0; d_sae], norms: vec![0.0; d_sae] };
        let mut through = |rows: &Rows, decoded: Vec<f32>| {
            let entries = rows.entries().zip(decoded);
            vector(entries.map(|(entry, decoded)| self.through(entry, decoded, &mut sums)), &device)
        };
        let decoded = host(self.frame.value_grads(&self.code, &output_grad));
        let active_grads = through(&self.active, decoded);
        // What is not active, but has a gradient. Ones in the code make kernels look at an entry.
        let silent = |latent: usize, pre: f32| {
            let has_gradient = self.is_near(latent, pre) || self.is_below(latent, pre);
            (has_gradient && (pre <= self.threshold[latent])).then_some(0.0)
        };
        let silent = self.pre.rows(silent);
        let marked = silent.code(&device).map_values(|values| values.ones_like());
        let decoded = host(self.frame.value_grads(&marked, &output_grad));
        let silent_grads = through(&silent, decoded);

        let b_dec = kernels::column_sums(output_grad.clone());
        let nothing = output_grad.zeros_like();
        let main = self.frame.gradient_of(self.code.clone(), active_grads, output_grad);
        let reached = self.settings.ste_to_input || self.factors.pre_act > 0.0;
        let auxiliary = reached.then(|| self.frame.gradient_of(marked, silent_grads, nothing));
        let (mut to, counters) = self.frame.latents(main, auxiliary, counters);
        to.w_dec = self.frame.add_norm_gradients(to.w_dec, &sums.norms, &self.norms);
        let gradients = self.frame.finish(to, b_dec).gradients;
        (Gradients::of(Params { vectors: vec![vector(sums.threshold, &device)], ..gradients }), counters)
    }
}
