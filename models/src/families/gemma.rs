//! Gemma 1: Llama with a scaled embedding, gains stored less 1, and GELU in the MLP.

use super::llama::{self, Defaults};
use super::names::Names;
use crate::config::{Act, DecoderConfig, Family};
use crate::keys::Keys;

pub(super) fn config(keys: &Keys) -> Result<DecoderConfig, String> {
    let defaults =
        Defaults { n_kv_heads: Some(16), d_head: Some(256), max_positions: 8192, tied: true, ..Defaults::default() };
    let mut config = llama::base(keys, Family::Gemma, &defaults)?;
    // Files of the first release say `gelu` where the model was trained with the tanh formula.
    let act = |key: &str| match llama::act(keys, key, Act::GeluTanh)? {
        Act::Gelu => Ok(Act::GeluTanh),
        other => Ok::<Act, String>(other),
    };
    config.mlp.act = act("hidden_act")?;
    // A key that transformers once preferred and now does not look at.
    if keys.text("hidden_activation")?.is_some() && act("hidden_activation")? != config.mlp.act {
        return Err("hidden_act and hidden_activation differ; remove the wrong one".to_owned());
    }
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
