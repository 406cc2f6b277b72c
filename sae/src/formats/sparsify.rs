//! sparsify (`eai-sparsify`): `cfg.json` and `sae.safetensors`.
//!
//! ```text
//! encoder.weight [d_sae, d_in], encoder.bias [d_sae], W_dec [d_sae, d_in], b_dec [d_in]
//! ```
//!
//! b_dec is subtracted from the input. The hook is the name of the directory, a module of the Hugging Face model: `layers.3` is
//! the output of block 3. `normalize_decoder`, `multi_topk` and `expansion_factor` with `num_latents` matter in training only.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{HostSae, Metadata, Parsed, checked_k, read_json, write_json};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::tensors::{Array, TensorFile, write_tensors};

const CONFIG: &str = "cfg.json";
const WEIGHTS: &str = "sae.safetensors";

#[derive(Deserialize)]
struct Cfg {
    d_in: usize,
    #[serde(default = "topk")]
    activation: String,
    #[serde(default = "thirty_two")]
    expansion_factor: usize,
    #[serde(default)]
    num_latents: usize,
    k: Option<i64>,
    #[serde(default)]
    skip_connection: bool,
    #[serde(default)]
    transcode: bool,
    #[serde(default)]
    signed: bool,
    /// Ours.
    #[serde(default)]
    metadata: Value,
}

fn topk() -> String {
    "topk".to_owned()
}

fn thirty_two() -> usize {
    32
}

pub(super) fn read(dir: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let cfg = Cfg::deserialize(&read_json(&path)?).map_err(|e| SaeError::config(&path, e.to_string()))?;
    let refuse = |why: String| Err(SaeError::config(&path, why));
    for (key, set) in [("transcode", cfg.transcode), ("skip_connection", cfg.skip_connection)] {
        if set {
            return refuse(format!(
                "{key} is true: a transcoder predicts another activation than the one that it reads, so there is nothing to reconstruct"
            ));
        }
    }
    if cfg.signed {
        return refuse("signed is true: selection by magnitude, negative latents kept, is not supported".to_owned());
    }
    let d_model = cfg.d_in;
    let d_sae = if cfg.num_latents > 0 { cfg.num_latents } else { d_model * cfg.expansion_factor };
    let k = checked_k(&path, cfg.k, d_sae)?;
    let activation = match cfg.activation.as_str() {
        "topk" => Activation::TopK { k, by_decoder_norm: false },
        "groupmax" if d_sae.is_multiple_of(k) => Activation::GroupMax { k },
        "groupmax" => return refuse(format!("groupmax with k {k} needs d_sae to be a multiple of it; it is {d_sae}")),
        other => return refuse(format!("activation `{other}` is not supported; topk and groupmax are")),
    };
    let file = TensorFile::open(&dir.join(WEIGHTS), CONFIG)?;
    let sae = HostSae {
        d_model,
        d_sae,
        w_enc: file.floats("encoder.weight", &[d_sae, d_model])?,
        b_enc: file.floats("encoder.bias", &[d_sae])?,
        w_dec: file.floats("W_dec", &[d_sae, d_model])?,
        b_dec: file.floats("b_dec", &[d_model])?,
        activation,
        normalization: Normalization::None,
        apply_b_dec_to_input: true,
    };
    Ok(Parsed { sae, metadata: metadata(dir, &path, &cfg.metadata)?, notes: Vec::new() })
}

/// What we wrote into `cfg.json`, or else what the directory's name and the run's `config.json` above it say.
fn metadata(dir: &Path, path: &Path, own: &Value) -> Result<Metadata> {
    let mut metadata = Metadata::parse(path, own)?;
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // Runs with several seeds have a directory for each below the hook's.
    let is_seed = |name: &str| name.strip_prefix("seed").is_some_and(|n| n.parse::<u32>().is_ok());
    let hook_dir = match dir.file_name().and_then(|n| n.to_str()) {
        Some(name) if is_seed(name) => dir.parent().unwrap_or(&dir),
        _ => &dir,
    };
    if metadata.hook_name.is_none() {
        metadata.hook_name = hook_dir.file_name().and_then(|n| n.to_str()).and_then(hook_of_module);
    }
    let run = hook_dir.parent().map(|run| run.join("config.json")).filter(|config| config.is_file());
    if let Some(run) = run.and_then(|run| read_json(&run).ok()) {
        let text = |key: &str| run[key].as_str().map(str::to_owned);
        metadata.model_name = metadata.model_name.or_else(|| text("model"));
        metadata.dataset_path = metadata.dataset_path.or_else(|| text("dataset"));
        metadata.context_size = metadata.context_size.or_else(|| run["ctx_len"].as_u64().map(|n| n as usize));
    }
    Ok(metadata)
}

/// TransformerLens' name for the output of a module of the Hugging Face model.
fn hook_of_module(module: &str) -> Option<String> {
    let mut parts = module.split('.').skip_while(|part| *part != "layers" && *part != "h").skip(1);
    let layer: usize = parts.next()?.parse().ok()?;
    let kind = match parts.collect::<Vec<_>>()[..] {
        [] => "hook_resid_post",
        ["mlp"] => "hook_mlp_out",
        ["attention" | "attn" | "self_attn"] => "hook_attn_out",
        _ => return None,
    };
    Some(format!("blocks.{layer}.{kind}"))
}

pub(super) fn write(dir: &Path, sae: HostSae, metadata: &Metadata) -> Result<()> {
    let sae = sae.folding_decoder_norms().applying_b_dec(true);
    let (d_model, d_sae) = (sae.d_model, sae.d_sae);
    let cfg = json!({
        "activation": sae.activation.name(),
        "expansion_factor": (d_sae / d_model.max(1)).max(1),
        "normalize_decoder": false,
        "num_latents": d_sae,
        "k": sae.activation.k(),
        "multi_topk": false,
        "skip_connection": false,
        "transcode": false,
        "d_in": d_model,
        // sparsify drops keys that it doesn't know.
        "metadata": metadata.json(),
    });
    write_json(&dir.join(CONFIG), &cfg)?;
    let tensors = [
        ("encoder.weight", Array::floats(&sae.w_enc, &[d_sae, d_model])),
        ("encoder.bias", Array::floats(&sae.b_enc, &[d_sae])),
        ("W_dec", Array::floats(&sae.w_dec, &[d_sae, d_model])),
        ("b_dec", Array::floats(&sae.b_dec, &[d_model])),
    ];
    write_tensors(&dir.join(WEIGHTS), tensors, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_hooks() {
        assert_eq!(hook_of_module("layers.10").as_deref(), Some("blocks.10.hook_resid_post"));
        assert_eq!(hook_of_module("gpt_neox.layers.3.mlp").as_deref(), Some("blocks.3.hook_mlp_out"));
        assert_eq!(hook_of_module("h.0.attn").as_deref(), Some("blocks.0.hook_attn_out"));
        for other in ["embed_tokens", "layers.3.mlp.dense_h_to_4h", "layers", "layers.x"] {
            assert_eq!(hook_of_module(other), None, "{other}");
        }
    }
}
