//! Cross-layer transcoders as circuit-tracer keeps them: `W_enc_3.safetensors` and `W_dec_3.safetensors` of each layer, and `config.yaml`.
//!
//! ```text
//! W_enc_3 [d_sae, d_in], b_enc_3 [d_sae], b_dec_3 [d_out]
//! threshold_3 [d_sae]                             JumpReLU; else ReLU
//! W_dec_3 [d_sae, layers − 3, d_out]              not read
//! ```
//!
//! A layer's latents write to the MLPs of all later layers, and an MLP is predicted by those of all layers before it, so that one layer
//! alone reconstructs nothing: what is read is its encoder, without a decoder (d_out is 0).

use std::path::Path;

use super::circuit_tracer::CONFIG;
use super::json::Keys;
use super::yaml::read_yaml;
use super::{HostSae, Metadata, ONE_LAYER, Parsed};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::TensorFile;

/// The layer that a file's name says, `W_enc_3.safetensors`.
pub(super) fn layer_of(file: &Path) -> Option<usize> {
    file.file_name()?.to_str()?.strip_prefix("W_enc_")?.strip_suffix(".safetensors")?.parse().ok()
}

pub(super) fn read(dir: &Path, weights: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let config = read_yaml(&path)?;
    let keys = Keys::new(&path, &config);
    let layer = layer_of(weights)
        .ok_or_else(|| SaeError::config(weights, "its name says no layer; W_enc_3.safetensors is expected"))?;
    let file = TensorFile::open(weights, "its layout")?;
    let name = |part: &str| format!("{part}_{layer}");
    let [d_sae, d_in] = file.matrix_shape(&name("W_enc"))?;
    let threshold = name("threshold");
    let activation = if file.has(&threshold) {
        let threshold = file.floats(&threshold, &[d_sae])?;
        if threshold.iter().any(|&t| t < 0.0) {
            return Err(SaeError::config(weights, "a threshold is negative: negative latents are not supported"));
        }
        Activation::JumpRelu { threshold }
    } else {
        Activation::Relu
    };
    let sae = HostSae {
        d_in,
        d_out: 0,
        d_sae,
        w_enc: file.floats(&name("W_enc"), &[d_sae, d_in])?,
        b_enc: file.floats(&name("b_enc"), &[d_sae])?,
        w_dec: Vec::new(),
        b_dec: Vec::new(),
        activation,
        normalization: Normalization::None,
        apply_b_dec_to_input: false,
        transcoding: Some(Transcoding { skip: None }),
    };
    let metadata = Metadata {
        model_name: keys.text("model_name")?.map(str::to_owned),
        hook_name: keys.text("feature_input_hook")?.map(|hook| format!("blocks.{layer}.{hook}")),
        ..Metadata::default()
    };
    Ok(Parsed { sae, metadata, notes: vec![ONE_LAYER.to_owned()] })
}
