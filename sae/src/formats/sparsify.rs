//! sparsify (`eai-sparsify`): `cfg.json` and `sae.safetensors`.
//!
//! ```text
//! encoder.weight [d_sae, d_in], encoder.bias [d_sae], W_dec [d_sae, d_in], b_dec [d_in]
//! W_skip [d_in, d_in]                             skip_connection
//! ```
//!
//! b_dec is subtracted from the input, but not by a transcoder (`transcode`), which predicts a module's output from its input and has one
//! width for both. Early versions could choose latents by magnitude (`signed`). The hook is the name of the directory, a module of the Hugging Face model: `layers.3` is
//! the output of block 3. `normalize_decoder`, `multi_topk` and `expansion_factor` with `num_latents` matter in training only.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::json::{Keys, read_json, read_object, write_json};
use super::{Format, HostSae, Metadata, Parsed, checked_k};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::{Array, TensorFile, write_tensors};

const CONFIG: &str = "cfg.json";
/// Where an SAE that is converted keeps the `cfg.json` that sparsify wrote.
const SOURCE: &str = "sparsify";

pub(super) fn read(dir: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let whole = read_object(&path)?;
    let cfg = Keys::new(&path, &whole);
    let refuse = |why: String| Err(SaeError::config(&path, why));
    let is = |key: &str| Ok::<_, SaeError>(cfg.flag(key)? == Some(true));
    let (transcodes, skips, signed) = (is("transcode")?, is("skip_connection")?, is("signed")?);
    if skips && !transcodes {
        return refuse("skip_connection is true and transcode is not: an SAE could copy its input".to_owned());
    }
    let d_model = cfg.size("d_in")?;
    let d_sae = match cfg.count("num_latents")? {
        // sparsify's own default; the weights have the last word.
        None | Some(0) => d_model.saturating_mul(cfg.count("expansion_factor")?.unwrap_or(32)),
        Some(count) => count,
    };
    let k = checked_k(&path, cfg.count("k")?, d_sae)?;
    // The first versions had one activation, and no name for it.
    let activation = match cfg.text("activation")?.unwrap_or("topk") {
        "topk" if signed => Activation::AbsTopK { k, by_decoder_norm: false },
        "topk" => Activation::TopK { k, by_decoder_norm: false },
        "groupmax" if signed => return refuse("signed is true of groupmax, which is not known".to_owned()),
        "groupmax" if d_sae.is_multiple_of(k) => Activation::GroupMax { k },
        "groupmax" => return refuse(format!("groupmax with k {k} needs d_sae to be a multiple of it; it is {d_sae}")),
        other => return refuse(format!("activation `{other}` is not supported; topk and groupmax are")),
    };
    let file = TensorFile::open(&dir.join(Format::Sparsify.weights()), CONFIG)?;
    let sae = HostSae {
        d_in: d_model,
        d_out: d_model,
        d_sae,
        w_enc: file.floats("encoder.weight", &[d_sae, d_model])?,
        b_enc: file.floats("encoder.bias", &[d_sae])?,
        w_dec: file.floats("W_dec", &[d_sae, d_model])?,
        b_dec: file.floats("b_dec", &[d_model])?,
        activation,
        normalization: Normalization::None,
        apply_b_dec_to_input: !transcodes,
        transcoding: if transcodes {
            let skip = if skips { Some(file.floats("W_skip", &[d_model, d_model])?) } else { None };
            Some(Transcoding { skip })
        } else {
            None
        },
    };
    let mut notes = Vec::new();
    let metadata = metadata(dir, &path, &whole, transcodes, &mut notes)?;
    Ok(Parsed { sae, metadata, notes })
}

/// What we wrote into `cfg.json`, or else what the directory's name and the run's `config.json` above it say.
fn metadata(dir: &Path, path: &Path, whole: &Value, transcodes: bool, notes: &mut Vec<String>) -> Result<Metadata> {
    let mut metadata = Metadata::parse(path, &whole["metadata"], notes)?;
    metadata.keep_source(SOURCE, whole);
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let hook_dir = hook_dir(&dir);
    let named = hook_dir.file_name().and_then(|n| n.to_str()).and_then(hook_of_module);
    let (read, predicted) =
        if transcodes { (named.as_deref().and_then(input_of_module), named) } else { (named, None) };
    for (said, named) in [(&mut metadata.hook_name, read), (&mut metadata.hook_name_out, predicted)] {
        match (said, named) {
            (Some(said), Some(named)) if *said != named => notes.push(format!(
                "{} names the hook {said}, the directory's name says {named}; the first is taken",
                path.display()
            )),
            (Some(_), _) => {}
            (said @ None, named) => *said = named,
        }
    }
    let Some(run) = hook_dir.parent().map(|run| run.join("config.json")).filter(|config| config.is_file()) else {
        return Ok(metadata);
    };
    match read_json(&run) {
        Err(error) => notes.push(format!("{error}; what it says of model and text is not known")),
        Ok(config) => {
            let keys = Keys::new(&run, &config);
            let text = |key| keys.text(key).ok().flatten().map(str::to_owned);
            metadata.model_name = metadata.model_name.or_else(|| text("model"));
            metadata.dataset_path = metadata.dataset_path.or_else(|| text("dataset"));
            metadata.context_size = metadata.context_size.or_else(|| keys.count("ctx_len").ok().flatten());
        }
    }
    Ok(metadata)
}

