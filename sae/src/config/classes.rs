//! The settings of each class of SAE: those that it has, and no others.

use serde::{Deserialize, Serialize};

use super::coefficient::{Coefficient, check_target};
use crate::error::{Result, SaeError};

/// The k largest pre-activations of a token (Gao et al. 2024, arXiv:2406.04093).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// Latents chosen per token.
    pub k: usize,
}

/// The largest pre-activation of each of k groups of d_sae/k neighbours, as sparsify's `groupmax`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupMax {
    /// Groups, and so latents chosen per token.
    pub k: usize,
}

/// The k largest pre-activations of a token for every k of a grid at once: one SAE whose loss is the mean of the reconstruction losses at
/// each k (HierarchicalTopK; Balagansky et al. 2025, arXiv:2505.24473). The paper's own grid is every k up to the largest; the memory of a
/// step, and what it decodes, is in proportion to the number of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hierarchical {
    /// The k of the grid at which it is used; no part of the training.
    pub k: usize,
    /// The grid, ascending.
    pub ks: Vec<usize>,
}

/// The ⌊k·batch⌋ largest pre-activations of a batch, so that tokens share what is chosen (Bussmann et al. 2024, arXiv:2412.06410). For
/// inference it is a JumpReLU with one threshold for all latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchTopK {
    /// Latents chosen per token, mean over the batch.
    pub k: f64,
    /// Share of a step in the running mean of the least value chosen, which becomes the threshold.
    #[serde(default = "threshold_lr")]
    pub threshold_lr: f64,
}

/// A [`BatchTopK`] whose first latents also reconstruct on their own, at each of several widths (Bussmann et al. 2025, arXiv:2503.17547).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matryoshka {
    /// As of [`BatchTopK`].
    pub k: f64,
    /// As of [`BatchTopK`].
    #[serde(default = "threshold_lr")]
    pub threshold_lr: f64,
    /// Latents of each nested SAE; they ascend, and the last is d_sae.
    pub widths: Vec<usize>,
    /// Whether the dead latents that a width adds reconstruct the error of that width, instead of the whole SAE's.
    #[serde(default)]
    pub aux_by_level: bool,
}

/// `pre·[pre > θ]` with a threshold θ for each latent that is trained by a straight-through estimator (Rajamanoharan et al. 2024,
/// arXiv:2407.14435).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "JumpReluKeys", into = "JumpReluKeys")]
pub struct JumpRelu {
    /// Coefficient of the sparsity loss; where a target is steered to, the one to start from.
    pub l0_coefficient: f64,
    /// Active latents per token to which that coefficient is steered, of [`Sparsity::Step`] and [`Sparsity::Tanh`].
    pub target_l0: Option<f64>,
    /// Steps over which that coefficient rises linearly from 0.
    pub l0_warmup_steps: u64,
    /// What the sparsity loss is of.
    pub sparsity: Sparsity,
    /// Width of the rectangle by which the estimator smears a threshold.
    pub bandwidth: f64,
    /// At which the thresholds start.
    pub init_threshold: f64,
    /// Whether the estimator's gradient goes to the pre-activations too, and so to the encoder.
    pub ste_to_input: bool,
    /// Coefficient of the loss that lifts the pre-activations of dead latents to their thresholds; 0 turns it off.
    pub pre_act_coefficient: f64,
}

/// The sparsity loss of a [`JumpRelu`], a mean over tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sparsity {
    /// The token's L0 (Rajamanoharan et al. 2024, arXiv:2407.14435).
    Step,
    /// Σ tanh(scale·z·‖W_dec‖) (Anthropic, January 2025 update).
    Tanh {
        /// Factor in the tanh.
        scale: f64,
    },
    /// 2/target·(L0 − target)², as of Gemma Scope 2.
    Quadratic {
        /// Active latents per token that are asked for.
        target_l0: f64,
    },
}

/// `[π > 0]·ReLU(exp(r_mag)·x·W_enc + b_mag)` with the gate π = x·W_enc + b_gate, which reconstructs on its own as well and has an L1
/// penalty (Rajamanoharan et al. 2024, arXiv:2404.16014).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gated {
    /// Coefficient of Σ ReLU(π)·‖W_dec‖, mean over tokens; where a target is steered to, the one to start from.
    pub l1_coefficient: f64,
    /// Active latents per token to which that coefficient is steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_l0: Option<f64>,
    /// Steps over which that coefficient rises linearly from 0.
    #[serde(default)]
    pub l1_warmup_steps: u64,
}

