//! The geometry of every layer of a model.

use std::ops::ControlFlow;

use assay_models::hooks::HookPoint;
use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, decoder::center_residual};
use ndarray::{ArrayView2, s};

use super::{Covariance, LayerGeometry, ModelGeometry};
use crate::error::{Result, advance, check_finite};
use crate::metrics::{norm, outlier_limit};

/// Measures every layer's residual stream on `tokens`, `[S, T]`, `batch` sequences at a time.
///
/// # Errors
/// If a token is not in the model's vocabulary, an activation or loss is not finite, or `progress` breaks off.
pub fn model_geometry(
    model: &Decoder,
    tokens: ArrayView2<'_, u32>,
    batch: usize,
    centered: bool,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
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
        advance(&mut progress, end - start)?;
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
