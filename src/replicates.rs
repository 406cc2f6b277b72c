//! Bootstrap replicates of the sums of an evaluation: every metric of every subset from one draw.

use assay_probes::metrics::{Metric, Subset, Sums};
use assay_probes::stats::Interval;
use ndarray::Array2;

/// Level of the intervals of evaluations that no sweep sets one for.
pub const LEVEL: f64 = 0.95;

/// The percentile interval of a − b, paired: both are values in the replicates of one draw. `None` where one is undefined, be it in one
/// replicate.
pub fn paired_interval(a: Vec<Option<f64>>, b: Vec<Option<f64>>, level: f64) -> Option<Interval> {
    let differences: Vec<Option<f64>> = a.into_iter().zip(b).map(|(a, b)| Some(a? - b?)).collect();
    Interval::percentile(&differences, level)
}

/// How often each of `n` sequences is in it, where each in turn is left out: the replicates of the jackknife.
pub fn leave_one_out(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, n), |(left_out, at)| f64::from(u8::from(left_out != at)))
}

/// The sums of each replicate, by subset.
pub struct Replicates([OfSubset; 3]);

impl Replicates {
    /// Adds up the sequences of every replicate; `counts` says how often each is in it ([`Resamples::counts`]).
    ///
    /// [`Resamples::counts`]: assay_probes::stats::Resamples::counts
    pub fn new(sequences: &[[Sums; 3]], counts: &Array2<f64>) -> Self {
        Self(Subset::ALL.map(|subset| OfSubset::new(sequences, subset, counts)))
    }

    /// A metric's value in every replicate.
    pub fn values(&self, metric: &Metric, subset: Subset) -> Vec<Option<f64>> {
        self.0[subset.index()].values(metric)
    }

    /// The percentile interval of a metric.
    pub fn interval(&self, metric: &Metric, subset: Subset, level: f64) -> Option<Interval> {
        Interval::percentile(&self.values(metric, subset), level)
    }
}

/// The sums of each replicate over one subset of the tokens.
pub struct OfSubset(Vec<Sums>);

impl OfSubset {
    /// As [`Replicates::new`].
    pub fn new(sequences: &[[Sums; 3]], subset: Subset, counts: &Array2<f64>) -> Self {
        let values: Vec<f64> = sequences.iter().flat_map(|s| s[subset.index()].values()).collect();
        let values = Array2::from_shape_vec((sequences.len(), Sums::FIELDS.len()), values).expect("a row a sequence");
        let sums = counts.dot(&values);
        let replicate = |row: ndarray::ArrayView1<'_, f64>| {
            Sums::from_values(row.as_slice().expect("rows lie together")).expect("as many values as fields")
        };
        Self(sums.rows().into_iter().map(replicate).collect())
    }

    /// A metric's value in every replicate.
    pub fn values(&self, metric: &Metric) -> Vec<Option<f64>> {
        self.0.iter().map(metric.value).collect()
    }

    /// Bytes of memory that they take.
    pub fn size(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}
