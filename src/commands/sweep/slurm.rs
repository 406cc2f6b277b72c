//! `assay sweep --slurm`: a job array with a task a group, and a job that gathers.
//!
//! What is submitted is a script that a person can read, run and change; it lies in the results directory under `slurm/`, with the tasks'
//! logs and the numbers of the jobs. Nothing here runs while the jobs do: what has become of them is read from the records and the queue.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write_atomic};
use crate::markdown::Table;
use crate::plan::Outline;
use crate::record::{Failure, GeometryRecord, Record};
use crate::results_dir::{ResultsDir, SLURM};
use crate::{frames, information, output};

const ARRAY: &str = "array.sh";
const GATHER: &str = "gather.sh";
const JOBS: &str = "jobs.json";
/// Lines of a log that are shown.
const LAST_LINES: usize = 8;

/// How a sweep is submitted.
#[derive(clap::Args, Debug)]
pub(super) struct SlurmArgs {
    /// Submit the sweep to Slurm: an array with a task a group, and a job that gathers when all are done. The script is in `slurm/` of the
    /// results directory; --dry-run prints it
    #[arg(long, conflicts_with_all = ["group", "devices", "worker", "json"])]
    pub slurm: bool,
    /// With --slurm: what has become of the groups, from their records and the queue
    #[arg(long, requires = "slurm", conflicts_with = "dry_run")]
    status: bool,
    /// With --slurm: submit the groups again that are neither finished nor in the queue
    #[arg(long, requires = "slurm", conflicts_with_all = ["status", "dry_run"])]
    retry: bool,
    /// With --slurm: the partition
    #[arg(long, requires = "slurm", value_name = "NAME")]
    partition: Option<String>,
    /// With --slurm: what each task needs, as in `gpu:1`
    #[arg(long, requires = "slurm", value_name = "LIST")]
    gres: Option<String>,
    /// With --slurm: how long a task may take; two minutes before, it saves its state and ends
    #[arg(long, requires = "slurm", value_name = "TIME")]
    time: Option<String>,
    /// With --slurm: any other option of sbatch, as in --sbatch=--cpus-per-task=8; may be repeated
    #[arg(long, requires = "slurm", value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
}

/// A sweep to submit.
pub(super) struct Submission<'a> {
    /// The sweep's name.
    pub name: &'a str,
    /// The spec's file.
    pub spec: &'a Path,
    /// What was given with `--set`.
    pub overrides: &'a [String],
    /// The results directory.
    pub results: PathBuf,
    /// That of the tasks.
    pub device: &'a str,
}

/// What was submitted, as it is recorded.
#[derive(Default, Serialize, Deserialize)]
struct Jobs {
    /// Names of the groups; the number of a task is its group's place here.
    groups: Vec<String>,
    /// Of the arrays and of the gathering jobs that were submitted, the last one last.
    arrays: Vec<u64>,
    gathers: Vec<u64>,
}

