//! What was found of an SAE, and on what.

use std::path::Path;

use anyhow::Result;
use assay_probes::Evaluation;
use assay_sae::LoadedSae;
use serde_json::{Value, json};

use super::place::Place;
use super::show;
use crate::catalogue::published;
use crate::markdown;
use crate::replicates::Replicates;
use crate::verdict::Verdict;

/// What SAEs were evaluated on.
pub(super) struct EvaluatedOn<'a> {
    pub model: &'a Path,
    /// Sequences and tokens of each.
    pub tokens: (usize, usize),
    pub bos: Option<u32>,
    pub vocab_size: usize,
}

impl EvaluatedOn<'_> {
    /// `32 sequences of 128 tokens, the first BOS`.
    pub fn shown(&self) -> String {
        let (sequences, context_size) = self.tokens;
        let bos = if self.bos.is_some() { ", the first BOS" } else { "" };
        format!("{sequences} sequences of {context_size} tokens{bos}")
    }
}

/// An SAE and what was found of it.
pub(super) struct Measured<'a> {
    pub name: &'a Path,
    pub loaded: &'a LoadedSae,
    pub place: Place,
    pub found: &'a Evaluation,
    pub replicates: Replicates,
    pub verdict: Verdict,
}

impl Measured<'_> {
    /// The name as it was given.
    pub fn full_name(&self) -> String {
        self.name.display().to_string()
    }

    /// One object: `sae` is the name as it was given, `name` a short one.
    pub fn json(&self, on: &EvaluatedOn<'_>) -> Result<Value> {
        let Self { name, loaded, place, found, replicates, verdict } = self;
        let (sae, (sequences, context_size)) = (&loaded.sae, on.tokens);
        let short = published(name)?.map(|entry| entry.name()).or_else(|| of_file(name));
        let head = json!({
            "model": of_file(on.model), "sae": self.full_name(), "name": short, "format": loaded.format.name(),
            "architecture": sae.activation().name(),
            "hook": place.reads.hook.to_string(), "hook_out": place.hook_out().map(|hook| hook.to_string()),
            "layer": place.site.hook.layer, "center_residual": place.site.center,
            "without_value_bias": place.site.without_value_bias, "S": sequences, "T": context_size, "bos": on.bos,
            "d_model": sae.d_in(), "d_out": sae.d_out(), "d_sae": sae.d_sae(), "k": sae.k(),
        });
        let mut object = head.as_object().cloned().unwrap_or_default();
        object.append(&mut show::evaluation_json(found, replicates));
        object.insert("verdict".to_owned(), serde_json::to_value(verdict)?);
        object.insert("notes".to_owned(), json!(loaded.notes));
        Ok(Value::Object(object))
    }

    pub fn text(&self, on: &EvaluatedOn<'_>, all: bool) -> String {
        let Self { name, loaded, place, found, replicates, verdict } = self;
        format!(
            "{}\n\n{} {place}, {}\n{}\n\n{}{}",
            verdict.text,
            name.display(),
            on.shown(),
            show::losses(found, on.vocab_size),
            show::evaluation_table(found, replicates, all),
            markdown::notes(&loaded.notes)
        )
    }
}

/// The last part of a path.
pub(super) fn of_file(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}
