//! Which tensors a checkpoint has, and which of them are the weights of its decoder.

use std::collections::BTreeMap;

use crate::config::{Attention, DecoderConfig, NormKind, QkNorm};
use crate::error::Result;
use crate::families::{Names, Qkv};
use crate::weights::Checkpoint;

/// What is where in a checkpoint whose tensors are those of its configuration.
pub(crate) struct Inventory {
    /// What the file calls the weights.
    pub names: Names,
    /// Name of the unembedding, `[vocab_size, d_model]`; that of the embedding, where one matrix is both.
    pub unembed: String,
    /// Name of the embedding.
    pub embed: String,
    /// A head that is in the files and not used.
    unused: Option<String>,
}

impl Inventory {
    /// Checks that a checkpoint has every tensor that its configuration asks for, in its shape, and no others but buffers. Only
    /// headers are looked at, but for a tied model that has two matrices: as in transformers (5.17, `tie_weights`) a head of its own
    /// that differs from the embedding stays, and if one of the two is missing the other is both.
    ///
    /// # Errors
    /// Names the first tensor that is missing, misshapen or not of the architecture.
    pub(crate) fn of(checkpoint: &Checkpoint, config: &DecoderConfig, names: Names) -> Result<Self> {
        let embed = names.embed.clone();
        let head = names.unembed.iter().find(|name| checkpoint.contains(name)).cloned();
        let (embed, unembed) = match (&head, config.ends.tied) {
            (None, true) => (embed.clone(), embed),
            (Some(head), true) if !checkpoint.contains(&embed) => (head.clone(), head.clone()),
            (Some(head), true) if checkpoint.same(&embed, head) => (embed.clone(), embed),
            (Some(head), _) => (embed, head.clone()),
            (None, false) => (embed, names.unembed[0].clone()),
        };
        let mut shapes = shapes(config, &names);
        for name in [&embed, &unembed] {
            shapes.insert(name.clone(), vec![config.vocab_size, config.d_model]);
        }
        let unused = head.filter(|head| *head != unembed);
        let inventory = Self { names, unembed, embed, unused };
        checkpoint.check(&shapes, |name| inventory.ignores(name))?;
        Ok(inventory)
    }

    /// Whether one matrix is both embedding and unembedding.
    pub(crate) fn is_tied(&self) -> bool {
        self.embed == self.unembed
    }

    /// Whether a tensor is in the files but none of the weights: masks and tables that real files hold, and a copy of the embedding.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.names.ignores(name) || self.unused.as_deref() == Some(name)
    }
}

/// The shapes of the weights but for embedding and unembedding.
fn shapes(config: &DecoderConfig, names: &Names) -> BTreeMap<String, Vec<usize>> {
    let DecoderConfig { d_model, attention, mlp, .. } = config;
    let Attention { d_head, qkv_bias, out_bias, .. } = *attention;
    let (d_q, d_kv) = (attention.d_q(), attention.d_kv());
    let mut shapes = BTreeMap::new();
    let mut norm = |stem: &Option<String>, width: usize, has_bias: bool| {
        if let Some(stem) = stem {
            shapes.insert(format!("{stem}.weight"), vec![width]);
            if has_bias {
                shapes.insert(format!("{stem}.bias"), vec![width]);
            }
        }
    };
    let has_bias = config.norm.kind == NormKind::Layer;
    norm(&Some(names.final_norm.clone()), *d_model, has_bias);
    for layer in &names.layers {
        for stem in [&layer.norm_attn, &layer.post_attn, &layer.norm_mlp, &layer.post_mlp] {
            norm(stem, *d_model, has_bias);
        }
        let (q, k) = if attention.qk_norm == QkNorm::Flat { (d_q, d_kv) } else { (d_head, d_head) };
        norm(&layer.q_norm, q, false);
        norm(&layer.k_norm, k, false);
    }
    let mut map = |stem: &str, d_out: usize, d_in: usize, bias: bool| {
        let shape = if names.is_transposed { vec![d_in, d_out] } else { vec![d_out, d_in] };
        shapes.insert(format!("{stem}.weight"), shape);
        if bias {
            shapes.insert(format!("{stem}.bias"), vec![d_out]);
        }
    };
    for layer in &names.layers {
        match &layer.qkv {
            Qkv::Split([q, k, v]) => {
                map(q, d_q, *d_model, qkv_bias);
                map(k, d_kv, *d_model, qkv_bias);
                map(v, d_kv, *d_model, qkv_bias);
            }
            Qkv::Fused(stem) | Qkv::ByHead(stem) => map(stem, d_q + 2 * d_kv, *d_model, qkv_bias),
        }
        map(&layer.attn_out, *d_model, d_q, out_bias);
        for stem in layer.gate.iter().chain([&layer.up]) {
            map(stem, mlp.d_mlp, *d_model, mlp.bias);
        }
        map(&layer.down, *d_model, mlp.d_mlp, mlp.bias);
    }
    if let Some(positions) = &names.positions {
        shapes.insert(positions.clone(), vec![config.max_positions, *d_model]);
    }
    shapes
}
