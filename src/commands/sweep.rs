//! `assay sweep`: from a spec to tables, plots and a report.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use assay_models::hub::{HubName, Pending};
use assay_models::runs_on_cpu;
use assay_probes::geometry::model_geometry;
use indicatif::DecimalBytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::device::Opened;
use crate::files::write_atomic;
use crate::frames::Found;
use crate::markdown::tokens_text;
use crate::plan::{self, Group, Inputs};
use crate::progress::Progress;
use crate::record::{Record, Timing};
use crate::runner::{Sweep, run_group};
use crate::spec::SweepSpec;
use crate::{device, fetch, frames, information, markdown, report};

/// Train and evaluate every SAE that a spec asks for, and report.
///
/// A spec spans models × depths × k × seeds × token budgets; each combination is one SAE. All SAEs of a model train in lockstep on
/// one capture of its activations, then each is patched into the model on held-out text. Everything is opened and checked before
/// anything is trained.
///
/// Finished runs are skipped, and a training that was stopped goes on from its last state: the same command goes on where it was
/// stopped, and ends with the same table. The results directory gets the spec as it was run, Parquet files, tables, plots and
/// report.md, whose path is printed; training curves lie under logs/, for TensorBoard and as metrics.jsonl.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay sweep sweeps/demo.toml\n  assay sweep sweeps/demo.toml --dry-run\n  assay sweep sweeps/demo.toml --set 'k=[8]' --set train.lr=1e-3 --out /tmp/one-k"
)]
pub struct SweepArgs {
    /// The spec, a TOML file
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    /// Results directory [default: `results/` and the name of the sweep]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Override a key of the spec; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// List the runs, what they need and which are done; train nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: print one JSON object instead of a table
    #[arg(long, requires = "dry_run")]
    json: bool,
}

impl SweepArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the spec, a model or a token file is unusable, another process works in the results directory, training
    /// diverges, or a file can't be written.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let started = Instant::now();
        let spec = SweepSpec::load(&self.spec, &self.overrides)?;
        let opened = device::open(device_name)?;
        opened.check(spec.precision)?;
        let results = self.out.clone().unwrap_or_else(|| Path::new("results").join(&spec.name));
        if self.dry_run {
            let pending = fetch::pending(&spec)?;
            if !pending.is_empty() {
                return describe_downloads(&pending, self.json);
            }
        }
        let sources = fetch::sources(&spec, progress).with_context(|| format!("{}", self.spec.display()))?;
        // Everything is opened and checked before anything is trained.
        let mut planned = Vec::new();
        let mut missing = Vec::new();
        for (model, checkpoint) in spec.models.iter().zip(&sources.models) {
            let Some(checkpoint) = checkpoint else {
                missing.push(model.name.clone());
                continue;
            };
            let inputs = Inputs::open(&spec, model, checkpoint, &sources.text, &opened, progress)?;
            planned.push((plan::groups(&spec, model, &inputs, &opened)?, inputs));
        }
        for name in &missing {
            // No progress, which --quiet would hide: the results lack something that the spec asks for.
            eprintln!(
                "warning: model `{name}` is left out: the spec gives no path for it; with --set models.{name}.path=DIR it takes part"
            );
        }
        refuse_twins(&planned)?;
        if self.dry_run {
            let outlook = Outlook::new(&spec, &planned, &results, &opened)?;
            match self.json {
                true => println!("{}", serde_json::to_string_pretty(&outlook)?),
                false => outlook.print(),
            }
            return Ok(());
        }
        let _lock = lock(&results)?;
        let source =
            std::fs::read_to_string(&self.spec).with_context(|| format!("cannot read {}", self.spec.display()))?;
        write_atomic(
            &results.join("sweep.toml"),
            recorded_spec(&source, &self.spec, &self.overrides, &sources.commits).as_bytes(),
        )?;
        let (mut geometry, mut information) = (Vec::new(), Vec::new());
        let started_at = Cell::new(Some(started));
        let sweep = Sweep { spec: &spec, results: &results, opened: &opened, progress, started: started_at };
        for (groups, inputs) in &planned {
            for group in groups {
                run_group(&sweep, group, inputs)?;
            }
            if let Some(group) = groups.first() {
                let name = &group.model.name;
                geometry.push((name.clone(), measure_geometry(&spec, inputs, name, progress)?));
                if let Some(settings) = &spec.information {
                    let found = information::measure(&spec, settings, group, inputs, &results, progress)?;
                    information.extend(found.into_iter().map(|estimated| (name.clone(), estimated)));
                }
            }
        }
        let (records, timings) = collect(&spec, &planned, &results)?;
        // States of groups that were stopped and then asked for otherwise.
        let state = results.join(".state");
        if state.exists() {
            std::fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
        }
        let found = Found { records: &records, geometry: &geometry, information: &information, missing: &missing };
        frames::write(&results, &spec, &found)?;
        frames::write_timings(&results, &timings)?;
        report::write(&results)?;
        progress.say(&format!("{} runs in {:.1} s", records.len(), started.elapsed().as_secs_f64()));
        println!("{}", results.join("report.md").display());
        Ok(())
    }
}

