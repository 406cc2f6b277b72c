//! The first minute of a report: what was run, the strongest findings, what is undecided and why, and what limits them.

use assay_probes::metrics::Subset;
use assay_probes::stats::hypotheses::{Decision, MIN_SEEDS};
use assay_probes::stats::minimum_detectable;

use super::document::{Block, Drawn};
use crate::analysis::{
    Analysis, Answer, Cell, Contrary, Contrast, Gap, Score, Strong, Tally, behaviour, findings, gaps, strongest,
};
use crate::frames::Grid;
use crate::markdown::{code, counted, no_tags, percent, plural, signed_with_interval, tokens_text, with_interval};
use crate::verdict::MIN_SEQUENCES;

/// How many findings are shown.
const SHOWN: usize = 3;

/// The blocks of the summary; the first figure of the report stands under the findings.
pub fn blocks<'a>(analysis: &Analysis<'_>, figures: &'a [Drawn]) -> Vec<Block<'a>> {
    let grid = analysis.grid;
    let mut out = vec![Block::Text(format!("**What was run.** {}", run(analysis)))];
    for model in &grid.missing {
        out.push(Block::Text(format!(
            "**{0} is missing**: the spec names it without a path, and none was given with `--set models.{model}.path=DIR`. Everything \
             below is without it.",
            code(model),
        )));
    }
    if !grid.failed.is_empty() {
        let (failed, all) = (grid.failed.len(), grid.failed.len() + grid.runs.len());
        out.push(Block::Text(format!(
            "**{failed} of {all} runs failed**: what they learned from, their loss or its gradient became infinite or no number. The table \
             `failed` names them with the step and the reason; everything below is without them. What had been saved of them before is in \
             the directory `failed`."
        )));
    }
    let strong = strongest(analysis);
    out.push(Block::Text(match strong.len().min(SHOWN) {
        0 => {
            "**Findings.** None: by the rules fixed in advance no question was decided under any condition.".to_owned()
        }
        shown => {
            let name = if shown == 1 { "The finding." } else { "The strongest findings." };
            let list =
                strong[..shown].iter().enumerate().map(|(at, s)| format!("{}. {}", at + 1, finding(analysis, s)));
            format!("**{name}**\n\n{}", list.collect::<Vec<_>>().join("\n"))
        }
    }));
    // The central figure, behaviour against R², comes first of all that are drawn.
    out.extend(figures.first().map(Block::Figure));
    out.push(Block::Text(format!("**Undecided.** {}", undecided(analysis, &strong))));
    let caveats: Vec<String> = caveats(analysis).into_iter().map(|caveat| format!("- {caveat}")).collect();
    out.push(Block::Text(format!("**Caveats.**\n\n{}", caveats.join("\n"))));
    out
}

/// `a`, `a and b`, `a, b and c`.
fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

fn run(analysis: &Analysis<'_>) -> String {
    let grid = analysis.grid;
    let numbers = |values: Vec<u64>| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let models: Vec<String> = grid.models().iter().map(|model| code(model)).collect();
    let mut parts = vec![
        format!("{} {}", plural(models.len(), "model"), models.join(", ")),
        format!("{} {}", plural(grid.depths().len(), "depth"), no_tags(&grid.depths().join(", "))),
    ];
    parts.extend(hooks_and_classes(grid).iter().map(|part| no_tags(part)));
    if !grid.ks().is_empty() {
        parts.push(format!("k {}", numbers(grid.ks())));
    }
    // Of SAEs that no sweep trained nobody knows these.
    if grid.budgets() != [0] {
        let budgets: Vec<String> = grid.budgets().into_iter().map(super::tables::budget).collect();
        parts.push(format!("{} training tokens", budgets.join(", ")));
        parts.push(format!("{} {}", plural(grid.seeds().len(), "seed"), numbers(grid.seeds())));
    }
    let all = grid.runs.first().map_or(&[][..], |run| &run.sequences);
    let scored: f64 = all.iter().map(|s| s[Subset::All.index()].scored).sum();
    format!(
        "{}: {}; evaluated on {} held-out sequences, {} predicted tokens in all.",
        counted(grid.runs.len(), "SAE"),
        parts.join("; "),
        all.len(),
        scored,
    )
}

