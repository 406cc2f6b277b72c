//! The principal components of a model's logits, without ever holding the logits.

use assay_models::{Decoder, HookPoint, Site};
use faer::{Mat, Side};
use ndarray::{Array2, ArrayView2, s};

use crate::error::{ProbeError, Result, check_finite};
use crate::geometry::Covariance;
use crate::readback::host;

/// Which activations to pair with which components of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairsConfig {
    /// Sequences of one forward pass.
    pub batch: usize,
    /// Principal components to keep, at most; there are no more than the model has dimensions.
    pub components: usize,
    /// Subtract from the logits of each position their mean over the vocabulary, which softmax does not see but which may hold
    /// much of their variance.
    pub center_logits: bool,
    /// First position of each sequence to take: 1 leaves out the first token, whose activation is often an outlier.
    pub first_position: usize,
}

impl Default for PairsConfig {
    fn default() -> Self {
        Self { batch: 8, components: 16, center_logits: true, first_position: 0 }
    }
}

/// Activations, and what the logits at the same positions are along their principal components.
#[derive(Clone, Debug)]
pub struct LogitPairs {
    /// Activations at each site, `[pairs, width of the site]`, sequence after sequence.
    pub activations: Vec<Array2<f32>>,
    /// Scores of the logits on their first principal components, `[pairs, components]`, the largest first. A component's sign is
    /// arbitrary, but always the same.
    pub scores: Array2<f32>,
    /// Variance of the logits along each of those components (divided by N), descending.
    pub variances: Vec<f64>,
    /// Share of the logits' variance in them; `None` if the logits do not vary.
    pub variance_share: Option<f64>,
}

/// Runs the model over `tokens`, `[S, T]`, and pairs activations with logits at the positions whose next token lies in the
/// sequence. `progress` is told of every batch of sequences.
///
/// Logits are W_Uᵀu, with u the final LayerNorm's output. With G = W_U·W_Uᵀ = L·Lᵀ, inner products of logits are those of
/// Lᵀu, so the principal components of both have the same scores and variances: all that is taken apart is of d_model
/// dimensions. Moments and eigenvectors are in f64. The components are those of all pairs, held out or not: they are
/// chosen without a look at the activations at the sites.
///
/// Everything is kept in host memory: 4 bytes × pairs × d_model for each site, and once more for u.
///
/// # Errors
/// If the model does not have a site, a token is not in its vocabulary, the sequences have no position to score, or an activation
/// is not finite.
pub fn logit_pairs(
    model: &Decoder,
    sites: &[Site],
    tokens: ArrayView2<'_, u32>,
    config: &PairsConfig,
    mut progress: impl FnMut(usize),
) -> Result<LogitPairs> {
    let (sequences, context) = tokens.dim();
    let positions = config.first_position..context.saturating_sub(1);
    if sequences == 0 || positions.is_empty() {
        return Err(ProbeError::TooFewPairs { pairs: 0, needed: 2 });
    }
    let mut wanted = sites.to_vec();
    wanted.push(HookPoint::resid_post(model.config().n_layers() - 1).into());
    let pairs = sequences * positions.len();
    // One buffer per site, and one for u.
    let widths: Vec<usize> = wanted.iter().map(|site| site.hook.width(model.config())).collect();
    let mut buffers: Vec<Vec<f32>> = widths.iter().map(|width| Vec::with_capacity(pairs * width)).collect();
    for start in (0..sequences).step_by(config.batch.max(1)) {
        let end = (start + config.batch.max(1)).min(sequences);
        let mut captured = model.capture(tokens.slice(s![start..end, ..]), &wanted)?;
        let u = captured.pop().map(|last| ("the final LayerNorm's output", model.final_norm_output(last)));
        let captured = captured.into_iter().map(|h| ("the activation", h));
        for (((what, h), buffer), &width) in captured.chain(u).zip(&mut buffers).zip(&widths) {
            let values = host(h);
            check_finite(what, &values, width, start, context)?;
            for sequence in values.chunks(context * width) {
                buffer.extend_from_slice(&sequence[positions.start * width..positions.end * width]);
            }
        }
        progress(end - start);
    }
    let rows =
        |(values, &width): (Vec<f32>, &usize)| Array2::from_shape_vec((pairs, width), values).expect("whole rows");
    let mut activations: Vec<Array2<f32>> = buffers.into_iter().zip(&widths).map(rows).collect();
    let u = activations.pop().expect("the last is u");
    let gram = model.unembed_gram(config.center_logits);
    let (scores, variances, variance_share) = components(u.view(), gram.view(), config.components)?;
    Ok(LogitPairs { activations, scores, variances, variance_share })
}

/// Rows of which moments and scores are taken at once, in f64.
const ROWS: usize = 4096;

/// Scores, variances and share of variance of the first `r` principal components of Lᵀu, `u` of shape `[pairs, d]` and
/// L·Lᵀ = `gram`.
fn components(
    u: ArrayView2<'_, f32>,
    gram: ArrayView2<'_, f64>,
    r: usize,
) -> Result<(Array2<f32>, Vec<f64>, Option<f64>)> {
    let d = u.ncols();
    let r = r.min(d);
    let mut moments = Covariance::new(d);
    u.axis_chunks_iter(ndarray::Axis(0), ROWS).for_each(|rows| moments.add(rows));
    let (mean, covariance) = (moments.mean(), moments.matrix());

    let gram = Mat::from_fn(d, d, |i, j| gram[[i, j]]);
    let gram = gram.self_adjoint_eigen(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
    // An eigendecomposition, since a Cholesky decomposition needs more than semidefiniteness: L = Q·√Λ.
    let (q, lambda) = (gram.U(), gram.S());
    let root = Mat::from_fn(d, d, |i, j| q[(i, j)] * lambda[j].max(0.0).sqrt());
    let inner = root.transpose() * (Mat::from_fn(d, d, |i, j| covariance[[i, j]]) * &root);
    // Symmetric but for rounding; only the lower half is read.
    let eigen = inner.self_adjoint_eigen(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
    let (vectors, values) = (eigen.U(), eigen.S());
    let total: f64 = (0..d).map(|i| values[i].max(0.0)).sum();
    // Ascending.
    let variances: Vec<f64> = (0..r).map(|k| values[d - 1 - k].max(0.0)).collect();
    let top = Mat::from_fn(d, r, |i, k| {
        let vector = vectors.col(d - 1 - k);
        let largest = vector.iter().fold(0.0_f64, |a, &b| if b.abs() > a.abs() { b } else { a });
        vector[i] * if largest < 0.0 { -1.0 } else { 1.0 }
    });
    let projection = &root * top;
    let projection = Array2::from_shape_fn((d, r), |(i, k)| projection[(i, k)]);
    let mean = ndarray::Array1::from(mean);
    let mut scores = Array2::zeros((u.nrows(), r));
    for (rows, mut out) in
        u.axis_chunks_iter(ndarray::Axis(0), ROWS).zip(scores.axis_chunks_iter_mut(ndarray::Axis(0), ROWS))
    {
        out.assign(&(rows.mapv(f64::from) - &mean).dot(&projection).mapv(|v| v as f32));
    }
    let share = (total > 0.0).then(|| variances.iter().sum::<f64>() / total);
    Ok((scores, variances, share))
}
