//! The settings of a training run, and the two recipes that fill them.

mod architecture;
mod classes;
mod coefficient;
mod objective;

use serde::{Deserialize, Serialize};

use self::classes::{bad, not_negative, positive};
use crate::error::Result;
use crate::kernels::Precision;

pub use self::architecture::{Architecture, Knob};
pub use self::classes::{BatchTopK, Gated, GroupMax, Hierarchical, JumpRelu, Matryoshka, Sparsity, Standard, TopK};
pub use self::objective::Objective;

/// A named set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// Unit-norm decoder rows, b_dec from the data, AuxK 1/32, learning rate by dictionary size with
    /// warm-up and decay: what sparsify and dictionary_learning converged on (Gao et al. 2024, arXiv:2406.04093).
    #[default]
    Assay,
    /// What SAELens 6 does when nothing is said: for comparison with numbers made with it.
    Saelens,
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Assay => "assay",
            Self::Saelens => "saelens",
        })
    }
}

/// The reconstruction loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Σ over d_model of the squared error, mean over tokens.
    Mse,
    /// The same divided by the batch's variance about its mean (fraction of variance unexplained).
    Fvu,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mse => "mse",
            Self::Fvu => "fvu",
        })
    }
}

/// What holds the decoder's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecoderNorm {
    /// Norm 1 after every step; the gradient's part along the row is dropped first.
    Unit,
    /// Nothing; pre-activations may be rescaled by the norm instead.
    Free,
}

/// How b_dec starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecoderBias {
    /// At zero.
    Zero,
    /// At the mean of the first activations.
    Mean,
}

/// What is done to activations before the SAE sees them; undone in the saved weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputScaling {
    /// Nothing.
    None,
    /// One factor that brings the mean norm of the first activations to √d_model.
    ExpectedNorm,
}

/// What is reconstructed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The activation that is read.
    #[default]
    Autoencoder,
    /// Another one, of the same width: of an MLP that is read at its input, its output (Dunefsky et al. 2024, arXiv:2406.11944).
    Transcoder,
    /// The same, with a linear map from the input beside the latents (Paulo et al. 2025, arXiv:2501.18823).
    SkipTranscoder,
}

impl Task {
    /// Whether it goes without saying.
    pub fn is_autoencoder(&self) -> bool {
        *self == Self::Autoencoder
    }
}

/// Everything that decides what a trainer computes, apart from the activations and the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Width of the activations.
    pub d_model: usize,
    /// Number of latents.
    pub d_sae: usize,
    /// The class of SAE with its settings. It gets every key that is not one of this struct's, and refuses those that it does not have.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// Tokens per step.
    pub batch_size: usize,
    /// Steps in all; only the learning-rate schedule uses it.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Steps at the end over which the rate falls linearly to 0.
    pub decay_steps: u64,
    /// Adam's β1.
    pub adam_beta1: f64,
    /// Adam's β2.
    pub adam_beta2: f64,
    /// Adam's ε.
    pub adam_eps: f64,
    /// Largest global gradient norm.
    pub clip_norm: f64,
    /// The reconstruction loss.
    pub loss: Loss,
    /// What training goes down the gradient of, if that is not the reconstruction loss alone.
    #[serde(default, skip_serializing_if = "Objective::is_reconstruction")]
    pub objective: Objective,
    /// Coefficient of the auxiliary loss of dead latents, which classes with a k have; 0 turns it off.
    pub aux_coefficient: f64,
    /// A latent is dead when it has not fired for more than this many tokens.
    pub dead_after: u64,
    /// What holds the decoder's rows.
    pub decoder_norm: DecoderNorm,
    /// Norm of the decoder's rows at the start.
    pub decoder_init_norm: f64,
    /// Choose latents by pre-activation times decoder norm, in classes with a k.
    pub rescale_acts_by_decoder_norm: bool,
    /// Subtract b_dec from the input.
    pub apply_b_dec_to_input: bool,
    /// How b_dec starts.
    pub decoder_bias: DecoderBias,
    /// What is done to activations first.
    pub input_scaling: InputScaling,
    /// Number format of the encoder's product.
    #[serde(default, skip_serializing_if = "is_f32")]
    pub precision: Precision,
    /// What is reconstructed.
    #[serde(default, skip_serializing_if = "Task::is_autoencoder")]
    pub task: Task,
    /// The decay of the running mean of the weights that the SAE is given in place of the last ones; 0 gives it the last ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ema_decay: f64,
    /// Whether the decoder's rows stay as they were drawn, and all else learns (Korznikov et al. 2025): what an SAE has without a dictionary
    /// that it learned. Their gradient is no part of the norm that is clipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen_decoder: bool,
}

