//! Who carries the error: relative error and cost by ‖a‖.

use assay_probes::metrics::ratio;
use assay_probes::profile::NormBin;

use super::{Analysis, Cell};

/// A bin of tokens by their ‖a‖, all seeds of a cell together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormPoint {
    /// Mean ‖a‖.
    pub norm: f64,
    /// Σ‖δ‖²/Σ‖a − mean‖².
    pub relative_error: Option<f64>,
    /// Mean increase of cross-entropy at the scored positions.
    pub ce_increase: Option<f64>,
    /// Tokens of one seed.
    pub tokens: f64,
}

/// The bins of a cell that hold tokens, smallest ‖a‖ first; sums over seeds, then quotients.
pub fn norm_profile(analysis: &Analysis<'_>, cell: &Cell) -> Vec<NormPoint> {
    let bins = analysis.runs(cell).map(|r| r.by_norm.len()).max().unwrap_or(0);
    let seeds = cell.runs.len() as f64;
    let point = |at: usize| {
        let mut sum = NormBin::default();
        for bin in analysis.runs(cell).filter_map(|r| r.by_norm.get(at)) {
            sum += bin;
        }
        Some(NormPoint {
            norm: ratio(sum.norm, sum.tokens)?,
            relative_error: ratio(sum.sse, sum.sst),
            ce_increase: ratio(sum.ce_increase, sum.scored),
            tokens: sum.tokens / seeds,
        })
    };
    (0..bins).filter_map(point).collect()
}
