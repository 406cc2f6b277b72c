//! `assay sweep`: from a spec to tables, plots and a report.

mod estimate;
mod outlook;

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::files::write_atomic;
use crate::gather::gather;
use crate::plan::{Outline, Plan};
use crate::progress::Progress;
use crate::results_dir::ResultsDir;
use crate::runner::{ModelAtWork, Sweep};
use crate::spec::SpecDocument;
use crate::{device, fetch, interrupt, output};
use outlook::{Outlook, describe_downloads};

/// Train and evaluate every SAE that a spec asks for, and report.
///
/// A spec spans models × depths × hooks × coders (architecture and k) × seeds × token budgets; each combination is one SAE. All SAEs of
/// a model and budget, a group, train in lockstep on one capture of its activations, then each is patched into the model on held-out
/// text. Everything is opened and checked before anything is trained.
///
/// Finished runs are skipped, and a training that was stopped resumes from its last state: the same command resumes where it was
/// stopped, and ends with the same table. Ctrl-C saves the state of the training first and exits with 130, SIGTERM with 143; a
/// second one stops at once. The results directory gets sweep.toml, which is the spec as it was run and can be run again, Parquet
/// files, tables, plots, report.html and report.md, whose path is printed; training curves lie under logs/, for TensorBoard and as metrics.jsonl.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay sweep sweeps/demo.toml\n  assay sweep sweeps/demo.toml --dry-run\n  assay sweep sweeps/demo.toml --set 'k=[8]' --set train.lr=1e-3 --out /tmp/one-k\n  assay sweep sweeps/demo.toml --group 0    (one process for each group, then `assay gather results/demo`)"
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
    /// Work on one group alone, by its number or name (`--dry-run` lists them); `assay gather DIR` when all are done
    #[arg(long, value_name = "GROUP", conflicts_with = "dry_run")]
    group: Option<String>,
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
        let results = self.out.clone().unwrap_or_else(|| Path::new("results").join(&spec.name));
        ResultsDir::check(&results)?;
        let opened = device::open(device_name)?;
        opened.check(spec.precision)?;
        if self.dry_run {
            let pending = fetch::pending(&spec)?;
            if !pending.is_empty() {
                return describe_downloads(&pending, self.json);
            }
        }
        let sources = fetch::sources(&spec, progress).with_context(|| format!("{}", self.spec.display()))?;
        let plan = Plan::open(&spec, &sources, &opened, progress)?;
        for name in &plan.missing {
            // No progress, which --quiet would hide: the results lack something that the spec asks for.
            output::message(format_args!(
                "warning: model `{name}` is left out: the spec gives no path for it; with --set models.{name}.path=DIR it takes part"
            ));
        }
        if self.dry_run {
            progress.say("timing a little of each stage");
            let outlook = Outlook::new(&spec, &plan, &results, &opened)?;
            return output::result_line(if self.json {
                serde_json::to_string_pretty(&outlook)?
            } else {
                outlook.to_string()
            });
        }
        let recorded = document.recorded(&results, &sources.commits)?;
        let outline = Outline::of(&spec, &recorded, &plan);
        let prepare = |results: &Path| {
            if Outline::read(results).ok().flatten().is_some_and(|there| there != outline) {
                progress.say(&format!(
                    "{} has the plan of another spec, or of this one before it was changed: its records and states stay, its plan is \
                     replaced now, its tables and report when all is gathered",
                    results.display()
                ));
            }
            write_atomic(&results.join("sweep.toml"), recorded.as_bytes())?;
            outline.write(results)
        };
        let group = self.group.as_deref().map(|wanted| plan.group(wanted)).transpose()?;
        let claimed = match group {
            None => {
                let claimed = ResultsDir::claim(&results)?;
                prepare(claimed.path())?;
                claimed
            }
            Some((_, group)) => {
                let prepared = |results: &Path| {
                    let there = Outline::read(results).ok().flatten();
                    Ok(there.as_ref() == Some(&outline) && outline.is_of_recorded(results))
                };
                ResultsDir::join(&results, &group.name(), prepared, prepare)?
            }
        };
        let results = claimed.path();
        interrupt::listen()?;
        let sweep = Sweep { spec: &spec, results, opened: &opened, progress, started: Cell::new(Some(started)) };
        if let Some((model, group)) = group {
            ModelAtWork::new(&sweep, model, &OnceCell::new()).run(group)?;
            progress.say(&format!("{} is done in {:.1} s", group.name(), started.elapsed().as_secs_f64()));
            return output::result_line(results.display());
        }
        for model in &plan.models {
            let decoder = OnceCell::new();
            let at_work = ModelAtWork::new(&sweep, model, &decoder);
            for group in &model.groups {
                at_work.run(group)?;
            }
        }
        let runs = gather(&claimed)?;
        progress.say(&format!("{runs} runs in {:.1} s", started.elapsed().as_secs_f64()));
        output::result_line(results.join("report.md").display())
    }
}
