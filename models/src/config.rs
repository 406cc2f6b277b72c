//! `config.json` of a GPT-NeoX checkpoint, in both spellings that transformers has used.

use std::path::Path;

use serde::Deserialize;

use crate::error::{ModelError, Result};

/// The activation function of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenAct {
    /// `0.5·x·(1 + erf(x/√2))`, what Pythia uses.
    Gelu,
    /// The tanh approximation of GELU (`gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// The shape of a GPT-NeoX decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct NeoxConfig {
    /// Width of the residual stream (`hidden_size`).
    pub d_model: usize,
    /// Number of decoder layers.
    pub n_layers: usize,
    /// Number of attention heads.
    pub n_heads: usize,
    /// Width of the MLP (`intermediate_size`).
    pub d_mlp: usize,
    /// Rows of the embedding and of the unembedding.
    pub vocab_size: usize,
    /// Longest context that the model was made for.
    pub max_positions: usize,
    /// How many dimensions of each head are rotated (`rotary_pct · d_head`).
    pub rotary_dims: usize,
    /// Base of the rotary frequencies.
    pub rotary_base: f64,
    /// ε of every LayerNorm.
    pub layer_norm_eps: f64,
    /// Attention and MLP both read `resid_pre` (Pythia), or the MLP reads what attention has written.
    pub parallel_residual: bool,
    /// The MLP's activation function.
    pub hidden_act: HiddenAct,
    /// The unembedding is the embedding.
    pub tied_embeddings: bool,
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
    /// The end-of-text token, which separates documents.
    pub eos_token_id: Option<u32>,
}

impl NeoxConfig {
    /// Dimensions of one attention head.
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// What the model computes, as the hash of its weights begins: written on purpose, so that no field added later, and no change of
    /// spelling, gives a checkpoint another hash.
    pub(crate) fn fingerprint(&self) -> String {
        // Without `..`: a field that is added must be thought of here, and be written only where it is not as it always was.
        let Self {
            d_model,
            n_layers,
            n_heads,
            d_mlp,
            vocab_size,
            max_positions,
            rotary_dims,
            rotary_base,
            layer_norm_eps,
            parallel_residual,
            hidden_act,
            tied_embeddings,
            attention_bias,
            eos_token_id,
        } = self;
        let hidden_act = match hidden_act {
            HiddenAct::Gelu => "Gelu",
            HiddenAct::GeluTanh => "GeluTanh",
            HiddenAct::Relu => "Relu",
        };
        let eos_token_id = eos_token_id.map_or_else(|| "None".to_owned(), |id| format!("Some({id})"));
        format!(
            "NeoxConfig {{ d_model: {d_model}, n_layers: {n_layers}, n_heads: {n_heads}, d_mlp: {d_mlp}, vocab_size: {vocab_size}, \
             max_positions: {max_positions}, rotary_dims: {rotary_dims}, rotary_base: {rotary_base:?}, layer_norm_eps: \
             {layer_norm_eps:?}, parallel_residual: {parallel_residual}, hidden_act: {hidden_act}, tied_embeddings: \
             {tied_embeddings}, attention_bias: {attention_bias}, eos_token_id: {eos_token_id} }}\n"
        )
    }

