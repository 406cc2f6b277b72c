//! Results as Polars frames: written once a sweep is done, and read back for tables, plots and reports.

#[cfg(feature = "workbench")]
mod columns;
mod grid;
mod parquet;
mod read;
#[cfg(feature = "workbench")]
mod write;

pub use grid::{Bootstrap, Estimated, Grid, Run};
pub use parquet::open;
pub use read::read;
#[cfg(feature = "workbench")]
pub use write::{Found, write, write_timings};

use assay_probes::metrics::Subset;

const RUNS: &str = "runs.parquet";
const SEQUENCES: &str = "sequences.parquet";
const GEOMETRY: &str = "geometry.parquet";
const CURVES: &str = "curves.parquet";
const NORMS: &str = "norms.parquet";
const MODELS: &str = "models.parquet";
const INFORMATION: &str = "information.parquet";

/// A metric's column: its name on all tokens, with the subset before it otherwise.
pub fn column_name(subset: Subset, metric: &str) -> String {
    match subset {
        Subset::All => metric.to_owned(),
        other => format!("{}.{metric}", other.name()),
    }
}
