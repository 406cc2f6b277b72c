//! Task-relevant dimensionality beside geometric: what H3 compares.

use assay_probes::information::{PLATEAU_SHARE, inferred_dimensionality};
use assay_probes::stats::{Estimate, Resamples, gather, mean, spearman};

use super::Analysis;

/// One hook point of one model.
pub struct Dimensions {
    /// Model.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// Layer.
    pub layer: usize,
    /// Estimates without a bottleneck: `(critic, bound, nats, cap)`.
    pub information: Vec<(String, String, f64, Option<f64>)>,
    /// Nats by bottleneck width.
    pub curve: Vec<(usize, f64)>,
    /// Dimensionality inferred from the curve.
    pub inferred: Option<f64>,
    /// Participation ratio of the same layer.
    pub pr: Option<f64>,
    /// How far R² is from behaviour there: the mean over k of |R² − CE_rec| at the largest budget.
    pub failure: Option<f64>,
}

impl Dimensions {
    /// ln(inferred dimensionality / participation ratio).
    pub fn mismatch(&self) -> Option<f64> {
        Some((self.inferred? / self.pr?).ln())
    }
}

/// Every hook point with estimates.
pub fn dimensions(analysis: &Analysis<'_>) -> Vec<Dimensions> {
    let budget = analysis.largest_budget();
    let of_hook = |rows: &[(String, crate::frames::Estimated)]| {
        let (model, first) = &rows[0];
        let curve: Vec<(usize, f64)> = rows.iter().filter_map(|(_, e)| Some((e.width?, e.nats))).collect();
        let geometry = analysis.grid.geometry.iter().find(|(m, _)| m == model);
        let failures: Option<Vec<f64>> = analysis
            .along_k(model, &first.depth, budget)
            .into_iter()
            .map(|cell| Some((analysis.column(cell, "r2")? - analysis.column(cell, "ce_rec")?).abs()))
            .collect();
        Dimensions {
            model: model.clone(),
            depth: first.depth.clone(),
            layer: first.layer,
            information: rows
                .iter()
                .filter(|(_, e)| e.width.is_none())
                .map(|(_, e)| (e.critic.clone(), e.bound.clone(), e.nats, e.cap))
                .collect(),
            inferred: inferred_dimensionality(&curve, PLATEAU_SHARE),
            curve,
            pr: geometry.and_then(|(_, layers)| layers.iter().find(|l| l.layer == first.layer)).and_then(|l| l.pr),
            failure: failures.and_then(|f| mean(&f)),
        }
    };
    let rows = &analysis.grid.information;
    rows.chunk_by(|a, b| (&a.0, a.1.layer) == (&b.0, b.1.layer)).map(of_hook).collect()
}

/// The rank correlation, over hook points, between the size of [`Dimensions::mismatch`] and [`Dimensions::failure`], and how many there are.
pub fn mismatch_and_failure(analysis: &Analysis<'_>) -> (Option<Estimate>, usize) {
    let found = dimensions(analysis);
    let both: Vec<(f64, f64)> = found.iter().filter_map(|d| d.mismatch().map(f64::abs).zip(d.failure)).collect();
    let (mismatch, failure): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
    if mismatch.len() < 3 {
        return (None, mismatch.len());
    }
    let bootstrap = analysis.grid.bootstrap;
    let resamples = Resamples::draw(mismatch.len(), bootstrap.resamples, bootstrap.seed);
    let estimate = Estimate::over_rows(&resamples, bootstrap.level, |rows| {
        spearman(&gather(&mismatch, rows), &gather(&failure, rows))
    });
    (Some(estimate), mismatch.len())
}
