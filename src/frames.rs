//! Results as Polars frames: written once a sweep is done, and read back for tables, plots and reports.

mod axes;
#[cfg(feature = "workbench")]
pub(crate) mod columns;
mod copies;
mod grid;
mod loops;
mod parquet;
#[cfg(feature = "workbench")]
mod probe;
#[cfg(feature = "workbench")]
mod published;
mod read;
mod seal;
#[cfg(feature = "workbench")]
mod write;

pub use axes::{CONTROL, Class, MSE, Names, RECONSTRUCTION, RESID_POST, Setting, Site, TOPK, kind_of};
pub(crate) use grid::distinct;
pub use grid::{Bootstrap, ControlRun, Estimated, FailedRun, Grid, RunResult};
pub use loops::{LoopBar, LoopTest, Loops};
pub use parquet::{guarded, open};
#[cfg(feature = "workbench")]
pub use probe::{Probes, write_probes};
#[cfg(feature = "workbench")]
pub use published::{Published, PublishedSaes, write_published};
pub use read::read;
#[cfg(feature = "workbench")]
pub use write::{SweepRecords, write, write_timings};

use assay_probes::metrics::Subset;

/// One row per run: the file that makes a directory a sweep's results.
pub(crate) const RUNS: &str = "runs.parquet";
const SEQUENCES: &str = "sequences.parquet";
const GEOMETRY: &str = "geometry.parquet";
const CURVES: &str = "curves.parquet";
const NORMS: &str = "norms.parquet";
const MODELS: &str = "models.parquet";
const INFORMATION: &str = "information.parquet";
const LATENTS: &str = "latents.parquet";
/// One row per run that failed; there only where some did.
pub(crate) const FAILURES: &str = "failures.parquet";
/// Tests of loops, and bars; there only where a spec asks for them.
pub(crate) const LOOPS: &str = "topology.parquet";
pub(crate) const BARS: &str = "bars.parquet";
const TIMINGS: &str = "timings.parquet";

/// What the columns of `runs` begin with that hold scores of what latents mean.
pub(crate) const LEGIBILITY: &str = "legibility.";
/// How the score of a method of explanation ends where another latent's explanation took the place of its own.
pub(crate) const OTHER: &str = "_other";

/// Every frame's file in a results directory.
pub const FILES: [&str; 9] = [RUNS, SEQUENCES, LATENTS, GEOMETRY, CURVES, NORMS, MODELS, INFORMATION, TIMINGS];

/// A metric's column: its name on all tokens, with the subset before it otherwise.
pub fn column_name(subset: Subset, metric: &str) -> String {
    match subset {
        Subset::All => metric.to_owned(),
        other => format!("{}.{metric}", other.name()),
    }
}
