//! `assay report`: tables, plots and report of a results directory, from its parquet files alone.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::frames::RUNS;
use crate::spelling::missing;
use crate::{output, report};

/// Rebuild the tables, plots and report of a results directory from its parquet files.
///
/// No model and no record is read, so it works on results copied from elsewhere. report.md begins with a summary; report.html beside it
/// has the same content in one file, with figures and whole tables that sort and filter, and opens without a network. The path of
/// report.md is printed.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  assay report results/example")]
pub struct ReportArgs {
    /// A directory that `assay sweep` wrote
    #[arg(value_name = "DIR")]
    results: PathBuf,
}

impl ReportArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the directory has no results or can't be written.
    pub fn run(&self) -> Result<()> {
        let shown = self.results.display();
        ensure!(!self.results.is_file(), "{shown} is a file; give the directory of results, which `assay sweep` wrote");
        ensure!(self.results.is_dir(), missing(&self.results));
        let below = below(&self.results);
        ensure!(
            self.results.join(RUNS).exists() || below.is_empty(),
            "{shown} has no results itself; directories in it have: {}",
            below.join(", ")
        );
        report::write(&self.results)?;
        output::result_line(self.results.join("report.md").display())
    }
}

/// The directories in one that are results.
fn below(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of_results = entries.filter(|entry| entry.path().join(RUNS).is_file());
    let mut below: Vec<String> = of_results.map(|entry| entry.path().display().to_string()).collect();
    below.sort();
    below
}
