//! The first minute of a report: what was run, the strongest findings, what is undecided and why, and what limits them.

mod controls;
mod findings;
mod open;

use assay_probes::metrics::Subset;

use super::document::{Block, Drawn, Part, Shown};
use super::sections::ROWS;
use super::tables::Named;
use crate::analysis::{Analysis, Cell, Score, Strong, strongest};
use crate::frames::Grid;
use crate::markdown::{code, counted, no_tags, percent, plural, signed_with_interval, with_interval};
use crate::verdict::MIN_SEQUENCES;
use findings::{advice, finding};
pub use open::undecidable;
use open::undecided;

/// How many findings are shown.
const SHOWN: usize = 3;

/// The figures under the findings, where they were drawn.
const FIGURES: [&str; 2] = ["few-tokens", "paths"];

/// What a reader has to know to read the findings.
fn reading(analysis: &Analysis<'_>) -> String {
    let names = &analysis.names;
    let mut out = "**How to read it.** R² is the share of the activations' variance that the reconstructions explain. CE_rec is 2 − L_recon/L_orig, where L_recon is the model's loss \
                   with the reconstruction in place of the activation, and L_orig its own: 1 if nothing is lost, 0 if the loss doubles, negative if it more than doubles; here it is pooled \
                   over tokens. The loss score under mean ablation is 1 if nothing is lost and 0 if the reconstruction is as bad as the mean activation in its place. KL is that of the model's \
                   predictions, in nats per token."
        .to_owned();
    let class = names.classes().map_or_else(String::new, |classes| format!(", {classes}"));
    out += &format!(
        " A condition is one model, depth{class} and {}, with all of its training seeds",
        if analysis.grid.is_by_k() { "k" } else { "sparsity" },
    );
    out += if analysis.grid.budgets().len() > 1 { ", at the largest token budget." } else { "." };
    let objectives = analysis.grid.objectives();
    let has = |part: &str| objectives.iter().any(|name| name.split([' ', '+']).any(|word| word == part));
    if names.has_objectives() && objectives.iter().any(|name| name != "mse") {
        let said: Vec<&str> = [
            ("mse", "`mse` trains for the squared error"),
            ("fvu", "`fvu` for the squared error over the variance"),
            ("kl", "`kl` for the KL divergence of the model's predictions"),
            ("no_first", "`no_first` leaves the first token of each sequence out of the loss"),
            ("no_outlier", "`no_outlier` leaves tokens of outlying norm out of it"),
        ]
        .into_iter()
        .filter(|(part, _)| has(part))
        .map(|(_, what)| what)
        .collect();
        let last = if objectives.iter().any(|name| name.starts_with("kl+mse")) {
            "; `kl+mse` adds the KL in the last part of the training"
        } else {
            ""
        };
        out += &format!(" In names of objectives {}{last}.", said.join(", "));
    }
    out + " The glossary at the end has all terms."
}

/// What two SAEs that are compared differ in.
fn kinds_of_classes(analysis: &Analysis<'_>) -> &'static str {
    match (analysis.names.has_architectures(), analysis.names.has_objectives()) {
        (_, false) => "architectures",
        (false, true) => "objectives",
        (true, true) => "architectures, objectives or both",
    }
}

/// The blocks of the summary.
pub fn blocks<'a>(analysis: &Analysis<'_>, tables: &'a [Named], figures: &'a [Drawn]) -> Vec<Block<'a>> {
    let grid = analysis.grid;
    let mut out = vec![Block::Text(format!("**What was run.** {}", run(analysis))), Block::Text(reading(analysis))];
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
    out.extend(what_to_do(analysis, &strong[..strong.len().min(SHOWN)]).map(Block::Text));
    // Its caption stands above it.
    let glance = tables.iter().find(|(name, table)| *name == "glance" && table.rows().len() <= ROWS);
    if let Some((name, table)) = glance {
        out.push(Block::Text(glance_caption(analysis)));
        out.push(Block::Table(Shown { name, table, part: Part::Whole }));
    }
    out.extend(figures.iter().filter(|drawn| FIGURES.contains(&drawn.stem)).map(Block::Figure));
    out.extend([controls::controls(analysis), controls::legibility(analysis)].into_iter().flatten().map(Block::Text));
    out.push(Block::Text(format!("**Undecided.** {}", undecided(analysis, &strong))));
    let caveats: Vec<String> = caveats(analysis).into_iter().map(|caveat| format!("- {caveat}")).collect();
    out.push(Block::Text(format!("**Caveats.**\n\n{}", caveats.join("\n"))));
    out
}

