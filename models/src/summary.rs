//! What a checkpoint holds, by the headers of its files: no weights are read into memory.

use std::path::Path;

use crate::config::DecoderConfig;
use crate::error::Result;
use crate::model_files::ModelFiles;

/// Bytes of weights up to which they are hashed: about a second's work.
const HASHED: u64 = 1 << 30;

/// A checkpoint in numbers.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its configuration.
    pub config: DecoderConfig,
    /// Elements of all weights. A matrix that is both embedding and unembedding counts once.
    pub parameters: u64,
    /// Bytes of them in the files.
    pub bytes: u64,
    /// Their number formats, as safetensors names them.
    pub dtypes: Vec<String>,
    /// Whether embedding and unembedding are one matrix.
    pub is_tied: bool,
    /// Bytes of memory that the weights take on the CPU ([`ModelFiles::memory`]).
    pub cpu_memory: u64,
    /// The same of a GPU.
    pub gpu_memory: u64,
    /// BLAKE3 of configuration and weights ([`crate::ModelFiles::weights_hash`]); `None` above a GiB.
    pub weights_hash: Option<String>,
}

impl Summary {
    /// Reads `config.json` and the headers of the weights.
    ///
    /// # Errors
    /// As [`crate::Decoder::load`], but for values that are not finite.
    pub fn of(dir: &Path) -> Result<Self> {
        let files = ModelFiles::open(dir)?;
        let (parameters, bytes, dtypes) = files.checkpoint.size(|name| files.inventory.ignores(name));
        let weights_hash = (bytes <= HASHED).then(|| files.weights_hash());
        Ok(Self {
            parameters,
            bytes,
            dtypes,
            is_tied: files.inventory.is_tied(),
            cpu_memory: files.memory_of(false),
            gpu_memory: files.memory_of(true),
            weights_hash,
            config: files.config,
        })
    }

    /// What a user should know of it.
    pub fn notes(&self) -> Vec<String> {
        let differs = self.config.ends.tied && !self.is_tied;
        differs
            .then(|| {
                "config.json says that the unembedding is the embedding (`tie_word_embeddings`), but the weights hold another matrix, \
                 which is used, as in transformers."
                    .to_owned()
            })
            .into_iter()
            .collect()
    }
}
