//! SAEs on disk, in the formats of the tools that people train them with.
//!
//! | format | files |
//! | --- | --- |
//! | [`Format::SaeLens`] | `cfg.json`, `sae_weights.safetensors` |
//! | [`Format::Sparsify`] | `cfg.json`, `sae.safetensors` |
//! | [`Format::DictionaryLearning`] | `config.json` (with a `trainer`), `ae.safetensors` |
//!
//! A setting that changes what an SAE computes is followed exactly or is an error; other keys are ignored. Pickled weights are
//! never read.

mod dictionary_learning;
mod directory;
mod find;
mod host;
mod json;
mod metadata;
mod saelens;
mod sparsify;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use self::host::HostSae;
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Sae;

pub use self::directory::is_vacant;
pub use self::find::{detect, directory_of, is_sae};
pub use self::metadata::{Metadata, PROGRAM};

/// The layout of an SAE's directory, named for the tool that writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SAELens 6; older layouts are read where they mean the same.
    SaeLens,
    /// sparsify (eai-sparsify).
    Sparsify,
    /// dictionary_learning, its state dict as safetensors.
    DictionaryLearning,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SaeLens, Self::Sparsify, Self::DictionaryLearning];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeLens => "saelens",
            Self::Sparsify => "sparsify",
            Self::DictionaryLearning => "dictionary-learning",
        }
    }

    /// The name of the configuration.
    fn config(self) -> &'static str {
        self.files()[0]
    }

    /// The name of the weights.
    fn weights(self) -> &'static str {
        self.files()[1]
    }

    /// The names of all files that say what an SAE is: configuration, weights, and what may be beside them.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::SaeLens => &["cfg.json", "sae_weights.safetensors", "sparsity.safetensors", "activation_scaler.json"],
            Self::Sparsify => &["cfg.json", "sae.safetensors"],
            Self::DictionaryLearning => &["config.json", "ae.safetensors"],
        }
    }

    /// Whether a file of that name belongs to an SAE of this format.
    fn owns(self, name: &OsStr) -> bool {
        self.files().iter().any(|own| *name == **own)
    }

    /// Whether an SAE can be written so that the tool computes the same, after folding.
    pub fn can_hold(self, sae: &Sae) -> bool {
        let plain = sae.normalization() == Normalization::None;
        let groupmax = matches!(sae.activation(), Activation::GroupMax { .. });
        let transcodes = sae.is_transcoder();
        match self {
            Self::SaeLens if transcodes => {
                plain && matches!(sae.activation(), Activation::Relu | Activation::JumpRelu { .. })
            }
            Self::SaeLens => !groupmax,
            Self::Sparsify if sae.d_in() != sae.d_out() => false,
            Self::Sparsify => plain && (groupmax || matches!(sae.activation(), Activation::TopK { .. })),
            Self::DictionaryLearning => plain && !groupmax && !transcodes,
        }
    }

    /// The format in which to write an SAE: SAELens' where it can hold it, else the first that can. Where none can, SAELens', so that
    /// [`save`] says why.
    pub fn for_sae(sae: &Sae) -> Self {
        Self::ALL.into_iter().find(|format| format.can_hold(sae)).unwrap_or(Self::SaeLens)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An SAE and what its directory says of it.
#[derive(Clone, Debug)]
pub struct LoadedSae {
    /// The SAE; its arithmetic is in f32, whatever the file's dtype.
    pub sae: Sae,
    /// Where it belongs.
    pub metadata: Metadata,
    /// The format that it was read from.
    pub format: Format,
    /// The directory that it was read from.
    pub dir: PathBuf,
    /// What a user should know before trusting numbers of it, in sentences.
    pub notes: Vec<String>,
}

/// The note of an SAE that was trained on inputs multiplied by a factor, which its files don't have.
const UNSCALED: &str = "normalize_activations = `expected_average_only_in`, but the factor is not stored: nothing is scaled, as in SAELens' \
                        inference. That is right if the factor was folded into the weights; an SAE that was trained on scaled activations \
                        and not folded reconstructs badly.";

impl LoadedSae {
    /// Whether it was trained on inputs that were multiplied by a factor which its files don't have.
    pub fn lacks_input_scale(&self) -> bool {
        self.notes.iter().any(|note| note == UNSCALED)
    }

    /// The same for inputs that were multiplied by `factor` in training: W_enc is multiplied by it, W_dec and b_dec are divided, as by
    /// SAELens' `fold_activation_norm_scaling_factor`.
    pub fn scale_input(&mut self, factor: f64) {
        let device = self.sae.device();
        self.sae = HostSae::of(&self.sae).folding_input_scale(factor).on(&device);
        self.notes.retain(|note| note != UNSCALED);
    }
}

/// An SAE's directory as a format's reader understands it.
struct Parsed {
    sae: HostSae,
    metadata: Metadata,
    notes: Vec<String>,
}

/// Reads an SAE; its format is known by the files that are there.
///
/// `path` is its directory or one of its files; the weights say which, where a directory has several SAEs.
///
/// # Errors
/// If there is no SAE (the message lists those below it, and says how to convert pickled weights) or more than one, a file is missing or
/// truncated, a weight is missing, misshapen or not finite, or a setting that changes what the SAE computes is not supported.
pub fn load(path: &Path, device: &Device) -> Result<LoadedSae> {
    let found = find::find(path)?;
    let Parsed { sae, metadata, notes } = match found.format {
        Format::SaeLens => saelens::read(&found.dir)?,
        Format::Sparsify => sparsify::read(&found.dir)?,
        Format::DictionaryLearning => dictionary_learning::read(&found.dir, &found.weights)?,
    };
    Ok(LoadedSae { sae: sae.on(device), metadata, format: found.format, dir: found.dir, notes })
}

/// Writes an SAE, folding into its weights what the format has no word for. An SAE that is in the directory already is replaced, but only
/// when all of the new one is on disk; all other files stay. Weights are written in f32, and of `metadata` everything.
///
/// Transcoders are written, to SAELens' format or sparsify's, and not read.
///
/// `firing_rates` are those of SAELens' `sparsity.safetensors`, where there are any; the other formats don't hold them.
///
/// # Errors
/// If the format can't express the SAE, `dir` is a file or has a file of the same name that is none of an SAE's, or a file can't be
/// written.
pub fn save(dir: &Path, format: Format, sae: &Sae, metadata: &Metadata, firing_rates: Option<&[f64]>) -> Result<()> {
    if !format.can_hold(sae) {
        let others: Vec<&str> = Format::ALL.into_iter().filter(|f| f.can_hold(sae)).map(Format::name).collect();
        return Err(SaeError::Inexpressible {
            format,
            architecture: sae.activation().name(),
            normalization: sae.normalization().name(),
            others: others.join(" or "),
        });
    }
    let host = HostSae::of(sae);
    directory::replace(dir, |dir| match format {
        Format::SaeLens => saelens::write(dir, host, metadata, firing_rates),
        Format::Sparsify => sparsify::write(dir, host, metadata),
        Format::DictionaryLearning => dictionary_learning::write(dir, host, metadata),
    })
}

/// The firing rates in training that SAELens keeps beside an SAE, for [`save`]; `None` where there are none.
///
/// # Errors
/// If the file is damaged or is that of another SAE.
pub fn firing_rates(loaded: &LoadedSae) -> Result<Option<Vec<f64>>> {
    match loaded.format {
        Format::SaeLens => saelens::firing_rates(&loaded.dir, loaded.sae.d_sae()),
        Format::Sparsify | Format::DictionaryLearning => Ok(None),
    }
}

/// What a user should know of an SAE that is written to `dir`: the tool may not find there what [`save`] can't write into a file.
pub fn note_on_place(dir: &Path, format: Format, metadata: &Metadata) -> Option<String> {
    match format {
        Format::Sparsify => sparsify::note_on_place(dir, metadata),
        Format::SaeLens | Format::DictionaryLearning => None,
    }
}

/// A selection of `k` of `d_sae` latents, or an error.
fn checked_k(path: &Path, k: Option<usize>, d_sae: usize) -> Result<usize> {
    match k {
        None => Err(SaeError::config(path, "`k` is missing; a topk SAE has one")),
        Some(k) if (1..=d_sae).contains(&k) => Ok(k),
        Some(k) => Err(SaeError::config(path, format!("k is {k}; it must lie between 1 and d_sae = {d_sae}"))),
    }
}
