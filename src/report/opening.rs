//! The first lines of a report: the answer, how certain it is, and what confounds it.

use std::fmt::Write as _;

use assay_probes::stats::Excludes;
use assay_probes::stats::hypotheses::Verdict;

use crate::analysis::{Analysis, Gap, Given, Score, behaviour, findings, gaps, models_at_equal};
use crate::markdown::percent;

/// The last model against the first, at the largest budget, in a few lines; empty with one model.
pub fn write(analysis: &Analysis<'_>) -> String {
    let models = analysis.grid.models();
    let ends = |g: &Gap<'_>| Some(&g.from.model) == models.first() && Some(&g.to.model) == models.last();
    let budget = analysis.largest_budget();
    let found: Vec<Gap<'_>> = gaps(analysis).into_iter().filter(|g| ends(g) && g.to.budget == budget).collect();
    let Some(first) = found.first() else { return String::new() };
    let (later, earlier) = (&first.to.model, &first.from.model);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "- **Answer.** At equal k and tokens, `{later}` against `{earlier}`: R² is {}; pooled CE_rec is {}. Signs are opposite in {} of \
         {} conditions ({}).",
        ways(found.iter().map(|g| g.r2)),
        ways(found.iter().map(|g| g.behaviours[0].difference)),
        opposite(&found, 0),
        found.len(),
        analysis.names.condition(),
    );
    let disagreeing: Vec<String> = (0..first.behaviours.len())
        .filter(|&at| opposite(&found, at) > 0)
        .map(|at| format!("{} in {}", first.behaviours[at].behaviour.name, opposite(&found, at)))
        .collect();
    let text = if disagreeing.is_empty() {
        "no behaviour metric contradicts the sign of ΔR² in any condition".to_owned()
    } else {
        format!("these contradict the sign of ΔR²: {}", disagreeing.join("; "))
    };
    let _ = writeln!(out, "- **By which metric?** Of six behaviour metrics {text}.");
    let _ = writeln!(out, "- **At equal R²** {}.", equal(analysis, &found));
    let _ = writeln!(out, "- **How certain?** {}", certainty(analysis));
    let alive = |model: &str| {
        let cells = analysis.cells.iter().filter(|c| c.model == model && c.budget == budget);
        let shares: Vec<f64> = cells.filter_map(|c| analysis.column(c, "alive_frac")).collect();
        percent(shares.into_iter().reduce(f64::min))
    };
    let _ = writeln!(
        out,
        "- **Confounded** by training that is equal in tokens, not per latent: the fewest latents alive are {} of `{earlier}`'s SAEs and {} of \
         `{later}`'s.",
        alive(earlier),
        alive(later),
    );
    let _ = writeln!(out, "- **Hypothesis tests.** {}\n", tests(analysis));
    out
}

/// `lower in 11 of 12 (10 certainly), higher in 1 (0)`.
fn ways(scores: impl Iterator<Item = Score>) -> String {
    let scores: Vec<Score> = scores.collect();
    let count = |sign: f64| {
        let of: Vec<&Score> = scores.iter().filter(|s| s.value.is_some_and(|v| v * sign > 0.0)).collect();
        (of.len(), of.iter().filter(|s| s.excludes_zero() == Some(Excludes::Yes)).count())
    };
    let part = |name: &str, (all, certain): (usize, usize)| {
        (all > 0).then(|| format!("{name} in {all} of {} (interval excludes 0 in {certain})", scores.len()))
    };
    let parts: Vec<String> = [part("lower", count(-1.0)), part("higher", count(1.0))].into_iter().flatten().collect();
    if parts.is_empty() { "undefined".to_owned() } else { parts.join(" and ") }
}

/// Conditions in which a behaviour metric's difference has the opposite sign to ΔR².
fn opposite(gaps: &[Gap<'_>], at: usize) -> usize {
    let differ = |g: &&Gap<'_>| g.r2.value.zip(g.behaviours[at].difference.value).is_some_and(|(a, b)| a * b < 0.0);
    gaps.iter().filter(differ).count()
}

fn equal(analysis: &Analysis<'_>, gaps: &[Gap<'_>]) -> String {
    let metric = behaviour("ce_rec_pooled").turned();
    let scores: Vec<Score> = gaps
        .iter()
        .filter_map(|g| models_at_equal(analysis, &g.from.model, g.to, metric, Given::R2))
        .filter(|s| s.value.is_some())
        .collect();
    if scores.is_empty() {
        return "nothing can be compared: the two models' paths have no R² in common".to_owned();
    }
    let values = || scores.iter().filter_map(|s| s.value);
    format!(
        "the pooled CE_rec of the later model's SAE is {}; differences {:+.3} to {:+.3}",
        ways(scores.iter().copied()),
        values().fold(f64::INFINITY, f64::min),
        values().fold(f64::NEG_INFINITY, f64::max),
    )
}

fn certainty(analysis: &Analysis<'_>) -> String {
    let sequences = analysis.grid.runs.first().map_or(0, |r| r.sequences.len());
    match analysis.grid.seeds().len() {
        1 => format!(
            "Text: {sequences} evaluation sequences, paired. Training seeds: one, so nothing is known of their effect."
        ),
        seeds => format!("Text: {sequences} evaluation sequences, paired. Training seeds: {seeds}, also paired."),
    }
}

fn tests(analysis: &Analysis<'_>) -> String {
    let found = findings(analysis);
    let mut names: Vec<&str> = found.iter().map(|f| f.hypothesis.name).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &str| {
        let count =
            |is: fn(&Verdict) -> bool| found.iter().filter(|f| f.hypothesis.name == name && is(&f.verdict)).count();
        let parts = [
            ("supported", count(|v| *v == Verdict::Supported)),
            ("rejected", count(|v| *v == Verdict::Rejected)),
            ("undecided", count(|v| !v.is_decided())),
        ];
        let parts: Vec<String> =
            parts.into_iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what} in {n}")).collect();
        format!("{name} {}", parts.join(", "))
    };
    format!("{}.", names.into_iter().map(of).collect::<Vec<_>>().join("; "))
}
