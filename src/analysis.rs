//! What follows from a grid of runs: means over seeds, differences between models, correlations, thresholds and verdicts.
//!
//! Every number that a table, a plot or a comparison shows is computed here, once.

mod anisotropy;
mod behaviours;
mod budgets;
mod choices;
mod classes;
mod controlled;
mod correlations;
mod dimensions;
mod draws;
mod equal;
mod gaps;
mod leaderboard;
mod legibility;
mod loops;
mod norms;
mod precision;
mod score;
mod sequences;
mod spread;
mod strongest;
mod thresholds;
mod trends;
mod verdicts;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use assay_probes::metrics::{Metric, Subset, Sums, metric, ratio, total};
use assay_probes::stats::{Interval, end_errors, jackknife_variance, mean, sample_sd, t_interval};

pub use anisotropy::{CONTROLS, Control, explained};
pub use behaviours::{BEHAVIOURS, Behaviour, behaviour};
pub use budgets::SAME_TRAINING;
pub use choices::{Choices, JUDGES, Named, choices};
pub use classes::{Contrast, Differences, contrasts};
pub use controlled::{Controlled, JUDGED, Judged, Outcome, controlled, outcomes};
pub use correlations::{Agreement, agreement, agreements};
pub use dimensions::{Dimensions, dimensions, mismatch_and_failure};
pub use equal::{Given, Turned, at_equal, models_at_equal, r2};
pub use gaps::{BehaviourGap, Gap, gap, gaps, mismatches, pairs};
pub use leaderboard::{PROXIES, Proxy, ProxyRank, Reciprocal, beyond_swd, leaderboard, reciprocals, within_fixed_k};
pub use legibility::{ASKED, BEYOND, Legible, OverSeeds, legible};
pub use loops::{CloudLoops, MetricLoops, cloud_loops, kinds_of_clouds};
pub use norms::{NormPoint, norm_profile};
pub use precision::{Against, Precision, precisions};
pub use score::Score;
pub use sequences::{Influence, influence, seed_components};
pub use spread::{Overlap, SequenceSpread, monotone, overlap, overlaps, sequence_sd, sequence_spread};
pub use strongest::{Answer, Contrary, LEAST, Strong, Tally, strongest};
pub use thresholds::{TARGETS, Threshold, k_star_ratio, ratio_of_k_star, threshold, thresholds};
pub use trends::{Trend, trends};
pub use verdicts::{Finding, findings};

use crate::frames::{Class, Grid, Names, RunResult, Setting, Site, column_name};
use draws::{Draws, Replicated, Resampling};

/// The runs that differ in nothing but their seed.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Model.
    pub model: String,
    /// Where its SAEs read the model.
    pub site: Site,
    /// Token budget.
    pub budget: u64,
    /// Their architecture, objective and sparsity.
    pub setting: Setting,
    /// The numbers of the runs, by [`Grid::run`].
    pub runs: Vec<usize>,
}

impl Cell {
    fn is_of(&self, model: &str, site: &Site, budget: u64, setting: &Setting) -> bool {
        self.model == model && self.site == *site && self.budget == budget && self.setting == *setting
    }
}

/// A metric on a subset of the tokens.
pub type Quantity = (&'static Metric, Subset);

/// The metric of that name on a subset.
///
/// # Panics
/// If there is none: names are those of this program.
pub fn on(name: &str, subset: Subset) -> Quantity {
    (metric(name).expect("a metric's name"), subset)
}

/// The same on all tokens.
///
/// # Panics
/// As [`on`].
pub fn on_all(name: &str) -> Quantity {
    on(name, Subset::All)
}

/// L_recon/L_orig as the reference texts imply it from CE_rec.
pub fn loss_ratio(ce_rec: f64) -> f64 {
    2.0 - ce_rec
}

/// What a metric of one cell, or of two, is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum QuestionKind {
    Score,
    Difference,
    Ratio,
    Improvement,
    RatioOfGaps,
}

/// A question: what of which cells (by their first runs) and metric.
type Question = (QuestionKind, [usize; 2], &'static str, Subset);

/// A grid of runs with its bootstrap replicates, by one draw for all.
pub struct Analysis<'a> {
    /// The runs.
    pub grid: &'a Grid,
    /// The runs by what they share, in the order of the grid.
    pub cells: Vec<Cell>,
    /// How sites and settings are called.
    pub names: Names,
    /// Whether every run has a k.
    is_by_k: bool,
    /// Sums over the sequences of each run.
    totals: Vec<[Sums; 3]>,
    draws: Draws<'a>,
    /// Tables and figures ask the same: what was answered before.
    answers: Mutex<BTreeMap<Question, Score>>,
}

