//! z = ReLU(pre), with the penalty c·‖z·‖W_dec‖‖_p, mean over tokens.
//!
//! With v_j = z_j·‖W_dec[j]‖ and s = ‖v‖_p, ∂s/∂v_j = (v_j/s)^(p−1) of the active latents. So ∂z_j gains c/batch·‖W_dec[j]‖ times that, and
//! ‖W_dec[j]‖ gains c/batch·z_j times it.

use burn::tensor::Tensor;

use super::frame::Frame;
use super::rows::{Pre, Rows, scalar, vector};
use super::sparse::count_active;
use super::{Coder, Gradients, Objective, Params, Pass};
use crate::activation::Activation;
use crate::code::SparseCode;
use crate::config::{Standard, TrainConfig};
use crate::kernels::{self, Counters, Dead};
use crate::loss::{Term, TermKind};
use crate::readback::host;

impl Coder for Standard {
    fn forward(&self, config: &TrainConfig, params: &Params, x: Tensor<2>, _dead: Option<Dead>) -> Box<dyn Pass> {
        let frame = Frame::new(config, params, x);
        let rows = Pre::read(frame.pre()).rows(|_, pre| (pre > 0.0).then_some(pre));
        let code = rows.code(&frame.device());
        let norms = host(kernels::row_norms(params.w_dec.clone()));
        Box::new(Penalised { settings: self.clone(), frame, rows, code, norms, penalty: None })
    }

    fn activation(&self, _vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::Relu
    }
}

struct Penalised {
    settings: Standard,
    frame: Frame,
    rows: Rows,
    code: SparseCode,
    /// ‖W_dec\[j]‖
    norms: Vec<f32>,
    penalty: Option<Penalty>,
}

/// The gradient of a penalty on the size of activations.
pub(super) struct Penalty {
    /// Of the value of each entry.
    pub(super) values: Vec<f64>,
    /// Of the norm of each row of the decoder.
    pub(super) norms: Vec<f64>,
}

impl Penalty {
    /// The penalty factor·Σ_t ‖z·‖W_dec‖‖_p, and its gradient.
    pub(super) fn of(rows: &Rows, norms: &[f32], p: f64, factor: f64) -> (f64, Self) {
        let (mut sum, mut values, mut norm_grads) = (0.0, Vec::new(), vec![0.0; norms.len()]);
        for (latents, row) in &rows.tokens {
            let scaled = || {
                latents.iter().zip(row).map(|(&latent, &z)| {
                    let (latent, z) = (latent as usize, f64::from(z));
                    (latent, z, f64::from(norms[latent]))
                })
            };
            let size = scaled().map(|(_, z, norm)| (z * norm).powf(p)).sum::<f64>().powf(p.recip());
            sum += size;
            for (latent, z, norm) in scaled() {
                let share = if size > 0.0 { (z * norm / size).powf(p - 1.0) } else { 0.0 };
                values.push(factor * norm * share);
                norm_grads[latent] += factor * z * share;
            }
        }
        (factor * sum, Self { values, norms: norm_grads })
    }
}

impl Pass for Penalised {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(&self.code)
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.frame.residual(&self.code, target)
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let factor = of.coefficient / self.rows.tokens.len() as f64;
        let (loss, penalty) = Penalty::of(&self.rows, &self.norms, self.settings.lp_norm, factor);
        self.penalty = Some(penalty);
        vec![Term { kind: TermKind::L1, value: scalar(loss, &self.frame.device()) }]
    }

    fn active(&self) -> Tensor<1> {
        count_active(&self.code)
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let Self { frame, code, norms, penalty, .. } = *self;
        let b_dec = kernels::column_sums(output_grad.clone());
        let mut main = frame.gradient(code, output_grad);
        if let Some(penalty) = &penalty {
            main.value_grads = main.value_grads + vector(penalty.values.iter().copied(), &frame.device());
        }
        let (mut to, counters) = frame.latents(main, None, counters);
        if let Some(penalty) = &penalty {
            to.w_dec = frame.add_norm_gradients(to.w_dec, &penalty.norms, &norms);
        }
        (Gradients::of(frame.finish(to, b_dec).gradients), counters)
    }
}