/// Whether nothing is averaged, which goes without saying.
fn is_zero(decay: &f64) -> bool {
    *decay == 0.0
}

/// Whether the precision goes without saying.
fn is_f32(precision: &Precision) -> bool {
    *precision == Precision::F32
}

impl TrainConfig {
    /// A recipe's settings for one SAE trained on `tokens` tokens.
    pub fn from_recipe(
        recipe: Recipe,
        d_model: usize,
        d_sae: usize,
        architecture: Architecture,
        batch_size: usize,
        tokens: u64,
    ) -> Self {
        let steps = tokens / batch_size.max(1) as u64;
        let chooses = architecture.chooses();
        let common = Self {
            d_model,
            d_sae,
            architecture,
            batch_size,
            steps,
            lr: 3e-4,
            warmup_steps: 0,
            decay_steps: 0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_eps: 1e-8,
            clip_norm: 1.0,
            loss: Loss::Mse,
            objective: Objective::Reconstruction,
            aux_coefficient: if chooses { 1.0 } else { 0.0 },
            dead_after: 1000 * batch_size as u64,
            decoder_norm: DecoderNorm::Free,
            decoder_init_norm: 0.1,
            rescale_acts_by_decoder_norm: chooses,
            apply_b_dec_to_input: true,
            decoder_bias: DecoderBias::Zero,
            input_scaling: InputScaling::None,
            precision: Precision::F32,
            task: Task::Autoencoder,
            ema_decay: 0.0,
            frozen_decoder: false,
        };
        match recipe {
            Recipe::Saelens => common,
            Recipe::Assay => Self {
                lr: 2e-4 / (d_sae as f64 / 16_384.0).sqrt(),
                warmup_steps: (steps / 20).min(1000),
                decay_steps: steps / 5,
                aux_coefficient: if chooses { 1.0 / 32.0 } else { 0.0 },
                // 10M tokens as in Gao et al.; a short run has no use for a window longer than itself.
                dead_after: (tokens / 10).min(10_000_000),
                decoder_norm: DecoderNorm::Unit,
                decoder_init_norm: 1.0,
                rescale_acts_by_decoder_norm: false,
                decoder_bias: DecoderBias::Mean,
                ..common
            },
        }
    }

    /// The same settings for a transcoder: b_dec is of its output alone, and the decoder's rows, which have nothing in common with the
    /// encoder's, start short and are free, so that the first predictions are little more than b_dec (sparsify starts them at 0). Rows of norm 1
    /// would add noise to every prediction, and latents that do nothing but harm are trained to be silent.
    #[must_use]
    pub fn transcoding(self, task: Task) -> Self {
        if task.is_autoencoder() {
            return self;
        }
        Self { task, apply_b_dec_to_input: false, decoder_norm: DecoderNorm::Free, decoder_init_norm: 0.1, ..self }
    }

    /// How many dead latents the auxiliary loss may use of a token: d_model / 2.
    pub fn k_aux(&self) -> usize {
        (self.d_model / 2).max(1)
    }

    /// Whether the sparse products of a code of so many entries gather rows rounded to bf16: where that is the precision, and rows are gathered
    /// so many times over that half the bytes are worth the rounding.
    pub fn gathers_bf16(&self, entries: f64) -> bool {
        entries >= self.bf16_gathers_from()
    }

    pub(crate) fn bf16_gathers_from(&self) -> f64 {
        if self.precision == Precision::Bf16 { 4.0 * self.d_sae as f64 } else { f64::INFINITY }
    }

    /// Whether a training with these settings is one with those: one SAE has every k of a hierarchical SAE's grid.
    pub fn trains_as(&self, other: &Self) -> bool {
        let with_one_k = |config: &Self| Self { architecture: config.architecture.at_largest_k(), ..config.clone() };
        with_one_k(self) == with_one_k(other)
    }

