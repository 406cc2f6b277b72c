//! Training curves: what was looked at while an SAE trained, as JSON lines and as TensorBoard reads it.
//!
//! A run's directory holds `metrics.jsonl` and one event file. Both follow from the looks, which the saved state of the training
//! holds too: a training that resumes writes both anew up to where it resumes, so that no step is there twice or missing.

mod tensorboard;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::files::write_atomic;

/// An SAE at one step of its training. What is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The step, from 0.
    pub step: u64,
    /// Tokens seen, those of the step included.
    pub tokens: u64,
    /// Reconstruction loss of the step's batch.
    pub loss: f64,
    /// Auxiliary loss times its coefficient; null where the coefficient is 0.
    pub aux_loss: Option<f64>,
    /// KL divergence of the model's predictions with the reconstructions patched in, nats per token; null of a step that does not ask the
    /// model.
    #[serde(default)]
    pub kl: Option<f64>,
    /// Fraction of the batch's variance unexplained.
    pub fvu: Option<f64>,
    /// Active latents per token, mean over the batch.
    pub l0: Option<f64>,
    /// Latents that are dead after the step.
    pub dead: Option<usize>,
    /// Learning rate of the step.
    pub lr: f64,
    /// Tokens per second since the look before, in this process.
    pub tokens_per_second: Option<f64>,
    /// Unix time, in seconds.
    pub time: f64,
}

impl LogEntry {
    /// The losses, in a few characters.
    pub fn brief(&self) -> String {
        let kl = self.kl.map_or_else(String::new, |kl| format!(", kl {kl:.3}"));
        format!("loss {:.3}{kl}", self.loss)
    }

    /// The values over the step, by their names on disk.
    fn scalars(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("tokens", Some(self.tokens as f64)),
            ("loss", Some(self.loss)),
            ("aux_loss", self.aux_loss),
            ("kl", self.kl),
            ("fvu", self.fvu),
            ("l0", self.l0),
            ("dead", self.dead.map(|dead| dead as f64)),
            ("lr", Some(self.lr)),
            ("tokens_per_second", self.tokens_per_second),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    fn line(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self).context("a look serialises")?;
        line.push(b'\n');
        Ok(line)
    }

    fn event(&self) -> Vec<u8> {
        tensorboard::scalars(self.time, self.step, self.scalars())
    }
}

/// The log of one run, which grows look by look.
pub struct RunLog {
    lines: PathBuf,
    events: PathBuf,
}

impl RunLog {
    /// Starts the log of a run in its directory with the looks that there were so far, whatever was there before.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn begin(dir: PathBuf, looks: &[LogEntry]) -> Result<Self> {
        remove_events(&dir)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let log = Self {
            lines: dir.join("metrics.jsonl"),
            // TensorBoard knows event files by this name and reads a directory's in their order.
            events: dir.join(format!("events.out.tfevents.{:010}.assay", now as u64)),
        };
        let lines = looks.iter().map(LogEntry::line).collect::<Result<Vec<_>>>()?;
        write_atomic(&log.lines, &lines.concat())?;
        let start = tensorboard::version(looks.first().map_or(now, |look| look.time));
        let events: Vec<Vec<u8>> = std::iter::once(start).chain(looks.iter().map(LogEntry::event)).collect();
        write_atomic(&log.events, &events.concat())?;
        Ok(log)
    }

    /// Adds a look.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn add(&self, look: &LogEntry) -> Result<()> {
        append(&self.lines, &look.line()?)?;
        append(&self.events, &look.event())
    }
}

fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || OpenOptions::new().append(true).open(path)?.write_all(bytes);
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Two event files in a directory would be two curves over each other.
fn remove_events(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("events.out.tfevents.") {
            std::fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}
