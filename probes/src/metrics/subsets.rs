//! Subsets of the evaluation set's tokens: which tokens each has, and how far a token is from the mean over them.
//!
//! Activations are shown batch by batch and not kept: once for norms and means, and a second time where some tokens turn out to be
//! outliers, whose limit is known only when all have been seen.

use super::{Directions, Subset, Sums, norm, outlier_limit};

/// Which tokens each subset has, and the mean activation over them.
pub struct Subsets {
    norms: Vec<f64>,
    context: usize,
    limit: f64,
    means: [Vec<f64>; 3],
}

/// The first look at the activations.
pub struct FirstLook {
    d_model: usize,
    context: usize,
    norms: Vec<f64>,
    all: RunningMean,
    no_first: RunningMean,
}

/// The second look, which is needed only where there are outliers.
pub struct SecondLook {
    d_model: usize,
    subsets: Subsets,
    /// Tokens seen again, and the mean of those that are no outliers, if any is one.
    again: Option<(usize, RunningMean)>,
}

/// A mean of rows, which are added one by one in f64.
struct RunningMean {
    sum: Vec<f64>,
    count: f64,
}

impl RunningMean {
    fn new(width: usize) -> Self {
        Self { sum: vec![0.0; width], count: 0.0 }
    }

    fn add(&mut self, row: &[f32]) {
        self.count += 1.0;
        for (sum, &v) in self.sum.iter_mut().zip(row) {
            *sum += f64::from(v);
        }
    }

    /// The mean; 0 if there were no rows.
    fn finish(self) -> Vec<f64> {
        self.sum.into_iter().map(|sum| sum / f64::max(self.count, 1.0)).collect()
    }
}

impl FirstLook {
    /// At activations of `d_model` elements, in sequences of `context` tokens.
    pub fn new(d_model: usize, context: usize) -> Self {
        let mean = || RunningMean::new(d_model);
        Self { d_model, context, norms: Vec::new(), all: mean(), no_first: mean() }
    }

    /// Adds tokens, `[tokens, d_model]`, row-major, in the order of the evaluation set.
    pub fn add(&mut self, rows: &[f32]) {
        for row in rows.chunks(self.d_model) {
            self.all.add(row);
            if !self.norms.len().is_multiple_of(self.context) {
                self.no_first.add(row);
            }
            self.norms.push(norm(row));
        }
    }

    /// ‖a‖ of every token.
    pub fn norms(&self) -> &[f64] {
        &self.norms
    }

    /// Tokens of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Ends the first look.
    pub fn finish(self) -> SecondLook {
        let Self { d_model, context, norms, all, no_first } = self;
        let limit = outlier_limit(&norms);
        let again = norms.iter().any(|&norm| norm > limit).then(|| (0, RunningMean::new(d_model)));
        let all = all.finish();
        let means = [all.clone(), no_first.finish(), all];
        SecondLook { d_model, subsets: Subsets { norms, context, limit, means }, again }
    }
}

impl SecondLook {
    /// Whether all tokens must be added again.
    pub fn is_needed(&self) -> bool {
        self.again.is_some()
    }

    /// Adds the same tokens in the same order.
    pub fn add(&mut self, rows: &[f32]) {
        let Some((seen, mean)) = &mut self.again else { return };
        for row in rows.chunks(self.d_model) {
            if self.subsets.contains(Subset::NoOutlier, *seen) {
                mean.add(row);
            }
            *seen += 1;
        }
    }

    /// Ends the second look, or leaves it out where it is not needed.
    ///
    /// # Panics
    /// If it is needed and not all tokens were added again.
    pub fn finish(self) -> Subsets {
        let mut subsets = self.subsets;
        if let Some((seen, mean)) = self.again {
            assert_eq!(seen, subsets.norms.len(), "outliers are left out of a mean in a second look at all tokens");
            subsets.means[Subset::NoOutlier.index()] = mean.finish();
        }
        subsets
    }
}

impl Subsets {
    /// Whether token number `token` of the evaluation set belongs to the subset.
    pub fn contains(&self, subset: Subset, token: usize) -> bool {
        match subset {
            Subset::All => true,
            Subset::NoFirst => !token.is_multiple_of(self.context),
            Subset::NoOutlier => self.norms[token] <= self.limit,
        }
    }

    /// The mean activation of a subset, `[d_model]`.
    pub fn mean(&self, subset: Subset) -> &[f64] {
        &self.means[subset.index()]
    }

    /// How far the activation of one token, `[d_model]`, is from a subset's mean.
    pub fn from_mean(&self, subset: Subset, a: &[f32], directions: &Directions) -> FromMean {
        let mean = self.mean(subset);
        let from_mean = |i: usize| f64::from(a[i]) - mean[i];
        let sst = (0..a.len()).map(|i| from_mean(i) * from_mean(i)).sum();
        FromMean { sst, top: directions.squares(from_mean) }
    }

    /// ‖a‖ of every token.
    pub fn norms(&self) -> &[f64] {
        &self.norms
    }
}

/// What one token's sums owe to a subset's mean.
#[derive(Clone, Copy, Debug)]
pub struct FromMean {
    /// ‖a − ā‖².
    sst: f64,
    /// The parts of it that deflation takes away.
    top: [f64; 4],
}

impl FromMean {
    /// Gives sums of the token what they owe.
    #[must_use]
    pub fn complete(self, sums: Sums) -> Sums {
        let Self { sst, top: [sst_top_1, sst_top_2, sst_top_4, sst_top_8] } = self;
        Sums { sst, sst_top_1, sst_top_2, sst_top_4, sst_top_8, ..sums }
    }
}
