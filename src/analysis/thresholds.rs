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

/// k* of every model, depth, budget and target.
pub fn thresholds(analysis: &Analysis<'_>) -> Vec<Threshold> {
    let mut out = Vec::new();
    for depth in analysis.grid.depths() {
        for budget in analysis.grid.budgets() {
            for target in TARGETS {
                for model in analysis.grid.models() {
                    let cells = analysis.along_k(&model, &depth, budget);
                    if cells.len() < 2 {
                        continue;
                    }
                    let ks: Vec<f64> = cells.iter().map(|c| c.k as f64).collect();
                    let parts: Vec<_> = cells.iter().map(|&c| (c, on_all("ce_rec"))).collect();
                    let score = analysis.derived(&parts, |scores| Some(k_star(&ks, scores, target)?.as_f64()));
                    let k_star = score.value.map(|value| KStar::from_f64(value, ks[0]));
                    out.push(Threshold { model, depth: depth.clone(), budget, target, k_star, score });
                }
            }
        }
    }
    out
}
