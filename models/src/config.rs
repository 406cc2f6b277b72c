//! What a decoder computes: its block, its positions, its ends. Parsed from a `config.json` or a GGUF file by one of
//! `families`; nothing after it knows a family.

use serde::{Deserialize, Serialize};

/// The shape of a decoder, and everything that changes its numbers beside the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// For messages and for the names of tensors; the forward pass does not look at it.
    pub family: Family,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Rows of the embedding and of the unembedding.
    pub vocab_size: usize,
    /// Longest context that the model was made for.
    pub max_positions: usize,
    /// The norms of the residual stream.
    pub norm: Norm,
    /// Where norms stand in a block, and what its halves read.
    pub layout: Layout,
    /// What attention does in every layer.
    pub attention: Attention,
    /// What differs from layer to layer; as many as there are layers.
    pub layers: Vec<LayerKind>,
    /// The rotary embeddings that layers choose from.
    pub ropes: Vec<Rope>,
    /// The MLP.
    pub mlp: Mlp,
    /// From tokens to the residual stream, and from there to logits.
    pub ends: Ends,
    /// The token at the start of a context, by the configuration.
    pub bos: Option<u32>,
    /// The end-of-text token, which separates documents.
    pub eos: Option<u32>,
}

/// A family of architectures: who names the tensors how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// GPT-NeoX: Pythia and others.
    Neox,
    /// GPT-2.
    Gpt2,
    /// Llama 2 and 3, SmolLM2 and others.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3, dense.
    Qwen3,
    /// Gemma 1.
    Gemma,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text.
    Gemma3,
    /// OLMo-2.
    Olmo2,
}

/// Normalisation over d_model, with a gain (`weight`) and, in a LayerNorm, a bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Which.
    pub kind: NormKind,
    /// Added to the variance, or to the mean square.
    pub eps: f64,
}

/// Kinds of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// (x − mean x)/√(var x + ε)·w + b.
    Layer,
    /// x/√(mean x² + ε)·w. Where a file stores w − 1 (Gemma), the 1 is added when it is loaded.
    Rms,
}

/// How a block is put together of attention a, MLP m and norms N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// mid = x + a(N₁x); post = mid + m(N₂mid).
    PreNorm,
    /// mid = x + N₁'(a(N₁x)); post = mid + N₂'(m(N₂mid)).
    PreAndPostNorm,
    /// mid = x + N₁'(a(x)); post = mid + N₂'(m(mid)).
    PostNorm,
    /// post = x + a(N₁x) + m(N₂x).
    Parallel,
}

impl Layout {
    /// Whether attention and MLP each read through a norm.
    pub fn has_pre_norm(self) -> bool {
        self != Self::PostNorm
    }

    /// Whether what attention and MLP write passes a norm before it is added.
    pub fn has_post_norm(self) -> bool {
        matches!(self, Self::PreAndPostNorm | Self::PostNorm)
    }
}

/// Attention, as far as all layers share it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Heads of queries, H.
    pub n_heads: usize,
    /// Heads of keys and values, K; query head h reads number ⌊h·K/H⌋.
    pub n_kv_heads: usize,
    /// Dimensions of a head, D; H·D need not be d_model.
    pub d_head: usize,
    /// Whether the projections to queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has one.
    pub out_bias: bool,
    /// Norms of queries and keys, before they are rotated.
    pub qk_norm: QkNorm,
    /// c of c·tanh(score/c), applied to scaled scores before the mask.
    pub score_cap: Option<f64>,
}

/// RMS norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QkNorm {
    /// There are none.
    None,
    /// Over the dimensions of each head; the gain is that of all heads, `[d_head]`.
    PerHead,
    /// Over all heads together; the gains are `[n_heads · d_head]` and `[n_kv_heads · d_head]`.
    Flat,
}

/// What is particular to a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerKind {
    /// How many keys a query sees, itself included; `None`: all before it.
    pub window: Option<usize>,
    /// Index into [`DecoderConfig::ropes`]; `None` where positions are embedded.
    pub rope: Option<usize>,
    /// What q·k is multiplied by.
    pub score_scale: f64,
}

/// A rotary embedding: rotate-half pairs (i, i + dims/2) of the first `dims` dimensions of each head.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// How many dimensions of a head are rotated.
    pub dims: usize,
    /// Base of the frequencies θ^(−2i/dims).
    pub theta: f64,
    /// What is done to the frequencies.
    pub scaling: RopeScaling,
}

/// Scalings of rotary frequencies (transformers' `modeling_rope_utils.py`).
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    Default,
    /// f/factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Long wavelengths divided by the factor, short ones kept, those between interpolated.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// `low_freq_factor`
        low: f64,
        /// `high_freq_factor`
        high: f64,
        /// `original_max_position_embeddings`
        original: usize,
    },
    /// YaRN: a ramp over the dimensions, and a factor on cos and sin.
    Yarn {
        /// The divisor.
        factor: f64,
        /// Turns within the original context above which a frequency is kept (`beta_fast`).
        beta_fast: f64,
        /// Turns below which it is divided (`beta_slow`).
        beta_slow: f64,
        /// `original_max_position_embeddings`
        original: usize,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
        /// What cos and sin are multiplied by.
        attention_factor: f64,
    },
    /// A divisor for each frequency; another set beyond the original context.
    LongRope {
        /// Divisors up to `original` tokens, dims/2 of them.
        short: Vec<f64>,
        /// Divisors of longer contexts.
        long: Vec<f64>,
        /// `original_max_position_embeddings`
        original: usize,
        /// What cos and sin are multiplied by.
        attention_factor: f64,
    },
    /// A divisor for each frequency at any length, as GGUF stores scalings (`rope_freqs.weight`).
    Divisors(Vec<f32>),
}

/// The MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mlp {
    /// Its width.
    pub d_mlp: usize,
    /// Its activation function.
    pub act: Act,
    /// down(act(gate·x) ⊙ up·x) instead of down(act(up·x)).
    pub gated: bool,
    /// Whether its projections have biases.
    pub bias: bool,
}

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// `0.5·x·(1 + erf(x/√2))`, what Pythia uses.
    Gelu,
    /// The tanh approximation of GELU (`gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x·σ(x)`, also called swish.
    Silu,
}

/// The ends of a decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends {
    /// What a row of the embedding is multiplied by on its way into the residual stream.
    pub embed_scale: f64,
    /// Whether an embedding of positions is added.
    pub learned_positions: bool,
    /// The unembedding is the embedding.
    pub tied: bool,
    /// c of c·tanh(logit/c).
    pub logit_cap: Option<f64>,
}

impl DecoderConfig {
    /// Number of layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }
}

impl Attention {
    /// Width of all heads' queries, and of what W_O reads: H·D.
    pub fn d_q(&self) -> usize {
        self.n_heads * self.d_head
    }

    /// Width of all heads' keys, or values: K·D.
    pub fn d_kv(&self) -> usize {
        self.n_kv_heads * self.d_head
    }
}
