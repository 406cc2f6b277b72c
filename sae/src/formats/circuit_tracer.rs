//! circuit-tracer: a transcoder a layer, `layer_3.safetensors`, and a `config.yaml` for all of them.
//!
//! ```text
//! W_enc [d_sae, d_in], W_dec [d_sae, d_out] or [d_out, d_sae], b_enc [d_sae], b_dec [d_out]
//! W_skip [d_out, d_in]                            skip transcoders
//! activation_function.threshold [d_sae]           JumpReLU; else ReLU
//! ```
//!
//! `feature_input_hook` and `feature_output_hook` of `config.yaml` are TransformerLens' names without the block. Where there is none, as
//! with mwhanna's Qwen3-14B, the transcoder reads the MLP's input and predicts its output, as SAELens knows of that repository.

use std::path::Path;

use serde_json::Value;

use super::json::Keys;
use super::origin::{Origin, number_after};
use super::yaml::read_yaml;
use super::{HostSae, Metadata, Parsed};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::TensorFile;

pub(super) const CONFIG: &str = "config.yaml";
/// The files beside the weights by which they are known, the first of which says what it is.
pub(super) const CONFIGS: [&str; 3] = [CONFIG, "wandb-config.yaml", "wanb-config.yaml"];

/// The layer that a file's name says, `layer_3.safetensors`.
pub(super) fn layer_of(file: &Path) -> Option<usize> {
    file.file_name()?.to_str()?.strip_prefix("layer_")?.strip_suffix(".safetensors")?.parse().ok()
}

pub(super) fn read(dir: &Path, weights: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let config = if path.is_file() { read_yaml(&path)? } else { Value::Null };
    let keys = Keys::new(&path, &config);
    let layer = layer_of(weights)
        .ok_or_else(|| SaeError::config(weights, "its name says no layer; layer_3.safetensors is expected"))?;
    let file = TensorFile::open(weights, "its layout")?;
    let [d_sae, d_in] = file.matrix_shape("W_enc")?;
    let b_dec = file.shape("b_dec")?;
    let &[d_out] = &b_dec[..] else {
        return Err(SaeError::config(weights, format!("`b_dec` has shape {b_dec:?}; a vector is expected")));
    };
    // The first sets have the decoder transposed. Of a square one nobody could tell.
    let stored = file.matrix_shape("W_dec")?;
    let w_dec = if d_sae == d_out {
        return Err(SaeError::config(weights, format!("W_dec is {stored:?}: which dimension are the latents?")));
    } else if stored == [d_out, d_sae] {
        file.transposed("W_dec", [d_sae, d_out])?
    } else {
        file.floats("W_dec", &[d_sae, d_out])?
    };
    const THRESHOLD: &str = "activation_function.threshold";
    let activation = if file.has(THRESHOLD) {
        let threshold = file.floats(THRESHOLD, &[d_sae])?;
        if threshold.iter().any(|&t| t < 0.0) {
            let why = format!("`{THRESHOLD}` has negative values: negative latents are not supported");
            return Err(SaeError::config(weights, why));
        }
        Activation::JumpRelu { threshold }
    } else {
        Activation::Relu
    };
    if file.has("log_thresholds") {
        return Err(SaeError::config(weights, "`log_thresholds` is not supported, as by circuit-tracer itself"));
    }
    let skip = if file.has("W_skip") { Some(file.floats("W_skip", &[d_out, d_in])?) } else { None };
    let sae = HostSae {
        d_in,
        d_out,
        d_sae,
        w_enc: file.floats("W_enc", &[d_sae, d_in])?,
        b_enc: file.floats("b_enc", &[d_sae])?,
        w_dec,
        b_dec: file.floats("b_dec", &[d_out])?,
        activation,
        normalization: Normalization::None,
        apply_b_dec_to_input: false,
        transcoding: Some(Transcoding { skip }),
    };
    let origin = Origin::of(weights);
    let model = keys.text("model_name")?.map(str::to_owned);
    let hook = |name: &str| {
        // circuit-tracer's name for what TransformerLens calls hook_mlp_out.
        let name = if name == "mlp.hook_out" { "hook_mlp_out" } else { name };
        format!("blocks.{layer}.{name}")
    };
    let qwen = model.is_none().then(|| origin.repository(qwen3_of_repository)).flatten();
    let of_qwen = |name| qwen.as_ref().map(|_| name);
    let metadata = Metadata {
        hook_name: keys.text("feature_input_hook")?.or(of_qwen("mlp.hook_in")).map(hook),
        hook_name_out: keys.text("feature_output_hook")?.or(of_qwen("hook_mlp_out")).map(hook),
        model_name: model.or(qwen),
        ..Metadata::default()
    };
    let mut notes = Vec::new();
    if metadata.hook_name.is_none() {
        notes.push(format!("{} names no feature_input_hook, so that the hook is not known", path.display()));
    }
    Ok(Parsed { sae, metadata, notes })
}

/// The model of a repository like `qwen3-14b-transcoders`.
fn qwen3_of_repository(name: &str) -> Option<String> {
    let size = number_after(name, "qwen3-").filter(|_| name.contains("transcoder"))?;
    name.contains(&format!("qwen3-{size}b")).then(|| format!("Qwen/Qwen3-{size}B"))
}
