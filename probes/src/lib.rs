//! Does an SAE preserve what the model does, or only what its activations look like?
//!
//! - [`mod@evaluate`]: patching: the model run on with reconstructions, zeros or the mean in place of an activation.
//! - [`metrics`]: every metric, each defined once over sums that add up from sequence to sequence.
//! - [`profile`]: errors by ‖a‖.
//! - [`rate`]: how often latents fire, and what the code costs in bits.
//! - [`geometry`]: covariance spectra and participation ratios of a model's layers.
//! - [`information`]: mutual information of activations and logits, and the dimensionality that it needs.
//! - [`stats`]: resampling; host arrays only, seeded.

pub mod error;
pub mod evaluate;
pub mod geometry;
pub mod information;
pub mod metrics;
pub mod profile;
pub mod rate;
pub mod stats;

pub use error::ProbeError;
pub use evaluate::{EvalConfig, Evaluation, evaluate};
pub use information::{Bound, Critic, CriticConfig, Information, model_information};
pub use metrics::{METRICS, Metric, Subset, Sums};
