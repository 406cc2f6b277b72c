//! The shape of a cloud of activations: covariance spectrum and participation ratio.

use assay_models::hooks::HookPoint;
use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, decoder::center_residual};
use faer::Side;
use ndarray::{Array2, ArrayView2, s};
use serde::Serialize;

use crate::error::{ProbeError, Result, check_finite};
use crate::metrics::{norm, outlier_limit};

/// Mean and second moments, accumulated in f64 from batch to batch.
///
/// Moments are taken about the mean of the first batch, so that a large common offset costs no digits.
pub struct Covariance {
    tokens: f64,
    shift: Option<Vec<f64>>,
    sum: Vec<f64>,
    moments: Array2<f64>,
}

/// Eigenvalues of a covariance divided by N, descending.
#[derive(Clone, Debug)]
pub struct Spectrum(Vec<f64>);

impl Covariance {
    /// Of vectors of `d_model` elements.
    pub fn new(d_model: usize) -> Self {
        Self { tokens: 0.0, shift: None, sum: vec![0.0; d_model], moments: Array2::zeros((d_model, d_model)) }
    }

    /// Adds rows, `[tokens, d_model]`.
    pub fn add(&mut self, rows: ArrayView2<'_, f32>) {
        if rows.is_empty() {
            return;
        }
        let mut rows = rows.mapv(f64::from);
        let shift = self.shift.get_or_insert_with(|| rows.mean_axis(ndarray::Axis(0)).expect("rows").to_vec());
        for mut row in rows.rows_mut() {
            for ((v, &shift), sum) in row.iter_mut().zip(shift.iter()).zip(&mut self.sum) {
                *v -= shift;
                *sum += *v;
            }
        }
        self.moments += &rows.t().dot(&rows);
        self.tokens += rows.nrows() as f64;
    }

    /// The mean-centred covariance, divided by N; NaN if there were no rows.
    pub(crate) fn matrix(&self) -> Array2<f64> {
        let n = self.tokens;
        let d = self.sum.len();
        Array2::from_shape_fn((d, d), |(i, j)| self.moments[[i, j]] / n - self.sum[i] / n * (self.sum[j] / n))
    }

    /// The mean; empty if there were no rows.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let shift = self.shift.iter().flatten();
        shift.zip(&self.sum).map(|(shift, sum)| shift + sum / self.tokens).collect()
    }

    /// The eigenvalues of the mean-centred covariance, divided by N; empty if there were no rows.
    ///
    /// # Errors
    /// If the eigenvalues can't be found, as when the activations were not finite.
    pub fn spectrum(&self) -> Result<Spectrum> {
        if self.tokens == 0.0 {
            return Ok(Spectrum(Vec::new()));
        }
        let d = self.sum.len();
        let matrix = self.matrix();
        let matrix = faer::Mat::from_fn(d, d, |i, j| matrix[[i, j]]);
        let mut values = matrix.self_adjoint_eigenvalues(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
        values.reverse();
        // A covariance has no negative eigenvalues; rounding does.
        Ok(Spectrum(values.into_iter().map(|v| if v < 0.0 { 0.0 } else { v }).collect()))
    }
}

impl Spectrum {
    /// Participation ratio (Σλ)²/Σλ² of the spectrum without its `top` largest eigenvalues: how many
    /// directions the variance is spread over. `None` where nothing is left.
    pub fn participation_ratio(&self, top: usize) -> Option<f64> {
        let rest = self.0.get(top..)?;
        let (sum, squares) = rest.iter().fold((0.0, 0.0), |(s, q), &v| (s + v, q + v * v));
        (squares > 0.0).then(|| sum * sum / squares)
    }

