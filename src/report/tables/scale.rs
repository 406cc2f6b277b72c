//! What changes from one model to a larger one.

use super::{budget, percent, scored, signed, yes_no};
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
        "ce_loss_score",
        "KL",
    ]);
    let k = analysis.grid.ks().first().copied().unwrap_or_default();
    for cell in analysis.cells.iter().filter(|c| Some(&c.depth) == analysis.anchor_depth().as_ref() && c.k == k) {
        let (r2, ce_rec) = (analysis.score(cell, on_all("r2")), analysis.score(cell, on_all("ce_rec")));
        table.row([
            cell.model.clone(),
            layer(analysis, cell),
            score(r2.value),
            scored(ce_rec),
            score(ce_rec.value.map(loss_ratio)),
            cell.depth.clone(),
            cell.k.to_string(),
            budget(cell.budget),
            cell.runs.len().to_string(),
            scored(r2),
            scored(analysis.score(cell, on_all("ce_loss_score"))),
            scored(analysis.score(cell, on_all("kl"))),
        ]);
    }
    table
}

/// ΔR² and ΔCE_rec at every k.
pub fn delta_by_k(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "k",
        "ΔR²",
        "ΔCE_rec",
        "models",
        "depth",
        "tokens",
        "seeds",
        "ΔR² − ΔCE_rec",
        "ΔR²/ΔCE_rec",
        "opposite signs",
        "both exclude 0",
    ]);
    for gap in gaps(analysis) {
        let certain = gap.r2.interval.zip(gap.ce_rec.interval).map(|(a, b)| a.excludes_zero() && b.excludes_zero());
        let (opposite, seeds) = gap.mismatches;
        table.row([
            gap.to.k.to_string(),
            signed(gap.r2),
            signed(gap.ce_rec),
            format!("{} − {}", gap.to.model, gap.from.model),
            gap.to.depth.clone(),
            budget(gap.to.budget),
            seeds.to_string(),
            signed(gap.residual),
            score(gap.ratio.value),
            if seeds == 1 { yes_no(Some(opposite == 1)) } else { format!("{opposite} of {seeds}") },
            yes_no(certain),
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
