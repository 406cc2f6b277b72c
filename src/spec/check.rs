//! What a spec may say, and what is said of one that says something else.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use assay_models::{DecoderConfig, HookPoint, Site};
use assay_probes::metrics::Subset;
use assay_sae::{Loss, Objective};

use super::{ModelSpec, SweepControl, SweepSpec, objective_on};
use crate::spelling::closest;
use crate::transcode::Transcode;

impl SweepSpec {
    /// Checks everything that can be checked before a model is opened.
    pub(super) fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            !self.name.is_empty() && self.name.chars().all(plain) && !self.name.starts_with('.'),
            "name = \"{}\": it is also the name of a directory: use only letters, digits, '-', '_' and '.'",
            self.name
        );
        ensure!(!self.models.is_empty(), "[[models]]: at least one model is needed");
        ensure!(
            self.k.is_empty() || self.coders.is_empty(),
            "k and [[coders]] exclude each other: `k = [...]` is short for one coder with architecture = \"topk\"; \
             remove one of them (on the command line, `--set 'k=[]'` removes k)"
        );
        ensure!(
            !self.k.is_empty() || !self.coders.is_empty(),
            "k: at least one value is needed, or one of [[coders]] with its `k`"
        );
        if self.architectures().iter().all(|architecture| architecture.k().is_none()) {
            for (key, is_set) in [
                ("aux_coefficient", self.train.aux_coefficient.is_some()),
                ("rescale_acts_by_decoder_norm", self.train.rescale_acts_by_decoder_norm.is_some()),
            ] {
                ensure!(!is_set, "[train] {key}: only classes with a `k` have it, and no coder is of one; remove it");
            }
        }
        ensure!(!self.hooks.is_empty(), "hooks: at least one value is needed");
        ensure!(!self.seeds.is_empty(), "seeds: at least one value is needed");
        for model in &self.models {
            ensure!(
                !self.budgets(model).is_empty(),
                "training_tokens: at least one value is needed, for all models or in [[models]] {}",
                model.name
            );
        }
        let coders = self.named_coders()?;
        for (what, values) in [
            (if self.coders.is_empty() { "k" } else { "[[coders]]" }, coders),
            ("seeds", self.seeds.iter().map(ToString::to_string).collect()),
            ("hooks", self.hooks.iter().map(ToString::to_string).collect()),
            ("controls", self.controls.iter().map(ToString::to_string).collect()),
        ] {
            if let Some(value) = twice(&values) {
                bail!("{what}: a value is listed twice ({value})");
            }
        }
        for model in &self.models {
            ensure!(
                !model.name.is_empty() && model.name.chars().all(plain) && !model.name.starts_with('.'),
                "[[models]] name = \"{}\": letters, digits, '-', '_' and '.' make a file name",
                model.name
            );
        }
        let mut names: Vec<&str> = self.models.iter().map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        ensure!(names.len() == self.models.len(), "[[models]]: two models have the same name");
        for model in &self.models {
            ensure!(
                model.path.is_none() || model.hub.is_none(),
                "[[models]] {}: `path` and `hub` exclude each other",
                model.name
            );
            model.hub_name().with_context(|| format!("[[models]] {}", model.name))?;
            ensure!(
                model.step0.is_none() || model.step0_hub.is_none(),
                "[[models]] {}: `step0` and `step0_hub` exclude each other",
                model.name
            );
            model.step0_name().with_context(|| format!("[[models]] {}: step0_hub", model.name))?;
        }
        let has_step0 = self.models.iter().any(|model| model.step0.is_some() || model.step0_hub.is_some());
        ensure!(
            has_step0 == self.controls.contains(&SweepControl::Step0),
            "controls: `step-0` and the place of the untrained model, [[models]] step0 or step0_hub, belong together; give both or none"
        );
        self.tokens.hub_name().context("[tokens] dataset")?;
        ensure!(
            self.tokens.train.is_some() != self.tokens.dataset.is_some(),
            "[tokens]: give `train` (a file or directory) or `dataset` (a name on the hub), one of them"
        );
        let batch = self.train.batch_size;
        ensure!(batch > 0, "[train]: batch_size must be at least 1");
        ensure!(
            (1..=4096).contains(&self.train.expansion),
            "[train]: expansion = {} is d_sae / d_model; between 1 and 4096",
            self.train.expansion
        );
        ensure!(self.train.contexts_per_pass > 0, "[train]: contexts_per_pass must be at least 1");
        let of_models = self.models.iter().filter_map(|model| model.training_tokens.as_ref());
        for budgets in [&self.training_tokens].into_iter().chain(of_models) {
            for (at, &tokens) in budgets.iter().enumerate() {
                ensure!(!budgets[..at].contains(&tokens), "training_tokens: a value is listed twice ({tokens})");
                ensure!(tokens > 0, "training_tokens = 0 trains nothing; {batch}, a step, is the least");
                ensure!(
                    tokens >= batch as u64 && tokens % batch as u64 == 0,
                    "training_tokens = {tokens} is not a multiple of batch_size = {batch}; {} would be",
                    (tokens / batch as u64).max(1) * batch as u64
                );
            }
        }
        let eval = &self.eval;
        ensure!(
            eval.sequences > 0 && eval.context_size > 1 && eval.batch != Some(0),
            "[eval]: sequences and batch must be at least 1, context_size at least 2"
        );
        ensure!(eval.level > 0.0 && eval.level < 1.0, "[eval]: level = {} must lie between 0 and 1", eval.level);
        ensure!(
            self.tokens.eval.is_some() || eval.context_size == self.tokens.context_size,
            "[eval] context_size must be that of [tokens] when both are read from one stream; give tokens.eval otherwise"
        );
        ensure!(
            (100..=100_000).contains(&eval.resamples),
            "[eval]: resamples = {}: between 100 and 100,000 make an interval",
            eval.resamples
        );
        if let Some(topology) = &self.topology {
            topology.check_values(self.train.save_saes)?;
        }
        if let Some(legibility) = &self.legibility {
            ensure!(legibility.latents > 1, "[legibility]: latents = {}: at least 2 make a mean", legibility.latents);
        }
        let named_by_models = self.models.iter().all(|model| model.layers.is_some());
        for depth in &self.depths {
            depth_fraction(depth).or_else(|error| match named_by_models {
                true => bail!("depths: every model names its depths in its `layers`; remove `depths`"),
                false => Err(error),
            })?;
        }
        Ok(())
    }

    /// Class, sparsity and objective of each coder. What steps with the model's predictions need is checked as well: whole contexts.
    fn named_coders(&self) -> Result<Vec<String>> {
        let (mut names, mut objectives) = (Vec::new(), Vec::new());
        for coder in self.all_coders() {
            let (architecture, class) = (&coder.architecture, coder.class());
            let named = || format!("{} {class}", if self.coders.is_empty() { "[train]" } else { "[[coders]]" });
            if let Some(transcode) = coder.transcode
                && let Some(other) = self.hooks.iter().find(|kind| **kind != Transcode::PREDICTS)
            {
                bail!(
                    "[[coders]] transcode = \"{}\": a transcoder predicts what an MLP adds to the residual stream, and hooks has \"{}\"; set \
                     hooks = [\"{}\"], and train SAEs at other hooks in a sweep of their own",
                    transcode.reads.short_name(),
                    other.short_name(),
                    Transcode::PREDICTS.short_name()
                );
            }
            let (objective, loss) = self.train.objective_of(&coder).with_context(named)?;
            let tokens = self.train.loss_tokens_of(&coder);
            ensure!(
                tokens == Subset::All || objective.is_reconstruction(),
                "{}: loss_tokens = \"{}\" with objective = \"{}\": the KL is taken over whole contexts; set loss_tokens = \"all\", or an objective \
                 without it (mse, fvu)",
                named(),
                tokens.name(),
                objective.name(Loss::Mse)
            );
            let name = objective_on(&objective.name(loss.or(self.train.loss).unwrap_or(Loss::Mse)), tokens);
            names.push(format!("{class} {} {name}", architecture.knob()));
            objectives.push(objective);
        }
        if let Some(share) = self.train.kl_share {
            let is_used = objectives.iter().any(|objective| matches!(objective, Objective::KlMse { .. }));
            ensure!(
                is_used,
                "[train] kl_share = {share} belongs to objective = \"kl+mse\", which no SAE is trained for; remove it"
            );
        }
        if let Some(objective) = objectives.into_iter().find(|objective| !objective.is_reconstruction()) {
            let (batch, context) = (self.train.batch_size, self.tokens.context_size);
            ensure!(
                context > 0 && batch % context == 0,
                "objective = \"{}\" takes whole contexts, and [train] batch_size = {batch} is not a multiple of [tokens] context_size = \
                 {context}; batch_size = {} would be",
                objective.name(Loss::Mse),
                batch.div_ceil(context.max(1)).max(1) * context
            );
        }
        Ok(names)
    }

    /// Where a model gets SAEs, with the names of the depths: by layer, and within a layer in the order of a forward pass.
    ///
    /// # Errors
    /// If a hook does not exist, or two depths fall on one layer.
    pub fn sites(&self, model: &ModelSpec, config: &DecoderConfig) -> Result<Vec<(String, Site)>> {
        let mut layers: Vec<(String, usize)> = match &model.layers {
            Some(layers) => layers.iter().map(|(depth, &layer)| (depth.clone(), layer)).collect(),
            None => self
                .depths
                .iter()
                .map(|depth| Ok((depth.clone(), layer_at(depth, config.n_layers())?)))
                .collect::<Result<_>>()?,
        };
        ensure!(!layers.is_empty(), "model `{}`: no layers to probe; give depths or the model's layers", model.name);
        layers.sort_by_key(|(_, layer)| *layer);
        if let Some(pair) = layers.windows(2).find(|w| w[0].1 == w[1].1) {
            bail!(
                "model `{}`: depths `{}` and `{}` are both layer {}; give its `layers`",
                model.name,
                pair[0].0,
                pair[1].0,
                pair[0].1
            );
        }
        let mut kinds = self.hooks.clone();
        kinds.sort_unstable();
        let mut sites = Vec::new();
        for (depth, layer) in layers {
            for &kind in &kinds {
                let site = Site { center: self.center_residual, ..HookPoint { layer, kind }.into() };
                site.check(config).with_context(|| format!("model `{}`, depth `{depth}`", model.name))?;
                sites.push((depth.clone(), site));
            }
        }
        Ok(sites)
    }
}

