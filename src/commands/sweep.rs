//! `assay sweep`: from a spec to tables, plots and a report.

mod devices;
mod estimate;
mod outlook;
mod process;
mod slurm;
mod worker;

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::files::write_atomic;
use crate::gather::{gather, left_out};
use crate::interrupt::{self, Interrupted};
use crate::markdown::counted;
use crate::plan::{Group, Outline, Plan, group_and_sites};
use crate::progress::Progress;
use crate::results_dir::{ResultsDir, SLURM, recorded_runs};
use crate::runner::{ModelAtWork, Sweep, has_state, parts_begun};
use crate::spec::{SpecDocument, SweepSpec};
use crate::{device, fetch, output};
use outlook::{Outlook, describe_downloads};
pub(super) use slurm::quoted;
use slurm::{SlurmArgs, Submission};
use worker::Message;

/// How long a sweep waits for processes that somebody has just stopped and that save or end.
const SAVING: Duration = Duration::from_secs(3);

/// Train and evaluate every SAE that a spec asks for, and report.
///
/// A spec spans models × depths × hooks × coders (architecture and k) × seeds × token budgets; each combination is one SAE. All SAEs of
/// a model and budget, a group, train in lockstep on one capture of its activations, then each is patched into the model on held-out
/// text. Everything is opened and checked before anything is trained.
///
/// The same command resumes a stopped sweep, and ends with the same table: finished runs are skipped, and a training resumes from its
/// last state. Ctrl-C saves the state of the training first and exits with 130, SIGTERM with 143; a second one stops at once. The
/// results directory gets sweep.toml, which is the spec as it was run and can be run again, Parquet files, tables, plots, report.html
/// and report.md, whose path is printed; training curves lie under logs/, for TensorBoard and as metrics.jsonl.
#[derive(clap::Args, Debug, Default)]
#[command(
    after_help = "Examples:\n  assay sweep sweeps/demo.toml\n  assay sweep sweeps/demo.toml --dry-run\n  assay sweep sweeps/demo.toml --set 'k=[8]' --set train.lr=1e-3 --out /tmp/one-k\n  assay sweep sweeps/demo.toml --group 0    # one process per group; then: assay gather results/demo"
)]
pub struct SweepArgs {
    /// The spec, a TOML file
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    #[command(flatten)]
    options: SweepOptions,
    /// Work on one group only, by its number or name (`--dry-run` lists them), or on its part at some sites,
    /// NAME@blocks.3.hook_resid_post,blocks.5.hook_resid_post; run `assay gather DIR` when all are done
    #[arg(long, value_name = "GROUP", conflicts_with = "dry_run")]
    group: Option<String>,
    /// Use several devices of this machine at once: `cuda:0,cuda:1`, `cpu,cpu`, or `all` GPUs. A worker process for each takes one group
    /// after the other, the largest first; a group that is more than its share is divided by sites; the files are those of one device
    #[arg(long, value_name = "NAMES", conflicts_with_all = ["group", "dry_run"])]
    devices: Option<String>,
    /// Be such a worker
    #[arg(long, hide = true, conflicts_with_all = ["group", "dry_run", "devices"])]
    worker: bool,
    #[command(flatten)]
    slurm: SlurmArgs,
    /// With --dry-run: print one JSON object instead of a table
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Refuse a directory that holds what another spec asked for.
    #[arg(skip)]
    alone: bool,
}

/// What every command takes that runs a sweep.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct SweepOptions {
    /// Results directory [default: `results/` and the name of the sweep]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Override a key of the spec; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// List the runs, what they need and which are done; train nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl SweepOptions {
    /// Where the results of a spec go.
    pub fn results(&self, spec: &SweepSpec) -> PathBuf {
        self.out.clone().unwrap_or_else(|| Path::new("results").join(&spec.name))
    }
}

impl SweepArgs {
    /// As `assay sweep SPEC` with these options.
    pub(super) fn of(spec: &Path, options: &SweepOptions) -> Self {
        Self { spec: spec.to_owned(), options: options.clone(), ..Self::default() }
    }

