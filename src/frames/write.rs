//! Records as frames.

use std::path::Path;

use anyhow::{Context, Result};
use assay_models::HookKind;
use assay_probes::geometry::ModelGeometry;
use assay_probes::metrics::{DEFLATIONS, METRICS, Subset, Sums, total};
use assay_probes::profile::NormBin;
use assay_probes::rate::Firing;
use assay_probes::stats::{Estimate, Interval, Resamples};
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use rayon::prelude::*;

use super::axes::{CONTROL, MSE};
use super::columns::{fields, frame, numbers, text, whole, write_frame};
use super::grid::{Bootstrap, Estimated, distinct};
use super::{
    CURVES, FAILURES, GEOMETRY, INFORMATION, LATENTS, LEGIBILITY, MODELS, NORMS, RUNS, SEQUENCES, TIMINGS, column_name,
};
use crate::record::{Failure, RunRecord, Timing};
use crate::replicates::Replicates;
use crate::spec::{EvalSpec, SweepControl, SweepSpec};

/// What a sweep found, to be written.
pub struct SweepRecords<'a> {
    /// Every run.
    pub records: &'a [RunRecord],
    /// Every run that failed.
    pub failures: &'a [Failure],
    /// Geometry by model.
    pub geometry: &'a [(String, ModelGeometry)],
    /// Mutual information by model, if it was asked for.
    pub information: &'a [(String, Estimated)],
    /// Models that had no path.
    pub missing: &'a [String],
}

/// What was measured of an SAE, whoever trained it.
pub(super) struct Measured<'a> {
    /// Its row in `runs`.
    pub id: &'a str,
    /// Sums by sequence and subset.
    pub sums: Vec<[Sums; 3]>,
    /// How often latents fired.
    pub firing: Firing,
    /// Errors by ‖a‖.
    pub by_norm: &'a [NormBin],
    /// Participation ratio, and without the top eigenvalues ([`DEFLATIONS`]).
    pub pr: [Option<f64>; 5],
}

impl<'a> Measured<'a> {
    fn of(record: &'a RunRecord) -> Result<Self> {
        let RunRecord { id, by_norm, pr, .. } = record;
        Ok(Self { id, sums: record.sums()?, firing: record.firing(), by_norm, pr: *pr })
    }
}

/// Writes all frames but the timings.
///
/// # Errors
/// If a record has other fields than this version's, or a file can't be written.
pub fn write(results: &Path, spec: &SweepSpec, found: &SweepRecords<'_>) -> Result<()> {
    let SweepRecords { records, failures, geometry, information, missing } = *found;
    let measured = records.iter().map(Measured::of).collect::<Result<Vec<_>>>()?;
    // First: it marks the directory as one with results.
    write_frame(&results.join(RUNS), runs_frame(spec, records, &measured)?)?;
    write_failures(&results.join(FAILURES), failures)?;
    write_frame(&results.join(INFORMATION), information_frame(information)?)?;
    write_frame(&results.join(SEQUENCES), sequences_frame(&measured)?)?;
    write_frame(&results.join(LATENTS), latents_frame(&measured)?)?;
    write_frame(&results.join(GEOMETRY), geometry_frame(geometry)?)?;
    write_frame(&results.join(CURVES), curves_frame(records)?)?;
    write_frame(&results.join(NORMS), norms_frame(&measured)?)?;
    write_frame(&results.join(MODELS), models_frame(spec.models.iter().map(|m| m.name.as_str()), missing)?)
}

/// Writes `failures`, or removes what an earlier sweep wrote there if there are none.
fn write_failures(path: &Path, failures: &[Failure]) -> Result<()> {
    if failures.is_empty() {
        return match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        };
    }
    let of = |f: fn(&Failure) -> String| failures.iter().map(f);
    let setting = |f: &Failure| {
        let train = &f.key.train;
        let control = f.key.control.map_or_else(String::new, |control| format!(" {control}"));
        format!("{} {} {}{control}", f.key.class(), f.key.objective(), train.architecture.knob())
    };
    let columns = vec![
        text("id", of(|f| f.id.clone())),
        text("model", of(|f| f.model.clone())),
        text("depth", of(|f| f.depth.clone())),
        text("hook", of(|f| f.key.hook.clone())),
        text("setting", of(setting)),
        whole("training_tokens", failures.iter().map(|f| f.key.training_tokens)),
        whole("seed", failures.iter().map(|f| f.key.seed)),
        text("when", of(Failure::when)),
        text("reason", of(|f| f.reason.clone())),
    ];
    write_frame(path, frame(columns)?)
}

