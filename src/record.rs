//! What one run leaves: a record with everything that its numbers follow from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use assay_probes::evaluate::Evaluation;
use assay_probes::metrics::{DEFLATIONS, Sums};
use assay_probes::profile::NormBin;
use assay_probes::rate::Firing;
use assay_sae::TrainConfig;
use serde::{Deserialize, Serialize};

use crate::files::write_atomic;

/// Raised whenever the definition of a metric or the order of training changes, so that old records are not mixed with new ones.
pub const METRIC_VERSION: u32 = 3;

/// Everything that changes a run's numbers; its hash is the run's id. No path and no name is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunKey {
    /// [`METRIC_VERSION`] when it was made.
    pub metric_version: u32,
    /// `cpu`, `cuda-sm90`, `vulkan`, …
    pub device_class: String,
    /// Arithmetic of the matrix products.
    pub precision: String,
    /// BLAKE3 of the model's weights.
    pub weights: String,
    /// Hook point.
    pub hook: String,
    /// Whether activations are centred over d_model.
    pub center_residual: bool,
    /// BLAKE3 of the training contexts.
    pub train_tokens: String,
    /// Tokens a training context.
    pub context_size: usize,
    /// Tokens in the shuffle buffer.
    pub buffer_tokens: usize,
    /// Contexts of one capturing pass.
    pub contexts_per_pass: usize,
    /// Token budget.
    pub training_tokens: u64,
    /// Seed of initialisation and batch order.
    pub seed: u64,
    /// Training settings.
    pub train: TrainConfig,
    /// BLAKE3 of the evaluation sequences.
    pub eval_tokens: String,
    /// Sequences of one evaluating pass.
    pub eval_batch: usize,
    /// Draws of labels for `fwd` and `kl_pred`.
    pub fisher_samples: usize,
    /// Seed of those draws.
    pub fisher_seed: u64,
}

impl RunKey {
    /// The run's id: 16 hex digits of a BLAKE3 hash.
    pub fn id(&self) -> String {
        let text = serde_json::to_string(self).expect("a key serialises");
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// A finished run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Hash of `key`.
    pub id: String,
    /// What the numbers follow from.
    pub key: RunKey,
    /// The model's name in tables.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// Layer of the hook.
    pub layer: usize,
    /// Layers of the model.
    pub n_layers: usize,
    /// Recipe of the spec.
    pub recipe: String,
    /// Reconstruction loss, mean over the last tenth of the steps.
    pub final_loss: f64,
    /// Dead latents at the end of training.
    pub n_dead: usize,
    /// Reconstruction loss by step, thinned.
    pub curve: Vec<(u64, f64)>,
    /// Participation ratio at the hook on the evaluation set, then without the top eigenvalues ([`DEFLATIONS`]).
    pub pr: [Option<f64>; 5],
    /// Active tokens of each latent on the evaluation set.
    pub fires: Vec<u64>,
    /// Tokens of the evaluation set.
    pub eval_token_count: u64,
    /// Errors by ‖a‖, smallest first.
    pub by_norm: Vec<NormBin>,
    /// The values of [`Sums`] by sequence and subset.
    pub sequences: Vec<[Vec<f64>; 3]>,
}

impl Record {
    /// The sums by sequence and subset.
    ///
    /// # Errors
    /// If the record was written with other fields.
    pub fn sums(&self) -> Result<Vec<[Sums; 3]>> {
        let parse = |values: &Vec<f64>| {
            Sums::from_values(values)
                .with_context(|| format!("run {}: its sums have other fields than this version's", self.id))
        };
        self.sequences.iter().map(|[a, b, c]| Ok([parse(a)?, parse(b)?, parse(c)?])).collect()
    }

    /// How often latents fired.
    pub fn firing(&self) -> Firing {
        Firing { fires: self.fires.clone(), sequences: Vec::new(), tokens: self.eval_token_count }
    }

    /// Takes an evaluation's findings.
    pub fn set_evaluation(&mut self, found: &Evaluation) {
        self.sequences = found.sequences.iter().map(|s| s.each_ref().map(Sums::values)).collect();
        self.fires.clone_from(&found.firing.fires);
        self.eval_token_count = found.firing.tokens;
        self.by_norm.clone_from(&found.by_norm);
        let [one, two, four, eight] = DEFLATIONS;
        self.pr = [0, one, two, four, eight].map(|top| found.spectrum.participation_ratio(top));
    }

    /// Where a run's record lies in a results directory.
    pub fn path(results: &Path, id: &str) -> PathBuf {
        results.join("runs").join(format!("{id}.json"))
    }

    /// Reads a record; `None` if there is none yet.
    ///
    /// # Errors
    /// If the file is there but damaged.
    pub fn load(results: &Path, id: &str) -> Result<Option<Self>> {
        let path = Self::path(results, id);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let record: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; remove it and the run will be done again", path.display()))?;
        Ok(Some(record))
    }

    /// Writes the record so that it is there whole or not at all.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save(&self, results: &Path) -> Result<()> {
        // JSON has no NaN: such a record could be written but never read.
        let finite = self.sequences.iter().flatten().flatten().all(|v| v.is_finite()) && self.final_loss.is_finite();
        ensure!(finite, "run {}: a sum is not finite; nothing was recorded", self.id);
        let text = serde_json::to_string(self).context("a record serialises")?;
        write_atomic(&Self::path(results, &self.id), text.as_bytes())
    }
}

/// What may differ from one time to the next: kept apart from the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// The run.
    pub id: String,
    /// Seconds that training took, shared evenly among the SAEs trained together.
    pub train_seconds: f64,
    /// Seconds of capturing activations, likewise.
    pub capture_seconds: f64,
    /// Seconds of evaluation, likewise.
    pub eval_seconds: f64,
    /// Training tokens a second, of this SAE alone.
    pub tokens_per_second: f64,
    /// Threads.
    pub threads: usize,
    /// The device: times on one can't be compared with those on another. Empty in records made before there was a choice.
    #[serde(default)]
    pub device: String,
    /// Unix time at which the run finished.
    pub finished_at: u64,
    /// This program's version.
    pub version: String,
}

impl Timing {
    /// Where a run's timing lies.
    pub fn path(results: &Path, id: &str) -> PathBuf {
        results.join("runs").join(format!("{id}.timing.json"))
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save(&self, results: &Path) -> Result<()> {
        write_atomic(
            &Self::path(results, &self.id),
            serde_json::to_string(self).context("a timing serialises")?.as_bytes(),
        )
    }

    /// Reads it; `None` if it is missing or damaged, since no number depends on it.
    pub fn load(results: &Path, id: &str) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(Self::path(results, id)).ok()?).ok()
    }
}
