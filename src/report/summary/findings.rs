//! Findings as sentences.

use assay_probes::metrics::Subset;

use super::{by, kinds_of_classes, place, plain, signed, way};
use crate::analysis::{Analysis, Answer, Cell, Contrary, Contrast, Gap, LEAST, Score, Strong, Tally};
use crate::markdown::{code, listed, percent, signed_with_interval, tokens_text, with_interval};
use crate::verdict::{AGREE, DIFFER, GAP};

/// A finding as sentences.
pub(super) fn finding(analysis: &Analysis<'_>, strong: &Strong<'_>) -> String {
    match &strong.answer {
        Answer::Models { gap, tally, contrary } => models(analysis, gap, *tally, contrary),
        Answer::EqualR2 { cell, earlier, difference, tally } => {
            let sign = if difference.value.is_some_and(|v| v > 0.0) { 1 } else { -1 };
            let ways = [("higher", tally.above, 1), ("lower", tally.below, -1)];
            let mut ways: Vec<_> = ways.into_iter().filter(|(_, count, _)| *count > 0).collect();
            ways.sort_by_key(|(.., way)| -sign * way);
            let ways: Vec<String> =
                ways.into_iter().map(|(what, count, _)| format!("{what} {}", in_conditions(count, tally.of))).collect();
            format!(
                "At equal R², CE_rec of SAEs of {} is, compared with that of {}, {} (the interval of the difference excludes 0). The clearest: at {}, the \
                 difference is {}.",
                code(&cell.model),
                code(earlier),
                listed(&ways),
                place(analysis, cell),
                signed(difference),
            )
        }
        Answer::Classes { contrast, tally } => classes(analysis, contrast, *tally),
        Answer::Kept { cell, r2, kept, difference, tally, idle } => format!(
            "{} This compares R² with the loss score under mean ablation, which like R² is 0 for the mean activation and 1 for a perfect reconstruction: a difference within ±{AGREE} is \
             agreement, one beyond ±{DIFFER} is not. The clearest {}: at {} of {}, R² is {} and the loss score {}{}.{}",
            kept_by(*tally),
            match difference.value {
                Some(value) if value > DIFFER => "overstatement",
                Some(value) if value < -DIFFER => "understatement",
                _ => "agreement",
            },
            place(analysis, cell),
            code(&cell.model),
            plain(r2),
            plain(kept),
            match analysis.column(cell, "alive_frac") {
                Some(alive) => format!("; {} of its latents are alive", percent(Some(alive))),
                None => String::new(),
            },
            match idle {
                0 => String::new(),
                idle => format!(
                    " In {idle} of the conditions that came out like this one fewer than half of the latents are alive."
                ),
            },
        ),
        Answer::FewTokens { cell, subset, all, without, tallies } => {
            few_tokens(analysis, cell, *subset, [*all, *without], tallies)
        }
        Answer::Proxy { rank, r2, tally } => {
            let advantage = rank.advantage.unwrap_or(*r2);
            let better = advantage.value.is_some_and(|v| v > 0.0);
            format!(
                "{}, {} follows CE_rec {} closely than R² does: Pearson's correlation with CE_rec is {} against {}, a difference of {}. Of the {} \
                 metrics that were compared with R², {} closer to CE_rec and {} farther from it, after Holm's correction for their number.",
                match analysis.grid.models().len() {
                    1 => "Among SAEs that differ in nothing but their seed",
                    _ => "Among SAEs of one depth and k",
                },
                rank.proxy.explained(),
                if better { "more" } else { "less" },
                with_interval(rank.pearson_within.value, rank.pearson_within.interval),
                with_interval(r2.value, r2.interval),
                signed_with_interval(advantage.value, advantage.interval),
                tally.of,
                are(tally.above),
                are(tally.below),
            )
        }
        Answer::Training { trend, tally } => format!(
            "More training still changes how the models differ: the last increase of the budget, to {}, moved ΔCE_rec ({} − {}) by {} at {}, to {}. Of {} conditions, \
             it surely moved ΔCE_rec up in {} and down in {}.",
            tokens_text(trend.to.budget),
            code(&trend.to.model),
            code(&trend.from.model),
            trend.change.as_ref().map_or_else(String::new, signed),
            place(analysis, trend.to),
            signed(&trend.difference),
            tally.of,
            tally.above,
            tally.below,
        ),
    }
}

