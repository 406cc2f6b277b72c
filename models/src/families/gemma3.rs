//! Gemma 3, the text model, by itself or inside the multimodal one: Gemma 2 without caps, with norms of queries and keys, five layers
//! with a window to one without, and another rotary base for each of the two kinds.

use super::llama::{self, Defaults};
use super::names::{Names, prefix};
use super::{gemma2, refuse, rope, size};
use crate::config::{DecoderConfig, Family, QkNorm};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let defaults = Defaults {
        n_kv_heads: Some(4),
        d_head: Some(256),
        max_positions: 131_072,
        tied: true,
        sizes: [Some(2304), Some(9216), Some(26), Some(8), Some(262_208)],
        ..Defaults::default()
    };
    let mut config = llama::base(keys, Family::Gemma3, &defaults)?;
    gemma2::shared_with_gemma3(keys, &mut config)?;
    config.attention.qk_norm = QkNorm::PerHead;
    if let Some(cap) = gemma2::cap(keys, "attn_logit_softcapping", None)? {
        return Err(format!(
            "attn_logit_softcapping is {cap}; no model of this family has one, and transformers does not apply it"
        ));
    }
    config.ends.logit_cap = gemma2::cap(keys, "final_logit_softcapping", None)?;
    let pattern = size(keys, "sliding_window_pattern", Some(6))?;
    llama::windows(keys, &mut config, gemma2::window(keys)?, |layer| !(layer + 1).is_multiple_of(pattern))?;
    let defaults = |theta| rope::Defaults {
        theta,
        fraction: None,
        d_head: config.attention.d_head,
        max_positions: config.max_positions,
    };
    config.ropes = vec![
        rope::rope_of(keys, "full_attention", "rope_theta", true, &defaults(1e6))?,
        rope::rope_of(keys, "sliding_attention", "rope_local_base_freq", false, &defaults(1e4))?,
    ];
    config.layers.iter_mut().for_each(|layer| layer.rope = Some(usize::from(layer.window.is_some())));
    Ok(config)
}

/// Of the multimodal model, whose text model has an object of its own that leaves out what is as in the class.
pub(super) fn wrapped_config(keys: &Keys) -> Result<DecoderConfig, String> {
    let text = keys.object("text_config")?.ok_or("text_config is missing")?;
    refuse(&text)?;
    let mut config = config(&text)?;
    // Whether the two ends are one is the whole model's to say.
    config.ends.tied = keys.flag("tie_word_embeddings")?.unwrap_or(true);
    config.bos = config.bos.or(keys.first_id("bos_token_id")?);
    config.eos = config.eos.or(keys.first_id("eos_token_id")?);
    Ok(config)
}

pub(super) fn names(config: &DecoderConfig, contains: &dyn Fn(&str) -> bool) -> Names {
    let prefixes = ["model.", "language_model.model.", "model.language_model.", "language_model.", ""];
    let prefix = prefix(&prefixes, "embed_tokens.weight", contains);
    Names {
        ignored_starts: &[
            "vision_tower.",
            "multi_modal_projector.",
            "model.vision_tower.",
            "model.multi_modal_projector.",
        ],
        ..gemma2::under(prefix, &["lm_head.weight", "language_model.lm_head.weight"], config)
    }
}
