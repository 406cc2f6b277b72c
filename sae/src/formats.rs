//! SAEs on disk, in the formats of the tools that people train them with.
//!
//! | format | files |
//! | --- | --- |
//! | [`Format::SaeLens`] | `cfg.json`, `sae_weights.safetensors` |
//! | [`Format::Sparsify`] | `cfg.json`, `sae.safetensors` |
//! | [`Format::DictionaryLearning`] | `config.json` (with a `trainer`), `ae.safetensors` |
//! | [`Format::GemmaScope`] | `params.npz`, read only |
//! | [`Format::GemmaScope2`] | `params.safetensors`, maybe `config.json`, read only; `clt/…/params_layer_3.safetensors`, for latents only |
//! | [`Format::LlamaScope`] | `hyperparams.json`, `checkpoints/final.safetensors`, or `config.json`, `sae_weights.safetensors`, read only |
//! | [`Format::CircuitTracer`] | `config.yaml`, `layer_3.safetensors`, read only |
//! | [`Format::CrossLayer`] | `config.yaml`, `W_enc_3.safetensors`, for latents only |
//!
//! A setting that changes what an SAE computes is followed exactly or is an error; other keys are ignored. Pickled weights are
//! never read. Weights are read a tensor at a time.

mod circuit_tracer;
mod cross_layer;
mod dictionary_learning;
mod directory;
mod find;
#[cfg(test)]
mod fuzz;
mod gemma_scope;
mod gemma_scope_2;
mod host;
mod json;
mod llama_scope;
mod metadata;
mod origin;
mod saelens;
mod sparsify;
mod yaml;

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
    /// Gemma Scope, an archive of numpy; read only.
    GemmaScope,
    /// Gemma Scope 2; read only.
    GemmaScope2,
    /// Llama Scope, OpenMOSS' `lm_saes` of 2024 and 2025; read only.
    LlamaScope,
    /// circuit-tracer's transcoders; read only.
    CircuitTracer,
    /// Cross-layer transcoders as circuit-tracer keeps them; read only, and only for latents.
    CrossLayer,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SaeLens,
        Self::Sparsify,
        Self::DictionaryLearning,
        Self::GemmaScope,
        Self::GemmaScope2,
        Self::LlamaScope,
        Self::CircuitTracer,
        Self::CrossLayer,
    ];

    /// Those that are written; the others are read only.
    pub const WRITTEN: [Self; 3] = [Self::SaeLens, Self::Sparsify, Self::DictionaryLearning];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeLens => "saelens",
            Self::Sparsify => "sparsify",
            Self::DictionaryLearning => "dictionary-learning",
            Self::GemmaScope => "gemma-scope",
            Self::GemmaScope2 => "gemma-scope-2",
            Self::LlamaScope => "llama-scope",
            Self::CircuitTracer => "circuit-tracer",
            Self::CrossLayer => "cross-layer",
        }
    }

    /// The name of the configuration; of Gemma Scope, which has none, that of the weights.
    fn config(self) -> &'static str {
        self.files()[0]
    }

    /// The name of the weights; of circuit-tracer, which has one file per layer, that of the first.
    fn weights(self) -> &'static str {
        let files = self.files();
        files[1.min(files.len() - 1)]
    }

    /// The names of all files that say what an SAE is: configuration, weights, and what may be beside them.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::SaeLens => &["cfg.json", "sae_weights.safetensors", "sparsity.safetensors", "activation_scaler.json"],
            Self::Sparsify => &["cfg.json", "sae.safetensors"],
            Self::DictionaryLearning => &["config.json", "ae.safetensors"],
            Self::GemmaScope => &["params.npz"],
            Self::GemmaScope2 => &["config.json", "params.safetensors"],
            Self::LlamaScope => &["hyperparams.json", "checkpoints/final.safetensors", "lm_config.json", "config.json"],
            Self::CircuitTracer => &["config.yaml", "layer_0.safetensors"],
            Self::CrossLayer => &["config.yaml", "W_enc_0.safetensors"],
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
        // They have a name for it in SAELens alone.
        let saelens_only = matches!(sae.activation(), Activation::AbsTopK { .. } | Activation::MatchingPursuit(_));
        let transcodes = sae.is_transcoder();
        match self {
            Self::SaeLens if transcodes => matches!(sae.activation(), Activation::Relu | Activation::JumpRelu { .. }),
            Self::SaeLens => !groupmax,
            Self::Sparsify if sae.d_in() != sae.d_out() => false,
            Self::Sparsify => plain && (groupmax || matches!(sae.activation(), Activation::TopK { .. })),
            Self::DictionaryLearning => plain && !groupmax && !saelens_only && !transcodes,
            Self::GemmaScope | Self::GemmaScope2 | Self::LlamaScope | Self::CircuitTracer | Self::CrossLayer => false,
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

/// The note of a layer of a cross-layer transcoder.
const ONE_LAYER: &str = "a layer of a cross-layer transcoder: its latents are known, but it reconstructs nothing alone";

/// The note of an SAE that was trained on inputs multiplied by a factor, which its files don't have.
const UNSCALED: &str = "normalize_activations = `expected_average_only_in`, but the factor is not stored: nothing is scaled, as in SAELens' \
                        inference. That is right if the factor was folded into the weights; an SAE that was trained on scaled activations \
                        and not folded reconstructs badly.";

/// The same of Llama Scope R1-Distill, whose weights have the average norms where `lm_saes` kept them.
const UNSCALED_DATASET: &str = "norm_activation = `dataset-wise`, but the average norms are not stored: nothing is scaled. An SAE that was \
                                trained on scaled activations reconstructs badly.";

impl LoadedSae {
    /// Whether it was trained on inputs that were multiplied by a factor which its files don't have.
    pub fn lacks_input_scale(&self) -> bool {
        self.notes.iter().any(|note| is_unscaled(note))
    }

    /// The same for inputs that were multiplied by `factor` in training: W_enc is multiplied by it, W_dec and b_dec are divided, as by
    /// SAELens' `fold_activation_norm_scaling_factor`.
    pub fn scale_input(&mut self, factor: f64) {
        let device = self.sae.device();
        self.sae = HostSae::of(&self.sae).folding_input_scale(factor).on(&device);
        self.notes.retain(|note| !is_unscaled(note));
    }
}

/// Whether a note says that the factor of the inputs is not known.
fn is_unscaled(note: &str) -> bool {
    [UNSCALED, UNSCALED_DATASET].contains(&note)
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
    let loaded = load_encoder(path, device)?;
    if loaded.sae.d_out() == 0 {
        return Err(SaeError::config(
            &loaded.dir,
            "a cross-layer transcoder: latents of one layer write to the MLPs of all later ones, so that it reconstructs nothing alone; \
             `assay encode` gives its latents",
        ));
    }
    Ok(loaded)
}

/// As [`load`], for whoever asks for latents only: a layer of a cross-layer transcoder is read too, as an SAE whose d_out is 0.
///
/// # Errors
/// As [`load`].
pub fn load_encoder(path: &Path, device: &Device) -> Result<LoadedSae> {
    let found = find::find(path)?;
    let Parsed { sae, metadata, notes } = match found.format {
        Format::SaeLens => saelens::read(&found.dir)?,
        Format::Sparsify => sparsify::read(&found.dir)?,
        Format::DictionaryLearning => dictionary_learning::read(&found.dir, &found.weights)?,
        Format::GemmaScope => gemma_scope::read(&found.weights)?,
        Format::GemmaScope2 => gemma_scope_2::read(&found.dir, &found.weights)?,
        Format::LlamaScope => llama_scope::read(&found.dir, &found.weights)?,
        Format::CircuitTracer => circuit_tracer::read(&found.dir, &found.weights)?,
        Format::CrossLayer => cross_layer::read(&found.dir, &found.weights)?,
    };
    for (what, size) in [("d_sae", sae.d_sae), ("d_in", sae.d_in)] {
        if size == 0 {
            return Err(SaeError::config(&found.weights, format!("{what} is 0; it must be at least 1")));
        }
    }
    Ok(LoadedSae { sae: sae.on(device), metadata, format: found.format, dir: found.dir, notes })
}

/// Writes an SAE, folding into its weights what the format has no word for. An SAE that is in the directory already is replaced, but only
/// when all of the new one is on disk; all other files stay. Weights are written in f32, and of `metadata` everything.
///
/// `firing_rates` are those of SAELens' `sparsity.safetensors`, where there are any; the other formats don't hold them.
///
/// # Errors
/// If the format can't express the SAE, `dir` is a file or has a file of the same name that is none of an SAE's, or a file can't be
/// written.
pub fn save(dir: &Path, format: Format, sae: &Sae, metadata: &Metadata, firing_rates: Option<&[f64]>) -> Result<()> {
    if !format.can_hold(sae) {
        let mut others: Vec<&str> = Format::ALL.into_iter().filter(|f| f.can_hold(sae)).map(Format::name).collect();
        if others.is_empty() {
            others.push("no other format");
        }
        return Err(SaeError::Inexpressible {
            format,
            architecture: sae.activation().name(),
            transcodes: sae.is_transcoder(),
            normalization: sae.normalization().name(),
            others: others.join(" or "),
        });
    }
    let host = HostSae::of(sae);
    directory::replace(dir, |dir| match format {
        Format::SaeLens => saelens::write(dir, host, metadata, firing_rates),
        Format::Sparsify => sparsify::write(dir, host, metadata),
        Format::DictionaryLearning => dictionary_learning::write(dir, host, metadata),
        _ => unreachable!("it can hold no SAE"),
    })
}

/// The firing rates in training that SAELens keeps beside an SAE, for [`save`]; `None` where there are none.
///
/// # Errors
/// If the file is damaged or is that of another SAE.
pub fn firing_rates(loaded: &LoadedSae) -> Result<Option<Vec<f64>>> {
    match loaded.format {
        Format::SaeLens => saelens::firing_rates(&loaded.dir, loaded.sae.d_sae()),
        _ => Ok(None),
    }
}

/// What a user should know of an SAE that is written to `dir`: the tool may not find there what [`save`] can't write into a file.
pub fn note_on_place(dir: &Path, format: Format, metadata: &Metadata) -> Option<String> {
    match format {
        Format::Sparsify => sparsify::note_on_place(dir, metadata),
        _ => None,
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
