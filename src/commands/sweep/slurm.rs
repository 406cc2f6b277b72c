//! `assay sweep --slurm`: a job array with one task per group, and a job that gathers.
//!
//! What is submitted is a script that a person can read, run and change; it lies in the results directory under `slurm/`, with the tasks'
//! logs and the numbers of the jobs. Nothing here runs while the jobs do: what has become of them is read from the records and the queue.

mod programs;
mod words;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write_atomic};
use crate::markdown::Table;
use crate::plan::Outline;
use crate::record::{Failure, GeometryRecord, RunRecord};
use crate::results_dir::{ResultsDir, SLURM};
use crate::spec::SpecDocument;
use crate::{information, output, topology};
use programs::{Queue, queue, sbatch};
pub(in crate::commands) use words::quoted;
use words::{absolute, program};

const ARRAY: &str = "array.sh";
const GATHER: &str = "gather.sh";
const JOBS: &str = "jobs.json";
/// The spec as it was submitted: what its author changes later is not what the tasks are to do.
const SPEC: &str = "spec.toml";
const REPORT: &str = "report.md";
/// The device where none is named on the command line.
const AUTO: &str = "auto";
/// Minutes of a task that are not enough to begin anything.
const LEAST_MINUTES: f64 = 3.0;
/// Lines of a log that are shown.
const LAST_LINES: usize = 8;

/// How a sweep is submitted.
#[derive(clap::Args, Debug, Default)]
pub(super) struct SlurmArgs {
    /// Submit the sweep to Slurm: an array with one task per group, and a job that gathers when all are done. The script is in `slurm/`
    /// of the results directory; --dry-run prints it
    #[arg(long, conflicts_with_all = ["group", "devices", "worker", "json"])]
    pub slurm: bool,
    /// With --slurm: print the state of each group, from its records and the queue
    #[arg(long, requires = "slurm", conflicts_with = "dry_run")]
    status: bool,
    /// With --slurm: submit the groups again that are neither finished nor in the queue, by the spec and with the options that they were
    /// submitted with; an option that is given here takes the place of the earlier one
    #[arg(long, requires = "slurm", conflicts_with_all = ["status", "dry_run"])]
    retry: bool,
    #[command(flatten)]
    options: Options,
}

/// What Slurm is told of a job.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
struct Options {
    /// With --slurm: the partition
    #[arg(long, requires = "slurm", value_name = "NAME")]
    partition: Option<String>,
    /// With --slurm: what each task needs, such as `gpu:1`
    #[arg(long, requires = "slurm", value_name = "LIST")]
    gres: Option<String>,
    /// With --slurm: how long a task may take, as Slurm writes it: minutes, H:MM:SS, D-H; two minutes before, it saves its state and ends
    #[arg(long, requires = "slurm", value_name = "TIME")]
    time: Option<String>,
    /// With --slurm: any other option of sbatch, such as --sbatch=--cpus-per-task=8; may be repeated
    #[arg(long, requires = "slurm", value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
}

/// A sweep to submit.
pub(super) struct Submission<'a> {
    /// The sweep's name.
    pub name: &'a str,
    /// What was given with `--set`.
    pub overrides: &'a [String],
    /// The results directory.
    pub results: PathBuf,
    /// That of the tasks.
    pub device: &'a str,
}

/// What was submitted, as it is recorded.
#[derive(Serialize, Deserialize)]
struct Jobs {
    /// How the tasks are started: on this device, with this of `--set` in the spec, and with these options.
    device: String,
    overrides: Vec<String>,
    options: Options,
    /// Names of the groups; the number of a task is its group's place here.
    groups: Vec<String>,
    /// Of the arrays and of the gathering jobs that were submitted, the last one last.
    arrays: Vec<u64>,
    gathers: Vec<u64>,
}

/// What has become of a group.
struct GroupState {
    /// Runs that are done, those that failed among them.
    done: usize,
    failed: usize,
    runs: usize,
    /// When the last of its records was written.
    written: Option<SystemTime>,
    /// Whether what is measured of the model alone is there too, if it is this group's.
    has_rest: bool,
    /// In the queue: as Slurm calls it.
    queued: Option<String>,
}

