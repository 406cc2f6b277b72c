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
mod find;
mod host;
mod saelens;
mod sparsify;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::host::HostSae;
use crate::activation::{Activation, Normalization};
use crate::coder::Sae;
use crate::error::{Result, SaeError};

pub use self::find::{detect, is_sae};

/// TransformerLens' name for subtracting the mean over d_model from the residual stream.
const CENTER: &str = "center_writing_weights";

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

    /// Whether an SAE can be written so that the tool computes the same, after folding.
    pub fn can_hold(self, sae: &Sae) -> bool {
        let plain = sae.normalization() == Normalization::None;
        let groupmax = matches!(sae.activation(), Activation::GroupMax { .. });
        match self {
            Self::SaeLens => !groupmax,
            Self::Sparsify => plain && (groupmax || matches!(sae.activation(), Activation::TopK { .. })),
            Self::DictionaryLearning => plain && !groupmax,
        }
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
    /// What a user should know before trusting numbers of it, in sentences.
    pub notes: Vec<String>,
}

/// Where an SAE belongs, as far as its directory says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The model's name.
    pub model_name: Option<String>,
    /// The hook point, in TransformerLens' spelling.
    pub hook_name: Option<String>,
    /// What text it was trained on.
    pub dataset_path: Option<String>,
    /// Tokens a context.
    pub context_size: Option<usize>,
    /// Whether each context starts with an extra token.
    pub prepend_bos: Option<bool>,
    /// Whether it was trained on activations without their mean over d_model: on a model that TransformerLens
    /// processed with `center_writing_weights`, the one processing that an evaluation can repeat.
    #[serde(skip)]
    pub center_residual: bool,
}

impl Metadata {
    /// Reads the keys of a JSON object that are metadata in SAELens; `path` is the file for errors.
    fn parse(path: &Path, value: &Value) -> Result<Self> {
        let mut metadata = match value {
            Value::Null => Self::default(),
            value => Self::deserialize(value).map_err(|e| SaeError::config(path, format!("metadata: {e}")))?,
        };
        metadata.add_model_kwargs(path, &value["model_from_pretrained_kwargs"])?;
        Ok(metadata)
    }

    /// What `model_from_pretrained_kwargs` say of the model's processing.
    fn add_model_kwargs(&mut self, path: &Path, kwargs: &Value) -> Result<()> {
        for (key, value) in kwargs.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                (_, Value::Null | Value::Bool(false)) => {}
                (CENTER, Value::Bool(true)) => self.center_residual = true,
                _ => {
                    return Err(SaeError::config(
                        path,
                        format!(
                            "model_from_pretrained_kwargs has {key} = {value}: the SAE was trained on a processed model, which is not supported"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The keys that [`Self::parse`] reads.
    fn json(&self) -> Value {
        json!({
            "model_name": self.model_name,
            "hook_name": self.hook_name,
            "dataset_path": self.dataset_path,
            "context_size": self.context_size,
            "prepend_bos": self.prepend_bos.unwrap_or(false),
            "model_from_pretrained_kwargs": { CENTER: self.center_residual },
            "trained_with": concat!("assay ", env!("CARGO_PKG_VERSION")),
        })
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
/// # Errors
/// If `dir` is no SAE (the message lists those below it, and says how to convert pickled weights), a file is missing or
/// truncated, a weight is missing, misshapen or not finite, or a setting that changes what the SAE computes is not supported.
pub fn load(dir: &Path, device: &Device) -> Result<LoadedSae> {
    let found = find::find(dir)?;
    let Parsed { sae, metadata, notes } = match found.format {
        Format::SaeLens => saelens::read(&found.dir)?,
        Format::Sparsify => sparsify::read(&found.dir)?,
        Format::DictionaryLearning => dictionary_learning::read(&found.dir, &found.weights)?,
    };
    Ok(LoadedSae { sae: sae.on(device), metadata, format: found.format, notes })
}

/// Writes an SAE, folding into its weights what the format has no word for. A directory that is there already is replaced, but
/// only when all of the new one is on disk. Weights are written in f32.
///
/// `firing_rates` are those of SAELens' `sparsity.safetensors`, where there are any; the other formats don't hold them.
///
/// # Errors
/// If the format can't express the SAE, or a file can't be written.
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
    let staging = staging_dir(dir)?;
    let host = HostSae::of(sae);
    match format {
        Format::SaeLens => saelens::write(&staging, host, metadata, firing_rates),
        Format::Sparsify => sparsify::write(&staging, host, metadata),
        Format::DictionaryLearning => dictionary_learning::write(&staging, host, metadata),
    }?;
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(|e| SaeError::write(dir, e))?;
    }
    std::fs::rename(&staging, dir).map_err(|e| SaeError::write(dir, e))
}

/// An empty directory beside `dir`, with a name that says it is not finished.
fn staging_dir(dir: &Path) -> Result<PathBuf> {
    let name = dir.file_name().map_or_else(|| "sae".into(), |n| n.to_string_lossy().into_owned());
    let staging = dir.with_file_name(format!(".{name}.{}.part", std::process::id()));
    if staging.exists() {
        std::fs::remove_dir_all(&staging).map_err(|e| SaeError::write(&staging, e))?;
    }
    std::fs::create_dir_all(&staging).map_err(|e| SaeError::write(&staging, e))?;
    Ok(staging)
}

/// Reads a JSON file.
fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|e| SaeError::read(path, e))?;
    serde_json::from_str(&text).map_err(|e| SaeError::config(path, e.to_string()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("a JSON value serialises");
    std::fs::write(path, text + "\n").map_err(|e| SaeError::write(path, e))
}

/// A selection of `k` of `d_sae` latents, or an error.
fn checked_k(path: &Path, k: Option<i64>, d_sae: usize) -> Result<usize> {
    let Some(k) = k else {
        return Err(SaeError::config(path, "`k` is missing; a topk SAE has one"));
    };
    let chosen = usize::try_from(k).ok().filter(|k| (1..=d_sae).contains(k));
    chosen.ok_or_else(|| SaeError::config(path, format!("k is {k}; it must lie between 1 and d_sae = {d_sae}")))
}
