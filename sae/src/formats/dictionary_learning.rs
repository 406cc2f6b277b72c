//! dictionary_learning: `config.json` and `ae.safetensors`, the state dict of one of its dictionaries.
//!
//! | `dict_class` | encodes | of x − |
//! | --- | --- | --- |
//! | `AutoEncoder` | ReLU | `bias` |
//! | `AutoEncoderNew` | ReLU | 0 |
//! | `AutoEncoderTopK` | ReLU of the k largest | `b_dec` |
//! | `BatchTopKSAE`, `MatryoshkaBatchTopKSAE` | ReLU where above one `threshold` | `b_dec` |
//! | `JumpReluAutoEncoder` | ReLU where above each latent's `threshold` | 0 |
//! | `GatedAutoEncoder` | gated | `decoder_bias` |
//!
//! Weights are used as they are stored: `AutoEncoder.from_pretrained` also brings decoder rows to norm 1, which changes latents'
//! units but no reconstruction.

use std::path::Path;

use serde_json::{Value, json};

use super::{HostSae, Metadata, Parsed, checked_k, read_json, write_json};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::tensors::{Array, TensorFile, transposed, write_tensors};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "ae.safetensors";

pub(super) fn read(dir: &Path, weights: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let config = read_json(&path)?;
    let trainer = &config["trainer"];
    let file = TensorFile::open(weights, CONFIG)?;
    let class = trainer["dict_class"].as_str().unwrap_or_default();
    // Two layouts: torch's linear layers, whose decoder is transposed, or parameters as matrices, whose encoder is.
    let linear = !matches!(class, "JumpReluAutoEncoder" | "MatryoshkaBatchTopKSAE");
    let shape = file.shape(if linear { "encoder.weight" } else { "W_dec" })?;
    let &[d_sae, d_model] = &shape[..] else {
        return Err(SaeError::config(weights, format!("its decoder has shape {shape:?}; a matrix is expected")));
    };
    for (key, found) in [("activation_dim", d_model), ("dict_size", d_sae)] {
        if trainer[key].as_u64().is_some_and(|said| said != found as u64) {
            return Err(SaeError::config(&path, format!("{key} is {}, but the weights have {found}", trainer[key])));
        }
    }
    let vector = |name| file.floats(name, &[d_sae]);
    let width = |name| file.floats(name, &[d_model]);
    let mut notes = Vec::new();
    let (activation, b_enc, b_dec, apply_b_dec_to_input) = match class {
        "AutoEncoder" => (Activation::Relu, vector("encoder.bias")?, width("bias")?, true),
        "AutoEncoderNew" => (Activation::Relu, vector("encoder.bias")?, width("decoder.bias")?, false),
        "AutoEncoderTopK" => {
            let k = checked_k(&path, k_of(&file, &path, trainer)?, d_sae)?;
            (Activation::TopK { k, by_decoder_norm: false }, vector("encoder.bias")?, width("b_dec")?, true)
        }
        "BatchTopKSAE" | "MatryoshkaBatchTopKSAE" => {
            let threshold = file.floats("threshold", &[])?[0];
            if threshold < 0.0 {
                notes.push(format!(
                    "the threshold is {threshold}: it was not set in training, so that every positive pre-activation is active, as in \
                     dictionary_learning itself"
                ));
            }
            let b_enc = vector(if linear { "encoder.bias" } else { "b_enc" })?;
            (Activation::JumpRelu { threshold: vec![threshold; d_sae] }, b_enc, width("b_dec")?, true)
        }
        "JumpReluAutoEncoder" => {
            (Activation::JumpRelu { threshold: vector("threshold")? }, vector("b_enc")?, width("b_dec")?, false)
        }
        "GatedAutoEncoder" => {
            let activation = Activation::Gated { r_mag: vector("r_mag")?, b_mag: vector("mag_bias")? };
            (activation, vector("gate_bias")?, width("decoder_bias")?, true)
        }
        other => {
            return Err(SaeError::config(
                &path,
                format!(
                    "dict_class `{other}` is not supported; AutoEncoder, AutoEncoderNew, AutoEncoderTopK, BatchTopKSAE, GatedAutoEncoder, \
                     JumpReluAutoEncoder and MatryoshkaBatchTopKSAE are"
                ),
            ));
        }
    };
    let (w_enc, w_dec) = if linear {
        (file.floats("encoder.weight", &[d_sae, d_model])?, file.transposed("decoder.weight", [d_sae, d_model])?)
    } else {
        (file.transposed("W_enc", [d_sae, d_model])?, file.floats("W_dec", &[d_sae, d_model])?)
    };
    let normalization = Normalization::None;
    let sae = HostSae { d_model, d_sae, w_enc, b_enc, w_dec, b_dec, activation, normalization, apply_b_dec_to_input };
    Ok(Parsed { sae, metadata: metadata(&path, &config)?, notes })
}

