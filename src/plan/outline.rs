//! What a sweep will do, in a file: so that its results can be gathered where neither models nor tokens are.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::group::{group_and_sites, name_of_part, sites_of};
use super::{Plan, group_id};
use crate::files::{read_json, write_atomic};
use crate::information;
use crate::record::{GeometryKey, RunKey, short};
use crate::spec::SweepSpec;

/// The file's name in a results directory.
pub const PLAN: &str = "plan.json";

/// The groups of a sweep in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// BLAKE3 of the recorded spec that it was made of, but for the line that says from which file.
    pub spec: String,
    /// Models that have no place.
    pub missing: Vec<String>,
    /// Every group.
    pub groups: Vec<GroupOutline>,
}

/// A group of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupOutline {
    /// Its name on the command line.
    pub name: String,
    /// Its model's name in tables.
    pub model: String,
    /// The id of the model's geometry, if this group measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geometry: Option<String>,
    /// The id of the model's mutual information, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information: Option<String>,
    /// Its runs.
    pub runs: Vec<RunOutline>,
}

impl GroupOutline {
    /// Where its SAEs are patched in, in the order of the spec.
    pub fn sites(&self) -> Vec<String> {
        sites_of(self.runs.iter().map(|run| &run.key))
    }

    /// Its part at some of its sites; all of it where those are all. What is the model's alone is left out of parts.
    pub fn part(&self, sites: &[String]) -> Self {
        let runs: Vec<RunOutline> = self.runs.iter().filter(|run| sites.contains(&run.key.hook)).cloned().collect();
        if runs.len() == self.runs.len() {
            return self.clone();
        }
        let (whole, _) = group_and_sites(&self.name);
        let name = name_of_part(whole, &sites_of(runs.iter().map(|run| &run.key)));
        Self { name, model: self.model.clone(), geometry: None, information: None, runs }
    }

    /// What the state of its training is known by.
    pub fn id(&self) -> String {
        group_id(self.runs.iter().map(|run| run.key.id()))
    }
}

/// A run of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOutline {
    /// Name of the depth.
    pub depth: String,
    /// What it is known by.
    pub key: RunKey,
}

impl Outline {
    /// Of a plan and the spec as it is recorded.
    pub fn of(spec: &SweepSpec, recorded: &str, plan: &Plan) -> Self {
        let groups = plan.groups().map(|(model, group)| {
            let first = model.is_first(group);
            GroupOutline {
                name: group.name(),
                model: group.model.clone(),
                geometry: group.runs.first().filter(|_| first).map(|run| GeometryKey::of(&run.key).id()),
                information: if first { information::id(spec, model) } else { None },
                runs: group
                    .runs
                    .iter()
                    .map(|run| RunOutline { depth: run.depth.clone(), key: run.key.clone() })
                    .collect(),
            }
        });
        Self { spec: hash_of(recorded), missing: plan.missing.clone(), groups: groups.collect() }
    }

    /// Reads the plan of a results directory; `None` where there is none.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn read(results: &Path) -> Result<Option<Self>> {
        read_json(&results.join(PLAN), "`assay sweep` of this version writes it anew")
    }

    /// Whether the spec that is recorded in a results directory is the one that this was made of.
    pub fn is_of_recorded(&self, results: &Path) -> bool {
        std::fs::read_to_string(results.join("sweep.toml")).is_ok_and(|text| hash_of(&text) == self.spec)
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, results: &Path) -> Result<()> {
        let text = serde_json::to_string(self).context("a plan serialises")?;
        write_atomic(&results.join(PLAN), text.as_bytes())
    }
}

fn hash_of(recorded: &str) -> String {
    let text = recorded.split_once('\n').map_or("", |(_, rest)| rest);
    short(blake3::hash(text.as_bytes()))
}
