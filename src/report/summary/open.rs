//! What a sweep leaves undecided, why, and what would decide it.

use assay_probes::stats::hypotheses::{CE_REC_MARGIN, Decision, HYPOTHESES, MIN_SEEDS};

use super::kinds_of_classes;
use crate::analysis::{Against, Analysis, Answer, Gap, LEAST, Precision, Strong, Tally, findings, gaps, precisions};
use crate::markdown::listed;
use crate::verdict::MIN_SEQUENCES;

/// What the decision rules of the hypotheses lack, whatever the numbers are; empty where they can decide.
fn lacking(analysis: &Analysis<'_>) -> Vec<String> {
    let seeds = analysis.cells.iter().map(|cell| cell.runs.len()).min().unwrap_or(0);
    let budgets = analysis.grid.budgets().len();
    let lacks = |needed: usize, has: usize, what: &str| {
        (has < needed).then(|| format!("at least {needed} {what} (it has {has})"))
    };
    [lacks(MIN_SEEDS, seeds, "training seeds"), lacks(2, budgets, "token budgets")].into_iter().flatten().collect()
}

/// One sentence instead of the hypotheses' table where no rule can decide anything; `None` where one may.
pub fn undecidable(analysis: &Analysis<'_>) -> Option<String> {
    let lacking = lacking(analysis);
    (!lacking.is_empty()).then(|| {
        format!(
            "This sweep cannot decide the hypotheses H0 to H3: their rules, fixed in advance, need {}.",
            listed(&lacking)
        )
    })
}

/// What is open, why, and what would decide it.
pub(super) fn undecided(analysis: &Analysis<'_>, strong: &[Strong<'_>]) -> String {
    let grid = analysis.grid;
    let mut out = Vec::new();
    if grid.budgets() != [0] {
        match grid.seeds().len() {
            1 => out.push(format!(
                "One training seed per SAE: how far another seed would move these numbers is unknown; train at least {MIN_SEEDS} (`seeds = [0, 1, 2]`)."
            )),
            seeds if seeds < MIN_SEEDS => out.push(format!(
                "{seeds} training seeds per SAE are too few to know how far seeds differ; train at least {MIN_SEEDS}."
            )),
            _ => {}
        }
    }
    let several = grid.models().len() > 1;
    if several && grid.budgets().len() < 2 && grid.budgets() != [0] {
        out.push(
            "One token budget: whether longer training would close the difference between the models cannot be seen (give two or more \
             `training_tokens`)."
                .to_owned(),
        );
    }
    if several && lacking(analysis).is_empty() {
        out.push(hypotheses(analysis));
    }
    out.extend(too_small(analysis));
    if several && !strong.iter().any(|s| matches!(s.answer, Answer::EqualR2 { .. })) {
        out.push("Whether the models differ at equal R² is open: no interval excludes 0, or their paths have no R² in common.".to_owned());
    }
    let (classes, kept) = (Tally::of_classes(analysis), Tally::of_kept(analysis));
    if classes.open() > 0 {
        out.push(format!(
            "{} of {} comparisons of two {} at equal L0 {} open: an interval of R² or CE_rec contains 0, or reaches across {LEAST}.",
            classes.open(),
            classes.of,
            kinds_of_classes(analysis),
            if classes.open() == 1 { "is" } else { "are" },
        ));
    }
    if kept.open() > 0 {
        out.push(format!(
            "In {} of {} conditions it is open whether R² tells what SAEs keep: the interval of their difference reaches beyond a limit.",
            kept.open(),
            kept.of
        ));
    }
    let few =
        analysis.cells.iter().filter(|cell| analysis.is_of_largest_budget(cell) && analysis.has_few_sequences(cell));
    match few.count() {
        0 => {}
        few => out.push(format!(
            "Whether R² tells what SAEs keep was not judged in {few} {} with fewer than {MIN_SEQUENCES} evaluation sequences.",
            if few == 1 { "condition" } else { "conditions" }
        )),
    }
    if out.is_empty() {
        out.push("Nothing that this report asks of the sweep was left open by its numbers.".to_owned());
    }
    out.extend(enough(analysis));
    out.join(" ")
}