/// `ReLU(pre)` with a penalty on the norm of the activations (Bricken et al. 2023; scaled by ‖W_dec‖ as in Anthropic's April 2024 update).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    /// Coefficient of ‖z·‖W_dec‖‖_p, mean over tokens; where a target is steered to, the one to start from.
    pub l1_coefficient: f64,
    /// Active latents per token to which that coefficient is steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_l0: Option<f64>,
    /// Steps over which that coefficient rises linearly from 0.
    #[serde(default)]
    pub l1_warmup_steps: u64,
    /// The p of that norm.
    #[serde(default = "one")]
    pub lp_norm: f64,
}

fn threshold_lr() -> f64 {
    0.01
}

fn one() -> f64 {
    1.0
}

/// A [`JumpRelu`] as it is written: one key beside another.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JumpReluKeys {
    l0_coefficient: f64,
    #[serde(default)]
    l0_warmup_steps: u64,
    #[serde(default)]
    sparsity: SparsityName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tanh_scale: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_l0: Option<f64>,
    #[serde(default = "bandwidth")]
    bandwidth: f64,
    #[serde(default = "init_threshold")]
    init_threshold: f64,
    #[serde(default)]
    ste_to_input: bool,
    #[serde(default)]
    pre_act_coefficient: f64,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SparsityName {
    #[default]
    Step,
    Tanh,
    Quadratic,
}

fn bandwidth() -> f64 {
    0.05
}

fn init_threshold() -> f64 {
    0.01
}

impl TryFrom<JumpReluKeys> for JumpRelu {
    type Error = String;

    fn try_from(keys: JumpReluKeys) -> std::result::Result<Self, String> {
        let (sparsity, target_l0) = match (keys.sparsity, keys.tanh_scale, keys.target_l0) {
            (SparsityName::Step, None, target) => (Sparsity::Step, target),
            (SparsityName::Tanh, scale, target) => (Sparsity::Tanh { scale: scale.unwrap_or(4.0) }, target),
            (SparsityName::Quadratic, None, Some(target_l0)) => (Sparsity::Quadratic { target_l0 }, None),
            (SparsityName::Quadratic, None, None) => {
                return Err(
                    "sparsity = \"quadratic\" needs `target_l0`, the active latents per token to aim at".to_owned()
                );
            }
            (_, Some(_), _) => return Err("`tanh_scale` belongs to sparsity = \"tanh\"; remove it".to_owned()),
        };
        Ok(Self {
            l0_coefficient: keys.l0_coefficient,
            target_l0,
            l0_warmup_steps: keys.l0_warmup_steps,
            sparsity,
            bandwidth: keys.bandwidth,
            init_threshold: keys.init_threshold,
            ste_to_input: keys.ste_to_input,
            pre_act_coefficient: keys.pre_act_coefficient,
        })
    }
}

impl From<JumpRelu> for JumpReluKeys {
    fn from(settings: JumpRelu) -> Self {
        let (sparsity, tanh_scale, target_l0) = match settings.sparsity {
            Sparsity::Step => (SparsityName::Step, None, settings.target_l0),
            Sparsity::Tanh { scale } => (SparsityName::Tanh, Some(scale), settings.target_l0),
            Sparsity::Quadratic { target_l0 } => (SparsityName::Quadratic, None, Some(target_l0)),
        };
        Self {
            l0_coefficient: settings.l0_coefficient,
            l0_warmup_steps: settings.l0_warmup_steps,
            sparsity,
            tanh_scale,
            target_l0,
            bandwidth: settings.bandwidth,
            init_threshold: settings.init_threshold,
            ste_to_input: settings.ste_to_input,
            pre_act_coefficient: settings.pre_act_coefficient,
        }
    }
}

pub(super) fn bad<T>(why: String) -> Result<T> {
    Err(SaeError::Setting(why))
}

pub(super) fn positive(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { bad(format!("{name} is {value}; it must be positive")) }
}

