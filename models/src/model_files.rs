//! A checkpoint whose files are open and checked, and whose weights are still on the disk.
//!
//! The files stay open, so that what was hashed is what is loaded later, also when another file takes its name meanwhile.

use std::path::Path;

use burn::tensor::Device;

use crate::config::DecoderConfig;
use crate::decoder::{Decoder, LoadedWeights};
use crate::error::Result;
use crate::families;
use crate::fingerprint::fingerprint;
use crate::gguf::{self, Gguf};
use crate::inventory::Inventory;
use crate::place::{self, is_gguf};
use crate::weights::Checkpoint;

/// An opened checkpoint.
pub struct ModelFiles {
    pub(crate) config: DecoderConfig,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) inventory: Inventory,
}

impl ModelFiles {
    /// Opens a Hugging Face checkpoint directory, or a GGUF file; of the weights only the headers are read.
    ///
    /// # Errors
    /// If `config.json` or a tensor is missing, unsupported or misshapen, or if the files hold tensors that the architecture does not
    /// have.
    pub fn open(path: &Path) -> Result<Self> {
        place::check(path)?;
        let (config, checkpoint, names) = if is_gguf(path) {
            let file = Gguf::open(path)?;
            let config = gguf::config(&file)?;
            let names = gguf::names(&config);
            (config, Checkpoint::of_gguf(file), names)
        } else {
            let config = DecoderConfig::load(path)?;
            let checkpoint = Checkpoint::open(path)?;
            let names = families::names(&config, &|name| checkpoint.contains(name));
            (config, checkpoint, names)
        };
        let inventory = Inventory::of(&checkpoint, &config, names)?;
        Ok(Self { config, checkpoint, inventory })
    }

    /// The model's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// BLAKE3 of the configuration and the weights, the same for any sharding and path. Reads all weights once.
    pub fn weights_hash(&self) -> String {
        self.checkpoint.hash(&fingerprint(&self.config), |name| self.inventory.ignores(name))
    }

    /// Checks that all weights are finite. Reads all of them, a tensor per thread at a time.
    ///
    /// # Errors
    /// Names the first tensor with a value that is not.
    pub fn check_values(&self) -> Result<()> {
        self.checkpoint.check_values(|name| self.inventory.ignores(name))
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    /// Reads the weights into a device's memory.
    ///
    /// # Errors
    /// If they do not fit, or one of them is not finite.
    pub fn load(&self, device: &Device) -> Result<Decoder> {
        self.load_with(LoadedWeights::OfFiles, device)
    }

    /// The same, or a model like it that learned nothing.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(&self, weights: LoadedWeights, device: &Device) -> Result<Decoder> {
        self.check_memory(device)?;
        Decoder::from_files(self, device, weights)
    }
}
