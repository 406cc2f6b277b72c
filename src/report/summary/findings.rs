//! Findings as sentences.

use assay_probes::metrics::Subset;

use super::{by, listed, place, plain, signed, way};
use crate::analysis::{Analysis, Answer, Contrary, Contrast, Gap, Strong, Tally};
use crate::markdown::{code, signed_with_interval, tokens_text, with_interval};
use crate::verdict::{AGREE, DIFFER};

/// A finding as sentences.
pub(super) fn finding(analysis: &Analysis<'_>, strong: &Strong<'_>) -> String {
    match &strong.answer {
        Answer::Models { gap, tally, contrary } => models(analysis, gap, *tally, contrary),
        Answer::EqualR2 { cell, earlier, difference, tally } => {
            let sign = if difference.value.is_some_and(|v| v > 0.0) { 1 } else { -1 };
            let ways = [("more", tally.above, 1), ("less", tally.below, -1)];
            let mut ways: Vec<_> = ways.into_iter().filter(|(_, count, _)| *count > 0).collect();
            ways.sort_by_key(|(.., way)| -sign * way);
            let ways: Vec<String> =
                ways.into_iter().map(|(what, count, _)| format!("{what} {}", in_conditions(count, tally.of))).collect();
            format!(
                "At equal R², SAEs of {} keep, compared with those of {}, {} (the interval of ΔCE_rec excludes 0): most clearly at {}, by {}.",
                code(&cell.model),
                code(earlier),
                listed(&ways),
                place(analysis, cell),
                signed(difference),
            )
        }
        Answer::Classes { contrast, tally } => classes(analysis, contrast, *tally),
        Answer::Kept { cell, r2, kept, difference: _, tally } => format!(
            "{} (at the largest budget, by the loss score under mean ablation: within {AGREE} they agree, beyond {DIFFER} they do not). The clearest: at {} of {}, R² is {} and the loss score {}.",
            kept_by(*tally),
            place(analysis, cell),
            code(&cell.model),
            plain(r2),
            plain(kept),
        ),
        Answer::FewTokens { cell, subset, all, without, tally } => {
            let [r2, ce_rec] = all;
            let [r2_without, ce_rec_without] = without;
            format!(
                "A few tokens {} R²: at {} of {} it is {} on all tokens and {} without {}, while CE_rec is {} and {}. This is so of {} of {} comparisons (each \
                 SAE without position 0, and without outliers){}.",
                if r2.value > r2_without.value { "raise" } else { "lower" },
                place(analysis, cell),
                code(&cell.model),
                plain(r2),
                plain(r2_without),
                match subset {
                    Subset::NoFirst => "the first token of each sequence",
                    _ => "the tokens whose norm exceeds 10 times the median",
                },
                plain(ce_rec),
                plain(ce_rec_without),
                if r2.value > r2_without.value { tally.above } else { tally.below },
                tally.of,
                match if r2.value > r2_without.value { tally.below } else { tally.above } {
                    0 => String::new(),
                    others => format!(", the opposite of {others}"),
                },
            )
        }
        Answer::Proxy { rank, r2, tally } => {
            let advantage = rank.advantage.unwrap_or(*r2);
            let better = advantage.value.is_some_and(|v| v > 0.0);
            format!(
                "{}, {} ranks SAEs as CE_rec does {} than R²: Pearson's correlation is {} against {}, a difference of {}. Of {} other metrics {} are \
                 better than R² and {} worse, after Holm's correction.",
                match analysis.grid.models().len() {
                    1 => "Among SAEs that differ in nothing but their seed",
                    _ => "Within fixed depth and k",
                },
                rank.proxy.explained(),
                if better { "better" } else { "worse" },
                with_interval(rank.pearson_within.value, rank.pearson_within.interval),
                with_interval(r2.value, r2.interval),
                signed_with_interval(advantage.value, advantage.interval),
                tally.of,
                tally.above,
                tally.below,
            )
        }
        Answer::Training { trend, tally } => format!(
            "More training still changes how the models differ: the last increase of the budget, to {}, moved ΔCE_rec ({} − {}) by {} at {}, to {}. It moved up in {} and down \
             in {} of {} conditions.",
            tokens_text(trend.to.budget),
            code(&trend.to.model),
            code(&trend.from.model),
            trend.change.as_ref().map_or_else(String::new, signed),
            place(analysis, trend.to),
            signed(&trend.difference),
            tally.above,
            tally.below,
            tally.of,
        ),
    }
}

/// `R² understates what 11 of 24 SAEs keep of the model's loss and agrees with it for 3; 10 are undecided`.
fn kept_by(tally: Tally) -> String {
    let Tally { above, below, equal, of } = tally;
    let ways = [("understates", below), ("overstates", above), ("agrees with", equal)];
    let said: Vec<String> = ways
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .enumerate()
        .map(|(at, (verb, count))| match (at, verb) {
            (0, _) => format!("{verb} what {count} of {of} SAEs keep of the model's loss"),
            (_, "agrees with") => format!("agrees with it for {count}"),
            _ => format!("{verb} it for {count}"),
        })
        .collect();
    let open = match of - above - below - equal {
        0 => String::new(),
        1 => "; 1 is undecided".to_owned(),
        open => format!("; {open} are undecided"),
    };
    format!("R² {}{open}", listed(&said))
}

/// `in 12 of 18 conditions`.
fn in_conditions(count: usize, of: usize) -> String {
    if count == of { format!("in all {of} conditions") } else { format!("in {count} of {of} conditions") }
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
    let mut out = format!(
        "At equal k and tokens, R² and CE_rec {} (both intervals exclude 0). At {}, {} minus {} is {} in R² and {} in CE_rec.",
        listed(&said),
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
    let ways = [("name the same SAE as the better", tally.above), ("name opposite ones", tally.below)];
    let said: Vec<String> =
        ways.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what} in {count}")).collect();
    let open = match tally.of - tally.above - tally.below {
        0 => String::new(),
        open => format!("; {open} are open"),
    };
    format!(
        "At equal L0, in {} comparisons of another architecture or objective with {}, R² and CE_rec {} (both intervals exclude 0){open}. The clearest: at {} of {} (L0 {}), R² is \
         {} by {}, CE_rec {} by {}{}.",
        tally.of,
        code(&names.class(&contrast.against)),
        listed(&said),
        place(analysis, contrast.cell),
        code(&contrast.cell.model),
        contrast.l0.value.map_or_else(|| "unknown".to_owned(), |l0| format!("{l0:.1}")),
        way(&r2),
        by(&r2),
        way(&ce_rec),
        by(&ce_rec),
        kl.unwrap_or_default(),
    )
}
