//! Is it the normalisation, a few directions or a few tokens?

use assay_probes::metrics::Subset;

use super::scale::layer;
use super::{budget, pair, scored, signed};
use crate::analysis::{Analysis, CONTROLS, Cell, explained, on, on_all, pairs};
use crate::frames::column_name;
use crate::markdown::{NONE, Table, number, score};

/// The cells of the sparsest setting at every site.
fn sparsest<'a>(analysis: &'a Analysis<'_>) -> impl Iterator<Item = &'a Cell> {
    let sparsest = analysis.sparsest();
    analysis.cells.iter().filter(move |c| sparsest.contains(&c.setting))
}

/// Errors beside the variance that R² divides them by.
pub fn sst_inflation(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "mse mean",
        "relative error norm",
        "R²",
        "SSE/token",
        "SST/token",
        "depth",
        "layer",
        "k",
        "tokens",
        "NMSE",
        "cosine",
    ]);
    // What it is about is that models differ.
    if analysis.grid.models().len() < 2 {
        return table;
    }
    for cell in sparsest(analysis) {
        let column = |name: &str| number(analysis.column(cell, name));
        table.row([
            cell.model.clone(),
            column("mse_mean"),
            score(analysis.column(cell, "rel_err")),
            score(analysis.column(cell, "r2")),
            column("sse_per_token"),
            column("sst_per_token"),
            analysis.site(cell),
            layer(analysis, cell),
            analysis.setting(cell),
            budget(cell.budget),
            score(analysis.column(cell, "nmse")),
            score(analysis.column(cell, "cosine")),
        ]);
    }
    table
}

/// R² beside the proxies that no variance is divided out of.
pub fn three_model_proxies(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "R²",
        "cosine sim",
        "relative error norm",
        "CE_rec",
        "depth",
        "k",
        "tokens",
        "R² without top direction",
        "ce_loss_score",
    ]);
    // What it is about is that models differ.
    if analysis.grid.models().len() < 2 {
        return table;
    }
    for cell in sparsest(analysis) {
        let shown = |name: &str| scored(analysis.score(cell, on_all(name)));
        table.row([
            cell.model.clone(),
            shown("r2"),
            shown("cosine"),
            shown("rel_err"),
            shown("ce_rec"),
            analysis.site(cell),
            analysis.setting(cell),
            budget(cell.budget),
            shown("r2_deflated_1"),
            shown("ce_loss_score"),
        ]);
    }
    table
}

/// ΔR² with directions or tokens taken away.
pub fn controls(analysis: &Analysis<'_>) -> Table {
    let head = ["models", "depth", "k", "tokens", "ΔCE_rec (pooled)"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(CONTROLS.iter().map(|c| format!("Δ {}", c.name))));
    for (from, to) in pairs(analysis) {
        let mut row = vec![
            pair(from, to),
            analysis.site(to),
            analysis.setting(to),
            budget(to.budget),
            signed(analysis.difference(from, to, on_all("ce_rec_pooled"))),
        ];
        row.extend(explained(analysis, from, to).into_iter().map(signed));
        table.row(row);
    }
    table
}

/// R² and L0 on the subsets of tokens.
pub fn subsets(analysis: &Analysis<'_>) -> Table {
    let mut head = ["model", "depth", "k", "tokens"].map(str::to_owned).to_vec();
    head.extend(Subset::ALL.map(|s| format!("R² {}", s.name())));
    head.extend(Subset::ALL.map(|s| format!("L0 {}", s.name())));
    head.push("tokens left without outliers".to_owned());
    let mut table = Table::new(head);
    for cell in &analysis.cells {
        let mut row = vec![cell.model.clone(), analysis.site(cell), analysis.setting(cell), budget(cell.budget)];
        for name in ["r2", "l0"] {
            row.extend(Subset::ALL.map(|subset| scored(analysis.score(cell, on(name, subset)))));
        }
        let left = analysis.column(cell, &column_name(Subset::NoOutlier, "tokens"));
        let share = left.zip(analysis.column(cell, "tokens")).map(|(some, all)| 100.0 * some / all);
        row.push(share.map_or_else(|| NONE.to_owned(), |s| format!("{s:.2}%")));
        table.row(row);
    }
    table
}
