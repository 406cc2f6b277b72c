//! Codes that are chosen among a whole batch's pre-activations, and decoded at one or several nested widths w_1 < … < w_L = d_sae:
//! x̂_l = Σ_{j < w_l} z_j·W_dec[j] + b_dec, and x̂ = x̂_L.
//!
//! Every width but the last adds its own reconstruction loss. The latents that width l adds to the one before are a block, a level. They
//! are in x̂_l and all later ones, so that their code has the gradient Σ_{i ≥ l} ∂x̂_i; each level is an SAE of its own latents with that gradient, and b_dec has that
//! of the first. As in `sparse.rs`, the choice has no gradient, and of the decoder's norms only the choice knows.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::frame::Frame;
use super::rows::{Pre, Rows};
use super::sparse::count_active;
use super::{Gradients, Objective, Params, Pass};
use crate::code::SparseCode;
use crate::config::TrainConfig;
use crate::kernels::{self, Counters, Cut, Dead, LatentGradients, Select};
use crate::loss::{Term, TermKind};
use crate::readback::host;

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
    levels: Vec<Level>,
    aux_by_level: bool,
    least: Option<f32>,
}

/// The latents that one width adds to the one before.
struct Level {
    latents: Range<usize>,
    /// Of these latents alone, numbered from 0.
    code: SparseCode,
    dead: Option<SparseCode>,
    /// Of x̂_l − x and the sums of its squares, once asked for.
    error: Option<(Tensor<2>, Tensor<1>)>,
    /// The gradient of x̂_l, for all but the last, once the loss has asked for it.
    inner_grad: Option<Tensor<2>>,
    /// The same of what the dead decode to.
    dead_grad: Option<Tensor<2>>,
}

impl Nested {
    pub(super) fn encode(
        config: &TrainConfig,
        params: &Params,
        x: Tensor<2>,
        nesting: Nesting<'_>,
        dead: Option<&Dead>,
    ) -> Self {
        let frame = Frame::new(config, params, x);
        let pre = frame.pre();
        let scores = match &frame.scale {
            Some(scale) => host(pre.clone() * scale.clone().unsqueeze()),
            None => host(pre.clone()),
        };
        let pre = Pre::read(pre);
        let chosen = Cut::of(&scores, (nesting.k * pre.tokens() as f64) as usize).rows(&scores, config.d_sae);
        let score = |(token, latents): (usize, &Vec<usize>)| {
            latents.iter().map(move |latent| token * config.d_sae + latent).collect::<Vec<_>>()
        };
        let least = chosen.iter().enumerate().flat_map(score).map(|at| scores[at]).reduce(f32::min);
        let starts = [0].into_iter().chain(nesting.widths.iter().copied());
        let levels: Vec<Range<usize>> = starts.zip(nesting.widths).map(|(start, &end)| start..end).collect();
        let dead = dead.map(|dead| {
            let mask = dead.mask();
            if nesting.aux_by_level {
                levels.iter().map(|level| chosen_dead(&scores, &mask, level.clone(), dead.k)).collect()
            } else {
                vec![chosen_dead(&scores, &mask, 0..config.d_sae, dead.k); levels.len()]
            }
        });
        let device = frame.device();
        let of_level = |(at, latents): (usize, Range<usize>)| Level {
            code: block(&pre, &chosen, &latents, &device),
            dead: dead.as_ref().map(|dead: &Vec<_>| block(&pre, &dead[at], &latents, &device)),
            latents,
            error: None,
            inner_grad: None,
            dead_grad: None,
        };
        let levels = levels.into_iter().enumerate().map(of_level).collect();
        Self { frame, levels, aux_by_level: nesting.aux_by_level, least }
    }

    /// The rows of the decoder, as it is gathered, of a level.
    fn rows(&self, level: &Level) -> Tensor<2> {
        narrow(&self.frame.rows, level)
    }

    fn last(&self) -> &Level {
        self.levels.last().expect("settings without widths are refused")
    }
}

/// The `k` largest scores of each token among the dead of `latents`, ascending; all of them where there are fewer.
fn chosen_dead(scores: &[f32], dead: &[bool], latents: Range<usize>, k: usize) -> Vec<Vec<usize>> {
    let dead_latents: Vec<usize> = latents.filter(|&latent| dead[latent]).collect();
    let largest = |select: &mut (Select, Vec<f32>), scores: &[f32]| {
        let (select, own) = select;
        own.clear();
        own.extend(dead_latents.iter().map(|&latent| scores[latent]));
        select.largest(own).iter().map(|&at| dead_latents[at as usize]).collect()
    };
    scores.par_chunks(dead.len()).map_init(|| (Select::new(k), Vec::new()), largest).collect()
}

