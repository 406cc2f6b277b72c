//! Gemma Scope 2 (Google DeepMind, 2025): `params.safetensors`, and `config.json` where a repository has it.
//!
//! ```text
//! w_enc [d_in, d_sae], w_dec [d_sae, d_out], b_enc [d_sae], b_dec [d_out], threshold [d_sae]
//! affine_skip_connection [d_in, d_out]            affine transcoders
//! ```
//!
//! JumpReLU; b_dec is not subtracted from the input. Hooks are those that `config.json` names, modules of the Hugging Face model, and else
//! those of the directory, `resid_post/layer_5_width_16k_l0_small`; the model is that of `config.json`, else of the repository,
//! `google/gemma-scope-2-270m-pt`.
//!
//! Of a cross-layer transcoder each layer is a file, `clt/…/params_layer_5.safetensors`, whose w_dec is [d_sae, layers, d_out]. As an MLP is
//! predicted by the latents of all layers before it, one file reconstructs nothing: its encoder is read, without a decoder (d_out is 0).
//! (SAELens adds up the decoders, and names the layout: pretrained_sae_loaders.py, gemma_3_sae_huggingface_loader.)
//!
//! A transcoder reads the output of the norm before the MLP, with its gain, and predicts that of the norm behind it. (SAELens calls the first
//! `hook_mlp_in`, which in TransformerLens is the stream before the norm.)

use std::path::Path;

use serde_json::Value;

use super::json::{Keys, read_object};
use super::origin::{Origin, number_after};
use super::{HostSae, Metadata, ONE_LAYER, Parsed};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::{TensorFile, transposed};

const CONFIG: &str = "config.json";
/// The tensor of an affine transcoder.
const AFFINE: &str = "affine_skip_connection";

/// The layer of a cross-layer transcoder that a file has.
pub(super) fn layer_of(file: &Path) -> Option<usize> {
    let layer = number_after(file.file_name()?.to_str()?.strip_suffix(".safetensors")?, "layer_")?;
    Origin::of(file).part(|part| is_cross_layer(part).then_some(layer))
}

fn is_cross_layer(directory: &str) -> bool {
    directory == "clt" || directory.starts_with("clt_")
}

pub(super) fn read(dir: &Path, weights: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let config = if path.is_file() { read_object(&path)? } else { Value::Null };
    let keys = Keys::new(&path, &config);
    let file = TensorFile::open(weights, "its layout")?;
    if let Some(other) = keys.text("architecture")?.filter(|name| *name != "jump_relu") {
        return Err(SaeError::config(&path, format!("architecture `{other}` is not supported; jump_relu is")));
    }
    if file.shape("w_enc")?.len() != 2 {
        return Err(SaeError::config(weights, "its encoder reads several places: crosscoders are not supported"));
    }
    let [d_in, d_sae] = file.matrix_shape("w_enc")?;
    let crosses = file.shape("w_dec")?.len() == 3;
    let d_out = if crosses { 0 } else { file.matrix_shape("w_dec")?[1] };
    let origin = Origin::of(weights);
    let mut notes = Vec::new();
    let hooks = Hooks::of(keys, &origin, &mut notes)?;
    let kind = keys.text("type")?;
    let has_affine = file.has(AFFINE);
    let affine = has_affine && !crosses;
    if let Some(said) = keys.flag("affine_connection")?.filter(|said| *said != has_affine) {
        let has = if has_affine { "have" } else { "lack" };
        return Err(SaeError::config(&path, format!("affine_connection is {said}, but the weights {has} `{AFFINE}`")));
    }
    if let Some(said) = keys.count("width")?.filter(|said| *said != d_sae) {
        notes.push(format!("{} names a width of {said}; the weights have {d_sae} latents", path.display()));
    }
    let predicts = affine || d_in != d_out || kind == Some("transcoder") || hooks.output.is_some();
    let skip = if affine { Some(transposed(&file.floats(AFFINE, &[d_in, d_out])?, d_in, d_out)) } else { None };
    let sae = HostSae {
        d_in,
        d_out,
        d_sae,
        w_enc: file.transposed("w_enc", [d_sae, d_in])?,
        b_enc: file.floats("b_enc", &[d_sae])?,
        w_dec: if crosses { Vec::new() } else { file.floats("w_dec", &[d_sae, d_out])? },
        b_dec: if crosses { Vec::new() } else { file.floats("b_dec", &[d_out])? },
        activation: Activation::JumpRelu { threshold: file.floats("threshold", &[d_sae])? },
        normalization: Normalization::None,
        apply_b_dec_to_input: false,
        transcoding: predicts.then_some(Transcoding { skip }),
    };
    if crosses {
        notes.push(ONE_LAYER.to_owned());
    }
    if hooks.input.is_none() {
        notes.push(
            "neither a config.json nor its path (as resid_post/layer_5_width_16k_l0_small) names the hook".to_owned(),
        );
    }
    let mut metadata = Metadata {
        model_name: keys.text("model_name")?.map(model_name).or_else(|| origin.repository(model_of_repository)),
        hook_name: hooks.input,
        hook_name_out: hooks.output,
        ..Metadata::default()
    };
    if config.is_object() {
        metadata.keep_source("gemma_scope_2", &config);
    }
    Ok(Parsed { sae, metadata, notes })
}

/// What is read, and of a transcoder what is predicted, as TransformerLens calls it.
struct Hooks {
    input: Option<String>,
    output: Option<String>,
}

