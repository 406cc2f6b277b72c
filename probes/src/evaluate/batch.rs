//! A batch of sequences as the model has it, unpatched: what SAEs at several sites share.

use assay_models::decoder::Cut;
use assay_models::loss::{sample_labels, scored_log_probs, token_cross_entropy};
use burn::tensor::{Int, Tensor};
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::EvalConfig;
use crate::error::{Result, check_finite};
use crate::survey::{Survey, host};

/// A batch of sequences to evaluate on.
pub(super) struct Batch<'a, 's> {
    pub survey: &'a Survey<'s>,
    pub config: EvalConfig,
    /// First sequence of the batch.
    pub start: usize,
    /// `[sequences, context]`.
    pub tokens: ArrayView2<'s, u32>,
}

/// What the model says when nothing is patched.
pub(super) struct Pass {
    pub log_probs: Tensor<3>,
    pub probs: Tensor<3>,
    pub argmax: Vec<i32>,
    pub ce_orig: Vec<f32>,
    /// Labels drawn from it.
    pub drawn: Vec<Array2<u32>>,
}

/// Cuts that share a pass: those that leave the activation as it is. What the model says from one that is centred, say, is the same but for
/// rounding only, and a perfect reconstruction of it changes no bit of that.
pub(super) fn passes(cuts: &[Cut]) -> Vec<Vec<&Cut>> {
    let (shared, apart): (Vec<&Cut>, Vec<&Cut>) = cuts.iter().partition(|cut| cut.site().is_plain());
    let apart = apart.into_iter().map(|cut| vec![cut]);
    std::iter::once(shared).filter(|cuts| !cuts.is_empty()).chain(apart).collect()
}

impl Batch<'_, '_> {
    /// What the model says from those cuts, which share a pass.
    pub fn run(&self, cuts: &[&Cut]) -> Result<Pass> {
        let model = self.survey.model();
        let last = cuts.iter().max_by_key(|cut| cut.site().hook).expect("a pass has a cut");
        let log_probs = scored_log_probs(model.forward_from(last, last.value()));
        let ce_orig = self.losses(log_probs.clone());
        self.check("the loss", &ce_orig)?;
        let probs = log_probs.clone().exp();
        let drawn = self.draw(&probs);
        let argmax = host_int(log_probs.clone().argmax(2));
        Ok(Pass { log_probs, probs, argmax, ce_orig, drawn })
    }

    /// Cross-entropy at every scored position, of `[sequences, context − 1, vocab]`.
    pub fn losses(&self, log_probs: Tensor<3>) -> Vec<f32> {
        host(token_cross_entropy(log_probs, self.tokens, self.survey.model().device()))
    }

    /// Fails at the first value of a scored position that is NaN or infinite.
    pub fn check(&self, what: &'static str, values: &[f32]) -> Result<()> {
        check_finite(what, values, 1, self.start, self.tokens.ncols() - 1)
    }

    /// Labels drawn from the model's own output.
    fn draw(&self, probs: &Tensor<3>) -> Vec<Array2<u32>> {
        let (sequences, context) = self.tokens.dim();
        let generator = |sequence: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.config.fisher_seed);
            rng.set_stream(sequence as u64);
            rng
        };
        let mut generators: Vec<ChaCha8Rng> = (self.start..self.start + sequences).map(generator).collect();
        let mut draw = || {
            let of_sequence = |rng: &mut ChaCha8Rng| (1..context).map(|_| rng.random()).collect::<Vec<f32>>();
            let uniforms: Vec<f32> = generators.iter_mut().flat_map(of_sequence).collect();
            sample_labels(probs.clone(), &uniforms)
        };
        (0..self.config.fisher_samples).map(|_| draw()).collect()
    }
}

pub(super) fn host_int<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32")
}
