//! Which format a directory has, by the files in it.

use std::path::{Path, PathBuf};

use super::{Format, read_json};
use crate::error::{Result, SaeError};

/// An SAE's directory.
pub(super) struct Found {
    pub dir: PathBuf,
    pub format: Format,
    /// Its weights.
    pub weights: PathBuf,
}

/// How far below a directory SAEs are looked for, and how many of them a message lists.
const DEPTH: usize = 4;
const LISTED: usize = 20;

/// The format of the SAE in `dir`, if there is one.
pub fn detect(dir: &Path) -> Option<Format> {
    recognise(dir).map(|found| found.format)
}

/// Whether a directory is meant to be an SAE's, readable or not: its configuration is one.
pub fn is_sae(dir: &Path) -> bool {
    dir.join("cfg.json").is_file() || read_json(&dir.join("config.json")).is_ok_and(|c| c.get("trainer").is_some())
}

/// The SAE at `path`: its directory, or its file of weights.
///
/// # Errors
/// If there is none; the message says what is there instead.
pub(super) fn find(path: &Path) -> Result<Found> {
    let dir = if path.is_file() && !is_pickled(path) { path.parent().unwrap_or(path) } else { path };
    if let Some(found) = recognise(dir) {
        return Ok(found);
    }
    if let Some(file) = pickled(path) {
        return Err(SaeError::config(&file, conversion(&file)));
    }
    if !dir.is_dir() {
        return Err(SaeError::config(dir, "there is no such directory"));
    }
    let below = saes_below(dir);
    Err(SaeError::config(
        dir,
        if below.is_empty() {
            "no SAE: there is neither cfg.json with sae_weights.safetensors (SAELens) or sae.safetensors (sparsify), nor config.json \
             with a `trainer` and ae.safetensors (dictionary_learning)"
                .to_owned()
        } else {
            format!("several files, but no SAE; those below it are\n  {}", below.join("\n  "))
        },
    ))
}

fn recognise(dir: &Path) -> Option<Found> {
    let found = |format, weights| Some(Found { dir: dir.to_owned(), format, weights });
    let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    if file("cfg.json").is_some() {
        if let Some(weights) = file("sae_weights.safetensors") {
            return found(Format::SaeLens, weights);
        }
        if let Some(weights) = file("sae.safetensors") {
            return found(Format::Sparsify, weights);
        }
        return None;
    }
    let config = read_json(&file("config.json")?).ok()?;
    config.get("trainer")?;
    let weights = file("ae.safetensors").or_else(|| {
        let mut files = entries(dir).into_iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
        files.next().filter(|_| files.next().is_none())
    })?;
    found(Format::DictionaryLearning, weights)
}

/// What lies in a directory, in order.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// The SAEs below a directory, readable or pickled.
fn saes_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(dir.to_owned(), 0)];
    while let Some((at, depth)) = open.pop() {
        for path in entries(&at).into_iter().rev().filter(|path| path.is_dir()) {
            if depth < DEPTH {
                open.push((path, depth + 1));
            }
        }
        if depth > 0 {
            let what =
                detect(&at).map(|format| format.to_string()).or_else(|| pickled(&at).map(|_| "pickled".to_owned()));
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
    ["pt", "pth", "bin", "npz", "pkl", "ckpt"].contains(&extension)
}

/// The pickled weights at a path: the file itself, or the first in the directory.
fn pickled(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned()).filter(|path| is_pickled(path));
    }
    entries(path).into_iter().find(|path| path.is_file() && is_pickled(path))
}

/// Why pickled weights aren't read, and the command that makes safetensors of them.
fn conversion(file: &Path) -> String {
    let (from, to) = (file.display(), file.with_file_name("ae.safetensors"));
    if file.extension().is_some_and(|e| e == "npz") {
        return "numpy archives are not read; convert it once, with SAELens, which knows its layout:\n  python -c \"from sae_lens import SAE; \
                SAE.from_pretrained('RELEASE', 'SAE_ID').save_model('DIRECTORY')\""
            .to_owned();
    }
    format!(
        "a pickle may run code when it is read, so it is not; convert it once (dictionary_learning's config.json must lie beside it):\n  \
         python -c \"import torch, safetensors.torch as s; d = torch.load('{from}', map_location='cpu', weights_only=True); \
         s.save_file({{k: v.contiguous() for k, v in d.items()}}, '{}')\"",
        to.display()
    )
}