    /// Trace of the covariance.
    pub fn variance(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The largest eigenvalue's share of the trace.
    pub fn top_share(&self) -> Option<f64> {
        let variance = self.variance();
        self.0.first().filter(|_| variance > 0.0).map(|top| top / variance)
    }

    /// The eigenvalues, descending.
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

/// The geometry of one layer's `hook_resid_post`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerGeometry {
    /// Layer, from 0.
    pub layer: usize,
    /// Participation ratio of the mean-centred covariance.
    pub pr: Option<f64>,
    /// Without the largest eigenvalue.
    pub pr_deflated_1: Option<f64>,
    /// Without the four largest.
    pub pr_deflated_4: Option<f64>,
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelGeometry {
    /// Mean next-token cross-entropy, nats.
    pub ce_orig: f64,
    /// One entry a layer.
    pub layers: Vec<LayerGeometry>,
}

/// Measures every layer's residual stream on `tokens`, `[S, T]`, `batch` sequences at a time.
///
/// # Errors
/// If a token is not in the model's vocabulary, or an activation or loss is not finite.
pub fn model_geometry(
    model: &Decoder,
    tokens: ArrayView2<'_, u32>,
    batch: usize,
    centered: bool,
    mut progress: impl FnMut(usize),
) -> Result<ModelGeometry> {
    let config = model.config();
    let hooks: Vec<HookPoint> = (0..config.n_layers).map(HookPoint::resid_post).collect();
    let mut covariances: Vec<Covariance> = hooks.iter().map(|_| Covariance::new(config.d_model)).collect();
    let mut norms: Vec<Vec<f64>> = vec![Vec::new(); hooks.len()];
    let (mut ce, mut scored) = (0.0, 0.0);
    for start in (0..tokens.nrows()).step_by(batch.max(1)) {
        let end = (start + batch.max(1)).min(tokens.nrows());
        let part = tokens.slice(s![start..end, ..]);
        let mut captured = model.capture(part, &hooks)?;
        if let Some(last) = captured.last() {
            let logits = model.forward_from(hooks[hooks.len() - 1], last.clone())?;
            let losses = token_cross_entropy(scored_log_probs(logits), part, model.device());
            let losses = losses.into_data().try_into_vec::<f32>().expect("f32 losses");
            check_finite("the loss", &losses, 1, start, tokens.ncols() - 1)?;
            scored += losses.len() as f64;
            ce += losses.into_iter().map(f64::from).sum::<f64>();
        }
        for ((h, covariance), norms) in captured.drain(..).zip(&mut covariances).zip(&mut norms) {
            let h = if centered { center_residual(h) } else { h };
            let values = h.into_data().try_into_vec::<f32>().expect("f32 activations");
            check_finite("the activation", &values, config.d_model, start, tokens.ncols())?;
            let rows =
                ArrayView2::from_shape((values.len() / config.d_model, config.d_model), &values).expect("whole rows");
            norms.extend(values.chunks(config.d_model).map(norm));
            covariance.add(rows);
        }
        progress(end - start);
    }
    let layers = covariances.iter().zip(&norms).enumerate();
    let layers = layers
        .map(|(layer, (covariance, norms))| {
            let spectrum = covariance.spectrum()?;
            let limit = outlier_limit(norms);
            let pr = spectrum.participation_ratio(0);
            Ok(LayerGeometry {
                layer,
                pr,
                pr_deflated_1: spectrum.participation_ratio(1),
                pr_deflated_4: spectrum.participation_ratio(4),
                pr_over_d_model: pr.map(|pr| pr / config.d_model as f64),
                mean_norm: norms.iter().sum::<f64>() / norms.len().max(1) as f64,
                max_norm: norms.iter().copied().fold(0.0, f64::max),
                variance: spectrum.variance(),
                top_eigenvalue_share: spectrum.top_share(),
                outlier_frac: norms.iter().filter(|&&n| n > limit).count() as f64 / norms.len().max(1) as f64,
            })
        })
        .collect::<Result<_>>()?;
    Ok(ModelGeometry { ce_orig: ce / f64::max(scored, 1.0), layers })
}