fn measure_geometry(
    spec: &SweepSpec,
    inputs: &Inputs,
    name: &str,
    progress: Progress,
) -> Result<assay_probes::geometry::ModelGeometry> {
    let mut stage = progress.stage(format!("{name} geometry"), inputs.eval_tokens.nrows() as u64, "sequences");
    let found =
        model_geometry(&inputs.decoder, inputs.eval_tokens.view(), spec.eval.batch, spec.center_residual, |n| {
            stage.advance(n as u64, String::new);
        })?;
    stage.finish("");
    Ok(found)
}

/// Two models of the same weights would have the same runs.
fn refuse_twins(planned: &[(Vec<Group>, Inputs)]) -> Result<()> {
    let mut seen = std::collections::BTreeMap::new();
    for group in planned.iter().flat_map(|(groups, _)| groups) {
        for run in &group.runs {
            if let Some(other) = seen.insert(run.id.as_str(), group.model.name.as_str()) {
                bail!(
                    "models `{other}` and `{}` have the same weights: their runs would be the same; remove one",
                    group.model.name
                );
            }
        }
    }
    Ok(())
}

/// All records of a plan, in its order.
fn collect(spec: &SweepSpec, planned: &[(Vec<Group>, Inputs)], results: &Path) -> Result<(Vec<Record>, Vec<Timing>)> {
    let (mut records, mut timings) = (Vec::new(), Vec::new());
    for group in planned.iter().flat_map(|(groups, _)| groups) {
        for run in &group.runs {
            let Some(mut record) = Record::load(results, &run.id)? else {
                bail!("run {} has no record though its group is done; run the sweep again", run.id);
            };
            // Names are the spec's: a record may have been made under others.
            record.model.clone_from(&group.model.name);
            record.depth.clone_from(&run.depth);
            record.recipe = spec.train.recipe.to_string();
            records.push(record);
            timings.extend(Timing::load(results, &run.id));
        }
    }
    Ok((records, timings))
}

/// The spec as run: its text, after a line that says where from, the overrides, and the commits of what came from the hub.
fn recorded_spec(source: &str, path: &Path, overrides: &[String], commits: &[(HubName, String)]) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut text =
        format!("# Recorded by assay {} from {name}; paths are relative to that file.\n", env!("CARGO_PKG_VERSION"));
    for entry in overrides {
        text.push_str(&format!("# overridden on the command line: --set '{entry}'\n"));
    }
    for (name, commit) in commits {
        text.push_str(&format!("# from the hub: {name} was commit {commit}\n"));
    }
    text + source
}

/// Keeps a second process out of a results directory for as long as it is held.
fn lock(results: &Path) -> Result<File> {
    std::fs::create_dir_all(results).with_context(|| format!("cannot create {}", results.display()))?;
    let path = results.join(".lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another process is working in {}; wait for it, or give another --out", results.display())
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Log-probabilities and logits of one pass: two that all SAEs share, and about four of every SAE that is evaluated at the time.
fn eval_bytes(spec: &SweepSpec, planned: &[(Vec<Group>, Inputs)], opened: &Opened) -> f64 {
    let vocab = planned.iter().map(|(_, inputs)| inputs.decoder.config().vocab_size).max().unwrap_or(0);
    let threads = if runs_on_cpu(&opened.device) { rayon::current_num_threads() } else { 1 };
    let at_once = threads.min(spec.k.len() * spec.seeds.len());
    4.0 * (spec.eval.batch * spec.eval.context_size * vocab) as f64 * (2 + 4 * at_once) as f64
}

/// What a sweep would download first. A run's id has the weights' and tokens' hashes in it, so runs can't be listed before.
fn describe_downloads(pending: &[(HubName, Pending)], json: bool) -> Result<()> {
    if json {
        let listed: Vec<Value> = pending
            .iter()
            .map(
                |(name, p)| json!({ "name": name.to_string(), "commit": p.commit, "files": p.files, "bytes": p.bytes }),
            )
            .collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "to_download": listed }))?);
        return Ok(());
    }
    for (name, Pending { commit, files, bytes }) in pending {
        println!("to download: {name}, commit {commit}: {files} files, {}", DecimalBytes(*bytes));
    }
    println!("the runs can be listed when these are in the hub's cache");
    Ok(())
}

