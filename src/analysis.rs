//! What follows from a grid of runs: means over seeds, differences between models, correlations, thresholds and verdicts.
//!
//! Every number that a table, a plot or a comparison shows is computed here, once.

mod anisotropy;
mod correlations;
mod dimensions;
mod gaps;
mod norms;
mod spread;
mod thresholds;
mod verdicts;

use assay_probes::metrics::{Metric, Subset, metric, ratio, total};
use assay_probes::stats::{Interval, SeedResamples, mean, t_interval};

pub use anisotropy::{CONTROLS, Control, explained};
pub use correlations::{Agreement, PROXIES, Proxy, ProxyRank, agreement, agreements, beyond_swd, leaderboard};
pub use dimensions::{Dimensions, dimensions, mismatch_and_failure};
pub use gaps::{Gap, gap, gaps, mismatches, pairs};
pub use norms::{NormPoint, norm_profile};
pub use spread::{Overlap, SequenceSpread, monotone, overlap, overlaps, sequence_sd, sequence_spread};
pub use thresholds::{TARGETS, Threshold, k_star_ratio, threshold, thresholds};
pub use verdicts::{Finding, findings};

use crate::frames::{Grid, Run};
use crate::replicates::Replicates;

/// A value and its intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// The value; over several seeds their mean.
    pub value: Option<f64>,
    /// Bootstrap over evaluation sequences, and over seeds where there are several. `None` where a replicate is undefined.
    pub interval: Option<Interval>,
    /// Student's t over seeds; `None` for one.
    pub over_seeds: Option<Interval>,
}

impl Score {
    /// From the lowest end to the highest of both intervals: the bootstrap is too narrow for few seeds, and t knows nothing of
    /// sequences.
    pub fn widest(&self) -> Option<Interval> {
        match (self.interval, self.over_seeds) {
            (Some(a), Some(b)) => Some(Interval { low: a.low.min(b.low), high: a.high.max(b.high) }),
            (a, _) => a,
        }
    }
}

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

/// A grid of runs with its bootstrap replicates, by one draw for all.
pub struct Analysis<'a> {
    /// The runs.
    pub grid: &'a Grid,
    /// The runs by what they share, in the order of the grid.
    pub cells: Vec<Cell>,
    replicates: Vec<Replicates>,
}

impl<'a> Analysis<'a> {
    /// Draws the replicates of every run.
    pub fn new(grid: &'a Grid) -> Self {
        let counts = grid.resamples().counts();
        let replicates = grid.runs.iter().map(|r| Replicates::new(&r.sequences, &counts)).collect();
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
        Self { grid, cells, replicates }
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

    /// A function of metrics of some cells, each the mean over the seeds that all of the cells have. Its interval comes from
    /// replicates in which the same seeds and sequences are drawn for every part, so that differences are paired.
    pub fn derived(&self, parts: &[(&Cell, Quantity)], of: impl Fn(&[f64]) -> Option<f64>) -> Score {
        let runs = self.paired_runs(parts);
        let seeds = runs.first().map_or(0, Vec::len);
        if seeds == 0 {
            return Score::default();
        }
        let point = |runs: &[usize], (metric, subset): Quantity| -> Option<f64> {
            let values: Option<Vec<f64>> =
                runs.iter().map(|&at| (metric.value)(&total(&self.grid.runs[at].sequences)[subset.index()])).collect();
            mean(&values?)
        };
        let points: Option<Vec<f64>> =
            runs.iter().zip(parts).map(|(runs, (_, quantity))| point(runs, *quantity)).collect();
        let Some(value) = points.and_then(|points| of(&points)) else { return Score::default() };
        let bootstrap = self.grid.bootstrap;
        let draw = SeedResamples::draw(seeds, bootstrap.resamples, bootstrap.seed);
        let combined: Option<Vec<Vec<Option<f64>>>> = runs
            .iter()
            .zip(parts)
            .map(|(runs, (_, (metric, subset)))| {
                let per_seed: Vec<_> = runs.iter().map(|&at| self.replicates[at].values(metric, *subset)).collect();
                draw.combine(&per_seed)
            })
            .collect();
        let replicates = combined.map(|parts| {
            let replicate = |at: usize| {
                let values: Option<Vec<f64>> = parts.iter().map(|values| values[at]).collect();
                of(&values?)
            };
            (0..bootstrap.resamples).map(replicate).collect::<Vec<Option<f64>>>()
        });
        let interval = replicates.and_then(|r| Interval::percentile(&r, bootstrap.level));
        let of_seed = |seed: usize| {
            let values: Option<Vec<f64>> =
                runs.iter().zip(parts).map(|(runs, (_, quantity))| point(&runs[seed..=seed], *quantity)).collect();
            of(&values?)
        };
        let by_seed: Option<Vec<f64>> = (0..seeds).map(of_seed).collect();
        let over_seeds =
            by_seed.filter(|v| v.iter().all(|v| v.is_finite())).and_then(|v| t_interval(&v, bootstrap.level));
        Score { value: Some(value), interval, over_seeds }
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
