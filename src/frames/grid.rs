//! A results directory in memory.

use std::collections::BTreeMap;

use assay_probes::geometry::LayerGeometry;
use assay_probes::metrics::Sums;
use assay_probes::profile::NormBin;
use assay_probes::stats::{Interval, Resamples};
use serde::{Deserialize, Serialize};

use super::Loops;
use super::axes::{Class, Names, RESID_POST, Setting, Site, kind_of};

/// One run as the report sees it.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// The run's id.
    pub id: String,
    /// Model.
    pub model: String,
    /// Depth and kind of its hook point.
    pub site: Site,
    /// The hook point itself, with its layer.
    pub hook: String,
    /// Architecture, objective and sparsity.
    pub setting: Setting,
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

impl RunResult {
    /// A numeric column.
    pub fn value(&self, column: &str) -> Option<f64> {
        self.values.get(column).copied().flatten()
    }

    /// The interval of a metric's column.
    pub fn interval(&self, column: &str) -> Option<Interval> {
        let end = |name: &str| self.value(&format!("{column}_{name}"));
        Some(Interval { low: end("low")?, high: end("high")? })
    }

    /// Where the run lies on the axis of sparsity: k, or the measured L0 where it has none.
    fn sparsity(&self) -> Option<f64> {
        self.setting.k.map(|k| k as f64).or_else(|| self.value("l0"))
    }
}

/// A run that is a control of another one, which has its model, site, setting, budget and seed.
#[derive(Clone, Debug)]
pub struct ControlRun {
    /// Which control: `random-model`, `frozen-decoder`, `permuted-decoder`.
    pub control: String,
    /// The run.
    pub run: RunResult,
}

/// One estimate of the mutual information of a hook's activations with the logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimated {
    /// Name of the depth.
    pub depth: String,
    /// Layer of the hook.
    pub layer: usize,
    /// The hook point; empty in records of sweeps that knew one kind alone.
    #[serde(default)]
    pub hook: String,
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

impl Estimated {
    /// The kind of the hook.
    pub fn kind(&self) -> &str {
        if self.hook.is_empty() { RESID_POST } else { kind_of(&self.hook) }
    }
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
    /// In the order of the spec: models, budgets, hooks, seeds, settings.
    pub runs: Vec<RunResult>,
    /// SAEs that are one of those, bit for bit, under another name, as where a loss without outliers met none. They are in no number.
    pub copies: Vec<RunResult>,
    /// Controls of them, in the same order: what compares runs leaves them out.
    pub controls: Vec<ControlRun>,
    /// Geometry by model.
    pub geometry: Vec<(String, Vec<LayerGeometry>)>,
    /// Mutual information by model; empty where none was measured.
    pub information: Vec<(String, Estimated)>,
    /// Tests of loops; empty where none were asked for.
    pub loops: Loops,
    /// Models that the spec names and that had no path.
    pub missing: Vec<String>,
    /// Runs that failed, which are in no number.
    pub failed: Vec<FailedRun>,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRun {
    /// Its model.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// Where it was to be patched in.
    pub hook: String,
    /// Architecture, objective and what was to set the sparsity.
    pub setting: String,
    /// Token budget.
    pub training_tokens: u64,
    /// Seed.
    pub seed: u64,
    /// When: `at step 17`.
    pub when: String,
    /// What was not finite.
    pub reason: String,
}

impl Grid {
    /// The run of that number: those of [`Self::runs`], and after them those of [`Self::controls`].
    ///
    /// # Panics
    /// If there are not so many.
    pub fn run(&self, at: usize) -> &RunResult {
        self.runs.get(at).unwrap_or_else(|| &self.controls[at - self.runs.len()].run)
    }

    /// Whether some run is a control.
    pub fn has_controls(&self) -> bool {
        !self.controls.is_empty()
    }