impl Hooks {
    fn of(keys: Keys<'_>, origin: &Origin, notes: &mut Vec<String>) -> Result<Self> {
        let mut named = |key: &str| -> Result<Option<String>> {
            let Some(module) = keys.text(key)? else { return Ok(None) };
            let hook = hook_of_module(module);
            if hook.is_none() {
                notes.push(format!("{key} is {module}, which has no name here"));
            }
            Ok(hook)
        };
        let (input, output) = (named("hf_hook_point_in")?, named("hf_hook_point_out")?);
        let [by_path, by_path_out] = Self::by_path(origin);
        if let Some((named, by_path)) = input.as_ref().zip(by_path.as_ref()).filter(|(named, by_path)| named != by_path)
        {
            notes.push(format!("its config.json names the hook {named}, its path {by_path}; the first is taken"));
        }
        let is_named = keys.get("hf_hook_point_in").is_some();
        let input = if is_named { input } else { by_path };
        let output = if is_named { output } else { by_path_out };
        // SAEs name their own place as the one that they write to.
        Ok(Self { output: output.filter(|output| Some(output) != input.as_ref()), input })
    }

    fn by_path(origin: &Origin) -> [Option<String>; 2] {
        let site = origin.part(|part| {
            let part = if is_cross_layer(part) { "transcoder" } else { part };
            let part = part.strip_suffix("_all").unwrap_or(part);
            [
                ("resid_post", ["hook_resid_post", ""]),
                ("attn_out", ["attn.hook_z", ""]),
                ("mlp_out", ["hook_mlp_out", ""]),
                ("transcoder", ["mlp.hook_in", "hook_mlp_out"]),
            ]
            .into_iter()
            .find_map(|(name, hooks)| (name == part).then_some(hooks))
        });
        let Some((site, layer)) = site.zip(origin.layer()) else { return [None, None] };
        site.map(|hook| (!hook.is_empty()).then(|| format!("blocks.{layer}.{hook}")))
    }
}

/// TransformerLens' name for what goes in or out of a module of Gemma 3.
pub(super) fn hook_of_module(module: &str) -> Option<String> {
    let layer = number_after(module, "layers.")?;
    let (_, inside) = module.split_once(&format!("layers.{layer}."))?;
    let kind = match inside {
        "output" => "hook_resid_post",
        "self_attn.o_proj.input" => "attn.hook_z",
        "pre_feedforward_layernorm.output" => "mlp.hook_in",
        "post_feedforward_layernorm.output" => "hook_mlp_out",
        _ => return None,
    };
    Some(format!("blocks.{layer}.{kind}"))
}

/// The hub's name of the model that a configuration names, as `gemma-v3-270m-pt`.
fn model_name(said: &str) -> String {
    let name = said.strip_prefix("google/").unwrap_or(said).replace("-v3", "-3");
    // Of this size the pretrained model has no suffix.
    let name = if name == "gemma-3-270m-pt" { "gemma-3-270m" } else { &name };
    format!("google/{name}")
}

/// The model of a repository like `gemma-scope-2-270m-pt`.
fn model_of_repository(name: &str) -> Option<String> {
    let rest = name.strip_prefix("gemma-scope-2-")?;
    let (size, tuning) = rest.split_once('-')?;
    let known = ["270m", "1b", "4b", "12b", "27b"].contains(&size) && ["pt", "it"].contains(&tuning);
    known.then(|| model_name(&format!("gemma-3-{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_paths_are_hooks() {
        for (module, hook) in [
            ("model.layers.5.output", "blocks.5.hook_resid_post"),
            ("model.layers.11.self_attn.o_proj.input", "blocks.11.attn.hook_z"),
            ("model.language_model.layers.1.pre_feedforward_layernorm.output", "blocks.1.mlp.hook_in"),
            ("model.layers.0.post_feedforward_layernorm.output", "blocks.0.hook_mlp_out"),
        ] {
            assert_eq!(hook_of_module(module).as_deref(), Some(hook));
        }
        for other in ["model.layers.5.self_attn.o_proj.output", "model.norm.output", "model.layers.x.output"] {
            assert_eq!(hook_of_module(other), None, "{other}");
        }
        let by_path = |path: &str| Hooks::by_path(&Origin::of(Path::new(path)));
        let hook = |name: &str| Some(name.to_owned());
        assert_eq!(by_path("/r/resid_post/layer_5_width_16k_l0_small"), [hook("blocks.5.hook_resid_post"), None]);
        assert_eq!(by_path("/r/attn_out_all/layer_17_width_16k_l0_big"), [hook("blocks.17.attn.hook_z"), None]);
        assert_eq!(
            by_path("/r/transcoder_all/layer_3_width_262k_l0_small_affine"),
            [hook("blocks.3.mlp.hook_in"), hook("blocks.3.hook_mlp_out")]
        );
        assert_eq!(
            by_path("/r/clt/width_262k_l0_small/params_layer_3.safetensors"),
            [hook("blocks.3.mlp.hook_in"), hook("blocks.3.hook_mlp_out")]
        );
        assert_eq!(by_path("/r/crosscoder/layer_3"), [None, None]);
    }

    #[test]
    fn models_have_their_names_on_the_hub() {
        assert_eq!(model_name("gemma-v3-270m-pt"), "google/gemma-3-270m");
        assert_eq!(model_name("google/gemma-3-1b-it"), "google/gemma-3-1b-it");
        assert_eq!(model_of_repository("gemma-scope-2-270m-pt").as_deref(), Some("google/gemma-3-270m"));
        assert_eq!(model_of_repository("gemma-scope-2-27b-it").as_deref(), Some("google/gemma-3-27b-it"));
        assert_eq!(model_of_repository("gemma-scope-2b-pt-res"), None);
    }
}
