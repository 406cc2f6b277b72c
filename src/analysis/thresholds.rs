//! k*(t): how many active latents it takes to keep a share of the behaviour.

use assay_probes::stats::{Between, KStar, k_star};

use super::{Analysis, Quantity, Score, on_all};

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
pub fn thresholds(analysis: &Analysis<'_>, between: Between) -> Vec<Threshold> {
    let mut out = Vec::new();
    for depth in analysis.grid.depths() {
        for budget in analysis.grid.budgets() {
            for target in TARGETS {
                let models = analysis.grid.models();
                let of = |model: &String| threshold(analysis, model, &depth, budget, target, between);
                out.extend(models.iter().filter_map(of));
            }
        }
    }
    out
}

/// What CE_rec a k* is of: pooled by default, per sequence where the reference texts' own is asked for.
fn quantity(between: Between) -> Quantity {
    on_all(if between == Between::Log { "ce_rec_pooled" } else { "ce_rec" })
}

/// k* of one model at a depth, budget and target, of the pooled CE_rec in ln k, or of CE_rec per sequence in k as the reference texts have
/// it; `None` with fewer than two k.
pub fn threshold(
    analysis: &Analysis<'_>,
    model: &str,
    depth: &str,
    budget: u64,
    target: f64,
    between: Between,
) -> Option<Threshold> {
    let cells = analysis.along_k(model, depth, budget);
    if cells.len() < 2 {
        return None;
    }
    let ks: Vec<f64> = cells.iter().map(|c| c.k as f64).collect();
    let parts: Vec<_> = cells.iter().map(|&c| (c, quantity(between))).collect();
    let of = |scores: &[f64]| Some(k_star(&ks, scores, target, between)?.as_f64());
    let score = match between {
        // In ln k, in which k* varies evenly.
        Between::Log => analysis.derived(&parts, |scores| of(scores).map(f64::ln)).map(f64::exp),
        Between::Linear => analysis.derived(&parts, of),
    };
    let k_star = analysis.point(&parts, of).map(|value| KStar::from_f64(value, ks[0]));
    let score = Score { value: k_star.map(KStar::as_f64), ..score };
    Some(Threshold { model: model.to_owned(), depth: depth.to_owned(), budget, target, k_star, score })
}

/// k* of one model over that of another, if both reach the target between grid points.
pub fn k_star_ratio(from: &Threshold, to: &Threshold) -> Option<f64> {
    Some(to.between()? / from.between()?)
}

/// The logarithm of the later model's k* over the earlier's, with an interval paired by sequence and seed: it excludes 0 where the ratio
/// excludes 1. Without a value where one of them is not between grid points, without an interval where that happens in a replicate.
pub fn ratio_of_k_star(analysis: &Analysis<'_>, from: &Threshold, to: &Threshold) -> Score {
    let Some(ratio) = k_star_ratio(from, to) else { return Score::default() };
    let cells = [from, to].map(|t| analysis.along_k(&t.model, &t.depth, t.budget));
    let ks = cells.each_ref().map(|cells| cells.iter().map(|c| c.k as f64).collect::<Vec<f64>>());
    let parts: Vec<_> = cells.iter().flatten().map(|&c| (c, quantity(Between::Log))).collect();
    let score = analysis.derived(&parts, |scores| {
        let (first, second) = scores.split_at(ks[0].len());
        let of = |ks: &[f64], scores| match k_star(ks, scores, from.target, Between::Log)? {
            KStar::At(k) => Some(k.ln()),
            KStar::AtMost(_) | KStar::Never => None,
        };
        Some(of(&ks[1], second)? - of(&ks[0], first)?)
    });
    Score { value: Some(ratio.ln()), ..score }
}
