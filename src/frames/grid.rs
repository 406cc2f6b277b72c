//! A results directory in memory.

use std::collections::BTreeMap;

use assay_probes::geometry::LayerGeometry;
use assay_probes::metrics::Sums;
use assay_probes::profile::NormBin;
use assay_probes::stats::{Interval, Resamples};
use serde::{Deserialize, Serialize};

/// One run as the report sees it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The run's id.
    pub id: String,
    /// Model.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// Hook point.
    pub hook: String,
    /// Active latents per token.
    pub k: u64,
    /// Seed.
    pub seed: u64,
    /// Token budget.
    pub training_tokens: u64,
    /// Values of the numeric columns, by name; null where undefined.
    pub values: BTreeMap<String, Option<f64>>,
    /// Sums by sequence and subset.
    pub sequences: Vec<[Sums; 3]>,
    /// Training loss by step.
    pub curve: Vec<(u64, f64)>,
    /// Errors by ‖a‖, smallest first.
    pub by_norm: Vec<NormBin>,
}

impl Run {
    /// A numeric column.
    pub fn value(&self, column: &str) -> Option<f64> {
        self.values.get(column).copied().flatten()
    }

    /// The interval of a metric's column.
    pub fn interval(&self, column: &str) -> Option<Interval> {
        let end = |name: &str| self.value(&format!("{column}_{name}"));
        Some(Interval { low: end("low")?, high: end("high")? })
    }
}

/// One estimate of the mutual information of a hook's activations with the logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimated {
    /// Name of the depth.
    pub depth: String,
    /// Layer of the hook.
    pub layer: usize,
    /// `separable` or `concatenated`.
    pub critic: String,
    /// `info_nce` or `smile`.
    pub bound: String,
    /// Dimensions that the activation was first mapped to; `None` for all of them.
    pub width: Option<usize>,
    /// The estimate, nats.
    pub nats: f64,
    /// Its standard error over held-out batches.
    pub standard_error: Option<f64>,
    /// The largest value that the bound can take.
    pub cap: Option<f64>,
    /// Principal components of the logits.
    pub components: usize,
    /// Share of the logits' variance in them.
    pub variance_share: Option<f64>,
    /// Held-out pairs that it was read off.
    pub pairs: usize,
}

/// How intervals are made: as the spec had it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Replicates.
    pub resamples: usize,
    /// Level.
    pub level: f64,
    /// Seed of the draw.
    pub seed: u64,
}

/// All that a results directory holds in parquet.
#[derive(Clone, Debug)]
pub struct Grid {
    /// In the order of the spec: models, budgets, hooks, seeds, k.
    pub runs: Vec<Run>,
    /// Geometry by model.
    pub geometry: Vec<(String, Vec<LayerGeometry>)>,
    /// Mutual information by model; empty where none was measured.
    pub information: Vec<(String, Estimated)>,
    /// Models that the spec names and that had no path.
    pub missing: Vec<String>,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
}

impl Grid {
    fn distinct<T: PartialEq>(&self, of: impl Fn(&Run) -> T) -> Vec<T> {
        let mut found = Vec::new();
        for run in &self.runs {
            let value = of(run);
            if !found.contains(&value) {
                found.push(value);
            }
        }
        found
    }

    /// Models, in the spec's order.
    pub fn models(&self) -> Vec<String> {
        self.distinct(|r| r.model.clone())
    }

    /// Depths, shallowest first.
    pub fn depths(&self) -> Vec<String> {
        self.distinct(|r| r.depth.clone())
    }

    /// Sparsities, ascending.
    pub fn ks(&self) -> Vec<u64> {
        let mut ks = self.distinct(|r| r.k);
        ks.sort_unstable();
        ks
    }

    /// Token budgets, ascending.
    pub fn budgets(&self) -> Vec<u64> {
        let mut budgets = self.distinct(|r| r.training_tokens);
        budgets.sort_unstable();
        budgets
    }

    /// Seeds, ascending.
    pub fn seeds(&self) -> Vec<u64> {
        let mut seeds = self.distinct(|r| r.seed);
        seeds.sort_unstable();
        seeds
    }

    /// Everything that a run of one model may be compared at with one of another: depth, budget, k, seed.
    pub fn conditions(&self) -> Vec<(String, u64, u64, u64)> {
        let mut conditions = Vec::new();
        for depth in self.depths() {
            for budget in self.budgets() {
                for k in self.ks() {
                    conditions.extend(self.seeds().into_iter().map(|seed| (depth.clone(), budget, k, seed)));
                }
            }
        }
        conditions
    }

    /// Where the run of a cell is.
    pub fn position(&self, model: &str, depth: &str, k: u64, seed: u64, budget: u64) -> Option<usize> {
        self.runs.iter().position(|r| {
            r.model == model && r.depth == depth && r.k == k && r.seed == seed && r.training_tokens == budget
        })
    }

    /// The draw that all runs share.
    pub fn resamples(&self) -> Resamples {
        let items = self.runs.first().map_or(0, |r| r.sequences.len());
        Resamples::draw(items, self.bootstrap.resamples, self.bootstrap.seed)
    }
}
