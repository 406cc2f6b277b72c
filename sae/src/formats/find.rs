//! Which format a directory has, by the files in it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::json::read_json;
use super::{Format, circuit_tracer, cross_layer, gemma_scope_2, llama_scope, saelens};
use crate::error::{Result, SaeError};
use crate::tensors::TensorFile;

/// An SAE's directory.
pub(super) struct SaeFiles {
    pub dir: PathBuf,
    pub format: Format,
    /// Its weights.
    pub weights: PathBuf,
}

impl SaeFiles {
    /// The names of its files, of those that its format knows, the configuration first.
    pub fn files(&self) -> Vec<OsString> {
        let names = self.format.files().iter().filter(|name| self.dir.join(name).is_file());
        let mut names: Vec<OsString> = names.map(OsString::from).collect();
        // Weights of a name of their own.
        let own = self.weights.strip_prefix(&self.dir).ok().map(OsString::from);
        names.extend(own.filter(|own| !names.contains(own)));
        names
    }

    fn owns(&self, file: &Path) -> bool {
        // Of a set of transcoders each has weights of its own.
        let weights = self.format.weights();
        let is_beside = |name: &OsStr| self.format.owns(name) && *name != *weights;
        file.file_name().is_some_and(|name| is_beside(name) || self.weights.file_name() == Some(name))
    }
}

/// How far below a directory SAEs are looked for, and how many of them a message lists.
const DEPTH: usize = 4;
const LISTED: usize = 20;

/// The format of the SAE in `dir`, if there is one.
///
/// # Errors
/// If there are several, or a configuration beside weights can't be read.
pub fn detect(dir: &Path) -> Result<Option<Format>> {
    Ok(only(dir)?.map(|found| found.format))
}

/// Whether a path is meant to be an SAE, readable or not: its directory, or one of its files.
pub fn is_sae(path: &Path) -> bool {
    if path.is_file() {
        let name = path.file_name().unwrap_or_default();
        let has = |name_of: fn(Format) -> &'static str| Format::ALL.iter().any(|format| *name == *name_of(*format));
        return has(Format::weights)
            || path.extension().is_some_and(|e| e == "npz")
            || candidates(directory_of(path)).0.iter().any(|found| found.owns(path))
            || (has(Format::config) || is_pickled(path)) && is_sae(parent(path));
    }
    // A configuration that can't be read is an SAE's if weights with an SAE's name are beside it.
    let config = |name: &str, key: &str, weights: &str| match read_json(&path.join(name)) {
        Ok(config) => config.get(key).is_some(),
        Err(_) => path.join(name).is_file() && path.join(weights).is_file(),
    };
    !candidates(path).0.is_empty()
        || config("cfg.json", "d_in", "sae.safetensors")
        || config("config.json", "trainer", "ae.safetensors")
}

