//! Results as Polars frames: written once a sweep is done, and read back for tables, plots and reports.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use assay_probes::geometry::{LayerGeometry, ModelGeometry};
use assay_probes::metrics::{METRICS, Subset, Sums, total};
use assay_probes::stats::{Interval, Resamples};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetReader, ParquetWriter, SerReader, Series};

use crate::record::{Record, Timing, write_atomic_with};
use crate::replicates::Replicates;
use crate::spec::SweepSpec;

const RUNS: &str = "runs.parquet";
const SEQUENCES: &str = "sequences.parquet";
const LATENTS: &str = "latents.parquet";
const GEOMETRY: &str = "geometry.parquet";
const TIMINGS: &str = "timings.parquet";

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
    /// Active latents a token.
    pub k: u64,
    /// Seed.
    pub seed: u64,
    /// Token budget.
    pub training_tokens: u64,
    /// Values of the numeric columns, by name; null where undefined.
    pub values: BTreeMap<String, Option<f64>>,
    /// Sums by sequence and subset.
    pub sequences: Vec<[Sums; 3]>,
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

/// Writes `runs`, `sequences`, `latents` and `geometry`.
///
/// # Errors
/// If a record has other fields than this version's, or a file can't be written.
pub fn write(results: &Path, spec: &SweepSpec, records: &[Record], geometry: &[(String, ModelGeometry)]) -> Result<()> {
    write_frame(&results.join(RUNS), runs_frame(spec, records)?)?;
    write_frame(&results.join(SEQUENCES), sequences_frame(records)?)?;
    write_frame(&results.join(LATENTS), latents_frame(records)?)?;
    write_frame(&results.join(GEOMETRY), geometry_frame(geometry)?)
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

fn runs_frame(spec: &SweepSpec, records: &[Record]) -> Result<DataFrame> {
    let mut columns = vec![
        text("id", records.iter().map(|r| r.id.clone())),
        text("model", records.iter().map(|r| r.model.clone())),
        text("depth", records.iter().map(|r| r.depth.clone())),
        text("hook", records.iter().map(|r| r.key.hook.clone())),
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
        whole("k", records.iter().map(|r| r.key.train.k as u64)),
        whole("seed", records.iter().map(|r| r.key.seed)),
        whole("training_tokens", records.iter().map(|r| r.key.training_tokens)),
        whole("metric_version", records.iter().map(|r| u64::from(r.key.metric_version))),
        whole("context_size", records.iter().map(|r| r.key.context_size as u64)),
        whole("buffer_tokens", records.iter().map(|r| r.key.buffer_tokens as u64)),
        whole("contexts_per_pass", records.iter().map(|r| r.key.contexts_per_pass as u64)),
        whole("eval_batch", records.iter().map(|r| r.key.eval_batch as u64)),
        Column::from(Series::new(
            "center_residual".into(),
            records.iter().map(|r| r.key.center_residual).collect::<Vec<bool>>(),
        )),
        whole("eval_sequences", records.iter().map(|r| r.sequences.len() as u64)),
        whole("eval_token_count", records.iter().map(|r| r.eval_token_count)),
        whole("bootstrap_resamples", records.iter().map(|_| spec.eval.resamples as u64)),
        whole("bootstrap_seed", records.iter().map(|_| spec.eval.seed)),
        numbers("bootstrap_level", records.iter().map(|_| Some(spec.eval.level))),
        numbers("final_loss", records.iter().map(|r| Some(r.final_loss))),
        whole("n_dead", records.iter().map(|r| r.n_dead as u64)),
        numbers("alive_frac", records.iter().map(|r| r.firing().alive_frac())),
        numbers("bits_per_token", records.iter().map(|r| r.firing().bits_per_token())),
        numbers("bits_bernoulli", records.iter().map(|r| r.firing().bits_bernoulli())),
        numbers("pr", records.iter().map(|r| r.pr[0])),
        numbers("pr_deflated_1", records.iter().map(|r| r.pr[1])),
        numbers("pr_deflated_4", records.iter().map(|r| r.pr[2])),
    ];
    let sums = records.iter().map(Record::sums).collect::<Result<Vec<_>>>()?;
    let items = sums.first().map_or(0, Vec::len);
    let resamples = Resamples::draw(items, spec.eval.resamples, spec.eval.seed);
    let replicates: Vec<Replicates> = sums.iter().map(|s| Replicates::new(s, &resamples)).collect();
    let totals: Vec<[Sums; 3]> = sums.iter().map(total).collect();
    for subset in Subset::ALL {
        for metric in METRICS {
            let name = column_name(subset, metric.name);
            columns.push(numbers(&name, totals.iter().map(|t| (metric.value)(&t[subset.index()]))));
            if metric.name == "tokens" {
                continue;
            }
            let intervals: Vec<_> = replicates.iter().map(|r| r.interval(metric, subset, spec.eval.level)).collect();
            columns.push(numbers(&format!("{name}_low"), intervals.iter().map(|i| i.map(|i| i.low))));
            columns.push(numbers(&format!("{name}_high"), intervals.iter().map(|i| i.map(|i| i.high))));
        }
    }
    frame(columns)
}

/// A metric's column: its name on all tokens, with the subset before it otherwise.
pub fn column_name(subset: Subset, metric: &str) -> String {
    match subset {
        Subset::All => metric.to_owned(),
        other => format!("{}.{metric}", other.name()),
    }
}

fn sequences_frame(records: &[Record]) -> Result<DataFrame> {
    let rows = || records.iter().flat_map(|r| r.sequences.iter().enumerate().map(move |(i, s)| (r, i, s)));
    let mut columns =
        vec![text("id", rows().map(|(r, _, _)| r.id.clone())), whole("sequence", rows().map(|(_, i, _)| i as u64))];
    for subset in Subset::ALL {
        for (field, name) in Sums::FIELDS.iter().enumerate() {
            let values = rows().map(|(_, _, sums)| sums[subset.index()].get(field).copied());
            columns.push(numbers(&format!("{}.{name}", subset.name()), values));
        }
    }
    frame(columns)
}

fn latents_frame(records: &[Record]) -> Result<DataFrame> {
    let rows = || records.iter().flat_map(|r| r.fires.iter().enumerate().map(move |(i, &f)| (r, i, f)));
    frame(vec![
        text("id", rows().map(|(r, _, _)| r.id.clone())),
        whole("latent", rows().map(|(_, i, _)| i as u64)),
        whole("fires", rows().map(|(_, _, f)| f)),
        numbers("density", rows().map(|(r, _, f)| Some(f as f64 / r.eval_token_count.max(1) as f64))),
    ])
}

fn geometry_frame(geometry: &[(String, ModelGeometry)]) -> Result<DataFrame> {
    let rows = || geometry.iter().flat_map(|(model, g)| g.layers.iter().map(move |layer| (model, g, layer)));
    let column = |name: &str, f: fn(&LayerGeometry) -> Option<f64>| numbers(name, rows().map(|(_, _, layer)| f(layer)));
    frame(vec![
        text("model", rows().map(|(model, _, _)| model.clone())),
        whole("layer", rows().map(|(_, _, layer)| layer.layer as u64)),
        numbers("ce_orig", rows().map(|(_, g, _)| Some(g.ce_orig))),
        column("pr", |l| l.pr),
        column("pr_deflated_1", |l| l.pr_deflated_1),
        column("pr_deflated_4", |l| l.pr_deflated_4),
        column("pr_over_d_model", |l| l.pr_over_d_model),
        column("mean_norm", |l| Some(l.mean_norm)),
        column("max_norm", |l| Some(l.max_norm)),
        column("variance", |l| Some(l.variance)),
        column("top_eigenvalue_share", |l| l.top_eigenvalue_share),
        column("outlier_frac", |l| Some(l.outlier_frac)),
    ])
}

/// Reads a results directory.
///
/// # Errors
/// If a file is missing, damaged or lacks a column; the message says which.
pub fn read(results: &Path) -> Result<Grid> {
    let runs = Frame::open(&results.join(RUNS))?;
    let sequences = Frame::open(&results.join(SEQUENCES))?;
    let mut sums: BTreeMap<String, Vec<[Sums; 3]>> = BTreeMap::new();
    let mut fields: Vec<Vec<Option<f64>>> = Vec::new();
    for subset in Subset::ALL {
        for name in Sums::FIELDS {
            fields.push(sequences.numbers(&format!("{}.{name}", subset.name()))?);
        }
    }
    for (row, id) in sequences.text("id")?.into_iter().enumerate() {
        let values: Vec<f64> = fields.iter().map(|f| f[row].unwrap_or(f64::NAN)).collect();
        let parts: Vec<Sums> = values.chunks(Sums::FIELDS.len()).filter_map(Sums::from_values).collect();
        let parts: [Sums; 3] = parts.try_into().ok().context("three subsets of sums")?;
        sums.entry(id).or_default().push(parts);
    }
    let (ids, models, depths, hooks) = (runs.text("id")?, runs.text("model")?, runs.text("depth")?, runs.text("hook")?);
    let (ks, seeds, budgets) = (runs.whole("k")?, runs.whole("seed")?, runs.whole("training_tokens")?);
    let numeric = runs.numeric_columns()?;
    let mut out = Vec::with_capacity(ids.len());
    for (row, id) in ids.into_iter().enumerate() {
        out.push(Run {
            model: models[row].clone(),
            depth: depths[row].clone(),
            hook: hooks[row].clone(),
            k: ks[row],
            seed: seeds[row],
            training_tokens: budgets[row],
            values: numeric.iter().map(|(name, values)| (name.clone(), values[row])).collect(),
            sequences: sums.remove(&id).with_context(|| format!("{SEQUENCES} has no rows of run {id}"))?,
            id,
        });
    }
    let first = out.first().with_context(|| format!("{} holds no runs", results.join(RUNS).display()))?;
    let bootstrap = Bootstrap {
        resamples: runs.whole("bootstrap_resamples")?[0] as usize,
        level: first.value("bootstrap_level").with_context(|| format!("{RUNS} has no bootstrap_level"))?,
        seed: runs.whole("bootstrap_seed")?[0],
    };
    Ok(Grid { bootstrap, runs: out, geometry: read_geometry(results)? })
}

fn read_geometry(results: &Path) -> Result<Vec<(String, Vec<LayerGeometry>)>> {
    let frame = Frame::open(&results.join(GEOMETRY))?;
    let column = |name: &str| frame.numbers(name);
    let (layer, pr, deflated_1, deflated_4) =
        (column("layer")?, column("pr")?, column("pr_deflated_1")?, column("pr_deflated_4")?);
    let (relative, mean, max) = (column("pr_over_d_model")?, column("mean_norm")?, column("max_norm")?);
    let (variance, share, outliers) = (column("variance")?, column("top_eigenvalue_share")?, column("outlier_frac")?);
    let mut out: Vec<(String, Vec<LayerGeometry>)> = Vec::new();
    for (row, model) in frame.text("model")?.into_iter().enumerate() {
        let geometry = LayerGeometry {
            layer: layer[row].unwrap_or_default() as usize,
            pr: pr[row],
            pr_deflated_1: deflated_1[row],
            pr_deflated_4: deflated_4[row],
            pr_over_d_model: relative[row],
            mean_norm: mean[row].unwrap_or(f64::NAN),
            max_norm: max[row].unwrap_or(f64::NAN),
            variance: variance[row].unwrap_or(f64::NAN),
            top_eigenvalue_share: share[row],
            outlier_frac: outliers[row].unwrap_or(f64::NAN),
        };
        match out.last_mut() {
            Some((last, layers)) if *last == model => layers.push(geometry),
            _ => out.push((model, vec![geometry])),
        }
    }
    Ok(out)
}

/// A parquet file, with errors that name it and the column.
struct Frame {
    name: String,
    frame: DataFrame,
}

impl Frame {
    fn open(path: &Path) -> Result<Self> {
        let file =
            File::open(path).with_context(|| format!("cannot read {}; `assay sweep` writes it", path.display()))?;
        let frame = ParquetReader::new(file)
            .finish()
            .with_context(|| format!("{} is no parquet file or damaged; run the sweep again", path.display()))?;
        Ok(Self { name: path.display().to_string(), frame })
    }

    fn column(&self, name: &str) -> Result<&Series> {
        let column = self.frame.column(name).with_context(|| format!("{}: no column {name}", self.name))?;
        Ok(column.as_materialized_series())
    }

    fn text(&self, name: &str) -> Result<Vec<String>> {
        let series = self.column(name)?;
        let values = series.str().with_context(|| format!("{}: column {name} is not text", self.name))?;
        Ok(values.iter().map(|v| v.unwrap_or_default().to_owned()).collect())
    }

    fn numbers(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let cast = self.column(name)?.cast(&polars::prelude::DataType::Float64);
        let cast = cast.with_context(|| format!("{}: column {name} is not numeric", self.name))?;
        Ok(cast.f64().with_context(|| format!("{}: column {name}", self.name))?.iter().collect())
    }

    /// Whole numbers, of which f64 would lose digits.
    fn whole(&self, name: &str) -> Result<Vec<u64>> {
        let cast = self.column(name)?.cast(&polars::prelude::DataType::UInt64);
        let cast = cast.with_context(|| format!("{}: column {name} is not whole numbers", self.name))?;
        let values = cast.u64().with_context(|| format!("{}: column {name}", self.name))?;
        values.iter().map(|v| v.with_context(|| format!("{}: column {name} holds a null", self.name))).collect()
    }

    fn numeric_columns(&self) -> Result<Vec<(String, Vec<Option<f64>>)>> {
        let names =
            self.frame.columns().iter().filter(|c| c.dtype().is_primitive_numeric()).map(|c| c.name().to_string());
        names.map(|name| Ok((name.clone(), self.numbers(&name)?))).collect()
    }
}

fn text(name: &str, values: impl Iterator<Item = String>) -> Column {
    Column::from(Series::new(name.into(), values.collect::<Vec<String>>()))
}

fn whole(name: &str, values: impl Iterator<Item = u64>) -> Column {
    Column::from(Series::new(name.into(), values.collect::<Vec<u64>>()))
}

fn numbers(name: &str, values: impl Iterator<Item = Option<f64>>) -> Column {
    Column::from(Series::new(name.into(), values.collect::<Vec<Option<f64>>>()))
}

fn frame(columns: Vec<Column>) -> Result<DataFrame> {
    DataFrame::new_infer_height(columns).context("columns of one length")
}

/// Writes parquet with nothing in it that depends on when or where, on one thread: the same frame gives the same bytes.
fn write_frame(path: &Path, mut frame: DataFrame) -> Result<()> {
    write_atomic_with(path, |file| {
        ParquetWriter::new(file).set_parallel(false).finish(&mut frame)?;
        Ok(())
    })
}