impl GroupState {
    fn is_finished(&self) -> bool {
        self.runs > 0 && self.done == self.runs && self.has_rest
    }
}

impl SlurmArgs {
    /// Whether the sweep need not be planned for what is asked.
    pub fn only_looks(&self) -> bool {
        self.status || self.retry
    }

    /// Says what has become of the jobs, or submits some of them again.
    ///
    /// # Errors
    /// If none were submitted, or Slurm refuses.
    pub fn look(&self, submission: &Submission<'_>) -> Result<()> {
        let results = &submission.results;
        let path = results.join(SLURM).join(JOBS);
        let jobs: Option<Jobs> = read_json(&path, "remove it and submit the sweep again")?;
        let mut jobs = jobs
            .with_context(|| format!("{} has no jobs; submit the sweep with --slurm alone first", results.display()))?;
        let queued = queue(&jobs.arrays)?;
        let states = jobs.states(results, &queued)?;
        if self.status {
            return output::result(jobs.status(results, &states)?);
        }
        ensure!(
            submission.overrides.is_empty() || *submission.overrides == *jobs.overrides,
            "--slurm --retry goes by the spec as it was submitted, with its --set; leave --set out, or submit the changed sweep with \
             --slurm alone"
        );
        self.options.check()?;
        jobs.options.update(&self.options);
        if submission.device != AUTO {
            submission.device.clone_into(&mut jobs.device);
        }
        let again = states.iter().enumerate().filter(|(_, state)| !state.is_finished() && state.queued.is_none());
        let again: Vec<usize> = again.map(|(at, _)| at).collect();
        // A job that gathers after an earlier array does not wait for the last one.
        let waits = queue(&jobs.gathers)?.keys().any(|(job, _)| jobs.arrays.iter().all(|array| array < job));
        if again.is_empty() && (waits || is_gathered(results, &states)) {
            return output::result_line("nothing to submit again: all groups are finished or in the queue");
        }
        let running: BTreeSet<u64> = queued.into_keys().map(|(job, _)| job).collect();
        jobs.submit(submission, &again, &running)
    }

    /// Submits all groups of a spec, which is given as it is recorded in `slurm/`, or shows with `dry_run` what would be.
    ///
    /// # Errors
    /// If jobs of it are in the queue, the directory can't be written, or Slurm refuses.
    pub fn start(&self, submission: &Submission<'_>, groups: Vec<String>, recorded: &str, dry_run: bool) -> Result<()> {
        self.options.check()?;
        let all: Vec<usize> = (0..groups.len()).collect();
        let mut jobs = Jobs {
            device: submission.device.to_owned(),
            overrides: submission.overrides.to_owned(),
            options: self.options.clone(),
            groups,
            arrays: Vec::new(),
            gathers: Vec::new(),
        };
        if dry_run {
            let array = jobs.array(submission, &all)?;
            return output::result(format_args!("{array}\n# When all of them are done:\n{}", jobs.gather(submission)?));
        }
        let results = &submission.results;
        let before: Option<Jobs> = read_json(&results.join(SLURM).join(JOBS), "remove it")?;
        if let Some(before) = before {
            ensure!(
                queue(&before.arrays)?.is_empty() && queue(&before.gathers)?.is_empty(),
                "jobs of {} are in the queue; --slurm --status shows them, --slurm --retry submits what failed again",
                results.display()
            );
        }
        // It is a sweep's from now on; the first task writes the plan, which depends on its device.
        drop(ResultsDir::claim(results)?);
        write_atomic(&results.join(SLURM).join(SPEC), recorded.as_bytes())?;
        jobs.submit(submission, &all, &BTreeSet::new())
    }
}

impl Options {
    /// Checks that a task has time to do something: Slurm sends the signal two minutes before the end, or up to a minute earlier.
    fn check(&self) -> Result<()> {
        let short = self
            .time
            .as_ref()
            .filter(|time| minutes(time).is_some_and(|minutes| minutes > 0.0 && minutes <= LEAST_MINUTES));
        short.map_or(Ok(()), |time| {
            bail!("--time {time}: a task saves its state and ends two minutes before its time is over, and would begin nothing; give more")
        })
    }

