//! Llama 2 and 3, and what the families after it share with it.

use super::names::{LayerNames, Names, Qkv, prefix};
use super::{count_layers, rope, size};
use crate::config::{Act, Attention, DecoderConfig, Ends, Family, LayerKind, Layout, Mlp, Norm, NormKind, QkNorm};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let mut config = base(keys, Family::Llama, &Defaults::default())?;
    config.mlp.bias = keys.flag("mlp_bias")?.unwrap_or(false);
    Ok(config)
}

/// What a family's configuration class takes for keys that are not there.
pub(super) struct Defaults {
    /// Heads of keys and values; `None`: as many as heads.
    pub n_kv_heads: Option<usize>,
    /// Dimensions of a head; `None`: d_model / heads.
    pub d_head: Option<usize>,
    /// ε of the norms.
    pub eps: f64,
    /// The longest context.
    pub max_positions: usize,
    /// Whether embedding and unembedding are one.
    pub tied: bool,
    /// Sizes that a file may leave out: d_model, d_mlp, layers, heads, vocabulary.
    pub sizes: [Option<usize>; 5],
}

impl Default for Defaults {
    fn default() -> Self {
        let sizes = [None; 5];
        Self { n_kv_heads: None, d_head: None, eps: 1e-6, max_positions: 2048, tied: false, sizes }
    }
}

/// The settings of a decoder of RMS norms before attention and MLP, with a gated MLP and rotary embedding in every layer.
pub(super) fn base(keys: &Keys, family: Family, defaults: &Defaults) -> Result<DecoderConfig, String> {
    let [d_model, d_mlp, n_layers, n_heads, vocab_size] = defaults.sizes;
    let d_model = size(keys, "hidden_size", d_model)?;
    let n_heads = size(keys, "num_attention_heads", n_heads)?;
    let n_kv_heads = match keys.count("num_key_value_heads")? {
        None if keys.is_null("num_key_value_heads") => n_heads,
        None => defaults.n_kv_heads.unwrap_or(n_heads),
        Some(count) => count,
    };
    if n_kv_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
        return Err(format!("num_attention_heads {n_heads} is not a multiple of num_key_value_heads {n_kv_heads}"));
    }
    let d_head = match keys.count("head_dim")?.or(defaults.d_head.filter(|_| !keys.is_null("head_dim"))) {
        Some(0) => return Err("head_dim is 0".to_owned()),
        Some(d_head) => d_head,
        None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => return Err(format!("hidden_size {d_model} is not a multiple of num_attention_heads {n_heads}")),
    };
    let max_positions = keys.count("max_position_embeddings")?.unwrap_or(defaults.max_positions);
    let rope_defaults = rope::Defaults { theta: 10_000.0, fraction: None, d_head, max_positions };
    let ropes = match family {
        // Two, of its own spelling.
        Family::Gemma3 => Vec::new(),
        _ => vec![rope::rope(keys, &rope_defaults)?],
    };
    let bias = keys.flag("attention_bias")?.unwrap_or(false);
    let layer = LayerKind { window: None, rope: Some(0), score_scale: 1.0 / (d_head as f64).sqrt() };
    Ok(DecoderConfig {
        family,
        d_model,
        vocab_size: size(keys, "vocab_size", vocab_size)?,
        max_positions,
        norm: Norm { kind: NormKind::Rms, eps: keys.number("rms_norm_eps")?.unwrap_or(defaults.eps) },
        layout: Layout::PreNorm,
        attention: Attention {
            n_heads,
            n_kv_heads,
            d_head,
            qkv_bias: bias,
            out_bias: bias,
            qk_norm: QkNorm::None,
            score_cap: None,
        },
        layers: vec![layer; count_layers(keys, "num_hidden_layers", n_layers)?],
        ropes,
        mlp: Mlp {
            d_mlp: size(keys, "intermediate_size", d_mlp)?,
            act: act(keys, "hidden_act", Act::Silu)?,
            gated: true,
            bias: false,
        },
        ends: Ends {
            embed_scale: 1.0,
            learned_positions: false,
            tied: keys.flag("tie_word_embeddings")?.unwrap_or(defaults.tied),
            logit_cap: None,
        },
        bos: keys.first_id("bos_token_id")?,
        eos: keys.first_id("eos_token_id")?,
    })
}

