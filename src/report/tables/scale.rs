//! What changes from one model to a larger one.

use super::{budget, excludes, pair, percent, scored, share, signed};
use crate::analysis::{self, Analysis, Cell, gaps, loss_ratio, on_all};
use crate::markdown::{NONE, Table, score};

/// The number that started it: the smallest k at the anchor depth.
pub fn headline(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "layer",
        "R²",
        "CE_rec [95% CI]",
        "implied L_recon/L_orig",
        "depth",
        "k",
        "tokens",
        "seeds",
        "R² [95% CI]",
        "CE_rec, pooled",
        "loss score, zero ablation",
        "loss score, mean ablation",
        "KL",
    ]);
    let (sites, sparsest) = (analysis.anchor_sites(), analysis.sparsest());
    for cell in analysis.cells.iter().filter(|c| sites.contains(&c.site) && sparsest.contains(&c.setting)) {
        let shown = |name: &str| scored(analysis.score(cell, on_all(name)));
        let ce_rec = analysis.score(cell, on_all("ce_rec"));
        table.row([
            cell.model.clone(),
            layer(analysis, cell),
            score(analysis.value(cell, on_all("r2"))),
            scored(ce_rec),
            score(ce_rec.value.map(loss_ratio)),
            analysis.site(cell),
            analysis.setting(cell),
            budget(cell.budget),
            cell.runs.len().to_string(),
            shown("r2"),
            shown("ce_rec_pooled"),
            shown("ce_loss_score"),
            shown("ce_loss_score_mean"),
            shown("kl"),
        ]);
    }
    table
}

/// What was measured on what: sizes, and the losses that scores are normalised by.
pub fn setup(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "layer",
        "d_model",
        "d_sae",
        "tokens",
        "tokens per latent",
        "seeds",
        "ce_orig",
        "ce_zero",
        "ce_mean",
    ]);
    // What it shows is the same for every setting.
    let first = analysis.grid.settings().into_iter().next();
    for cell in analysis.cells.iter().filter(|c| Some(&c.setting) == first.as_ref()) {
        let whole = |name: &str| analysis.column(cell, name).map_or_else(|| NONE.to_owned(), |v| v.to_string());
        let loss = |name: &str| score(analysis.column(cell, name));
        let per_latent = analysis.column(cell, "d_sae").filter(|_| cell.budget > 0).map(|d| cell.budget as f64 / d);
        table.row([
            cell.model.clone(),
            analysis.site(cell),
            layer(analysis, cell),
            whole("d_model"),
            whole("d_sae"),
            budget(cell.budget),
            per_latent.map_or_else(|| NONE.to_owned(), |t| format!("{t:.0}")),
            cell.runs.len().to_string(),
            loss("ce_orig"),
            loss("ce_zero"),
            loss("ce_mean"),
        ]);
    }
    table
}

/// ΔR² and ΔCE_rec at every k.
pub fn delta_by_k(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "k",
        "ΔR²",
        "ΔCE_rec (per sequence)",
        "models",
        "depth",
        "tokens",
        "seeds",
        "ΔCE_rec (pooled)",
        "ΔR²/ΔCE_rec",
        "opposite signs",
        "both exclude 0",
    ]);
    for gap in gaps(analysis) {
        let pooled = &gap.behaviours[0];
        let certain = gap.r2.excludes_zero().zip(pooled.difference.excludes_zero()).map(|(a, b)| a.and(b));
        table.row([
            analysis.setting(gap.to),
            signed(gap.r2),
            signed(gap.ce_rec),
            pair(gap.from, gap.to),
            analysis.site(gap.to),
            budget(gap.to.budget),
            gap.mismatches.1.to_string(),
            signed(pooled.difference),
            score(gap.ratio.value),
            share(pooled.mismatches),
            excludes(certain),
        ]);
    }
    table
}

/// All models at the anchor depth.
pub fn three_model(analysis: &Analysis<'_>) -> Table {
    let several_kinds = analysis.names.has_kinds();
    let head = [
        "model",
        "d_model",
        "k",
        "R²",
        "CE_rec [95% CI]",
        "cosine",
        "alive %",
        "tokens",
        "seeds",
        "rel. error",
        "L0",
        "bits/token",
    ];
    let mut table = Table::new(head.into_iter().chain(several_kinds.then_some("depth")));
    for site in analysis.anchor_sites() {
        for budget_of in analysis.grid.budgets() {
            for setting in analysis.grid.settings() {
                for model in analysis.grid.models() {
                    let Some(cell) = analysis.cell(&model, &site, budget_of, &setting) else { continue };
                    let column = |name: &str| analysis.column(cell, name);
                    let text = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
                    let row = [
                        model,
                        text(column("d_model").map(|d| d.to_string())),
                        analysis.setting(cell),
                        score(column("r2")),
                        scored(analysis.score(cell, on_all("ce_rec"))),
                        score(column("cosine")),
                        percent(column("alive_frac")),
                        budget(budget_of),
                        cell.runs.len().to_string(),
                        score(column("rel_err")),
                        text(column("l0").map(|l| format!("{l:.1}"))),
                        text(column("bits_per_token").map(|b| format!("{b:.0}"))),
                    ];
                    table.row(row.into_iter().chain(several_kinds.then(|| analysis.site(cell))));
                }
            }
        }
    }
    table
}

/// Which metrics rise or fall from each model to the next, with three models or more.
pub fn monotone(analysis: &Analysis<'_>) -> Table {
    let columns = ["r2", "ce_rec", "cosine", "rel_err", "alive_frac"];
    let mut table = Table::new(["depth", "k", "tokens"].into_iter().chain(columns));
    if analysis.grid.models().len() < 3 {
        return table;
    }
    for site in analysis.grid.sites() {
        for budget_of in analysis.grid.budgets() {
            for setting in analysis.grid.settings() {
                let way = |column| match analysis::monotone(analysis, &site, budget_of, &setting, column) {
                    Some(1) => "rises",
                    Some(-1) => "falls",
                    Some(_) => "neither",
                    None => NONE,
                };
                let mut row = vec![analysis.names.site(&site), analysis.names.setting(&setting), budget(budget_of)];
                row.extend(columns.map(|c| way(c).to_owned()));
                table.row(row);
            }
        }
    }
    table
}

/// The layer of a cell's hook.
pub fn layer(analysis: &Analysis<'_>, cell: &Cell) -> String {
    analysis.column(cell, "layer").map_or_else(|| NONE.to_owned(), |l| l.to_string())
}
