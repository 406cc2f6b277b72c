//! The shape of a cloud of activations: covariance spectrum and participation ratio.

use assay_models::hooks::HookPoint;
use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, decoder::center_residual};
use faer::Side;
use ndarray::{Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, Result, check_finite};
use crate::metrics::{DEFLATIONS, Directions, norm, outlier_limit};

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
        self.about(&self.offset())
    }

    /// The mean; empty if there were no rows.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let shift = self.shift.iter().flatten();
        shift.zip(&self.offset()).map(|(shift, offset)| shift + offset).collect()
    }

    /// The mean relative to the shift.
    fn offset(&self) -> Vec<f64> {
        self.sum.iter().map(|s| s / self.tokens).collect()
    }

    /// The eigenvalues of the mean-centred covariance, divided by N, and its top eigenvectors (as many as deflation takes
    /// away at most); empty if there were no rows.
    ///
    /// # Errors
    /// If the eigenvalues can't be found, as when the activations were not finite.
    pub fn eigen(&self) -> Result<(Spectrum, Directions)> {
        if self.tokens == 0.0 {
            return Ok((Spectrum(Vec::new()), Directions::default()));
        }
        let eigen = mat(&self.matrix()).self_adjoint_eigen(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
        let top = DEFLATIONS.iter().copied().max().unwrap_or_default();
        let vector = |rank: usize| eigen.U().col(rank).iter().copied().collect::<Vec<f64>>();
        let directions = (0..self.sum.len()).rev().take(top).map(vector).collect();
        Ok((Spectrum::descending(eigen.S().column_vector().iter().copied()), Directions(directions)))
    }

    /// The eigenvalues alone.
    ///
    /// # Errors
    /// As [`Self::eigen`].
    pub fn spectrum(&self) -> Result<Spectrum> {
        self.values_about(&self.offset())
    }

    /// The eigenvalues of the second moments about zero: what the spectrum is without subtracting the mean.
    ///
    /// # Errors
    /// As [`Self::eigen`].
    pub fn uncentered_spectrum(&self) -> Result<Spectrum> {
        let shift = self.shift.clone().unwrap_or_default();
        self.values_about(&shift.iter().map(|s| -s).collect::<Vec<f64>>())
    }

    fn values_about(&self, point: &[f64]) -> Result<Spectrum> {
        if self.tokens == 0.0 {
            return Ok(Spectrum(Vec::new()));
        }
        let values = mat(&self.about(point)).self_adjoint_eigenvalues(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
        Ok(Spectrum::descending(values.into_iter()))
    }

    /// Second moments divided by N about a point, which is given relative to the shift.
    fn about(&self, point: &[f64]) -> Array2<f64> {
        let offset = self.offset();
        Array2::from_shape_fn(self.moments.dim(), |(i, j)| {
            let (p, q) = (point[i], point[j]);
            self.moments[[i, j]] / self.tokens - offset[i] * q - p * offset[j] + p * q
        })
    }
}

fn mat(values: &Array2<f64>) -> faer::Mat<f64> {
    faer::Mat::from_fn(values.nrows(), values.ncols(), |i, j| values[[i, j]])
}

impl Spectrum {
    /// From eigenvalues in ascending order.
    fn descending(ascending: impl DoubleEndedIterator<Item = f64>) -> Self {
        // Second moments have no negative eigenvalues; rounding does.
        Self(ascending.rev().map(|v| if v < 0.0 { 0.0 } else { v }).collect())
    }

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
                pr_deflated_2: spectrum.participation_ratio(2),
                pr_deflated_4: spectrum.participation_ratio(4),
                pr_deflated_8: spectrum.participation_ratio(8),
                pr_uncentered: covariance.uncentered_spectrum()?.participation_ratio(0),
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
