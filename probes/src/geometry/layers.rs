//! The geometry of every layer of a model.

use std::ops::ControlFlow;

use assay_models::{Decoder, DecoderConfig, HookPoint, Site};
use ndarray::ArrayView2;

use super::{Covariance, LayerGeometry, ModelGeometry};
use crate::error::Result;
use crate::metrics::outlier_limit;
use crate::survey::Survey;

/// `hook_resid_post` of every layer.
pub fn residual_stream(config: &DecoderConfig, center: bool) -> Vec<Site> {
    (0..config.n_layers()).map(|layer| Site { center, ..HookPoint::resid_post(layer).into() }).collect()
}

/// Measures every layer's residual stream on `tokens`, `[S, T]`, `batch` sequences at a time.
///
/// # Errors
/// If a token is not in the model's vocabulary, an activation or loss is not finite, or `progress` breaks off.
pub fn model_geometry(
    model: &Decoder,
    tokens: ArrayView2<'_, u32>,
    batch: usize,
    center: bool,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<ModelGeometry> {
    let survey = Survey::new(model, tokens, &[], &residual_stream(model.config(), center), batch, progress)?;
    Ok(survey.into_geometry().expect("a model has layers"))
}

impl LayerGeometry {
    /// Of the covariance of a layer's activations, and ‖a‖ of every token.
    pub(crate) fn new(layer: usize, covariance: &Covariance, norms: &[f64]) -> Result<Self> {
        let spectrum = covariance.spectrum()?;
        let limit = outlier_limit(norms);
        let pr = spectrum.participation_ratio(0);
        let tokens = norms.len().max(1) as f64;
        Ok(Self {
            layer,
            pr,
            pr_deflated_1: spectrum.participation_ratio(1),
            pr_deflated_2: spectrum.participation_ratio(2),
            pr_deflated_4: spectrum.participation_ratio(4),
            pr_deflated_8: spectrum.participation_ratio(8),
            pr_uncentered: covariance.uncentered_spectrum()?.participation_ratio(0),
            pr_over_d_model: pr.map(|pr| pr / covariance.d_model() as f64),
            mean_norm: norms.iter().sum::<f64>() / tokens,
            max_norm: norms.iter().copied().fold(0.0, f64::max),
            variance: spectrum.variance(),
            top_eigenvalue_share: spectrum.top_share(),
            outlier_frac: norms.iter().filter(|&&n| n > limit).count() as f64 / tokens,
        })
    }
}