/// Writes `timings`: what may differ when a sweep is run again.
///
/// # Errors
/// If the file can't be written.
pub fn write_timings(results: &Path, timings: &[Timing]) -> Result<()> {
    let of = |f: fn(&Timing) -> f64| timings.iter().map(f).collect::<Vec<f64>>();
    let columns = vec![
        text("id", timings.iter().map(|t| t.id.clone())),
        Column::from(Series::new("train_seconds".into(), of(|t| t.train_seconds))),
        Column::from(Series::new("capture_seconds".into(), of(|t| t.capture_seconds))),
        Column::from(Series::new("eval_seconds".into(), of(|t| t.eval_seconds))),
        Column::from(Series::new("tokens_per_second".into(), of(|t| t.tokens_per_second))),
        whole("threads", timings.iter().map(|t| t.threads as u64)),
        text("device", timings.iter().map(|t| t.device.clone())),
        whole("finished_at", timings.iter().map(|t| t.finished_at)),
        text("version", timings.iter().map(|t| t.version.clone())),
    ];
    write_frame(&results.join(TIMINGS), frame(columns)?)
}

/// Active latents per token where the class fixes a whole number of them.
fn whole_k(record: &RunRecord) -> Option<u64> {
    record.key.train.architecture.k().filter(|k| k.fract() == 0.0).map(|k| k as u64)
}

/// The column of those numbers; without a null it is written as one that can have none.
fn ks(records: &[RunRecord]) -> Column {
    let all: Option<Vec<u64>> = records.iter().map(whole_k).collect();
    match all {
        Some(all) => whole("k", all.into_iter()),
        None => Column::from(Series::new("k".into(), records.iter().map(whole_k).collect::<Vec<Option<u64>>>())),
    }
}