    /// Reads and checks `config.json` in `dir`.
    ///
    /// # Errors
    /// If the file is missing or not JSON, if `model_type` is not `gpt_neox`, or if a setting is
    /// one that this decoder does not implement; the message names the key.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| ModelError::read(&path, e))?;
        Self::parse(&text).map_err(|why| ModelError::Config { path, why })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let raw: RawConfig = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if raw.model_type != "gpt_neox" {
            return Err(format!("model_type is `{}`; only `gpt_neox` (Pythia) is supported", raw.model_type));
        }
        for (key, value) in [
            ("hidden_size", raw.hidden_size),
            ("num_hidden_layers", raw.num_hidden_layers),
            ("intermediate_size", raw.intermediate_size),
            ("vocab_size", raw.vocab_size),
        ] {
            if value == 0 {
                return Err(format!("{key} is 0"));
            }
        }
        if raw.num_attention_heads == 0 || !raw.hidden_size.is_multiple_of(raw.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                raw.hidden_size, raw.num_attention_heads
            ));
        }
        let rope = raw.rope_parameters.unwrap_or_default();
        for kind in [rope.rope_type.as_deref(), raw.rope_scaling.as_ref().and_then(|s| s.rope_type.as_deref())]
            .into_iter()
            .flatten()
        {
            if kind != "default" {
                return Err(format!("rope_type `{kind}` is not supported, only `default`"));
            }
        }
        let hidden_act = match raw.hidden_act.as_str() {
            "gelu" => HiddenAct::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => HiddenAct::GeluTanh,
            "relu" => HiddenAct::Relu,
            other => return Err(format!("hidden_act `{other}` is not supported")),
        };
        let d_head = raw.hidden_size / raw.num_attention_heads;
        let fraction = rope.partial_rotary_factor.or(raw.rotary_pct).unwrap_or(0.25);
        let rotary_dims = (d_head as f64 * fraction) as usize;
        if !rotary_dims.is_multiple_of(2) || rotary_dims > d_head {
            return Err(format!(
                "rotary fraction {fraction} of d_head {d_head} gives {rotary_dims} dimensions; an even number up to d_head is needed"
            ));
        }
        Ok(Self {
            d_model: raw.hidden_size,
            n_layers: raw.num_hidden_layers,
            n_heads: raw.num_attention_heads,
            d_mlp: raw.intermediate_size,
            vocab_size: raw.vocab_size,
            max_positions: raw.max_position_embeddings,
            rotary_dims,
            rotary_base: rope.rope_theta.or(raw.rotary_emb_base).unwrap_or(10_000.0),
            layer_norm_eps: raw.layer_norm_eps,
            parallel_residual: raw.use_parallel_residual,
            hidden_act,
            tied_embeddings: raw.tie_word_embeddings,
            attention_bias: raw.attention_bias,
            eos_token_id: raw.eos_token_id,
        })
    }
}

/// The keys of `config.json` that decide what the decoder computes; others are ignored.
#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    rotary_pct: Option<f64>,
    rotary_emb_base: Option<f64>,
    rope_parameters: Option<RawRope>,
    rope_scaling: Option<RawRope>,
    #[serde(default = "default_eps")]
    layer_norm_eps: f64,
    #[serde(default = "default_true")]
    use_parallel_residual: bool,
    #[serde(default = "default_act")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_true")]
    attention_bias: bool,
    eos_token_id: Option<u32>,
}

#[derive(Default, Deserialize)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

// The defaults are those of transformers' GPTNeoXConfig.
fn default_positions() -> usize {
    2048
}
fn default_eps() -> f64 {
    1e-5
}
fn default_true() -> bool {
    true
}
fn default_act() -> String {
    "gelu".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pythia(extra: &str) -> String {
        format!(
            r#"{{"model_type":"gpt_neox","hidden_size":512,"num_hidden_layers":6,"num_attention_heads":8,
            "intermediate_size":2048,"vocab_size":50304{extra}}}"#
        )
    }

    #[test]
    fn both_spellings_of_the_rotary_settings_agree() {
        let old = NeoxConfig::parse(&pythia(r#","rotary_pct":0.25,"rotary_emb_base":500"#)).unwrap();
        let new = NeoxConfig::parse(&pythia(
            r#","rope_parameters":{"partial_rotary_factor":0.25,"rope_theta":500.0,"rope_type":"default"}"#,
        ))
        .unwrap();
        assert_eq!(old, new);
        assert_eq!((old.rotary_dims, old.rotary_base), (16, 500.0));
    }

    /// Hashes of weights begin with it, and so the ids of all runs follow from it.
    #[test]
    fn the_fingerprint_stays() {
        let mut config = NeoxConfig::parse(&pythia("")).unwrap();
        assert!(config.fingerprint().ends_with("eos_token_id: None }\n"));
        config.eos_token_id = Some(0);
        assert_eq!(
            config.fingerprint(),
            "NeoxConfig { d_model: 512, n_layers: 6, n_heads: 8, d_mlp: 2048, vocab_size: 50304, max_positions: 2048, rotary_dims: 16, \
             rotary_base: 10000.0, layer_norm_eps: 1e-5, parallel_residual: true, hidden_act: Gelu, tied_embeddings: false, \
             attention_bias: true, eos_token_id: Some(0) }\n"
        );
    }

    #[test]
    fn what_the_decoder_does_not_implement_is_refused() {
        let err = NeoxConfig::parse(&pythia(r#","hidden_act":"swiglu""#)).unwrap_err();
        assert!(err.contains("swiglu"), "{err}");
        let err = NeoxConfig::parse(&pythia(r#","rope_scaling":{"type":"linear","factor":2.0}"#)).unwrap_err();
        assert!(err.contains("linear"), "{err}");
        let err = NeoxConfig::parse(&pythia("").replace("gpt_neox", "llama")).unwrap_err();
        assert!(err.contains("llama"), "{err}");
    }
}
