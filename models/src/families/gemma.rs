//! Gemma 1: Llama with a scaled embedding, gains stored less 1, and GELU in the MLP.

use super::llama::{self, Defaults};
use super::names::Names;
use crate::config::{Act, DecoderConfig, Family};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    llama::refuse_bidirectional(keys)?;
    let defaults =
        Defaults { n_kv_heads: Some(16), d_head: Some(256), max_positions: 8192, tied: true, ..Defaults::default() };
    let mut config = llama::base(keys, Family::Gemma, &defaults)?;
    // Files of the first release say `gelu` where the model was trained with the tanh formula.
    config.mlp.act = match keys.text("hidden_activation")? {
        Some(_) => llama::act(keys, "hidden_activation", Act::GeluTanh)?,
        None => match llama::act(keys, "hidden_act", Act::GeluTanh)? {
            Act::Gelu => Act::GeluTanh,
            other => other,
        },
    };
    scale_embedding(&mut config);
    Ok(config)
}

/// √d_model exactly, as the formula has it. In bf16 the models were trained with the root rounded to bf16.
pub(super) fn scale_embedding(config: &mut DecoderConfig) {
    config.ends.embed_scale = (config.d_model as f64).sqrt();
}

pub(super) fn names(config: &DecoderConfig, contains: &dyn Fn(&str) -> bool) -> Names {
    Names { gain_offset: 1.0, ..llama::names(config, contains) }
}
