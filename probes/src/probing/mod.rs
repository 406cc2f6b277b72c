//! Probes: how well a label can be read off a representation of a text, by a few of its columns or by all.
//!
//! - [`Features`]: a representation, one row per text: pooled latents or activations, counts of words.
//! - [`Ranking`]: which columns a k-sparse probe takes.
//! - [`logistic`]: the probe itself, L2-penalised logistic regression solved to the end.
//! - [`Design`]: what a regression sees of some rows; where there are more columns than rows, in coordinates of the rows.
//! - [`Protocol`], [`probe`]: SAEBench's and sae-probes' rules of fitting and scoring.
//! - [`Scores`]: accuracy, balanced accuracy, AUROC, F1, of all rows or of a bootstrap replicate.
//! - [`stratified`], [`balanced`]: which rows are trained and which tested on, no document on both sides.
//! - [`prequential`]: the online code of the labels: bits, not accuracy (Voita and Titov 2020).
//!
//! Host arrays and f64 only; everything random takes a seed.

mod design;
mod features;
pub mod logistic;
mod prequential;
mod principal;
mod protocol;
mod ranking;
mod sampling;
mod scores;

pub use design::{Design, Gram};
pub use features::Features;
pub use prequential::{Prequential, SETTINGS, boundaries, label_only_bits, orders, prequential};
pub use principal::principal;
pub use protocol::{Probed, Protocol, probe};
pub use ranking::Ranking;
pub use sampling::{Split, balanced, permutation, permuted_labels, stratified};
pub use scores::{SCORES, Scores, Tested};
