//! `assay report`: tables, plots and report of a results directory, from its parquet files alone.

use std::path::PathBuf;

use anyhow::{Result, ensure};

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
        report::write(&self.results)?;
        output::result_line(self.results.join("report.md").display())
    }
}
