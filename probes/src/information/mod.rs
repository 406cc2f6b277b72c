//! Mutual information between activations and logits, by neural critics, and the dimensionality that it needs.
//!
//! - `critic`: networks that score pairs; separable, concatenated, or either behind a bottleneck.
//! - `bound`: InfoNCE and SMILE.
//! - `estimate`: training, and estimates from pairs that were held out of it.
//! - `curve`: estimates behind bottlenecks of several widths.
//! - [`dimensionality`]: the width of bottleneck that keeps the information.
//! - `logits`: principal components of a model's logits.
//! - `hooks`: all of it for the hooks of a model.
//!
//! A caution in reading values: what follows from x with certainty has infinitely much information about it if it is
//! continuous, as the logits have about the last layer's residual stream. A finite estimate then shows the limits of the critic, and
//! only comparisons made alike, such as a curve over widths, mean something.

#[cfg(feature = "tensors")]
pub mod bound;
#[cfg(feature = "tensors")]
pub mod critic;
#[cfg(feature = "tensors")]
pub mod curve;
pub mod dimensionality;
#[cfg(feature = "tensors")]
pub mod estimate;
#[cfg(feature = "tensors")]
pub mod hooks;
#[cfg(feature = "tensors")]
pub mod logits;

pub use dimensionality::{PLATEAU_SHARE, inferred_dimensionality, widths};
#[cfg(feature = "tensors")]
pub use {
    bound::Bound,
    critic::Critic,
    curve::information_curve,
    estimate::{CriticConfig, MutualInformation, estimate},
    hooks::{Information, model_information},
    logits::{LogitPairs, PairsConfig, logit_pairs},
};

/// Terms of reports that are computed here.
pub const TERMS: &[(&str, &str)] = &[(
    "InfoNCE, SMILE",
    "bounds of mutual information read off a trained critic: van den Oord et al. 2018 (at most ln of the batch, its cap) and Song and Ermon 2020 (no strict bound); neither can be trusted above ln of the held-out pairs. The inferred dimensionality is the width, linear between those of the grid, at which a linear bottleneck first keeps 90 % of the largest estimate, that without a bottleneck included (after Gulati et al. 2026); not given for the last layer, where the logits are a function of the activation",
)];
