//! What it takes to keep behaviour, and how sure its measurement is.

use assay_probes::stats::{Between, Interval, KStar};

use super::{budget, excludes, percent, scored, yes_no};
use crate::analysis::{Analysis, Threshold, k_star_ratio, overlaps, ratio_of_k_star, sequence_spread, thresholds};
use crate::markdown::{NONE, Table, score};

/// k*(t) of each model, of pooled CE_rec in ln k, and the ratio of the last to the first with its paired interval. Targets that no model
/// reaches are left out.
pub fn k_star(analysis: &Analysis<'_>) -> Table {
    k_stars(analysis, Between::Log, |first, last| {
        let log = ratio_of_k_star(analysis, first, last);
        [scored(log.map(f64::exp)), excludes(log.excludes_zero())]
    })
}

/// The same by the reference texts' own rule: CE_rec per sequence, straight in k, no interval of the ratio.
pub fn k_star_reference(analysis: &Analysis<'_>) -> Table {
    k_stars(analysis, Between::Linear, |first, last| [score(k_star_ratio(first, last)), NONE.to_owned()])
}

fn k_stars(analysis: &Analysis<'_>, between: Between, ratio: impl Fn(&Threshold, &Threshold) -> [String; 2]) -> Table {
    let models = analysis.grid.models();
    let several = models.len() > 1;
    let mut head = vec!["depth".to_owned(), "target t".to_owned()];
    let classes = analysis.names.classes();
    head.extend(classes.map(str::to_owned));
    head.extend(models.iter().map(|m| format!("k*({m})")));
    if several {
        head.extend(["ratio".to_owned(), "excludes 1".to_owned()]);
    }
    head.push("tokens".to_owned());
    let mut table = Table::new(head);
    let found = thresholds(analysis, between);
    let of_row = |t: &Threshold| (t.site.clone(), t.budget, t.class.clone(), t.target);
    for rows in found.chunk_by(|a, b| of_row(a) == of_row(b)) {
        let of = |model: &String| rows.iter().find(|t| t.model == *model);
        if rows.iter().all(|t| t.k_star.is_none_or(|k| k == KStar::Never)) {
            continue;
        }
        let mut row = vec![analysis.names.site(&rows[0].site), format!("{:.2}", rows[0].target)];
        row.extend(classes.map(|_| analysis.names.class(&rows[0].class)));
        row.extend(models.iter().map(|m| of(m).map_or_else(|| NONE.to_owned(), shown)));
        if several {
            let ends = of(&models[0]).zip(models.last().and_then(of));
            row.extend(ends.map_or_else(|| [NONE, NONE].map(str::to_owned), |(first, last)| ratio(first, last)));
        }
        row.push(budget(rows[0].budget));
        table.row(row);
    }
    table
}

fn shown(threshold: &Threshold) -> String {
    let Some(k_star) = threshold.k_star else { return NONE.to_owned() };
    let end = |value: f64| KStar::from_f64(value, threshold.smallest);
    match threshold.score.interval {
        Some(Interval { low, high }) => format!("{k_star} [{}, {}]", end(low), end(high)),
        None => k_star.to_string(),
    }
}

/// Whose intervals of CE_rec overlap, and the effect size.
pub fn overlap(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "models",
        "depth",
        "k",
        "tokens",
        "CIs overlap",
        "paired difference excludes 0",
        "Cohen's d (unpaired)",
        "d_z (paired)",
    ]);
    for found in overlaps(analysis) {
        table.row([
            format!("{} vs {}", found.from.model, found.to.model),
            analysis.site(found.to),
            analysis.setting(found.to),
            budget(found.to.budget),
            yes_no(found.overlap),
            excludes(found.difference_excludes_zero),
            score(found.cohen_d),
            score(found.cohen_d_z),
        ]);
    }
    table
}

/// How far CE_rec differs from sequence to sequence.
pub fn spread(analysis: &Analysis<'_>) -> Table {
    let mut table =
        Table::new(["model", "depth", "k", "tokens", "SD of CE_rec over sequences", "SD of CE_rec over seeds"]);
    for found in sequence_spread(analysis) {
        let seeds: Option<Vec<f64>> = analysis.runs(found.cell).map(|r| r.value("ce_rec")).collect();
        table.row([
            found.cell.model.clone(),
            analysis.site(found.cell),
            analysis.setting(found.cell),
            budget(found.cell.budget),
            score(found.sd),
            score(seeds.and_then(|s| assay_probes::stats::sample_sd(&s))),
        ]);
    }
    table
}

/// Alive latents by site, setting and model.
pub fn alive(analysis: &Analysis<'_>) -> Table {
    let models = analysis.grid.models();
    let mut table = Table::new(
        ["depth", "k", "tokens"].map(str::to_owned).into_iter().chain(models.iter().map(|m| format!("alive % ({m})"))),
    );
    for site in analysis.grid.sites() {
        for budget_of in analysis.grid.budgets() {
            for setting in analysis.grid.settings() {
                let of = |model: &String| {
                    let cell = analysis.cell(model, &site, budget_of, &setting)?;
                    analysis.column(cell, "alive_frac")
                };
                let mut row = vec![analysis.names.site(&site), analysis.names.setting(&setting), budget(budget_of)];
                row.extend(models.iter().map(|m| percent(of(m))));
                table.row(row);
            }
        }
    }
    table
}
