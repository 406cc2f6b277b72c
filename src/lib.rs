//! Assay: from text to the proxy-gap table.
//!
//! ```
//! use std::path::Path;
//!
//! let grid = assay::frames::read(Path::new("results/example"))?;
//! assert_eq!(grid.models(), ["small", "medium"]);
//! let run = &grid.runs[0];
//! println!("{} at {}: R² {:?}, 95 % {:?}", run.model, run.hook, run.value("r2"), run.interval("r2"));
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! The stages, in order, and where each lives (`ARCHITECTURE.md` has the same list, with all files):
//!
//! 1. corpus: documents, `models/src/corpus.rs`
//! 2. tokens: [`assay_models::tokens`]
//! 3. decoder, hooks: [`assay_models::decoder`], [`assay_models::hooks`]
//! 4. activations: [`assay_models::activations`]
//! 5. SAE training: [`assay_sae::trainer`]
//! 6. survey: [`assay_probes::survey`]
//! 7. patching: [`mod@assay_probes::evaluate`]
//! 8. metrics: [`assay_probes::metrics`], [`assay_probes::rate`], [`assay_probes::geometry`]
//! 9. statistics: [`assay_probes::stats`]
//! 10. gathering, Parquet: [`mod@gather`], [`frames`]
//! 11. analysis: [`analysis`]; beside published numbers: [`mod@compare`]
//! 12. tables, plots: [`report`]
//! 13. report: [`report`]
//!
//! This crate is the glue: it reads sweeps ([`spec`]), plans runs ([`plan`]), carries them out ([`runner`]), and writes
//! records ([`record`]), training curves ([`logs`]) and results. Nothing else reads a sweep or writes a result.

#[cfg(feature = "workbench")]
pub mod absorption;
pub mod analysis;
#[cfg(feature = "workbench")]
pub mod belonging;
#[cfg(feature = "workbench")]
pub mod catalogue;
#[cfg(feature = "workbench")]
pub mod circles;
#[cfg(feature = "workbench")]
pub mod cli;
#[cfg(feature = "workbench")]
mod cloud;
#[cfg(feature = "workbench")]
pub mod commands;
pub mod compare;
#[cfg(feature = "workbench")]
pub mod controls;
mod csv;
#[cfg(feature = "workbench")]
pub mod device;
#[cfg(feature = "workbench")]
mod differences;
#[cfg(feature = "workbench")]
pub mod events;
#[cfg(feature = "workbench")]
pub mod features;
#[cfg(feature = "workbench")]
pub mod fetch;
pub mod files;
pub mod frames;
#[cfg(feature = "workbench")]
pub mod gather;
#[cfg(feature = "workbench")]
pub mod information;
#[cfg(feature = "workbench")]
pub mod inside;
#[cfg(feature = "workbench")]
pub mod interrupt;
#[cfg(feature = "workbench")]
pub mod legibility;
#[cfg(feature = "workbench")]
pub mod logs;
pub mod markdown;
#[cfg(feature = "notebook")]
pub mod notebook;
pub mod output;
#[cfg(feature = "workbench")]
mod overlap;
#[cfg(feature = "workbench")]
pub mod plan;
#[cfg(feature = "workbench")]
pub mod probe;
#[cfg(feature = "workbench")]
pub mod progress;
#[cfg(feature = "workbench")]
pub mod record;
pub mod replicates;
pub mod report;
#[cfg(feature = "workbench")]
mod results_dir;
#[cfg(feature = "workbench")]
pub mod runner;
#[cfg(feature = "workbench")]
pub mod shards;
#[cfg(feature = "workbench")]
pub mod spec;
#[cfg(feature = "workbench")]
mod spelling;
#[cfg(feature = "workbench")]
pub mod topology;
#[cfg(feature = "workbench")]
pub mod transcode;
pub mod verdict;
