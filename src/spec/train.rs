//! How SAEs of a sweep are trained.

use anyhow::Result;
use assay_probes::metrics::Subset;
use assay_sae::config::{DecoderBias, DecoderNorm, InputScaling, Loss};
use assay_sae::{Precision, Recipe, Task, TrainConfig};
use serde::{Deserialize, Serialize};

use super::{Coder, ObjectiveName};
use crate::transcode::Transcode;

/// How SAEs are trained: a recipe, and what is to be different from it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// The set of defaults.
    #[serde(default)]
    pub recipe: Recipe,
    /// d_sae / d_in: latents for each dimension of the activation, which is d_model wide but at `z`.
    pub expansion: usize,
    /// Tokens per step.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Tokens in the shuffle buffer.
    #[serde(default = "default_buffer_tokens")]
    pub buffer_tokens: usize,
    /// Contexts of one capturing forward pass.
    #[serde(default = "default_contexts_per_pass")]
    pub contexts_per_pass: usize,
    /// Seconds of training after which its state is saved, so that a killed run resumes from there, or ten times as long as saving takes, if
    /// that is longer; an interrupt saves it at once.
    #[serde(default = "default_checkpoint_seconds")]
    pub checkpoint_seconds: u64,
    /// Tokens after which it is saved as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_tokens: Option<u64>,
    /// Keep the trained SAEs under `saes/`: in the format of SAELens, or of sparsify where that cannot hold them (groupmax).
    #[serde(default)]
    pub save_saes: bool,
    /// Write the training curves of every SAE under `logs/`, as JSON lines and for TensorBoard.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub log: bool,
    /// Peak learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Steps of linear warm-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Steps of linear decay at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// The reconstruction loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What SAEs are trained for, where their coder does not say it: `mse` or `fvu`, the reconstruction alone; `kl`, the KL divergence of
    /// the model's predictions with their reconstructions in place of the activations (end to end); `kl+mse`, the reconstruction, and on
    /// the last `kl_share` of the tokens both. Steps with the KL take whole contexts, so `batch_size` is a multiple of `context_size`
    /// then [default: the reconstruction loss].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveName>,
    /// The share of the training tokens, the last of them, on which the KL counts in `kl+mse` [default: 0.1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_share: Option<f64>,
    /// The tokens that SAEs are trained on, where their coder does not say it: `all`; `no_first`, without position 0 of each context, where
    /// attention sinks live; `no_outlier`, without those whose norm exceeds ten times the median of the tokens that are served with them
    /// (a round of the buffer), as in metrics without outliers. The place of one that is left out is taken by the next in the SAE's order that
    /// is not, so that steps and budgets stay as they are [default: all].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_tokens: Option<Subset>,
    /// Coefficient of the auxiliary loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aux_coefficient: Option<f64>,
    /// Tokens without firing after which a latent is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_after: Option<u64>,
    /// Largest global gradient norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// What holds the decoder's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_norm: Option<DecoderNorm>,
    /// Norm of the decoder's rows at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_init_norm: Option<f64>,
    /// Select latents by pre-activation times decoder norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescale_acts_by_decoder_norm: Option<bool>,
    /// Subtract b_dec from the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply_b_dec_to_input: Option<bool>,
    /// How b_dec starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_bias: Option<DecoderBias>,
    /// What is done to activations first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_scaling: Option<InputScaling>,
    /// Decay of the running mean of the weights that an SAE is given in place of the last ones, such as 0.999 [default: 0, the last ones].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
}

impl TrainSpec {
    /// The tokens that a coder's SAEs are trained on.
    pub fn loss_tokens_of(&self, coder: &Coder) -> Subset {
        coder.loss_tokens.or(self.loss_tokens).unwrap_or_default()
    }

    /// The settings of one SAE: the recipe's, and what the spec says instead.
    ///
    /// # Errors
    /// As [`Self::objective_of`].
    pub fn config(&self, d_in: usize, coder: &Coder, tokens: u64, precision: Precision) -> Result<TrainConfig> {
        let d_sae = d_in * self.expansion;
        let architecture = coder.architecture.clone();
        let chooses = architecture.k().is_some();
        let (objective, loss) = self.objective_of(coder)?;
        let recipe = TrainConfig::from_recipe(self.recipe, d_in, d_sae, architecture, self.batch_size, tokens);
        let recipe = recipe.transcoding(coder.transcode.map_or(Task::Autoencoder, Transcode::task));
        Ok(TrainConfig {
            lr: self.lr.unwrap_or(recipe.lr),
            warmup_steps: self.warmup_steps.unwrap_or(recipe.warmup_steps),
            decay_steps: self.decay_steps.unwrap_or(recipe.decay_steps),
            loss: loss.or(self.loss).unwrap_or(recipe.loss),
            objective,
            // Of the classes that have them.
            aux_coefficient: self.aux_coefficient.filter(|_| chooses).unwrap_or(recipe.aux_coefficient),
            dead_after: self.dead_after.unwrap_or(recipe.dead_after),
            clip_norm: self.clip_norm.unwrap_or(recipe.clip_norm),
            decoder_norm: self.decoder_norm.unwrap_or(recipe.decoder_norm),
            decoder_init_norm: self.decoder_init_norm.unwrap_or(recipe.decoder_init_norm),
            rescale_acts_by_decoder_norm: self
                .rescale_acts_by_decoder_norm
                .filter(|_| chooses)
                .unwrap_or(recipe.rescale_acts_by_decoder_norm),
            apply_b_dec_to_input: self.apply_b_dec_to_input.unwrap_or(recipe.apply_b_dec_to_input),
            decoder_bias: self.decoder_bias.unwrap_or(recipe.decoder_bias),
            input_scaling: self.input_scaling.unwrap_or(recipe.input_scaling),
            ema_decay: self.ema_decay.unwrap_or(recipe.ema_decay),
            precision,
            ..recipe
        })
    }
}

fn default_batch_size() -> usize {
    4096
}
fn default_buffer_tokens() -> usize {
    1 << 18
}
fn default_contexts_per_pass() -> usize {
    32
}
fn default_checkpoint_seconds() -> u64 {
    120
}
fn yes() -> bool {
    true
}
fn is_yes(value: &bool) -> bool {
    *value
}
