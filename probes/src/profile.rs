//! Who carries the error: what a reconstruction costs on tokens of small and of large ‖a‖.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::metrics::Sums;
use crate::stats::quantile;

/// Ends of the bins, as shares of the tokens in order of ‖a‖: twentieths, and the largest per cent and per mille apart.
const EDGES: [f64; 23] = [
    0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99,
    0.999, 1.0,
];

/// Sums over the tokens of one bin of ‖a‖.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NormBin {
    /// Tokens.
    pub tokens: f64,
    /// ‖a‖.
    pub norm: f64,
    /// ‖δ‖².
    pub sse: f64,
    /// ‖a − ā‖².
    pub sst: f64,
    /// Scored positions.
    pub scored: f64,
    /// Cross-entropy at them with â in place of a, minus that without.
    pub ce_increase: f64,
    /// (gᵀδ)² at them.
    pub swd: f64,
}

impl NormBin {
    /// Adds a token of that norm.
    #[cfg(feature = "tensors")]
    pub(crate) fn add(&mut self, norm: f64, sums: &Sums) {
        *self += &Self {
            tokens: 1.0,
            norm,
            sse: sums.sse,
            sst: sums.sst,
            scored: sums.scored,
            ce_increase: sums.ce_recon - sums.ce_orig,
            swd: sums.swd,
        };
    }
}

impl AddAssign<&Self> for NormBin {
    fn add_assign(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.norm += other.norm;
        self.sse += other.sse;
        self.sst += other.sst;
        self.scored += other.scored;
        self.ce_increase += other.ce_increase;
        self.swd += other.swd;
    }
}

/// The bins of an evaluation set: the largest ‖a‖ of each but the last.
pub struct NormBins(Vec<f64>);

impl NormBins {
    /// Bins of tokens with these norms. Quantiles that coincide leave bins empty.
    pub fn new(norms: &[f64]) -> Self {
        let mut sorted = norms.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self(EDGES[1..EDGES.len() - 1].iter().filter_map(|&q| quantile(&sorted, q)).collect())
    }

    /// How many bins there are.
    pub const COUNT: usize = EDGES.len() - 1;

    /// The bin of a token with that norm.
    pub fn of(&self, norm: f64) -> usize {
        self.0.partition_point(|&end| end < norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_their_share_of_the_tokens() {
        let norms: Vec<f64> = (0..10_000).map(|i| f64::from((i * 7919) % 10_000)).collect();
        let bins = NormBins::new(&norms);
        let mut counts = [0; NormBins::COUNT];
        for &norm in &norms {
            counts[bins.of(norm)] += 1;
        }
        for (bin, count) in counts.into_iter().enumerate() {
            let share = (EDGES[bin + 1] - EDGES[bin]) * 10_000.0;
            assert!((f64::from(count) - share).abs() <= 1.0, "bin {bin}: {count} tokens, {share} expected");
        }
        assert!(norms.iter().all(|&n| (bins.of(n) == NormBins::COUNT - 1) == (n > 9989.0)));
    }

    #[test]
    fn equal_norms_share_a_bin() {
        let bins = NormBins::new(&[1.0; 30]);
        assert_eq!((bins.of(1.0), bins.of(1.1)), (0, NormBins::COUNT - 1));
    }
}
