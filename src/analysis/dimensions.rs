//! Task-relevant dimensionality beside geometric: what H3 compares.

use assay_probes::information::{PLATEAU_SHARE, inferred_dimensionality};
use assay_probes::stats::{Estimate, Resamples, gather, mean, spearman};

use super::{Analysis, Cell};
use crate::frames::{Estimated, RESID_POST, Site};

/// One hook point of one model.
pub struct Dimensions {
    /// Model.
    pub model: String,
    /// Depth and kind of the hook.
    pub site: Site,
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
    /// Whether the layer is the model's last, of which the logits are a function: there the true information is infinite, and
    /// nothing is inferred.
    pub is_last: bool,
    /// Held-out pairs behind each estimate: none above ln of this is a measurement.
    pub pairs: usize,
    /// How far R² is from behaviour there: the mean over settings, at the largest budget, of |R² − loss score under mean ablation|, both 0 for the
    /// mean activation and 1 for a perfect reconstruction.
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
    let of_hook = |rows: &[(String, Estimated)]| {
        let (model, first) = &rows[0];
        let curve: Vec<(usize, f64)> = rows.iter().filter_map(|(_, e)| Some((e.width?, e.nats))).collect();
        // Geometry is that of the residual stream after each block.
        let geometry = analysis
            .grid
            .geometry
            .iter()
            .find(|(m, _)| m == model)
            .map(|(_, layers)| layers)
            .filter(|_| first.kind() == RESID_POST);
        let is_there = |c: &&Cell| {
            c.model == *model && c.site.depth == first.depth && c.site.kind == first.kind() && c.budget == budget
        };
        let mut cells: Vec<&Cell> = analysis.cells.iter().filter(is_there).collect();
        let settings = analysis.grid.settings();
        cells.sort_by_key(|c| settings.iter().position(|s| *s == c.setting));
        let failure =
            |cell: &&Cell| Some((analysis.column(cell, "r2")? - analysis.column(cell, "ce_loss_score_mean")?).abs());
        let failures: Option<Vec<f64>> = cells.iter().map(failure).collect();
        let is_last = geometry.is_some_and(|layers| layers.iter().map(|l| l.layer).max() == Some(first.layer));
        let whole = cells.first().and_then(|cell| analysis.column(cell, "d_model"));
        let inferred =
            if is_last { None } else { inferred_dimensionality(&with_whole(&curve, rows, whole), PLATEAU_SHARE) };
        Dimensions {
            model: model.clone(),
            site: cells.first().map_or_else(|| Site::of_hook(&first.depth, first.kind(), false), |c| c.site.clone()),
            layer: first.layer,
            information: rows
                .iter()
                .filter(|(_, e)| e.width.is_none())
                .map(|(_, e)| (e.critic.clone(), e.bound.clone(), e.nats, e.cap))
                .collect(),
            inferred,
            curve,
            pr: geometry.and_then(|layers| layers.iter().find(|l| l.layer == first.layer)).and_then(|l| l.pr),
            is_last,
            pairs: first.pairs,
            failure: failures.and_then(|f| mean(&f)),
        }
    };
    let rows = &analysis.grid.information;
    rows.chunk_by(|a, b| (&a.0, a.1.layer, a.1.kind()) == (&b.0, b.1.layer, b.1.kind())).map(of_hook).collect()
}

/// The curve with the estimate of the same critic and bound without a bottleneck, that is, behind one as wide as the activation.
fn with_whole(curve: &[(usize, f64)], rows: &[(String, Estimated)], d_model: Option<f64>) -> Vec<(usize, f64)> {
    let narrow = rows.iter().find(|(_, e)| e.width.is_some()).map(|(_, e)| (&e.critic, &e.bound));
    let whole = rows.iter().find(|(_, e)| e.width.is_none() && Some((&e.critic, &e.bound)) == narrow);
    let whole = whole.zip(d_model).map(|((_, e), d_model)| (d_model as usize, e.nats));
    let widest = curve.last().map_or(0, |(width, _)| *width);
    curve.iter().copied().chain(whole.filter(|(width, _)| *width > widest)).collect()
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
