//! A decoder in words.

use std::path::Path;

use anyhow::Result;
use assay_models::config::{Act, DecoderConfig, Layout, NormKind, QkNorm, Rope, RopeScaling};
use assay_models::summary::Summary;
use assay_models::vocabulary::Vocabulary;

use super::Facts;

/// What is known of a model without its weights; gives the notes that belong to it.
pub(super) fn model(path: &Path, facts: &mut Facts) -> Result<Vec<String>> {
    let found = Summary::of(path)?;
    let config = &found.config;
    facts.add("kind", format!("model, {}{}", config.family, if path.is_file() { ", in GGUF" } else { "" }));
    facts.add("d_model", config.d_model);
    facts.add("layers", config.n_layers());
    facts.add("heads", config.attention.n_heads);
    facts.add("key-value heads", config.attention.n_kv_heads);
    facts.add("dimensions per head", config.attention.d_head);
    facts.add("d_mlp", config.mlp.d_mlp);
    facts.add("vocabulary", config.vocab_size);
    facts.add("longest context", config.max_positions);
    facts.add("parameters", found.parameters);
    facts.add("bytes of weights", found.bytes);
    facts.add("dtype", found.dtypes.join(", "));
    facts.add("bytes of CPU memory", found.cpu_memory);
    facts.add("bytes of GPU memory", found.gpu_memory);
    facts.add("unembedding", if found.is_tied { "the embedding" } else { "a matrix of its own" });
    facts.add("residual", if config.layout == Layout::Parallel { "parallel" } else { "sequential" });
    facts.add("norms", norms(config));
    facts.add("MLP", mlp(config));
    facts.add("positions", positions(config));
    if let [rope, rest @ ..] = config.ropes.as_slice()
        && rest.iter().all(|other| other.dims == rope.dims)
    {
        facts.add("rotary dimensions per head", rope.dims);
    }
    if let Some(windows) = windows(config) {
        facts.add("attention window", windows);
    }
    if let Some(caps) = caps(config) {
        facts.add("soft caps", caps);
    }
    if config.ends.embed_scale != 1.0 {
        facts.add("embedding multiplied by", config.ends.embed_scale);
    }
    let mut notes = found.notes();
    match Vocabulary::load(path) {
        Ok(vocabulary) => {
            let bos = vocabulary.bos().map(|bos| format!("token {bos}, {}, begins texts", vocabulary.text(bos)));
            facts.add("tokenizer", vocabulary.kind());
            facts.add("BOS", bos.unwrap_or_else(|| "not used".to_owned()));
        }
        Err(error) => {
            facts.add("tokenizer", "none");
            // One that is not there is nothing to talk about; one that can't be read is.
            let is_there = path.is_file() || path.join("tokenizer.json").exists();
            notes.extend(is_there.then(|| error.to_string()));
        }
    }
    facts.add("hooks", format!("blocks.0.hook_resid_post … blocks.{}.hook_resid_post", config.n_layers() - 1));
    let hash = found.weights_hash.as_ref().map(|hash| &hash[..16]);
    facts.add("BLAKE3 of configuration and weights", hash);
    Ok(notes)
}

/// `RMSNorm before attention and MLP, and of queries and keys`.
fn norms(config: &DecoderConfig) -> String {
    let kind = match config.norm.kind {
        NormKind::Layer => "LayerNorm",
        NormKind::Rms => "RMSNorm",
    };
    let place = match config.layout {
        Layout::PreNorm | Layout::Parallel => "before",
        Layout::PreAndPostNorm => "before and after",
        Layout::PostNorm => "after",
    };
    let more = if config.attention.qk_norm == QkNorm::None { "" } else { ", and of queries and keys" };
    format!("{kind} {place} attention and MLP{more}")
}

fn mlp(config: &DecoderConfig) -> String {
    let act = match config.mlp.act {
        Act::Gelu => "GELU",
        Act::GeluTanh => "GELU (tanh)",
        Act::Relu => "ReLU",
        Act::Silu => "SiLU",
    };
    if config.mlp.gated { format!("gated, {act}") } else { act.to_owned() }
}