/// What follows of the findings that are shown, in their order.
fn what_to_do(analysis: &Analysis<'_>, shown: &[Strong<'_>]) -> Option<String> {
    let idle = idle_conditions(analysis).0 > 0;
    let idle =
        idle.then_some("report how many latents are alive, and train longer or fewer of them where most are not");
    let advice: Vec<&str> = shown.iter().filter_map(advice).chain(idle).collect();
    (!advice.is_empty()).then(|| format!("**What to do.** On models and text like these: {}.", advice.join("; ")))
}

/// In how many conditions of the largest token budgets most latents are idle, and how many there are.
fn idle_conditions(analysis: &Analysis<'_>) -> (usize, usize) {
    let largest = analysis.cells.iter().filter(|cell| analysis.is_of_largest_budget(cell));
    largest.fold((0, 0), |(idle, all), cell| (idle + usize::from(analysis.is_mostly_idle(cell)), all + 1))
}

/// What the table at a glance shows.
fn glance_caption(analysis: &Analysis<'_>) -> String {
    let budgets = if analysis.grid.budgets().len() > 1 { " at the largest token budget" } else { "" };
    format!(
        "**At a glance.** From the lowest to the highest value over all SAEs of a model and depth{budgets}, each the mean over its seeds. *Tokens of outlying \
         norm* are those of the evaluation text whose norm exceeds 10 times the median; R² and L0 stand beside the same without them. CE_rec is over all tokens."
    )
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
    if grid.has_controls() {
        let names = grid.control_names().join(", ");
        parts.push(format!(
            "beside them {} ({names}), which are in a section of their own and in the lists of all runs",
            counted(grid.controls.len(), "control")
        ));
    }
    if !grid.copies.is_empty() {
        let mut names: Vec<&str> = grid.copies.iter().map(|run| run.setting.objective.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        parts.push(format!(
            "beside them {} ({}) in no number: each is one of these, bit for bit, because its loss left out no token",
            counted(grid.copies.len(), "SAE"),
            no_tags(&names.join(", "))
        ));
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

/// How far a difference lies from 0, after [`way`].
fn by(score: &Score) -> String {
    plain(&score.turned(score.value.map_or(1.0, f64::signum)))
}

/// What limits the findings.
fn caveats(analysis: &Analysis<'_>) -> Vec<String> {
    let grid = analysis.grid;
    let level = 100.0 * grid.bootstrap.level;
    let mut out = vec![
        "The clearest condition of a finding is the one in which the effect is largest for the width of its interval. The clearest of many conditions flatters: \
         look at the number of conditions in which the finding holds."
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
        out.push(format!(
            "{sequences} evaluation sequences are few: below {MIN_SEQUENCES} intervals come out too narrow."
        ));
    }
    let (idle, all) = idle_conditions(analysis);
    if idle > 0 {
        out.push(format!(
            "In {idle} of {all} conditions fewer than half of the latents are alive, that is, fire on the evaluation text (`alive` has the shares). What is found there may \
             be of SAEs that were trained too briefly for their width, and not of their sparsity or their class."
        ));
    }
    let models = grid.models();
    if let [first, .., last] = models.as_slice() {
        let alive = |model: &String| {
            let cells = analysis.cells.iter().filter(|c| c.model == *model && analysis.is_of_largest_budget(c));
            percent(cells.filter_map(|c| analysis.column(c, "alive_frac")).reduce(f64::min))
        };
        let trained = match analysis.largest_budget_of(first) == analysis.largest_budget_of(last) {
            true => "SAEs of different models were trained on equally many tokens, not on equally many per latent.",
            false => {
                "Models have token budgets of their own, and those with equally many tokens per latent are compared (`setup` has the numbers); where a table \
                 names one budget of two models, it is the later model's."
            }
        };
        out.push(format!(
            "{trained} In the worst case {} of the latents of {} are alive, and {} of those of {}.",
            alive(first),
            code(first),
            alive(last),
            code(last),
        ));
        out.push(
            "CE_rec divides by the model's own loss, and other metrics of behaviour divide by other losses or by none, so that models can change places from metric to metric."
                .to_owned(),
        );
    }
    out.push(
        "The results are of the models named. They say nothing of other models, larger ones of the same families included."
            .to_owned(),
    );
    out
}
