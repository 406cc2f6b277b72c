//! What follows from a grid of runs: means over seeds, differences between models, correlations, thresholds and verdicts.
//!
//! Every number that a table, a plot or a comparison shows is computed here, once.

mod anisotropy;
mod behaviours;
mod correlations;
mod dimensions;
mod equal;
mod gaps;
mod leaderboard;
mod norms;
mod score;
mod sequences;
mod spread;
mod thresholds;
mod trends;
mod verdicts;

use std::ops::Range;

use assay_probes::metrics::{Metric, Subset, metric, ratio, total};
use assay_probes::stats::{
    Interval, SeedResamples, StandardError, end_errors, jackknife_variance, mean, sample_sd, t_interval,
};

pub use anisotropy::{CONTROLS, Control, explained};
pub use behaviours::{BEHAVIOURS, Behaviour, behaviour};
pub use correlations::{Agreement, agreement, agreements};
pub use dimensions::{Dimensions, dimensions, mismatch_and_failure};
pub use equal::{Given, at_equal};
pub use gaps::{BehaviourGap, Gap, gap, gaps, mismatches, pairs};
pub use leaderboard::{PROXIES, Proxy, ProxyRank, Reciprocal, beyond_swd, leaderboard, reciprocals, within_fixed_k};
pub use norms::{NormPoint, norm_profile};
pub use score::Score;
pub use sequences::{Influence, influence, seed_components};
pub use spread::{Overlap, SequenceSpread, monotone, overlap, overlaps, sequence_sd, sequence_spread};
pub use thresholds::{TARGETS, Threshold, k_star_ratio, ratio_of_k_star, threshold, thresholds};
pub use trends::{Trend, trends};
pub use verdicts::{Finding, findings};

use crate::frames::{Grid, Run};
use crate::replicates::Replicates;

/// The runs that differ in nothing but their seed.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Model.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// Token budget.
    pub budget: u64,
    /// Active latents a token.
    pub k: u64,
    /// Where the runs are in [`Grid::runs`].
    pub runs: Vec<usize>,
}

/// A metric on a subset of the tokens.
pub type Quantity = (&'static Metric, Subset);

/// The metric of that name on all tokens.
///
/// # Panics
/// If there is none: names are those of this program.
pub fn on_all(name: &str) -> Quantity {
    (metric(name).expect("a metric's name"), Subset::All)
}

/// L_recon/L_orig as the reference texts imply it from CE_rec.
pub fn loss_ratio(ce_rec: f64) -> f64 {
    2.0 - ce_rec
}

/// A value in each bootstrap replicate.
type Replicated = Vec<Option<f64>>;

/// A grid of runs with its bootstrap replicates, by one draw for all.
pub struct Analysis<'a> {
    /// The runs.
    pub grid: &'a Grid,
    /// The runs by what they share, in the order of the grid.
    pub cells: Vec<Cell>,
    replicates: Vec<Replicates>,
    /// Without each sequence in turn.
    without: Vec<Replicates>,
}

impl<'a> Analysis<'a> {
    /// Draws the replicates of every run.
    pub fn new(grid: &'a Grid) -> Self {
        let counts = grid.resamples().counts();
        let replicates = grid.runs.iter().map(|r| Replicates::new(&r.sequences, &counts)).collect();
        let without = grid.runs.iter().map(|r| Replicates::leave_one_out(&r.sequences)).collect();
        let mut cells: Vec<Cell> = Vec::new();
        for (at, run) in grid.runs.iter().enumerate() {
            let same = |c: &&mut Cell| {
                c.model == run.model && c.depth == run.depth && c.budget == run.training_tokens && c.k == run.k
            };
            match cells.iter_mut().find(same) {
                Some(cell) => cell.runs.push(at),
                None => cells.push(Cell {
                    model: run.model.clone(),
                    depth: run.depth.clone(),
                    budget: run.training_tokens,
                    k: run.k,
                    runs: vec![at],
                }),
            }
        }
        Self { grid, cells, replicates, without }
    }

