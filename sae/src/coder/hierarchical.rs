//! The k largest pre-activations of a token, for every k of a grid at once (HierarchicalTopK; Balagansky et al. 2025, arXiv:2505.24473).
//!
//! Of a token's chosen latents, ranked, x̂_l decodes the first k_l; the loss is the mean over the grid k_1 < … < k_L of their reconstruction
//! losses. The latents that k_l adds are a level. They are in x̂_l and all later ones, so that their code has the gradient
//! G_l = Σ_{i ≥ l} ∂x̂_i. As in `sparse.rs`, the choice has no gradient.
//!
//! A latent may be of one level on one token, and of another on the next. So the levels are stacked like more tokens, L·batch rows of which
//! row (l, t) has the latents of level l on token t; one decoding gives all differences x̂_l − x̂_{l−1}, one sum all gradients.

use burn::tensor::{Tensor, TensorData};

use super::frame::Frame;
use super::sparse::count_active;
use super::{Batch, Coder, Gradients, Objective, Params, Pass};
use crate::activation::Activation;
use crate::code::SparseCode;
use crate::config::{Hierarchical, TrainConfig};
use crate::kernels::{self, Counters, Selection};
use crate::loss::{Term, TermKind};

/// Entries of a row with which all others are compared at a time.
const COMPARED: usize = 16;

impl Coder for Hierarchical {
    fn forward(&self, config: &TrainConfig, params: &Params, Batch { x, dead, .. }: Batch) -> Box<dyn Pass> {
        let chosen = (self.largest() * x.dims()[0]) as f64;
        let frame = Frame::new(config, params, x).for_entries(chosen);
        let (input, encoder, selection) = (frame.input.clone(), frame.encoder(), Selection::TopK { k: self.largest() });
        let (code, dead) = if let Some(dead) = dead {
            let [code, dead] = kernels::encode_with_dead(input, encoder, selection, dead);
            (code, Some(dead))
        } else {
            (kernels::encode(input, encoder, selection), None)
        };
        let tokens = frame.input.dims()[0];
        let stacked = stacked(&code, tokens, &self.ks, frame.scale.as_ref());
        let ks = self.ks.clone();
        Box::new(Ranked { frame, stacked, dead, ks, tokens, errors: Vec::new(), inner: Vec::new(), dead_grad: None })
    }

    fn activation(&self, _vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::TopK { k: self.k, by_decoder_norm: false }
    }
}

/// The levels of a code, as so many more tokens.
fn stacked(code: &SparseCode, tokens: usize, ks: &[usize], scale: Option<&Tensor<1>>) -> SparseCode {
    let (values, indices) = (code.values(), code.indices());
    let scores = scale.map_or(values.clone(), |scale| values.clone() * scale.clone().select(0, indices.clone()));
    let k = values.dims()[0] / tokens;
    let ranks = ranks(scores.reshape([tokens, k]));
    let values = values.reshape([tokens, k]);
    let starts = [0].into_iter().chain(ks.iter().copied());
    let level = |(start, &end): (usize, &usize)| {
        let inside =
            ranks.clone().greater_equal_elem(start as f64).float() * ranks.clone().lower_elem(end as f64).float();
        values.clone() * inside
    };
    let values = Tensor::cat(starts.zip(ks).map(level).collect(), 0);
    SparseCode::trusted(values, Tensor::cat(vec![indices.reshape([tokens, k]); ks.len()], 0), code.d_sae())
}

/// How many entries of its row come before each: larger ones, and as large ones further to the left.
///
/// # Shapes
/// - `scores` and the ranks: `[tokens, k]`
fn ranks(scores: Tensor<2>) -> Tensor<2> {
    let ([tokens, k], device) = (scores.dims(), scores.device());
    let mut ranks = Tensor::zeros([tokens, k], &device);
    for start in (0..k).step_by(COMPARED) {
        let width = COMPARED.min(k - start);
        let shape = [tokens, k, width];
        let of = scores.clone().unsqueeze_dim::<3>(2).expand(shape);
        let other = scores.clone().narrow(1, start, width).unsqueeze_dim::<3>(1).expand(shape);
        let is_left = (0..k * width).map(|at| f32::from(u8::from(start + at % width < at / width))).collect();
        let is_left = Tensor::<3>::from_data(TensorData::new(is_left, [1, k, width]), &device);
        let before = other.clone().greater(of.clone()).float() + other.equal(of).float() * is_left;
        ranks = ranks + before.sum_dim(2).squeeze_dim::<2>(2);
    }
    ranks
}

/// A batch whose latents are chosen and ranked.
struct Ranked {
    frame: Frame,
    /// Its tokens are L·batch.
    stacked: SparseCode,
    dead: Option<SparseCode>,
    ks: Vec<usize>,
    /// Of the batch.
    tokens: usize,
    /// x̂_l − target of each level, `[batch, d_model]`, once asked for.
    errors: Vec<Tensor<2>>,
    /// ∂x̂_l of all levels but the last, once the loss has asked for it.
    inner: Vec<Tensor<2>>,
    /// The gradient of what the dead decode to.
    dead_grad: Option<Tensor<2>>,
}

