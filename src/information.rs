//! Mutual information of a sweep's hook points with the logits: what H3 needs, measured once a model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use assay_models::HookPoint;
use assay_probes::information::{Bound, Critic, CriticConfig, Information, PairsConfig, model_information, widths};
use serde::Serialize;

use crate::files::write_atomic;
use crate::frames::Estimated;
use crate::interrupt;
use crate::plan::{Group, Inputs, hash_contexts};
use crate::progress::Progress;
use crate::record::{METRIC_VERSION, RunKey};
use crate::spec::{InformationSpec, SweepSpec};

/// What the estimates of a model follow from: all that is read, and every setting of the pairs and the critics.
#[derive(Serialize)]
struct Key<'a> {
    metric_version: u32,
    device_class: &'a str,
    weights: &'a str,
    /// Hash of the contexts that are read, which may be more than any budget trains on.
    tokens: String,
    context_size: usize,
    hooks: Vec<String>,
    pairs: &'a PairsConfig,
    critics: &'a [CriticConfig],
}

/// Measures every hook point of a model, or reads what was measured before; `None` if somebody interrupts.
///
/// # Errors
/// If there are too few tokens, a critic diverges, or the record can't be read or written.
pub fn measure(
    spec: &SweepSpec,
    settings: &InformationSpec,
    group: &Group,
    inputs: &Inputs,
    results: &Path,
    progress: Progress,
) -> Result<Option<Vec<Estimated>>> {
    let mut hooks: Vec<(String, HookPoint)> = group.runs.iter().map(|r| (r.depth.clone(), r.hook)).collect();
    hooks.dedup();
    let Some(RunKey { device_class, weights, context_size, .. }) = group.runs.first().map(|r| &r.key) else {
        return Ok(Some(Vec::new()));
    };
    let contexts = settings.tokens.div_ceil(*context_size);
    let pairs = PairsConfig {
        batch: spec.eval.batch,
        components: settings.components,
        center_residual: spec.center_residual,
        ..PairsConfig::default()
    };
    let critics = critics(settings, inputs.decoder.config().d_model);
    let key = Key {
        metric_version: METRIC_VERSION,
        device_class,
        weights,
        tokens: hash_contexts(&inputs.source, contexts).context("[information] tokens")?,
        context_size: *context_size,
        hooks: hooks.iter().map(|(_, hook)| hook.to_string()).collect(),
        pairs: &pairs,
        critics: &critics,
    };
    let path = record_path(results, &key)?;
    if path.exists() {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found: Vec<Estimated> = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; remove it and it will be measured again", path.display()))?;
        return Ok(Some(found.into_iter().map(|e| named(e, &hooks)).collect()));
    }
    let mut stage = progress.stage(
        format!("{} mutual information", group.model.name),
        (hooks.len() * critics.len()) as u64,
        "critics",
    );
    let tokens = inputs.source.read(0, contexts).context("[information] tokens")?;
    let points: Vec<HookPoint> = hooks.iter().map(|(_, hook)| *hook).collect();
    let measured = model_information(&inputs.decoder, &points, tokens.view(), &pairs, &critics, |n| {
        stage.advance(n as u64, String::new);
        interrupt::flow()
    });
    let measured = interrupt::unless_stopped(measured)
        .with_context(|| format!("model `{}`, mutual information", group.model.name))?;
    let Some(measured) = measured else { return Ok(None) };
    let found: Vec<Estimated> = measured.into_iter().map(|m| named(estimated(m), &hooks)).collect();
    stage.finish("");
    write_atomic(&path, serde_json::to_string(&found).context("estimates serialise")?.as_bytes())?;
    Ok(Some(found))
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
        layer: found.hook.layer,
        hook: found.hook.to_string(),
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

fn record_path(results: &Path, key: &Key<'_>) -> Result<PathBuf> {
    let text = serde_json::to_string(key).context("a key serialises")?;
    let id = &blake3::hash(text.as_bytes()).to_hex()[..16];
    Ok(results.join("runs").join(format!("{id}.information.json")))
}
