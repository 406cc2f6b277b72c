//! The tables of a report: those of the reference texts first, with their columns and then ours, and after them our own.
//!
//! Every number comes from [`crate::analysis`]; here it is only set.

mod behaviour;
mod budgets;
mod controls;
mod geometry;
mod grid;
mod hypotheses;
mod information;
mod proxies;
mod scale;

use assay_probes::stats::Estimate;

use crate::analysis::{Analysis, Score};
use crate::markdown::tokens_text;
use crate::markdown::{self, NONE, Table};

/// A table and the name of its file.
pub type Named = (&'static str, Table);

/// All tables that the grid has data for.
pub fn all(analysis: &Analysis<'_>) -> Vec<Named> {
    let tables = [
        ("headline", scale::headline(analysis)),
        ("delta-by-k", scale::delta_by_k(analysis)),
        ("three-model", scale::three_model(analysis)),
        ("monotone", scale::monotone(analysis)),
        ("correlations", proxies::correlations(analysis)),
        ("leaderboard", proxies::leaderboard(analysis)),
        ("beyond-swd", proxies::beyond_swd(analysis)),
        ("fisher", proxies::fisher(analysis)),
        ("rate-distortion", proxies::rate_distortion(analysis)),
        ("sst-inflation", controls::sst_inflation(analysis)),
        ("three-model-proxies", controls::three_model_proxies(analysis)),
        ("controls", controls::controls(analysis)),
        ("subsets", controls::subsets(analysis)),
        ("k-star", behaviour::k_star(analysis)),
        ("overlap", behaviour::overlap(analysis)),
        ("spread", behaviour::spread(analysis)),
        ("alive", behaviour::alive(analysis)),
        ("budgets", budgets::budgets(analysis)),
        ("phase2", budgets::phase2(analysis)),
        ("seeds", budgets::seeds(analysis)),
        ("geometry", geometry::geometry(analysis.grid)),
        ("information", information::information(analysis)),
        ("hypotheses", hypotheses::hypotheses(analysis)),
        ("grid", grid::grid(analysis.grid)),
        ("everything", grid::everything(analysis.grid)),
    ];
    tables.into_iter().filter(|(_, table)| !table.is_empty()).collect()
}

/// `0.340 [0.169, 0.469]`.
fn scored(score: Score) -> String {
    markdown::with_interval(score.value, score.interval)
}

/// `+0.154 [+0.120, +0.190]`.
fn signed(score: Score) -> String {
    markdown::signed_with_interval(score.value, score.interval)
}

/// `+0.907 [+0.801, +0.950]`, and how many resamples had no variation, if any.
fn correlation(estimate: Estimate) -> String {
    let shown = markdown::signed_with_interval(estimate.value, estimate.interval);
    if estimate.degenerate == 0 { shown } else { format!("{shown} ({} degenerate)", estimate.degenerate) }
}

/// `61.7%`.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), |s| format!("{:.1}%", 100.0 * s))
}

fn yes_no(value: Option<bool>) -> String {
    value.map_or(NONE, |v| if v { "yes" } else { "no" }).to_owned()
}

/// `10M`.
fn budget(tokens: u64) -> String {
    tokens_text(tokens).replace(" tokens", "")
}
