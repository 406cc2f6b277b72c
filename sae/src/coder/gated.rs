//! z = [π > 0]·ReLU(m) with the gate π = u + b_gate and the magnitude m = e^r_mag·u + b_mag, both of u = x·W_enc.
//!
//! The gate's step has no gradient, so it learns from two terms of its own: γ = ReLU(π) has an L1 penalty like that of a standard SAE, and
//! reconstructs x by the same decoder (Rajamanoharan et al. 2024, arXiv:2404.16014; the decoder learns from that too, as in SAELens). So
//! ∂u = ∂π + e^r_mag·∂m, and r_mag receives Σ_t ∂m·e^r_mag·u.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use super::frame::{Frame, squares_of};
use super::sparse::count_active;
use super::standard::Penalty;
use super::{Batch, Coder, Gradients, Objective, Params, Pass};
use crate::activation::Activation;
use crate::code::SparseCode;
use crate::config::{Gated, TrainConfig};
use crate::kernels::{self, Counters, Encoder};
use crate::loss::{Term, TermKind};

impl Coder for Gated {
    fn vectors(&self) -> Vec<(&'static str, f32)> {
        vec![("r_mag", 0.0), ("b_mag", 0.0)]
    }

    fn forward(&self, config: &TrainConfig, params: &Params, Batch { x, .. }: Batch) -> Box<dyn Pass> {
        let frame = Frame::new(config, params, x.clone());
        let b_gate = params.b_enc.clone();
        let products = Encoder { b_enc: b_gate.zeros_like(), ..frame.encoder() };
        // u + b > 0 where u > −b, in floats too.
        let open = kernels::scores(frame.input.clone(), products).split(-b_gate.clone(), None, None).above;
        let frame = frame.for_entries(open.entries() as f64);
        let [scale, b_mag] = [params.vectors[0].clone().exp(), params.vectors[1].clone()];
        let of_entries = |vector: Tensor<1>| vector.select(0, open.indices());
        let scaled = open.values() * of_entries(scale.clone());
        let magnitudes = relu(scaled.clone() + of_entries(b_mag));
        let gates = open.values() + of_entries(b_gate);
        Box::new(GatedPass {
            frame,
            x,
            scale: of_entries(scale),
            scaled,
            norms: kernels::row_norms(params.w_dec.clone()),
            code: open.clone().map_values(|_| magnitudes).marked(),
            gates: open.map_values(|_| gates).marked(),
            own: None,
        })
    }

    fn activation(&self, vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::Gated { r_mag: vectors[0].clone(), b_mag: vectors[1].clone() }
    }
}

struct GatedPass {
    frame: Frame,
    /// What the gate reconstructs, `[batch, d_model]`.
    x: Tensor<2>,
    /// e^r_mag of every entry.
    scale: Tensor<1>,
    /// e^r_mag·u of every entry.
    scaled: Tensor<1>,
    /// ‖W_dec\[j]‖
    norms: Tensor<1>,
    /// z of the open gates.
    code: SparseCode,
    /// γ of the open gates.
    gates: SparseCode,
    own: Option<Own>,
}

/// The gradient of the gate's terms.
struct Own {
    penalty: Penalty,
    /// Of what the gate reconstructs, `[batch, d_model]`.
    output_grad: Tensor<2>,
}

impl Pass for GatedPass {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(&self.code)
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.frame.residual(&self.code, target)
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let factor = of.coefficient / self.x.dims()[0] as f64;
        let (term, penalty) = Penalty::of(&self.gates, &self.norms, 1.0, factor);
        let (residual, parts) = self.frame.residual(&self.gates, self.x.clone());
        self.own = Some(Own { penalty, output_grad: of.weight.scale(residual, 2.0) });
        vec![term, Term { kind: TermKind::Auxiliary, parts, weight: of.weight.clone() }]
    }

    fn active(&self) -> Tensor<1> {
        count_active(&self.code)
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let Self { frame, scale, scaled, norms, code, gates, own, .. } = *self;
        let grads = frame.value_grads(&code, &output_grad, None);
        let to_vectors = kernels::latent_sums(code.clone(), [grads.clone() * scaled, grads.clone()]);
        let mut b_dec = kernels::column_sums(output_grad.clone());
        let main = frame.gradient_of(code, grads * scale, output_grad);

        let (penalty, gate_grad) = own.map(|own| (own.penalty, own.output_grad)).expect("the loss was asked for");
        let grads = frame.value_grads(&gates, &gate_grad, None) + penalty.values;
        let [to_b_gate, _] = kernels::latent_sums(gates.clone(), [grads.clone(), grads.clone()]);
        b_dec = b_dec + kernels::column_sums(gate_grad.clone());
        let gate = frame.gradient_of(gates, grads, gate_grad);
        let (mut to, counters) = frame.latents(main, Some(gate), counters);
        frame.add_norm_gradients(&mut to, penalty.norms, norms);
        let Gradients { gradients, .. } = frame.finish(to, b_dec);
        // What reaches the input through both paths is not what reaches the gate's bias.
        let gradients = Params { b_enc: to_b_gate, vectors: to_vectors.to_vec(), ..gradients };
        let squares = squares_of([&gradients.w_enc, &gradients.w_dec], &gradients.b_enc);
        (Gradients { gradients, squares }, counters)
    }
}