/// `By rules fixed in advance, H0 is rejected in 1 of 4 and open in 3 of 4 (the difference may still be closing); …`
fn hypotheses(analysis: &Analysis<'_>) -> String {
    let found = findings(analysis);
    if found.is_empty() {
        return "No hypothesis can be tested: no two models have SAEs of one budget, depth and k.".to_owned();
    }
    let mut names: Vec<&str> = found.iter().map(|f| f.hypothesis.name).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &str| {
        let of_it: Vec<&Decision> = found.iter().filter(|f| f.hypothesis.name == name).map(|f| &f.verdict).collect();
        let count = |is: fn(&Decision) -> bool| of_it.iter().filter(|verdict| is(verdict)).count();
        let parts = [
            ("supported", count(|v| *v == Decision::Supported)),
            ("rejected", count(|v| *v == Decision::Rejected)),
            ("open", count(|v| !v.is_decided())),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .map(|(what, n)| format!("{what} in {n} of {}", of_it.len()))
            .collect();
        let why = of_it.iter().find_map(|verdict| match verdict {
            Decision::Undecided(reason) => Some(format!(", since {reason}")),
            _ => None,
        });
        // Of "Optimisation only: the difference …" what stands before the colon.
        let claim = HYPOTHESES.iter().find(|h| h.name == name).and_then(|h| h.claim.split(':').next());
        let claim = claim.map(|short| format!(" ({})", short.to_lowercase()));
        format!("{name}{} is {}{}", claim.unwrap_or_default(), listed(&parts), why.unwrap_or_default())
    };
    let all: Vec<String> = names.into_iter().map(of).collect();
    format!(
        "By rules fixed in advance, {} (the section \"Hypothesis tests\" has the claims and rules).",
        all.join("; ")
    )
}

/// Differences in CE_rec at equal k whose sign is open, and what the sweep could have found; `None` where all are decided.
fn too_small(analysis: &Analysis<'_>) -> Option<String> {
    let budget = analysis.largest_budget();
    let all: Vec<Gap<'_>> = gaps(analysis).into_iter().filter(|gap| gap.to.budget == budget).collect();
    let open = |gap: &&Gap<'_>| gap.behaviours[0].difference.interval.is_some_and(|i| !i.excludes_zero());
    let open: Vec<&Gap<'_>> = all.iter().filter(open).collect();
    let detectable: Vec<f64> =
        open.iter().filter_map(|gap| gap.behaviours[0].difference.smallest_difference()).collect();
    let (smallest, largest) =
        (detectable.iter().copied().reduce(f64::min)?, detectable.iter().copied().reduce(f64::max)?);
    Some(format!(
        "The sign of ΔCE_rec at equal k is open in {} of {} conditions; true differences smaller than {smallest:.3} to {largest:.3}, by condition, could \
         not have been found there with 80 % power.",
        open.len(),
        all.len(),
    ))
}

/// Whether the evaluation sequences suffice to call two SAEs equally good, and where seeds stand in the way; `None` where nothing is compared.
fn enough(analysis: &Analysis<'_>) -> Option<String> {
    let all: Vec<Precision<'_>> =
        precisions(analysis).into_iter().filter(|of| analysis.is_of_largest_budget(of.cell)).collect();
    let used = all.iter().map(|of| of.sequences).min()?;
    let needed: Vec<u64> = all.iter().filter_map(Precision::needed).collect();
    let (least, most) = (*needed.iter().min()?, *needed.iter().max()?);
    let suffice = needed.iter().filter(|&&n| n <= used as u64).count();
    let beyond = |of: &&Precision<'_>| of.difference.smallest_margin_of_seeds().is_some_and(|m| m > CE_REC_MARGIN);
    let seeds = match all.iter().filter(beyond).count() {
        0 => String::new(),
        count => {
            format!(
                " In {count} of the {} the training seeds alone differ too much: there it takes more seeds as well.",
                all.len()
            )
        }
    };
    // More than are counted elsewhere, where L0 has to be equal.
    let at_k = all.iter().filter(|of| matches!(of.against, Against::ClassAtK(_))).count();
    let also = if at_k > 0 { format!(", {at_k} of them at equal k because no L0 is equal") } else { String::new() };
    let takes = if least == most { format!("{least}") } else { format!("{least} to {most}") };
    Some(format!(
        "To show with 80 % power that two equally good SAEs are so, to within ±{CE_REC_MARGIN} of CE_rec, takes {takes} evaluation sequences, by the comparison; \
         {used} were used, enough as far as sequences go in {suffice} of {} comparisons{also}.{seeds} The table [`sequences-needed`](tables/sequences-needed.md) has each of them.",
        needed.len(),
    ))
}