pub(super) fn not_negative(name: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() { Ok(()) } else { bad(format!("{name} is {value}; it must be 0 or positive")) }
}

fn check_k(k: f64, d_sae: usize) -> Result<()> {
    if k > 0.0 && k <= d_sae as f64 {
        Ok(())
    } else {
        bad(format!("k is {k}; it must lie between 1 and d_sae = {d_sae}"))
    }
}

fn check_threshold_lr(rate: f64) -> Result<()> {
    if rate > 0.0 && rate <= 1.0 {
        Ok(())
    } else {
        bad(format!("threshold_lr is {rate}; it is the share of a step in a running mean, above 0 and at most 1"))
    }
}

impl TopK {
    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        check_k(self.k as f64, d_sae)
    }
}

impl GroupMax {
    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        check_k(self.k as f64, d_sae)?;
        if d_sae.is_multiple_of(self.k) {
            Ok(())
        } else {
            bad(format!("groupmax: k = {} must divide d_sae = {d_sae} into groups of one size", self.k))
        }
    }
}

impl Hierarchical {
    /// The largest k of the grid.
    pub(crate) fn largest(&self) -> usize {
        self.ks.iter().copied().max().unwrap_or(self.k)
    }

    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        let Self { k, ks } = self;
        if ks.first().is_none_or(|&first| first == 0) || !ks.is_sorted_by(|a, b| a < b) {
            return bad(format!("hierarchical: ks = {ks:?}; give ascending numbers of latents, from 1"));
        }
        if !ks.contains(k) {
            return bad(format!("hierarchical: k = {k} is none of ks = {ks:?}, for which it is trained; add it there"));
        }
        check_k(self.largest() as f64, d_sae)
    }
}

impl BatchTopK {
    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        check_k(self.k, d_sae)?;
        check_threshold_lr(self.threshold_lr)
    }
}

impl Matryoshka {
    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        check_k(self.k, d_sae)?;
        check_threshold_lr(self.threshold_lr)?;
        let Self { widths, .. } = self;
        if widths.first().is_none_or(|&first| first == 0) || !widths.is_sorted_by(|a, b| a < b) {
            return bad(format!("matryoshka: widths = {widths:?}; give ascending numbers of latents, from 1"));
        }
        if widths.last() != Some(&d_sae) {
            return bad(format!(
                "matryoshka: widths = {widths:?} must end at d_sae = {d_sae}; add it, or change d_sae"
            ));
        }
        Ok(())
    }
}

impl JumpRelu {
    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        self.coefficient().check(d_sae)?;
        positive("bandwidth", self.bandwidth)?;
        not_negative("init_threshold", self.init_threshold)?;
        not_negative("pre_act_coefficient", self.pre_act_coefficient)?;
        match self.sparsity {
            Sparsity::Step => Ok(()),
            Sparsity::Tanh { scale } => positive("tanh_scale", scale),
            Sparsity::Quadratic { target_l0 } => check_target(target_l0, d_sae),
        }
    }

    pub(super) fn coefficient(&self) -> Coefficient {
        let Self { l0_coefficient: start, l0_warmup_steps: warmup_steps, target_l0, .. } = *self;
        Coefficient { key: "l0_coefficient", start, warmup_steps, target_l0, gain: 2.0 }
    }
}

impl Gated {
    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        self.coefficient().check(d_sae)
    }

    pub(super) fn coefficient(&self) -> Coefficient {
        let Self { l1_coefficient: start, l1_warmup_steps: warmup_steps, target_l0 } = *self;
        // With twice as much, the L0 of a standard SAE was seen to swing about its target.
        Coefficient { key: "l1_coefficient", start, warmup_steps, target_l0, gain: 1.0 }
    }
}

impl Standard {
    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        self.coefficient().check(d_sae)?;
        positive("lp_norm", self.lp_norm)
    }

    pub(super) fn coefficient(&self) -> Coefficient {
        let Self { l1_coefficient: start, l1_warmup_steps: warmup_steps, target_l0, .. } = *self;
        // With twice as much, the L0 of a standard SAE was seen to swing about its target.
        Coefficient { key: "l1_coefficient", start, warmup_steps, target_l0, gain: 1.0 }
    }
}