/// What has become of a group.
struct GroupState {
    done: usize,
    runs: usize,
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
        let states = jobs.states(results)?;
        if self.status {
            return output::result(jobs.status(results, &states)?);
        }
        let again = states.iter().enumerate().filter(|(_, state)| !state.is_finished() && state.queued.is_none());
        let again: Vec<usize> = again.map(|(at, _)| at).collect();
        let waiting = queue(&jobs.gathers)?;
        if again.is_empty() && (!waiting.is_empty() || results.join(frames::RUNS).exists()) {
            return output::result_line("nothing to submit again: all groups are finished or in the queue");
        }
        self.submit(submission, &mut jobs, &again)
    }

    /// Submits all groups, or shows with `dry_run` what would be.
    ///
    /// # Errors
    /// If jobs of it are in the queue, the directory can't be written, or Slurm refuses.
    pub fn start(&self, submission: &Submission<'_>, groups: Vec<String>, dry_run: bool) -> Result<()> {
        let all: Vec<usize> = (0..groups.len()).collect();
        if dry_run {
            let array = self.array(submission, &groups, &all)?;
            return output::result(format_args!("{array}\n# When all of them are done:\n{}", self.gather(submission)?));
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
        self.submit(submission, &mut Jobs { groups, ..Jobs::default() }, &all)
    }

    fn submit(&self, submission: &Submission<'_>, jobs: &mut Jobs, tasks: &[usize]) -> Result<()> {
        let dir = submission.results.join(SLURM);
        let (array, gather) = (dir.join(ARRAY), dir.join(GATHER));
        write_atomic(&gather, self.gather(submission)?.as_bytes())?;
        let mut dependency = None;
        if !tasks.is_empty() {
            write_atomic(&array, self.array(submission, &jobs.groups, tasks)?.as_bytes())?;
            let id = sbatch(&[], &array)?;
            jobs.arrays.push(id);
            jobs.write(&dir)?;
            dependency = Some(format!("--dependency=afterok:{id}"));
        }
        let id = sbatch(dependency.as_slice(), &gather)?;
        jobs.gathers.push(id);
        jobs.write(&dir)?;
        let array = match (jobs.arrays.last(), tasks.len()) {
            (Some(array), many) if many > 0 => format!("job {array}: {many} groups; "),
            _ => String::new(),
        };
        output::result_line(format_args!("{array}job {id} gathers; --slurm --status shows how far they are"))
    }

    /// The script of an array of these tasks.
    fn array(&self, submission: &Submission<'_>, groups: &[String], tasks: &[usize]) -> Result<String> {
        let mut script = self.head(submission, "group-%a.log", "")?;
        let numbers: Vec<String> = tasks.iter().map(ToString::to_string).collect();
        let numbers = match tasks {
            [first, .., last] if last - first + 1 == tasks.len() => format!("{first}-{last}"),
            _ => numbers.join(","),
        };
        writeln!(script, "#SBATCH --array={numbers}")?;
        // The state is saved when it comes.
        writeln!(script, "#SBATCH --signal=B:TERM@120")?;
        writeln!(script, "\n# A task works on one group of the sweep, and goes on where it was stopped:")?;
        for &task in tasks {
            writeln!(script, "#   {task}  {}", groups[task])?;
        }
        let mut command = vec![program()?, format!("--device {}", quoted(submission.device))];
        command.push("${SLURM_CPUS_ON_NODE:+--threads \"$SLURM_CPUS_ON_NODE\"}".to_owned());
        command.push(format!("sweep {}", quoted(&absolute(submission.spec)?)));
        command.push(format!("--out {}", quoted(&absolute(&submission.results)?)));
        command.extend(submission.overrides.iter().map(|set| format!("--set {}", quoted(set))));
        command.push("--group \"$SLURM_ARRAY_TASK_ID\"".to_owned());
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
        for (name, value) in [("partition", &self.partition), ("time", &self.time)] {
            if let Some(value) = value {
                option(name, value)?;
            }
        }
        // Gathering needs no GPU.
        if let Some(gres) = self.gres.as_ref().filter(|_| is_array) {
            option("gres", gres)?;
        }
        for more in &self.sbatch {
            writeln!(script, "#SBATCH {more}")?;
        }
        Ok(script)
    }
}

impl Jobs {
    fn write(&self, dir: &Path) -> Result<()> {
        write_atomic(&dir.join(JOBS), &serde_json::to_vec_pretty(self)?)
    }

    /// How far each group is.
    fn states(&self, results: &Path) -> Result<Vec<GroupState>> {
        let queued = queue(&self.arrays)?;
        let outline = Outline::read(results)?;
        let state = |(at, name): (usize, &String)| {
            let group = outline.iter().flat_map(|outline| &outline.groups).find(|group| group.name == *name);
            let runs = group.map_or(&[][..], |group| &group.runs);
            let is_done = |id: &str| Record::path(results, id).exists() || Failure::path(results, id).exists();
            let done = runs.iter().filter(|run| is_done(&run.key.id())).count();
            let geometry = group.and_then(|group| group.geometry.as_ref()).map(|id| GeometryRecord::path(results, id));
            let information =
                group.and_then(|group| group.information.as_ref()).map(|id| information::path(results, id));
            let has_rest = geometry.iter().chain(&information).all(|path| path.exists());
            GroupState { done, runs: runs.len(), has_rest, queued: queued.get(&Some(at)).cloned() }
        };
        Ok(self.groups.iter().enumerate().map(state).collect())
    }

