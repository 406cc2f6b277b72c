//! The geometry of a model, as a record of its own: measured once, by the first group of the model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use assay_probes::geometry::ModelGeometry;
use serde::{Deserialize, Serialize};

use super::key::Fields;
use super::{RunKey, short};
use crate::files::{read_json, write_atomic};

/// What a model's geometry follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeometryKey {
    /// [`METRIC_VERSION`](super::METRIC_VERSION) when it was measured.
    pub metric_version: u32,
    /// `cpu`, `cuda-sm90`, `vulkan`, …
    pub device_class: String,
    /// BLAKE3 of the model's weights.
    pub weights: String,
    /// Whether activations are centred over d_model.
    pub center_residual: bool,
    /// BLAKE3 of the evaluation sequences.
    pub eval_tokens: String,
    /// Sequences of one pass.
    pub eval_batch: usize,
}

impl GeometryKey {
    /// Of the model that a run is of.
    pub fn of(run: &RunKey) -> Self {
        Self {
            metric_version: run.metric_version,
            device_class: run.device_class.clone(),
            weights: run.weights.clone(),
            center_residual: run.center_residual,
            eval_tokens: run.eval_tokens.clone(),
            eval_batch: run.eval_batch,
        }
    }

    /// 16 hex digits of the BLAKE3 hash of a text with every field.
    pub fn id(&self) -> String {
        let Self { metric_version, device_class, weights, center_residual, eval_tokens, eval_batch } = self;
        let mut text = Fields::default();
        text.name("of", "geometry");
        text.number("metric_version", metric_version);
        text.name("device_class", device_class);
        text.name("weights", weights);
        text.number("center_residual", center_residual);
        text.name("eval_tokens", eval_tokens);
        text.number("eval_batch", eval_batch);
        short(blake3::hash(text.end().as_bytes()))
    }
}

/// A model's geometry and what it follows from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeometryRecord {
    /// What it follows from.
    pub key: GeometryKey,
    /// As in a run's record.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub passes_halved: u32,
    /// The geometry.
    pub found: ModelGeometry,
}

impl GeometryRecord {
    /// Where it lies in a results directory.
    pub fn path(results: &Path, id: &str) -> PathBuf {
        results.join("runs").join(format!("{id}.geometry.json"))
    }

    /// Reads the record of that id; `None` if there is none yet.
    ///
    /// # Errors
    /// If the file is there but damaged, or is the record of something else.
    pub fn load(results: &Path, id: &str) -> Result<Option<Self>> {
        let path = Self::path(results, id);
        let Some(record) = read_json::<Self>(&path, "remove it and it will be measured again")? else {
            return Ok(None);
        };
        ensure!(
            record.key.id() == id,
            "{} is the record of another geometry than its name says; remove it and it will be measured again",
            path.display()
        );
        Ok(Some(record))
    }

    /// Writes the record so that it is there whole or not at all.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save(&self, results: &Path) -> Result<()> {
        let text = serde_json::to_string(self).context("a geometry serialises")?;
        write_atomic(&Self::path(results, &self.key.id()), text.as_bytes())
    }
}