impl Ranked {
    /// Adds to something of the batch what each level decodes to, one after the other.
    fn levels_on(&self, mut sum: Tensor<2>) -> Vec<Tensor<2>> {
        let parts = kernels::decode(self.stacked.clone(), self.frame.rows.clone());
        let add = |level| {
            sum = sum.clone() + parts.clone().narrow(0, level * self.tokens, self.tokens);
            sum.clone()
        };
        (0..self.ks.len()).map(add).collect()
    }
}

/// The rows of the first level, and zeros as those of the others.
fn first_of(levels: usize, rows: Tensor<2>) -> Tensor<2> {
    let zeros = rows.zeros_like();
    Tensor::cat([rows].into_iter().chain(vec![zeros; levels - 1]).collect(), 0)
}

impl Pass for Ranked {
    fn reconstruction(&self) -> Tensor<2> {
        let shape = self.frame.input.dims();
        let levels = self.levels_on(self.frame.params.b_dec.clone().unsqueeze::<2>().expand(shape));
        levels.into_iter().next_back().expect("settings without a k are refused")
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.errors = self.levels_on(self.frame.params.b_dec.clone().unsqueeze() - target);
        let last = self.errors.last().expect("settings without a k are refused").clone();
        (last.clone(), kernels::sum_squares(last))
    }

    fn share(&self) -> f64 {
        1.0 / self.ks.len() as f64
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let mut terms = Vec::new();
        for (error, &k) in self.errors.iter().zip(&self.ks[..self.ks.len() - 1]) {
            let parts = kernels::sum_squares(error.clone()).mul_scalar(self.share());
            terms.push(Term { kind: TermKind::Inner(k), parts, weight: of.weight.clone() });
            self.inner.push(of.weight.scale(error.clone(), 2.0 * self.share()));
        }
        if let Some(dead) = self.dead.clone() {
            let output = kernels::decode(dead, self.frame.rows.clone());
            let auxiliary = of.firing.auxiliary(of.config, 0..self.stacked.d_sae(), output, of.residual, of.weight);
            self.dead_grad = Some(auxiliary.output_grad);
            terms.push(Term::whole(TermKind::Auxiliary, auxiliary.loss));
        }
        terms
    }

    fn active(&self) -> Tensor<1> {
        count_active(&self.stacked)
    }

    fn backward(self: Box<Self>, output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let (share, levels) = (self.share(), self.ks.len());
        let Self { mut frame, stacked, dead, tokens, inner, dead_grad, .. } = *self;
        let mut grads = vec![output_grad.mul_scalar(share)];
        for own in inner.into_iter().rev() {
            grads.push(grads[grads.len() - 1].clone() + own);
        }
        grads.reverse();
        let b_dec = kernels::column_sums(grads[0].clone());
        let dead = dead.zip(dead_grad).map(|(code, grad)| {
            let k = code.values().dims()[0] / tokens;
            let values = first_of(levels, code.values().reshape([tokens, k]));
            let indices = Tensor::cat(vec![code.indices().reshape([tokens, k]); levels], 0);
            frame.gradient(SparseCode::trusted(values, indices, code.d_sae()), first_of(levels, grad), None)
        });
        let main = frame.gradient(stacked, Tensor::cat(grads, 0), None);
        frame.input = Tensor::cat(vec![frame.input; levels], 0);
        let (to, Counters { since_fired, fires }) = frame.latents(main, dead, counters);
        // What has not been active is taken to have been silent for as many tokens as there are rows.
        let since_fired = since_fired.sub_scalar(((levels - 1) * tokens) as i32).clamp_min(0);
        (frame.finish(to, b_dec), Counters { since_fired, fires })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::readback::host;

    #[test]
    fn ranks_order_a_row_and_ties_go_to_the_left() {
        let rows = [[2.0, 3.0, 2.0, -1.0], [0.0, 0.0, 0.0, 5.0]];
        assert_eq!(host(ranks(Tensor::from_data(rows, &Device::flex()))), [1.0, 0.0, 2.0, 3.0, 1.0, 2.0, 3.0, 0.0]);
        let values: Vec<f32> = (0..3 * 37).map(|at| ((at * 29) % 11) as f32).collect();
        let found = host(ranks(Tensor::from_data(TensorData::new(values.clone(), [3, 37]), &Device::flex())));
        for (row, ranks) in values.chunks(37).zip(found.chunks(37)) {
            let mut order: Vec<usize> = (0..37).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            assert!(order.iter().zip(0_u8..).all(|(&at, rank)| ranks[at] == f32::from(rank)), "{row:?} {ranks:?}");
        }
    }
}
