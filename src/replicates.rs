//! Bootstrap replicates of the sums of an evaluation: every metric of every subset from one draw.

use assay_probes::metrics::{Metric, Subset, Sums};
use assay_probes::stats::Interval;
use ndarray::Array2;

/// The sums of each replicate, by subset.
pub struct Replicates(Vec<[Sums; 3]>);

impl Replicates {
    /// Adds up the sequences of every replicate; `counts` says how often each is in it ([`Resamples::counts`]).
    ///
    /// [`Resamples::counts`]: assay_probes::stats::Resamples::counts
    pub fn new(sequences: &[[Sums; 3]], counts: &Array2<f64>) -> Self {
        let of_subset = |subset: Subset| {
            let values: Vec<f64> = sequences.iter().flat_map(|s| s[subset.index()].values()).collect();
            let values =
                Array2::from_shape_vec((sequences.len(), Sums::FIELDS.len()), values).expect("a row a sequence");
            counts.dot(&values)
        };
        let subsets = Subset::ALL.map(of_subset);
        let replicate = |row: usize| {
            Subset::ALL.map(|subset| {
                let values = subsets[subset.index()].row(row).to_vec();
                Sums::from_values(&values).expect("as many values as fields")
            })
        };
        Self((0..counts.nrows()).map(replicate).collect())
    }

    /// The sums without each of the sequences in turn: what the jackknife needs.
    pub fn leave_one_out(sequences: &[[Sums; 3]]) -> Self {
        let n = sequences.len();
        Self::new(sequences, &Array2::from_shape_fn((n, n), |(left_out, at)| f64::from(u8::from(left_out != at))))
    }

    /// A metric's value in every replicate.
    pub fn values(&self, metric: &Metric, subset: Subset) -> Vec<Option<f64>> {
        self.0.iter().map(|sums| (metric.value)(&sums[subset.index()])).collect()
    }

    /// The percentile interval of a metric.
    pub fn interval(&self, metric: &Metric, subset: Subset, level: f64) -> Option<Interval> {
        Interval::percentile(&self.values(metric, subset), level)
    }
}