/// The pre-activations of those of the chosen latents that belong to a level.
fn block(pre: &Pre, chosen: &[Vec<usize>], latents: &Range<usize>, device: &Device) -> SparseCode {
    let row = |(token, chosen): (usize, &Vec<usize>)| {
        let own = chosen.iter().filter(|latent| latents.contains(latent));
        own.map(|&latent| ((latent - latents.start) as i32, pre.of(token)[latent])).unzip()
    };
    let tokens = chosen.par_iter().enumerate().map(row).collect();
    Rows { tokens, d_sae: latents.len() }.code(device)
}

/// A level's rows of a matrix.
fn narrow(matrix: &Tensor<2>, level: &Level) -> Tensor<2> {
    matrix.clone().narrow(0, level.latents.start, level.latents.len())
}

impl Pass for Nested {
    fn reconstruction(&self) -> Tensor<2> {
        let decode = |level: &Level| kernels::decode(level.code.clone(), self.rows(level));
        let sum = self.levels.iter().map(decode).reduce(|sum, part| sum + part).expect("there is a level");
        sum + self.frame.params.b_dec.clone().unsqueeze()
    }

    fn residual(&mut self, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let mut before: Option<Tensor<2>> = None;
        for at in 0..self.levels.len() {
            let (code, rows) = (self.levels[at].code.clone(), self.rows(&self.levels[at]));
            let error = match before {
                None => kernels::residual(code, rows, self.frame.params.b_dec.clone(), target.clone()),
                Some(before) => {
                    let residual = before + kernels::decode(code, rows);
                    (residual.clone(), kernels::sum_squares(residual))
                }
            };
            before = Some(error.0.clone());
            self.levels[at].error = Some(error);
        }
        self.last().error.clone().expect("made above")
    }

    fn terms(&mut self, of: Objective<'_>) -> Vec<Term> {
        let Objective { config, firing, weight, .. } = of;
        let mut terms = Vec::new();
        let last = self.levels.len() - 1;
        for level in &mut self.levels[..last] {
            let (residual, squares) = level.error.clone().expect("the residual was asked for");
            level.inner_grad = Some(weight.scale(residual, 2.0));
            let kind = TermKind::Inner(level.latents.end);
            terms.push(Term { kind, value: weight.times(squares.sum()) });
        }
        let decoded: Option<Vec<Tensor<2>>> = self
            .levels
            .iter()
            .map(|level| level.dead.clone().map(|dead| kernels::decode(dead, self.rows(level))))
            .collect();
        let Some(decoded) = decoded else { return terms };
        let auxiliary = |latents, output, residual| firing.auxiliary(config, latents, output, residual, weight);
        if self.aux_by_level {
            for (level, output) in self.levels.iter_mut().zip(decoded) {
                let (residual, _) = level.error.clone().expect("the residual was asked for");
                let auxiliary = auxiliary(level.latents.clone(), output, residual);
                level.dead_grad = Some(auxiliary.output_grad);
                terms.push(Term { kind: TermKind::Auxiliary, value: auxiliary.loss });
            }
        } else {
            let output = decoded.into_iter().reduce(|sum, part| sum + part).expect("there is a level");
            let auxiliary = auxiliary(0..config.d_sae, output, of.residual);
            for level in &mut self.levels {
                level.dead_grad = Some(auxiliary.output_grad.clone());
            }
            terms.push(Term { kind: TermKind::Auxiliary, value: auxiliary.loss });
        }
        terms
    }

    fn active(&self) -> Tensor<1> {
        let counts = self.levels.iter().map(|level| count_active(&level.code)).collect();
        Tensor::cat(counts, 0)
    }

    fn least(&self) -> Option<f32> {
        self.least
    }

    fn backward(self: Box<Self>, mut output_grad: Tensor<2>, counters: Counters) -> (Gradients, Counters) {
        let mut found: Vec<(LatentGradients, Counters)> = Vec::new();
        for level in self.levels.iter().rev() {
            if let Some(inner) = &level.inner_grad {
                output_grad = output_grad + inner.clone();
            }
            let frame = self.frame.of_latents(level.latents.clone());
            let dead = level.dead.clone().zip(level.dead_grad.clone());
            let dead = dead.map(|(code, grad)| frame.gradient(code, grad));
            let main = frame.gradient(level.code.clone(), output_grad.clone());
            found.push(frame.latents(main, dead, counters.of_latents(level.latents.clone())));
        }
        found.reverse();
        let b_dec = kernels::column_sums(output_grad);
        let (to, counters) = LatentGradients::joined(found);
        (self.frame.finish(to, b_dec), counters)
    }
}
