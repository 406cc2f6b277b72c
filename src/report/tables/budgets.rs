//! What training longer changes, and what another seed does.

use assay_probes::stats::clopper_pearson;

use super::{budget, pair, percent, scored, signed, sort_by_axes};
use crate::analysis::{Analysis, Gap, Score, gaps, loss_ratio, on_all};
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
    for site in analysis.grid.sites() {
        for setting in analysis.grid.settings() {
            for budget_of in analysis.grid.budgets() {
                for model in analysis.grid.models() {
                    let Some(cell) = analysis.cell(&model, &site, budget_of, &setting) else { continue };
                    let ce_rec = analysis.score(cell, on_all("ce_rec"));
                    table.row([
                        model,
                        budget(budget_of),
                        analysis.setting(cell),
                        scored(ce_rec),
                        score(ce_rec.value.map(loss_ratio)),
                        percent(analysis.column(cell, "alive_frac")),
                        scored(analysis.score(cell, on_all("r2"))),
                        analysis.site(cell),
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
        "ΔCE (pooled)",
    ]);
    if analysis.grid.budgets().len() < 2 && analysis.grid.seeds().len() < 2 {
        return table;
    }
    let mut found = gaps(analysis);
    sort_by_axes(analysis, &mut found, |gap| gap.to);
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
            mismatch_rate(&gap),
            analysis.setting(gap.to),
            analysis.site(gap.to),
            pair(gap.from, gap.to),
            score(gap.ratio.value),
            ends(gap.r2),
            signed(gap.behaviours[0].difference),
        ]);
    }
    table
}

/// `25% [1%, 81%]`, with the exact interval over seeds.
fn mismatch_rate(gap: &Gap<'_>) -> String {
    let Some(rate) = gap.mismatch_rate() else { return NONE.to_owned() };
    let (opposite, seeds) = gap.mismatches;
    let interval = clopper_pearson(opposite, seeds, 0.95).filter(|_| seeds > 1);
    let ends = interval.map(|i| format!(" [{:.0}%, {:.0}%]", 100.0 * i.low, 100.0 * i.high));
    format!("{:.0}%{}", 100.0 * rate, ends.unwrap_or_default())
}

/// Over seeds: three intervals side by side.
pub fn seeds(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "k",
        "tokens",
        "seeds",
        "CE_rec (pooled), seeds and sequences",
        "its t interval over seeds alone",
        "its two-level bootstrap",
        "R², seeds and sequences",
        "its t interval over seeds alone",
        "its two-level bootstrap",
    ]);
    for cell in analysis.cells.iter().filter(|c| c.runs.len() > 1) {
        let mut row = vec![
            cell.model.clone(),
            analysis.site(cell),
            analysis.setting(cell),
            budget(cell.budget),
            cell.runs.len().to_string(),
        ];
        for name in ["ce_rec_pooled", "r2"] {
            let score = analysis.score(cell, on_all(name));
            row.extend(
                [score.interval, score.over_seeds, score.bootstrap].map(|interval| scored(Score { interval, ..score })),
            );
        }
        table.row(row);
    }
    table
}
