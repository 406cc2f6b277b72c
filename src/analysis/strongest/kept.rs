//! Whether R² tells what an SAE keeps, by the verdict's rule.

use assay_probes::Metric;
use assay_probes::metrics::Subset;

use super::{Answer, Best, Strong, Tally, strength};
use crate::analysis::{Analysis, Cell, Score, on_all};
use crate::verdict::{AGREE, DIFFER, MIN_SEQUENCES};

/// R², and what is kept in the same units.
fn r2_and_kept() -> [(&'static Metric, Subset); 2] {
    ["r2", "ce_loss_score_mean"].map(on_all)
}

/// A condition that is decided: the threshold against which, and the difference of R² and what is kept.
type Judged<'a> = (&'a Cell, f64, Score);

/// How the conditions of the largest budgets with enough sequences came out, and those that are decided.
pub(super) fn judged<'a>(analysis: &'a Analysis<'_>) -> (Tally, Vec<Judged<'a>>) {
    let (mut tally, mut found) = (Tally::default(), Vec::new());
    for cell in analysis.cells.iter().filter(|c| analysis.is_of_largest_budget(c) && !analysis.has_few_sequences(c)) {
        let difference = analysis.derived(&r2_and_kept().map(|name| (cell, name)), |v| Some(v[0] - v[1]));
        let Some((value, interval)) = difference.value.zip(difference.interval) else { continue };
        tally.of += 1;
        let (threshold, count) = if interval.low > DIFFER {
            (DIFFER, &mut tally.above)
        } else if interval.high < -DIFFER {
            (-DIFFER, &mut tally.below)
        } else if -AGREE < interval.low && interval.high < AGREE {
            (AGREE.copysign(value), &mut tally.equal)
        } else {
            continue;
        };
        *count += 1;
        found.push((cell, threshold, difference));
    }
    (tally, found)
}

/// Does R² tell what an SAE keeps?
pub(super) fn kept<'a>(analysis: &'a Analysis<'_>) -> Option<Strong<'a>> {
    let (tally, found) = judged(analysis);
    let (mut differ, mut agree) = (Best(None), Best(None));
    for &(cell, threshold, difference) in &found {
        let Some((value, interval)) = difference.value.zip(difference.interval) else { continue };
        if let Some(strength) = strength(value, interval, threshold) {
            let best = if threshold.abs() == DIFFER { &mut differ } else { &mut agree };
            best.offer(strength, (cell, threshold, difference));
        }
    }
    let (strength, (cell, way, difference)) = differ.0.or(agree.0)?;
    // Agreement is within the same distance on both sides.
    let is_alike = |threshold: f64| threshold == way || (threshold.abs() == AGREE && way.abs() == AGREE);
    let idle =
        found.iter().filter(|(cell, threshold, _)| is_alike(*threshold) && analysis.is_mostly_idle(cell)).count();
    let [r2, kept] = r2_and_kept().map(|name| analysis.score(cell, name));
    Some(Strong { strength, answer: Answer::Kept { cell, r2, kept, difference, tally, idle } })
}

impl Analysis<'_> {
    /// Whether a run of a cell has so few evaluation sequences that a verdict is not given.
    pub fn has_few_sequences(&self, cell: &Cell) -> bool {
        self.runs(cell).any(|run| run.sequences.len() < MIN_SEQUENCES)
    }
}
