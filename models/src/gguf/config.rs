//! The decoder that a GGUF file describes.
//!
//! Its keys are those that llama.cpp's converter writes (`conversion/*.py`); what it does not write is as llama.cpp takes it for
//! the architecture (`load_hparams` in `src/llama-model.cpp`), but for the activation function of GPT-NeoX, for which llama.cpp
//! takes the tanh formula and the models were trained with the exact one. Whether there are biases, and an unembedding of its
//! own, is told by the tensors.

use super::Gguf;
use super::rope::Ropes;
use crate::config::{Act, Attention, DecoderConfig, Ends, Family, LayerKind, Layout, Mlp, Norm, NormKind, QkNorm};
use crate::error::Result;

/// Architectures that are read (`general.architecture`).
const ARCHITECTURES: [(&str, Family); 9] = [
    // Mistral and SmolLM2 too.
    ("llama", Family::Llama),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("gemma", Family::Gemma),
    ("gemma2", Family::Gemma2),
    ("gemma3", Family::Gemma3),
    ("gpt2", Family::Gpt2),
    ("gptneox", Family::Neox),
    ("olmo2", Family::Olmo2),
];

/// Keys that change what is computed in a way that is not implemented, and what they stand for.
const REFUSED: [(&str, &str); 8] = [
    ("expert_count", "a mixture of experts"),
    ("attention.scale", "a scale of attention scores"),
    ("attention.clamp_kqv", "a clamp on queries, keys and values"),
    ("attention.max_alibi_bias", "biases of distance (ALiBi)"),
    ("attention.temperature_scale", "a temperature that depends on the position"),
    ("logit_scale", "a scale of logits"),
    ("residual_scale", "a scale of what layers add"),
    ("embedding_scale", "a scale of the embedding"),
];

/// The largest size that is believed: sums and products of two of them stay numbers.
const MAX_SIZE: usize = (1 << 31) - 1;

/// The keys of a file's architecture.
pub(super) struct Keys<'a> {
    pub file: &'a Gguf,
    pub architecture: &'a str,
}

/// Reads the configuration of a file.
///
/// # Errors
/// If the architecture is not one that is read, if a key is missing, contradicts the tensors, or asks for what is not implemented.
pub(crate) fn config(file: &Gguf) -> Result<DecoderConfig> {
    const KEY: &str = "general.architecture";
    let architecture = file.text(KEY)?.ok_or_else(|| file.missing(KEY))?;
    let Some((_, family)) = ARCHITECTURES.iter().find(|(name, _)| *name == architecture) else {
        let known = ARCHITECTURES.map(|(name, _)| name).join(", ");
        return Err(file.bad(KEY, format!("is `{architecture}`, which is not supported; {known} are")));
    };
    let keys = Keys { file, architecture };
    for (key, what) in REFUSED {
        keys.refuse(key, what)?;
    }
    if file.flag(&keys.key("attention.causal"))? == Some(false) {
        return Err(keys.bad("attention.causal", "is false; only causal attention is supported"));
    }
    if let Some(factor) = keys.positive("rope.scaling.attn_factor")?.filter(|&factor| factor != 1.0) {
        return Err(keys.bad("rope.scaling.attn_factor", format!("is {factor}; only 1 is supported")));
    }
    if !matches!(family, Family::Gemma2) {
        keys.refuse("attn_logit_softcapping", "a soft cap of attention scores")?;
    }
    keys.config(*family)
}

