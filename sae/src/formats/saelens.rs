//! SAELens: `cfg.json` and `sae_weights.safetensors`.
//!
//! ```text
//! W_enc [d_in, d_sae], W_dec [d_sae, d_in], b_dec [d_in]
//! b_enc [d_sae]                                  all but gated
//! threshold [d_sae]                              jumprelu
//! b_gate, r_mag, b_mag [d_sae]                   gated
//! ```
//!
//! Versions before 6 keep at the top of `cfg.json` what 6 keeps in its `metadata`, and name topk by its activation function.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{HostSae, Metadata, Parsed, checked_k, read_json, write_json};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::tensors::{Array, TensorFile, transposed, write_tensors};

/// The version of SAELens whose format is written.
const VERSION: &str = "6.54.12";
const CONFIG: &str = "cfg.json";
const WEIGHTS: &str = "sae_weights.safetensors";
/// Beside a training checkpoint: the factor of `expected_average_only_in`, if it is not in the weights yet.
const SCALER: &str = "activation_scaler.json";

/// The keys of `cfg.json` that decide what an SAE computes.
#[derive(Deserialize)]
struct Cfg {
    architecture: Option<String>,
    d_in: usize,
    d_sae: usize,
    k: Option<i64>,
    #[serde(default = "yes")]
    apply_b_dec_to_input: bool,
    #[serde(default)]
    normalize_activations: Value,
    reshape_activations: Option<String>,
    #[serde(default)]
    rescale_acts_by_decoder_norm: bool,
    #[serde(default)]
    metadata: Value,
    sae_lens_version: Option<String>,
    // Before version 6; the keys had two names.
    #[serde(default)]
    activation_fn: Value,
    #[serde(default)]
    activation_fn_str: Value,
    #[serde(default)]
    activation_fn_kwargs: Value,
    #[serde(default)]
    finetuning_scaling_factor: Value,
    #[serde(default)]
    hook_point: Value,
    #[serde(default)]
    hook_head_index: Value,
    #[serde(default)]
    hook_point_head_index: Value,
}

fn yes() -> bool {
    true
}

impl Cfg {
    /// Whether the layout is that of a version before 6; SAELens takes a file without a version for one.
    fn is_old(&self) -> bool {
        let version = self.sae_lens_version.as_deref().or_else(|| self.metadata["sae_lens_version"].as_str());
        let major = version.and_then(|v| v.split('.').next()?.parse::<u32>().ok());
        major.is_none_or(|major| major < 6)
    }

    fn architecture(&self, path: &Path) -> Result<&str> {
        let named = self.architecture.as_deref().unwrap_or("standard");
        if !self.is_old() {
            return Ok(named);
        }
        match self.activation_fn_str.as_str().or(self.activation_fn.as_str()) {
            None | Some("relu") => Ok(named),
            Some("topk") if named == "standard" || named == "topk" => Ok("topk"),
            Some(other) => Err(SaeError::config(
                path,
                format!("activation function `{other}` of architecture `{named}` is not supported; relu and topk are"),
            )),
        }
    }

    fn k(&self) -> Option<i64> {
        self.k.or_else(|| self.activation_fn_kwargs["k"].as_i64())
    }

    fn normalization(&self, path: &Path) -> Result<&str> {
        match &self.normalize_activations {
            Value::Null | Value::Bool(false) => Ok("none"),
            Value::Bool(true) => Ok("expected_average_only_in"),
            Value::String(name) => Ok(name),
            other => Err(SaeError::config(path, format!("normalize_activations is {other}; it must be a name"))),
        }
    }

    fn metadata(&self, path: &Path, whole: &Value) -> Result<Metadata> {
        let mut metadata = Metadata::parse(path, if self.metadata.is_null() { whole } else { &self.metadata })?;
        if metadata.hook_name.is_none() {
            metadata.hook_name = self.hook_point.as_str().map(str::to_owned);
        }
        metadata.add_model_kwargs(path, &whole["model_from_pretrained_kwargs"])?;
        Ok(metadata)
    }