    /// Takes what is given in `other`.
    fn update(&mut self, other: &Self) {
        let fields =
            [(&mut self.partition, &other.partition), (&mut self.gres, &other.gres), (&mut self.time, &other.time)];
        for (field, given) in fields {
            if given.is_some() {
                field.clone_from(given);
            }
        }
        if !other.sbatch.is_empty() {
            self.sbatch.clone_from(&other.sbatch);
        }
    }
}

impl Jobs {
    /// Submits an array of these tasks, if there are any, and the job that gathers when they and the arrays that are `running` are done.
    fn submit(&mut self, submission: &Submission<'_>, tasks: &[usize], running: &BTreeSet<u64>) -> Result<()> {
        let dir = submission.results.join(SLURM);
        let (array, gather) = (dir.join(ARRAY), dir.join(GATHER));
        // Also where Slurm refuses: it belongs to the spec beside it.
        self.write(&dir)?;
        write_atomic(&gather, self.gather(submission)?.as_bytes())?;
        // Of an earlier array, tasks may have failed that are submitted again.
        let mut conditions: Vec<String> = running.iter().map(|id| format!("afterany:{id}")).collect();
        let mut said = String::new();
        if !tasks.is_empty() {
            write_atomic(&array, self.array(submission, tasks)?.as_bytes())?;
            let id = sbatch(&[], &array)?;
            self.arrays.push(id);
            self.write(&dir)?;
            conditions.push(format!("afterok:{id}"));
            said = format!("job {id}: {} groups; ", tasks.len());
        }
        let dependency = (!conditions.is_empty()).then(|| format!("--dependency={}", conditions.join(",")));
        let id = sbatch(dependency.as_slice(), &gather)?;
        self.gathers.push(id);
        self.write(&dir)?;
        output::result_line(format_args!("{said}job {id} gathers; --slurm --status shows how far they are"))
    }

    /// The script of an array of these tasks.
    fn array(&self, submission: &Submission<'_>, tasks: &[usize]) -> Result<String> {
        let mut script = self.head(submission, "group-%a.log", "")?;
        let numbers: Vec<String> = tasks.iter().map(ToString::to_string).collect();
        let numbers = match tasks {
            [first, .., last] if last - first + 1 == tasks.len() => format!("{first}-{last}"),
            _ => numbers.join(","),
        };
        writeln!(script, "#SBATCH --array={numbers}")?;
        // The state is saved when it comes.
        writeln!(script, "#SBATCH --signal=B:TERM@120")?;
        // What is on the hub was fetched before anything was submitted, and the spec names its commits.
        writeln!(script, "\nexport HF_HUB_OFFLINE=1")?;
        writeln!(
            script,
            "# A task works on one group of the spec as it was submitted, and resumes where it was stopped.\ngroups=("
        )?;
        for (task, group) in self.groups.iter().enumerate() {
            writeln!(script, "  {}  # {task}", quoted(group))?;
        }
        writeln!(script, ")")?;
        let results = absolute(&submission.results)?;
        let mut command = vec![program()?, format!("--device {}", quoted(&self.device))];
        command.push("${SLURM_CPUS_ON_NODE:+--threads \"$SLURM_CPUS_ON_NODE\"}".to_owned());
        command.push(format!("sweep {}", quoted(&Path::new(&results).join(SLURM).join(SPEC).display().to_string())));
        command.push(format!("--out {}", quoted(&results)));
        command.push("--group \"${groups[$SLURM_ARRAY_TASK_ID]}\"".to_owned());
        writeln!(script, "exec {}", command.join(" \\\n  "))?;
        Ok(script)
    }

    /// That of the job that gathers.
    fn gather(&self, submission: &Submission<'_>) -> Result<String> {
        let mut script = self.head(submission, "gather.log", "-gather")?;
        // Else it would wait for ever where a group fails.
        writeln!(script, "#SBATCH --kill-on-invalid-dep=yes")?;
        writeln!(script, "\nexec {} gather {}", program()?, quoted(&absolute(&submission.results)?))?;
        Ok(script)
    }

