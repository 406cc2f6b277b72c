//! Codes that are chosen among a whole batch's pre-activations, and decoded at one or several nested widths w_1 < … < w_L = d_sae:
//! x̂_l = Σ_{j < w_l} z_j·W_dec[j] + b_dec, and x̂ = x̂_L.
//!
//! Every width but the last adds its own reconstruction loss. The latents that width l adds to the one before are a level. They are in
//! x̂_l and all later ones, so that their code has the gradient Σ_{i ≥ l} ∂x̂_i; b_dec has that of the first. As in `sparse.rs`, the choice
//! has no gradient, and of the decoder's norms only the choice knows.

use burn::tensor::Tensor;

use super::frame::Frame;
use super::sparse::count_active;
use super::{Batch, Gradients, Objective, Params, Pass};
use crate::code::SparseCode;
use crate::config::TrainConfig;
use crate::kernels::{self, Counters, Levels};
use crate::loss::{Term, TermKind};

/// What distinguishes the classes of this kind.
pub(super) struct Nesting<'a> {
    /// Latents chosen per token, mean over the batch.
    pub(super) k: f64,
    /// The nested widths; the last is d_sae.
    pub(super) widths: &'a [usize],
    /// Whether dead latents reconstruct the error of their own level.
    pub(super) aux_by_level: bool,
}

/// A batch whose latents are chosen together.
pub(super) struct Nested {
    frame: Frame,
    code: SparseCode,
    /// Of the least pre-activation chosen, in one element.
    least: Tensor<1>,
    widths: Vec<usize>,
    inner: Option<Inner>,
    /// Codes of the dead: of each level, or one of all latents.
    dead: Vec<SparseCode>,
    /// The gradient of what each of them decodes to, once the loss has asked for it, `[batch, d_model]`.
    dead_grads: Vec<Tensor<2>>,
}

/// Several widths.
struct Inner {
    levels: Levels,
    /// Of every level x̂_l − x, `[levels·batch, d_model]`, and its squares, once asked for.
    errors: Option<(Tensor<2>, Tensor<1>)>,
    /// The factor of x̂_l − x in the gradient of the loss of every width but the last, once the loss has asked for it.
    factor: Option<Tensor<1>>,
}

impl Nested {
    pub(super) fn encode(
        config: &TrainConfig,
        params: &Params,
        Batch { x, dead, .. }: Batch,
        nesting: Nesting<'_>,
    ) -> Self {
        let chosen = nesting.k * x.dims()[0] as f64;
        let frame = Frame::new(config, params, x).for_entries(chosen);
        let scores = kernels::scores(frame.input.clone(), frame.encoder());
        let (code, least) = scores.largest(chosen as usize);
        let ranges = if nesting.aux_by_level { nesting.widths } else { &nesting.widths[nesting.widths.len() - 1..] };
        let dead = dead.map_or_else(Vec::new, |dead| scores.dead(&dead, ranges));
        let inner = (nesting.widths.len() > 1).then(|| Inner {
            levels: Levels::new(nesting.widths, &frame.input.device()),
            errors: None,
            factor: None,
        });
        Self { frame, code, least, widths: nesting.widths.to_vec(), inner, dead, dead_grads: Vec::new() }
    }
}

/// The rows of one level.
fn of_level<const D: usize>(rows: &Tensor<D>, level: usize, levels: usize) -> Tensor<D> {
    let batch = rows.dims()[0] / levels;
    rows.clone().narrow(0, level * batch, batch)
}

impl Pass for Nested {
    fn reconstruction(&self) -> Tensor<2> {
        self.frame.reconstruction(&self.code)
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let Some(inner) = &mut self.inner else { return self.frame.residual(&self.code, target) };
        let (code, rows, b_dec) = (self.code.clone(), self.frame.rows.clone(), self.frame.params.b_dec.clone());
        let (residuals, squares) = kernels::nested_residuals(code, &inner.levels, rows, b_dec, target);
        let count = inner.levels.count();
        let last = (of_level(&residuals, count - 1, count), of_level(&squares, count - 1, count));
        inner.errors = Some((residuals, squares));
        last
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let Objective { config, firing, weight, residual, .. } = of;
        let mut terms = Vec::new();
        let mut errors = vec![residual];
        if let Some(inner) = &mut self.inner {
            let (residuals, squares) = inner.errors.as_ref().expect("the residual was asked for");
            let count = inner.levels.count();
            for (level, &width) in self.widths[..count - 1].iter().enumerate() {
                let parts = of_level(squares, level, count);
                terms.push(Term { kind: TermKind::Inner(width), parts, weight: weight.clone() });
            }
            inner.factor = Some(weight.tensor(2.0, &residuals.device()));
            if self.dead.len() == count {
                errors = (0..count).map(|level| of_level(residuals, level, count)).collect();
            }
        }
        // A code of the dead for each level, or one for all latents.
        let widths = if self.dead.len() == 1 { &[config.d_sae] } else { self.widths.as_slice() };
        let ranges = [0].into_iter().chain(widths.iter().copied()).zip(widths).map(|(start, &end)| start..end);
        for ((dead, range), residual) in self.dead.iter().zip(ranges).zip(errors) {
            let output = kernels::decode(dead.clone(), self.frame.rows.clone());
            let auxiliary = firing.auxiliary(config, range, output, residual, weight);
            self.dead_grads.push(auxiliary.output_grad);
            terms.push(Term::whole(TermKind::Auxiliary, auxiliary.loss));
        }
        terms
    }

    fn active(&self) -> Tensor<1> {
        count_active(&self.code)
    }

    fn least(&self) -> Option<Tensor<1>> {
        Some(self.least.clone())
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let Self { frame, code, inner, dead, dead_grads, .. } = *self;
        let levels = inner.as_ref().map(|inner| inner.levels.clone());
        let (output_grad, b_dec) = match inner {
            Some(Inner { levels, errors: Some((residuals, _)), factor: Some(factor) }) => {
                let grads = kernels::nested_gradients(residuals, output_grad, factor);
                let first = of_level(&grads, 0, levels.count());
                (grads, kernels::column_sums(first))
            }
            Some(_) => unreachable!("the loss was asked for"),
            None => (output_grad.clone(), kernels::column_sums(output_grad)),
        };
        let dead = (!dead_grads.is_empty()).then(|| {
            let of_levels = levels.clone().filter(|_| dead_grads.len() > 1);
            let grads = if dead_grads.len() > 1 { Tensor::cat(dead_grads, 0) } else { dead_grads[0].clone() };
            frame.gradient(SparseCode::beside(dead), grads, of_levels)
        });
        let main = frame.gradient(code, output_grad, levels);
        let (to, counters) = frame.latents(main, dead, counters);
        (frame.finish(to, b_dec), counters)
    }
}
