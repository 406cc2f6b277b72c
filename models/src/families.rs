//! Families of decoders, a file each: how its `config.json` says what is computed, and what its tensors are called.
//!
//! The settings follow the configuration classes of transformers (5.17), defaults included. A setting that changes numbers and is not
//! implemented is refused by its key and value.

mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod llama;
mod mistral;
mod names;
mod neox;
mod olmo2;
mod qwen2;
mod qwen3;
mod rope;

use std::path::Path;

use crate::config::{DecoderConfig, Family};
use crate::error::{ModelError, Result};
use crate::files::read_text;
use crate::keys::Keys;

pub(crate) use names::{LayerNames, Names, Qkv};

/// What reads a family's configuration.
type Parser = fn(&Keys) -> Result<DecoderConfig, String>;

/// `model_type`s and what reads them.
const PARSERS: [(&str, Parser); 11] = [
    ("gpt_neox", neox::config),
    ("gpt2", gpt2::config),
    ("llama", llama::config),
    ("mistral", mistral::config),
    ("qwen2", qwen2::config),
    ("qwen3", qwen3::config),
    ("gemma", gemma::config),
    ("gemma2", gemma2::config),
    ("gemma3_text", gemma3::config),
    ("gemma3", gemma3::wrapped_config),
    ("olmo2", olmo2::config),
];

/// `model_type`s, or how they begin, that are known and not supported, with the reason.
const REFUSED: [(&str, &str); 14] = [
    ("mixtral", "a mixture of experts"),
    ("qwen2_moe", "a mixture of experts"),
    ("qwen3_moe", "a mixture of experts"),
    ("olmoe", "a mixture of experts"),
    ("phimoe", "a mixture of experts"),
    ("deepseek", "a mixture of experts with latent attention"),
    ("gpt_oss", "a mixture of experts with attention sinks"),
    ("llama4", "a mixture of experts"),
    ("qwen3_5", "linear attention (gated delta nets) in most layers"),
    ("qwen3_next", "linear attention (gated delta nets) in most layers"),
    ("gemma3n", "layers with embeddings of their own and alternating updates"),
    ("gemma4", "layers of unlike shapes"),
    ("mamba", "no attention"),
    ("rwkv", "no attention"),
];

impl Family {
    /// Its name, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neox => "GPT-NeoX",
            Self::Gpt2 => "GPT-2",
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Qwen3 => "Qwen3",
            Self::Gemma => "Gemma",
            Self::Gemma2 => "Gemma 2",
            Self::Gemma3 => "Gemma 3",
            Self::Olmo2 => "OLMo-2",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl DecoderConfig {
    /// Reads and checks `config.json` in `dir`.
    ///
    /// # Errors
    /// If the file is missing or not JSON, if `model_type` is that of no family here, or if a setting is one that the decoder does not
    /// implement; the message names the key.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = read_text(&path)?;
        parse(&text).map_err(|why| ModelError::Config { path, why })
    }
}

fn parse(text: &str) -> Result<DecoderConfig, String> {
    let keys = Keys::parse(text)?;
    let family = keys.text("model_type")?.ok_or("it has no model_type; is it the config.json of a model?")?;
    refuse(&keys)?;
    if let Some((_, parser)) = PARSERS.iter().find(|(name, _)| *name == family) {
        return parser(&keys);
    }
    let supported = PARSERS.map(|(name, _)| name).join(", ");
    let why = REFUSED.iter().find(|(name, _)| family.starts_with(name)).map(|(_, why)| format!(" (it has {why})"));
    Err(format!("model_type is `{family}`{}, which is not supported; {supported} are", why.unwrap_or_default()))
}

/// Refuses what no family here has: weights that are quantised, and attention to later tokens.
fn refuse(keys: &Keys) -> Result<(), String> {
    if let Some(quantization) = keys.object("quantization_config")? {
        let method = quantization.text("quant_method")?.unwrap_or_else(|| "unnamed".to_owned());
        return Err(format!(
            "quantization_config: weights quantised by `{method}` are not supported; take the checkpoint in bf16 or f16, or a GGUF file"
        ));
    }
    for (key, refused) in [("is_causal", false), ("use_bidirectional_attention", true)] {
        if keys.flag(key)? == Some(refused) {
            return Err(format!("{key} is {refused}; only causal attention is supported"));
        }
    }
    Ok(())
}

/// The number of layers: no more than any model has, since each takes memory before a file is looked at.
fn count_layers(keys: &Keys, key: &str, default: Option<usize>) -> Result<usize, String> {
    const MOST: usize = 10_000;
    match size(keys, key, default)? {
        layers if layers > MOST => Err(format!("{key} is {layers}; at most {MOST} are accepted")),
        layers => Ok(layers),
    }
}

/// The names of a safetensors checkpoint; `contains` says which tensors it has, since there is more than one way to write a prefix.
pub(crate) fn names(config: &DecoderConfig, contains: &dyn Fn(&str) -> bool) -> Names {
    match config.family {
        Family::Neox => neox::names(config, contains),
        Family::Gpt2 => gpt2::names(config, contains),
        Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 => llama::names(config, contains),
        Family::Gemma => gemma::names(config, contains),
        Family::Gemma2 => gemma2::names(config, contains),
        Family::Gemma3 => gemma3::names(config, contains),
        Family::Olmo2 => olmo2::names(config, contains),
    }
}

/// A size that must be there and not be 0, or a default.
fn size(keys: &Keys, key: &str, default: Option<usize>) -> Result<usize, String> {
    match keys.count(key)?.or(default) {
        None => Err(format!("{key} is missing")),
        Some(0) => Err(format!("{key} is 0")),
        Some(value) => Ok(value),
    }
}

/// The value that several spellings of a setting agree on, of those that are there.
fn agreed<T: PartialEq + std::fmt::Display>(
    found: impl IntoIterator<Item = Result<Option<T>, String>>,
    what: &str,
) -> Result<Option<T>, String> {
    let mut agreed: Option<T> = None;
    for value in found {
        match (value?, &agreed) {
            (Some(value), Some(other)) if value != *other => {
                return Err(format!("{what} is given twice, as {other} and as {value}; remove the wrong one"));
            }
            (Some(value), _) => agreed = Some(value),
            (None, _) => {}
        }
    }
    Ok(agreed)
}

#[cfg(test)]
mod tests;
