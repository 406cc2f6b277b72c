//! Which cheap number stands for behaviour, and what a code costs.

use super::{budget, correlation, scored};
use crate::analysis::{self, Analysis, agreements, on_all};
use crate::markdown::{Table, number, score};

/// R² and CE_rec, correlated over the grid.
pub fn correlations(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "depth",
        "corr pooling k and scale",
        "corr within fixed k (scale-only)",
        "tokens",
        "rows",
        "Spearman, pooled",
        "Spearman within fixed k",
    ]);
    for found in agreements(analysis) {
        table.row([
            found.depth,
            correlation(found.pooled),
            correlation(found.within_k),
            budget(found.budget),
            found.rows.to_string(),
            correlation(found.pooled_ranks),
            correlation(found.within_k_ranks),
        ]);
    }
    table
}

/// Depths to compare proxies at: each, and all of them together where there are several.
fn scopes(analysis: &Analysis<'_>) -> Vec<Option<String>> {
    let depths = analysis.grid.depths();
    let several = depths.len() > 1;
    depths.into_iter().map(Some).chain(several.then_some(None)).collect()
}

fn scope_name(scope: Option<&String>) -> String {
    scope.map_or("all depths", String::as_str).to_owned()
}

/// Proxies ranked by how well they order SAEs as CE_rec does.
pub fn leaderboard(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "depth",
        "rank",
        "proxy",
        "Pearson with CE_rec",
        "Spearman with CE_rec",
        "Pearson within fixed k",
        "Spearman within fixed k",
        "Spearman minus that of R²",
        "the same within fixed k",
        "tokens",
    ]);
    for budget_of in analysis.grid.budgets() {
        for scope in scopes(analysis) {
            let ranks = analysis::leaderboard(analysis, scope.as_deref(), budget_of);
            for (at, rank) in ranks.into_iter().enumerate() {
                table.row([
                    scope_name(scope.as_ref()),
                    (at + 1).to_string(),
                    rank.name.to_owned(),
                    correlation(rank.pearson),
                    correlation(rank.spearman),
                    correlation(rank.pearson_within),
                    correlation(rank.spearman_within),
                    rank.advantage.map_or_else(String::new, correlation),
                    rank.advantage_within.map_or_else(String::new, correlation),
                    budget(budget_of),
                ]);
            }
        }
    }
    table
}

/// What a proxy says that another does not.
pub fn beyond_swd(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new(["depth", "proxy", "given", "partial rank correlation with CE_rec", "tokens"]);
    for budget_of in analysis.grid.budgets() {
        for scope in scopes(analysis) {
            for (proxy, given, found) in analysis::beyond_swd(analysis, scope.as_deref(), budget_of) {
                table.row([
                    scope_name(scope.as_ref()),
                    proxy.to_owned(),
                    given.to_owned(),
                    correlation(found),
                    budget(budget_of),
                ]);
            }
        }
    }
    table
}

/// First- and second-order predictions of what a reconstruction does to the output.
pub fn fisher(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "k",
        "tokens",
        "FWD",
        "SWD",
        "Fisher–Euclidean deviation",
        "predicted KL",
        "KL",
        "predicted ΔL (gᵀδ)",
        "ΔL",
    ]);
    for cell in &analysis.cells {
        let shown = |name: &str| scored(analysis.score(cell, on_all(name)));
        if analysis.column(cell, "fwd").is_none() {
            continue;
        }
        let increase =
            analysis.derived(&[(cell, on_all("ce_recon")), (cell, on_all("ce_orig"))], |v| Some(v[0] - v[1]));
        table.row([
            cell.model.clone(),
            cell.depth.clone(),
            cell.k.to_string(),
            budget(cell.budget),
            shown("fwd"),
            shown("swd"),
            shown("fisher_euclidean"),
            shown("kl_pred"),
            shown("kl"),
            shown("gdelta"),
            scored(increase),
        ]);
    }
    table
}

/// Bits a token against four distortions.
pub fn rate_distortion(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "k",
        "tokens",
        "bits/token",
        "1 − R²",
        "1 − CE_rec",
        "SWD",
        "FWD",
        "bits, Bernoulli bound",
    ]);
    for cell in &analysis.cells {
        let column = |name: &str| analysis.column(cell, name);
        table.row([
            cell.model.clone(),
            cell.depth.clone(),
            cell.k.to_string(),
            budget(cell.budget),
            number(column("bits_per_token")),
            score(column("r2").map(|v| 1.0 - v)),
            score(column("ce_rec").map(|v| 1.0 - v)),
            score(column("swd")),
            score(column("fwd")),
            number(column("bits_bernoulli")),
        ]);
    }
    table
}
