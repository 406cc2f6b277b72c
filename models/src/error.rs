//! What can go wrong between a checkpoint or a text file and an activation.

use std::path::{Path, PathBuf};

use crate::hooks::HookPoint;

/// Result of this crate's fallible functions.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// Every error names the file or value at fault and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read.
    // Not `source`: whoever prints the chain of causes would print it twice.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// `config.json` is missing something or asks for something unsupported.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No weights in a model directory.
    #[error("{} holds neither model.safetensors nor model.safetensors.index.json; convert pickled weights with transformers' save_pretrained", dir.display())]
    NoWeights {
        /// The directory.
        dir: PathBuf,
    },
    /// A safetensors file that cannot be parsed.
    #[error("{} is not a complete safetensors file ({why}); download or copy it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        why: String,
    },
    /// A GGUF file that cannot be read.
    #[error("{}, byte {at}: {why}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Where, from its beginning.
        at: usize,
        /// What is wrong there.
        why: String,
    },
    /// A tensor that the decoder needs is in none of the files.
    #[error("{}: tensor `{name}` is missing; is the checkpoint complete, and config.json its own?", path.display())]
    MissingTensor {
        /// The file or directory.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// A tensor that two shards hold, perhaps with different values.
    #[error("{}: tensor `{name}` is in {} too; which is right? Remove the other shard, or download the checkpoint again", path.display(), other.display())]
    Twice {
        /// The shard that was read later.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The shard that was read before.
        other: PathBuf,
    },
    /// Tensors that the decoder has no place for.
    #[error("{}: {} tensor(s) that this architecture does not have, first `{first}`; is config.json that of another model?", path.display(), count)]
    SurplusTensors {
        /// The directory.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A tensor with another shape than config.json says.
    #[error("{}: tensor `{name}` has shape {found:?}, config.json asks for {expected:?}; is it that of another model?", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A dtype that is not a float we can widen to f32.
    #[error("{}: tensor `{name}` has dtype {dtype}; f32, f16, bf16 and f64 are read", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// What it is.
        dtype: String,
    },
    /// NaN or infinity among the weights.
    #[error("{}: tensor `{name}` holds {value} at element {index}; the checkpoint is damaged or diverged", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The value.
        value: f32,
        /// Flat index of the first such element.
        index: usize,
    },
    /// Weights that do not fit into a device's memory.
    #[error(
        "{}: the weights take {:.1} GB of memory and {:.1} GB are free: {:.1} GB are missing; {remedy}", dir.display(), *needed as f64 / 1e9,
        *free as f64 / 1e9, (*needed - *free) as f64 / 1e9
    )]
    Memory {
        /// The checkpoint.
        dir: PathBuf,
        /// Bytes of the weights.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// What would help.
        remedy: &'static str,
    },
    /// A token that the embedding has no row for.
    #[error(
        "token id {id} (sequence {sequence}, position {position}) is out of range: the model's vocabulary has {vocab_size} entries; were these tokens made for another model?"
    )]
    TokenOutOfRange {
        /// The token.
        id: u32,
        /// Row.
        sequence: usize,
        /// Column.
        position: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A context longer than the model was made for.
    #[error(
        "contexts of {context_size} tokens are longer than the model's max_position_embeddings, {max_positions}; use a smaller context_size"
    )]
    ContextTooLong {
        /// Tokens a context.
        context_size: usize,
        /// The model's limit.
        max_positions: usize,
    },
    /// A hook that does not exist in this model.
    #[error("hook {hook} does not exist: the model has {n_layers} layers, 0 to {}", n_layers - 1)]
    HookBeyondModel {
        /// The hook.
        hook: HookPoint,
        /// Layers of the model.
        n_layers: usize,
    },
    /// `hook_resid_mid` in a model whose attention and MLP run in parallel.
    #[error("hook {hook} does not exist in a model with parallel residual: attention and MLP both read hook_resid_pre")]
    NoResidMid {
        /// The hook.
        hook: HookPoint,
    },
    /// `ln2.hook_normalized` in a model whose MLP reads the residual stream without a norm.
    #[error(
        "hook {hook} does not exist in this model: its MLP reads the residual stream without a norm; take mlp.hook_in"
    )]
    NoMlpNorm {
        /// The hook.
        hook: HookPoint,
    },
    /// Centring where no LayerNorm follows.
    #[error(
        "hook {hook} can't be centred over d_model: a matrix reads it directly, so the model would predict something else; leave center_residual out"
    )]
    CenteredInput {
        /// The hook.
        hook: HookPoint,
    },
    /// A hook that has no biases of the values in it to leave out.
    #[error("hook {hook} can't be without the values' biases: only attn.hook_z has them as a summand; leave that out")]
    NoValueBias {
        /// The hook.
        hook: HookPoint,
    },
    /// Centring where norms do not.
    #[error(
        "hook {hook} can't be centred over d_model: this model's norms (RMSNorm) do not take the mean out, so the model would predict something else; leave center_residual out"
    )]
    CenteredRms {
        /// The hook.
        hook: HookPoint,
    },
    /// A hook name that cannot be parsed.
    #[error("`{name}` is not a hook point{meant}; one is blocks.3.hook_resid_post, and others end in {known}")]
    HookName {
        /// The text.
        name: String,
        /// Which one is probably meant, as a remark, or nothing.
        meant: String,
        /// The kinds' names.
        known: String,
    },
    /// A text that names no kind of hook.
    #[error("`{name}` is no kind of hook{meant}; there are {known}")]
    HookKindName {
        /// The text.
        name: String,
        /// Which one is probably meant, as a remark, or nothing.
        meant: String,
        /// The kinds' names.
        known: String,
    },
    /// A token, text or dataset file with unusable content.
    #[error("{}: {why}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Fewer tokens than asked for.
    #[error("{}: {wanted} contexts of {context_size} tokens are asked for{}, and there are {available}; ask for fewer, or give more text", path.display(), after(*first))]
    TooFewTokens {
        /// The file.
        path: PathBuf,
        /// Contexts asked for.
        wanted: usize,
        /// Where they start.
        first: usize,
        /// Contexts that there are, in all.
        available: usize,
        /// Tokens a context.
        context_size: usize,
    },
}

/// Where contexts are asked for that are not the first.
fn after(first: usize) -> String {
    if first == 0 { String::new() } else { format!(" after the first {first}") }
}

impl ModelError {
    pub(crate) fn read(path: &Path, why: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), why }
    }

    pub(crate) fn data(path: &Path, why: impl Into<String>) -> Self {
        Self::Data { path: path.to_owned(), why: why.into() }
    }
}
