//! Neuronpedia's upload: bodies of `POST /api/feature/upload-batch`, one file each, as its server of 2026 checks them: 1 to 128 features with
//! up to 20 logits of either end, explanations of up to 512 characters, and contexts of up to 1024 tokens.
//!
//! What the server takes on trust is left out where it has another meaning here: its quantiles are of equal width.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use assay_models::vocabulary::Vocabulary;
use assay_probes::features::PickReason;
use serde_json::{Value, json};

use crate::features::Feature;
use crate::features::explaining::Described;
use crate::features::windows::{Shown, Window};
use crate::files::write_atomic;

/// The directory of the files.
pub const DIR: &str = "neuronpedia";
/// Features of a file.
pub const BATCH: usize = 128;
/// Characters of an explanation.
const LONGEST: usize = 512;

/// What a source is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its model, as `gpt2-small`.
    pub model: String,
    /// Its own name, as `8-res-jb`.
    pub source: String,
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        match text.split_once('/').filter(|(model, source)| is_name(model) && is_name(source)) {
            Some((model, source)) => Ok(Self { model: model.to_owned(), source: source.to_owned() }),
            None => Err("give the ids of model and source at Neuronpedia, as gpt2-small/8-res-jb".to_owned()),
        }
    }
}

/// Tokens that a latent suppresses most, and by how much: ids and logits, the least first.
pub type Suppressed = Vec<(u32, f32)>;

/// Writes some latents, [`BATCH`] at most, as the file of a number; those that never fire have no contexts.
///
/// # Errors
/// If it can't be written.
pub fn write(
    dir: &Path,
    number: usize,
    source: &Source,
    features: &[Feature],
    shown: &[Option<Shown>],
    suppressed: &[Suppressed],
    vocabulary: &Vocabulary,
) -> Result<()> {
    ensure!(features.len() <= BATCH, "a file holds {BATCH} features");
    let latents = features.iter().zip(shown).zip(suppressed);
    let features: Vec<Value> = latents
        .map(|((feature, shown), suppressed)| self::feature(feature, shown.as_ref(), suppressed, vocabulary))
        .collect();
    let body = json!({ "modelId": source.model, "source": source.source, "features": features });
    let path = dir.join(format!("batch-{number}.json"));
    write_atomic(&path, &serde_json::to_vec(&body)?).with_context(|| format!("cannot write {}", path.display()))
}

fn feature(feature: &Feature, shown: Option<&Shown>, suppressed: &Suppressed, vocabulary: &Vocabulary) -> Value {
    let logits = |of: &[(u32, f32)]| -> Vec<Value> {
        of.iter().map(|(id, value)| json!({ "token": vocabulary.text(*id), "value": value })).collect()
    };
    // The one that detects best. Five were tried on the same windows, so that the best must do better than chance and than another latent's.
    let detects =
        |of: &&Described| of.own.auroc > Some(0.5) && of.other.auroc.is_some() && of.own.auroc > of.other.auroc;
    let says = feature.described.iter().filter(|of| !of.explanation.is_empty());
    let best = says.filter(detects).max_by(|a, b| a.own.auroc.unwrap_or(0.0).total_cmp(&b.own.auroc.unwrap_or(0.0)));
    let explanations = best.map(|best| {
        let text: String = best.explanation.text(|id| vocabulary.text(id)).chars().take(LONGEST).collect();
        json!({ "text": text, "methodName": format!("assay-{}", best.method.name()), "modelName": "assay" })
    });
    let context = |window: &Window| {
        let tokens: Vec<String> = window.ids.iter().map(|id| vocabulary.text(*id)).collect();
        json!({ "tokens": tokens, "values": window.values })
    };
    // A context may be picked for two reasons, and is the same there.
    let mut places = std::collections::BTreeSet::new();
    let windows = shown.into_iter().flat_map(|shown| &shown.windows).filter(|window| window.kind != PickReason::Silent);
    let contexts: Vec<Value> = windows.filter(|w| places.insert((w.context, w.first))).map(context).collect();
    let mut object = json!({
        "index": feature.latent, "density": feature.scores.density, "topLogits": logits(&feature.written),
        "bottomLogits": logits(suppressed), "activations": contexts,
    });
    if let Some(explanation) = explanations {
        object["explanations"] = json!([explanation]);
    }
    object
}
