//! What controls have, and whether latents can be read, as a paragraph each.

use crate::analysis::{ASKED, Analysis, BEYOND, Legible, legible, outcomes};
use crate::frames::Grid;
use crate::markdown::{code, listed, signed_with_interval, with_interval};

/// Scores by which SAEs are set against their controls here; the table has all.
const SHOWN: [&str; 2] = ["R²", "CE_rec (pooled)"];

/// In how many conditions the SAEs are better than each control; `None` without controls.
pub(super) fn controls(analysis: &Analysis<'_>) -> Option<String> {
    let all = outcomes(analysis);
    let of = |control: &str| {
        let said: Vec<String> = all
            .iter()
            .filter(|outcome| outcome.control == control && SHOWN.contains(&outcome.score.name))
            .filter_map(|outcome| {
                let [sae, other, all] = outcome.better?;
                let worse = if other > 0 { format!(" and worse in {other}") } else { String::new() };
                Some(format!("{} is better in {sae} of {all}{worse}", outcome.score.name))
            })
            .collect();
        format!("against `{control}`, {}", listed(&said))
    };
    let said: Vec<String> = analysis.grid.control_names().into_iter().map(of).collect();
    (!said.is_empty()).then(|| {
        format!(
            "**Controls.** In how many conditions the SAEs have more than what they are set against, by intervals that exclude 0: {}. The tables `what-controls-have` and \
             `against-controls` have more.",
            said.join("; ")
        )
    })
}

/// Which scores of what latents mean differ from a random model's, and which go with R² and CE_rec; `None` of a sweep that has no such scores.
pub(super) fn legibility(analysis: &Analysis<'_>) -> Option<String> {
    let all = legible(analysis);
    // The plainest explanation, which speaks for the others here.
    let first = all.iter().find(|found| found.name == "detection_tokens").or(all.first())?;
    let mut out = format!(
        "**What latents mean.** By `{}` the SAEs have {} (another latent's explanation {}).",
        first.name,
        with_interval(first.saes.value, first.saes.interval),
        first.other.map_or_else(|| "none".to_owned(), |other| format!("{other:.3}")),
    );
    if let Some(at) = random_model(analysis.grid) {
        let of = &first.less[at];
        let tells = |found: &&Legible| found.less[at].interval.is_some_and(|interval| interval.excludes_zero());
        let (differ, not): (Vec<&Legible>, Vec<&Legible>) = all.iter().partition(tells);
        out += &format!(
            " That is {} from the same of a model with its weights drawn anew. Of {} scores {} from that model's beyond its seeds ({}) and {} not ({}).",
            signed_with_interval(of.value, of.interval),
            all.len(),
            if differ.len() == 1 { "1 differs".to_owned() } else { format!("{} differ", differ.len()) },
            names(&differ),
            if not.len() == 1 { "1 does".to_owned() } else { format!("{} do", not.len()) },
            names(&not),
        );
    }
    for (at, (_, metric)) in ASKED.iter().enumerate() {
        let goes = |sign: f64| -> Vec<&Legible> {
            let surely = |found: &&Legible| {
                let (r, interval) = found.with[at];
                r.is_some_and(|r| r * sign > 0.0) && interval.is_some_and(|interval| interval.excludes_zero())
            };
            all.iter().filter(surely).collect()
        };
        let (with, against) = (goes(1.0), goes(-1.0));
        out += &format!(
            " Among kinds of SAEs of one k, {} with {metric} and {} against it; of the others the sign is open.",
            go(&with),
            go(&against),
        );
    }
    Some(out + " The table `legibility` has them all.")
}

fn random_model(grid: &Grid) -> Option<usize> {
    grid.control_names().iter().position(|name| *name == BEYOND)
}

/// `none goes`, `1 (`purity`) goes`, `4 (…) go`.
fn go(of: &[&Legible]) -> String {
    match of.len() {
        0 => "none goes".to_owned(),
        1 => format!("1 ({}) goes", names(of)),
        n => format!("{n} ({}) go", names(of)),
    }
}

fn names(of: &[&Legible]) -> String {
    if of.is_empty() {
        "none".to_owned()
    } else {
        of.iter().map(|found| code(&found.name)).collect::<Vec<_>>().join(", ")
    }
}
