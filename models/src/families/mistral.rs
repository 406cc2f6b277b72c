//! Mistral: Llama with a window on all layers or on none.

use super::llama::{self, Defaults};
use crate::config::{DecoderConfig, Family};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let defaults = Defaults { n_kv_heads: Some(8), max_positions: 131_072, ..Defaults::default() };
    let mut config = llama::base(keys, Family::Mistral, &defaults)?;
    (config.attention.qkv_bias, config.attention.out_bias) = (false, false);
    // A file without the key means a window; one that says null means none.
    let window = match keys.count("sliding_window")? {
        None if keys.is_null("sliding_window") => None,
        None => Some(4096),
        window => window,
    };
    llama::windows(keys, &mut config, window, |_| true)?;
    // transformers' class does not look at layer_types: a file in which they say something else is not for it.
    if config.layers.iter().any(|layer| layer.window != window) {
        return Err(
            "layer_types and sliding_window differ; in this family all layers have the window, or none".to_owned()
        );
    }
    Ok(config)
}
