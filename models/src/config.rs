//! `config.json` of a GPT-NeoX checkpoint, in both spellings that transformers has used.

use std::path::Path;

use crate::error::{ModelError, Result};
use crate::files::read_text;
use crate::keys::Keys;

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
        let text = read_text(&path)?;
        Self::parse(&text).map_err(|why| ModelError::Config { path, why })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let keys = Keys::parse(text)?;
        let family = keys.text("model_type")?.ok_or("it has no model_type; is it the config.json of a model?")?;
        if family != "gpt_neox" {
            return Err(format!(
                "model_type is `{family}`; only `gpt_neox` is supported: Pythia, GPT-NeoX-20B and others of their architecture"
            ));
        }
        let size = |key: &str| match keys.count(key)? {
            None => Err(format!("{key} is missing")),
            Some(0) => Err(format!("{key} is 0")),
            Some(value) => Ok(value),
        };
        let (d_model, n_layers, d_mlp) = (size("hidden_size")?, size("num_hidden_layers")?, size("intermediate_size")?);
        let (n_heads, vocab_size) = (size("num_attention_heads")?, size("vocab_size")?);
        if !d_model.is_multiple_of(n_heads) {
            return Err(format!("hidden_size {d_model} is not a multiple of num_attention_heads {n_heads}"));
        }
        // Each setting of rotation has been spelled in several ways, and a file may have more than one of them.
        let ropes = [keys.object("rope_parameters")?, keys.object("rope_scaling")?];
        let in_ropes = |key: &'static str| ropes.iter().flatten().map(move |rope| (rope, key));
        let kinds = in_ropes("rope_type").chain(in_ropes("type")).map(|(rope, key)| rope.text(key));
        if let Some(kind) = agreed(kinds.collect(), "rope_type")?.filter(|kind| kind != "default") {
            return Err(format!("rope_type `{kind}` is not supported, only `default`"));
        }
        let thetas = in_ropes("rope_theta").map(|(rope, key)| rope.number(key));
        let rotary_base =
            agreed(thetas.chain([keys.number("rotary_emb_base"), keys.number("rope_theta")]).collect(), "rope_theta")?;
        let fractions = in_ropes("partial_rotary_factor").map(|(rope, key)| rope.number(key));
        let fraction = agreed(
            fractions.chain([keys.number("rotary_pct"), keys.number("partial_rotary_factor")]).collect(),
            "rotary_pct",
        )?;
        let hidden_act = match keys.text("hidden_act")?.as_deref().unwrap_or("gelu") {
            "gelu" => HiddenAct::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => HiddenAct::GeluTanh,
            "relu" => HiddenAct::Relu,
            other => return Err(format!("hidden_act `{other}` is not supported; gelu, gelu_new and relu are")),
        };
        // The defaults here and below are those of transformers' GPTNeoXConfig.
        let (d_head, fraction) = (d_model / n_heads, fraction.unwrap_or(0.25));
        let rotary_dims = (d_head as f64 * fraction) as usize;
        if !rotary_dims.is_multiple_of(2) || rotary_dims > d_head {
            return Err(format!(
                "rotary fraction {fraction} of d_head {d_head} gives {rotary_dims} dimensions; an even number up to d_head is needed"
            ));
        }
        Ok(Self {
            d_model,
            n_layers,
            n_heads,
            d_mlp,
            vocab_size,
            max_positions: keys.count("max_position_embeddings")?.unwrap_or(2048),
            rotary_dims,
            rotary_base: rotary_base.unwrap_or(10_000.0),
            layer_norm_eps: keys.number("layer_norm_eps")?.unwrap_or(1e-5),
            parallel_residual: keys.flag("use_parallel_residual")?.unwrap_or(true),
            hidden_act,
            tied_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            attention_bias: keys.flag("attention_bias")?.unwrap_or(true),
            eos_token_id: keys.first_id("eos_token_id")?,
        })
    }
}

