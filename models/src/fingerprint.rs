//! What a model computes, as text: with it the hash of its weights begins, and so the ids of all runs follow from it.
//!
//! Written on purpose, so that no field added later, and no change of spelling, gives a checkpoint another hash.

use crate::config::{
    Act, Attention, DecoderConfig, Ends, Family, LayerKind, Layout, Mlp, Norm, NormKind, QkNorm, Rope, RopeScaling,
};

/// The text of a configuration.
pub(crate) fn fingerprint(config: &DecoderConfig) -> String {
    first_neox(config).unwrap_or_else(|| any(config))
}

/// The text that GPT-NeoX had when it was the only family, where it says all that there is to say.
fn first_neox(config: &DecoderConfig) -> Option<String> {
    let DecoderConfig {
        family: Family::Neox, d_model, vocab_size, max_positions, norm, attention, mlp, ends, eos, ..
    } = config
    else {
        return None;
    };
    let [Rope { dims, theta, scaling: RopeScaling::Default }] = config.ropes.as_slice() else { return None };
    let act = match mlp.act {
        Act::Gelu | Act::GeluTanh | Act::Relu => act(mlp.act),
        Act::Silu => return None,
    };
    let eos = eos.map_or_else(|| "None".to_owned(), |id| format!("Some({id})"));
    Some(format!(
        "NeoxConfig {{ d_model: {d_model}, n_layers: {}, n_heads: {}, d_mlp: {}, vocab_size: {vocab_size}, max_positions: \
         {max_positions}, rotary_dims: {dims}, rotary_base: {theta:?}, layer_norm_eps: {:?}, parallel_residual: {}, hidden_act: {act}, \
         tied_embeddings: {}, attention_bias: {}, eos_token_id: {eos} }}\n",
        config.n_layers(),
        attention.n_heads,
        mlp.d_mlp,
        norm.eps,
        config.layout == Layout::Parallel,
        ends.tied,
        attention.qkv_bias,
    ))
}

/// The text of every other model. What tokens stand at the start of a text is not in it: tokens are hashed by themselves.
fn any(config: &DecoderConfig) -> String {
    // Without `..`: a field that is added must be thought of here, and be written only where it is not as it always was.
    let DecoderConfig {
        family,
        d_model,
        vocab_size,
        max_positions,
        norm: Norm { kind, eps },
        layout,
        attention: Attention { n_heads, n_kv_heads, d_head, qkv_bias, out_bias, qk_norm, score_cap },
        layers,
        ropes,
        mlp: Mlp { d_mlp, act: mlp_act, gated, bias },
        ends: Ends { embed_scale, learned_positions, tied, logit_cap },
        bos: _,
        eos: _,
    } = config;
    let kind = match kind {
        NormKind::Layer => "layer",
        NormKind::Rms => "rms",
    };
    let layout = match layout {
        Layout::PreNorm => "pre",
        Layout::PreAndPostNorm => "pre+post",
        Layout::PostNorm => "post",
        Layout::Parallel => "parallel",
    };
    let qk_norm = match qk_norm {
        QkNorm::None => "none",
        QkNorm::PerHead => "per head",
        QkNorm::Flat => "flat",
    };
    let mut text = format!(
        "decoder 1\nfamily {family}\nd_model {d_model} vocab_size {vocab_size} max_positions {max_positions}\nnorm {kind} {eps:?} {layout}\n\
         attention {n_heads} {n_kv_heads} {d_head} bias {qkv_bias} {out_bias} qk_norm {qk_norm} cap {}\n\
         mlp {d_mlp} {} gated {gated} bias {bias}\nends scale {embed_scale:?} positions {learned_positions} tied {tied} cap {}\n",
        optional(*score_cap),
        act(*mlp_act),
        optional(*logit_cap),
    );
    for Rope { dims, theta, scaling } in ropes {
        text += &format!("rope {dims} {theta:?} {}\n", scaled(scaling));
    }
    for LayerKind { window, rope, score_scale } in layers {
        let number = |value: Option<usize>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        text += &format!("layer window {} rope {} scale {score_scale:?}\n", number(*window), number(*rope));
    }
    text
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

fn act(act: Act) -> &'static str {
    match act {
        Act::Gelu => "Gelu",
        Act::GeluTanh => "GeluTanh",
        Act::Relu => "Relu",
        Act::Silu => "Silu",
    }
}

fn scaled(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::Default => "default".to_owned(),
        RopeScaling::Linear { factor } => format!("linear {factor:?}"),
        RopeScaling::Llama3 { factor, low, high, original } => format!("llama3 {factor:?} {low:?} {high:?} {original}"),
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original, truncate, attention_factor } => {
            format!("yarn {factor:?} {beta_fast:?} {beta_slow:?} {original} {truncate} {attention_factor:?}")
        }
        RopeScaling::LongRope { short, long, original, attention_factor } => {
            format!("longrope {short:?} {long:?} {original} {attention_factor:?}")
        }
        RopeScaling::Divisors(divisors) => format!("divisors {divisors:?}"),
    }
}
