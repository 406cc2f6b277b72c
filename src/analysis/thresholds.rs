//! k*(t): how many active latents it takes to keep a share of the behaviour.

use assay_probes::stats::{KStar, k_star};

use super::{Analysis, Score, on_all};

/// Targets of CE_rec. 0.85 and 0.90 are the reference's; the lower ones are for models and budgets that never reach those.
pub const TARGETS: [f64; 6] = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9];

/// k* of one model.
pub struct Threshold {
    /// Model.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// Token budget.
    pub budget: u64,
    /// The target of CE_rec.
    pub target: f64,
    /// On all sequences and seeds.
    pub k_star: Option<KStar>,
    /// As a number (+∞ if never reached) with its interval; replicates that never reach the target are +∞ too.
    pub score: Score,
}

impl Threshold {
    /// k* as a number, where it is one: reached, and not already at the smallest k.
    pub fn between(&self) -> Option<f64> {
        match self.k_star? {
            KStar::At(k) => Some(k),
            KStar::AtMost(_) | KStar::Never => None,
        }
    }
}

/// k* of every model, depth, budget and target.
pub fn thresholds(analysis: &Analysis<'_>) -> Vec<Threshold> {
    let mut out = Vec::new();
    for depth in analysis.grid.depths() {
        for budget in analysis.grid.budgets() {
            for target in TARGETS {
                let models = analysis.grid.models();
                out.extend(models.iter().filter_map(|model| threshold(analysis, model, &depth, budget, target)));
            }
        }
    }
    out
}

/// k* of one model at a depth, budget and target; `None` with fewer than two k.
pub fn threshold(analysis: &Analysis<'_>, model: &str, depth: &str, budget: u64, target: f64) -> Option<Threshold> {
    let cells = analysis.along_k(model, depth, budget);
    if cells.len() < 2 {
        return None;
    }
    let ks: Vec<f64> = cells.iter().map(|c| c.k as f64).collect();
    let parts: Vec<_> = cells.iter().map(|&c| (c, on_all("ce_rec"))).collect();
    let score = analysis.derived(&parts, |scores| Some(k_star(&ks, scores, target)?.as_f64()));
    let k_star = score.value.map(|value| KStar::from_f64(value, ks[0]));
    Some(Threshold { model: model.to_owned(), depth: depth.to_owned(), budget, target, k_star, score })
}

/// k* of one model over that of another, if both reach the target between grid points.
pub fn k_star_ratio(from: &Threshold, to: &Threshold) -> Option<f64> {
    Some(to.between()? / from.between()?)
}
