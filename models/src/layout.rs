//! Which tensors a GPT-NeoX checkpoint has, by the names that transformers gives them.

use std::collections::BTreeMap;

use crate::config::NeoxConfig;
use crate::error::Result;
use crate::weights::Checkpoint;

/// The embedding.
const EMBED: &str = "gpt_neox.embed_in.weight";
/// The unembedding, in both spellings.
const UNEMBED: [&str; 2] = ["embed_out.weight", "lm_head.weight"];

/// What is where in a checkpoint whose tensors are those of its configuration.
pub(crate) struct Layout {
    /// Name of the embedding, `[vocab_size, d_model]`.
    pub embed: &'static str,
    /// Name of the unembedding, of the same shape.
    pub unembed: &'static str,
    /// A head that is in the files and not used.
    unused: Option<&'static str>,
}

impl Layout {
    /// Checks that a checkpoint has every tensor that its configuration asks for, in its shape, and no others but buffers. Only
    /// headers are looked at, but for a tied model that has two matrices: as in transformers (5.17, `tie_weights`) a head of its own
    /// that differs from the embedding stays, and if one of the two is missing the other is both.
    ///
    /// # Errors
    /// Names the first tensor that is missing, misshapen or not of the architecture.
    pub(crate) fn of(checkpoint: &Checkpoint, config: &NeoxConfig) -> Result<Self> {
        let head = UNEMBED.into_iter().find(|name| checkpoint.contains(name));
        let (embed, unembed) = match (head, config.tied_embeddings) {
            (None, true) => (EMBED, EMBED),
            (Some(head), true) if !checkpoint.contains(EMBED) => (head, head),
            (Some(head), true) if checkpoint.same(EMBED, head) => (EMBED, EMBED),
            (Some(head), _) => (EMBED, head),
            (None, false) => (EMBED, UNEMBED[0]),
        };
        let layout = Self { embed, unembed, unused: head.filter(|head| *head != unembed) };
        let mut shapes = shapes(config);
        for name in [embed, unembed] {
            shapes.insert(name.to_owned(), vec![config.vocab_size, config.d_model]);
        }
        checkpoint.check(&shapes, |name| layout.ignores(name))?;
        Ok(layout)
    }

    /// Whether one matrix is both embedding and unembedding.
    pub(crate) fn is_tied(&self) -> bool {
        self.embed == self.unembed
    }

    /// Whether a tensor is in the files but none of the weights: masks and rotary tables that real Pythia files hold, and a copy of the
    /// embedding.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        let buffers = [".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"];
        buffers.iter().any(|end| name.ends_with(end)) || self.unused == Some(name)
    }
}

/// The shapes of the weights but for embedding and unembedding; a matrix is `[out, in]`.
fn shapes(config: &NeoxConfig) -> BTreeMap<String, Vec<usize>> {
    let NeoxConfig { d_model, d_mlp, n_layers, attention_bias, .. } = *config;
    let mut shapes = BTreeMap::new();
    let mut norm = |name: String| {
        shapes.insert(format!("{name}.weight"), vec![d_model]);
        shapes.insert(format!("{name}.bias"), vec![d_model]);
    };
    norm("gpt_neox.final_layer_norm".to_owned());
    for layer in 0..n_layers {
        norm(format!("gpt_neox.layers.{layer}.input_layernorm"));
        norm(format!("gpt_neox.layers.{layer}.post_attention_layernorm"));
    }
    for layer in 0..n_layers {
        for (part, d_out, d_in, bias) in [
            ("attention.query_key_value", 3 * d_model, d_model, attention_bias),
            ("attention.dense", d_model, d_model, attention_bias),
            ("mlp.dense_h_to_4h", d_mlp, d_model, true),
            ("mlp.dense_4h_to_h", d_model, d_mlp, true),
        ] {
            let name = format!("gpt_neox.layers.{layer}.{part}");
            shapes.insert(format!("{name}.weight"), vec![d_out, d_in]);
            if bias {
                shapes.insert(format!("{name}.bias"), vec![d_out]);
            }
        }
    }
    shapes
}
