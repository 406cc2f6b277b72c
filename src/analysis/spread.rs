//! How far sequences differ, whose intervals overlap, and whether a metric rises or falls with the model.

use assay_probes::metrics::{Subset, metric};
use assay_probes::stats::{Excludes, cohen_d, cohen_d_z, mean, sample_sd};

use super::{Analysis, Cell, on_all, pairs};
use crate::frames::{Setting, Site};

/// Whether the intervals of two models' CE_rec overlap.
pub struct Overlap<'a> {
    /// The earlier model's cell.
    pub from: &'a Cell,
    /// The later model's.
    pub to: &'a Cell,
    /// `None` where one has no interval.
    pub overlap: Option<bool>,
    /// Whether the paired interval of the difference excludes 0, which is the sharper question.
    pub difference_excludes_zero: Option<Excludes>,
    /// Cohen's d of CE_rec over sequences, pooled unpaired SD: earlier minus later, as the reference has it.
    pub cohen_d: Option<f64>,
    /// The same paired: mean difference over its SD.
    pub cohen_d_z: Option<f64>,
}

/// CE_rec over the sequences of one cell.
pub struct SequenceSpread<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Standard deviation over sequences; the mean over seeds of each sequence.
    pub sd: Option<f64>,
}

/// CE_rec of each sequence, the mean over the cell's seeds.
fn by_sequence(analysis: &Analysis<'_>, cell: &Cell) -> Option<Vec<f64>> {
    let metric = metric("ce_rec")?;
    let runs: Vec<_> = analysis.runs(cell).collect();
    let sequences = runs.iter().map(|r| r.sequences.len()).min()?;
    let value = |at: usize| -> Option<f64> {
        let values: Option<Vec<f64>> =
            runs.iter().map(|r| (metric.value)(&r.sequences[at][Subset::All.index()])).collect();
        mean(&values?)
    };
    (0..sequences).map(value).collect()
}

/// The standard deviation of CE_rec over sequences, of every cell.
pub fn sequence_spread<'a>(analysis: &'a Analysis<'_>) -> Vec<SequenceSpread<'a>> {
    analysis.cells.iter().map(|cell| SequenceSpread { cell, sd: sequence_sd(analysis, cell) }).collect()
}

/// The standard deviation of CE_rec over the sequences of one cell.
pub fn sequence_sd(analysis: &Analysis<'_>, cell: &Cell) -> Option<f64> {
    by_sequence(analysis, cell).and_then(|v| sample_sd(&v))
}

/// Overlaps of every pair of models at every site, budget and setting.
pub fn overlaps<'a>(analysis: &'a Analysis<'_>) -> Vec<Overlap<'a>> {
    pairs(analysis).into_iter().map(|(from, to)| overlap(analysis, from, to)).collect()
}

/// The overlap of two cells.
pub fn overlap<'a>(analysis: &Analysis<'_>, from: &'a Cell, to: &'a Cell) -> Overlap<'a> {
    let interval = |cell| analysis.score(cell, on_all("ce_rec")).bootstrap;
    let difference = analysis.difference(from, to, on_all("ce_rec"));
    let (a, b) = (by_sequence(analysis, from), by_sequence(analysis, to));
    let effect = |of: fn(&[f64], &[f64]) -> Option<f64>| of(a.as_ref()?, b.as_ref()?);
    Overlap {
        from,
        to,
        overlap: interval(from).zip(interval(to)).map(|(a, b)| a.overlaps(&b)),
        difference_excludes_zero: difference.excludes_zero(),
        cohen_d: effect(cohen_d),
        cohen_d_z: effect(cohen_d_z),
    }
}

/// Whether a column rises (`Some(1)`), falls (`Some(-1)`) or does neither (`Some(0)`) from each model of the spec to the next.
/// `None` with fewer than two models.
pub fn monotone(analysis: &Analysis<'_>, site: &Site, budget: u64, setting: &Setting, column: &str) -> Option<i32> {
    let cells = analysis.grid.models().into_iter().filter_map(|m| analysis.cell(&m, site, budget, setting));
    let values: Vec<f64> = cells.map(|c| analysis.column(c, column)).collect::<Option<_>>()?;
    let steps: Vec<f64> = values.windows(2).map(|w| w[1] - w[0]).collect();
    if steps.is_empty() {
        return None;
    }
    Some(i32::from(steps.iter().all(|s| *s > 0.0)) - i32::from(steps.iter().all(|s| *s < 0.0)))
}