/// Every rotary embedding, with its layers where there are several.
fn positions(config: &DecoderConfig) -> String {
    if config.ends.learned_positions {
        return "learned".to_owned();
    }
    let of = |index: usize, rope: &Rope| {
        let layers = config.layers.iter().filter(|layer| layer.rope == Some(index)).count();
        let share = if config.ropes.len() == 1 { String::new() } else { format!(" in {}", count(layers, config)) };
        format!("θ {}{}{share}", rope.theta, scaling(&rope.scaling))
    };
    let ropes: Vec<String> = config.ropes.iter().enumerate().map(|(index, rope)| of(index, rope)).collect();
    if ropes.is_empty() { "none".to_owned() } else { format!("rotary, {}", ropes.join("; ")) }
}

fn scaling(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::Default => String::new(),
        RopeScaling::Linear { factor } => format!(", linear scaling by {factor}"),
        RopeScaling::Llama3 { factor, original, .. } => format!(", llama3 scaling by {factor} from {original} tokens"),
        RopeScaling::Yarn { factor, original, .. } => format!(", yarn scaling by {factor} from {original} tokens"),
        RopeScaling::LongRope { original, .. } => format!(", longrope scaling from {original} tokens"),
        RopeScaling::Divisors(_) => ", each frequency scaled by its own factor".to_owned(),
    }
}

/// `512 tokens in 15 of 18 layers`; `None` where every layer sees all.
fn windows(config: &DecoderConfig) -> Option<String> {
    let mut sizes: Vec<usize> = config.layers.iter().filter_map(|layer| layer.window).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let of = |size: usize| {
        let layers = config.layers.iter().filter(|layer| layer.window == Some(size)).count();
        format!("{size} tokens in {}", count(layers, config))
    };
    (!sizes.is_empty()).then(|| sizes.into_iter().map(of).collect::<Vec<_>>().join("; "))
}

fn count(layers: usize, config: &DecoderConfig) -> String {
    if layers == config.n_layers() {
        "all layers".to_owned()
    } else {
        format!("{layers} of {} layers", config.n_layers())
    }
}

fn caps(config: &DecoderConfig) -> Option<String> {
    let named = [("attention scores", config.attention.score_cap), ("logits", config.ends.logit_cap)];
    let caps: Vec<String> = named.iter().filter_map(|(what, cap)| cap.map(|cap| format!("{what} {cap}"))).collect();
    (!caps.is_empty()).then(|| caps.join(", "))
}

#[cfg(test)]
mod tests {
    use assay_models::ModelFiles;

    use super::*;

    fn config(family: &str) -> DecoderConfig {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families").join(family);
        ModelFiles::open(&dir).unwrap().config().clone()
    }

    #[test]
    fn families_are_told_apart() {
        let gpt2 = config("gpt2");
        assert_eq!((positions(&gpt2).as_str(), mlp(&gpt2).as_str()), ("learned", "GELU (tanh)"));
        let gemma = config("gemma2");
        assert_eq!(norms(&gemma), "RMSNorm before and after attention and MLP");
        assert_eq!((windows(&gemma).is_some(), caps(&gemma).is_some()), (true, true));
        let gemma = config("gemma3");
        assert_eq!(norms(&gemma), "RMSNorm before and after attention and MLP, and of queries and keys");
        let (places, windows) = (positions(&gemma), windows(&gemma).unwrap());
        assert_eq!(places.matches("θ").count(), 2, "{places}");
        assert!(windows.contains(" of ") && places.contains(" of "), "{places}, {windows}");
        let olmo = config("olmo2");
        assert_eq!(norms(&olmo), "RMSNorm after attention and MLP, and of queries and keys");
        assert!(positions(&config("llama-gqa-llama3-rope")).contains("llama3 scaling by"));
    }
}
