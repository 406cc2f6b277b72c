//! A group of a sweep, the runs that share a capture, and its parts.

use assay_models::{HookKind, HookPoint};
use assay_sae::Knob;

use super::Run;
use crate::frames::{MSE, distinct};
use crate::record::{RunKey, short};
use crate::spec::SweepControl;

/// The runs that share a capture: one model and one token budget, all sites, settings and seeds.
pub struct Group {
    /// The model's name.
    pub model: String,
    /// What makes the model a control, if anything does.
    pub control: Option<SweepControl>,
    /// The budget.
    pub training_tokens: u64,
    /// The site, where it is a part of a group.
    part: Option<HookPoint>,
    /// Its runs, by site, seed and setting; those that are controls of others come last.
    pub runs: Vec<Run>,
    /// Of a group with several sites, the runs at each of them: they can be worked on apart, where each part captures for itself.
    pub parts: Vec<Group>,
}

/// Stands between the name of a group and the site of a part of it.
pub const PART: char = '@';

impl Group {
    pub(super) fn new(model: String, control: Option<SweepControl>, training_tokens: u64, runs: Vec<Run>) -> Self {
        let hooks = distinct(runs.iter().map(|run| run.site.hook));
        let part = |hook: HookPoint| Self {
            model: model.clone(),
            control,
            training_tokens,
            part: Some(hook),
            runs: runs.iter().filter(|run| run.site.hook == hook).cloned().collect(),
            parts: Vec::new(),
        };
        let parts = if hooks.len() > 1 { hooks.into_iter().map(part).collect() } else { Vec::new() };
        Self { model, control, training_tokens, part: None, runs, parts }
    }

    /// What its state is known by: the hash of its runs' ids.
    pub fn id(&self) -> String {
        group_id(self.runs.iter().map(|run| run.id.clone()))
    }

    /// What it is called on the command line: `small-61440tokens`, and a part of it `small-61440tokens@blocks.3.hook_resid_post`.
    pub fn name(&self) -> String {
        let control = self.control.map_or_else(String::new, |control| format!("{control}-"));
        let part = self.part.map_or_else(String::new, |hook| format!("{PART}{hook}"));
        format!("{}-{control}{}tokens{part}", self.model, self.training_tokens)
    }

    /// What stands behind its model and budget where its work is shown: the site of a part, ` blocks.3.hook_resid_post`.
    pub fn part_shown(&self) -> String {
        self.part.map_or_else(String::new, |hook| format!(" {hook}"))
    }

    /// What a directory of one of its runs is called.
    pub fn name_of(&self, run: &Run) -> String {
        name_of_run(&self.model, run.site.hook, &run.key)
    }
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
