//! Mutual information of activations at a model's sites with its logits.

use std::ops::ControlFlow;

use assay_models::{Decoder, Site};
use ndarray::ArrayView2;

use super::estimate::{CriticConfig, MutualInformation, estimate};
use super::logits::{LogitPairs, PairsConfig, logit_pairs};
use crate::error::{Result, advance};

/// What a critic found about one site.
#[derive(Clone, Debug, PartialEq)]
pub struct Information {
    /// Where the activations are from.
    pub site: Site,
    /// The critic and its training.
    pub config: CriticConfig,
    /// Mutual information of the activation and the logits' first principal components.
    pub information: MutualInformation,
    /// Components of the logits.
    pub components: usize,
    /// Share of the logits' variance in them.
    pub variance_share: Option<f64>,
}

/// Mutual information between the activations at each of `sites` and the logits' first principal components on `tokens`,
/// `[S, T]`, with each of `critics`: site after site, in the order given. `progress` is told of every finished estimate.
///
/// Sequences are split in the order given: the last are held out.
///
/// # Errors
/// As [`logit_pairs`] and [`estimate()`], or if `progress` breaks off.
pub fn model_information(
    model: &Decoder,
    sites: &[Site],
    tokens: ArrayView2<'_, u32>,
    pairs: &PairsConfig,
    critics: &[CriticConfig],
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Information>> {
    let LogitPairs { activations, scores, variance_share, .. } = logit_pairs(model, sites, tokens, pairs, |_| ())?;
    let mut found = Vec::with_capacity(sites.len() * critics.len());
    for (&site, x) in sites.iter().zip(&activations) {
        for &config in critics {
            let information = estimate(x.view(), scores.view(), &config, model.device(), |_| ())?;
            found.push(Information { site, config, information, components: scores.ncols(), variance_share });
            advance(&mut progress, 1)?;
        }
    }
    Ok(found)
}