    /// The cell of a condition.
    pub fn cell(&self, model: &str, depth: &str, budget: u64, k: u64) -> Option<&Cell> {
        self.cells.iter().find(|c| c.model == model && c.depth == depth && c.budget == budget && c.k == k)
    }

    /// The cells of a model at a depth and budget, k ascending.
    pub fn along_k(&self, model: &str, depth: &str, budget: u64) -> Vec<&Cell> {
        let of = |c: &&Cell| c.model == model && c.depth == depth && c.budget == budget;
        let mut cells: Vec<&Cell> = self.cells.iter().filter(of).collect();
        cells.sort_by_key(|c| c.k);
        cells
    }

    /// The runs of a cell.
    pub fn runs<'b>(&'b self, cell: &'b Cell) -> impl Iterator<Item = &'b Run> + 'b {
        cell.runs.iter().map(|&at| &self.grid.runs[at])
    }

    /// A numeric column of the runs, which need not have an interval: the mean over seeds.
    pub fn column(&self, cell: &Cell, name: &str) -> Option<f64> {
        let values: Option<Vec<f64>> = self.runs(cell).map(|r| r.value(name)).collect();
        mean(&values?)
    }

    /// A metric of a cell.
    pub fn score(&self, cell: &Cell, quantity: Quantity) -> Score {
        self.derived(&[(cell, quantity)], |values| Some(values[0]))
    }

    /// The later minus the earlier cell's metric.
    pub fn difference(&self, from: &Cell, to: &Cell, quantity: Quantity) -> Score {
        self.derived(&[(from, quantity), (to, quantity)], |values| Some(values[1] - values[0]))
    }

    /// The later over the earlier cell's metric.
    pub fn ratio(&self, from: &Cell, to: &Cell, quantity: Quantity) -> Score {
        self.derived(&[(from, quantity), (to, quantity)], |values| ratio(values[1], values[0]))
    }

    /// A function of metrics of some cells, each the mean over the seeds that all of the cells have. In every replicate the
    /// same seeds and sequences are drawn for every part, so that differences are paired. [`Score`] says what its intervals are.
    pub fn derived(&self, parts: &[(&Cell, Quantity)], of: impl Fn(&[f64]) -> Option<f64>) -> Score {
        let runs = self.paired_runs(parts);
        let seeds = runs.first().map_or(0, Vec::len);
        if seeds == 0 {
            return Score::default();
        }
        // Of the seeds at these places.
        let over = |places: Range<usize>| self.on_all_sequences(&runs, parts, places).and_then(|values| of(&values));
        let Some(value) = over(0..seeds) else { return Score::default() };
        let by_seed: Option<Vec<f64>> = (0..seeds).map(|seed| over(seed..seed + 1).filter(|v| v.is_finite())).collect();
        // Replicates of the parts, each combined over seeds, to replicates of the value.
        let replicated = |from: &[Replicates], combine: &dyn Fn(&[Replicated]) -> Option<Replicated>| {
            let part = |(runs, (_, (metric, subset))): (&Vec<usize>, &(&Cell, Quantity))| {
                combine(&runs.iter().map(|&at| from[at].values(metric, *subset)).collect::<Vec<_>>())
            };
            let parts: Vec<Vec<Option<f64>>> = runs.iter().zip(parts).map(part).collect::<Option<_>>()?;
            let replicate = |at: usize| of(&parts.iter().map(|values| values[at]).collect::<Option<Vec<f64>>>()?);
            Some((0..parts.first()?.len()).map(replicate).collect::<Vec<Option<f64>>>())
        };
        let bootstrap = self.grid.bootstrap;
        let draw = SeedResamples::draw(seeds, bootstrap.resamples, bootstrap.seed);
        let replicates = replicated(&self.replicates, &|per_seed| draw.combine(per_seed)).unwrap_or_default();
        let without = replicated(&self.without, &|per_seed| Some(means(per_seed))).unwrap_or_default();
        let sequences = jackknife_variance(&without).map(|v| (v, without.len() as f64 - 1.0));
        let of_seeds = || {
            let values = by_seed.as_ref()?;
            Some((sample_sd(values)?.powi(2) / seeds as f64, seeds as f64 - 1.0))
        };
        let parts: Option<Vec<(f64, f64)>> =
            if seeds == 1 { sequences.map(|s| vec![s]) } else { of_seeds().zip(sequences).map(|(a, b)| vec![a, b]) };
        let level = bootstrap.level;
        Score::new(score::Sources {
            value,
            bootstrap: Interval::percentile(&replicates, level),
            end_errors: end_errors(&replicates, level),
            over_seeds: by_seed.as_ref().and_then(|values| t_interval(values, level)),
            error: parts.and_then(|parts| StandardError::satterthwaite(&parts)),
            seeds,
            level,
        })
    }

    /// The same function on all sequences and seeds, without intervals.
    pub fn point(&self, parts: &[(&Cell, Quantity)], of: impl Fn(&[f64]) -> Option<f64>) -> Option<f64> {
        let runs = self.paired_runs(parts);
        let seeds = runs.first().map_or(0, Vec::len);
        of(&self.on_all_sequences(&runs, parts, 0..seeds)?)
    }

    /// The parts' values, each the mean over its runs at those places.
    fn on_all_sequences(
        &self,
        runs: &[Vec<usize>],
        parts: &[(&Cell, Quantity)],
        places: Range<usize>,
    ) -> Option<Vec<f64>> {
        let of_run = |at: usize, (metric, subset): Quantity| {
            (metric.value)(&total(&self.grid.runs[at].sequences)[subset.index()])
        };
        let of_part = |(runs, (_, quantity)): (&Vec<usize>, &(&Cell, Quantity))| {
            let values: Option<Vec<f64>> = runs[places.clone()].iter().map(|&at| of_run(at, *quantity)).collect();
            mean(&values?)
        };
        runs.iter().zip(parts).map(of_part).collect()
    }

    /// For each part, its runs with the seeds that all parts have, seeds ascending.
    fn paired_runs(&self, parts: &[(&Cell, Quantity)]) -> Vec<Vec<usize>> {
        let seed = |at: &usize| self.grid.runs[*at].seed;
        let has = |cell: &Cell, wanted: u64| cell.runs.iter().any(|at| seed(at) == wanted);
        let common = |cell: &Cell| {
            let mut runs: Vec<usize> =
                cell.runs.iter().copied().filter(|at| parts.iter().all(|(other, _)| has(other, seed(at)))).collect();
            runs.sort_by_key(seed);
            runs
        };
        parts.iter().map(|(cell, _)| common(cell)).collect()
    }

    /// How many training seeds both cells have.
    pub fn common_seeds(&self, a: &Cell, b: &Cell) -> usize {
        self.runs(a).filter(|run| self.runs(b).any(|other| other.seed == run.seed)).count()
    }

    /// The depth that the reference texts speak of most: `mid` if it is there, else the first.
    pub fn anchor_depth(&self) -> Option<String> {
        let depths = self.grid.depths();
        depths.iter().find(|d| *d == "mid").or(depths.first()).cloned()
    }

    /// The largest token budget.
    pub fn largest_budget(&self) -> u64 {
        self.grid.budgets().last().copied().unwrap_or_default()
    }

    /// Every pair of models, an earlier and a later one of the spec.
    pub fn model_pairs(&self) -> Vec<(String, String)> {
        let models = self.grid.models();
        let later = |i: usize| models[i + 1..].iter().map(move |to| (i, to));
        (0..models.len()).flat_map(later).map(|(i, to)| (models[i].clone(), to.clone())).collect()
    }
}

/// The mean over seeds of each replicate, undefined where one of them is.
fn means(per_seed: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let replicates = per_seed.iter().map(Vec::len).min().unwrap_or(0);
    let at = |r: usize| mean(&per_seed.iter().map(|values| values[r]).collect::<Option<Vec<f64>>>()?);
    (0..replicates).map(at).collect()
}

#[cfg(test)]
pub(crate) mod made;
#[cfg(test)]
mod tests;
