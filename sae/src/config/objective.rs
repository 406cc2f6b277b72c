//! What training goes down the gradient of, beside the terms of the class.

use serde::{Deserialize, Serialize};

use super::classes::bad;
use super::{Loss, TrainConfig};
use crate::error::Result;

/// The part of the loss that any class can have. The class's own terms (AuxK, L0, L1, …) are added to each as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// The reconstruction loss, [`Loss`].
    #[default]
    #[serde(rename = "reconstruction")]
    Reconstruction,
    /// End to end: KL(p ‖ q), mean over tokens, in nats, where p is the model's next-token distribution and q the same with x̂ patched in
    /// place of x (Braun et al. 2024, arXiv:2405.12241, `SAE_e2e`). Every position of a context counts, and each of its tokens is patched.
    #[serde(rename = "kl")]
    Kl,
    /// The MSE, and on the last steps ½(MSE + α·KL), where α = MSE/(KL + 1e-8) of the step is a constant to the gradient (Karvonen 2025,
    /// arXiv:2503.17272; the formula is that of `train_model` in github.com/adamkarvonen/sae_kl_finetune). So the whole stays as large as
    /// the MSE alone, and the coefficients of a class keep their meaning. There a finished SAE is trained further by a new optimiser; here
    /// Adam's moments and the learning-rate schedule go on.
    #[serde(rename = "kl+mse")]
    KlMse {
        /// The share of the steps, counted from the end, on which the KL counts.
        #[serde(rename = "kl_share")]
        share: f64,
    },
}

impl Objective {
    /// [`Self::KlMse`]'s share where nothing is said.
    pub const KL_SHARE: f64 = 0.1;

    /// Whether it asks no model.
    pub fn is_reconstruction(&self) -> bool {
        *self == Self::Reconstruction
    }

    /// What it is called beside a reconstruction loss: `mse`, `fvu`, `kl`, `kl+mse`; with the share where that is another than
    /// [`Self::KL_SHARE`], `kl+mse0.25`.
    pub fn name(self, loss: Loss) -> String {
        match self {
            Self::Reconstruction => loss.to_string(),
            Self::Kl => "kl".to_owned(),
            Self::KlMse { share: Self::KL_SHARE } => "kl+mse".to_owned(),
            Self::KlMse { share } => format!("kl+mse{share}"),
        }
    }
}

impl TrainConfig {
    /// Whether a step, from 0, needs what a model says of the reconstructions ([`Divergence`](crate::Divergence)).
    pub fn asks_model(&self, step: u64) -> bool {
        self.first_asking().is_some_and(|first| step >= first)
    }

    /// The first step that does, if one does. Of [`Objective::KlMse`] the share of the steps is rounded to a whole number, at least 1.
    pub fn first_asking(&self) -> Option<u64> {
        match self.objective {
            Objective::Reconstruction => None,
            Objective::Kl => Some(0),
            Objective::KlMse { share } => {
                let asking = ((share * self.steps as f64).round() as u64).max(1);
                Some(self.steps.saturating_sub(asking))
            }
        }
    }

    /// What the objective is called: see [`Objective::name`].
    pub fn objective_name(&self) -> String {
        self.objective.name(self.loss)
    }

    /// Checks that the objective can be.
    pub(super) fn check_objective(&self) -> Result<()> {
        let Objective::KlMse { share } = self.objective else { return Ok(()) };
        if !(share > 0.0 && share <= 1.0) {
            return bad(format!(
                "kl_share is {share}; it is the share of the training tokens on which the KL counts, above 0 and at most 1"
            ));
        }
        if self.loss != Loss::Mse {
            return bad(format!(
                "objective = \"kl+mse\" uses the MSE, and loss = \"{}\" says something else; remove one of them",
                self.loss
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Recipe};

    fn config(objective: Objective) -> TrainConfig {
        TrainConfig { objective, ..TrainConfig::from_recipe(Recipe::Assay, 8, 16, Architecture::topk(2), 10, 2400) }
    }

    #[test]
    fn the_last_share_of_the_steps_asks_the_model() {
        let first = |share| config(Objective::KlMse { share }).first_asking();
        assert_eq!([first(0.1), first(0.25), first(1.0)], [Some(216), Some(180), Some(0)]);
        // Too small a share is one step.
        assert_eq!(first(1e-9), Some(239));
        let tenth = config(Objective::KlMse { share: 0.1 });
        assert_eq!([215, 216, 239].map(|step| tenth.asks_model(step)), [false, true, true]);
        assert!(config(Objective::Kl).asks_model(0) && !config(Objective::Reconstruction).asks_model(239));
    }

    #[test]
    fn it_is_written_only_where_it_is_another_than_the_reconstruction() {
        let plain = serde_json::to_string(&config(Objective::Reconstruction)).unwrap();
        assert!(!plain.contains("objective"), "{plain}");
        for objective in [Objective::Reconstruction, Objective::Kl, Objective::KlMse { share: 0.2 }] {
            let text = serde_json::to_string(&config(objective)).unwrap();
            assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config(objective), "{text}");
        }
        let names = [0.1, 0.2].map(|share| config(Objective::KlMse { share }).objective_name());
        assert_eq!(names, ["kl+mse", "kl+mse0.2"]);
        let fvu = TrainConfig { loss: Loss::Fvu, ..config(Objective::Reconstruction) };
        assert_eq!([fvu.objective_name(), config(Objective::Kl).objective_name()], ["fvu", "kl"]);
    }

    #[test]
    fn a_share_that_cannot_be_is_named() {
        for share in [0.0, -0.1, 1.5, f64::NAN] {
            let error = config(Objective::KlMse { share }).check().unwrap_err().to_string();
            assert!(error.contains("kl_share is") && error.contains("at most 1"), "{error}");
        }
        let fvu = TrainConfig { loss: Loss::Fvu, ..config(Objective::KlMse { share: 0.1 }) };
        let error = fvu.check().unwrap_err().to_string();
        assert!(error.contains("loss = \"fvu\""), "{error}");
    }
}
