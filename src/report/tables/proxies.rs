//! Which cheap number stands for behaviour, and what a code costs.

use assay_probes::stats::Estimate;

use super::{budget, correlation, scored};
use crate::analysis::{self, Analysis, BEHAVIOURS, JUDGES, PROXIES, agreements, behaviour, on_all, reciprocals};
use crate::frames::Site;
use crate::markdown::{NONE, Table, number, p_value, score};

/// R² and CE_rec, correlated over the grid.
pub fn correlations(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "depth",
        "corr pooling k and scale",
        "corr within fixed k (scale-only)",
        "tokens",
        "rows",
        "Spearman, pooled",
    ]);
    if analysis.grid.models().len() < 2 {
        return table;
    }
    for found in agreements(analysis) {
        table.row([
            analysis.names.site(&found.site),
            correlation(found.pooled),
            correlation(found.within_k),
            budget(found.budget),
            found.rows.to_string(),
            correlation(found.pooled_ranks),
        ]);
    }
    table
}

/// Budgets and sites to compare proxies at: each site, and all of them together where there are several; none with one model and one seed,
/// where nothing varies within a depth and k.
fn scopes(analysis: &Analysis<'_>) -> Vec<(u64, Option<Site>)> {
    if analysis.grid.models().len() < 2 && analysis.grid.seeds().len() < 2 {
        return Vec::new();
    }
    let sites = analysis.grid.sites();
    let several = sites.len() > 1;
    let sites: Vec<Option<Site>> = sites.into_iter().map(Some).chain(several.then_some(None)).collect();
    let of_budget = |b: u64| sites.iter().map(move |site| (b, site.clone()));
    analysis.grid.budgets().into_iter().flat_map(of_budget).collect()
}

/// How often each proxy names the better of two classes' SAEs at equal L0, at each token budget.
pub fn choices(analysis: &Analysis<'_>) -> Table {
    let mut head = vec!["proxy".to_owned(), "tokens".to_owned(), "comparisons".to_owned()];
    for judge in JUDGES {
        let name = behaviour(judge).name;
        head.push(format!("decided by {name}"));
        head.extend(["same", "opposite", "undecided"].map(|what| format!("{what}, of those decided by {name}")));
    }
    let mut table = Table::new(head);
    for budget_of in analysis.grid.budgets() {
        let (found, compared) = analysis::choices(analysis, budget_of);
        for choices in found {
            let counts = choices.by.iter().flat_map(|by| [by.decided(), by.right, by.wrong, by.open]);
            let counts = counts.map(|n| n.to_string());
            let first = [choices.proxy.name.to_owned(), budget(budget_of), compared.to_string()];
            table.row(first.into_iter().chain(counts));
        }
    }
    table
}

/// Proxies ranked by how well they go with the pooled CE_rec within fixed site and setting.
pub fn leaderboard(analysis: &Analysis<'_>) -> Table {
    let ranked = analysis.grid.models().len() > 2;
    let head =
        ["depth", "rank", "proxy", "Pearson within fixed k", "minus that of R²", "swap test p", "Pearson pooled"];
    let mut table = Table::new(
        head.into_iter()
            .chain(["Spearman pooled"])
            .chain(ranked.then_some("Spearman within fixed k"))
            .chain(["tokens"]),
    );
    for (budget_of, scope) in scopes(analysis) {
        let (ranks, _) = analysis::leaderboard(analysis, scope.as_ref(), budget_of, behaviour("ce_rec_pooled"));
        for (at, rank) in ranks.into_iter().enumerate() {
            let mut row = vec![
                analysis.names.scope(scope.as_ref()),
                (at + 1).to_string(),
                rank.proxy.name.to_owned(),
                correlation(rank.pearson_within),
                rank.advantage.map_or_else(String::new, correlation),
                rank.p.map_or_else(String::new, p_value),
                correlation(rank.pearson),
                correlation(rank.spearman),
            ];
            row.extend(rank.spearman_within.map(correlation));
            row.push(budget(budget_of));
            table.row(row);
        }
    }
    table
}

/// The same against every behaviour metric: which proxy is best depends on it.
pub fn leaderboard_by_behaviour(analysis: &Analysis<'_>) -> Table {
    let head = ["depth", "tokens", "proxy"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(BEHAVIOURS.iter().map(|b| b.name.to_owned())));
    for (budget_of, scope) in scopes(analysis) {
        let found = BEHAVIOURS.each_ref().map(|b| analysis::within_fixed_k(analysis, scope.as_ref(), budget_of, b));
        for (at, proxy) in PROXIES.iter().enumerate() {
            let mut row = vec![analysis.names.scope(scope.as_ref()), budget(budget_of), proxy.name.to_owned()];
            let shown = |of: &Vec<Option<Estimate>>| of[at].map_or_else(|| NONE.to_owned(), correlation);
            row.extend(found.iter().map(shown));
            if found.iter().any(|of| of[at].is_some()) {
                table.row(row);
            }
        }
    }
    table
}

/// The reference texts' own leaderboard: distortions as 1/x, CE_rec per sequence.
pub fn leaderboard_reference(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "depth",
        "proxy",
        "Pearson with CE_rec",
        "Spearman with CE_rec",
        "Pearson within fixed k",
        "tokens",
    ]);
    for (budget_of, scope) in scopes(analysis) {
        for found in reciprocals(analysis, scope.as_ref(), budget_of) {
            table.row([
                analysis.names.scope(scope.as_ref()),
                found.name.to_owned(),
                correlation(found.pearson),
                correlation(found.spearman),
                correlation(found.pearson_within),
                budget(budget_of),
            ]);
        }
    }
    table
}

/// What a proxy says that another does not.
pub fn beyond_swd(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new(["depth", "proxy", "given", "partial rank correlation with CE_rec (pooled)", "tokens"]);
    for (budget_of, scope) in scopes(analysis) {
        let found = analysis::beyond_swd(analysis, scope.as_ref(), budget_of, behaviour("ce_rec_pooled"));
        for (proxy, given, found) in found.into_iter().filter(|(.., found)| found.value.is_some()) {
            table.row([
                analysis.names.scope(scope.as_ref()),
                proxy.to_owned(),
                given.to_owned(),
                correlation(found),
                budget(budget_of),
            ]);
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
        let increase = analysis.score(cell, behaviour("ce_increase").quantity());
        table.row([
            cell.model.clone(),
            analysis.site(cell),
            analysis.setting(cell),
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

/// Bits per token against four distortions.
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
            analysis.site(cell),
            analysis.setting(cell),
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
