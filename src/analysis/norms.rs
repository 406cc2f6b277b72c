//! Who carries the error: relative error and cost by ‖a‖.

use assay_probes::metrics::ratio;
use assay_probes::profile::NormBin;

use super::{Analysis, Cell};

/// A bin of tokens by their ‖a‖, all seeds of a cell together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormPoint {
    /// Where the bin's middle lies among all tokens in order of ‖a‖, from 0 to 1.
    pub quantile: f64,
    /// The bin's share of Σ‖δ‖² over its share of the tokens: 1 is a fair share of the error.
    pub error_share: Option<f64>,
    /// Mean increase of cross-entropy at the scored positions.
    pub ce_increase: Option<f64>,
    /// Tokens of one seed.
    pub tokens: f64,
}

/// The bins of a cell that contain tokens, smallest ‖a‖ first; sums over seeds, then quotients.
pub fn norm_profile(analysis: &Analysis<'_>, cell: &Cell) -> Vec<NormPoint> {
    let bins = analysis.runs(cell).map(|r| r.by_norm.len()).max().unwrap_or(0);
    let seeds = cell.runs.len() as f64;
    let sum = |at: usize| {
        let mut sum = NormBin::default();
        for bin in analysis.runs(cell).filter_map(|r| r.by_norm.get(at)) {
            sum += bin;
        }
        sum
    };
    let sums: Vec<NormBin> = (0..bins).map(sum).filter(|bin| bin.tokens > 0.0).collect();
    let (tokens, sse) = (sums.iter().map(|b| b.tokens).sum::<f64>(), sums.iter().map(|b| b.sse).sum::<f64>());
    let mut before = 0.0;
    let point = |bin: &NormBin| {
        let quantile = (before + bin.tokens / 2.0) / tokens;
        before += bin.tokens;
        NormPoint {
            quantile,
            error_share: ratio(bin.sse * tokens, sse * bin.tokens),
            ce_increase: ratio(bin.ce_increase, bin.scored),
            tokens: bin.tokens / seeds,
        }
    };
    sums.iter().map(point).collect()
}
