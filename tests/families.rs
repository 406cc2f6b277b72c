//! Every family of decoders against transformers, and their checkpoints as others write them.

use std::path::{Path, PathBuf};

use assay_models::decoder::Buffers;
use assay_models::loss::{loss_gradient, scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, HookKind, HookPoint, Site};
use burn::tensor::Tensor;
use serde_json::{Value, json};

use crate::common::{Reference, assert_close, copy_dir, device, edit_tensors, golden, rel_error, values};

const TOLERANCE: f64 = 1e-5;

/// The tolerance of a gradient. The references are transformers' in float32, and that of `gpt2-noscale`, whose scores are not scaled down, is
/// 8.6e-6 away from the same model's in float64: what is 1e-5 away from it may be right. All others keep [`TOLERANCE`].
fn gradient_tolerance(name: &str) -> f64 {
    if name.starts_with("gpt2-noscale") { 2e-5 } else { TOLERANCE }
}

/// Every family against transformers: logits, losses, each hook's activation and the gradient at each layer. With
/// `ASSAY_GOLDEN_FAMILIES` another directory of such models, made by `tests/golden/scripts/make_golden_families.py`.
#[test]
fn families_agree_with_transformers() {
    for dir in families() {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let buffers = buffers_of(&dir);
        let load = || Decoder::load(&dir, &device()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let model = || load().with_buffers(buffers);
        family_agrees(&model(), &dir, &name);
        family_agrees(&model().with_pinned_products(), &dir, &format!("{name}, pinned"));
    }
}

/// Whether transformers' values are those of a model that was cast to two bytes as a whole, rotary frequencies and all, as
/// `make_golden_families.py` casts those that it stores so (but for `gemma3-bf16`), or of one that was loaded.
fn buffers_of(dir: &Path) -> Buffers {
    let config: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let cast = match config["dtype"].as_str() {
        Some("bfloat16") => Buffers::Bf16,
        Some("float16") => Buffers::F16,
        _ => return Buffers::F32,
    };
    let expected = Reference::open(dir.join("expected.safetensors"));
    let model = Decoder::load(dir, &device()).unwrap();
    let logits = values(model.forward(expected.tokens("tokens").view()).unwrap());
    let is_exact = rel_error(&logits, &expected.floats("logits").0) <= TOLERANCE;
    assert!(is_exact || !dir.ends_with("gemma3-bf16"), "what is loaded is not rounded");
    if is_exact { Buffers::F32 } else { cast }
}

/// The models of a directory, each with what transformers computes.
pub fn families() -> Vec<PathBuf> {
    let dir = std::env::var_os("ASSAY_GOLDEN_FAMILIES").map_or_else(|| golden("families"), PathBuf::from);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("expected.safetensors").is_file());
    assert!(!found.is_empty(), "{} holds no models", dir.display());
    found.sort();
    found
}

/// A model against the values of a directory.
pub fn family_agrees(model: &Decoder, dir: &Path, name: &str) {
    let expected = Reference::open(dir.join("expected.safetensors"));
    let tokens = expected.tokens("tokens");
    let logits = model.forward(tokens.view()).unwrap();
    let within = |what: &str, found: Tensor<3>, reference: &str, tolerance: f64| {
        assert_close(&format!("{name}: {what}"), &values(found), &expected.floats(reference).0, tolerance);
    };
    let close = |what: &str, found, reference: &str| within(what, found, reference, TOLERANCE);
    close("logits", logits.clone(), "logits");
    let ce = token_cross_entropy(scored_log_probs(logits), tokens.view(), &device());
    assert_close(&format!("{name}: ce"), &values(ce), &expected.floats("ce").0, TOLERANCE);
    let config = model.config();
    let kinds = [HookKind::ResidPre, HookKind::AttnOut, HookKind::ResidMid, HookKind::MlpOut, HookKind::ResidPost];
    let hooks = (0..config.n_layers()).flat_map(|layer| kinds.map(|kind| HookPoint { layer, kind }));
    let sites: Vec<Site> = hooks.filter(|hook| hook.check(config).is_ok()).map(Site::from).collect();
    for cut in model.cut(tokens.view(), &sites).unwrap() {
        let hook = cut.site().hook;
        close(&hook.to_string(), cut.value(), &format!("{}.{}", hook.kind.short_name(), hook.layer));
        close(&format!("logits from {hook}"), model.forward_from(&cut, cut.value()), "logits");
        if hook.kind == HookKind::ResidPost {
            let gradient = loss_gradient(model, &cut, tokens.view());
            let reference = format!("grad_resid_post.{}", hook.layer);
            within(&format!("gradient at {hook}"), gradient, &reference, gradient_tolerance(name));
        }
    }
}

