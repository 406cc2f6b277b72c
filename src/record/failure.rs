//! A run that came to nothing, as a record of its own: training it again would come to the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{RunKey, read_of_run};
use crate::files::write_atomic;

/// A run whose training was stopped, because nothing after that step is worth anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Hash of `key`.
    pub id: String,
    /// What the run follows from.
    pub key: RunKey,
    /// The model's name in tables.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// The step, from 0, whose loss, gradient or activations were not finite.
    pub step: u64,
    /// The first step of which that is not known not to be so as well: on a GPU not every step is looked at.
    pub since: u64,
    /// What was not finite.
    pub reason: String,
    /// Where in the results directory the SAE is as it was saved last, and after how many steps that was. States are saved by time and on
    /// signals too, so this may be otherwise when a sweep is run again; it is in no frame, table or report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<(String, u64)>,
}

impl Failure {
    /// `at step 17`, or `between steps 12 and 17`.
    pub fn when(&self) -> String {
        if self.since == self.step {
            format!("at step {}", self.step)
        } else {
            format!("between steps {} and {}", self.since, self.step)
        }
    }

    /// Where it lies in a results directory.
    pub fn path(results: &Path, id: &str) -> PathBuf {
        results.join("runs").join(format!("{id}.failed.json"))
    }

    /// Reads that of a run; `None` if the run did not fail.
    ///
    /// # Errors
    /// If the file is there but damaged, or is of another run.
    pub fn load(results: &Path, key: &RunKey) -> Result<Option<Self>> {
        read_of_run(&Self::path(results, &key.id()), key, |failure: &Self| (&failure.id, &failure.key))
    }

    /// Writes it so that it is there whole or not at all.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save(&self, results: &Path) -> Result<()> {
        let text = serde_json::to_string(self).context("a failure serialises")?;
        write_atomic(&Self::path(results, &self.id), text.as_bytes())
    }
}
