//! Every run.

use assay_probes::METRICS;

use super::{budget, percent};
use crate::analysis::{Analysis, loss_ratio};
use crate::frames::Grid;
use crate::markdown::{Table, interval, number, score, with_interval};

/// One row per run: R² and CE_rec with intervals, and what explains them.
pub fn grid(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "depth",
        "model",
        "hook",
        "k",
        "tokens",
        "seed",
        "R²",
        "CE_rec",
        "L_recon/L_orig",
        "ce_loss_score",
        "KL",
        "cosine",
        "rel. error",
        "alive %",
    ]);
    for run in &analysis.grid.runs {
        let cell = |name: &str| with_interval(run.value(name), run.interval(name));
        table.row([
            analysis.names.site(&run.site),
            run.model.clone(),
            run.hook.clone(),
            analysis.names.setting(&run.setting),
            budget(run.training_tokens),
            run.seed.to_string(),
            cell("r2"),
            cell("ce_rec"),
            score(run.value("ce_rec").map(loss_ratio)),
            score(run.value("ce_loss_score")),
            score(run.value("kl")),
            score(run.value("cosine")),
            score(run.value("rel_err")),
            percent(run.value("alive_frac")),
        ]);
    }
    table
}

/// The runs that failed, with the reason.
pub fn failed(grid: &Grid) -> Table {
    let mut table = Table::new(["depth", "model", "hook", "SAE", "tokens", "seed", "failed", "reason"]);
    for run in &grid.failed {
        table.row([
            run.depth.clone(),
            run.model.clone(),
            run.hook.clone(),
            run.setting.clone(),
            budget(run.training_tokens),
            run.seed.to_string(),
            run.when.clone(),
            run.reason.clone(),
        ]);
    }
    table
}

/// Every column on all tokens, one row per run.
pub fn everything(analysis: &Analysis<'_>) -> Table {
    let extra = [
        "alive_frac",
        "bits_per_token",
        "bits_bernoulli",
        "pr",
        "pr_deflated_1",
        "pr_deflated_2",
        "pr_deflated_4",
        "pr_deflated_8",
        "final_loss",
        "n_dead",
    ];
    let names: Vec<&str> = METRICS.iter().map(|m| m.name).chain(extra).collect();
    let mut table = Table::new(
        ["model", "hook", "k", "tokens", "seed"].into_iter().chain(names.iter().copied()).chain(["CE_rec interval"]),
    );
    for run in &analysis.grid.runs {
        let mut row = vec![
            run.model.clone(),
            run.hook.clone(),
            analysis.names.setting(&run.setting),
            run.training_tokens.to_string(),
            run.seed.to_string(),
        ];
        row.extend(names.iter().map(|name| number(run.value(name))));
        row.push(interval(run.interval("ce_rec")));
        table.row(row);
    }
    table
}
