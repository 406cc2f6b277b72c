//! From a spec to runs: models are opened, tokens hashed, and every run gets its id. No weights are in memory yet.

mod group;
mod outline;
mod tokens;

use std::borrow::Cow;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use assay_models::tokens::Texts;
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, LoadedWeights, ModelFiles, Site};
use assay_sae::TrainConfig;

use crate::belonging::foreign;
use crate::device::OpenDevice;
use crate::fetch::Sources;
use crate::progress::Progress;
use crate::record::{METRIC_VERSION, RunKey};
use crate::spec::{ModelSpec, SweepControl, SweepSpec};
use crate::spelling::missing;

use group::group_id;
pub use group::{Group, PART, group_and_sites, name_of_run};
pub use outline::{GroupOutline, Outline, PLAN, RunOutline};
pub use tokens::{SweepTokens, information_contexts};

/// All that a sweep will do.
pub struct Plan {
    /// The models that have a place, in the order of the spec; each is followed by those that are controls.
    pub models: Vec<PlannedModel>,
    /// Names of the others.
    pub missing: Vec<String>,
}

/// A model of a sweep, what it is run on, and its groups.
pub struct PlannedModel {
    /// Its name in tables.
    pub name: String,
    /// What makes it a control, one that is of models, or nothing.
    pub control: Option<SweepControl>,
    /// Its checkpoint.
    pub files: Rc<ModelFiles>,
    /// Hash of the checkpoint's weights.
    weights: String,
    /// The tokens, shared by the models of one tokenizer.
    pub tokens: Rc<SweepTokens>,
    /// Where its SAEs sit, with the names of the depths.
    pub sites: Vec<(String, Site)>,
    /// Its token budgets.
    budgets: Vec<u64>,
    /// One for each token budget.
    pub groups: Vec<Group>,
}

/// One run: an SAE to train and evaluate.
#[derive(Clone, Debug)]
pub struct Run {
    /// Hash of `key`.
    pub id: String,
    /// What changes the run's numbers.
    pub key: RunKey,
    /// Name of the depth.
    pub depth: String,
    /// Where it is patched in.
    pub site: Site,
    /// Where it reads: there, or of a transcoder elsewhere.
    pub reads: Site,
}

impl Plan {
    /// Opens the models and tokens of a spec, checks everything that can be checked before anything is trained, and hashes what runs
    /// are known by.
    ///
    /// # Errors
    /// If a checkpoint or a token file is unusable, there are too few tokens, a context is too long for a model, a hook does not exist,
    /// a setting can't be, training and evaluation text overlap, or two models are one.
    pub fn open(spec: &SweepSpec, sources: &Sources, opened: &OpenDevice, progress: Progress) -> Result<Self> {
        let mut plan = Self { models: Vec::new(), missing: Vec::new() };
        for ((model, checkpoint), step0) in spec.models.iter().zip(&sources.models).zip(&sources.step0) {
            match checkpoint {
                Some(path) => {
                    let planned = plan.model(spec, model, path, sources, progress)?;
                    let drawn = [SweepControl::RandomModel, SweepControl::GaussianInputs]
                        .map(|control| spec.controls.contains(&control).then(|| planned.of_control(control)));
                    let step0 = step0.as_deref().map(|path| planned.before_training(path)).transpose()?;
                    for model in [Some(planned)].into_iter().chain(drawn).chain([step0]).flatten() {
                        plan.models.push(model.with_groups(spec, opened)?);
                    }
                }
                None => plan.missing.push(model.name.clone()),
            }
        }
        plan.refuse_twins()?;
        Ok(plan)
    }

    /// Every group with its model; a group's place here is its number.
    pub fn groups(&self) -> impl Iterator<Item = (&PlannedModel, &Group)> {
        self.models.iter().flat_map(|model| model.groups.iter().map(move |group| (model, group)))
    }

    /// The group of that number or name, or the part of it at the sites that follow.
    ///
    /// # Errors
    /// If there is none; the message lists those that are.
    pub fn group(&self, wanted: &str) -> Result<(&PlannedModel, Cow<'_, Group>)> {
        let (name, sites) = group_and_sites(wanted);
        let number = name.parse::<usize>().ok();
        let is_wanted = |(at, (_, group)): &(usize, (&PlannedModel, &Group))| {
            number.map_or_else(|| group.name() == name, |number| number == *at)
        };
        let Some((_, (model, group))) = self.groups().enumerate().find(is_wanted) else {
            let known: Vec<String> =
                self.groups().enumerate().map(|(at, (_, group))| format!("{at} ({})", group.name())).collect();
            bail!("--group {wanted}: this sweep has no such group; there are {}", known.join(", "))
        };
        if sites.is_empty() {
            return Ok((model, Cow::Borrowed(group)));
        }
        let known = group.sites();
        if let Some(other) = sites.iter().find(|site| !known.iter().any(|known| known == *site)) {
            bail!("--group {wanted}: {} has no site `{other}`; there are {}", group.name(), known.join(", "));
        }
        let sites: Vec<String> = sites.into_iter().map(str::to_owned).collect();
        Ok((model, Cow::Owned(group.part(&sites))))
    }