    fn head(&self, submission: &Submission<'_>, log: &str, suffix: &str) -> Result<String> {
        let mut script = "#!/bin/bash\n".to_owned();
        let is_array = suffix.is_empty();
        let log = Path::new(&absolute(&submission.results)?.replace('%', "%%")).join(SLURM).join(log);
        let log = log.display().to_string();
        ensure!(!log.contains(['"', '\n']), "{log}: Slurm's options can't have such a path; give another --out");
        let mut option = |name: &str, value: &str| writeln!(script, "#SBATCH --{name}={value}");
        option("job-name", &format!("\"{}{suffix}\"", submission.name.replace('"', "")))?;
        option("output", &format!("\"{log}\""))?;
        option("open-mode", "append")?;
        for (name, value) in [("partition", &self.options.partition), ("time", &self.options.time)] {
            if let Some(value) = value {
                option(name, value)?;
            }
        }
        // Gathering needs no GPU.
        if let Some(gres) = self.options.gres.as_ref().filter(|_| is_array) {
            option("gres", gres)?;
        }
        for more in &self.options.sbatch {
            writeln!(script, "#SBATCH {more}")?;
        }
        Ok(script)
    }

    fn write(&self, dir: &Path) -> Result<()> {
        write_atomic(&dir.join(JOBS), &serde_json::to_vec_pretty(self)?)
    }

    /// How far each group is.
    fn states(&self, results: &Path, queued: &Queue) -> Result<Vec<GroupState>> {
        let outline = Outline::read(results)?;
        // As it is recorded when the first task begins.
        let recorded = results.join("sweep.toml");
        let spec = recorded.exists().then(|| SpecDocument::read(&recorded, &[])?.spec()).transpose()?;
        let state = |(at, name): (usize, &String)| {
            let group = outline.iter().flat_map(|outline| &outline.groups).find(|group| group.name == *name);
            let runs = group.map_or(&[][..], |group| &group.runs);
            let written = |path: PathBuf| path.metadata().and_then(|file| file.modified()).ok();
            let mut times = Vec::new();
            let mut failed = 0;
            for run in runs {
                let id = run.key.id();
                let failure = || written(Failure::path(results, &id)).inspect(|_| failed += 1);
                times.extend(written(RunRecord::path(results, &id)).or_else(failure));
            }
            let done = times.len();
            let geometry = group.and_then(|group| group.geometry.as_ref()).map(|id| GeometryRecord::path(results, id));
            let information =
                group.and_then(|group| group.information.as_ref()).map(|id| information::path(results, id));
            let mut rest: Vec<_> = geometry.into_iter().chain(information).map(written).collect();
            let keys = runs.iter().map(|run| (run.depth.as_str(), &run.key));
            let topology = spec.as_ref().and_then(|spec| spec.topology.as_ref());
            let is_first = group.is_some_and(|group| group.geometry.is_some());
            for task in topology::tasks(topology, group.map_or("", |group| &group.model), keys, is_first)? {
                if !task.lacks_run(results)? {
                    rest.push(written(task.path(results)));
                }
            }
            let has_rest = rest.iter().all(Option::is_some);
            let written = times.into_iter().chain(rest.into_iter().flatten()).max();
            let queued = queued.iter().rfind(|((_, task), _)| *task == Some(at)).map(|(_, state)| state.clone());
            Ok(GroupState { done, failed, runs: runs.len(), written, has_rest, queued })
        };
        self.groups.iter().enumerate().map(state).collect()
    }