/// The kinds of hooks, the architectures and the objectives, where there are several.
fn hooks_and_classes(grid: &Grid) -> Vec<String> {
    let mut out = Vec::new();
    if grid.names().has_kinds() {
        let name = |(kind, centered): (String, bool)| if centered { format!("{kind} centred") } else { kind };
        out.push(format!("hooks {}", grid.kinds().into_iter().map(name).collect::<Vec<_>>().join(", ")));
    }
    if grid.names().has_architectures() {
        out.push(format!("architectures {}", grid.architectures().join(", ")));
    } else {
        out.extend(grid.architectures().first().map(|name| format!("architecture {name}")));
    }
    if grid.names().has_objectives() {
        out.push(format!("objectives {}", grid.objectives().join(", ")));
    }
    out
}

/// `mid, k 8`.
fn place(analysis: &Analysis<'_>, cell: &Cell) -> String {
    no_tags(&format!("{}, {}", analysis.site(cell), analysis.names.setting_with("k ", &cell.setting)))
}

fn signed(score: &Score) -> String {
    signed_with_interval(score.value, score.interval)
}

fn plain(score: &Score) -> String {
    with_interval(score.value, score.interval)
}

/// `rises`, `falls`.
fn way(score: &Score) -> &'static str {
    if score.value.is_some_and(|v| v > 0.0) { "higher" } else { "lower" }
}

/// A finding as sentences.
fn finding(analysis: &Analysis<'_>, strong: &Strong<'_>) -> String {
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
            "{}: at {} of {}, R² is {} and the loss score under mean ablation {} (either is 0 for the mean activation and 1 for a perfect \
             reconstruction).",
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
                "Within fixed depth and k, {} ranks SAEs as CE_rec does {} than R²: Pearson's correlation is {} against {}, a difference of {}. Of {} other metrics {} are \
                 better than R² and {} worse, after Holm's correction.",
                rank.proxy.name,
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

/// `R² understates what 11 of 24 SAEs keep of the model's loss and tells what 3 keep; the other 10 are undecided`.
fn kept_by(tally: Tally) -> String {
    let Tally { above, below, equal, of } = tally;
    let ways = [("understates", below), ("overstates", above), ("tells", equal)];
    let said: Vec<String> = ways
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .enumerate()
        .map(|(at, (verb, count))| match at {
            0 => format!("{verb} what {count} of {of} SAEs keep of the model's loss"),
            _ => format!("{verb} what {count} keep"),
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
    let kl = contrast.kl.at_l0.map(|kl| format!(", and KL {} by {} nats", way(&kl), signed(&kl)));
    let opposite = (tally.below > 0).then(|| format!("name different ones as the better in {}", tally.below));
    let same = if opposite.is_some() { "the same one" } else { "name the same one as the better" };
    let alike = (tally.above > 0).then(|| format!("{same} in {}", tally.above));
    let said: Vec<String> = [opposite, alike].into_iter().flatten().collect();
    format!(
        "At equal L0, R² and CE_rec {} of {} comparisons of another class or objective with {} (both intervals exclude 0). At {} of {} (L0 {}), R² is {} by {}, CE_rec \
         {} by {}{}.",
        listed(&said),
        tally.of,
        code(&names.class(&contrast.against)),
        place(analysis, contrast.cell),
        code(&contrast.cell.model),
        contrast.l0.value.map_or_else(|| "unknown".to_owned(), |l0| format!("{l0:.1}")),
        way(&r2),
        signed(&r2),
        way(&ce_rec),
        signed(&ce_rec),
        kl.unwrap_or_default(),
    )
}

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
fn undecided(analysis: &Analysis<'_>, strong: &[Strong<'_>]) -> String {
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
    out.extend(strong.iter().filter_map(|strong| match &strong.answer {
        Answer::Classes { tally, .. } => {
            let open = tally.of - tally.above - tally.below;
            (open > 0).then(|| {
                format!("{open} of {} comparisons of classes and objectives at equal L0 are open: an interval of R² or CE_rec contains 0.", tally.of)
            })
        }
        _ => None,
    }));
    if out.is_empty() {
        out.push("No question that this report asks of the sweep was left open by its numbers.".to_owned());
    }
    out.join(" ")
}

/// `By rules fixed in advance, H0 is rejected in 1 of 4 and open in 3 of 4 (the difference may still be closing); …`
fn hypotheses(analysis: &Analysis<'_>) -> String {
    let found = findings(analysis);
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
            Decision::Undecided(reason) => Some(format!(" ({reason})")),
            _ => None,
        });
        format!("{name} is {}{}", listed(&parts), why.unwrap_or_default())
    };
    let all: Vec<String> = names.into_iter().map(of).collect();
    format!("By rules fixed in advance, {}.", all.join("; "))
}

