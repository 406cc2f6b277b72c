//! A batch of sequences as the model has it, unpatched: what SAEs at several sites share.

use assay_models::Said;
use assay_models::decoder::Cut;
use assay_models::loss::{loss_gradients, sample_labels};
use burn::tensor::Tensor;
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::EvalConfig;
use crate::error::{Result, check_finite};
use crate::survey::Survey;

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
    pub said: Said,
    pub likeliest: Vec<i32>,
    pub ce_orig: Vec<f32>,
    /// Of the loss, at each of its cuts.
    pub gradients: Vec<Tensor<3>>,
    /// The same for each draw of labels from what it says.
    pub drawn_gradients: Vec<Vec<Tensor<3>>>,
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
        let last = cuts.iter().max_by_key(|cut| cut.site().hook).expect("a pass has a cut");
        let said = self.said(last, last.value()).as_reference();
        let ce_orig = said.losses();
        self.check("the loss", &ce_orig)?;
        let drawn = self.draw(&said);
        let labels: Vec<ArrayView2<'_, u32>> =
            std::iter::once(self.tokens).chain(drawn.iter().map(|labels| labels.view())).collect();
        let mut drawn_gradients = loss_gradients(self.survey.model(), cuts, &labels);
        let gradients = drawn_gradients.remove(0);
        Ok(Pass { likeliest: said.likeliest(), said, ce_orig, gradients, drawn_gradients })
    }

    /// What the model says with a value in place of what was cut.
    pub fn said(&self, cut: &Cut, value: Tensor<3>) -> Said {
        Said::new(self.survey.model().forward_from(cut, value), self.tokens)
    }

    /// Fails at the first value of a scored position that is NaN or infinite.
    pub fn check(&self, what: &'static str, values: &[f32]) -> Result<()> {
        check_finite(what, values, 1, self.start, self.tokens.ncols() - 1)
    }

    /// Labels drawn from the model's own output.
    fn draw(&self, said: &Said) -> Vec<Array2<u32>> {
        if self.config.fisher_samples == 0 {
            return Vec::new();
        }
        let probs = said.probs();
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