    /// A table of the groups, and the ends of the logs of those that stopped.
    fn status(&self, results: &Path, states: &[GroupState]) -> Result<String> {
        let mut table = Table::new(["task", "group", "runs", "state"]);
        let mut logs = String::new();
        for (at, (name, state)) in self.groups.iter().zip(states).enumerate() {
            let what = match &state.queued {
                Some(queued) => queued.to_lowercase(),
                None if state.is_finished() => "finished".to_owned(),
                None if self.arrays.is_empty() => "not submitted".to_owned(),
                None => {
                    let log = results.join(SLURM).join(format!("group-{at}.log"));
                    write!(logs, "\n{name} stopped; {} ends:\n{}", log.display(), last_lines(&log))?;
                    "stopped".to_owned()
                }
            };
            let mut runs = if state.runs == 0 { "-".to_owned() } else { format!("{} of {}", state.done, state.runs) };
            if state.failed > 0 {
                write!(runs, ", {} failed", state.failed)?;
            }
            table.row([at.to_string(), name.clone(), runs, what]);
        }
        let gathered = match queue(&self.gathers)?.into_values().next() {
            Some(queued) => queued.to_lowercase(),
            None if results.join(REPORT).exists() => results.join(REPORT).display().to_string(),
            None => "not in the queue".to_owned(),
        };
        let retry = match logs.is_empty() {
            true if self.arrays.is_empty() => {
                "Slurm took no job of it: --slurm --retry submits it, or --slurm alone with other options.\n"
            }
            true => "",
            false => "\n--slurm --retry submits those that stopped again.\n",
        };
        Ok(format!("{table}\nReport: {gathered}\n{logs}{retry}"))
    }
}

/// A time as Slurm reads it, 0 without a limit: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` or
/// `days-hours:minutes:seconds`. `None` for what is none of these; Slurm has words of its own for it.
fn minutes(time: &str) -> Option<f64> {
    let (days, rest) = match time.split_once('-') {
        Some((days, rest)) => (Some(f64::from(days.parse::<u32>().ok()?)), rest),
        None => (None, time),
    };
    let parts: Vec<f64> = rest.split(':').map(|part| part.parse::<u32>().ok().map(f64::from)).collect::<Option<_>>()?;
    let of = match (days, parts.len()) {
        (None, 1) => [1.0, 0.0, 0.0],
        (None, 2) => [1.0, 1.0 / 60.0, 0.0],
        (_, 1..=3) => [60.0, 1.0, 1.0 / 60.0],
        _ => return None,
    };
    let minutes: f64 = parts.iter().zip(of).map(|(part, of)| part * of).sum();
    Some(days.unwrap_or(0.0) * 24.0 * 60.0 + minutes)
}

/// Whether all groups are finished and the report was written after the last of their records.
fn is_gathered(results: &Path, states: &[GroupState]) -> bool {
    let reported = results.join(REPORT).metadata().and_then(|file| file.modified());
    let is_in = |state: &GroupState, at| state.is_finished() && state.written.is_none_or(|written| written <= at);
    reported.is_ok_and(|at| states.iter().all(|state| is_in(state, at)))
}

fn last_lines(log: &Path) -> String {
    let text =
        std::fs::read(log).map_or_else(|e| format!("({e})"), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().fold(String::new(), |out, line| out + "  " + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_slurm() {
        for (time, expected) in
            [("30", 30.0), ("1:30", 1.5), ("4:00:00", 240.0), ("1-0", 1440.0), ("1-1:30", 1530.0), ("2-0:0:30", 2880.5)]
        {
            assert_eq!(minutes(time), Some(expected), "{time}");
        }
        for time in ["4x", "UNLIMITED", "", "1:2:3:4", "a-1", "2.5", "-5"] {
            assert_eq!(minutes(time), None, "{time}");
        }
        let of = |time: &str| Options { time: Some(time.to_owned()), ..Options::default() }.check();
        assert!(of("2:59").unwrap_err().to_string().contains("--time 2:59"));
        assert!(
            of("0").is_ok() && of("0:3:30").is_ok() && of("INFINITE").is_ok() && Options::default().check().is_ok()
        );
    }

    #[test]
    fn the_last_lines_of_a_log_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, (0..20).map(|n| format!("{n}\n")).collect::<String>()).unwrap();
        assert_eq!(last_lines(&log), (12..20).map(|n| format!("  {n}\n")).collect::<String>());
        assert!(last_lines(&dir.path().join("none")).contains("No such file"));
    }
}
