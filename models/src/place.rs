//! What a path to a model leads to: a directory as Hugging Face's tools save it, or a GGUF file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{ModelError, Result};
use crate::gguf::Gguf;

/// Whether a model is, or ought to be, in one GGUF file: whatever is a file, and what is called so.
pub(crate) fn is_gguf(model: &Path) -> bool {
    model.is_file() || (!model.is_dir() && model.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")))
}

/// Whether there is a model: a directory with `config.json`, or a file that begins as GGUF does.
pub fn is_model(path: &Path) -> bool {
    let begins = |file: &mut File| {
        let mut magic = [0; 4];
        file.read_exact(&mut magic).is_ok() && magic == *b"GGUF"
    };
    path.join("config.json").is_file() || (path.is_file() && File::open(path).is_ok_and(|mut file| begins(&mut file)))
}

/// Checks that something which is there may be a model. What is not there is for whoever opens it.
///
/// # Errors
/// If it can't be one; the message says what a model is, and where there are some.
pub(crate) fn check(path: &Path) -> Result<()> {
    const MODEL: &str =
        "a model is a directory with config.json and safetensors, as Hugging Face's tools save it, or a GGUF file";
    let refused = |why: String| Err(ModelError::Config { path: path.to_owned(), why });
    let ends = |end: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(end));
    if path.is_dir() && !path.join("config.json").exists() {
        return refused(match models_below(path) {
            below if below.is_empty() => format!("there is no model in it: {MODEL}"),
            below => format!("there is no model directly in it; below it are {}", below.join(", ")),
        });
    }
    if path.is_file() && !is_model(path) && !ends("gguf") {
        return refused(match path.parent().filter(|dir| is_model(dir)) {
            Some(dir) => format!("it is one of a model's files; give the directory that it is in, {}", dir.display()),
            None => format!("it is no model: {MODEL}"),
        });
    }
    Ok(())
}

/// How far below a directory models are looked for, and how many of them a message lists.
const DEPTH: usize = 3;
const LISTED: usize = 12;

/// The models below a directory, in order; of the hub's cache, say, those of its snapshots.
fn models_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(dir.to_owned(), 0)];
    while let Some((at, depth)) = open.pop() {
        let entries = std::fs::read_dir(&at).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.into_iter().rev() {
            if is_model(&path) {
                found.push(path.display().to_string());
            } else if depth + 1 < DEPTH && path.is_dir() && !path.is_symlink() {
                open.push((path, depth + 1));
            }
        }
    }
    found.sort();
    if found.len() > LISTED {
        let more = found.len() - LISTED;
        found.truncate(LISTED);
        found.push(format!("and {more} more"));
    }
    found
}

/// What a model is called in its own files: `_name_or_path` of a configuration, `general.name` of a GGUF file. None where they can't be read.
pub fn own_names(model: &Path) -> Vec<String> {
    if is_gguf(model) {
        let name = || -> Result<Option<String>> { Ok(Gguf::open(model)?.text("general.name")?.map(str::to_owned)) };
        // «Gemma 3 270m» is elsewhere called gemma-3-270m.
        return name().ok().flatten().map(|name| name.replace(' ', "-")).into_iter().collect();
    }
    let config = std::fs::read_to_string(model.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_str(&config).unwrap_or_default();
    config["_name_or_path"].as_str().map(str::to_owned).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_led_to_one() {
        let dir = tempfile::tempdir().unwrap();
        let small = dir.path().join("models/small");
        std::fs::create_dir_all(&small).unwrap();
        std::fs::write(small.join("config.json"), "{}").unwrap();
        std::fs::write(small.join("model.safetensors"), "").unwrap();
        std::fs::write(dir.path().join("models/a.gguf"), "GGUF").unwrap();
        std::fs::write(dir.path().join("README.md"), "# A text").unwrap();
        let said = |path: &Path| check(path).unwrap_err().to_string();
        let all = said(dir.path());
        assert!(
            all.contains("below it are") && all.contains("models/a.gguf, ") && all.ends_with("models/small"),
            "{all}"
        );
        assert!(said(&small.join("model.safetensors")).ends_with(&format!("it is in, {}", small.display())));
        assert!(said(&dir.path().join("README.md")).contains("a model is a directory with config.json"));
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert!(said(&dir.path().join("empty")).contains("a model is a directory with config.json"));
        for path in [small.as_path(), &dir.path().join("models/a.gguf"), &dir.path().join("nowhere")] {
            assert!(check(path).is_ok(), "{}", path.display());
        }
    }
}