/// What a sweep would do.
#[derive(Serialize)]
struct Outlook {
    runs: Vec<PlannedRun>,
    results: PathBuf,
    device: String,
    /// Of the encoder's product in what is left to train; sparse parts cost k/d_sae of it each.
    flops: f64,
    /// Beside the model, at most.
    training_bytes: f64,
    /// The same, about.
    evaluation_bytes: f64,
}

/// A run as `--dry-run` lists it.
#[derive(Serialize)]
struct PlannedRun {
    id: String,
    model: String,
    depth: String,
    hook: String,
    d_sae: usize,
    k: usize,
    seed: u64,
    training_tokens: u64,
    done: bool,
}

impl Outlook {
    fn new(spec: &SweepSpec, planned: &[(Vec<Group>, Inputs)], results: &Path, opened: &Opened) -> Result<Self> {
        let (mut runs, mut flops, mut training_bytes) = (Vec::new(), 0.0, 0.0_f64);
        for group in planned.iter().flat_map(|(groups, _)| groups) {
            let mut parameters = 0.0;
            for run in &group.runs {
                let train = &run.key.train;
                let matrix = (train.d_model * train.d_sae) as f64;
                let done = Record::load(results, &run.id)?.is_some();
                if !done {
                    flops += 2.0 * matrix * group.training_tokens as f64;
                    parameters += 2.0 * matrix;
                }
                runs.push(PlannedRun {
                    id: run.id.clone(),
                    model: group.model.name.clone(),
                    depth: run.depth.clone(),
                    hook: run.hook.to_string(),
                    d_sae: train.d_sae,
                    k: train.k,
                    seed: run.key.seed,
                    training_tokens: group.training_tokens,
                    done,
                });
            }
            // Weights, two moments and gradients, and the buffer of each hook.
            let d_model = group.runs.first().map_or(0, |r| r.key.train.d_model);
            let hooks = group.runs.iter().map(|r| r.hook.layer).collect::<std::collections::BTreeSet<_>>().len();
            let buffer = spec.train.buffer_tokens.min(group.training_tokens as usize) * d_model * hooks;
            training_bytes = training_bytes.max(4.0 * (4.0 * parameters + 2.0 * buffer as f64));
        }
        let (results, device) = (results.to_owned(), opened.name.clone());
        let evaluation_bytes = eval_bytes(spec, planned, opened);
        Ok(Self { runs, results, device, flops, training_bytes, evaluation_bytes })
    }

    fn print(&self) {
        let head = ["run", "model", "depth", "hook", "d_sae", "k", "seed", "training", "done"];
        let mut table = markdown::Table::new(head);
        for run in &self.runs {
            table.row([
                run.id.clone(),
                run.model.clone(),
                run.depth.clone(),
                run.hook.clone(),
                run.d_sae.to_string(),
                run.k.to_string(),
                run.seed.to_string(),
                tokens_text(run.training_tokens),
                if run.done { "yes" } else { "no" }.to_owned(),
            ]);
        }
        let (left, seconds) = (self.runs.iter().filter(|run| !run.done).count(), self.flops / 5e10);
        println!("{table}\n{} runs, {left} to do; results in {}", self.runs.len(), self.results.display());
        println!("device: {}", self.device);
        println!("encoder products of training: {:.2} TFLOP (at 50 GFLOP/s: {seconds:.0} s)", self.flops / 1e12);
        println!(
            "memory beside the model: training {:.2} GB, evaluation about {:.2} GB",
            self.training_bytes / 1e9,
            self.evaluation_bytes / 1e9
        );
    }
}
