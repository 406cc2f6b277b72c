//! Which clouds of points a sweep audits for loops, and how.

use std::fmt::{self, Display};
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use assay_probes::topology::{Metric, Null};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::check::twice;

/// Clouds that are audited, with the settings of `assay topology`. SAEs are read where they are saved, so `[train] save_saes` has to be true for theirs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopologySpec {
    /// Of which clouds.
    pub clouds: Vec<CloudOf>,
    /// How far points are apart: `euclidean` (on fifty principal components), `angular` (the arc), `cosine`, `cityblock`, `chebyshev`.
    #[serde(deserialize_with = "parsed", serialize_with = "shown")]
    pub metrics: Vec<Metric>,
    /// What to compare with: `gaussian`, `axes`, `columns`, `clusters:K`.
    #[serde(deserialize_with = "parsed", serialize_with = "shown")]
    pub nulls: Vec<Null>,
    /// Draws of each null.
    pub draws: usize,
    /// Points of a cloud at most; of more, so many are chosen at random by each seed.
    pub rows: usize,
    /// Each chooses rows and draws of its own, and a claim needs all of them.
    pub seeds: Vec<u64>,
    /// The level of a claim, over all clouds of the sweep together.
    pub alpha: f64,
}

/// Which points of an SAE or a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudOf {
    /// What each latent that fires writes: rows of the decoder.
    Decoder,
    /// What each of them reads: columns of the encoder.
    Encoder,
    /// A token of each held-out sequence, never its first, about their mean: once for each hook of a model.
    Activations,
}

impl Display for CloudOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decoder => "decoder",
            Self::Encoder => "encoder",
            Self::Activations => "activations",
        })
    }
}

impl Default for TopologySpec {
    fn default() -> Self {
        Self {
            clouds: vec![CloudOf::Decoder],
            metrics: vec![Metric::Euclidean, Metric::Angular],
            nulls: vec![Null::Gaussian, Null::Axes],
            draws: 199,
            rows: 500,
            seeds: vec![0],
            alpha: 0.05,
        }
    }
}

impl TopologySpec {
    /// Checks what can be checked before a model is opened.
    pub(super) fn check_values(&self, save_saes: bool) -> Result<()> {
        let names = |name: &str, values: Vec<String>| {
            ensure!(!values.is_empty(), "[topology] {name}: at least one value is needed");
            if let Some(value) = twice(&values) {
                bail!("[topology] {name}: a value is listed twice ({value})");
            }
            Ok(())
        };
        let text = |values: &[&dyn Display]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
        names("clouds", text(&self.clouds.iter().map(|v| v as &dyn Display).collect::<Vec<_>>()))?;
        names("metrics", text(&self.metrics.iter().map(|v| v as &dyn Display).collect::<Vec<_>>()))?;
        names("nulls", text(&self.nulls.iter().map(|v| v as &dyn Display).collect::<Vec<_>>()))?;
        names("seeds", text(&self.seeds.iter().map(|v| v as &dyn Display).collect::<Vec<_>>()))?;
        if let Some(metric) = self.metrics.iter().find(|&&metric| crate::topology::is_of_sets(metric)) {
            anyhow::bail!("[topology] metrics: {metric} is of sets or counts, which weights and activations are not");
        }
        ensure!(
            !self.nulls.contains(&Null::Labels),
            "[topology] nulls: labels is of points that have labels, which no cloud of a sweep has; write them with `assay cloud` and give them to \
             `assay topology --labels`"
        );
        ensure!(
            save_saes || self.clouds.iter().all(|cloud| *cloud == CloudOf::Activations),
            "[topology] clouds: {} is read of the SAEs that are saved; set [train] save_saes = true",
            self.clouds.iter().find(|cloud| **cloud != CloudOf::Activations).unwrap_or(&CloudOf::Decoder)
        );
        self.check()
    }
}

/// A list of names.
fn parsed<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(de::Error::custom)).collect()
}

fn shown<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
