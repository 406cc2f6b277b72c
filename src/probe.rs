//! Probing: how well labels of texts can be read off an SAE's latents, beside what else they can be read off.
//!
//! - [`Labelled`]: texts with labels, of a file (`labelled.rs`), the bundled text (`bundled.rs`) or sae-probes' data (`package.rs`).
//! - [`Reading`], `pooled.rs`: one row per text, of latents, activations and words.
//! - [`Task`], `task.rs`: one class against the others, its rows and their sides.
//! - [`measure`]: every representation on a task, in scores and in bits; `measured.rs`: with intervals and differences; [`Means`], `means.rs`:
//!   over tasks; `memory.rs`: what it takes.
//! - `table.rs`: what is printed; the file is `frames/probe.rs`.
//!
//! The mathematics is [`assay_probes::probing`]'s.

mod bundled;
mod labelled;
mod means;
mod measure;
mod measured;
mod memory;
mod package;
mod pooled;
mod table;
mod task;

pub use bundled::bundled;
pub use labelled::{Columns, Labelled};
pub use means::Means;
pub use measure::{Measures, PERMUTATIONS, Representation, RepresentationKind, Row, measure};
pub use measured::{Against, Measured};
pub use memory::check_memory;
pub use package::{DATA, in_directory, installed};
pub use pooled::{Pooled, Pooling, Reading};
pub use table::{json, text};
pub use task::{Task, Wanted, numbered, tasks};
