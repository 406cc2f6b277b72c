//! What a file calls the tensors of a decoder, and what it does to them.

/// The names of a file's tensors. Of a norm or a linear map it is the stem, to which `.weight` and `.bias` are added.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The embedding, `[vocab_size, d_model]`.
    pub embed: String,
    /// Spellings of an unembedding of its own, `[vocab_size, d_model]`, the usual one first.
    pub unembed: Vec<String>,
    /// The embedding of positions, `[max_positions, d_model]`.
    pub positions: Option<String>,
    /// The norm after the last layer.
    pub final_norm: String,
    /// Each layer's.
    pub layers: Vec<LayerNames>,
    /// Ends and beginnings of names of tensors that are none of the weights: masks, tables, the other half of a multimodal model.
    pub ignored_ends: &'static [&'static str],
    /// See `ignored_ends`.
    pub ignored_starts: &'static [&'static str],
    /// What is added to the gain of every RMS norm.
    pub gain_offset: f32,
    /// Matrices are `[in, out]` instead of `[out, in]`.
    pub is_transposed: bool,
    /// Rows of a head's queries and keys are in the order of rotated neighbours (2i, 2i + 1) instead of halves (i, i + D/2).
    pub is_interleaved: bool,
}

/// The names of a layer's tensors; what a family does not have is `None`.
#[derive(Clone, Debug)]
pub(crate) struct LayerNames {
    pub norm_attn: Option<String>,
    pub post_attn: Option<String>,
    pub norm_mlp: Option<String>,
    pub post_mlp: Option<String>,
    pub qkv: Qkv,
    pub q_norm: Option<String>,
    pub k_norm: Option<String>,
    pub attn_out: String,
    pub gate: Option<String>,
    pub up: String,
    pub down: String,
}

/// The projections to queries, keys and values.
#[derive(Clone, Debug)]
pub(crate) enum Qkv {
    /// Three maps.
    Split([String; 3]),
    /// One, whose outputs are all queries, then all keys, then all values.
    Fused(String),
    /// One, whose outputs are ordered head by head, (q, k, v) within each.
    ByHead(String),
}

impl Names {
    /// Whether a tensor is none of the weights.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignored_ends.iter().any(|end| name.ends_with(end))
            || self.ignored_starts.iter().any(|start| name.starts_with(start))
    }
}

/// The first of some prefixes under which there is a tensor, or else the first.
pub(super) fn prefix<'a>(candidates: &[&'a str], tensor: &str, contains: &dyn Fn(&str) -> bool) -> &'a str {
    let found = candidates.iter().find(|prefix| contains(&format!("{prefix}{tensor}")));
    found.or(candidates.first()).copied().unwrap_or("")
}