/// The SAE at `path`: its directory, or one of its files.
///
/// # Errors
/// If there is none, or more than one; the message says what is there instead.
pub(super) fn find(path: &Path) -> Result<SaeFiles> {
    let is_archive = path.extension().is_some_and(|e| e == "npz");
    if path.is_file() && is_archive {
        return Ok(SaeFiles { dir: parent(path).to_owned(), format: Format::GemmaScope, weights: path.to_owned() });
    }
    if let Some(file) = pickled(path).filter(|_| path.is_file()) {
        return Err(SaeError::config(&file, conversion(&file)));
    }
    let dir = directory_of(path);
    let (mut found, unreadable) = candidates(dir);
    if path.is_file() && !found.is_empty() {
        found.retain(|found| found.owns(path));
        if found.is_empty() {
            return Err(SaeError::config(path, "it is no file of the SAE in its directory; name the directory"));
        }
    }
    if found.len() > 1 {
        return Err(several(dir, &found));
    }
    if let Some(found) = found.pop() {
        return Ok(found);
    }
    if let Some(error) = unreadable {
        return Err(error);
    }
    if let Some(file) = pickled(dir) {
        return Err(SaeError::config(&file, conversion(&file)));
    }
    if !dir.is_dir() {
        return Err(SaeError::config(dir, "there is no such directory"));
    }
    if path.is_file() && !is_sae(path) {
        return Err(SaeError::config(path, "it is no file of an SAE; give an SAE's directory, or its file of weights"));
    }
    let below = saes_below(dir);
    let has = |name: &str| dir.join(name).is_file();
    let alone = Format::ALL.into_iter().find(|format| has(format.weights()));
    let why = if !below.is_empty() {
        format!("there is no SAE directly in it; below it are\n  {}\ngive one of these", below.join("\n  "))
    } else if let Some(format) = alone {
        let (weights, config) = (format.weights(), format.config());
        let missing = if has(config) { format!("{config} names no `trainer`") } else { format!("{config} is missing") };
        format!("no SAE: {weights} ({format}) is there, but {missing}")
    } else if has("conf.yaml") && has("latest_ckpt.safetensors") {
        saelens::TEMPORAL.to_owned()
    } else if is_crosscoder(dir) {
        "a crosscoder of several models: each latent is a sum over the activations of all of them, so that it is no SAE of one, and it is not \
         supported"
            .to_owned()
    } else if has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json")) {
        "a model, and no SAE".to_owned()
    } else if has("runs.parquet") || has("sweep.toml") {
        "results of a sweep that kept no SAEs: `save_saes = true` under [train], or --set train.save_saes=true, keeps them".to_owned()
    } else if has("cfg.json") {
        "no SAE: cfg.json is there, but neither sae_weights.safetensors (SAELens) nor sae.safetensors (sparsify) beside it".to_owned()
    } else {
        "no SAE: there is neither cfg.json with sae_weights.safetensors (SAELens) or sae.safetensors (sparsify), nor config.json with a \
         `trainer` and ae.safetensors (dictionary_learning), params.npz (Gemma Scope), params.safetensors (Gemma Scope 2), \
         hyperparams.json with checkpoints/final.safetensors or config.json with sae_weights.safetensors (Llama Scope), or config.yaml with layer_N.safetensors (circuit-tracer)"
            .to_owned()
    };
    Err(SaeError::config(dir, why))
}

/// Whether a directory has a crosscoder of dictionary_learning's fork (<https://github.com/jkminder/dictionary_learning>), whose matrices have
/// a dimension for the models.
fn is_crosscoder(dir: &Path) -> bool {
    let weights = dir.join("model.safetensors");
    let of_several = |file: TensorFile| file.shape("encoder.weight").is_ok_and(|shape| shape.len() == 3);
    weights.is_file() && TensorFile::open(&weights, "its layout").is_ok_and(of_several)
}

/// The one SAE in a directory, if there is any.
///
/// # Errors
/// As [`detect`].
pub(super) fn only(dir: &Path) -> Result<Option<SaeFiles>> {
    match candidates(dir) {
        (found, _) if found.len() > 1 => Err(several(dir, &found)),
        (found, Some(error)) if found.is_empty() => Err(error),
        (mut found, _) => Ok(found.pop()),
    }
}

fn several(dir: &Path, found: &[SaeFiles]) -> SaeError {
    let name =
        |found: &SaeFiles| format!("{} ({})", found.weights.file_name().unwrap_or_default().display(), found.format);
    let mut names: Vec<String> = found.iter().take(LISTED).map(name).collect();
    if found.len() > LISTED {
        names.push(format!("{} more", found.len() - LISTED));
    }
    let why = format!(
        "several SAEs in one directory: {}; name one by its file of weights, or move one away",
        names.join(" and ")
    );
    SaeError::config(dir, why)
}

