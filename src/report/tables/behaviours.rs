//! Behaviour measured in several ways beside R², and in one unit.

use assay_probes::stats::Excludes;

use super::{budget, pair, signed};
use crate::analysis::{
    Analysis, BEHAVIOURS, BehaviourGap, Cell, Gap, Given, SAME_TRAINING, Turned, behaviour, gap, gaps, models_at_equal,
    pairs, r2,
};
use crate::markdown::{NONE, Table};

/// The differences of every behaviour metric; those of the opposite sign to ΔR² are marked.
pub fn behaviours(analysis: &Analysis<'_>) -> Table {
    let head = ["models", "depth", "k", "tokens", "ΔR²"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(BEHAVIOURS.iter().map(|b| format!("Δ {}", b.name))));
    for gap in gaps(analysis) {
        let mut row = vec![
            pair(gap.from, gap.to),
            analysis.site(gap.to),
            analysis.setting(gap.to),
            budget(gap.to.budget),
            signed(gap.r2),
        ];
        row.extend(gap.behaviours.iter().map(marked));
        table.row(row);
    }
    table
}

fn marked(found: &BehaviourGap) -> String {
    let shown = signed(found.difference);
    match found.mismatches {
        (0, _) => shown,
        (1, 1) => format!("{shown}, opposite"),
        (opposite, seeds) => format!("{shown}, opposite in {opposite} of {seeds}"),
    }
}

/// How often each metric contradicts R², and how certainly.
pub fn signs(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "behaviour metric",
        "pairs (k, seed, …) of opposite sign to ΔR²",
        "conditions of opposite sign",
        "of these both intervals exclude 0",
        "same sign and both exclude 0",
    ]);
    let found = gaps(analysis);
    if found.is_empty() {
        return table;
    }
    for (at, metric) in BEHAVIOURS.iter().enumerate() {
        let (mut opposite, mut pairs) = (0, 0);
        let (mut conditions, mut certain, mut agree) = (0, 0, 0);
        for gap in &found {
            let of = &gap.behaviours[at];
            opposite += of.mismatches.0;
            pairs += of.mismatches.1;
            let (sure, differ) = (both_exclude_zero(gap, of), have_opposite_signs(gap, of));
            conditions += usize::from(differ);
            certain += usize::from(differ && sure);
            agree += usize::from(!differ && sure);
        }
        let all = found.len();
        table.row([
            metric.name.to_owned(),
            format!("{opposite} of {pairs}"),
            format!("{conditions} of {all}"),
            certain.to_string(),
            agree.to_string(),
        ]);
    }
    table
}

fn both_exclude_zero(gap: &Gap<'_>, of: &BehaviourGap) -> bool {
    let excludes = gap.r2.excludes_zero().zip(of.difference.excludes_zero());
    excludes.is_some_and(|(a, b)| a.and(b) == Excludes::Yes)
}

fn have_opposite_signs(gap: &Gap<'_>, of: &BehaviourGap) -> bool {
    gap.r2.value.zip(of.difference.value).is_some_and(|(r2, behaves)| r2 * behaves < 0.0)
}

/// Behaviour at equal R², and R² at equal behaviour.
pub fn equal(analysis: &Analysis<'_>) -> Table {
    let head = ["models", "depth", "k of the later model", "tokens"].map(str::to_owned);
    let at_r2 = BEHAVIOURS.iter().map(|b| format!("Δ {} at equal R²", b.name));
    let mut table = Table::new(head.into_iter().chain(at_r2).chain(["ΔR² at equal CE_rec (pooled)".to_owned()]));
    for (from, to) in pairs(analysis) {
        let mut row = vec![pair(from, to), analysis.site(to), analysis.setting(to), budget(to.budget)];
        let shown = |turned: Turned, given| {
            models_at_equal(analysis, &from.model, to, turned, given).map_or_else(|| NONE.to_owned(), signed)
        };
        row.extend(BEHAVIOURS.iter().map(|metric| shown(metric.turned(), Given::R2)));
        row.push(shown(r2(), Given::Behaviour(behaviour("ce_rec_pooled"))));
        if row[4..].iter().any(|cell| cell != NONE) {
            table.row(row);
        }
    }
    table
}

/// The differences between SAEs that had as many tokens per latent, at different budgets.
pub fn equal_training(analysis: &Analysis<'_>) -> Table {
    let head = ["models", "depth", "k", "tokens, earlier model", "tokens, later model", "ΔR²"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(BEHAVIOURS.iter().map(|b| format!("Δ {}", b.name))));
    for (earlier, later) in analysis.model_pairs() {
        for from in analysis.cells.iter().filter(|c| c.model == earlier) {
            let partner = |to: &&Cell| {
                let same =
                    to.model == later && to.site == from.site && to.setting == from.setting && to.budget != from.budget;
                let trained = analysis.tokens_per_latent(from).zip(analysis.tokens_per_latent(to));
                same && trained.is_some_and(|(a, b)| (a / b - 1.0).abs() < SAME_TRAINING)
            };
            let Some(to) = analysis.cells.iter().find(partner) else { continue };
            let gap = gap(analysis, from, to);
            let mut row = vec![
                pair(from, to),
                analysis.site(to),
                analysis.setting(to),
                budget(from.budget),
                budget(to.budget),
                signed(gap.r2),
            ];
            row.extend(gap.behaviours.iter().map(marked));
            table.row(row);
        }
    }
    table
}
