//! Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and windows on the last layers where they are switched on.

use super::llama::{self, Defaults};
use crate::config::{DecoderConfig, Family};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let defaults = Defaults { n_kv_heads: Some(32), max_positions: 32_768, ..Defaults::default() };
    let mut config = llama::base(keys, Family::Qwen2, &defaults)?;
    (config.attention.qkv_bias, config.attention.out_bias) = (true, false);
    last_windows(keys, &mut config)?;
    Ok(config)
}

/// Windows from layer `max_window_layers` on, if `use_sliding_window`.
pub(super) fn last_windows(keys: &Keys, config: &mut DecoderConfig) -> Result<(), String> {
    let window = match keys.count("sliding_window")? {
        None if keys.is_null("sliding_window") => None,
        window => window.or(Some(4096)),
    };
    let window = if keys.flag("use_sliding_window")?.unwrap_or(false) { window } else { None };
    let first = keys.count("max_window_layers")?.unwrap_or(28);
    llama::windows(keys, config, window, |layer| layer >= first)
}