/// The layer at a depth of a model of so many.
///
/// # Errors
/// If it is no name of a depth.
pub(super) fn layer_at(depth: &str, n_layers: usize) -> Result<usize> {
    let layer = (depth_fraction(depth)? * n_layers as f64).round() as usize;
    Ok(layer.min(n_layers - 1))
}

fn depth_fraction(depth: &str) -> Result<f64> {
    Ok(match depth {
        "early" => 1.0 / 6.0,
        "mid" => 0.5,
        "late" => 5.0 / 6.0,
        other => bail!("depths: `{other}` is none of early, mid, late; give a model's `layers` for other names"),
    })
}

/// Where something wrong was written.
pub(super) enum Source<'a> {
    File(&'a Path),
    /// `key=value` on the command line.
    Override(&'a str),
}

/// What the TOML reader calls after Rust's types, and what it is called here.
const TYPES: [(&str, &str); 8] = [
    ("expected a nonzero u64", "expected a whole number from 1 up"),
    ("expected usize", "expected a whole number"),
    ("expected u64", "expected a whole number"),
    ("expected u32", "expected a whole number"),
    ("expected f64", "expected a number"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected a table"),
    ("expected a boolean", "expected true or false"),
];

/// A TOML error with where it is, in the words of a spec, and for an unknown key what to write instead.
pub(super) fn explain(error: &toml::de::Error, source: &Source<'_>) -> anyhow::Error {
    let quoted: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    let unknown = quoted.split_first().filter(|_| error.message().starts_with("unknown field"));
    let is_scalar = error.message().starts_with("invalid type") && error.message().ends_with("expected a sequence");
    let list = is_scalar.then(|| "write a list, with brackets, such as `[8]`".to_owned());
    let section = quoted.first().filter(|key| ["models", "tokens", "train"].contains(key));
    let section = section.filter(|_| error.message().starts_with("missing field"));
    let section =
        section.map(|_| "it is a section of the spec; `assay new` writes a spec that has all of them".to_owned());
    let hint = unknown.and_then(|(key, known)| hint(key, known)).or(list).or(section).unwrap_or_default();
    let plain = |text: String| TYPES.iter().fold(text, |text, (theirs, ours)| text.replace(theirs, ours));
    match source {
        Source::File(path) => {
            let text = plain(error.to_string());
            anyhow::anyhow!("{}: {}", path.display(), format!("{}\n{hint}", text.trim_end()).trim_end())
        }
        Source::Override(set) => {
            let text = plain(error.message().to_owned());
            anyhow::anyhow!("--set {set}: {}", format!("{text}\n{hint}").trim_end())
        }
    }
}

/// A value that stands in a list a second time.
pub(crate) fn twice<T: PartialEq>(values: &[T]) -> Option<&T> {
    let again = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
    again.map(|(_, value)| value)
}

/// Keys that other tools have, or that are asked for and not there.
const ELSEWHERE: [(&str, &str); 17] = [
    ("ks", "it is called `k`"),
    ("architecture", "it belongs to a coder: [[coders]] architecture = \"topk\", k = [8, 16]"),
    ("activation", "it is called `architecture`, in [[coders]]"),
    ("target_l0", "it belongs to a coder: [[coders]] architecture = \"jumprelu\", sparsity = \"quadratic\""),
    ("hook_name", "`hooks` says what of a layer is read, `depths` or a model's `layers` of which layers"),
    (
        "objective",
        "it belongs to [train], or to a coder: [[coders]] architecture = \"topk\", k = [8], objective = \"kl\"",
    ),
    ("kl_share", "it belongs to [train], or to a coder whose objective is \"kl+mse\""),
    (
        "transcode",
        "it belongs to a coder: [[coders]] architecture = \"topk\", k = [8], transcode = \"mlp_in\", with hooks = [\"mlp_out\"]",
    ),
    ("skip_connection", "it is called `skip`, of a coder with `transcode`"),
    ("hook_name_out", "`transcode` of a coder says what a transcoder reads, `hooks` what it predicts"),
    ("learning_rate", "it is called `lr`, in [train]"),
    ("lr", "it belongs to [train]: `train.lr` with --set"),
    ("batch_size", "it belongs to [train]: `train.batch_size` with --set"),
    ("expansion", "it belongs to [train]: `train.expansion` with --set"),
    ("save_saes", "it belongs to [train]: `train.save_saes` with --set"),
    ("d_sae", "`expansion` in [train] is d_sae / d_model"),
    ("tokens_per_step", "it is called `batch_size`, in [train]"),
];

fn hint(key: &str, known: &[&str]) -> Option<String> {
    if let Some((_, text)) = ELSEWHERE.iter().find(|(other, _)| *other == key) {
        return Some((*text).to_owned());
    }
    let closest = closest(key, known.iter().copied(), 1);
    closest.first().map(|closest| format!("did you mean `{closest}`?"))
}