/// The directory that has the hook's name: of runs with several seeds, the one above.
fn hook_dir(dir: &Path) -> &Path {
    let is_seed = |name: &str| name.strip_prefix("seed").is_some_and(|n| n.parse::<u32>().is_ok());
    match dir.file_name().and_then(|n| n.to_str()) {
        Some(name) if is_seed(name) => dir.parent().unwrap_or(dir),
        _ => dir,
    }
}

/// What to do so that sparsify finds the hook of an SAE in `dir`: it reads it from the directory's name alone.
pub(super) fn note_on_place(dir: &Path, metadata: &Metadata) -> Option<String> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = hook_dir(&dir).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let named = hook_of_module(&name);
    let reads = "sparsify takes the hook from the name of the directory";
    // A module is known by what comes out of it.
    match metadata.hook_name_out.as_ref().or(metadata.hook_name.as_ref()) {
        None if named.is_some() => None,
        None => Some(format!("{reads}, and `{name}` names none; call it layers.L for the output of block L")),
        Some(hook) if named.as_ref() == Some(hook) => None,
        Some(hook) => Some(match module_of_hook(hook) {
            Some(module) => format!("{reads}: rename `{name}` to `{module}`, its name for {hook}"),
            None => format!("{reads}, and has no name for {hook}: it can't use this SAE where it belongs"),
        }),
    }
}

/// The inverse of [`hook_of_module`], in GPT-NeoX' spelling.
fn module_of_hook(hook: &str) -> Option<String> {
    let (layer, kind) = hook.strip_prefix("blocks.")?.split_once('.')?;
    let part = match kind {
        "hook_resid_post" => "",
        "hook_mlp_out" => ".mlp",
        "hook_attn_out" => ".attention",
        _ => return None,
    };
    Some(format!("layers.{}{part}", layer.parse::<usize>().ok()?))
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

/// What goes into the module whose output has that name, for which a transcoder of the module was trained.
fn input_of_module(output: &str) -> Option<String> {
    let (block, kind) = output.rsplit_once('.')?;
    let input = match kind {
        "hook_resid_post" => "hook_resid_pre",
        "hook_mlp_out" => "mlp.hook_in",
        _ => return None,
    };
    Some(format!("{block}.{input}"))
}

pub(super) fn write(dir: &Path, sae: HostSae, metadata: &Metadata) -> Result<()> {
    let transcodes = sae.transcoding.is_some();
    let skip = sae.transcoding.clone().and_then(|of| of.skip);
    let sae = sae.folding_decoder_norms().applying_b_dec(!transcodes);
    let (d_model, d_sae) = (sae.d_in, sae.d_sae);
    // Settings of training are those that sparsify trained with, if it did. It drops keys that it doesn't know.
    let mut cfg: Map<String, Value> =
        metadata.other.get(SOURCE).and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in [
        ("expansion_factor", json!((d_sae / d_model.max(1)).max(1))),
        ("normalize_decoder", json!(false)),
        ("multi_topk", json!(false)),
    ] {
        cfg.entry(key).or_insert(value);
    }
    for (key, value) in [
        ("activation", json!(sae.activation.name())),
        ("num_latents", json!(d_sae)),
        ("k", json!(sae.activation.k())),
        ("skip_connection", json!(skip.is_some())),
        ("transcode", json!(transcodes)),
        ("d_in", json!(d_model)),
        ("metadata", metadata.json()),
    ] {
        cfg.insert(key.to_owned(), value);
    }
    write_json(&dir.join(CONFIG), &Value::Object(cfg))?;
    let mut tensors = vec![
        ("encoder.weight", Array::floats(&sae.w_enc, &[d_sae, d_model])),
        ("encoder.bias", Array::floats(&sae.b_enc, &[d_sae])),
        ("W_dec", Array::floats(&sae.w_dec, &[d_sae, d_model])),
        ("b_dec", Array::floats(&sae.b_dec, &[d_model])),
    ];
    tensors.extend(skip.as_ref().map(|skip| ("W_skip", Array::floats(skip, &[d_model, d_model]))));
    write_tensors(&dir.join(Format::Sparsify.weights()), tensors, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_hooks() {
        assert_eq!(hook_of_module("layers.10").as_deref(), Some("blocks.10.hook_resid_post"));
        assert_eq!(hook_of_module("gpt_neox.layers.3.mlp").as_deref(), Some("blocks.3.hook_mlp_out"));
        assert_eq!(hook_of_module("h.0.attn").as_deref(), Some("blocks.0.hook_attn_out"));
        for hook in ["blocks.10.hook_resid_post", "blocks.3.hook_mlp_out", "blocks.0.hook_attn_out"] {
            assert_eq!(module_of_hook(hook).and_then(|module| hook_of_module(&module)).as_deref(), Some(hook));
        }
        for other in ["embed_tokens", "layers.3.mlp.dense_h_to_4h", "layers", "layers.x"] {
            assert_eq!(hook_of_module(other), None, "{other}");
        }
    }
}
