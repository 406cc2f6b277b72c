//! GPT-NeoX: Pythia, GPT-NeoX-20B and others; attention and MLP mostly in parallel, LayerNorms, rotary embedding on a part of each head.

use super::names::{LayerNames, Names, Qkv};
use super::{count_layers, llama, rope, size};
use crate::config::{Act, Attention, DecoderConfig, Ends, Family, LayerKind, Layout, Mlp, Norm, NormKind, QkNorm};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let d_model = size(keys, "hidden_size", None)?;
    let n_layers = count_layers(keys, "num_hidden_layers", None)?;
    let d_mlp = size(keys, "intermediate_size", None)?;
    let n_heads = size(keys, "num_attention_heads", None)?;
    let vocab_size = size(keys, "vocab_size", None)?;
    if !d_model.is_multiple_of(n_heads) {
        return Err(format!("hidden_size {d_model} is not a multiple of num_attention_heads {n_heads}"));
    }
    let d_head = d_model / n_heads;
    let max_positions = keys.count("max_position_embeddings")?.unwrap_or(2048);
    let defaults = rope::Defaults { theta: 10_000.0, fraction: Some(0.25), d_head, max_positions };
    let bias = keys.flag("attention_bias")?.unwrap_or(true);
    let is_parallel = keys.flag("use_parallel_residual")?.unwrap_or(true);
    let layer = LayerKind { window: None, rope: Some(0), score_scale: 1.0 / (d_head as f64).sqrt() };
    Ok(DecoderConfig {
        family: Family::Neox,
        d_model,
        vocab_size,
        max_positions,
        norm: Norm { kind: NormKind::Layer, eps: keys.number("layer_norm_eps")?.unwrap_or(1e-5) },
        layout: if is_parallel { Layout::Parallel } else { Layout::PreNorm },
        attention: Attention {
            n_heads,
            n_kv_heads: n_heads,
            d_head,
            qkv_bias: bias,
            out_bias: bias,
            qk_norm: QkNorm::None,
            score_cap: None,
        },
        layers: vec![layer; n_layers],
        ropes: vec![rope::rope(keys, &defaults)?],
        mlp: Mlp { d_mlp, act: llama::act(keys, "hidden_act", Act::Gelu)?, gated: false, bias: true },
        ends: Ends {
            embed_scale: 1.0,
            learned_positions: false,
            tied: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            logit_cap: None,
        },
        bos: keys.first_id("bos_token_id")?,
        eos: keys.first_id("eos_token_id")?,
    })
}

pub(super) fn names(config: &DecoderConfig, _: &dyn Fn(&str) -> bool) -> Names {
    let layer = |index: usize| {
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        LayerNames {
            norm_attn: Some(name("input_layernorm")),
            post_attn: None,
            norm_mlp: Some(name("post_attention_layernorm")),
            post_mlp: None,
            qkv: Qkv::ByHead(name("attention.query_key_value")),
            q_norm: None,
            k_norm: None,
            attn_out: name("attention.dense"),
            gate: None,
            up: name("mlp.dense_h_to_4h"),
            down: name("mlp.dense_4h_to_h"),
        }
    };
    Names {
        embed: "gpt_neox.embed_in.weight".to_owned(),
        unembed: ["embed_out.weight", "lm_head.weight"].map(str::to_owned).to_vec(),
        positions: None,
        final_norm: "gpt_neox.final_layer_norm".to_owned(),
        layers: (0..config.n_layers()).map(layer).collect(),
        ignored_ends: &[".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"],
        ignored_starts: &[],
        gain_offset: 0.0,
        is_transposed: false,
        is_interleaved: false,
    }
}
