//! k*(t): how many active latents it takes to keep a share of the behaviour.

use assay_probes::stats::{Between, KStar, k_star};

use super::{Analysis, Cell, Quantity, Score, on_all};
use crate::frames::{Class, Site};

/// Targets of CE_rec. 0.85 and 0.90 are the reference's; the lower ones are for models and budgets that never reach those.
pub const TARGETS: [f64; 6] = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9];

/// k* of one model.
pub struct Threshold {
    /// Model.
    pub model: String,
    /// Where its SAEs read it.
    pub site: Site,
    /// Their architecture and objective.
    pub class: Class,
    /// Token budget.
    pub budget: u64,
    /// The target of CE_rec.
    pub target: f64,
    /// The smallest k of its SAEs.
    pub smallest: f64,
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

/// k* of every model, site, budget, class and target.
pub fn thresholds(analysis: &Analysis<'_>, between: Between) -> Vec<Threshold> {
    let (models, classes) = (analysis.grid.models(), analysis.grid.classes());
    let mut out = Vec::new();
    for site in analysis.grid.sites() {
        for budget in analysis.grid.budgets() {
            for class in &classes {
                let path = |model: &String| analysis.path(model, &site, budget, class);
                let paths: Vec<Vec<&Cell>> = models.iter().map(path).collect();
                for target in TARGETS {
                    out.extend(paths.iter().filter_map(|path| threshold(analysis, path, target, between)));
                }
            }
        }
    }
    out
}

/// What CE_rec a k* is of: pooled by default, per sequence where the reference texts' own is asked for.
fn quantity(between: Between) -> Quantity {
    on_all(if between == Between::Log { "ce_rec_pooled" } else { "ce_rec" })
}

/// k* along a path of one model, of the pooled CE_rec in ln k, or of CE_rec per sequence in k as the reference texts have it; `None` with fewer
/// than two cells. Where SAEs have no k it is an L0.
pub fn threshold(analysis: &Analysis<'_>, path: &[&Cell], target: f64, between: Between) -> Option<Threshold> {
    let [first, _, ..] = path else { return None };
    let ks = sparsities(analysis, path)?;
    let parts: Vec<_> = path.iter().map(|&c| (c, quantity(between))).collect();
    let of = |scores: &[f64]| Some(k_star(&ks, scores, target, between)?.as_f64());
    let score = match between {
        // In ln k, in which k* varies evenly.
        Between::Log => analysis.derived(&parts, |scores| of(scores).map(f64::ln)).map(f64::exp),
        Between::Linear => analysis.derived(&parts, of),
    };
    let k_star = analysis.point(&parts, of).map(|value| KStar::from_f64(value, ks[0]));
    let score = Score { value: k_star.map(KStar::as_f64), ..score };
    Some(Threshold {
        model: first.model.clone(),
        site: first.site.clone(),
        class: first.setting.class(),
        budget: first.budget,
        target,
        smallest: ks[0],
        k_star,
        score,
    })
}

/// Where the cells of a path lie on the axis of sparsity.
fn sparsities(analysis: &Analysis<'_>, path: &[&Cell]) -> Option<Vec<f64>> {
    path.iter().map(|cell| analysis.sparsity(cell)).collect()
}

/// k* of one model over that of another, if both reach the target between grid points.
pub fn k_star_ratio(from: &Threshold, to: &Threshold) -> Option<f64> {
    Some(to.between()? / from.between()?)
}

/// The logarithm of the later model's k* over the earlier's, with an interval paired by sequence and seed: it excludes 0 where the ratio
/// excludes 1. Without a value where one of them is not between grid points, without an interval where that happens in a replicate.
pub fn ratio_of_k_star(analysis: &Analysis<'_>, from: &Threshold, to: &Threshold) -> Score {
    let Some(ratio) = k_star_ratio(from, to) else { return Score::default() };
    let paths = [from, to].map(|t| analysis.path(&t.model, &t.site, t.budget, &t.class));
    let [Some(from_ks), Some(to_ks)] = paths.each_ref().map(|path| sparsities(analysis, path)) else {
        return Score::default();
    };
    let parts: Vec<_> = paths.iter().flatten().map(|&c| (c, quantity(Between::Log))).collect();
    let score = analysis.derived(&parts, |scores| {
        let (first, second) = scores.split_at(from_ks.len());
        let of = |ks: &[f64], scores| match k_star(ks, scores, from.target, Between::Log)? {
            KStar::At(k) => Some(k.ln()),
            KStar::AtMost(_) | KStar::Never => None,
        };
        Some(of(&to_ks, second)? - of(&from_ks, first)?)
    });
    Score { value: Some(ratio.ln()), ..score }
}
