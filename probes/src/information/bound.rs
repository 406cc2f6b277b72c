//! Bounds: what a critic is trained for, and the mutual information read off its scores.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Tensor, TensorData};
use ndarray::ArrayView2;
use serde::Serialize;

/// A variational bound on mutual information.
///
/// S is the matrix of scores of B pairs, S_ij = f(x_i, y_j): its diagonal samples p(x, y), the rest p(x)p(y).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Trained for and estimated by `mean_i (S_ii − log (1/B) Σ_j e^{S_ij})`, a lower bound that can't exceed log B (van den Oord
    /// et al. 2018, arXiv:1807.03748; Poole et al. 2019, arXiv:1905.06922, eq. 10).
    InfoNce,
    /// Trained for the Jensen–Shannon objective `mean_i −softplus(−S_ii) + mean_{i≠j} −softplus(S_ij)`, at whose maximum f is
    /// log p(x, y)/p(x)p(y), the f-divergence bound of Nguyen, Wainwright and Jordan (2010, arXiv:0809.0853) in the form of Nowozin
    /// et al. (2016, arXiv:1606.00709). Estimated by `mean_i S_ii − log mean_{i≠j} clip(e^{S_ij}, e^{−τ}, e^τ)` (SMILE, Song and
    /// Ermon 2020, arXiv:1910.06222, eq. 13). Not capped at log B. Clipping bounds the variance and leaves out what the
    /// product of marginals holds beyond e^τ, so it errs upward: not a strict lower bound.
    Smile {
        /// τ in nats.
        clip: f64,
    },
}

impl Bound {
    /// SMILE with τ = 5.
    pub const SMILE: Self = Self::Smile { clip: 5.0 };

    /// The largest value that an estimate over batches of `batch` pairs can take, if there is one, in nats.
    pub fn cap(self, batch: usize) -> Option<f64> {
        match self {
            Self::InfoNce => Some((batch as f64).ln()),
            Self::Smile { .. } => None,
        }
    }

    /// The estimate of one batch in nats, from its scores `[B, B]`.
    pub fn estimate(self, scores: ArrayView2<'_, f32>) -> f64 {
        let batch = scores.nrows() as f64;
        let joint = scores.diag().iter().map(|&s| f64::from(s)).sum::<f64>() / batch;
        match self {
            Self::InfoNce => {
                let log_sums: f64 = scores.rows().into_iter().map(|row| log_sum_exp(row.iter().copied())).sum();
                joint - log_sums / batch + batch.ln()
            }
            Self::Smile { clip } => {
                let clip = clip as f32;
                let apart = scores.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, &s)| s.clamp(-clip, clip));
                joint - (log_sum_exp(apart) - (batch * (batch - 1.0)).ln())
            }
        }
    }
}

/// log Σ e^v, in f64. NaN if any value is.
fn log_sum_exp(values: impl Iterator<Item = f32> + Clone) -> f64 {
    let top = f64::from(values.clone().fold(f32::NEG_INFINITY, f32::max));
    top + values.map(|v| (f64::from(v) - top).exp()).sum::<f64>().ln()
}

/// What a critic is trained for, as a differentiable function of the scores of a batch.
pub(super) struct Objective {
    bound: Bound,
    /// Of each pair in the mean that it belongs to.
    weight: Tensor<2>,
    /// 1 on the diagonal, −1 elsewhere.
    sign: Tensor<2>,
}

impl Objective {
    /// For batches of `batch` pairs.
    pub(super) fn new(bound: Bound, batch: usize, device: &Device) -> Self {
        let square = |diagonal: f64, rest: f64| -> Tensor<2> {
            let value = |at: usize| if at.is_multiple_of(batch + 1) { diagonal as f32 } else { rest as f32 };
            Tensor::from_data(TensorData::new((0..batch * batch).map(value).collect(), [batch, batch]), device)
        };
        let pairs = batch as f64;
        let rest = match bound {
            Bound::InfoNce => 0.0,
            Bound::Smile { .. } => 1.0 / (pairs * (pairs - 1.0)),
        };
        Self { bound, weight: square(1.0 / pairs, rest), sign: square(1.0, -1.0) }
    }

    /// The objective, to be maximised, up to a constant.
    pub(super) fn of(&self, scores: Tensor<2>) -> Tensor<1> {
        let terms = match self.bound {
            Bound::InfoNce => log_softmax(scores, 1),
            // −softplus(−s) = log σ(s).
            Bound::Smile { .. } => log_sigmoid(scores * self.sign.clone()),
        };
        (terms * self.weight.clone()).sum()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    const SCORES: [[f32; 3]; 3] = [[2.0, -1.0, 0.5], [0.25, 1.0, -7.0], [6.0, 0.0, 3.0]];

    /// Values worked out from the formulas, term by term.
    #[test]
    fn estimates_follow_their_formulas() {
        let scores = array![[2.0_f32, -1.0, 0.5], [0.25, 1.0, -7.0], [6.0, 0.0, 3.0]];
        let joint = (2.0 + 1.0 + 3.0) / 3.0;
        let row = |row: [f32; 3]| (row.iter().map(|&s| f64::from(s).exp()).sum::<f64>() / 3.0).ln();
        let info_nce = joint - SCORES.map(row).iter().sum::<f64>() / 3.0;
        assert!((Bound::InfoNce.estimate(scores.view()) - info_nce).abs() < 1e-12);
        let apart: f64 = [-1.0, 0.5, 0.25, -5.0, 5.0, 0.0].map(f64::exp).iter().sum::<f64>() / 6.0;
        assert!((Bound::SMILE.estimate(scores.view()) - (joint - apart.ln())).abs() < 1e-12);
    }

    #[test]
    fn a_perfect_critic_reaches_the_cap() {
        let sharp = ndarray::Array2::from_shape_fn((8, 8), |(i, j)| if i == j { 100.0 } else { 0.0 });
        let cap = Bound::InfoNce.cap(8).unwrap();
        assert!((Bound::InfoNce.estimate(sharp.view()) - cap).abs() < 1e-9);
        assert_eq!(Bound::SMILE.cap(8), None);
    }

    #[test]
    fn objectives_follow_their_formulas() {
        let device = Device::flex();
        let scores: Tensor<2> = Tensor::from_data(SCORES, &device);
        let of = |bound| Objective::new(bound, 3, &device).of(scores.clone()).into_scalar::<f32>();
        let scores = array![[2.0_f32, -1.0, 0.5], [0.25, 1.0, -7.0], [6.0, 0.0, 3.0]];
        let info_nce = Bound::InfoNce.estimate(scores.view()) - 3.0_f64.ln();
        assert!((f64::from(of(Bound::InfoNce)) - info_nce).abs() < 1e-5);
        let softplus = |s: f64| s.exp().ln_1p();
        let joint = [2.0, 1.0, 3.0].map(|s| softplus(-s)).iter().sum::<f64>() / 3.0;
        let apart = [-1.0, 0.5, 0.25, -7.0, 6.0, 0.0].map(softplus).iter().sum::<f64>() / 6.0;
        assert!((f64::from(of(Bound::SMILE)) + joint + apart).abs() < 1e-5);
    }
}
