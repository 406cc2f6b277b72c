//! `assay gather`: from the finished groups of a sweep to its tables, plots and report.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::gather::{gather, left_out};
use crate::output;
use crate::plan::PLAN;
use crate::progress::Progress;
use crate::results_dir::ResultsDir;

/// Write the Parquet files, tables, plots and report of a sweep whose groups ran in processes of their own.
///
/// `assay sweep SPEC --group G` trains and evaluates one group of a sweep, here or on any machine that sees the results directory;
/// this command then does what `assay sweep SPEC` does at its end. It reads the plan and the records in the directory and nothing
/// else, and writes the same files as one process that did everything. If a group is not finished, it says which and writes nothing.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay sweep sweeps/demo.toml --group 0\n  assay sweep sweeps/demo.toml --group 1\n  assay gather results/demo"
)]
pub struct GatherArgs {
    /// A sweep's results directory
    #[arg(value_name = "DIR")]
    results: PathBuf,
}

impl GatherArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If a group is not finished, another process works in the directory, a record is damaged, or a file can't be written.
    pub fn run(&self, progress: Progress) -> Result<()> {
        let shown = self.results.display();
        ensure!(self.results.is_dir(), "{shown}: no such directory");
        ensure!(
            self.results.join(PLAN).is_file(),
            "{shown} has no {PLAN}, which `assay sweep` writes; run a group of the sweep there first"
        );
        let claimed = ResultsDir::claim(&self.results)?;
        let runs = gather(&claimed)?;
        progress.say(&format!("{runs} runs gathered"));
        if let Some(said) = left_out(claimed.path(), runs) {
            progress.say(&said);
        }
        output::result_line(claimed.path().join("report.md").display())
    }
}
