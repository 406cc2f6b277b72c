//! Mutual information of a sweep's hook points with the logits: what H3 needs, measured once per model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use assay_models::{Decoder, HookPoint, Site};
use assay_probes::information::{Bound, Critic, CriticConfig, Information, PairsConfig, model_information, widths};
use serde::Serialize;

use crate::files::{read_json, write_atomic};
use crate::frames::Estimated;
use crate::interrupt;
use crate::plan::{PlannedModel, information_contexts};
use crate::progress::Progress;
use crate::record::{METRIC_VERSION, RunKey, short};
use crate::spec::{InformationSpec, SweepSpec};

/// What the estimates of a model follow from: all that is read, and every setting of the pairs and the critics.
#[derive(Serialize)]
struct Key<'a> {
    metric_version: u32,
    device_class: &'a str,
    weights: &'a str,
    /// Hash of the contexts that are read, which may be more than any budget trains on.
    tokens: &'a str,
    context_size: usize,
    hooks: Vec<String>,
    pairs: PairsKey,
    critics: &'a [CriticConfig],
}

/// The settings of the pairs, those of their sites among them.
#[derive(Serialize)]
struct PairsKey {
    batch: usize,
    components: usize,
    center_logits: bool,
    center_residual: bool,
    first_position: usize,
}

/// What is to be measured of a model.
struct Task {
    hooks: Vec<(String, HookPoint)>,
    contexts: usize,
    pairs: PairsConfig,
    critics: Vec<CriticConfig>,
    id: String,
}

impl Task {
    /// `None` where the spec asks for no mutual information.
    fn of(spec: &SweepSpec, model: &PlannedModel) -> Option<Self> {
        let settings = spec.information.as_ref()?;
        let RunKey { device_class, weights, context_size, .. } = &model.groups.first()?.runs.first()?.key;
        let contexts = information_contexts(spec)?;
        let config = model.files.config();
        let batch = spec.eval.batch(config.vocab_size);
        let pairs = PairsConfig { batch, components: settings.components, ..PairsConfig::default() };
        let critics = critics(settings, config.d_model);
        let hooks: Vec<(String, HookPoint)> =
            model.sites.iter().map(|(depth, site)| (depth.clone(), site.hook)).collect();
        let key = Key {
            metric_version: METRIC_VERSION,
            device_class,
            weights,
            tokens: model.tokens.hash_of(contexts)?,
            context_size: *context_size,
            hooks: hooks.iter().map(|(_, hook)| hook.to_string()).collect(),
            pairs: PairsKey {
                batch: pairs.batch,
                components: pairs.components,
                center_logits: pairs.center_logits,
                center_residual: spec.center_residual,
                first_position: pairs.first_position,
            },
            critics: &critics,
        };
        let text = serde_json::to_string(&key).expect("numbers, names and lists of them serialise");
        let id = short(blake3::hash(text.as_bytes()));
        Some(Self { hooks, contexts, pairs, critics, id })
    }
}

/// What a model's estimates are known by; `None` where the spec asks for none.
pub fn id(spec: &SweepSpec, model: &PlannedModel) -> Option<String> {
    Task::of(spec, model).map(|task| task.id)
}

/// Where estimates of that id lie in a results directory.
pub fn path(results: &Path, id: &str) -> PathBuf {
    results.join("runs").join(format!("{id}.information.json"))
}

/// Reads the estimates of that id; `None` if there are none yet. Names of depths are those that `hooks` gives, whatever they were when
/// it was measured.
///
/// # Errors
/// If the file is there but damaged.
pub fn load(results: &Path, id: &str, hooks: &[(String, HookPoint)]) -> Result<Option<Vec<Estimated>>> {
    let found: Option<Vec<Estimated>> = read_json(&path(results, id), "remove it and it will be measured again")?;
    Ok(found.map(|found| found.into_iter().map(|estimated| named(estimated, hooks)).collect()))
}

/// Measures every hook point of a model and records the estimates, unless they are there; false if somebody interrupts.
///
/// # Errors
/// If a critic diverges, or the record can't be read or written.
pub fn measure<'a>(
    spec: &SweepSpec,
    model: &PlannedModel,
    decoder: impl FnOnce() -> Result<&'a Decoder>,
    results: &Path,
    progress: Progress,
) -> Result<bool> {
    let Some(Task { hooks, contexts, pairs, critics, id }) = Task::of(spec, model) else { return Ok(true) };
    if load(results, &id, &hooks)?.is_some() {
        return Ok(true);
    }
    let decoder = decoder()?;
    let mut stage =
        progress.stage(format!("{} mutual information", model.name), (hooks.len() * critics.len()) as u64, "critics");
    let tokens = model.tokens.source.read(0, contexts).context("[information] tokens")?;
    let sites: Vec<Site> = model.sites.iter().map(|(_, site)| *site).collect();
    let measured = model_information(decoder, &sites, tokens.view(), &pairs, &critics, |n| {
        stage.advance(n as u64, String::new);
        interrupt::flow()
    });
    let measured =
        interrupt::unless_stopped(measured).with_context(|| format!("model `{}`, mutual information", model.name))?;
    let Some(measured) = measured else { return Ok(false) };
    let found: Vec<Estimated> = measured.into_iter().map(|m| named(estimated(m), &hooks)).collect();
    stage.finish("");
    write_atomic(&path(results, &id), serde_json::to_string(&found).context("estimates serialise")?.as_bytes())?;
    Ok(true)
}

/// Both critics with both bounds, and the concatenated one behind bottlenecks: a separable critic needs more dimensions
/// than the information has (Gulati et al. 2026, arXiv:2602.08105).
fn critics(settings: &InformationSpec, d_model: usize) -> Vec<CriticConfig> {
    let config = |critic, bound, width| {
        // All pairs of a batch go through a concatenated critic: fewer at a time, in larger steps, for the same work.
        let (batch, lr) = match critic {
            Critic::Separable => (128, 2e-3),
            Critic::Concatenated => (64, 6e-3),
        };
        let base = CriticConfig::new(critic, bound);
        CriticConfig { width, batch, lr, steps: settings.steps, seed: settings.seed, ..base }
    };
    let mut all = Vec::new();
    for critic in [Critic::Separable, Critic::Concatenated] {
        all.extend([Bound::InfoNce, Bound::SMILE].map(|bound| config(critic, bound, None)));
    }
    let bottlenecks = if settings.widths.is_empty() { widths(d_model.min(64)) } else { settings.widths.clone() };
    all.extend(bottlenecks.into_iter().map(|w| config(Critic::Concatenated, Bound::SMILE, Some(w.min(d_model)))));
    all
}

fn estimated(found: Information) -> Estimated {
    Estimated {
        depth: String::new(),
        layer: found.site.hook.layer,
        hook: found.site.hook.to_string(),
        critic: name_of(found.config.critic).to_owned(),
        bound: if found.config.bound == Bound::InfoNce { "info_nce" } else { "smile" }.to_owned(),
        width: found.config.width,
        nats: found.information.nats,
        standard_error: found.information.standard_error,
        cap: found.information.cap,
        components: found.components,
        variance_share: found.variance_share,
        pairs: found.information.pairs,
    }
}

fn name_of(critic: Critic) -> &'static str {
    match critic {
        Critic::Separable => "separable",
        Critic::Concatenated => "concatenated",
    }
}

/// Names of depths are the spec's.
fn named(mut estimated: Estimated, hooks: &[(String, HookPoint)]) -> Estimated {
    if let Some((depth, _)) = hooks.iter().find(|(_, hook)| hook.layer == estimated.layer) {
        estimated.depth.clone_from(depth);
    }
    estimated
}
