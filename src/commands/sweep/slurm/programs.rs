//! Slurm's own programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The states of tasks in the queue by their job and number, or of jobs without tasks.
pub type Queue = BTreeMap<(u64, Option<usize>), String>;

/// What of these jobs is in the queue.
///
/// # Errors
/// If Slurm can't be asked.
pub fn queue(jobs: &[u64]) -> Result<Queue> {
    let mut found = BTreeMap::new();
    if jobs.is_empty() {
        return Ok(found);
    }
    // All of the user's: to be asked of a job that it has forgotten is an error.
    let text = said(Command::new("squeue").args(["--noheader", "--array", "--format=%F %K %T"]))?;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(job), Some(task), Some(state)) = (words.next(), words.next(), words.next())
            && let Ok(job) = job.parse()
            && jobs.contains(&job)
            && state != "COMPLETED"
        {
            found.insert((job, task.parse().ok()), state.to_owned());
        }
    }
    Ok(found)
}

/// Submits a script and gives the job's number.
///
/// # Errors
/// If Slurm refuses it.
pub fn sbatch(options: &[String], script: &Path) -> Result<u64> {
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