    fn model(
        &self,
        spec: &SweepSpec,
        model: &ModelSpec,
        path: &Path,
        sources: &Sources,
        progress: Progress,
    ) -> Result<PlannedModel> {
        let opening = || format!("[[models]] {} (a path is relative to the spec)", model.name);
        let files = opened_model(path).with_context(opening)?;
        let config = files.config();
        let sites = spec.sites(model, config)?;
        for (_, site) in &sites {
            for coder in &spec.all_coders() {
                for &tokens in spec.budgets(model) {
                    let width = site.hook.width(config);
                    let train = spec.train.config(width, coder, tokens, spec.precision)?;
                    let reads = coder.transcode.map_or(*site, |transcode| transcode.reads_at(*site));
                    let named = || {
                        let (class, knob) = (coder.class(), coder.architecture.knob());
                        format!("model `{}`, {}, {class} {knob}", model.name, site.hook)
                    };
                    train.check().with_context(named)?;
                    reads.check(config).with_context(named)?;
                }
            }
        }
        let texts = Texts::of(path, config).begun(spec.tokens.bos);
        let vocabulary = Vocabulary::load(path);
        if let (Some(_), Err(error)) = (&spec.legibility, &vocabulary) {
            bail!("[legibility]: model `{}` has no tokenizer to say what tokens are: {error}", model.name);
        }
        let vocabulary = vocabulary.ok();
        let id = tokens::tokenizer_id(vocabulary.as_ref(), texts);
        let tokens = match self.models.iter().find(|other| other.tokens.tokenizer() == id) {
            Some(other) => Rc::clone(&other.tokens),
            None => {
                let tokens = SweepTokens::open(spec, &model.name, texts, id, &sources.text, progress)?;
                // A spec that says `bos = false` knows.
                if let Some(vocabulary) = vocabulary.filter(|_| spec.tokens.bos != Some(false))
                    && let Some(note) = tokens.missing_bos(&vocabulary)?
                {
                    progress.say(&format!("model `{}`: {note}", model.name));
                }
                Rc::new(tokens)
            }
        };
        tokens.check(config).with_context(|| format!("model `{}`", model.name))?;
        let weights = files.weights_hash();
        let (name, files) = (model.name.clone(), Rc::new(files));
        let budgets = spec.budgets(model).to_vec();
        Ok(PlannedModel { name, control: None, files, weights, tokens, sites, budgets, groups: Vec::new() })
    }

    /// Two models of the same weights would have the same runs.
    fn refuse_twins(&self) -> Result<()> {
        let mut seen = std::collections::BTreeMap::new();
        for (model, group) in self.groups() {
            for run in &group.runs {
                if let Some(other) = seen.insert(run.id.as_str(), model.name.as_str()) {
                    bail!(
                        "models `{other}` and `{}` have the same weights: their runs would be the same; remove one",
                        model.name
                    );
                }
            }
        }
        Ok(())
    }
}

impl Run {
    /// Where it needs activations: where it reads, and where it is patched in. Twice the same of an SAE.
    pub fn sites(&self) -> [Site; 2] {
        [self.reads, self.site]
    }

    /// Whether another run of its group is one of the same SAE, because no setting of training tells them apart.
    pub fn trains_as(&self, other: &Self) -> bool {
        let streams = |run: &Self| (run.site, run.reads, run.key.seed, run.key.loss_tokens);
        streams(self) == streams(other) && self.key.train.trains_as(&other.key.train)
    }
}

impl PlannedModel {
    /// The same files, for the SAEs of a control.
    fn of_control(&self, control: SweepControl) -> Self {
        Self {
            name: self.name.clone(),
            control: Some(control),
            files: Rc::clone(&self.files),
            weights: self.weights.clone(),
            tokens: Rc::clone(&self.tokens),
            sites: self.sites.clone(),
            budgets: self.budgets.clone(),
            groups: Vec::new(),
        }
    }

    /// The model before its training.
    fn before_training(&self, path: &Path) -> Result<Self> {
        let opening = || format!("[[models]] {}: step0 (a path is relative to the spec)", self.name);
        let files = opened_model(path).with_context(opening)?;
        ensure!(
            files.config() == self.files.config(),
            "{}: {} is a model of another shape or other settings, and no earlier state of it",
            opening(),
            path.display()
        );
        let weights = files.weights_hash();
        ensure!(weights != self.weights, "{}: {} has the weights of the model itself", opening(), path.display());
        Ok(Self { files: Rc::new(files), weights, ..self.of_control(SweepControl::Step0) })
    }

    /// With a group for each budget.
    fn with_groups(self, spec: &SweepSpec, opened: &OpenDevice) -> Result<Self> {
        let of_budget = |&training_tokens: &u64| {
            let runs = runs(spec, &self, training_tokens, opened)?;
            Ok(Group::new(self.name.clone(), self.control, training_tokens, runs))
        };
        let groups = self.budgets.iter().map(of_budget).collect::<Result<_>>()?;
        Ok(Self { groups, ..self })
    }