    /// The learning rate of step `step`, from 0.
    pub fn lr_at(&self, step: u64) -> f64 {
        let warmup = if step < self.warmup_steps { (step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 };
        let left = self.steps.saturating_sub(step);
        let decay = if left < self.decay_steps { left as f64 / self.decay_steps as f64 } else { 1.0 };
        self.lr * warmup * decay
    }

    /// Checks that the settings can be.
    ///
    /// # Errors
    /// Names the first setting that cannot.
    pub fn check(&self) -> Result<()> {
        if self.d_model == 0 || self.d_sae == 0 || self.batch_size == 0 {
            return bad("d_model, d_sae and batch_size must be at least 1".to_owned());
        }
        self.architecture.check(self.d_sae)?;
        self.check_class()?;
        self.check_objective()?;
        self.check_task()?;
        positive("lr", self.lr)?;
        positive("clip_norm", self.clip_norm)?;
        positive("decoder_init_norm", self.decoder_init_norm)?;
        positive("adam_eps", self.adam_eps)?;
        not_negative("aux_coefficient", self.aux_coefficient)?;
        for (name, value) in
            [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2), ("ema_decay", self.ema_decay)]
        {
            if !(0.0..1.0).contains(&value) {
                return bad(format!("{name} is {value}; it must lie in [0, 1)"));
            }
        }
        Ok(())
    }

    /// Checks what a transcoder can't have.
    fn check_task(&self) -> Result<()> {
        if self.task.is_autoencoder() {
            return Ok(());
        }
        let Self { architecture, .. } = self;
        if !matches!(architecture, Architecture::TopK(_) | Architecture::BatchTopK(_) | Architecture::JumpRelu(_)) {
            return bad(format!(
                "architecture = \"{architecture}\" is no class of transcoder; topk, batchtopk and jumprelu are"
            ));
        }
        if self.apply_b_dec_to_input {
            return bad(
                "apply_b_dec_to_input: b_dec belongs to a transcoder's output, not to its input; set it to false"
                    .to_owned(),
            );
        }
        if self.input_scaling != InputScaling::None {
            return bad("input_scaling: a transcoder's input and output are not of one scale; leave it out".to_owned());
        }
        Ok(())
    }

    /// Checks what only some classes have.
    fn check_class(&self) -> Result<()> {
        let Self { architecture, batch_size, d_sae, .. } = self;
        if !architecture.chooses() {
            if self.aux_coefficient != 0.0 {
                return bad(format!(
                    "aux_coefficient is {}, but {architecture} has no auxiliary loss of dead latents; set it to 0",
                    self.aux_coefficient
                ));
            }
            if self.rescale_acts_by_decoder_norm {
                return bad(format!(
                    "rescale_acts_by_decoder_norm: {architecture} does not compare latents; set it to false"
                ));
            }
        }
        if !architecture.is_fixed_rows() {
            // Entries of a code are numbered in 32 bits, and all may be active.
            if batch_size.checked_mul(*d_sae).is_none_or(|entries| i32::try_from(entries).is_err()) {
                return bad(format!(
                    "batch_size × d_sae = {batch_size} × {d_sae} is too much for {architecture}; take a smaller batch_size"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_one_size_in_every_recipe() {
        for recipe in [Recipe::Assay, Recipe::Saelens] {
            let of = |k| TrainConfig::from_recipe(recipe, 8, 24, Architecture::groupmax(k), 10, 200);
            assert!(of(6).check().is_ok());
            let error = of(5).check().unwrap_err().to_string();
            assert!(error.contains("k = 5 must divide d_sae = 24"), "{error}");
        }
    }

    #[test]
    fn the_learning_rate_warms_up_and_decays() {
        let config = TrainConfig {
            lr: 1.0,
            warmup_steps: 4,
            decay_steps: 5,
            ..TrainConfig::from_recipe(Recipe::Assay, 8, 16, Architecture::topk(2), 10, 200)
        };
        assert_eq!(config.steps, 20);
        let rates: Vec<f64> = (0..20).map(|s| config.lr_at(s)).collect();
        assert_eq!(&rates[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(&rates[14..], [1.0, 1.0, 0.8, 0.6, 0.4, 0.2]);
    }
}
