//! The shape of a cloud of activations: covariance spectrum and participation ratio.

#[cfg(feature = "tensors")]
mod covariance;
#[cfg(feature = "tensors")]
mod layers;

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
pub use {
    covariance::{Covariance, Spectrum},
    layers::{model_geometry, residual_stream},
};

/// Terms of reports that are computed here.
pub const TERMS: &[(&str, &str)] = &[
    (
        "pr",
        "participation ratio (Σλ)²/Σλ² of the eigenvalues of the mean-centred covariance (divided by N) at the hook: how many directions the variance is spread over",
    ),
    ("pr_deflated_m", "the same without the m largest eigenvalues, m = 1, 2, 4, 8"),
    ("pr_uncentered", "the same of the second moments about zero: the mean not subtracted"),
    ("pr_over_d_model", "pr divided by d_model"),
];

/// The geometry of one layer's `hook_resid_post`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerGeometry {
    /// Layer, from 0.
    pub layer: usize,
    /// Participation ratio of the mean-centred covariance.
    pub pr: Option<f64>,
    /// Without the largest eigenvalue.
    pub pr_deflated_1: Option<f64>,
    /// Without the two largest.
    pub pr_deflated_2: Option<f64>,
    /// Without the four largest.
    pub pr_deflated_4: Option<f64>,
    /// Without the eight largest.
    pub pr_deflated_8: Option<f64>,
    /// Participation ratio of the second moments about zero: the mean not subtracted.
    pub pr_uncentered: Option<f64>,
    /// `pr` divided by d_model.
    pub pr_over_d_model: Option<f64>,
    /// Mean ‖a‖.
    pub mean_norm: f64,
    /// Largest ‖a‖.
    pub max_norm: f64,
    /// Trace of the covariance (divided by N).
    pub variance: f64,
    /// Share of the trace in the largest eigenvalue.
    pub top_eigenvalue_share: Option<f64>,
    /// Fraction of tokens with ‖a‖ above 10 × the median.
    pub outlier_frac: f64,
}

/// Geometry of every layer, and the model's mean cross-entropy on the same tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelGeometry {
    /// Mean next-token cross-entropy, nats.
    pub ce_orig: f64,
    /// One entry per layer.
    pub layers: Vec<LayerGeometry>,
}
