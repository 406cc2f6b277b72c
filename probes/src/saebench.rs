//! What SAEBench's core evaluation (Karvonen et al. 2025, arXiv:2503.09532) reports beside our metrics. Sums over tokens, divided
//! last, as in [`metrics`](crate::metrics); all tokens count.

use std::ops::AddAssign;

use crate::metrics::{Sums, r2, ratio};

/// Sums over all tokens of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CoreSums {
    /// Tokens.
    pub tokens: f64,
    /// ‖a‖.
    pub norm: f64,
    /// ‖â‖.
    pub recon_norm: f64,
    /// Tokens with a ≠ ā but for rounding, ā the mean over the evaluation set.
    pub varying: f64,
    /// 1 − ‖δ‖²/‖a − ā‖² of those.
    pub explained: f64,
    /// Σ|z| over latents.
    pub l1: f64,
    /// Scored positions where zero ablation's divergence was measured.
    pub ablated: f64,
    /// KL(p_orig ‖ p_zero) there.
    pub kl_zero: f64,
}

impl CoreSums {
    /// What one token adds: of its sums, centred on the mean over all tokens, of Σ|z|, and of zero ablation's divergence where that
    /// is known.
    pub fn of_token(sums: &Sums, l1: f64, kl_zero: Option<f64>) -> Self {
        let explained = r2(sums);
        Self {
            tokens: 1.0,
            norm: sums.norm_sq.sqrt(),
            recon_norm: sums.recon_norm_sq.sqrt(),
            varying: f64::from(explained.is_some()),
            explained: explained.unwrap_or(0.0),
            l1,
            ablated: f64::from(kl_zero.is_some()),
            kl_zero: kl_zero.unwrap_or(0.0),
        }
    }

    /// Mean ‖a‖ (`l2_norm_in`).
    pub fn l2_norm_in(&self) -> Option<f64> {
        ratio(self.norm, self.tokens)
    }

    /// Mean ‖â‖ (`l2_norm_out`).
    pub fn l2_norm_out(&self) -> Option<f64> {
        ratio(self.recon_norm, self.tokens)
    }

    /// Mean over tokens of 1 − ‖δ‖²/‖a − ā‖² (`explained_variance_legacy`; SAELens before 5.8). Tokens near the mean, whose
    /// quotient is large, can make it far lower than R². SAEBench takes ā over a batch; here it is the evaluation set's.
    pub fn explained_variance_legacy(&self) -> Option<f64> {
        ratio(self.explained, self.varying)
    }

    /// Mean Σ|z| over latents (`l1`), in the SAE's own units.
    pub fn l1(&self) -> Option<f64> {
        ratio(self.l1, self.tokens)
    }

    /// Mean KL(p_orig ‖ p_zero) over scored positions, nats (`kl_div_with_ablation`).
    pub fn kl_zero(&self) -> Option<f64> {
        ratio(self.kl_zero, self.ablated)
    }

    /// (kl_zero − kl)/kl_zero (`kl_div_score`), `kl` being the metric of that name.
    pub fn kl_score(&self, kl: Option<f64>) -> Option<f64> {
        let (zero, kl) = (self.kl_zero()?, kl?);
        ratio(zero - kl, zero)
    }
}

impl AddAssign<&Self> for CoreSums {
    fn add_assign(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.norm += other.norm;
        self.recon_norm += other.recon_norm;
        self.varying += other.varying;
        self.explained += other.explained;
        self.l1 += other.l1;
        self.ablated += other.ablated;
        self.kl_zero += other.kl_zero;
    }
}
