//! What training longer changes, and what another seed does.

use super::{budget, percent, scored, signed};
use crate::analysis::{Analysis, Score, gaps, loss_ratio, on_all};
use crate::markdown::{NONE, Table, score};

/// Every cell by its token budget, where there are several.
pub fn budgets(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "train tokens",
        "k",
        "CE_rec [95% CI]",
        "implied L_recon/L_orig",
        "alive %",
        "R²",
        "depth",
        "seeds",
        "ce_loss_score",
        "final loss",
    ]);
    if analysis.grid.budgets().len() < 2 {
        return table;
    }
    for depth in analysis.grid.depths() {
        for k in analysis.grid.ks() {
            for budget_of in analysis.grid.budgets() {
                for model in analysis.grid.models() {
                    let Some(cell) = analysis.cell(&model, &depth, budget_of, k) else { continue };
                    let ce_rec = analysis.score(cell, on_all("ce_rec"));
                    table.row([
                        model,
                        budget(budget_of),
                        k.to_string(),
                        scored(ce_rec),
                        score(ce_rec.value.map(loss_ratio)),
                        percent(analysis.column(cell, "alive_frac")),
                        scored(analysis.score(cell, on_all("r2"))),
                        depth.clone(),
                        cell.runs.len().to_string(),
                        scored(analysis.score(cell, on_all("ce_loss_score"))),
                        score(analysis.column(cell, "final_loss")),
                    ]);
                }
            }
        }
    }
    table
}

/// The gap by token budget, with its mismatch rate over seeds.
pub fn phase2(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "tokens",
        "seeds",
        "ΔCE",
        "95% CI",
        "ΔR²",
        "mismatch rate",
        "k",
        "depth",
        "models",
        "ΔR²/ΔCE",
        "ΔR² 95% CI",
        "ΔR² − ΔCE",
    ]);
    if analysis.grid.budgets().len() < 2 && analysis.grid.seeds().len() < 2 {
        return table;
    }
    let mut found = gaps(analysis);
    let depths = analysis.grid.depths();
    found.sort_by_key(|g| (depths.iter().position(|d| *d == g.to.depth), g.to.k, g.to.budget));
    let ends =
        |score: Score| score.interval.map_or_else(|| NONE.to_owned(), |i| format!("[{:+.3}, {:+.3}]", i.low, i.high));
    for gap in found {
        let plain = |s: Score| crate::markdown::signed(s.value);
        table.row([
            budget(gap.to.budget),
            gap.mismatches.1.to_string(),
            plain(gap.ce_rec),
            ends(gap.ce_rec),
            plain(gap.r2),
            gap.mismatch_rate().map_or_else(|| NONE.to_owned(), |r| format!("{:.0}%", 100.0 * r)),
            gap.to.k.to_string(),
            gap.to.depth.clone(),
            format!("{} − {}", gap.to.model, gap.from.model),
            score(gap.ratio.value),
            ends(gap.r2),
            signed(gap.residual),
        ]);
    }
    table
}

/// Over seeds: mean, t interval and the two-level bootstrap, side by side.
pub fn seeds(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "k",
        "tokens",
        "seeds",
        "CE_rec, t interval over seeds",
        "CE_rec, two-level bootstrap",
        "R², t interval over seeds",
        "R², two-level bootstrap",
    ]);
    for cell in analysis.cells.iter().filter(|c| c.runs.len() > 1) {
        let over_seeds = |score: Score| scored(Score { interval: score.over_seeds, ..score });
        let (ce_rec, r2) = (analysis.score(cell, on_all("ce_rec")), analysis.score(cell, on_all("r2")));
        table.row([
            cell.model.clone(),
            cell.depth.clone(),
            cell.k.to_string(),
            budget(cell.budget),
            cell.runs.len().to_string(),
            over_seeds(ce_rec),
            scored(ce_rec),
            over_seeds(r2),
            scored(r2),
        ]);
    }
    table
}
