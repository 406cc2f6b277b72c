//! A group of a sweep, the runs that share a capture, and its parts.

use assay_models::{HookKind, HookPoint};
use assay_sae::Knob;

use super::Run;
use crate::frames::MSE;
use crate::record::{RunKey, short};
use crate::spec::SweepControl;

/// The runs that share a capture: one model and one token budget, all sites, settings and seeds; or a part of them, those at some of the
/// sites, which can be worked on apart and captures for itself.
#[derive(Clone)]
pub struct Group {
    /// The model's name.
    pub model: String,
    /// What makes the model a control, if anything does.
    pub control: Option<SweepControl>,
    /// The budget.
    pub training_tokens: u64,
    /// Its sites, where it is a part of a group; else none.
    part: Vec<String>,
    /// Its runs, by site, seed and setting; those that are controls of others come last.
    pub runs: Vec<Run>,
}

/// Stands between the name of a group and the sites of a part of it.
pub const PART: char = '@';
/// Stands between those.
const AND: char = ',';

impl Group {
    pub(super) fn new(model: String, control: Option<SweepControl>, training_tokens: u64, runs: Vec<Run>) -> Self {
        Self { model, control, training_tokens, part: Vec::new(), runs }
    }

    /// Where its SAEs are patched in, in the order of the spec.
    pub fn sites(&self) -> Vec<String> {
        sites_of(self.runs.iter().map(|run| &run.key))
    }

    /// Its part at some of its sites; all of it where those are all.
    pub fn part(&self, sites: &[String]) -> Self {
        let mut part = self.clone();
        part.runs.retain(|run| sites.contains(&run.key.hook));
        if part.runs.len() < self.runs.len() {
            part.part = part.sites();
        }
        part
    }

    /// Its sites, where it is a part of a group; else none.
    pub fn sites_of_part(&self) -> &[String] {
        &self.part
    }

    /// What its state is known by: the hash of its runs' ids.
    pub fn id(&self) -> String {
        group_id(self.runs.iter().map(|run| run.id.clone()))
    }

    /// What it is called on the command line: `small-61440tokens`, and a part of it
    /// `small-61440tokens@blocks.3.hook_resid_post,blocks.5.hook_resid_post`.
    pub fn name(&self) -> String {
        let control = self.control.map_or_else(String::new, |control| format!("{control}-"));
        name_of_part(&format!("{}-{control}{}tokens", self.model, self.training_tokens), &self.part)
    }

    /// What stands behind its model and budget where its work is shown: the sites of a part, ` blocks.3.hook_resid_post`.
    pub fn part_shown(&self) -> String {
        self.part.iter().map(|site| format!(" {site}")).collect()
    }

    /// What a directory of one of its runs is called.
    pub fn name_of(&self, run: &Run) -> String {
        name_of_run(&self.model, run.site.hook, &run.key)
    }
}

/// The sites of some runs, each once, as they come.
pub(super) fn sites_of<'a>(keys: impl Iterator<Item = &'a RunKey>) -> Vec<String> {
    let mut sites: Vec<String> = Vec::new();
    for RunKey { hook, .. } in keys {
        if !sites.contains(hook) {
            sites.push(hook.clone());
        }
    }
    sites
}

/// What the part of a group at some sites is called; the group itself where there are none.
pub(super) fn name_of_part(group: &str, sites: &[String]) -> String {
    if sites.is_empty() { group.to_owned() } else { format!("{group}{PART}{}", sites.join(&AND.to_string())) }
}

/// The name of a group, and the sites of the part of it that is meant; none of the group itself.
pub fn group_and_sites(name: &str) -> (&str, Vec<&str>) {
    let (group, sites) = name.split_once(PART).unzip();
    (group.unwrap_or(name), sites.map_or_else(Vec::new, |sites| sites.split(AND).map(str::trim).collect()))
}

/// The hash of the ids of a group's runs.
pub(super) fn group_id(runs: impl Iterator<Item = String>) -> String {
    short(blake3::hash(runs.collect::<String>().as_bytes()))
}

/// What a directory of a run is called, by its model, where it is patched in, and what it is known by: readable, and no other run's of the
/// sweep.
pub fn name_of_run(model: &str, hook: HookPoint, key: &RunKey) -> String {
    let RunKey { seed, training_tokens, ref train, .. } = *key;
    let kind = match hook.kind {
        HookKind::ResidPost => String::new(),
        other => format!("{}-", other.short_name()),
    };
    let class = match key.transcode() {
        None if train.architecture.is_topk() => String::new(),
        _ => format!("{}-", key.class().replace(' ', "-")),
    };
    let objective = match key.objective() {
        name if name == MSE => String::new(),
        name => format!("{}-", name.replace(' ', "-")),
    };
    let control = key.control.map_or_else(String::new, |control| format!("{control}-"));
    let Knob { key, value } = train.architecture.knob();
    format!("{model}-L{}-{kind}{class}{objective}{control}{key}{value}-seed{seed}-{training_tokens}tokens", hook.layer)
}