    /// A table of the groups, and the ends of the logs of those that stopped.
    fn status(&self, results: &Path, states: &[GroupState]) -> Result<String> {
        let mut table = Table::new(["task", "group", "runs", "state"]);
        let mut logs = String::new();
        for (at, (name, state)) in self.groups.iter().zip(states).enumerate() {
            let what = match &state.queued {
                Some(queued) => queued.to_lowercase(),
                None if state.is_finished() => "finished".to_owned(),
                None => {
                    let log = results.join(SLURM).join(format!("group-{at}.log"));
                    write!(logs, "\n{name} stopped; {} ends:\n{}", log.display(), last_lines(&log))?;
                    "stopped".to_owned()
                }
            };
            let runs = if state.runs == 0 { "-".to_owned() } else { format!("{} of {}", state.done, state.runs) };
            table.row([at.to_string(), name.clone(), runs, what]);
        }
        let gathered = match queue(&self.gathers)?.into_values().next() {
            Some(queued) => queued.to_lowercase(),
            None if results.join("report.md").exists() => results.join("report.md").display().to_string(),
            None => "not in the queue".to_owned(),
        };
        let retry = if logs.is_empty() { "" } else { "\n--slurm --retry submits those that stopped again.\n" };
        Ok(format!("{table}\nReport: {gathered}\n{logs}{retry}"))
    }
}

/// The states of tasks in the queue by their numbers, or of jobs without tasks.
fn queue(jobs: &[u64]) -> Result<BTreeMap<Option<usize>, String>> {
    let mut found = BTreeMap::new();
    if jobs.is_empty() {
        return Ok(found);
    }
    // All of the user's: to be asked of a job that it has forgotten is an error.
    let text = said(Command::new("squeue").args(["--noheader", "--array", "--format=%F %K %T"]))?;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(job), Some(task), Some(state)) = (words.next(), words.next(), words.next())
            && job.parse().is_ok_and(|job: u64| jobs.contains(&job))
            && state != "COMPLETED"
        {
            found.insert(task.parse().ok(), state.to_owned());
        }
    }
    Ok(found)
}

/// Submits a script and gives the job's number.
fn sbatch(options: &[String], script: &Path) -> Result<u64> {
    let text = said(Command::new("sbatch").arg("--parsable").args(options).arg(script))?;
    let number = text.trim().split(';').next().unwrap_or_default();
    number.parse().with_context(|| format!("sbatch said `{}`, expected the number of a job", text.trim()))
}

/// What a program of Slurm's prints.
fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!(
            "--slurm: there is no `{name}` here; run this where jobs are submitted. Any other launcher can run `assay sweep SPEC --group N`, \
             and `assay gather DIR` at the end"
        ),
        found => found.with_context(|| format!("cannot run {name}"))?,
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ({}): {}", output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn last_lines(log: &Path) -> String {
    let text =
        std::fs::read(log).map_or_else(|e| format!("({e})"), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().fold(String::new(), |out, line| out + "  " + line + "\n")
}

/// This program as a word of a script.
fn program() -> Result<String> {
    let program = std::env::current_exe().context("this program's own path is not known")?;
    Ok(quoted(&program.display().to_string()))
}

fn absolute(path: &Path) -> Result<String> {
    let found = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(found.display().to_string())
}

/// A word of a shell's, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_have_to_be() {
        for (text, expected) in [
            ("/a/b-1.toml", "/a/b-1.toml"),
            ("k=[4, 8]", "'k=[4, 8]'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(text), expected);
        }
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