/// The value that several spellings of a setting agree on, of those that are there.
fn agreed<T: PartialEq + std::fmt::Display>(
    found: Vec<std::result::Result<Option<T>, String>>,
    what: &str,
) -> std::result::Result<Option<T>, String> {
    let mut agreed: Option<T> = None;
    for value in found {
        match (value?, &agreed) {
            (Some(value), Some(other)) if value != *other => {
                return Err(format!("{what} is given twice, as {other} and as {value}; remove the wrong one"));
            }
            (Some(value), _) => agreed = Some(value),
            (None, _) => {}
        }
    }
    Ok(agreed)
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

    #[test]
    fn what_the_ecosystem_writes_loosely_is_read() {
        let strict =
            NeoxConfig::parse(&pythia(r#","eos_token_id":0,"rotary_pct":0.25,"tie_word_embeddings":true"#)).unwrap();
        for loose in [
            r#","eos_token_id":[0,2],"rotary_pct":0.25,"tie_word_embeddings":true"#,
            r#","eos_token_id":0.0,"rotary_pct":"0.25","tie_word_embeddings":"True","layer_norm_eps":"1e-5""#,
            r#","eos_token_id":[null,0],"rotary_pct":null,"tie_word_embeddings":1,"attention_bias":null"#,
            r#","eos_token_id":0,"tie_word_embeddings":true,"rope_scaling":{"type":"default","rope_type":"default"}"#,
            r#","eos_token_id":0,"tie_word_embeddings":true,"rope_scaling":null,"rope_parameters":{"rope_type":null},"initializer_range":NaN"#,
            r#","eos_token_id":0,"tie_word_embeddings":true,"rotary_emb_base":10000,"rope_parameters":{"rope_theta":1e4}"#,
            r#","eos_token_id":0,"tie_word_embeddings":true,"max_position_embeddings":2048.0,"vocab_size":"50304""#,
        ] {
            assert_eq!(NeoxConfig::parse(&pythia(loose)).unwrap(), strict, "{loose}");
        }
        for none in ["", r#","eos_token_id":null"#, r#","eos_token_id":[]"#, r#","eos_token_id":-1"#] {
            assert_eq!(NeoxConfig::parse(&pythia(none)).unwrap().eos_token_id, None, "{none}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_named_with_its_key() {
        for (extra, parts) in [
            (r#","hidden_size":512.5"#, ["hidden_size", "512.5"]),
            (r#","vocab_size":-5"#, ["vocab_size", "-5"]),
            (r#","num_hidden_layers":{"a":1}"#, ["num_hidden_layers", r#"{"a":1}"#]),
            (r#","num_hidden_layers":null"#, ["num_hidden_layers", "missing"]),
            (r#","layer_norm_eps":"tiny""#, ["layer_norm_eps", "tiny"]),
            (r#","use_parallel_residual":"perhaps""#, ["use_parallel_residual", "perhaps"]),
            (r#","use_parallel_residual":2"#, ["use_parallel_residual", "2"]),
            (r#","eos_token_id":"<|endoftext|>""#, ["eos_token_id", "<|endoftext|>"]),
            (r#","rope_scaling":{"type":"linear","rope_type":"default"}"#, ["rope_type is given twice", "linear"]),
            (r#","rotary_emb_base":500,"rope_parameters":{"rope_theta":10000}"#, ["rope_theta is given twice", "500"]),
            (r#","rope_scaling":[1]"#, ["rope_scaling", "[1]"]),
            (r#","hidden_act":3"#, ["hidden_act", "3"]),
        ] {
            let error = NeoxConfig::parse(&pythia(extra)).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        assert!(NeoxConfig::parse("[]").unwrap_err().contains("not a JSON object"));
        assert!(NeoxConfig::parse("{}").unwrap_err().contains("no model_type"));
        assert!(NeoxConfig::parse("{\"a\": 1").unwrap_err().contains("line 1"));
    }
}