/// The activation function that a key names.
pub(super) fn act(keys: &Keys, key: &str, default: Act) -> Result<Act, String> {
    match keys.text(key)?.as_deref() {
        None => Ok(default),
        Some("gelu" | "gelu_python") => Ok(Act::Gelu),
        Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh") => Ok(Act::GeluTanh),
        Some("relu") => Ok(Act::Relu),
        Some("silu" | "swish") => Ok(Act::Silu),
        Some(other) => {
            Err(format!("{key} `{other}` is not supported; gelu, gelu_new, gelu_pytorch_tanh, relu and silu are"))
        }
    }
}

/// The windows of layers: what `layer_types` says, or else a window where `is_local` says so.
pub(super) fn windows(
    keys: &Keys,
    config: &mut DecoderConfig,
    window: Option<usize>,
    is_local: impl Fn(usize) -> bool,
) -> Result<(), String> {
    let types = keys.texts("layer_types")?;
    let n_layers = config.n_layers();
    if let Some(types) = types.as_ref().filter(|types| types.len() != n_layers) {
        return Err(format!("layer_types has {} entries, num_hidden_layers is {n_layers}", types.len()));
    }
    if window == Some(0) {
        return Err("sliding_window is 0".to_owned());
    }
    for (index, layer) in config.layers.iter_mut().enumerate() {
        let local = match types.as_ref().map(|types| types[index].as_str()) {
            None => is_local(index) && window.is_some(),
            Some("full_attention") => false,
            Some("sliding_attention") => true,
            Some(other) => {
                return Err(format!(
                    "layer_types: `{other}` is not supported; full_attention and sliding_attention are"
                ));
            }
        };
        if local && window.is_none() {
            return Err("layer_types has `sliding_attention`, and there is no sliding_window".to_owned());
        }
        layer.window = window.filter(|_| local);
    }
    Ok(())
}

pub(super) fn names(config: &DecoderConfig, contains: &dyn Fn(&str) -> bool) -> Names {
    under(prefix(&["model.", ""], "embed_tokens.weight", contains), &["lm_head.weight"], config)
}

/// Llama's names under a prefix; norms before attention and MLP alone.
pub(super) fn under(prefix: &str, heads: &[&str], config: &DecoderConfig) -> Names {
    let has_qk_norm = config.attention.qk_norm != QkNorm::None;
    let layer = |index: usize| {
        let name = |part: &str| format!("{prefix}layers.{index}.{part}");
        LayerNames {
            norm_attn: Some(name("input_layernorm")),
            post_attn: None,
            norm_mlp: Some(name("post_attention_layernorm")),
            post_mlp: None,
            qkv: Qkv::Split(["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj")))),
            q_norm: has_qk_norm.then(|| name("self_attn.q_norm")),
            k_norm: has_qk_norm.then(|| name("self_attn.k_norm")),
            attn_out: name("self_attn.o_proj"),
            gate: Some(name("mlp.gate_proj")),
            up: name("mlp.up_proj"),
            down: name("mlp.down_proj"),
        }
    };
    Names {
        embed: format!("{prefix}embed_tokens.weight"),
        unembed: heads.iter().map(|&head| head.to_owned()).collect(),
        positions: None,
        final_norm: format!("{prefix}norm"),
        layers: (0..config.n_layers()).map(layer).collect(),
        ignored_ends: &[".rotary_emb.inv_freq"],
        ignored_starts: &[],
        gain_offset: 0.0,
        is_transposed: false,
        is_interleaved: false,
    }
}