impl<'a> Analysis<'a> {
    /// Sorts the runs into cells. Replicates are drawn when something asks for them.
    pub fn new(grid: &'a Grid) -> Self {
        let cells = cells_of(grid.runs.iter().enumerate());
        let all = grid.runs.iter().chain(grid.controls.iter().map(|of| &of.run));
        let totals = all.map(|r| total(&r.sequences)).collect();
        let (names, is_by_k) = (grid.names(), grid.is_by_k());
        Self { grid, cells, names, is_by_k, totals, draws: Draws::new(grid), answers: Mutex::default() }
    }

    /// The cell of a condition.
    pub fn cell(&self, model: &str, site: &Site, budget: u64, setting: &Setting) -> Option<&Cell> {
        self.cells.iter().find(|c| c.is_of(model, site, budget, setting))
    }

    /// The cells that differ from each other in sparsity alone, the sparsest first.
    pub fn path(&self, model: &str, site: &Site, budget: u64, class: &Class) -> Vec<&Cell> {
        let of = |c: &&Cell| c.model == model && c.site == *site && c.budget == budget && c.setting.is_of(class);
        let mut cells: Vec<&Cell> = self.cells.iter().filter(of).collect();
        let place = |cell: &Cell| self.sparsity(cell).unwrap_or(f64::INFINITY);
        cells.sort_by(|a, b| place(a).total_cmp(&place(b)));
        cells
    }

    /// Where a cell lies on the axis of sparsity: its k where every run of the grid has one, else its measured L0.
    pub fn sparsity(&self, cell: &Cell) -> Option<f64> {
        if self.is_by_k { cell.setting.k.map(|k| k as f64) } else { self.column(cell, "l0") }
    }

    /// The sparsest setting of each class.
    pub fn sparsest(&self) -> Vec<Setting> {
        let mut settings = self.grid.settings();
        settings.dedup_by(|later, first| later.class() == first.class());
        settings
    }

    /// The name of a cell's site.
    pub fn site(&self, cell: &Cell) -> String {
        self.names.site(&cell.site)
    }

    /// The name of a cell's setting.
    pub fn setting(&self, cell: &Cell) -> String {
        self.names.setting(&cell.setting)
    }

