//! What GGUF files call the tensors of a decoder, and what llama.cpp's converter has done to them.
//!
//! Checked against the converter (`conversion/*.py` in ggml-org/llama.cpp): it reorders rows of queries and keys for the
//! architecture `llama` alone (`LlamaModel.permute`; OLMo-1, which is not read, has it too), adds 1 to the gains of Gemma 1, 2 and 3,
//! transposes GPT-2's matrices, and takes GPT-NeoX's rows of queries, keys and values apart.

use crate::config::{DecoderConfig, Family, QkNorm};
use crate::families::{LayerNames, Names, Qkv};

/// The names in a file whose configuration this is.
pub(crate) fn names(config: &DecoderConfig) -> Names {
    let layer = |index: usize| {
        let name = |part: &str| format!("blk.{index}.{part}");
        let when = |is_there: bool, part: &str| is_there.then(|| name(part));
        let (has_pre_norm, has_post_norm) = (config.layout.has_pre_norm(), config.layout.has_post_norm());
        let has_qk_norm = config.attention.qk_norm != QkNorm::None;
        LayerNames {
            norm_attn: when(has_pre_norm, "attn_norm"),
            post_attn: when(has_post_norm, "post_attention_norm"),
            norm_mlp: when(has_pre_norm, "ffn_norm"),
            post_mlp: when(has_post_norm, "post_ffw_norm"),
            qkv: match config.family {
                Family::Gpt2 | Family::Neox => Qkv::Fused(name("attn_qkv")),
                _ => Qkv::Split(["attn_q", "attn_k", "attn_v"].map(name)),
            },
            q_norm: when(has_qk_norm, "attn_q_norm"),
            k_norm: when(has_qk_norm, "attn_k_norm"),
            attn_out: name("attn_output"),
            gate: when(config.mlp.gated, "ffn_gate"),
            up: name("ffn_up"),
            down: name("ffn_down"),
        }
    };
    Names {
        embed: "token_embd.weight".to_owned(),
        unembed: vec!["output.weight".to_owned()],
        positions: config.ends.learned_positions.then(|| "position_embd.weight".to_owned()),
        final_norm: "output_norm".to_owned(),
        layers: (0..config.n_layers()).map(layer).collect(),
        // Tables of rotary frequencies; of the first the configuration has what it says.
        ignored_ends: &[".attn_rot_embd.weight"],
        ignored_starts: &["rope_freqs."],
        gain_offset: 0.0,
        is_transposed: false,
        is_interleaved: config.family == Family::Llama,
    }
}
