//! Bootstrap replicates of the sums of an evaluation: every metric of every subset from one draw.

use assay_probes::metrics::{Metric, Subset, Sums, total};
use assay_probes::stats::{Interval, Resamples};

/// The sums of each replicate, by subset.
pub struct Replicates(Vec<[Sums; 3]>);

impl Replicates {
    /// Adds up the sequences of every replicate.
    pub fn new(sequences: &[[Sums; 3]], resamples: &Resamples) -> Self {
        Self(resamples.map(|rows| total(rows.iter().map(|&row| &sequences[row as usize]))))
    }

    /// A metric's value in every replicate.
    pub fn values(&self, metric: &Metric, subset: Subset) -> Vec<Option<f64>> {
        self.0.iter().map(|sums| (metric.value)(&sums[subset.index()])).collect()
    }

    /// The percentile interval of a metric.
    pub fn interval(&self, metric: &Metric, subset: Subset, level: f64) -> Option<Interval> {
        Interval::percentile(&self.values(metric, subset), level)
    }

    /// The percentile interval of the difference of a metric, `self` minus `other`, paired replicate by replicate.
    pub fn difference(&self, other: &Self, metric: &Metric, subset: Subset, level: f64) -> Option<Interval> {
        let pairs = self.values(metric, subset).into_iter().zip(other.values(metric, subset));
        let differences: Vec<Option<f64>> = pairs.map(|(a, b)| Some(a? - b?)).collect();
        Interval::percentile(&differences, level)
    }
}
