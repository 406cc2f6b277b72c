//! Where models, SAEs and text are: at a path, or under a name on the Hugging Face hub, from which they are fetched.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use assay_hub::{Event, Hub, HubName, Pending, Settings, Snapshot, Want};
use assay_models::DecoderConfig;
use indicatif::DecimalBytes;

use crate::catalogue;
use crate::files::from_home;
use crate::output;
use crate::progress::{Progress, Stage};
use crate::spec::SweepSpec;
use crate::spelling::{missing, nearby, of_demo};

/// A model's directory or GGUF file, from its path or `org/name[@revision][:path]`.
///
/// # Errors
/// If it is neither, or can't be fetched.
pub fn model(text: &Path, progress: Progress) -> Result<PathBuf> {
    place(Want::Model, text, progress)
}

/// An SAE's directory or file, likewise, or from its name in the [`catalogue`], `release/id`.
///
/// # Errors
/// As [`model`]; if it is in the catalogue and pickled.
pub fn sae(text: &Path, progress: Progress) -> Result<PathBuf> {
    place(Want::Sae, text, progress)
}

/// A text's file, directory or pattern of paths, or the shards of a dataset by its name, `org/name[@revision][:path]`.
///
/// # Errors
/// As [`model`].
pub fn text(text: &Path, progress: Progress) -> Result<PathBuf> {
    if is_pattern(text) {
        return Ok(from_home(text));
    }
    place(Want::Dataset, text, progress)
}

/// Whether a text is a pattern of paths, and no name on the hub.
pub fn is_pattern(text: &Path) -> bool {
    let shown = text.to_string_lossy();
    shown.contains(['*', '?', '[']) && shown.parse::<HubName>().is_err()
}

/// Any path or pattern of paths, or the directory of a model or SAE on the hub.
///
/// # Errors
/// As [`model`].
pub fn anything(text: &Path, progress: Progress) -> Result<PathBuf> {
    if is_pattern(text) {
        return Ok(from_home(text));
    }
    place(Want::ModelOrSae, text, progress)
}

/// What is there is a path; anything else may be a name.
fn place(want: Want, text: &Path, progress: Progress) -> Result<PathBuf> {
    let text = &from_home(text);
    if text.exists() {
        return Ok(text.clone());
    }
    let shown = text.to_string_lossy();
    // No name on the hub begins so.
    ensure!(!shown.starts_with(['/', '.', '$']), missing(text));
    if matches!(want, Want::Sae | Want::ModelOrSae)
        && let Some((entry, name)) = catalogue::find(&shown)?
    {
        ensure!(!entry.release.pickled, "{shown}: {}", entry.conversion());
        let found = fetch(Want::Sae, &name, progress);
        return Ok(found.with_context(|| format!("{shown} is {name} on the hub"))?.path);
    }
    let meant = catalogue::suggestion(&shown).filter(|_| matches!(want, Want::Sae | Want::ModelOrSae));
    let meant = meant.map(|meant| format!("; {meant}")).unwrap_or_default();
    let name: HubName = shown.parse().map_err(|error| match nearby(text) {
        Some(_) if meant.is_empty() => anyhow!(missing(text)),
        _ => anyhow!("{shown}: no such file or directory, and {error}{meant}{}", of_demo(text)),
    })?;
    let found = fetch(want, &name, progress);
    let found =
        found.with_context(|| format!("{shown} is no file or directory here, so it was looked for on the hub{meant}"));
    Ok(found?.path)
}

/// What a sweep reads, on this machine.
pub struct Sources {
    /// The directory or GGUF file of each of the spec's models; `None` where the spec doesn't say where it is.
    pub models: Vec<Option<PathBuf>>,
    /// The same of each model before its training.
    pub step0: Vec<Option<PathBuf>>,
    /// File, directory or pattern of the training text.
    pub text: PathBuf,
    /// The commits that were at the revisions of the spec's names.
    pub commits: Vec<(HubName, String)>,
}

/// Fetches what a sweep reads. Each name is resolved once, so that all models see one commit of the text.
///
/// # Errors
/// If no model has a place, or one can't be fetched.
pub fn sources(spec: &SweepSpec, progress: Progress) -> Result<Sources> {
    let mut commits = Vec::new();
    let mut get = |want, name: HubName| -> Result<PathBuf> {
        let Snapshot { path, commit } = fetch(want, &name, progress)?;
        commits.push((name, commit));
        Ok(path)
    };
    let (mut models, mut step0) = (Vec::new(), Vec::new());
    for model in &spec.models {
        let mut place = |name, path: &Option<PathBuf>| -> Result<Option<PathBuf>> {
            let Some(name) = name else { return Ok(path.clone()) };
            get(Want::Model, name).map(Some).with_context(|| format!("model `{}`", model.name))
        };
        models.push(place(model.hub_name()?, &model.path)?);
        step0.push(place(model.step0_name()?, &model.step0)?);
    }
    ensure!(models.iter().any(Option::is_some), "no model has a path or a name on the hub");
    let text = match (spec.tokens.hub_name()?, &spec.tokens.train) {
        (Some(name), _) => get(Want::Dataset, name).context("[tokens] dataset")?,
        (None, path) => path.clone().context("[tokens]: give `train` or `dataset`")?,
    };
    Ok(Sources { models, step0, text, commits })
}

/// What [`sources`] would download.
///
/// # Errors
/// As `sources`.
pub fn pending(spec: &SweepSpec) -> Result<Vec<(HubName, Pending)>> {
    let mut names = Vec::new();
    for model in &spec.models {
        for name in [model.hub_name()?, model.step0_name()?] {
            names.extend(name.map(|name| (Want::Model, name)));
        }
    }
    names.extend(spec.tokens.hub_name()?.map(|name| (Want::Dataset, name)));
    let hub = Hub::new(Settings::from_env(), &readable);
    let mut found = Vec::new();
    for (want, name) in names {
        let pending = hub.pending(want, &name, &mut warn)?;
        if pending.files > 0 {
            found.push((name, pending));
        }
    }
    Ok(found)
}

fn fetch(want: Want, name: &HubName, progress: Progress) -> Result<Snapshot> {
    let mut stage: Option<Stage> = None;
    let mut total = 0;
    let snapshot = Hub::new(Settings::from_env(), &readable).fetch(want, name, &mut |event| match event {
        Event::Start { bytes } => {
            total = bytes;
            stage = Some(progress.stage(format!("download {}", name.repo()), bytes, "bytes"));
        }
        Event::Bytes { count, file } => {
            if let Some(stage) = &mut stage {
                stage.advance(count, || file.to_owned());
            }
        }
        Event::End { files } => {
            if let Some(stage) = stage.take() {
                stage.finish(&format!("{files} files, {}", DecimalBytes(total)));
            }
        }
        Event::Warning(_) => warn(event),
    })?;
    Ok(snapshot)
}

/// Why the model cannot be read whose configuration is in a directory, if it cannot.
fn readable(dir: &Path) -> Result<(), String> {
    DecoderConfig::load(dir).map(|_| ()).map_err(|why| why.to_string())
}

/// Warnings are no progress, which --quiet would hide: results may depend on what they say.
fn warn(event: Event<'_>) {
    if let Event::Warning(text) = event {
        output::message(format_args!("warning: {text}"));
    }
}
