//! How sure differences are: seeds, sequences, power, and what a larger budget changes.

use assay_probes::stats::Components;
use assay_probes::stats::hypotheses::CE_REC_MARGIN;

use super::{budget, excludes, pair, percent, signed, sort_by_axes};
use crate::analysis::{self, Against, Analysis, Score, behaviour, gaps, pairs, precisions, seed_components, trends};
use crate::frames::Class;
use crate::markdown::{NONE, signed as with_sign};
use crate::markdown::{Table, score};

/// The difference of pooled CE_rec by token budget, what each increase changed, and what the data could have shown.
pub fn trend(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "models",
        "depth",
        "k",
        "tokens",
        "seeds",
        "ΔCE_rec (pooled)",
        "90 % interval",
        "change since the budget before",
        "its 90 % interval",
        "change excludes 0",
        "smallest margin, at best",
        "smallest margin, 80 % power",
    ]);
    if analysis.grid.budgets().len() < 2 {
        return table;
    }
    let mut found = trends(analysis, behaviour("ce_rec_pooled"));
    sort_by_axes(analysis, &mut found, |trend| trend.to);
    let equivalence = |score: &Score| {
        score.at_level(0.90).map_or_else(|| NONE.to_owned(), |i| format!("[{:+.3}, {:+.3}]", i.low, i.high))
    };
    for trend in found {
        let change = trend.change;
        table.row([
            pair(trend.from, trend.to),
            analysis.site(trend.to),
            analysis.setting(trend.to),
            budget(trend.to.budget),
            analysis.common_seeds(trend.from, trend.to).to_string(),
            signed(trend.difference),
            equivalence(&trend.difference),
            change.map_or_else(|| NONE.to_owned(), signed),
            change.as_ref().map_or_else(|| NONE.to_owned(), equivalence),
            excludes(change.and_then(|c| c.excludes_zero())),
            score(trend.difference.smallest_margin_at_best()),
            score(trend.difference.smallest_margin()),
        ]);
    }
    table
}

/// What each comparison could have shown, and how many evaluation sequences it takes to call two SAEs equally good.
pub fn sequences_needed(analysis: &Analysis<'_>) -> Table {
    let needed = format!("sequences needed for ±{CE_REC_MARGIN}");
    let mut table = Table::new([
        "difference",
        "model",
        "depth",
        "k",
        "tokens",
        "at equal",
        "seeds",
        "sequences used",
        "ΔCE_rec (pooled)",
        "smallest difference found, 80 % power",
        "smallest margin, 80 % power",
        needed.as_str(),
        "smallest margin of the seeds alone",
    ]);
    let mut found = precisions(analysis);
    sort_by_axes(analysis, &mut found, |of| of.cell);
    for of in found {
        let classes = |class: &Class| {
            let names = [&of.cell.setting.class(), class].map(|class| analysis.names.class(class));
            (names.join(" − "), of.cell.model.clone())
        };
        let ((difference, model), equal) = match &of.against {
            Against::Model(from) => ((pair(from, of.cell), NONE.to_owned()), "k"),
            Against::ClassAtL0(class) => (classes(class), "L0"),
            Against::ClassAtK(class) => (classes(class), "k"),
        };
        table.row([
            difference,
            model,
            analysis.site(of.cell),
            analysis.setting(of.cell),
            budget(of.cell.budget),
            equal.to_owned(),
            of.cell.runs.len().to_string(),
            of.sequences.to_string(),
            signed(of.difference),
            score(of.difference.smallest_difference()),
            score(of.difference.smallest_margin()),
            of.needed().map_or_else(|| NONE.to_owned(), |n| n.to_string()),
            score(of.difference.smallest_margin_of_seeds()),
        ]);
    }
    table
}

/// Where the uncertainty of ΔCE_rec comes from, and what more of either would bring.
pub fn power(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "models",
        "depth",
        "k",
        "tokens",
        "SD over seeds",
        "SD over sequences",
        "SD of seed × sequence",
        "seeds",
        "sequences",
        "standard error of ΔCE_rec (per sequence)",
        "smallest difference found, 80 % power",
        "standard error with twice the seeds",
        "with 4 × the sequences",
    ]);
    for (from, to) in pairs(analysis) {
        let difference = analysis.difference(from, to, behaviour("ce_rec").quantity());
        let components = seed_components(analysis, from, to);
        let (seeds, sequences) =
            (analysis.common_seeds(from, to), analysis.runs(to).map(|r| r.sequences.len()).min().unwrap_or(0));
        let sd = |of: fn(&Components) -> f64| score(components.as_ref().map(|c| of(c).sqrt()));
        let error = |seeds, sequences| score(components.map(|c| c.standard_error(seeds, sequences)));
        table.row([
            pair(from, to),
            analysis.site(to),
            analysis.setting(to),
            budget(to.budget),
            sd(|c| c.seed),
            sd(|c| c.sequence),
            sd(|c| c.interaction),
            seeds.to_string(),
            sequences.to_string(),
            score(difference.error.map(|e| e.value)),
            score(difference.smallest_difference()),
            error(2 * seeds, sequences),
            error(seeds, 4 * sequences),
        ]);
    }
    table
}

/// How much of ΔCE_rec hangs on a few sequences, pooled and per sequence.
pub fn influence(analysis: &Analysis<'_>) -> Table {
    let mut head = ["models", "depth", "k", "tokens"].map(str::to_owned).to_vec();
    for name in ["pooled", "per sequence"] {
        head.extend([
            format!("ΔCE_rec ({name})"),
            "without the most influential sequence".to_owned(),
            "without the three".to_owned(),
            "carried by the top tenth".to_owned(),
        ]);
    }
    let mut table = Table::new(head);
    for gap in gaps(analysis) {
        let mut row =
            vec![pair(gap.from, gap.to), analysis.site(gap.to), analysis.setting(gap.to), budget(gap.to.budget)];
        for name in ["ce_rec_pooled", "ce_rec"] {
            let found = analysis::influence(analysis, gap.from, gap.to, behaviour(name));
            row.extend(match found {
                Some(i) => [
                    with_sign(Some(i.difference)),
                    format!("{} (number {})", with_sign(Some(i.without_one)), i.sequence),
                    with_sign(Some(i.without_three)),
                    percent(Some(i.top_tenth)),
                ],
                None => [const { String::new() }; 4].map(|_| NONE.to_owned()),
            });
        }
        table.row(row);
    }
    table
}
