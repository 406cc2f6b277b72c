//! Mutual information between activations and logits, by neural critics, and the dimensionality that it needs.
//!
//! - [`critic`]: networks that score pairs; separable, concatenated, or either behind a bottleneck.
//! - [`bound`]: InfoNCE and SMILE.
//! - [`mod@estimate`]: training, and estimates from pairs that were held out of it.
//! - [`dimensionality`]: the width of bottleneck that keeps the information.
//! - [`logits`]: principal components of a model's logits.
//!
//! A caution in reading values: what follows from x with certainty has infinitely much information about it if it is
//! continuous, as the logits have about the last layer's residual stream. A finite estimate then shows the limits of the critic, and
//! only comparisons made alike, such as a curve over widths, mean something.

pub mod bound;
pub mod critic;
pub mod dimensionality;
pub mod estimate;
pub mod logits;

use assay_models::{Decoder, HookPoint};
use ndarray::ArrayView2;

pub use bound::Bound;
pub use critic::Critic;
pub use dimensionality::{PLATEAU_SHARE, inferred_dimensionality, information_curve, widths};
pub use estimate::{CriticConfig, MutualInformation, estimate};
pub use logits::{LogitPairs, PairsConfig, logit_pairs};

use crate::error::Result;

/// Terms of reports that are computed here.
pub const TERMS: &[(&str, &str)] = &[(
    "InfoNCE, SMILE",
    "bounds of mutual information read off a trained critic: van den Oord et al. 2018 (at most ln of the batch, its cap) and Song and Ermon 2020 (no strict bound); the inferred dimensionality is the narrowest linear bottleneck that keeps 90 % of the largest estimate (after Gulati et al. 2026)",
)];

/// What a critic found about one hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Information {
    /// Where the activations are from.
    pub hook: HookPoint,
    /// The critic and its training.
    pub config: CriticConfig,
    /// Mutual information of the activation and the logits' first principal components.
    pub information: MutualInformation,
    /// Components of the logits.
    pub components: usize,
    /// Share of the logits' variance in them.
    pub variance_share: Option<f64>,
}

/// Mutual information between the activations at each of `hooks` and the logits' first principal components on `tokens`,
/// `[S, T]`, with each of `critics`: hook after hook, in the order given. `progress` is told of every finished estimate.
///
/// Sequences are split in the order given: the last are held out.
///
/// # Errors
/// As [`logit_pairs`] and [`estimate()`].
pub fn model_information(
    model: &Decoder,
    hooks: &[HookPoint],
    tokens: ArrayView2<'_, u32>,
    pairs: &PairsConfig,
    critics: &[CriticConfig],
    mut progress: impl FnMut(usize),
) -> Result<Vec<Information>> {
    let LogitPairs { activations, scores, variance_share, .. } = logit_pairs(model, hooks, tokens, pairs, |_| ())?;
    let mut found = Vec::with_capacity(hooks.len() * critics.len());
    for (&hook, x) in hooks.iter().zip(&activations) {
        for &config in critics {
            let information = estimate(x.view(), scores.view(), &config, model.device(), |_| ())?;
            found.push(Information { hook, config, information, components: scores.ncols(), variance_share });
            progress(1);
        }
    }
    Ok(found)
}