    /// Refuses what would make the SAE compute something else.
    fn check(&self, path: &Path, hook: Option<&str>) -> Result<()> {
        let refuse = |why: String| Err(SaeError::config(path, why));
        let reshape = self.reshape_activations.as_deref().unwrap_or("none");
        if reshape != "none" || hook.is_some_and(|hook| hook.ends_with("hook_z")) {
            return refuse(format!(
                "reshape_activations = `{reshape}`: SAEs of attention heads (hook_z) are not supported; those of the residual stream are"
            ));
        }
        let heads = [&self.hook_head_index, &self.hook_point_head_index, &self.metadata["hook_head_index"]];
        if heads.iter().any(|index| index.is_number()) {
            return refuse("hook_head_index: SAEs of a single attention head are not supported".to_owned());
        }
        if self.finetuning_scaling_factor == Value::Bool(true) {
            return refuse(
                "finetuning_scaling_factor changes what the SAE computes and is not supported; multiply each row of W_dec by its factor, \
                 and set it to false"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

pub(super) fn read(dir: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let whole = read_json(&path)?;
    let cfg = Cfg::deserialize(&whole).map_err(|e| SaeError::config(&path, e.to_string()))?;
    let metadata = cfg.metadata(&path, &whole)?;
    cfg.check(&path, metadata.hook_name.as_deref())?;
    let architecture = cfg.architecture(&path)?;
    let (d_model, d_sae) = (cfg.d_in, cfg.d_sae);

    let file = TensorFile::open(&dir.join(WEIGHTS), CONFIG)?;
    let vector = |name| file.floats(name, &[d_sae]);
    let (activation, bias) = match architecture {
        "topk" => {
            let k = checked_k(&path, cfg.k(), d_sae)?;
            (Activation::TopK { k, by_decoder_norm: cfg.rescale_acts_by_decoder_norm }, "b_enc")
        }
        "standard" => (Activation::Relu, "b_enc"),
        "jumprelu" => (Activation::JumpRelu { threshold: vector("threshold")? }, "b_enc"),
        "gated" => (Activation::Gated { r_mag: vector("r_mag")?, b_mag: vector("b_mag")? }, "b_gate"),
        other => return Err(SaeError::config(&path, unsupported(other))),
    };
    if file.has("scaling_factor")? && vector("scaling_factor")?.iter().any(|&factor| factor != 1.0) {
        return Err(SaeError::config(
            &path,
            "the weights have a `scaling_factor` that is not 1, from finetuning, which is not supported",
        ));
    }
    let sae = HostSae {
        d_model,
        d_sae,
        w_enc: file.transposed("W_enc", [d_sae, d_model])?,
        b_enc: vector(bias)?,
        w_dec: file.floats("W_dec", &[d_sae, d_model])?,
        b_dec: file.floats("b_dec", &[d_model])?,
        activation,
        normalization: Normalization::None,
        apply_b_dec_to_input: cfg.apply_b_dec_to_input,
    };
    let mut notes = Vec::new();
    let sae = match cfg.normalization(&path)? {
        "none" => sae,
        "layer_norm" => HostSae { normalization: Normalization::LayerNorm, ..sae },
        "constant_norm_rescale" => HostSae { normalization: Normalization::ConstantNorm, ..sae },
        "expected_average_only_in" => match input_scale(dir)? {
            Some(factor) => sae.folding_input_scale(factor),
            None => {
                notes.push(
                    "normalize_activations = `expected_average_only_in`, but the factor is not stored: nothing is scaled, as in SAELens' \
                     inference. That is right if the factor was folded into the weights; an SAE that was trained on scaled activations and \
                     not folded reconstructs badly."
                        .to_owned(),
                );
                sae
            }
        },
        other => {
            return Err(SaeError::config(
                &path,
                format!(
                    "normalize_activations = `{other}` changes what the SAE computes and is not supported; none, layer_norm, \
                     constant_norm_rescale and expected_average_only_in are"
                ),
            ));
        }
    };
    Ok(Parsed { sae, metadata, notes })
}

/// The factor of a training checkpoint whose activations are scaled outside the weights.
fn input_scale(dir: &Path) -> Result<Option<f64>> {
    let path = dir.join(SCALER);
    if !path.is_file() {
        return Ok(None);
    }
    match &read_json(&path)?["scaling_factor"] {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|v| v.is_finite() && *v > 0.0) {
            Some(factor) => Ok(Some(factor)),
            None => Err(SaeError::config(&path, format!("scaling_factor is {value}; it must be a positive number"))),
        },
    }
}

fn unsupported(architecture: &str) -> String {
    let why = match architecture {
        "batchtopk" | "matryoshka_batchtopk" => {
            "is that of a training checkpoint; SAELens' save_inference_model writes it as jumprelu, which is supported"
        }
        name if name.contains("transcoder") => {
            "is a transcoder: it predicts another activation than the one that it reads, so there is nothing to reconstruct"
        }
        _ => "is not supported; topk, standard, jumprelu and gated are",
    };
    format!("architecture `{architecture}` {why}")
}

pub(super) fn write(dir: &Path, sae: HostSae, metadata: &Metadata, firing_rates: Option<&[f64]>) -> Result<()> {
    let (d_model, d_sae) = (sae.d_model, sae.d_sae);
    let mut cfg = json!({
        "architecture": sae.activation.name(),
        "d_in": d_model,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalization.name(),
        "reshape_activations": "none",
    });
    let mut described = metadata.json();
    for key in ["sae_lens_version", "sae_lens_training_version"] {
        described[key] = json!(VERSION);
    }
    let vector = |values: &[f32]| Array::floats(values, &[d_sae]);
    let mut tensors = vec![
        ("W_enc", Array::floats(&transposed(&sae.w_enc, d_sae, d_model), &[d_model, d_sae])),
        ("W_dec", Array::floats(&sae.w_dec, &[d_sae, d_model])),
        ("b_dec", Array::floats(&sae.b_dec, &[d_model])),
    ];
    let bias = if matches!(sae.activation, Activation::Gated { .. }) { "b_gate" } else { "b_enc" };
    tensors.push((bias, vector(&sae.b_enc)));
    match &sae.activation {
        Activation::TopK { k, by_decoder_norm } => {
            cfg["k"] = json!(k);
            cfg["rescale_acts_by_decoder_norm"] = json!(by_decoder_norm);
        }
        Activation::Relu | Activation::GroupMax { .. } => {}
        Activation::JumpRelu { threshold } => tensors.push(("threshold", vector(threshold))),
        Activation::Gated { r_mag, b_mag } => tensors.extend([("r_mag", vector(r_mag)), ("b_mag", vector(b_mag))]),
    }
    cfg["metadata"] = described;
    write_json(&dir.join(CONFIG), &cfg)?;
    write_tensors(&dir.join(WEIGHTS), tensors, None)?;
    if let Some(rates) = firing_rates {
        // SAELens adds 1e-10 before the logarithm.
        let logs: Vec<f32> = rates.iter().map(|r| (r + 1e-10).log10() as f32).collect();
        write_tensors(&dir.join("sparsity.safetensors"), [("sparsity", vector(&logs))], None)?;
    }
    Ok(())
}
