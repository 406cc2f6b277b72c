//! `assay sweep`: from a spec to tables, plots and a report.

mod estimate;
mod outlook;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use assay_probes::geometry::{ModelGeometry, model_geometry};

use crate::files::write_atomic;
use crate::frames::Found;
use crate::plan::{self, Group, Inputs};
use crate::progress::Progress;
use crate::record::{Record, Timing};
use crate::results_dir::ResultsDir;
use crate::runner::{Sweep, run_group};
use crate::spec::{SpecDocument, SweepSpec};
use crate::{device, fetch, frames, information, interrupt, output, report};
use outlook::{Outlook, describe_downloads};

/// Train and evaluate every SAE that a spec asks for, and report.
///
/// A spec spans models × depths × k × seeds × token budgets; each combination is one SAE. All SAEs of a model train in lockstep on
/// one capture of its activations, then each is patched into the model on held-out text. Everything is opened and checked before
/// anything is trained.
///
/// Finished runs are skipped, and a training that was stopped resumes from its last state: the same command resumes where it was
/// stopped, and ends with the same table. Ctrl-C (and SIGTERM) saves the state of the training first and exits with 130; pressed
/// twice, it stops at once. The results directory gets sweep.toml, which is the spec as it was run and can be run again, Parquet
/// files, tables, plots and report.md, whose path is printed; training curves lie under logs/, for TensorBoard and as metrics.jsonl.
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
    /// If the spec, a model or a token file is unusable, the results directory is not a sweep's or another process works in it,
    /// training diverges, a file can't be written, or somebody interrupts ([`Interrupted`](crate::interrupt::Interrupted)).
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let started = Instant::now();
        let document = SpecDocument::read(&self.spec, &self.overrides)?;
        let spec = document.spec()?;
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
            output::message(format_args!(
                "warning: model `{name}` is left out: the spec gives no path for it; with --set models.{name}.path=DIR it takes part"
            ));
        }
        refuse_twins(&planned)?;
        ResultsDir::check(&results)?;
        if self.dry_run {
            progress.say("timing a little of each stage");
            let outlook = Outlook::new(&spec, &planned, &results, &opened)?;
            return output::result_line(if self.json {
                serde_json::to_string_pretty(&outlook)?
            } else {
                outlook.to_string()
            });
        }
        let claimed = ResultsDir::claim(&results)?;
        let results = claimed.path();
        interrupt::listen()?;
        if is_of_another_spec(results, &spec) {
            progress.say(&format!(
                "{} has the results of another spec: its records and states stay, its tables and report are replaced",
                results.display()
            ));
        }
        write_atomic(&results.join("sweep.toml"), document.recorded(results, &sources.commits)?.as_bytes())?;
        let (mut geometry, mut information) = (Vec::new(), Vec::new());
        let started_at = Cell::new(Some(started));
        let sweep = Sweep { spec: &spec, results, opened: &opened, progress, started: started_at };
        for (groups, inputs) in &planned {
            for group in groups {
                run_group(&sweep, group, inputs)?;
            }
            if let Some(group) = groups.first() {
                let name = &group.model.name;
                let stopped = || sweep.interrupted(&format!("{name}: its finished runs are saved"));
                geometry.push((name.clone(), measure_geometry(&spec, inputs, name, progress)?.ok_or_else(stopped)?));
                if let Some(settings) = &spec.information {
                    let found = information::measure(&spec, settings, group, inputs, results, progress)?;
                    let found = found.ok_or_else(stopped)?;
                    information.extend(found.into_iter().map(|estimated| (name.clone(), estimated)));
                }
            }
        }
        let (records, timings) = collect(&spec, &planned, results)?;
        claimed.tidy_states();
        let found = Found { records: &records, geometry: &geometry, information: &information, missing: &missing };
        frames::write(results, &spec, &found)?;
        frames::write_timings(results, &timings)?;
        report::write(results)?;
        progress.say(&format!("{} runs in {:.1} s", records.len(), started.elapsed().as_secs_f64()));
        output::result_line(results.join("report.md").display())
    }
}

/// Whether a directory has results that a sweep of another name wrote.
fn is_of_another_spec(results: &Path, spec: &SweepSpec) -> bool {
    let recorded = SpecDocument::read(&results.join("sweep.toml"), &[]).and_then(|document| document.spec());
    recorded.is_ok_and(|recorded| recorded.name != spec.name)
}

/// Geometry of every layer; `None` if somebody interrupts.
fn measure_geometry(
    spec: &SweepSpec,
    inputs: &Inputs,
    name: &str,
    progress: Progress,
) -> Result<Option<ModelGeometry>> {
    let mut stage = progress.stage(format!("{name} geometry"), inputs.eval_tokens.nrows() as u64, "sequences");
    let found =
        model_geometry(&inputs.decoder, inputs.eval_tokens.view(), spec.eval.batch, spec.center_residual, |n| {
            stage.advance(n as u64, String::new);
            interrupt::flow()
        });
    let found = interrupt::unless_stopped(found).with_context(|| format!("model `{name}`, geometry"))?;
    if found.is_some() {
        stage.finish("");
    }
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
            let Some(mut record) = Record::load(results, &run.key)? else {
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
