//! What is said on the command line of how an SAE was trained.

use assay_sae::Normalization;

use super::contexts::{YesNo, whole};
use crate::catalogue::assumptions::Given;

/// How SAEs were trained, where their files don't say it, or not rightly. Without these, what is known of the repository that an SAE is from
/// is assumed, and a note says so.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "What an SAE's files don't say")]
pub(super) struct GivenArgs {
    /// Use only what an SAE's files say, and nothing else that is known about their repository
    #[arg(long)]
    no_assumptions: bool,
    /// The factor by which the SAE's inputs were multiplied in training, if it is not in its weights; what it reconstructs is divided by it
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    input_scale: Option<f64>,
    /// How each input is normalised first, which is undone in the reconstruction; named as in SAELens
    #[arg(long, value_name = "NAME", value_enum)]
    normalization: Option<Named>,
    /// Subtract the mean over d_model at the hook, for SAEs of TransformerLens' processed models that don't say so themselves
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    center_residual: Option<bool>,
    /// Subtract the values' biases at attn.hook_z, and add them to what is patched in, for SAEs of TransformerLens' processed models
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    without_value_bias: Option<bool>,
    /// Tokens per context in training; a note says if the contexts here have another length
    #[arg(long, value_name = "N", value_parser = whole(1, u64::MAX, "a context has a token"))]
    trained_context_size: Option<u64>,
    /// Whether contexts began with BOS in training; a note says if the contexts here differ in that
    #[arg(long, value_enum, value_name = "yes|no", hide_possible_values = true)]
    trained_bos: Option<YesNo>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Named {
    /// Nothing
    #[value(name = "none")]
    Nothing,
    /// Mean 0 and standard deviation 1 over d_model
    #[value(name = "layer_norm")]
    LayerNorm,
    /// Norm √d_model
    #[value(name = "constant_norm_rescale")]
    ConstantNorm,
}

impl GivenArgs {
    pub(super) fn given(&self) -> Given {
        Given {
            no_assumptions: self.no_assumptions,
            input_scale: self.input_scale,
            normalization: self.normalization.map(|named| match named {
                Named::Nothing => Normalization::None,
                Named::LayerNorm => Normalization::LayerNorm,
                Named::ConstantNorm => Normalization::ConstantNorm,
            }),
            center_residual: self.center_residual,
            without_value_bias: self.without_value_bias,
            context_size: self.trained_context_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
            prepend_bos: self.trained_bos.map(|bos| bos == YesNo::Yes),
        }
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err("give a positive number".to_owned()),
    }
}
