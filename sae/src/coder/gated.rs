//! z = [π > 0]·ReLU(m) with the gate π = u + b_gate and the magnitude m = e^r_mag·u + b_mag, both of u = x·W_enc.
//!
//! The gate's step has no gradient, so it learns from two terms of its own: γ = ReLU(π) has an L1 penalty like that of a standard SAE, and
//! reconstructs x by the same decoder (Rajamanoharan et al. 2024, arXiv:2404.16014; the decoder learns from that too, as in SAELens). So
//! ∂u = ∂π + e^r_mag·∂m, and r_mag receives Σ_t ∂m·e^r_mag·u.

use burn::tensor::Tensor;

use super::frame::Frame;
use super::rows::{Pre, Rows, scalar, vector};
use super::sparse::count_active;
use super::standard::Penalty;
use super::{Coder, Gradients, Objective, Params, Pass};
use crate::activation::Activation;
use crate::code::SparseCode;
use crate::config::{Gated, TrainConfig};
use crate::kernels::{self, Counters, Dead};
use crate::loss::{Term, TermKind};
use crate::readback::host;

impl Coder for Gated {
    fn vectors(&self) -> Vec<(&'static str, f32)> {
        vec![("r_mag", 0.0), ("b_mag", 0.0)]
    }

    fn forward(&self, config: &TrainConfig, params: &Params, x: Tensor<2>, _dead: Option<Dead>) -> Box<dyn Pass> {
        let frame = Frame::new(config, params, x.clone());
        let products = Pre::read(frame.product());
        let [b_gate, b_mag] = [&params.b_enc, &params.vectors[1]].map(|vector| host(vector.clone()));
        let scales = host(params.vectors[0].clone().exp());
        let magnitude = |latent: usize, u: f32| u * scales[latent] + b_mag[latent];
        let is_open = |latent: usize, u: f32| u + b_gate[latent] > 0.0;
        let rows = products.rows(|latent, u| {
            let magnitude = magnitude(latent, u);
            (is_open(latent, u) && magnitude > 0.0).then_some(magnitude)
        });
        let gates = products.rows(|latent, u| is_open(latent, u).then(|| u + b_gate[latent]));
        let norms = host(kernels::row_norms(params.w_dec.clone()));
        let (code, gate_code) = (rows.code(&frame.device()), gates.code(&frame.device()));
        Box::new(Opened { frame, x, scales, b_mag, norms, rows, code, gates, gate_code, own: None })
    }

    fn activation(&self, vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::Gated { r_mag: vectors[0].clone(), b_mag: vectors[1].clone() }
    }
}

struct Opened {
    frame: Frame,
    /// What the gate reconstructs, `[batch, d_model]`.
    x: Tensor<2>,
    /// e^r_mag
    scales: Vec<f32>,
    b_mag: Vec<f32>,
    /// ‖W_dec\[j]‖
    norms: Vec<f32>,
    /// z
    rows: Rows,
    code: SparseCode,
    /// γ
    gates: Rows,
    gate_code: SparseCode,
    own: Option<Own>,
}

/// The gradient of the gate's terms.
struct Own {
    penalty: Penalty,
    /// Of what the gate reconstructs, `[batch, d_model]`.
    output_grad: Tensor<2>,
}

impl Pass for Opened {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(&self.code)
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.frame.residual(&self.code, target)
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let factor = of.coefficient / self.gates.tokens.len() as f64;
        let (loss, penalty) = Penalty::of(&self.gates, &self.norms, 1.0, factor);
        let (residual, squares) = self.frame.residual(&self.gate_code, self.x.clone());
        self.own = Some(Own { penalty, output_grad: of.weight.scale(residual, 2.0) });
        vec![
            Term { kind: TermKind::L1, value: scalar(loss, &self.frame.device()) },
            Term { kind: TermKind::Auxiliary, value: of.weight.times(squares.sum()) },
        ]
    }

    fn active(&self) -> Tensor<1> {
        count_active(&self.code)
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let Self { frame, scales, b_mag, norms, rows, code, gates, gate_code, own, .. } = *self;
        let device = frame.device();
        let zeros = || vec![0.0_f64; scales.len()];
        let [mut to_r_mag, mut to_b_mag, mut to_b_gate] = [zeros(), zeros(), zeros()];

        let value_grads = host(frame.value_grads(&code, &output_grad));
        let mut product_grads = Vec::with_capacity(value_grads.len());
        for ((_, latent, magnitude), grad) in rows.entries().zip(value_grads) {
            let grad = f64::from(grad);
            to_b_mag[latent] += grad;
            to_r_mag[latent] += grad * f64::from(magnitude - b_mag[latent]);
            product_grads.push(grad * f64::from(scales[latent]));
        }
        let mut b_dec = kernels::column_sums(output_grad.clone());
        let main = frame.gradient_of(code, vector(product_grads, &device), output_grad);

        let (own, norm_grads) =
            own.map(|Own { penalty, output_grad }| ((penalty.values, output_grad), penalty.norms)).unzip();
        let gate = own.map(|(penalty, output_grad)| {
            let decoded = host(frame.value_grads(&gate_code, &output_grad));
            let grads: Vec<f64> =
                penalty.iter().zip(decoded).map(|(penalty, grad)| penalty + f64::from(grad)).collect();
            for ((_, latent, _), grad) in gates.entries().zip(&grads) {
                to_b_gate[latent] += grad;
            }
            b_dec = b_dec.clone() + kernels::column_sums(output_grad.clone());
            frame.gradient_of(gate_code, vector(grads, &device), output_grad)
        });
        let (mut to, counters) = frame.latents(main, gate, counters);
        if let Some(norm_grads) = &norm_grads {
            to.w_dec = frame.add_norm_gradients(to.w_dec, norm_grads, &norms);
        }
        let gradients = frame.finish(to, b_dec).gradients;
        let vectors = vec![vector(to_r_mag, &device), vector(to_b_mag, &device)];
        // What reaches the input through both paths is not what reaches the gate's bias.
        (Gradients::of(Params { b_enc: vector(to_b_gate, &device), vectors, ..gradients }), counters)
    }
}
