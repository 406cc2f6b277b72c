//! Does an SAE preserve what the model does, or only what its activations look like?
//!
//! ```
//! use assay_probes::Sums;
//! use assay_probes::metrics::metric;
//!
//! // Two predictions: the loss is 6.0 nats in all, 7.5 with the reconstruction and 12.0 with the mean activation.
//! let sums = Sums { scored: 2.0, ce_orig: 6.0, ce_recon: 7.5, ce_mean: 12.0, ..Sums::default() };
//! let value = |name: &str| metric(name).and_then(|metric| (metric.value)(&sums));
//! assert_eq!(value("ce_rec_pooled"), Some(0.75));
//! assert_eq!(value("ce_loss_score_mean"), Some(0.75));
//! assert_eq!(value("r2"), None); // undefined without activations, and not 0
//! ```
//!
//! - `evaluate`: patching: the model run on with reconstructions, zeros or the mean in place of an activation.
//! - `survey`: what an evaluation needs to know about its tokens beforehand, and the geometry of the model's layers, from one pass.
//! - [`metrics`]: every metric, each defined once over sums that add up from sequence to sequence.
//! - [`profile`]: errors by ‖a‖.
//! - [`rate`]: how often latents fire, and what the code costs in bits.
//! - [`saebench`]: what SAEBench's core evaluation reports beside that.
//! - [`latents`]: what an SAE's weights say about each latent.
//! - `seeds`: which latents of two SAEs are the same; [`assignment`]: the least-cost assignment.
//! - [`features`]: what a latent's firings say about it.
//! - `absorption`: latents that share the first letters of words, and others that write them where those are silent.
//! - `ablation`: what the model predicts without a latent; `amplification`: and with much more of it.
//! - [`geometry`]: covariance spectra and participation ratios of a model's layers.
//! - [`information`]: mutual information of activations and logits, and the dimensionality that it needs.
//! - `topology`: persistent homology of clouds of points, and of nulls.
//! - `probing`: how well a label can be read off latents or activations, by accuracy and in bits.
//! - [`stats`]: resampling; host arrays only, seeded.
//!
//! What touches a model or an SAE needs the feature `tensors`, which is on by default. Without it, the results reader
//! builds without Burn.

#[cfg(feature = "tensors")]
pub mod ablation;
#[cfg(feature = "tensors")]
pub mod absorption;
#[cfg(feature = "tensors")]
pub mod amplification;
pub mod assignment;
#[cfg(feature = "tensors")]
pub mod error;
#[cfg(feature = "tensors")]
pub mod evaluate;
pub mod features;
pub mod geometry;
pub mod information;
#[cfg(feature = "tensors")]
mod kernels;
#[cfg(feature = "tensors")]
pub mod latents;
pub mod metrics;
#[cfg(feature = "tensors")]
pub mod probing;
pub mod profile;
pub mod rate;
#[cfg(feature = "tensors")]
mod readback;
pub mod saebench;
#[cfg(feature = "tensors")]
pub mod seeds;
pub mod stats;
#[cfg(feature = "tensors")]
pub mod survey;
#[cfg(feature = "tensors")]
pub mod topology;

pub use metrics::{METRICS, Metric, Subset, Sums};
#[cfg(feature = "tensors")]
pub use {
    error::ProbeError,
    evaluate::{EvalConfig, Evaluation, Subject, evaluate},
    information::{Bound, Critic, CriticConfig, Information, model_information},
    survey::Survey,
};