    /// The same in a directory of its own: one that holds what another spec asked for is an error.
    pub(super) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// If the spec, a model or a token file is unusable, the results directory is not a sweep's or another process works in it,
    /// training diverges, a file can't be written, or somebody interrupts ([`Interrupted`]).
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        self.run_document(&SpecDocument::read(&self.spec, &self.options.overrides)?, device_name, progress)
    }

    /// Runs the sweep of a spec that was read, or that a command made.
    pub(super) fn run_document(&self, document: &SpecDocument, device_name: &str, progress: Progress) -> Result<()> {
        let started = Instant::now();
        let names = self.worker.then(worker::listen);
        let progress = if self.worker { Progress::Reported } else { progress };
        let spec = document.spec()?;
        let results = self.options.results(&spec);
        ResultsDir::check(&results)?;
        check_name(&results, &spec.name)?;
        let start = Start { at: started, recorded: recorded_runs(&results) };
        if let Some(devices) = &self.devices {
            return self.run_on(devices, &spec, &results, progress, start);
        }
        if self.slurm.slurm {
            return self.submit(device_name, document, &spec, results, progress);
        }
        let opened = device::open(device_name)?;
        let computes = opened.check(spec.precision);
        // Runs can be listed wherever the spec can be read: one plans on a laptop what a GPU is to do.
        let why_not = if self.options.dry_run {
            computes.err().map(|error| error.to_string())
        } else {
            computes.map(|()| None)?
        };
        if self.worker {
            Message::Opened { class: opened.class.clone() }.send()?;
        }
        if self.options.dry_run {
            let pending = fetch::pending(&spec)?;
            if !pending.is_empty() {
                return describe_downloads(&pending, self.json);
            }
        }
        let sources = fetch::sources(&spec, progress).with_context(|| format!("{}", self.spec.display()))?;
        let plan = Plan::open(&spec, &sources, &opened, progress)?;
        let too_few = spec.topology.as_ref().map(|topology| topology.check_clouds(&plan)).transpose()?.flatten();
        if !self.worker {
            warn_of_missing(&plan.missing);
            if let Some(why) = too_few {
                progress.warn(&why);
            }
        }
        if self.options.dry_run {
            if why_not.is_none() {
                progress.say("timing a little of each stage");
            }
            let outlook = Outlook::new(&spec, &plan, &results, &opened, why_not)?;
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
                ensure!(
                    !self.alone,
                    "{} holds another training, whose report this one would replace; give it a --name or an --out of its own",
                    results.display()
                );
                progress.say(&format!(
                    "{} has the plan of another spec, or of this one before it was changed. Its records and states stay; its plan is \
                     replaced now, its tables and report when all is gathered",
                    results.display()
                ));
            }
            write_atomic(&results.join("sweep.toml"), recorded.as_bytes())?;
            outline.write(results)
        };
        let group = self.group.as_deref().map(|wanted| plan.group(wanted)).transpose()?;
        let claimed = if group.is_none() && !self.worker {
            let claimed = ResultsDir::claim_within(&results, SAVING)?;
            prepare(claimed.path())?;
            claimed
        } else {
            let prepared = |results: &Path| {
                let there = Outline::read(results).ok().flatten();
                Ok(there.as_ref() == Some(&outline) && outline.is_of_recorded(results))
            };
            ResultsDir::join(&results, prepared, prepare)?
        };
        let results = claimed.path();
        interrupt::listen()?;
        let sweep = Sweep { spec: &spec, results, opened: &opened, progress, started: Cell::new(Some(started)) };
        if let Some(names) = &names {
            return worker::work(&sweep, &plan, &claimed, names);
        }
        if let Some((model, group)) = group {
            let name = group.name();
            warn_of_others(&plan, &group, results, progress)?;
            let _held = claimed.hold(&name)?.with_context(|| {
                format!(
                    "another process is working on the group {name} in {}; wait for it, or take another group",
                    results.display()
                )
            })?;
            ModelAtWork::new(&sweep, model, &OnceCell::new()).run(&group)?;
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
        finish(&claimed, progress, start)
    }

    /// Submits it to Slurm. All is opened and checked here before; the CPU does for that.
    fn submit(
        &self,
        device: &str,
        document: &SpecDocument,
        spec: &SweepSpec,
        results: PathBuf,
        progress: Progress,
    ) -> Result<()> {
        device::check_name(device).with_context(|| format!("--device {device}"))?;
        let submission = Submission { name: &spec.name, overrides: &self.options.overrides, results, device };
        if self.slurm.only_looks() {
            return self.slurm.look(&submission);
        }
        let sources = fetch::sources(spec, progress).with_context(|| format!("{}", self.spec.display()))?;
        let plan = Plan::open(spec, &sources, &device::open("cpu")?, progress)?;
        warn_of_missing(&plan.missing);
        let groups = plan.groups().map(|(_, group)| group.name()).collect();
        let recorded = document.recorded(&submission.results.join(SLURM), &sources.commits)?;
        self.slurm.start(&submission, groups, &recorded, self.options.dry_run)
    }

    /// Has workers on several devices do it.
    fn run_on(&self, names: &str, spec: &SweepSpec, results: &Path, progress: Progress, start: Start) -> Result<()> {
        let devices = devices::named(names)?;
        // Once, and not by every worker; they take it from the cache.
        fetch::sources(spec, progress).with_context(|| format!("{}", self.spec.display()))?;
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let threads = (rayon::current_num_threads() / devices.len()).max(1);
        let command = |device: &str| {
            let mut command = Command::new(&program);
            command.args(["--device", device, "--threads", &threads.to_string(), "sweep", "--worker"]);
            command.arg(&self.spec).arg("--out").arg(results);
            command.args(self.options.overrides.iter().flat_map(|set| ["--set", set]));
            command.env("HF_HUB_OFFLINE", "1");
            command
        };
        devices::deal(&devices, command, results, progress)?;
        // Where the same sweep was started twice, the other may just be gathering.
        let mut is_said = false;
        let claimed = ResultsDir::claim_after(results, || {
            let shown = results.display();
            let saved = || format!("all groups are finished; `assay gather '{shown}'` makes their report");
            ensure!(!interrupt::requested(), Interrupted { saved: saved() });
            if !std::mem::replace(&mut is_said, true) {
                progress.say(&format!("all groups are finished; another process works in {shown} and is waited for"));
            }
            Ok(())
        })?;
        finish(&claimed, progress, start)
    }
}

