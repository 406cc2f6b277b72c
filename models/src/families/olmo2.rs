//! OLMo-2: norms after attention and MLP alone, and of all heads' queries and keys together.

use super::llama::{self, Defaults};
use super::names::Names;
use crate::config::{DecoderConfig, Family, Layout, QkNorm};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let mut config = llama::base(keys, Family::Olmo2, &Defaults { eps: 1e-5, ..Defaults::default() })?;
    config.layout = Layout::PostNorm;
    config.attention.qk_norm = QkNorm::Flat;
    Ok(config)
}

pub(super) fn names(config: &DecoderConfig, contains: &dyn Fn(&str) -> bool) -> Names {
    let mut names = llama::names(config, contains);
    for layer in &mut names.layers {
        layer.norm_attn = None;
        layer.post_attn = layer.norm_mlp.take();
        layer.post_mlp =
            layer.post_attn.as_ref().map(|name| name.replace("post_attention_layernorm", "post_feedforward_layernorm"));
    }
    names
}