/// A golden family's model, changed, must give the logits of the one that it was made from.
fn gives_the_same(name: &str, what: &str, change: impl Fn(&Path, &mut Value)) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("model");
    let original = golden("families").join(name);
    copy_dir(&original, &copy);
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(copy.join("config.json")).unwrap()).unwrap();
    change(&copy, &mut config);
    std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
    let tokens = Reference::open(original.join("expected.safetensors")).tokens("tokens");
    let logits = |dir: &Path| {
        let model = Decoder::load(dir, &device()).unwrap_or_else(|error| panic!("{name}, {what}: {error}"));
        values(model.forward(tokens.view()).unwrap())
    };
    assert!(logits(&copy) == logits(&original), "{name}, {what}");
}

/// The tensors of a checkpoint under other names.
fn rename(dir: &Path, new_name: impl Fn(&str) -> String) {
    edit_tensors(&dir.join("model.safetensors"), |tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (new_name(&name), tensor)).collect();
    });
}

#[test]
fn checkpoints_are_read_as_others_write_them() {
    gives_the_same("gpt2", "without a prefix, with masks", |dir, config| {
        rename(dir, |name| name.trim_start_matches("transformer.").to_owned());
        edit_tensors(&dir.join("model.safetensors"), |tensors| {
            let mask = tensors["ln_f.bias"].clone();
            tensors.insert("h.0.attn.bias".to_owned(), mask.clone());
            tensors.insert("h.0.attn.masked_bias".to_owned(), mask);
        });
        config["n_inner"] = json!(128);
    });
    for prefix in ["language_model.model.", "model.language_model."] {
        gives_the_same("gemma3", "in the multimodal wrapper", |dir, config| {
            rename(dir, |name| name.replacen("model.", prefix, 1));
            edit_tensors(&dir.join("model.safetensors"), |tensors| {
                let other = tensors[&format!("{prefix}norm.weight")].clone();
                tensors.insert("vision_tower.embeddings.weight".to_owned(), other.clone());
                tensors.insert("multi_modal_projector.norm.weight".to_owned(), other);
            });
            // Old spellings, and what the class has by default left out.
            let text = config.as_object_mut().unwrap();
            for key in ["rope_parameters", "layer_types", "hidden_activation", "tie_word_embeddings", "rms_norm_eps"] {
                text.remove(key);
            }
            text.insert("rope_theta".to_owned(), json!(1e6));
            text.insert("rope_local_base_freq".to_owned(), json!(10_000));
            *config = json!({ "model_type": "gemma3", "eos_token_id": [1, 106], "text_config": config.clone() });
        });
    }
    gives_the_same("llama-gqa-llama3-rope", "rope_scaling, null and lists", |dir, config| {
        let mut rope = config["rope_parameters"].take();
        config["rope_theta"] = rope.as_object_mut().unwrap().remove("rope_theta").unwrap();
        config["rope_scaling"] = rope;
        config["eos_token_id"] = json!([128_001, 128_009]);
        config["head_dim"] = Value::Null; // which is 32 / 4
        edit_tensors(&dir.join("model.safetensors"), |tensors| {
            let table = tensors["model.norm.weight"].clone();
            tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), table);
        });
    });
    gives_the_same("llama-tied-bf16", "with a copy of the embedding", |dir, _| {
        edit_tensors(&dir.join("model.safetensors"), |tensors| {
            let embedding = tensors["model.embed_tokens.weight"].clone();
            tensors.insert("lm_head.weight".to_owned(), embedding);
        });
    });
    gives_the_same("mistral-window", "without the head's prefix", |dir, config| {
        rename(dir, |name| name.trim_start_matches("model.").to_owned());
        config["rope_scaling"] = Value::Null;
    });
}

/// Centring is for models whose every reader takes the mean out.
#[test]
fn only_layer_norms_take_centring() {
    let open = |name: &str| Decoder::load(&golden("families").join(name), &device()).unwrap();
    let site = Site { center: true, ..HookPoint::resid_post(1).into() };
    assert!(site.check(open("gpt2").config()).is_ok());
    let error = site.check(open("qwen3").config()).unwrap_err().to_string();
    assert!(error.contains("RMSNorm"), "{error}");
    // Heads that are together wider than the residual stream.
    let model = open("gemma2");
    let z = HookPoint { layer: 0, kind: HookKind::Z };
    assert_eq!((z.width(model.config()), HookPoint::resid_post(0).width(model.config())), (64, 32));
}
