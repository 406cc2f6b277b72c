//! The coefficient of a sparsity penalty, and the L0 to which it may be steered.

use super::classes::{bad, not_negative};
use crate::error::Result;

/// The coefficient of a class's sparsity penalty, as it is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Coefficient {
    /// The setting's key.
    pub key: &'static str,
    /// Its value, from which steering starts.
    pub start: f64,
    /// Steps over which it rises linearly from 0.
    pub warmup_steps: u64,
    /// Active latents per token to which it is steered, if it is.
    pub target_l0: Option<f64>,
    /// How much of ln L0 that is missed goes into its logarithm: more where L0 follows it later.
    pub gain: f64,
}

impl Coefficient {
    /// Where steering starts if nothing is said: low, since latents that a coefficient has silenced seldom come back.
    pub const START: f64 = 0.001;

    /// The share of the coefficient that is in force at step `step`, from 0.
    pub fn warmed_up(&self, step: u64) -> f64 {
        if step < self.warmup_steps { step as f64 / self.warmup_steps as f64 } else { 1.0 }
    }

    pub(super) fn check(&self, d_sae: usize) -> Result<()> {
        let Self { key, start, .. } = *self;
        not_negative(key, start)?;
        let Some(target_l0) = self.target_l0 else { return Ok(()) };
        check_target(target_l0, d_sae)?;
        if start > 0.0 {
            Ok(())
        } else {
            bad(format!(
                "{key} is 0, from which no factor leads to target_l0 = {target_l0}; leave {key} out, or give a positive one"
            ))
        }
    }
}

pub(super) fn check_target(target_l0: f64, d_sae: usize) -> Result<()> {
    if target_l0 > 0.0 && target_l0 <= d_sae as f64 {
        Ok(())
    } else {
        bad(format!("target_l0 is {target_l0}; it must be above 0 and at most d_sae = {d_sae}"))
    }
}