    /// What it is called where its work is shown: `small`, `small random-model`.
    pub fn shown(&self) -> String {
        self.control.map_or_else(|| self.name.clone(), |control| format!("{} {control}", self.name))
    }

    /// Checks that the weights fit into the device's memory, as [`Self::load`] does.
    ///
    /// # Errors
    /// If they don't.
    pub fn check_memory(&self, opened: &OpenDevice) -> Result<()> {
        self.files.check_memory(&opened.device).with_context(|| format!("model `{}`", self.name))
    }

    /// Reads the weights into the device's memory.
    ///
    /// # Errors
    /// If they can't be.
    pub fn load(&self, opened: &OpenDevice) -> Result<Decoder> {
        // Weights are f32 whatever the spec's precision: captures for training say which precision they want (`StreamConfig`), and
        // everything else is computed in f32.
        let weights = self.control.map_or(LoadedWeights::OfFiles, SweepControl::weights);
        self.files.load_with(weights, &opened.device).with_context(|| format!("model `{}`", self.name))
    }

    /// What is to be said of held-out tokens that are not this model's text; nothing of one that never learned any.
    ///
    /// # Errors
    /// If the model refuses them.
    pub fn foreign(&self, decoder: &Decoder) -> Result<Option<String>> {
        let found = if self.control.is_none() { foreign(decoder, self.tokens.eval.view())? } else { None };
        Ok(found.map(|note| format!("model `{}`: {note}", self.name)))
    }

    /// The group that also measures what is the model's alone; a control has none.
    fn first(&self) -> Option<&Group> {
        self.groups.first().filter(|_| self.control.is_none())
    }

    /// Whether a group, or the one that it is a part of, also audits the activations at its sites.
    pub fn audits_sites(&self, group: &Group) -> bool {
        self.first().is_some_and(|first| first.training_tokens == group.training_tokens)
    }

    /// Whether a group is the one that also measures the model's geometry and mutual information. Of its parts it is the one with the last
    /// site, which has most layers to capture from and is dealt first.
    pub fn is_first(&self, group: &Group) -> bool {
        self.audits_sites(group) && self.first().is_some_and(|first| first.sites().last() == group.sites().last())
    }
}

/// A model whose weights are finite.
fn opened_model(path: &Path) -> Result<ModelFiles> {
    ensure!(path.exists(), missing(path));
    let files = ModelFiles::open(path)?;
    files.check_values()?;
    Ok(files)
}

/// The runs of a group.
fn runs(
    spec: &SweepSpec,
    PlannedModel { control, files, weights, tokens, sites, .. }: &PlannedModel,
    training_tokens: u64,
    opened: &OpenDevice,
) -> Result<Vec<Run>> {
    let config = files.config();
    let contexts = tokens::contexts_of(training_tokens, spec);
    let train_tokens = tokens.hash_of(contexts).context("every budget's tokens were hashed")?;
    let of_saes = |control: &SweepControl| !control.is_of_model();
    let controls: Vec<Option<SweepControl>> = match control {
        Some(control) => vec![Some(*control)],
        None => std::iter::once(None).chain(spec.controls.iter().copied().filter(of_saes).map(Some)).collect(),
    };
    let mut runs = Vec::new();
    for control in controls {
        for (depth, site) in sites {
            for &seed in &spec.seeds {
                for coder in &spec.all_coders() {
                    let train = spec.train.config(site.hook.width(config), coder, training_tokens, spec.precision)?;
                    let key = RunKey {
                        metric_version: METRIC_VERSION,
                        device_class: opened.class.clone(),
                        precision: spec.precision.to_string(),
                        weights: weights.clone(),
                        hook: site.hook.to_string(),
                        center_residual: site.center,
                        train_tokens: train_tokens.to_owned(),
                        context_size: spec.tokens.context_size,
                        buffer_tokens: spec.train.buffer_tokens,
                        contexts_per_pass: spec.train.contexts_per_pass,
                        training_tokens,
                        seed,
                        train: TrainConfig { frozen_decoder: control == Some(SweepControl::FrozenDecoder), ..train },
                        eval_tokens: tokens.eval_hash().to_owned(),
                        eval_batch: spec.eval.batch(config.vocab_size),
                        fisher_samples: spec.eval.fisher_samples,
                        fisher_seed: spec.eval.fisher_seed,
                        reads: coder.transcode.map(|transcode| transcode.reads),
                        bos: tokens.bos(),
                        loss_tokens: spec.train.loss_tokens_of(coder),
                        control,
                        legibility: spec.legibility,
                    };
                    let reads = key.transcode().map_or(*site, |transcode| transcode.reads_at(*site));
                    runs.push(Run { id: key.id(), key, depth: depth.clone(), site: *site, reads });
                }
            }
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests;
