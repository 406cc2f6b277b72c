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
    let k = analysis.grid.ks().first().copied().unwrap_or_default();
    for cell in analysis.cells.iter().filter(|c| Some(&c.depth) == analysis.anchor_depth().as_ref() && c.k == k) {
        let shown = |name: &str| scored(analysis.score(cell, on_all(name)));
        let ce_rec = analysis.score(cell, on_all("ce_rec"));
        table.row([
            cell.model.clone(),
            layer(analysis, cell),
            score(analysis.score(cell, on_all("r2")).value),
            scored(ce_rec),
            score(ce_rec.value.map(loss_ratio)),
            cell.depth.clone(),
            cell.k.to_string(),
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
    let smallest = analysis.grid.ks().first().copied().unwrap_or_default();
    for cell in analysis.cells.iter().filter(|c| c.k == smallest) {
        let whole = |name: &str| analysis.column(cell, name).map_or_else(|| NONE.to_owned(), |v| v.to_string());
        let loss = |name: &str| score(analysis.column(cell, name));
        let per_latent = analysis.column(cell, "d_sae").map(|d| cell.budget as f64 / d);
        table.row([
            cell.model.clone(),
            cell.depth.clone(),
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
            gap.to.k.to_string(),
            signed(gap.r2),
            signed(gap.ce_rec),
            pair(gap.from, gap.to),
            gap.to.depth.clone(),
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
    let mut table = Table::new([
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
    ]);
    let depth = analysis.anchor_depth().unwrap_or_default();
    for budget_of in analysis.grid.budgets() {
        for k in analysis.grid.ks() {
            for model in analysis.grid.models() {
                let Some(cell) = analysis.cell(&model, &depth, budget_of, k) else { continue };
                table.row([
                    model,
                    analysis.column(cell, "d_model").map_or_else(|| NONE.to_owned(), |d| d.to_string()),
                    k.to_string(),
                    score(analysis.column(cell, "r2")),
                    scored(analysis.score(cell, on_all("ce_rec"))),
                    score(analysis.column(cell, "cosine")),
                    percent(analysis.column(cell, "alive_frac")),
                    budget(budget_of),
                    cell.runs.len().to_string(),
                    score(analysis.column(cell, "rel_err")),
                    analysis.column(cell, "l0").map_or_else(|| NONE.to_owned(), |l| format!("{l:.1}")),
                    analysis.column(cell, "bits_per_token").map_or_else(|| NONE.to_owned(), |b| format!("{b:.0}")),
                ]);
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
    for depth in analysis.grid.depths() {
        for budget_of in analysis.grid.budgets() {
            for k in analysis.grid.ks() {
                let way = |column| match analysis::monotone(analysis, &depth, budget_of, k, column) {
                    Some(1) => "rises",
                    Some(-1) => "falls",
                    Some(_) => "neither",
                    None => NONE,
                };
                let mut row = vec![depth.clone(), k.to_string(), budget(budget_of)];
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
