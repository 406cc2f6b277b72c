//! Gemma 2: norms before and after attention and MLP, soft caps, windows on every other layer.

use super::llama::{self, Defaults};
use super::names::{Names, prefix};
use super::{gemma, size};
use crate::config::{Act, DecoderConfig, Family, Layout};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let defaults =
        Defaults { n_kv_heads: Some(4), d_head: Some(256), max_positions: 8192, tied: true, ..Defaults::default() };
    let mut config = llama::base(keys, Family::Gemma2, &defaults)?;
    shared_with_gemma3(keys, &mut config)?;
    config.attention.score_cap = cap(keys, "attn_logit_softcapping", Some(50.0))?;
    config.ends.logit_cap = cap(keys, "final_logit_softcapping", Some(30.0))?;
    llama::windows(keys, &mut config, window(keys)?, |layer| layer.is_multiple_of(2))?;
    Ok(config)
}

/// What Gemma 2 and 3 have alike.
pub(super) fn shared_with_gemma3(keys: &Keys, config: &mut DecoderConfig) -> Result<(), String> {
    config.layout = Layout::PreAndPostNorm;
    config.mlp.act = llama::act(keys, "hidden_activation", Act::GeluTanh)?;
    let scalar = size(keys, "query_pre_attn_scalar", Some(256))?;
    config.layers.iter_mut().for_each(|layer| layer.score_scale = 1.0 / (scalar as f64).sqrt());
    gemma::scale_embedding(config);
    Ok(())
}

/// The width of windows; null means that there are none.
pub(super) fn window(keys: &Keys) -> Result<Option<usize>, String> {
    let window = keys.count("sliding_window")?;
    Ok(if keys.is_null("sliding_window") { None } else { window.or(Some(4096)) })
}

/// A soft cap; null means that there is none.
pub(super) fn cap(keys: &Keys, key: &str, default: Option<f64>) -> Result<Option<f64>, String> {
    let cap = keys.number(key)?.or(default.filter(|_| !keys.is_null(key)));
    match cap {
        Some(cap) if cap <= 0.0 => Err(format!("{key} is {cap}; a number above 0 or null is needed")),
        cap => Ok(cap),
    }
}

pub(super) fn names(config: &DecoderConfig, contains: &dyn Fn(&str) -> bool) -> Names {
    under(prefix(&["model.", ""], "embed_tokens.weight", contains), &["lm_head.weight"], config)
}

/// The names of Gemma 2 and 3 under a prefix.
pub(super) fn under(prefix: &str, heads: &[&str], config: &DecoderConfig) -> Names {
    let mut names = Names { gain_offset: 1.0, ..llama::under(prefix, heads, config) };
    for (index, layer) in names.layers.iter_mut().enumerate() {
        let name = |part: &str| Some(format!("{prefix}layers.{index}.{part}"));
        layer.post_attn = name("post_attention_layernorm");
        layer.norm_mlp = name("pre_feedforward_layernorm");
        layer.post_mlp = name("post_feedforward_layernorm");
    }
    names
}