    /// The runs of a cell.
    pub fn runs<'b>(&'b self, cell: &'b Cell) -> impl Iterator<Item = &'b RunResult> + 'b {
        cell.runs.iter().map(|&at| self.grid.run(at))
    }

    /// A numeric column of the runs, which need not have an interval: the mean over seeds.
    pub fn column(&self, cell: &Cell, name: &str) -> Option<f64> {
        let values: Option<Vec<f64>> = self.runs(cell).map(|r| r.value(name)).collect();
        mean(&values?)
    }

    /// A metric of a cell. The bootstrap interval of a single run is the one that its results hold, without the errors of its ends.
    pub fn score(&self, cell: &Cell, quantity: Quantity) -> Score {
        self.remembered(QuestionKind::Score, [cell, cell], quantity, || {
            let parts = [(cell, quantity)];
            self.stored(cell, quantity).unwrap_or_else(|| self.derived(&parts, |values| Some(values[0])))
        })
    }

    /// The value of [`Self::score`] alone.
    pub fn value(&self, cell: &Cell, quantity: Quantity) -> Option<f64> {
        self.point(&[(cell, quantity)], |values| Some(values[0]))
    }

    /// The score of a single run whose results hold its interval.
    fn stored(&self, cell: &Cell, (metric, subset): Quantity) -> Option<Score> {
        let [run] = cell.runs[..] else { return None };
        let interval = self.grid.run(run).interval(&column_name(subset, metric.name))?;
        let value = (metric.value)(&self.totals[run][subset.index()])?;
        let without = self.draws.values(&[run], (metric, subset), Resampling::LeaveOneOut);
        Some(Score::new(score::Sources {
            value,
            bootstrap: Some(interval),
            end_errors: None,
            over_seeds: None,
            of_sequences: of_sequences(&without),
            of_seeds: None,
            seeds: 1,
            level: self.grid.bootstrap.level,
        }))
    }

    /// The later minus the earlier cell's metric.
    pub fn difference(&self, from: &Cell, to: &Cell, quantity: Quantity) -> Score {
        self.remembered(QuestionKind::Difference, [from, to], quantity, || {
            self.derived(&[(from, quantity), (to, quantity)], |values| Some(values[1] - values[0]))
        })
    }

    /// The same of a metric of behaviour, positive where the later cell's SAEs are the better ones.
    pub fn improvement(&self, from: &Cell, to: &Cell, behaviour: &Behaviour) -> Score {
        let (quantity, sign) = behaviour.turned();
        self.remembered(QuestionKind::Improvement, [from, to], quantity, || {
            self.derived(&[(from, quantity), (to, quantity)], |values| Some(sign * (values[1] - values[0])))
        })
    }

    /// The later over the earlier cell's metric.
    pub fn ratio(&self, from: &Cell, to: &Cell, quantity: Quantity) -> Score {
        self.remembered(QuestionKind::Ratio, [from, to], quantity, || {
            self.derived(&[(from, quantity), (to, quantity)], |values| ratio(values[1], values[0]))
        })
    }

    /// The answer to a question; found only if nothing has asked it before.
    fn remembered(
        &self,
        of: QuestionKind,
        cells: [&Cell; 2],
        quantity: Quantity,
        answer: impl FnOnce() -> Score,
    ) -> Score {
        let [Some(from), Some(to)] = cells.map(|cell| cell.runs.first().copied()) else { return Score::default() };
        let question = (of, [from, to], quantity.0.name, quantity.1);
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = answers().get(&question) {
            return known;
        }
        let found = answer();
        answers().insert(question, found);
        found
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
        let replicated = |kind: Resampling| {
            let part =
                |(runs, (_, quantity)): (&Vec<usize>, &(&Cell, Quantity))| self.draws.values(runs, *quantity, kind);
            let parts: Vec<Arc<Replicated>> = runs.iter().zip(parts).map(part).collect();
            let replicates = parts.iter().map(|values| values.len()).min().unwrap_or(0);
            let replicate = |at: usize| of(&parts.iter().map(|values| values[at]).collect::<Option<Vec<f64>>>()?);
            (0..replicates).map(replicate).collect::<Replicated>()
        };
        let [replicates, without] = [Resampling::Bootstrap, Resampling::LeaveOneOut].map(replicated);
        let spread = by_seed.as_ref().and_then(|values| sample_sd(values));
        let level = self.grid.bootstrap.level;
        Score::new(score::Sources {
            value,
            bootstrap: Interval::percentile(&replicates, level),
            end_errors: end_errors(&replicates, level),
            over_seeds: by_seed.as_ref().and_then(|values| t_interval(values, level)),
            of_sequences: of_sequences(&without),
            of_seeds: spread.map(|sd| (sd.powi(2) / seeds as f64, seeds as f64 - 1.0)),
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
        let of_run = |at: usize, (metric, subset): Quantity| (metric.value)(&self.totals[at][subset.index()]);
        let of_part = |(runs, (_, quantity)): (&Vec<usize>, &(&Cell, Quantity))| {
            let values: Option<Vec<f64>> = runs[places.clone()].iter().map(|&at| of_run(at, *quantity)).collect();
            mean(&values?)
        };
        runs.iter().zip(parts).map(of_part).collect()
    }

    /// For each part, its runs with the seeds that all parts have, seeds ascending.
    fn paired_runs(&self, parts: &[(&Cell, Quantity)]) -> Vec<Vec<usize>> {
        let seed = |at: &usize| self.grid.run(*at).seed;
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

    /// The depth that a report shows where it shows one: `mid`, of which the reference texts speak most, or else the middle one.
    pub fn anchor_depth(&self) -> Option<String> {
        let depths = self.grid.depths();
        let middle = depths.get(depths.len().saturating_sub(1) / 2);
        depths.iter().find(|d| *d == "mid").or(middle).cloned()
    }

    /// The sites at that depth: one per kind of hook.
    pub fn anchor_sites(&self) -> Vec<Site> {
        let anchor = self.anchor_depth();
        self.grid.sites().into_iter().filter(|site| Some(&site.depth) == anchor.as_ref()).collect()
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

/// Runs, with their numbers, sorted into cells.
fn cells_of<'a>(runs: impl Iterator<Item = (usize, &'a RunResult)>) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for (at, run) in runs {
        match cells.iter_mut().find(|c| c.is_of(&run.model, &run.site, run.training_tokens, &run.setting)) {
            Some(cell) => cell.runs.push(at),
            None => cells.push(Cell {
                model: run.model.clone(),
                site: run.site.clone(),
                budget: run.training_tokens,
                setting: run.setting.clone(),
                runs: vec![at],
            }),
        }
    }
    cells
}

/// The variance that comes from the sequences, with its degrees of freedom, by the jackknife's values.
fn of_sequences(without: &[Option<f64>]) -> Option<(f64, f64)> {
    jackknife_variance(without).map(|v| (v, without.len() as f64 - 1.0))
}

#[cfg(test)]
pub(crate) mod made;
#[cfg(test)]
mod tests;