/// What follows of a finding for somebody who trains or evaluates SAEs, where anything does.
pub(super) fn advice(strong: &Strong<'_>) -> Option<&'static str> {
    let contradicts = |tally: Tally| tally.below + tally.unseen > 0;
    match &strong.answer {
        Answer::Models { tally, .. } if contradicts(*tally) => {
            Some("compare SAEs of two models by several metrics of behaviour, and say by which")
        }
        Answer::Classes { tally, .. } if contradicts(*tally) => {
            Some("choose between classes by KL or CE_rec at equal L0 over several seeds, not by R²")
        }
        Answer::Kept { tally, .. } if tally.above + tally.below > 0 => {
            Some("report the loss score or KL beside R², which does not say what an SAE keeps of the model's loss")
        }
        Answer::FewTokens { tallies, .. } if tallies.iter().any(|(_, tally)| tally.above + tally.below > 0) => {
            Some("report R² and L0 without the tokens of outlying norm beside those on all tokens")
        }
        Answer::Training { .. } => {
            Some("train longer before SAEs of two models are compared: their difference still moves")
        }
        _ => None,
    }
}

/// What is said of differences that are too small to act on; empty where there are none.
fn too_small(tally: Tally) -> String {
    let Tally { equal, unseen, .. } = tally;
    let parts = [
        (unseen, format!("CE_rec differs by {LEAST} or more where R² surely differs by less: to R² the two are alike")),
        (equal - unseen, format!("CE_rec surely differs by less than {LEAST}, too little to act on")),
    ];
    parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(" In {count} {what}.")).collect()
}

/// `none is`, `1 is`, `2 are`.
fn are(count: usize) -> String {
    match count {
        0 => "none is".to_owned(),
        1 => "1 is".to_owned(),
        count => format!("{count} are"),
    }
}

/// `R² understates what SAEs keep of the model's loss in 11 of 24 conditions and agrees with it in 3; 10 are undecided.`
fn kept_by(tally: Tally) -> String {
    let Tally { above, below, equal, of, .. } = tally;
    let ways = [("understates", below), ("overstates", above), ("agrees with", equal)];
    let said: Vec<String> = ways
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .enumerate()
        .map(|(at, (verb, count))| match at {
            0 => format!("{verb} what SAEs keep of the model's loss {}", in_conditions(count, of)),
            _ => format!("{verb} it in {count}"),
        })
        .collect();
    let open = match of - above - below - equal {
        0 => String::new(),
        open => format!("; {} undecided", are(open)),
    };
    format!("R² {}{open}.", listed(&said))
}

/// R² and CE_rec of a cell on all tokens, and without some.
fn few_tokens(
    analysis: &Analysis<'_>,
    cell: &Cell,
    subset: Subset,
    [[r2, ce_rec], [r2_without, ce_rec_without]]: [[Score; 2]; 2],
    tallies: &[(Subset, Tally)],
) -> String {
    let changes = |&(subset, Tally { above, below, of, .. }): &(Subset, Tally)| {
        let ways = [("lower", above), ("higher", below)].into_iter().filter(|(_, count)| *count > 0);
        let ways: Vec<String> =
            ways.map(|(way, count)| format!("{way} by more than {GAP} {}", in_conditions(count, of))).collect();
        let said = if ways.is_empty() { format!("changed by more than {GAP} in none") } else { listed(&ways) };
        let tokens = match subset {
            Subset::NoFirst => "the first token of each sequence",
            _ => "the tokens of outlying norm (more than 10 times the median)",
        };
        format!("without {tokens} it is {said}")
    };
    let changes: Vec<String> = tallies.iter().map(changes).collect();
    format!(
        "R² depends on a few tokens: {} (the whole interval of the difference lies beyond {GAP}). The clearest: at {} of {}, R² is {} on all tokens and {} without {}, while CE_rec is \
         {} over all predictions and {} over those that are not made at these tokens.",
        changes.join("; "),
        place(analysis, cell),
        code(&cell.model),
        plain(&r2),
        plain(&r2_without),
        match subset {
            Subset::NoFirst => "first tokens",
            _ => "outliers",
        },
        plain(&ce_rec),
        plain(&ce_rec_without),
    )
}

