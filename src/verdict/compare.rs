//! Scores, and paired differences of two of them.

use assay_probes::metrics::{Subset, metric};
use assay_probes::stats::Interval;
use assay_probes::{Metric, Sums};

use super::{AGREE, Comparison, DIFFER, MIN_SEQUENCES, Outcome};
use crate::frames::Setting;
use crate::markdown;
use crate::replicates::{LEVEL, Replicates, paired_interval};

/// A metric on a subset.
#[derive(Clone, Copy)]
pub(super) struct Score {
    pub metric: &'static str,
    pub subset: Subset,
    /// The name in sentences.
    pub name: &'static str,
}

pub(super) const fn on_all(metric: &'static str, name: &'static str) -> Score {
    Score { metric, subset: Subset::All, name }
}

pub(super) const R2: Score = on_all("r2", "R²");
pub(super) const CE_REC: Score = on_all("ce_rec_pooled", "pooled CE_rec");
pub(super) const LOSS_SCORE: Score = on_all("ce_loss_score", "loss score under zero ablation");
pub(super) const LOSS_SCORE_MEAN: Score = on_all("ce_loss_score_mean", "loss score under mean ablation");

/// What a verdict is made of.
pub(super) struct Evidence<'a> {
    pub sequences: usize,
    pub totals: [Sums; 3],
    pub replicates: &'a Replicates,
    pub vocab_size: usize,
    /// How it was trained, where that is known.
    pub trained: Option<&'a Setting>,
}

/// A paired difference of two scores with its interval.
pub(super) struct Difference {
    pub value: f64,
    pub interval: Interval,
}

impl Difference {
    /// The rule: the interval against ±[`AGREE`] and ±[`DIFFER`].
    pub(super) fn outcome(&self) -> Outcome {
        let Interval { low, high } = self.interval;
        let agree = -AGREE < low && high < AGREE;
        self.beyond(DIFFER).unwrap_or(if agree { Outcome::Agree } else { Outcome::Undecided })
    }

    /// On which side of ±`gap` the whole interval lies, if it does.
    pub(super) fn beyond(&self, gap: f64) -> Option<Outcome> {
        if self.interval.low > gap {
            Some(Outcome::Overstates)
        } else if self.interval.high < -gap {
            Some(Outcome::Understates)
        } else {
            None
        }
    }

    /// `-0.061 [-0.103, -0.019]`.
    pub(super) fn shown(&self) -> String {
        markdown::signed_with_interval(Some(self.value), Some(self.interval))
    }

    /// Roughly how many sequences would decide, given the difference of `sequences`: were it the true one, the interval's arms would
    /// shrink with 1/√n until they no longer reach a threshold. In two digits, [`MIN_SEQUENCES`] at least; `None` beyond a million, and
    /// for a difference between the two, which nothing decides.
    pub(super) fn sequences_needed(&self, sequences: usize) -> Option<usize> {
        let size = self.value.abs();
        let (below, above) = (self.value - self.interval.low, self.interval.high - self.value);
        let excess = if size < AGREE {
            f64::max(below / (AGREE + self.value), above / (AGREE - self.value))
        } else if size > DIFFER {
            if self.value > 0.0 { below / (size - DIFFER) } else { above / (size - DIFFER) }
        } else {
            return None;
        };
        let needed = (sequences as f64 * excess * excess).max(MIN_SEQUENCES as f64);
        let digits = 10_f64.powf(needed.log10().floor() - 1.0);
        (needed <= 1e6).then(|| ((needed / digits - 1e-9).ceil() * digits) as usize)
    }
}

impl Evidence<'_> {
    pub(super) fn value(&self, score: Score) -> Option<f64> {
        (definition(score).value)(&self.totals[score.subset.index()])
    }

    pub(super) fn interval(&self, score: Score) -> Option<Interval> {
        self.replicates.interval(definition(score), score.subset, LEVEL)
    }

    pub(super) fn replicate_count(&self) -> usize {
        self.replicates.values(definition(R2), R2.subset).len()
    }

    /// `R² 0.812 [0.801, 0.823]`.
    pub(super) fn named(&self, score: Score) -> String {
        format!("{} {}", score.name, markdown::with_interval(self.value(score), self.interval(score)))
    }

    /// A metric on all tokens, as text.
    pub(super) fn number(&self, metric: &'static str) -> String {
        markdown::number(self.value(on_all(metric, metric)))
    }

    /// a − b, paired; `None` where one is undefined, be it in a replicate.
    pub(super) fn difference(&self, a: Score, b: Score) -> Option<Difference> {
        let value = self.value(a)? - self.value(b)?;
        let of = |score: Score| self.replicates.values(definition(score), score.subset);
        Some(Difference { value, interval: paired_interval(of(a), of(b), LEVEL)? })
    }

    /// R² beside a score of behaviour.
    pub(super) fn comparison(&self, score: Score) -> Comparison {
        let difference = self.difference(R2, score);
        Comparison {
            score: score.metric,
            decides: score.metric == LOSS_SCORE_MEAN.metric,
            difference: self.value(R2).zip(self.value(score)).map(|(r2, score)| r2 - score),
            interval_95: difference.as_ref().map(|d| [d.interval.low, d.interval.high]),
            outcome: difference.as_ref().map_or(Outcome::Undecided, Difference::outcome),
        }
    }
}

fn definition(score: Score) -> &'static Metric {
    metric(score.metric).expect("a verdict's metrics are in METRICS")
}
