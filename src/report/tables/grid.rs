//! Every run.

use assay_probes::METRICS;

use super::{budget, percent};
use crate::analysis::{Analysis, loss_ratio};
use crate::frames::{CONTROL, Grid};
use crate::markdown::{Table, interval, number, score, with_interval};

/// One row per run: R² and CE_rec with intervals, and what explains them.
pub fn grid(analysis: &Analysis<'_>) -> Table {
    let controls = analysis.grid.has_controls();
    let mut head = vec!["depth", "model", "hook", "k", "tokens", "seed"];
    head.extend(controls.then_some(CONTROL));
    head.extend(["R²", "CE_rec", "L_recon/L_orig", "ce_loss_score", "KL", "cosine", "rel. error", "alive %"]);
    let mut table = Table::new(head);
    for (control, run) in analysis.grid.with_controls() {
        let cell = |name: &str| with_interval(run.value(name), run.interval(name));
        let mut row = vec![
            analysis.names.site(&run.site),
            run.model.clone(),
            run.hook.clone(),
            analysis.names.setting(&run.setting),
            budget(run.training_tokens),
            run.seed.to_string(),
        ];
        row.extend(controls.then(|| control.to_owned()));
        row.extend([
            cell("r2"),
            cell("ce_rec"),
            score(run.value("ce_rec").map(loss_ratio)),
            score(run.value("ce_loss_score")),
            score(run.value("kl")),
            score(run.value("cosine")),
            score(run.value("rel_err")),
            percent(run.value("alive_frac")),
        ]);
        table.row(row);
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
    let controls = analysis.grid.has_controls();
    let head = ["model", "hook", "k", "tokens", "seed"].into_iter().chain(controls.then_some(CONTROL));
    let mut table = Table::new(head.chain(names.iter().copied()).chain(["CE_rec interval"]));
    for (control, run) in analysis.grid.with_controls() {
        let mut row = vec![
            run.model.clone(),
            run.hook.clone(),
            analysis.names.setting(&run.setting),
            run.training_tokens.to_string(),
            run.seed.to_string(),
        ];
        row.extend(controls.then(|| control.to_owned()));
        row.extend(names.iter().map(|name| number(run.value(name))));
        row.push(interval(run.interval("ce_rec")));
        table.row(row);
    }
    table
}