    /// All runs, those that are controls last, with which control they are; the others' is empty.
    pub fn with_controls(&self) -> impl Iterator<Item = (&str, &RunResult)> {
        let own = self.runs.iter().map(|run| ("", run));
        own.chain(self.controls.iter().map(|ControlRun { control, run }| (control.as_str(), run)))
    }

    /// Which controls there are, in the spec's order.
    pub fn control_names(&self) -> Vec<&str> {
        distinct(self.controls.iter().map(|of| of.control.as_str()))
    }

    fn distinct<T: PartialEq>(&self, of: impl Fn(&RunResult) -> T) -> Vec<T> {
        distinct(self.runs.iter().map(of))
    }

    /// Models, in the spec's order.
    pub fn models(&self) -> Vec<String> {
        self.distinct(|r| r.model.clone())
    }

    /// Depths, shallowest first.
    pub fn depths(&self) -> Vec<String> {
        self.distinct(|r| r.site.depth.clone())
    }

    /// Kinds of hooks, in the spec's order, and whether activations there are centred.
    pub fn kinds(&self) -> Vec<(String, bool)> {
        self.distinct(|r| (r.site.kind.clone(), r.site.centered))
    }

    /// Sites: kind by kind, of each the depths, shallowest first.
    pub fn sites(&self) -> Vec<Site> {
        let (kinds, depths) = (self.kinds(), self.depths());
        let place = |site: &Site| {
            let kind = kinds.iter().position(|(kind, centered)| *kind == site.kind && *centered == site.centered);
            (kind, depths.iter().position(|d| *d == site.depth))
        };
        let mut sites = self.distinct(|r| r.site.clone());
        sites.sort_by_key(place);
        sites
    }

    /// Architectures, in the spec's order.
    pub fn architectures(&self) -> Vec<String> {
        self.distinct(|r| r.setting.architecture.clone())
    }

    /// What SAEs were trained for, in the spec's order.
    pub fn objectives(&self) -> Vec<String> {
        self.distinct(|r| r.setting.objective.clone())
    }

    /// Architectures and objectives together, in the spec's order.
    pub fn classes(&self) -> Vec<Class> {
        self.distinct(|r| r.setting.class())
    }

    /// Settings: class by class, of each the sparsest first.
    pub fn settings(&self) -> Vec<Setting> {
        let classes = self.classes();
        let place =
            |(setting, sparsity): &(Setting, f64)| (classes.iter().position(|class| setting.is_of(class)), *sparsity);
        let sparsity = |setting: Setting| {
            let run = self.runs.iter().find(|r| r.setting == setting);
            (setting, run.and_then(RunResult::sparsity).unwrap_or(f64::INFINITY))
        };
        let mut settings: Vec<_> = self.distinct(|r| r.setting.clone()).into_iter().map(sparsity).collect();
        settings.sort_by(|a, b| {
            let ((of_a, a), (of_b, b)) = (place(a), place(b));
            of_a.cmp(&of_b).then(a.total_cmp(&b))
        });
        settings.into_iter().map(|(setting, _)| setting).collect()
    }

    /// Numbers of active latents that settings fix, ascending.
    pub fn ks(&self) -> Vec<u64> {
        let mut ks: Vec<u64> = self.distinct(|r| r.setting.k).into_iter().flatten().collect();
        ks.sort_unstable();
        ks
    }

    /// Whether every run has a k: then that is the axis of sparsity, else the measured L0.
    pub fn is_by_k(&self) -> bool {
        self.runs.iter().all(|r| r.setting.k.is_some())
    }

    /// How its sites and settings are called.
    pub fn names(&self) -> Names {
        Names::of(&self.runs)
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

    /// The draw that all runs share.
    pub fn resamples(&self) -> Resamples {
        let items = self.runs.first().map_or(0, |r| r.sequences.len());
        Resamples::draw(items, self.bootstrap.resamples, self.bootstrap.seed)
    }
}

/// Each value once, in the order of its first.
pub(crate) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}
