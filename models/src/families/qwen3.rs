//! Qwen3, dense: Qwen2 without its biases, with a norm of each head's queries and keys.

use super::llama::{self, Defaults};
use super::qwen2;
use crate::config::{DecoderConfig, Family, QkNorm};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let defaults = Defaults { n_kv_heads: Some(32), d_head: Some(128), max_positions: 32_768, ..Defaults::default() };
    let mut config = llama::base(keys, Family::Qwen3, &defaults)?;
    config.attention.qk_norm = QkNorm::PerHead;
    qwen2::last_windows(keys, &mut config)?;
    Ok(config)
}