impl Keys<'_> {
    fn config(&self, family: Family) -> Result<DecoderConfig> {
        let (vocab_size, d_model) = self.embedding()?;
        let layers = self.layers(family, d_model)?;
        let has = |tensor: &str| self.file.tensors.contains_key(tensor);
        let (kind, eps) = match family {
            Family::Gpt2 | Family::Neox => (NormKind::Layer, "attention.layer_norm_epsilon"),
            _ => (NormKind::Rms, "attention.layer_norm_rms_epsilon"),
        };
        let qkv = if kind == NormKind::Layer { "blk.0.attn_qkv.bias" } else { "blk.0.attn_q.bias" };
        let (n_heads, n_kv_heads) = self.heads()?;
        let is_gemma = matches!(family, Family::Gemma | Family::Gemma2 | Family::Gemma3);
        // The first files of Gemma 2 had no keys for what was new in it.
        let of_gemma_2 = |value: f64| (family == Family::Gemma2).then_some(value);
        let d_head = self.d_head(d_model, n_heads)?;
        let id =
            |key: &str| Ok(self.file.size(key)?.filter(|&id| id < vocab_size).and_then(|id| u32::try_from(id).ok()));
        let config = DecoderConfig {
            family,
            d_model,
            vocab_size,
            max_positions: self.needed("context_length")?,
            norm: Norm { kind, eps: self.positive(eps)?.ok_or_else(|| self.missing(eps))? },
            layout: self.layout(family)?,
            attention: Attention {
                n_heads,
                n_kv_heads,
                d_head,
                qkv_bias: has(qkv),
                out_bias: has("blk.0.attn_output.bias"),
                qk_norm: match family {
                    Family::Qwen3 | Family::Gemma3 => QkNorm::PerHead,
                    Family::Olmo2 => QkNorm::Flat,
                    _ => QkNorm::None,
                },
                score_cap: self.positive("attn_logit_softcapping")?.or(of_gemma_2(50.0)),
            },
            layers,
            ropes: Ropes { keys: self, family, d_head }.read()?,
            mlp: Mlp {
                d_mlp: self.needed("feed_forward_length")?,
                act: match family {
                    Family::Neox => Act::Gelu,
                    Family::Gpt2 | Family::Gemma | Family::Gemma2 | Family::Gemma3 => Act::GeluTanh,
                    _ => Act::Silu,
                },
                gated: kind == NormKind::Rms,
                bias: has("blk.0.ffn_up.bias"),
            },
            ends: Ends {
                embed_scale: if is_gemma { (d_model as f64).sqrt() } else { 1.0 },
                learned_positions: family == Family::Gpt2,
                tied: !has("output.weight"),
                logit_cap: self.positive("final_logit_softcapping")?.or(of_gemma_2(30.0)),
            },
            bos: id("tokenizer.ggml.bos_token_id")?,
            eos: id("tokenizer.ggml.eos_token_id")?,
        };
        Ok(config)
    }

    /// Rows and columns of the embedding.
    fn embedding(&self) -> Result<(usize, usize)> {
        let d_model = self.needed("embedding_length")?;
        let shape = self.file.tensors.get("token_embd.weight").map(|tensor| tensor.shape.as_slice());
        match shape {
            Some(&[rows, columns]) if columns == d_model => Ok((rows, d_model)),
            Some(shape) => {
                Err(self.bad("embedding_length", format!("is {d_model}, but token_embd.weight is {shape:?}")))
            }
            None => Err(self.bad("embedding_length", "is there, but token_embd.weight, the embedding, is not")),
        }
    }

    fn heads(&self) -> Result<(usize, usize)> {
        let n_heads = self.needed("attention.head_count")?;
        let n_kv_heads = self.size("attention.head_count_kv")?.unwrap_or(n_heads);
        if !n_heads.is_multiple_of(n_kv_heads) {
            let why = format!("is {n_kv_heads}, of which {n_heads} heads are no multiple");
            return Err(self.bad("attention.head_count_kv", why));
        }
        Ok((n_heads, n_kv_heads))
    }

    fn d_head(&self, d_model: usize, n_heads: usize) -> Result<usize> {
        let d_head = match self.size("attention.key_length")? {
            Some(d_head) => d_head,
            None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
            None => {
                return Err(self.bad("attention.head_count", format!("is {n_heads}, which does not divide {d_model}")));
            }
        };
        match self.size("attention.value_length")? {
            Some(other) if other != d_head => {
                let why = format!("is {other}, and keys have {d_head} dimensions; only equal lengths are supported");
                Err(self.bad("attention.value_length", why))
            }
            _ => Ok(d_head),
        }
    }

    fn layout(&self, family: Family) -> Result<Layout> {
        Ok(match family {
            Family::Gemma2 | Family::Gemma3 => Layout::PreAndPostNorm,
            Family::Olmo2 => Layout::PostNorm,
            Family::Neox if self.file.flag(&self.key("use_parallel_residual"))?.unwrap_or(true) => Layout::Parallel,
            _ => Layout::PreNorm,
        })
    }

    /// Each layer's window, rotary embedding and scale of scores.
    fn layers(&self, family: Family, d_model: usize) -> Result<Vec<LayerKind>> {
        let n_layers = self.needed("block_count")?;
        // Each has tensors of its own.
        if n_layers > self.file.tensors.len() {
            let why = format!("is {n_layers}, but the file has {} tensors in all", self.file.tensors.len());
            return Err(self.bad("block_count", why));
        }
        let windows = self.windows(family, n_layers)?;
        let (n_heads, _) = self.heads()?;
        // Of the largest of each the scale is that of d_model / heads; it is not in the file, and told by the layers alone.
        let width = match (family, n_layers) {
            (Family::Gemma2, 46) | (Family::Gemma3, 62) => d_model / n_heads,
            _ => self.d_head(d_model, n_heads)?,
        };
        let layer = |window: Option<usize>| LayerKind {
            window,
            rope: match family {
                Family::Gpt2 => None,
                Family::Gemma3 => Some(usize::from(window.is_some())),
                _ => Some(0),
            },
            score_scale: 1.0 / (width as f64).sqrt(),
        };
        Ok(windows.into_iter().map(layer).collect())
    }

    fn windows(&self, family: Family, n_layers: usize) -> Result<Vec<Option<usize>>> {
        const WINDOW: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let usual = (family == Family::Gemma2).then_some(4096);
        let Some(window) = self.size(WINDOW)?.or(usual) else { return Ok(vec![None; n_layers]) };
        let local: Vec<bool> = match family {
            Family::Gemma2 | Family::Gemma3 if self.is_array(PATTERN) => {
                self.file.flags(&self.key(PATTERN))?.unwrap_or_default()
            }
            Family::Gemma2 | Family::Gemma3 => {
                let period = self.size(PATTERN)?.unwrap_or(if family == Family::Gemma2 { 2 } else { 6 });
                (1..=n_layers).map(|layer| !layer.is_multiple_of(period)).collect()
            }
            Family::Olmo2 => {
                return Err(self.bad(WINDOW, "is there: this is OLMo-3, which is not supported, only OLMo-2 is"));
            }
            _ => {
                return Err(
                    self.bad(WINDOW, "is there, and which layers have the window is not known for this architecture")
                );
            }
        };
        if local.len() != n_layers {
            return Err(self.bad(PATTERN, format!("has {} entries for {n_layers} layers", local.len())));
        }
        Ok(local.into_iter().map(|local| local.then_some(window)).collect())
    }

    /// The name of a key with the architecture before it.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A size that is not 0.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.file.size(&self.key(key))? {
            Some(size) if size == 0 || size > MAX_SIZE => {
                Err(self.bad(key, format!("is {size}; a number from 1 to {MAX_SIZE} is needed")))
            }
            size => Ok(size),
        }
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number above 0.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.file.float(&self.key(key))? {
            Some(value) if value <= 0.0 => Err(self.bad(key, format!("is {value}; a number above 0 is needed"))),
            value => Ok(value),
        }
    }

    /// Refuses a file with a key that is not 0.
    pub(super) fn refuse(&self, key: &str, what: &str) -> Result<()> {
        let name = self.key(key);
        let is_zero = self.file.metadata.get(&name).is_none_or(super::Value::is_zero);
        if is_zero { Ok(()) } else { Err(self.bad(key, format!("asks for {what}, which is not supported"))) }
    }

    fn is_array(&self, key: &str) -> bool {
        self.file.metadata.get(&self.key(key)).is_some_and(|value| matches!(value.data, super::Data::Array { .. }))
    }

    pub(super) fn bad(&self, key: &str, why: impl std::fmt::Display) -> crate::ModelError {
        self.file.bad(&self.key(key), why)
    }

    fn missing(&self, key: &str) -> crate::ModelError {
        self.file.missing(&self.key(key))
    }
}