/// How a sweep began.
#[derive(Clone, Copy)]
struct Start {
    at: Instant,
    /// Runs that had a record.
    recorded: usize,
}

/// Gathers a sweep that is done, and says what was done of it now and what the directory has besides.
fn finish(claimed: &ResultsDir, progress: Progress, start: Start) -> Result<()> {
    let runs = gather(claimed)?;
    let results = claimed.path();
    let (seconds, recorded) = (start.at.elapsed().as_secs_f64(), recorded_runs(results));
    let done = match (recorded - recorded.min(start.recorded), counted(runs, "run")) {
        (0, all) => format!("nothing to do, {all} finished before; report made anew in {seconds:.1} s"),
        (new, all) if new < runs => format!("{all} in {seconds:.1} s, {new} of them trained now"),
        (_, all) => format!("{all} in {seconds:.1} s"),
    };
    progress.say(&format!("{done}; {} opens in a browser", results.join("report.html").display()));
    if let Some(said) = left_out(results, runs) {
        progress.say(&said);
    }
    output::result_line(results.join("report.md").display())
}

/// Says of a part of a group that others were begun that it is in, in whole or in part: what was trained of them is not gone on with.
fn warn_of_others(plan: &Plan, part: &Group, results: &Path, progress: Progress) -> Result<()> {
    let name = part.name();
    let (whole, sites) = group_and_sites(&name);
    if sites.is_empty() {
        return Ok(());
    }
    let (_, group) = plan.group(whole)?;
    let begun = parts_begun(results, &group.sites(), |sites| group.part(sites).id(), |_| ());
    let is_other = |other: &[String]| {
        let shares = other.iter().any(|site| sites.contains(&site.as_str()));
        shares && !other.iter().all(|site| sites.contains(&site.as_str()))
    };
    let mut others: Vec<String> =
        begun.iter().filter(|other| is_other(other)).map(|other| group.part(other).name()).collect();
    others.extend(has_state(results, &group.id()).then(|| group.name()));
    for other in others {
        progress.warn(&format!(
            "{other} was begun, and what was trained of it is not used for another part: `--group '{other}'` goes on with it"
        ));
    }
    Ok(())
}

/// Checks that a results directory is not that of a sweep of another name. One of the same name may have changed since: it goes on.
fn check_name(results: &Path, name: &str) -> Result<()> {
    let recorded = results.join("sweep.toml");
    // What can't be read as a spec of this version says nothing of its name.
    let there = SpecDocument::read(&recorded, &[]).and_then(|document| document.spec());
    if let Ok(there) = there {
        ensure!(
            there.name == name,
            "{} holds the sweep `{}`, whose plan, tables and report this one, `{name}`, would replace. Nothing is changed: give another --out, \
             or --set name={} to go on from there with what this spec asks for",
            results.display(),
            there.name,
            there.name
        );
    }
    Ok(())
}

/// Says which models have no place. It is no progress, which --quiet would hide: the results lack something that the spec asks for.
fn warn_of_missing(names: &[String]) {
    for name in names {
        output::message(format_args!(
            "warning: model `{name}` is left out: the spec gives no path for it; with --set models.{name}.path=DIR it takes part"
        ));
    }
}