/// Differences in CE_rec at equal k whose sign is open, and what the sweep could have found; `None` where all are decided.
fn too_small(analysis: &Analysis<'_>) -> Option<String> {
    let budget = analysis.largest_budget();
    let all: Vec<Gap<'_>> = gaps(analysis).into_iter().filter(|gap| gap.to.budget == budget).collect();
    let open = |gap: &&Gap<'_>| gap.behaviours[0].difference.interval.is_some_and(|i| !i.excludes_zero());
    let open: Vec<&Gap<'_>> = all.iter().filter(open).collect();
    let detectable = |gap: &&Gap<'_>| minimum_detectable(gap.behaviours[0].difference.error?, 0.05, 0.8);
    let detectable: Vec<f64> = open.iter().filter_map(detectable).collect();
    let (smallest, largest) =
        (detectable.iter().copied().reduce(f64::min)?, detectable.iter().copied().reduce(f64::max)?);
    Some(format!(
        "The sign of ΔCE_rec ({}) is open in {} of {} conditions at equal k; differences below {smallest:.3} to {largest:.3}, by condition, could not be found there with 80 % power.",
        behaviour("ce_rec_pooled").name.trim_start_matches("CE_rec (").trim_end_matches(')'),
        open.len(),
        all.len(),
    ))
}

/// What limits the findings.
fn caveats(analysis: &Analysis<'_>) -> Vec<String> {
    let grid = analysis.grid;
    let level = 100.0 * grid.bootstrap.level;
    let mut out = vec![
        "A finding shows the condition whose effect lies farthest beyond what it is decided against, in half widths of its interval, and findings \
         are sorted by that. The strongest of many conditions flatters: read how many there are."
            .to_owned(),
    ];
    out.push(if grid.seeds().len() > 1 {
        format!(
            "Intervals ({level:.0} %) are over training seeds and evaluation sequences together (value ± t·√(s²_seed/S + s²_seq/n), degrees of freedom by \
             Satterthwaite); differences are paired by seed and sequence. They do not cover the choice of the training text."
        )
    } else {
        format!(
            "Intervals ({level:.0} %) are of a percentile bootstrap over evaluation sequences ({} resamples, one draw for all SAEs, so that differences are paired). \
             They cover the choice of the evaluation text only: neither the seed nor the text of training.",
            grid.bootstrap.resamples,
        )
    });
    let sequences = grid.runs.iter().map(|run| run.sequences.len()).min().unwrap_or(0);
    if sequences < MIN_SEQUENCES {
        out.push(format!("{sequences} evaluation sequences are few: intervals are too narrow below {MIN_SEQUENCES}."));
    }
    let models = grid.models();
    if let [first, .., last] = models.as_slice() {
        let alive = |model: &String| {
            let cells = analysis.cells.iter().filter(|c| c.model == *model && c.budget == analysis.largest_budget());
            percent(cells.filter_map(|c| analysis.column(c, "alive_frac")).reduce(f64::min))
        };
        out.push(format!(
            "SAEs of different models had as many tokens, not as many per latent: at worst {} of the latents of {} are alive, and {} of those of {}.",
            alive(first),
            code(first),
            alive(last),
            code(last),
        ));
        out.push(
            "CE_rec (here pooled over tokens) divides by the model's own loss, and each other metric of behaviour by another one, so that models can change places from metric to metric."
                .to_owned(),
        );
    }
    out.push(
        "A model's name says which model was measured; results on small stand-ins are not results on the models that they stand for."
            .to_owned(),
    );
    out
}
