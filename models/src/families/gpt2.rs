//! GPT-2: LayerNorms, embedded positions, matrices stored `[in, out]`.

use super::names::{LayerNames, Names, Qkv, prefix};
use super::{agreed, count_layers, llama, size};
use crate::config::{Act, Attention, DecoderConfig, Ends, Family, LayerKind, Layout, Mlp, Norm, NormKind, QkNorm};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let d_model = either(keys, ["n_embd", "hidden_size"], 768)?;
    let n_heads = either(keys, ["n_head", "num_attention_heads"], 12)?;
    let n_layers = match keys.count("num_hidden_layers")? {
        Some(_) => {
            either(keys, ["n_layer", "num_hidden_layers"], 12).and(count_layers(keys, "num_hidden_layers", None))?
        }
        None => count_layers(keys, "n_layer", Some(12))?,
    };
    if !d_model.is_multiple_of(n_heads) {
        return Err(format!("n_embd {d_model} is not a multiple of n_head {n_heads}"));
    }
    if keys.flag("add_cross_attention")? == Some(true) {
        return Err("add_cross_attention is true; only a decoder by itself is supported".to_owned());
    }
    let d_head = d_model / n_heads;
    // reorder_and_upcast_attn asks for scores in f32, which they are here.
    let scale = if keys.flag("scale_attn_weights")?.unwrap_or(true) { 1.0 / (d_head as f64).sqrt() } else { 1.0 };
    let by_layer = keys.flag("scale_attn_by_inverse_layer_idx")?.unwrap_or(false);
    let layer = |index: usize| LayerKind {
        window: None,
        rope: None,
        score_scale: if by_layer { scale / (index + 1) as f64 } else { scale },
    };
    Ok(DecoderConfig {
        family: Family::Gpt2,
        d_model,
        vocab_size: size(keys, "vocab_size", Some(50_257))?,
        max_positions: either(keys, ["n_positions", "max_position_embeddings"], 1024)?,
        norm: Norm { kind: NormKind::Layer, eps: keys.number("layer_norm_epsilon")?.unwrap_or(1e-5) },
        layout: Layout::PreNorm,
        attention: Attention {
            n_heads,
            n_kv_heads: n_heads,
            d_head,
            qkv_bias: true,
            out_bias: true,
            qk_norm: QkNorm::None,
            score_cap: None,
        },
        layers: (0..n_layers).map(layer).collect(),
        ropes: Vec::new(),
        mlp: Mlp {
            d_mlp: size(keys, "n_inner", Some(4 * d_model))?,
            act: llama::act(keys, "activation_function", Act::GeluTanh)?,
            gated: false,
            bias: true,
        },
        ends: Ends {
            embed_scale: 1.0,
            learned_positions: true,
            tied: keys.flag("tie_word_embeddings")?.unwrap_or(true),
            logit_cap: None,
        },
        bos: keys.first_id("bos_token_id")?,
        eos: keys.first_id("eos_token_id")?,
    })
}

/// A size by its own name, or by the one that other families have for it (`attribute_map` of the class).
fn either(keys: &Keys, names: [&str; 2], default: usize) -> Result<usize, String> {
    match agreed(names.map(|name| keys.count(name)), names[0])?.unwrap_or(default) {
        0 => Err(format!("{} is 0", names[0])),
        size => Ok(size),
    }
}

pub(super) fn names(config: &DecoderConfig, contains: &dyn Fn(&str) -> bool) -> Names {
    let prefix = prefix(&["transformer.", ""], "wte.weight", contains);
    let layer = |index: usize| {
        let name = |part: &str| format!("{prefix}h.{index}.{part}");
        LayerNames {
            norm_attn: Some(name("ln_1")),
            post_attn: None,
            norm_mlp: Some(name("ln_2")),
            post_mlp: None,
            qkv: Qkv::Fused(name("attn.c_attn")),
            q_norm: None,
            k_norm: None,
            attn_out: name("attn.c_proj"),
            gate: None,
            up: name("mlp.c_fc"),
            down: name("mlp.c_proj"),
        }
    };
    Names {
        embed: format!("{prefix}wte.weight"),
        unembed: vec!["lm_head.weight".to_owned()],
        positions: Some(format!("{prefix}wpe.weight")),
        final_norm: format!("{prefix}ln_f"),
        layers: (0..config.n_layers()).map(layer).collect(),
        ignored_ends: &[".attn.bias", ".attn.masked_bias"],
        ignored_starts: &[],
        gain_offset: 0.0,
        is_transposed: true,
        is_interleaved: false,
    }
}