/// k of the state dict and of the configuration, which must not contradict each other.
fn k_of(file: &TensorFile, path: &Path, trainer: &Value) -> Result<Option<i64>> {
    let stored = if file.has("k")? { Some(file.int("k")?) } else { None };
    let said = trainer["k"].as_i64();
    if let (Some(stored), Some(said)) = (stored, said)
        && stored != said
    {
        return Err(SaeError::config(path, format!("k is {said}, but the weights say {stored}")));
    }
    Ok(stored.or(said))
}

fn metadata(path: &Path, config: &Value) -> Result<Metadata> {
    let mut metadata = Metadata::parse(path, &config["metadata"])?;
    let trainer = &config["trainer"];
    let layer = trainer["layer"].as_u64().or_else(|| trainer["layer"].as_str()?.parse().ok());
    let submodule = trainer["submodule_name"].as_str().unwrap_or("resid_post");
    let kind = [("resid_post", "hook_resid_post"), ("mlp", "hook_mlp_out"), ("att", "hook_attn_out")]
        .into_iter()
        .find(|(part, _)| submodule.contains(part));
    // `io` says whether the module's output or its input was learned.
    let of_output = config["buffer"]["io"].as_str().is_none_or(|io| io == "out");
    let hook = || Some(format!("blocks.{}.{}", layer?, kind.filter(|_| of_output)?.1));
    metadata.hook_name = metadata.hook_name.or_else(hook);
    metadata.model_name = metadata.model_name.or_else(|| Some(trainer["lm_name"].as_str()?.to_owned()));
    metadata.context_size =
        metadata.context_size.or_else(|| usize::try_from(config["buffer"]["ctx_len"].as_u64()?).ok());
    Ok(metadata)
}

pub(super) fn write(dir: &Path, sae: HostSae, metadata: &Metadata) -> Result<()> {
    let jumps = matches!(sae.activation, Activation::JumpRelu { .. });
    let sae = sae.folding_decoder_norms().applying_b_dec(!jumps);
    let (d_model, d_sae) = (sae.d_model, sae.d_sae);
    let vector = |values: &[f32]| Array::floats(values, &[d_sae]);
    let width = |values: &[f32]| Array::floats(values, &[d_model]);
    let mut tensors = if jumps {
        vec![
            ("W_enc", Array::floats(&transposed(&sae.w_enc, d_sae, d_model), &[d_model, d_sae])),
            ("W_dec", Array::floats(&sae.w_dec, &[d_sae, d_model])),
        ]
    } else {
        vec![
            ("encoder.weight", Array::floats(&sae.w_enc, &[d_sae, d_model])),
            ("decoder.weight", Array::floats(&transposed(&sae.w_dec, d_sae, d_model), &[d_model, d_sae])),
        ]
    };
    let (trainer_class, dict_class) = match &sae.activation {
        Activation::Relu | Activation::GroupMax { .. } => {
            tensors.extend([("encoder.bias", vector(&sae.b_enc)), ("bias", width(&sae.b_dec))]);
            ("StandardTrainer", "AutoEncoder")
        }
        Activation::TopK { k, .. } => {
            let k =
                i32::try_from(*k).map_err(|_| SaeError::config(dir, format!("k is {k}, too large for the format")))?;
            tensors.extend([("encoder.bias", vector(&sae.b_enc)), ("b_dec", width(&sae.b_dec))]);
            // −1: no threshold was learned; encoding takes the k largest.
            tensors.extend([("k", Array::ints(&[k], &[])), ("threshold", Array::floats(&[-1.0], &[]))]);
            ("TopKTrainer", "AutoEncoderTopK")
        }
        Activation::JumpRelu { threshold } => {
            tensors.extend([
                ("b_enc", vector(&sae.b_enc)),
                ("b_dec", width(&sae.b_dec)),
                ("threshold", vector(threshold)),
            ]);
            ("JumpReluTrainer", "JumpReluAutoEncoder")
        }
        Activation::Gated { r_mag, b_mag } => {
            tensors.extend([("gate_bias", vector(&sae.b_enc)), ("decoder_bias", width(&sae.b_dec))]);
            tensors.extend([("r_mag", vector(r_mag)), ("mag_bias", vector(b_mag))]);
            ("GatedSAETrainer", "GatedAutoEncoder")
        }
    };
    let hook = metadata.hook_name.as_deref().unwrap_or_default();
    let layer: Option<usize> = hook.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse().ok());
    let config = json!({
        "trainer": {
            "trainer_class": trainer_class,
            "dict_class": dict_class,
            "activation_dim": d_model,
            "dict_size": d_sae,
            "k": sae.activation.k(),
            "layer": layer,
            "lm_name": metadata.model_name,
            "submodule_name": hook.rsplit('.').next(),
        },
        "buffer": { "d_submodule": d_model, "io": "out", "ctx_len": metadata.context_size },
        "metadata": metadata.json(),
    });
    write_json(&dir.join(CONFIG), &config)?;
    write_tensors(&dir.join(WEIGHTS), tensors, None)
}