fn runs_frame(spec: &SweepSpec, records: &[RunRecord], measured: &[Measured<'_>]) -> Result<DataFrame> {
    let EvalSpec { resamples, level, seed, .. } = spec.eval;
    let bootstrap = Bootstrap { resamples, level, seed };
    let mut columns = vec![
        text("id", records.iter().map(|r| r.id.clone())),
        text("model", records.iter().map(|r| r.model.clone())),
        text("depth", records.iter().map(|r| r.depth.clone())),
        text("hook", records.iter().map(|r| r.key.hook.clone())),
        text("architecture", records.iter().map(|r| r.key.class())),
        text("recipe", records.iter().map(|r| r.recipe.clone())),
        text("weights", records.iter().map(|r| r.key.weights.clone())),
        text("train_tokens", records.iter().map(|r| r.key.train_tokens.clone())),
        text("eval_tokens", records.iter().map(|r| r.key.eval_tokens.clone())),
        text("device_class", records.iter().map(|r| r.key.device_class.clone())),
        text("precision", records.iter().map(|r| r.key.precision.clone())),
        text("train_config", records.iter().map(|r| serde_json::to_string(&r.key.train).unwrap_or_default())),
        whole("layer", records.iter().map(|r| r.layer as u64)),
        whole("n_layers", records.iter().map(|r| r.n_layers as u64)),
        whole("d_model", records.iter().map(|r| r.key.train.d_model as u64)),
        whole("d_sae", records.iter().map(|r| r.key.train.d_sae as u64)),
        ks(records),
        whole("seed", records.iter().map(|r| r.key.seed)),
        whole("training_tokens", records.iter().map(|r| r.key.training_tokens)),
        whole("metric_version", records.iter().map(|r| u64::from(r.key.metric_version))),
        whole("context_size", records.iter().map(|r| r.key.context_size as u64)),
        whole("buffer_tokens", records.iter().map(|r| r.key.buffer_tokens as u64)),
        whole("contexts_per_pass", records.iter().map(|r| r.key.contexts_per_pass as u64)),
        whole("eval_batch", records.iter().map(|r| r.key.eval_batch as u64)),
        whole("fisher_samples", records.iter().map(|r| r.key.fisher_samples as u64)),
        whole("fisher_seed", records.iter().map(|r| r.key.fisher_seed)),
        Column::from(Series::new(
            "center_residual".into(),
            records.iter().map(|r| r.key.center_residual).collect::<Vec<bool>>(),
        )),
    ];
    columns.extend(how_measured(measured, bootstrap));
    columns.push(numbers("final_loss", records.iter().map(|r| Some(r.final_loss))));
    columns.push(whole("n_dead", records.iter().map(|r| r.n_dead as u64)));
    columns.extend(codes(measured));
    // A column only where there is something in it: what was written without it stays as it was.
    if records.iter().any(|r| r.key.reads.is_some()) {
        let reads = records.iter().map(|r| r.key.reads.map(HookKind::short_name)).collect::<Vec<Option<&str>>>();
        columns.push(Column::from(Series::new("reads".into(), reads)));
    }
    if records.iter().any(|r| r.passes_halved > 0) {
        columns.push(whole("passes_halved", records.iter().map(|r| u64::from(r.passes_halved))));
    }
    if records.iter().any(|r| r.key.bos.is_some()) {
        let bos = records.iter().map(|r| r.key.bos).collect::<Vec<Option<u32>>>();
        columns.push(Column::from(Series::new("bos".into(), bos)));
    }
    if records.iter().any(|r| r.key.objective() != MSE) {
        columns.push(text("objective", records.iter().map(|r| r.key.objective())));
    }
    if records.iter().any(|r| whole_k(r).is_none()) {
        columns.push(text("knob", records.iter().map(|r| r.key.train.architecture.knob().to_string())));
    }
    if records.iter().any(|r| r.key.control.is_some()) {
        let control = records.iter().map(|r| r.key.control.map(SweepControl::name)).collect::<Vec<Option<&str>>>();
        columns.push(Column::from(Series::new(CONTROL.into(), control)));
    }
    if records.iter().any(|r| r.key.legibility.is_some()) {
        columns.extend(legibility(records, bootstrap));
    }
    columns.extend(scores(measured, &drawn(measured, bootstrap)));
    frame(columns)
}

/// The columns of what latents mean: the mean of each score over the latents that were drawn, and how many those were to be.
fn legibility(records: &[RunRecord], bootstrap: Bootstrap) -> Vec<Column> {
    let wanted = records.iter().map(|r| r.key.legibility.map(|of| of.latents as u64)).collect::<Vec<Option<u64>>>();
    let mut columns = vec![Column::from(Series::new("legibility_latents".into(), wanted))];
    let means: Vec<_> = records.iter().map(|r| r.legibility.as_ref().map(|of| of.means(bootstrap))).collect();
    for name in distinct(records.iter().flat_map(|r| r.legibility.iter().flat_map(|of| &of.scores))) {
        let found: Vec<Option<&Estimate>> = means.iter().map(|of| of.as_ref()?.get(name.as_str())).collect();
        let interval = |end: fn(Interval) -> f64| found.iter().map(move |of| of.and_then(|of| of.interval).map(end));
        columns.push(numbers(&format!("{LEGIBILITY}{name}"), found.iter().map(|of| of.and_then(|of| of.value))));
        columns.push(numbers(&format!("{LEGIBILITY}{name}_low"), interval(|i| i.low)));
        columns.push(numbers(&format!("{LEGIBILITY}{name}_high"), interval(|i| i.high)));
    }
    columns
}

/// The columns of what was evaluated on, and of how intervals are made.
pub(super) fn how_measured(measured: &[Measured<'_>], bootstrap: Bootstrap) -> [Column; 5] {
    [
        whole("eval_sequences", measured.iter().map(|m| m.sums.len() as u64)),
        whole("eval_token_count", measured.iter().map(|m| m.firing.tokens)),
        whole("bootstrap_resamples", measured.iter().map(|_| bootstrap.resamples as u64)),
        whole("bootstrap_seed", measured.iter().map(|_| bootstrap.seed)),
        numbers("bootstrap_level", measured.iter().map(|_| Some(bootstrap.level))),
    ]
}

/// The columns of codes' rates, and the participation ratio.
pub(super) fn codes(measured: &[Measured<'_>]) -> [Column; 4] {
    [
        numbers("alive_frac", measured.iter().map(|m| m.firing.alive_frac())),
        numbers("bits_per_token", measured.iter().map(|m| m.firing.bits_per_token())),
        numbers("bits_bernoulli", measured.iter().map(|m| m.firing.bits_bernoulli())),
        numbers("pr", measured.iter().map(|m| m.pr[0])),
    ]
}

/// The intervals of every metric on all subsets, one subset after another.
pub(super) fn intervals(replicates: &Replicates, level: f64) -> Vec<Option<Interval>> {
    let of = |subset| METRICS.iter().map(move |metric| (metric, subset));
    let all = Subset::ALL.into_iter().flat_map(of);
    all.map(|(metric, subset)| replicates.interval(metric, subset, level)).collect()
}

/// Those of each run. Its replicates are dropped before the next one's are made.
fn drawn(measured: &[Measured<'_>], bootstrap: Bootstrap) -> Vec<Vec<Option<Interval>>> {
    let items = measured.first().map_or(0, |m| m.sums.len());
    let counts = Resamples::draw(items, bootstrap.resamples, bootstrap.seed).counts();
    measured.par_iter().map(|m| intervals(&Replicates::new(&m.sums, &counts), bootstrap.level)).collect()
}

/// The columns of every metric on every subset, with the [`intervals`] of each run, after those of the deflated participation ratios.
pub(super) fn scores(measured: &[Measured<'_>], intervals: &[Vec<Option<Interval>>]) -> Vec<Column> {
    let mut columns = Vec::new();
    for (at, top) in DEFLATIONS.into_iter().enumerate() {
        columns.push(numbers(&format!("pr_deflated_{top}"), measured.iter().map(|m| m.pr[at + 1])));
    }
    let totals: Vec<[Sums; 3]> = measured.iter().map(|m| total(&m.sums)).collect();
    for subset in Subset::ALL {
        for (at, metric) in METRICS.iter().enumerate() {
            let name = column_name(subset, metric.name);
            columns.push(numbers(&name, totals.iter().map(|t| (metric.value)(&t[subset.index()]))));
            if metric.name == "tokens" {
                continue;
            }
            let intervals: Vec<_> = intervals.iter().map(|i| i[subset.index() * METRICS.len() + at]).collect();
            columns.push(numbers(&format!("{name}_low"), intervals.iter().map(|i| i.map(|i| i.low))));
            columns.push(numbers(&format!("{name}_high"), intervals.iter().map(|i| i.map(|i| i.high))));
        }
    }
    columns
}

pub(super) fn sequences_frame(measured: &[Measured<'_>]) -> Result<DataFrame> {
    let rows = || measured.iter().flat_map(|m| m.sums.iter().enumerate().map(move |(i, s)| (m, i, s)));
    let mut columns =
        vec![text("id", rows().map(|(m, _, _)| m.id.to_owned())), whole("sequence", rows().map(|(_, i, _)| i as u64))];
    for subset in Subset::ALL {
        for (field, name) in Sums::FIELDS.iter().enumerate() {
            // What a subset shares with all tokens, as where none is an outlier, is not stored twice.
            let values = rows().map(|(_, _, sums)| {
                let [all, value] = [Subset::All, subset].map(|s| sums[s.index()].values().get(field).copied());
                value.filter(|_| subset == Subset::All || value != all)
            });
            columns.push(numbers(&format!("{}.{name}", subset.name()), values));
        }
    }
    frame(columns)
}

pub(super) fn latents_frame(measured: &[Measured<'_>]) -> Result<DataFrame> {
    let rows = || measured.iter().flat_map(|m| m.firing.fires.iter().enumerate().map(move |(i, &f)| (m, i, f)));
    frame(vec![
        text("id", rows().map(|(m, _, _)| m.id.to_owned())),
        whole("latent", rows().map(|(_, i, _)| i as u64)),
        whole("fires", rows().map(|(_, _, f)| f)),
        numbers("density", rows().map(|(m, _, f)| Some(f as f64 / m.firing.tokens.max(1) as f64))),
    ])
}

pub(super) fn geometry_frame(geometry: &[(String, ModelGeometry)]) -> Result<DataFrame> {
    let rows = || geometry.iter().flat_map(|(model, g)| g.layers.iter().map(move |layer| (model, g, layer)));
    let mut columns = vec![
        text("model", rows().map(|(model, _, _)| model.clone())),
        numbers("ce_orig", rows().map(|(_, g, _)| Some(g.ce_orig))),
    ];
    columns.extend(fields(rows().map(|(_, _, layer)| layer))?);
    frame(columns)
}

pub(super) fn curves_frame(records: &[RunRecord]) -> Result<DataFrame> {
    let rows = || records.iter().flat_map(|r| r.curve.iter().map(move |point| (r, point)));
    let mut columns = vec![
        text("id", rows().map(|(r, _)| r.id.clone())),
        whole("step", rows().map(|(_, (step, _))| *step)),
        numbers("loss", rows().map(|(_, (_, loss))| Some(*loss))),
    ];
    if records.iter().any(|r| !r.kl_curve.is_empty()) {
        let kl = |record: &RunRecord, step: u64| record.kl_curve.iter().find(|(at, _)| *at == step).map(|(_, kl)| *kl);
        columns.push(numbers("kl", rows().map(|(r, (step, _))| kl(r, *step))));
    }
    frame(columns)
}

pub(super) fn norms_frame(measured: &[Measured<'_>]) -> Result<DataFrame> {
    let rows = || measured.iter().flat_map(|m| m.by_norm.iter().enumerate().map(move |(i, bin)| (m, i, bin)));
    let mut columns =
        vec![text("id", rows().map(|(m, _, _)| m.id.to_owned())), whole("bin", rows().map(|(_, i, _)| i as u64))];
    columns.extend(fields(rows().map(|(_, _, bin)| bin))?);
    frame(columns)
}

pub(super) fn information_frame(information: &[(String, Estimated)]) -> Result<DataFrame> {
    let rows = || information.iter().map(|(_, e)| e);
    let count = |f: fn(&Estimated) -> Option<usize>| rows().map(move |e| f(e).map(|v| v as f64));
    frame(vec![
        text("model", information.iter().map(|(model, _)| model.clone())),
        text("depth", rows().map(|e| e.depth.clone())),
        numbers("layer", count(|e| Some(e.layer))),
        text("hook", rows().map(|e| e.hook.clone())),
        text("critic", rows().map(|e| e.critic.clone())),
        text("bound", rows().map(|e| e.bound.clone())),
        numbers("width", count(|e| e.width)),
        numbers("nats", rows().map(|e| Some(e.nats))),
        numbers("standard_error", rows().map(|e| e.standard_error)),
        numbers("cap", rows().map(|e| e.cap)),
        numbers("components", count(|e| Some(e.components))),
        numbers("variance_share", rows().map(|e| e.variance_share)),
        numbers("pairs", count(|e| Some(e.pairs))),
    ])
}

pub(super) fn models_frame<'a>(models: impl Iterator<Item = &'a str> + Clone, missing: &[String]) -> Result<DataFrame> {
    frame(vec![
        text("model", models.clone().map(str::to_owned)),
        Column::from(Series::new(
            "found".into(),
            models.map(|model| !missing.iter().any(|name| name == model)).collect::<Vec<bool>>(),
        )),
    ])
}
