//! What one run leaves: a record with everything that its numbers follow from.

mod failure;
mod geometry;
mod key;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use assay_probes::evaluate::Evaluation;
use assay_probes::metrics::Sums;
use assay_probes::profile::NormBin;
use assay_probes::rate::Firing;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write_atomic};
use crate::legibility::Legibility;

pub use failure::Failure;
pub use geometry::{GeometryKey, GeometryRecord};
pub use key::RunKey;

/// Raised whenever the definition of a metric or the order of training changes, so that old records are not mixed with new ones.
pub const METRIC_VERSION: u32 = 3;

fn is_zero(halved: &u32) -> bool {
    *halved == 0
}

/// 16 hex digits of a hash: what runs, groups, tokens and plans are known by.
pub(crate) fn short(hash: blake3::Hash) -> String {
    hash.to_hex()[..16].to_owned()
}

/// A finished run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
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
    /// KL divergence of the model's predictions with the reconstructions patched in, nats per token, at those of the same steps that asked
    /// the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kl_curve: Vec<(u64, f64)>,
    /// How often the sizes of passes that the key names were halved, because the device's memory was full: bits may change with them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passes_halved: u32,
    /// Participation ratio at the hook on the evaluation set, then without the top eigenvalues ([`Spectrum::participation_ratios`]).
    ///
    /// [`Spectrum::participation_ratios`]: assay_probes::geometry::Spectrum::participation_ratios
    pub pr: [Option<f64>; 5],
    /// What its latents mean, where the spec asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legibility: Option<Legibility>,
    /// Active tokens of each latent on the evaluation set.
    pub fires: Vec<u64>,
    /// Tokens of the evaluation set.
    pub eval_token_count: u64,
    /// Errors by ‖a‖, smallest first.
    pub by_norm: Vec<NormBin>,
    /// Names of the sums.
    pub sums: Vec<String>,
    /// Their values by sequence and subset, in the order of the names.
    pub sequences: Vec<[Vec<f64>; 3]>,
}

impl RunRecord {
    /// The sums by sequence and subset.
    ///
    /// # Errors
    /// If the record was written with other sums.
    pub fn sums(&self) -> Result<Vec<[Sums; 3]>> {
        let place = |name: &&str| {
            let at = self.sums.iter().position(|known| known == name);
            at.with_context(|| {
                format!("run {}: its record has no sum `{name}`; it was made by another version", self.id)
            })
        };
        let order = Sums::FIELDS.iter().map(place).collect::<Result<Vec<usize>>>()?;
        let parse = |values: &Vec<f64>| {
            ensure!(values.len() == self.sums.len(), "run {}: its record has values without a name", self.id);
            let ordered: Vec<f64> = order.iter().map(|&at| values[at]).collect();
            Ok(Sums::from_values(&ordered).expect("a value for every field"))
        };
        self.sequences.iter().map(|[a, b, c]| Ok([parse(a)?, parse(b)?, parse(c)?])).collect()
    }

    /// How often latents fired.
    pub fn firing(&self) -> Firing {
        Firing { fires: self.fires.clone(), sequences: Vec::new(), tokens: self.eval_token_count }
    }

    /// Takes an evaluation's findings.
    pub fn set_evaluation(&mut self, found: &Evaluation) {
        self.sums = Sums::FIELDS.iter().map(|&name| name.to_owned()).collect();
        self.sequences = found.sequences.iter().map(|s| s.each_ref().map(Sums::values)).collect();
        self.fires.clone_from(&found.firing.fires);
        self.eval_token_count = found.firing.tokens;
        self.by_norm.clone_from(&found.by_norm);
        self.pr = found.spectrum.participation_ratios();
    }

    /// Where a run's record lies in a results directory.
    pub fn path(results: &Path, id: &str) -> PathBuf {
        results.join("runs").join(format!("{id}.json"))
    }

    /// Reads the record of a run; `None` if there is none yet.
    ///
    /// # Errors
    /// If the file is there but damaged, or is the record of another run.
    pub fn load(results: &Path, key: &RunKey) -> Result<Option<Self>> {
        let id = key.id();
        let path = Self::path(results, &id);
        let Some(record) = read_of_run(&path, key, |record: &Self| (&record.id, &record.key))? else {
            return Ok(None);
        };
        let written = Timing::load(results, &id).and_then(|timing| timing.record);
        ensure!(
            written.is_none_or(|hash| std::fs::read(&path).is_ok_and(|bytes| hash_of(&bytes) == hash)),
            "{} is damaged: it is not what was written, or {id}.timing.json beside it is of another; remove both and the run will be done again",
            path.display()
        );
        Ok(Some(record))
    }

    /// Writes the record, and before it the timing, so that each is there whole or not at all: a run is finished when its record is there.
    /// The timing has the record's hash, as a bit that flips on a disk would change a number without a word.
    ///
    /// # Errors
    /// If they can't be written, or a sum is not finite.
    pub fn save(&self, results: &Path, timing: Timing) -> Result<()> {
        // JSON has no NaN: such a record could be written but never read.
        let finite = self.sequences.iter().flatten().flatten().all(|v| v.is_finite()) && self.final_loss.is_finite();
        ensure!(finite, "run {}: a sum is not finite; nothing was recorded", self.id);
        let text = serde_json::to_string(self).context("a record serialises")?;
        Timing { record: Some(hash_of(text.as_bytes())), ..timing }.save(results)?;
        write_atomic(&Self::path(results, &self.id), text.as_bytes())
    }
}

/// What a results directory has of a run.
#[derive(Debug)]
pub enum Standing {
    /// Its record: it is not trained again.
    Finished(Box<RunRecord>),
    /// That it came to nothing, which it would again.
    Failed(Box<Failure>),
    /// Neither.
    Missing,
}

impl Standing {
    /// Of the run of that key.
    ///
    /// # Errors
    /// If a file is damaged, or is of another run than its name says.
    pub fn of(results: &Path, key: &RunKey) -> Result<Self> {
        if let Some(record) = RunRecord::load(results, key)? {
            return Ok(Self::Finished(Box::new(record)));
        }
        Ok(Failure::load(results, key)?.map_or(Self::Missing, |failure| Self::Failed(Box::new(failure))))
    }
}

/// What a run left in a file of its own, as JSON; `None` if there is no file. `names` gives the run that it says it is of.
///
/// # Errors
/// If the file is there but damaged, or is of another run.
fn read_of_run<T: DeserializeOwned>(
    path: &Path,
    key: &RunKey,
    names: impl Fn(&T) -> (&str, &RunKey),
) -> Result<Option<T>> {
    const REMEDY: &str = "remove it and the run will be done again";
    let Some(found) = read_json::<T>(path, REMEDY)? else { return Ok(None) };
    ensure!(
        names(&found) == (key.id().as_str(), key),
        "{} is of another run than its name says; {REMEDY}",
        path.display()
    );
    Ok(Some(found))
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
    /// Training tokens per second, of this SAE alone, over all processes that trained it.
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
    /// BLAKE3 of the record's file; not in timings that older versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
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
    fn save(&self, results: &Path) -> Result<()> {
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
