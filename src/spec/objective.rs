//! `objective` and `kl_share`, of `[train]` and of each of `[[coders]]`: what SAEs are trained for.

use anyhow::{Result, bail, ensure};
use assay_probes::metrics::Subset;
use assay_sae::{Loss, Objective};
use serde::{Deserialize, Serialize};

use super::{Coder, TrainSpec};

/// What an SAE is trained for, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectiveName {
    /// The squared error ([`Loss::Mse`]).
    #[serde(rename = "mse")]
    Mse,
    /// The same over the variance ([`Loss::Fvu`]).
    #[serde(rename = "fvu")]
    Fvu,
    /// What the model says with the reconstructions in it ([`Objective::Kl`]).
    #[serde(rename = "kl")]
    Kl,
    /// The squared error, at last together with that ([`Objective::KlMse`]).
    #[serde(rename = "kl+mse")]
    KlMse,
}

impl ObjectiveName {
    fn text(self) -> &'static str {
        match self {
            Self::Mse => "mse",
            Self::Fvu => "fvu",
            Self::Kl => "kl",
            Self::KlMse => "kl+mse",
        }
    }
}

/// What is said in one place of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveKeys {
    /// What SAEs are trained for: `mse` or `fvu`, the reconstruction alone; `kl`, end to end; `kl+mse`, the reconstruction, and on the last
    /// `kl_share` of the tokens both [default: the reconstruction loss that `loss` or the recipe says].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveName>,
    /// The share of the training tokens, the last of them, on which the KL counts in `kl+mse` [default: 0.1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_share: Option<f64>,
}

/// What SAEs are trained for with the tokens that count in it, where those are not all: `mse`, `mse no_outlier`.
pub fn objective_on(objective: &str, tokens: Subset) -> String {
    match tokens {
        Subset::All => objective.to_owned(),
        some => format!("{objective} {}", some.name()),
    }
}

impl TrainSpec {
    /// What a coder is trained for, and the reconstruction loss if that says it.
    ///
    /// # Errors
    /// If it and `[train]` say what can't be.
    pub fn objective_of(&self, coder: &Coder) -> Result<(Objective, Option<Loss>)> {
        let general = ObjectiveKeys { objective: self.objective, kl_share: self.kl_share };
        coder.objective.resolved(general, self.loss)
    }
}

impl ObjectiveKeys {
    /// What it comes to where `general` is said of all and `loss`, if anything, is the reconstruction loss: the objective, and the loss
    /// that it names itself.
    ///
    /// # Errors
    /// If the keys contradict each other, or `kl_share` has nothing to be the share of.
    pub fn resolved(self, general: Self, loss: Option<Loss>) -> Result<(Objective, Option<Loss>)> {
        let name = self.objective.or(general.objective);
        if let (Some(share), false) = (self.kl_share, name == Some(ObjectiveName::KlMse)) {
            let name = name.map_or("that of the reconstruction", ObjectiveName::text);
            bail!(
                "kl_share = {share} belongs to objective = \"kl+mse\", and the objective is {name}; remove it, or set the objective"
            );
        }
        let agrees = |own: Loss| {
            ensure!(
                loss.is_none_or(|loss| loss == own),
                "objective = \"{own}\" and loss = \"{}\" contradict each other; remove one of them",
                loss.unwrap_or(own)
            );
            Ok((Objective::Reconstruction, Some(own)))
        };
        match name {
            None => Ok((Objective::Reconstruction, None)),
            Some(ObjectiveName::Mse) => agrees(Loss::Mse),
            Some(ObjectiveName::Fvu) => agrees(Loss::Fvu),
            Some(ObjectiveName::Kl) => Ok((Objective::Kl, None)),
            Some(ObjectiveName::KlMse) => {
                let share = self.kl_share.or(general.kl_share).unwrap_or(Objective::KL_SHARE);
                Ok((Objective::KlMse { share }, None))
            }
        }
    }
}