/// `in 12 of 18 conditions`.
fn in_conditions(count: usize, of: usize) -> String {
    match (count, of) {
        (1, 1) => "in the only condition".to_owned(),
        _ if count == of => format!("in all {of} conditions"),
        _ => format!("in {count} of {of} conditions"),
    }
}

fn models(analysis: &Analysis<'_>, gap: &Gap<'_>, tally: Tally, contrary: &[Contrary<'_>]) -> String {
    let behaves = &gap.behaviours[0].difference;
    let mut said = Vec::new();
    if tally.below > 0 {
        said.push(format!("name different models {}", in_conditions(tally.below, tally.of)));
    }
    if tally.above > 0 {
        said.push(format!("name the same model as the better one {}", in_conditions(tally.above, tally.of)));
    }
    if said.is_empty() {
        said.push(format!("name the same model or different ones in none of {} conditions", tally.of));
    }
    let trained = if gap.from.budget == gap.to.budget { "tokens" } else { "tokens per latent" };
    let mut out = format!(
        "At equal k and {trained}, R² and CE_rec {} (both differences are at least {LEAST} in size, and their intervals exclude 0).{} At {}, {} minus {} is {} in R² and {} in CE_rec.",
        listed(&said),
        too_small(tally),
        place(analysis, gap.to),
        code(&gap.to.model),
        code(&gap.from.model),
        signed(&gap.r2),
        signed(behaves),
    );
    // What CE_rec itself says has been said.
    for metric in contrary.iter().filter(|c| !c.name.starts_with("CE_rec")) {
        let Some((cell, r2, difference)) = &metric.example else { continue };
        let the = if metric.name.starts_with("loss score") { "the " } else { "" };
        out += &format!(
            " By {the}{} the sign is opposite to that of R² {}, with both intervals excluding 0 in {}: at {}, {} where R² has {}.",
            metric.name.replace(", ", " under "),
            in_conditions(metric.opposite, tally.of),
            metric.decided,
            place(analysis, cell),
            signed(difference),
            signed(r2),
        );
    }
    out
}

fn classes(analysis: &Analysis<'_>, contrast: &Contrast<'_>, tally: Tally) -> String {
    let names = &analysis.names;
    let [r2, ce_rec] = [contrast.r2.at_l0, contrast.ce_rec.at_l0].map(Option::unwrap_or_default);
    let kl = contrast.kl.at_l0.map(|kl| format!(", and KL {} by {} nats", way(&kl), by(&kl)));
    let ways = [("agree on the better SAE", tally.above), ("contradict each other", tally.below)];
    let all = format!("of {} comparisons of two {}", tally.of, kinds_of_classes(analysis));
    let mut said: Vec<String> = ways
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .enumerate()
        .map(
            |(at, (what, count))| {
                if at == 0 { format!("{what} in {count} {all}") } else { format!("{what} in {count}") }
            },
        )
        .collect();
    if said.is_empty() {
        said.push(format!("agree or contradict each other in none {all}"));
    }
    let open = match tally.of - tally.above - tally.below - tally.equal {
        0 => String::new(),
        1 => " 1 is open.".to_owned(),
        open => format!(" {open} are open."),
    };
    format!(
        "At equal L0, R² and CE_rec {} (both differences are at least {LEAST} in size, and their intervals exclude 0).{}{open} The clearest {}: at {} of {} (L0 {}), R² is {} by {} than that \
         of {}, CE_rec {} by {}{}.",
        listed(&said),
        too_small(tally),
        match tally {
            Tally { below: 1.., .. } => "contradiction",
            Tally { unseen: 1.., .. } => "difference that R² does not show",
            _ => "agreement",
        },
        place(analysis, contrast.cell),
        code(&contrast.cell.model),
        contrast.l0.value.map_or_else(|| "unknown".to_owned(), |l0| format!("{l0:.1}")),
        way(&r2),
        by(&r2),
        code(&names.class(&contrast.against)),
        way(&ce_rec),
        by(&ce_rec),
        kl.unwrap_or_default(),
    )
}
