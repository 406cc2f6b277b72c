//! The probe of a letter, the latents that tell it, and what is absorbed in its words.

use ndarray::{Array1, Array2, Axis};

use super::formula::{Absorption, absorption};
use super::selection::{STEPS_AN_EPOCH, sparse_weights};
use crate::probing::logistic::fit_balanced;
use crate::probing::{Features, Split, Tested};

/// Letters of the alphabet.
pub const LETTERS: usize = 26;
/// A probe with F1 no larger does not tell its letter (SAEBench, `min_GT_probe_f1`).
pub const LEARNED: f64 = 0.6;
/// One more latent belongs to a split if F1 rises above the best before by more than this (SAEBench, `f1_jump_threshold`).
pub const GAIN: f64 = 0.03;
/// Latents of a split at most (SAEBench, `max_k_value`).
pub const MOST: usize = 10;
/// The penalty of a letter's probe is half of this times the square of its weights, beside the mean loss of a word: SAEBench's decay of 10⁻⁴ beside
/// a mean over words and 26 letters.
const RIDGE: f64 = LETTERS as f64 * 1e-4;

/// Words, their first letters, and which are fitted on and tested.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The activation at each, `[words, d_in]`.
    pub activations: &'a Array2<f64>,
    /// The letter of each, below [`LETTERS`].
    pub letters: &'a [usize],
    /// The two sides.
    pub split: &'a Split,
}

impl Words<'_> {
    fn labels(&self, rows: &[usize], letter: usize) -> Vec<bool> {
        rows.iter().map(|&row| self.letters[row] == letter).collect()
    }

    /// Words of a letter to fit on and to test.
    pub fn count(&self, letter: usize) -> [usize; 2] {
        let of = |rows: &[usize]| rows.iter().filter(|&&row| self.letters[row] == letter).count();
        [of(&self.split.train), of(&self.split.test)]
    }

    /// Letters that have words on both sides.
    fn classes(&self) -> usize {
        (0..LETTERS).filter(|&letter| self.count(letter).iter().all(|&count| count > 0)).count()
    }
}

/// A probe of one letter against the others.
#[derive(Clone, Debug)]
pub struct LetterProbe {
    /// The letter.
    pub letter: usize,
    /// Where it points, of length 1, `[d_in]`.
    pub direction: Array1<f64>,
    /// What it says of each word that is tested; above 0: it has the letter.
    pub decisions: Vec<f64>,
    /// F1 on those.
    pub f1: f64,
    /// Whether the fit got to its end.
    pub has_converged: bool,
}

impl LetterProbe {
    /// Fits logistic regression on activations as they are, both classes counting alike: the minimum of mean loss + ½·26·10⁻⁴·‖w‖², towards
    /// which SAEBench goes with Adam for 50 epochs (`train_linear_probe_for_task`). `None` for a letter without words on either side.
    pub fn fit(words: Words<'_>, letter: usize) -> Option<Self> {
        if words.count(letter).contains(&0) || words.classes() < 2 {
            return None;
        }
        let Split { train, test } = words.split;
        let labels = words.labels(train, letter);
        let (n, others) = (labels.len() as f64, labels.iter().filter(|&&label| !label).count() as f64);
        // SAEBench counts a word of the letter others/own times and another one once; here both are n/(2·others) times that.
        let c = 2.0 * others / n / (n * RIDGE);
        let fit = fit_balanced(&words.activations.select(Axis(0), train), &labels, c, None);
        let decisions = fit.decisions(&words.activations.select(Axis(0), test));
        let f1 = Tested::new(&decisions, &words.labels(test, letter)).scores().f1?;
        let length = fit.weights.dot(&fit.weights).sqrt();
        let has_converged = fit.has_converged();
        (length > 0.0).then(|| Self { letter, direction: fit.weights / length, decisions, f1, has_converged })
    }

    /// Whether it tells its letter: F1 above 0.6.
    pub fn is_learned(&self) -> bool {
        self.f1 > LEARNED
    }

    /// The tested words that have the letter and of which the probe says so.
    pub fn found(&self, words: Words<'_>) -> Vec<usize> {
        let rows = words.split.test.iter().copied().zip(self.decisions.iter().copied());
        let is_found = |(row, decision)| (decision > 0.0 && words.letters[row] == self.letter).then_some(row);
        rows.filter_map(is_found).collect()
    }

    /// What is absorbed in some words. `cosines` are those of decoder rows with the direction, `[d_sae]`; `offset` is what is not counted of
    /// the activation's projection.
    pub fn absorbed(
        &self,
        words: Words<'_>,
        rows: &[usize],
        latents: &Features,
        cosines: &[f64],
        main: &[usize],
        offset: f64,
    ) -> Vec<Absorption> {
        let one = |&row: &usize| {
            let active: Vec<(usize, f64)> = latents.row(row).collect();
            let projection = words.activations.row(row).dot(&self.direction) - offset;
            absorption(projection, &active, cosines, main)
        };
        rows.iter().map(one).collect()
    }
}

/// The latents that tell a letter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MainLatents {
    /// Themselves, the largest weight first; empty where no latent speaks for the letter.
    pub latents: Vec<usize>,
    /// F1 on the tested words of a probe of the first latent, of the first two, and so on; the last is of one more than there are, unless there
    /// were no more to try.
    pub f1: Vec<f64>,
}

impl MainLatents {
    /// Tries the latents with the largest positive weights ([`sparse_weights`]): a logistic regression on the first k, k = 1, 2, … ([`fit_balanced`],
    /// C = 1), as long as F1 rises above the best before by more than 0.03, at most ten (SAEBench, `train_k_sparse_probes` and
    /// `add_feature_splits_to_metrics_df`). SAEBench takes latents with weights of 0 and less where there are no others; here they end.
    pub fn find(words: Words<'_>, latents: &Features, letter: usize) -> Self {
        let Split { train, test } = words.split;
        let mut this = Self::default();
        if words.count(letter).contains(&0) || words.classes() < 2 {
            return this;
        }
        let [of_train, of_test] = [train, test].map(|rows| words.labels(rows, letter));
        let mut order = sparse_weights(latents, train, &of_train, words.classes(), STEPS_AN_EPOCH);
        order.retain(|of| of.1 > 0.0);
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let order: Vec<usize> = order.into_iter().take(MOST).map(|of| of.0).collect();
        let mut best = f64::NEG_INFINITY;
        for k in 1..=order.len() {
            let fit = fit_balanced(&latents.select(train, &order[..k]), &of_train, 1.0, None);
            let decisions = fit.decisions(&latents.select(test, &order[..k]));
            let Some(f1) = Tested::new(&decisions, &of_test).scores().f1 else { break };
            this.f1.push(f1);
            if f1 <= best + GAIN {
                break;
            }
            best = f1;
            this.latents = order[..k].to_vec();
        }
        this
    }

    /// F1 of the first alone, and of all.
    pub fn reached(&self) -> Option<[f64; 2]> {
        Some([*self.f1.first()?, self.f1[self.latents.len() - 1]])
    }
}