/// The SAEs that lie in a directory itself, and why a configuration beside weights that may be an SAE's can't be read.
fn candidates(dir: &Path) -> (Vec<SaeFiles>, Option<SaeError>) {
    let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    let mut found = Vec::new();
    if file("cfg.json").is_some() {
        for format in [Format::SaeLens, Format::Sparsify] {
            found.extend(file(format.weights()).map(|weights| SaeFiles { dir: dir.to_owned(), format, weights }));
        }
    }
    let mut single = |format: Format, weights: Option<PathBuf>| {
        found.extend(weights.map(|weights| SaeFiles { dir: dir.to_owned(), format, weights }));
    };
    for format in [Format::GemmaScope, Format::GemmaScope2] {
        single(format, file(format.weights()));
    }
    single(Format::LlamaScope, llama_scope::weights(dir));
    let layers = |layer_of: fn(&Path) -> Option<usize>| {
        let mut layers: Vec<(usize, PathBuf)> =
            entries(dir).into_iter().filter_map(|path| Some((layer_of(&path)?, path))).collect();
        layers.sort();
        layers.into_iter().map(|(_, weights)| weights)
    };
    layers(gemma_scope_2::layer_of).for_each(|weights| single(Format::GemmaScope2, Some(weights)));
    if circuit_tracer::CONFIGS.iter().any(|config| file(config).is_some()) {
        layers(circuit_tracer::layer_of).for_each(|weights| single(Format::CircuitTracer, Some(weights)));
        layers(cross_layer::layer_of).for_each(|weights| single(Format::CrossLayer, Some(weights)));
    }
    let format = Format::DictionaryLearning;
    let Some(config) = file(format.config()) else { return (found, None) };
    let Some(weights) = file(format.weights()).or_else(|| lone_weights(dir)) else { return (found, None) };
    match read_json(&config) {
        Ok(config) if config.get("trainer").is_some() => found.push(SaeFiles { dir: dir.to_owned(), format, weights }),
        Ok(_) => {}
        Err(error) => return (found, Some(error)),
    }
    (found, None)
}

/// The only safetensors file of a directory, whatever it is called.
fn lone_weights(dir: &Path) -> Option<PathBuf> {
    let mut files = entries(dir).into_iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.next().filter(|_| files.next().is_none())
}

/// The directory that an SAE's path means: itself, or the one that the file is in; of weights among `checkpoints`, the one above.
pub fn directory_of(path: &Path) -> &Path {
    let dir = if path.is_file() { parent(path) } else { path };
    let above = parent(dir);
    let is_checkpoints = dir.file_name().is_some_and(|name| name == "checkpoints");
    if is_checkpoints && above.join(llama_scope::CONFIG).is_file() { above } else { dir }
}

/// The directory that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent == OsStr::new("") => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// What lies in a directory, in order.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// The SAEs below a directory, readable or pickled.
fn saes_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(dir.to_owned(), 0)];
    // Links may lead back to where one has been.
    let mut seen = BTreeSet::new();
    while let Some((at, depth)) = open.pop() {
        if !at.canonicalize().is_ok_and(|place| seen.insert(place)) {
            continue;
        }
        for path in entries(&at).into_iter().rev().filter(|path| path.is_dir()) {
            if depth < DEPTH {
                open.push((path, depth + 1));
            }
        }
        if depth > 0 {
            let what = match detect(&at) {
                Ok(format) => format.map(|f| f.to_string()).or_else(|| pickled(&at).map(|_| "pickled".to_owned())),
                Err(error) => Some(error.to_string()),
            };
            found.extend(what.map(|what| format!("{} ({what})", at.display())));
        }
    }
    if found.len() > LISTED {
        let more = found.len() - LISTED;
        found.truncate(LISTED);
        found.push(format!("and {more} more"));
    }
    found
}

fn is_pickled(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    ["pt", "pth", "bin", "pkl", "ckpt"].contains(&extension)
}

/// The pickled weights at a path: the file itself, or the first in the directory.
fn pickled(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned()).filter(|path| is_pickled(path));
    }
    entries(path).into_iter().find(|path| path.is_file() && is_pickled(path))
}

/// Why pickled weights aren't read, and the command that converts them. By their names one knows whose they are.
fn conversion(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = |suffix: &str| file.with_file_name(format!("{}{suffix}", name.trim_end_matches(".pt"))).is_file();
    let (script, needs) = if name.starts_with("layer") && name.ends_with(".sae.pt") {
        ("qwen_scope.py", "k is in the repository's name, which --repo gives if it is no part of the path")
    } else if name.to_lowercase().contains("-sae-l") {
        ("goodfire.py", "model and layer are in its name, or given by --model and --layer")
    } else if beside("_cfg.json") {
        ("hook_z_kk.py", "its _cfg.json must lie beside it")
    } else {
        ("dictionary_learning.py", "dictionary_learning's config.json must lie beside it")
    };
    format!(
        "a pickle may run code when it is read, so it is not; convert it once, with a script of assay's repository that loads weights only \
         ({needs}):\n  python scripts/convert/{script} '{}' DIRECTORY",
        file.display()
    )
}
