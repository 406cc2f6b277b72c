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

use super::json::{Keys, agreed, read_object, write_json};
use super::{Format, HostSae, Metadata, Parsed, checked_k};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::tensors::{Array, TensorFile, transposed, write_tensors};

const CONFIG: &str = "config.json";
/// Where an SAE that is converted keeps the `config.json` that dictionary_learning wrote.
const SOURCE: &str = "dictionary_learning";

pub(super) fn read(dir: &Path, weights: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let config = read_object(&path)?;
    let trainer = Keys::new(&path, &config).object("trainer")?;
    let file = TensorFile::open(weights, CONFIG)?;
    let class =
        trainer.text("dict_class")?.ok_or_else(|| SaeError::config(&path, "`trainer.dict_class` is missing"))?;
    // Two layouts: torch's linear layers, whose decoder is transposed, or parameters as matrices, whose encoder is.
    let linear = !matches!(class, "JumpReluAutoEncoder" | "MatryoshkaBatchTopKSAE");
    let shape = file.shape(if linear { "encoder.weight" } else { "W_dec" })?;
    let &[d_sae, d_model] = &shape[..] else {
        return Err(SaeError::config(weights, format!("its decoder has shape {shape:?}; a matrix is expected")));
    };
    for (key, found) in [("activation_dim", d_model), ("dict_size", d_sae)] {
        if let Some(said) = trainer.count(key)?.filter(|said| *said != found) {
            return Err(SaeError::config(&path, format!("{key} is {said}, but the weights have {found}")));
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
            let threshold = file.scalar("threshold")? as f32;
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
    let sae = HostSae {
        d_in: d_model,
        d_out: d_model,
        d_sae,
        w_enc,
        b_enc,
        w_dec,
        b_dec,
        activation,
        normalization,
        apply_b_dec_to_input,
        transcoding: None,
    };
    let metadata = metadata(&path, &config, &mut notes)?;
    Ok(Parsed { sae, metadata, notes })
}

/// k of the state dict and of the configuration, which must not contradict each other.
fn k_of(file: &TensorFile, path: &Path, trainer: Keys<'_>) -> Result<Option<usize>> {
    let stored = if file.has("k") { Some(file.scalar("k")?) } else { None };
    let said = trainer.count("k")?;
    match (stored, said) {
        (Some(stored), Some(said)) if stored != said as f64 => {
            Err(SaeError::config(path, format!("k is {said}, but the weights say {stored}")))
        }
        (Some(stored), None) if stored < 0.0 || stored.fract() != 0.0 => {
            Err(SaeError::config(path, format!("k is {stored} in the weights; it must be a whole number")))
        }
        _ => Ok(said.or(stored.map(|k| k as usize))),
    }
}

fn metadata(path: &Path, config: &Value, notes: &mut Vec<String>) -> Result<Metadata> {
    let mut metadata = Metadata::parse(path, &config["metadata"], notes)?;
    metadata.keep_source(SOURCE, config);
    let keys = Keys::new(path, config);
    let (trainer, buffer) = (keys.object("trainer")?, keys.object("buffer")?);
    if metadata.hook_name.is_none() {
        metadata.hook_name = hook_of(path, trainer, buffer)?;
    }
    metadata.model_name = metadata.model_name.or(trainer.text("lm_name")?.map(str::to_owned));
    metadata.context_size = metadata.context_size.or(buffer.count("ctx_len").ok().flatten());
    Ok(metadata)
}

/// The hook that `submodule_name` and `layer` name: `resid_post_layer_3`, `mlp_out_layer_3`. The library trains on any module, and whoever
/// calls it chooses the names, so what they don't say is not known.
fn hook_of(path: &Path, trainer: Keys<'_>, buffer: Keys<'_>) -> Result<Option<String>> {
    let Some(submodule) = trainer.text("submodule_name").ok().flatten() else { return Ok(None) };
    let in_name = submodule.rsplit_once("layer_").and_then(|(_, number)| number.parse().ok());
    let layer = agreed(path, [("layer", trainer.count("layer")?), ("the layer in submodule_name", in_name)])?;
    let kinds = [("resid_post", "hook_resid_post"), ("mlp", "hook_mlp_out"), ("att", "hook_attn_out")];
    let kind = kinds.into_iter().find(|(part, _)| submodule.contains(part));
    // `io` says whether the module's output or its input was learned. Where it is absent, the name may say so.
    let of_output = match buffer.text("io").ok().flatten() {
        Some(io) => io == "out",
        None => ["resid_post", "_out"].into_iter().any(|part| submodule.contains(part)),
    };
    Ok(layer.zip(kind.filter(|_| of_output)).map(|(layer, (_, kind))| format!("blocks.{layer}.{kind}")))
}

pub(super) fn write(dir: &Path, sae: HostSae, metadata: &Metadata) -> Result<()> {
    let jumps = matches!(sae.activation, Activation::JumpRelu { .. });
    let sae = sae.folding_decoder_norms().applying_b_dec(!jumps);
    let (d_model, d_sae) = (sae.d_in, sae.d_sae);
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
    let dict_class = match &sae.activation {
        Activation::AbsTopK { .. } | Activation::GroupMax { .. } | Activation::MatchingPursuit(_) => {
            unreachable!("it can't be held")
        }
        Activation::Relu => {
            tensors.extend([("encoder.bias", vector(&sae.b_enc)), ("bias", width(&sae.b_dec))]);
            "AutoEncoder"
        }
        Activation::TopK { k, .. } => {
            let k =
                i32::try_from(*k).map_err(|_| SaeError::config(dir, format!("k is {k}, too large for the format")))?;
            tensors.extend([("encoder.bias", vector(&sae.b_enc)), ("b_dec", width(&sae.b_dec))]);
            // −1: no threshold was learned; encoding takes the k largest.
            tensors.extend([("k", Array::ints(&[k], &[])), ("threshold", Array::floats(&[-1.0], &[]))]);
            "AutoEncoderTopK"
        }
        Activation::JumpRelu { threshold } => {
            tensors.extend([
                ("b_enc", vector(&sae.b_enc)),
                ("b_dec", width(&sae.b_dec)),
                ("threshold", vector(threshold)),
            ]);
            "JumpReluAutoEncoder"
        }
        Activation::Gated { r_mag, b_mag } => {
            tensors.extend([("gate_bias", vector(&sae.b_enc)), ("decoder_bias", width(&sae.b_dec))]);
            tensors.extend([("r_mag", vector(r_mag)), ("mag_bias", vector(b_mag))]);
            "GatedAutoEncoder"
        }
    };
    let hook = metadata.hook_name.as_deref().and_then(|hook| hook.strip_prefix("blocks.")?.split_once('.'));
    let (layer, kind) = (hook.and_then(|(layer, _)| layer.parse::<usize>().ok()), hook.map(|(_, kind)| kind));
    // What dictionary_learning wrote of its training stays; who trained an SAE of another tool is no trainer of its.
    let mut config =
        metadata.other.get(SOURCE).filter(|source| source.is_object()).cloned().unwrap_or_else(|| json!({}));
    let known = json!({
        "trainer": {
            "dict_class": dict_class,
            "activation_dim": d_model,
            "dict_size": d_sae,
            "k": sae.activation.k(),
            "layer": layer,
            "lm_name": metadata.model_name,
            "submodule_name": kind,
        },
        "buffer": { "d_submodule": d_model, "io": kind.map(|_| "out"), "ctx_len": metadata.context_size },
    });
    let same_hook = {
        let keys = Keys::new(dir, &config);
        let parts = keys.object("trainer").and_then(|trainer| Ok((trainer, keys.object("buffer")?)));
        parts.and_then(|(trainer, buffer)| hook_of(dir, trainer, buffer)).is_ok_and(|hook| hook == metadata.hook_name)
    };
    for part in ["trainer", "buffer"] {
        if !config[part].is_object() {
            config[part] = json!({});
        }
        for (key, value) in known[part].as_object().into_iter().flatten() {
            let said = &mut config[part][key];
            // The source's own name for the hook, and what is not known here, stay.
            let stays = value.is_null() || same_hook && ["layer", "submodule_name", "io"].contains(&key.as_str());
            if said.is_null() || !stays {
                *said = value.clone();
            }
        }
    }
    config["metadata"] = metadata.json();
    write_json(&dir.join(CONFIG), &config)?;
    write_tensors(&dir.join(Format::DictionaryLearning.weights()), tensors, None)
}
