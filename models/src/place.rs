//! What a path to a model leads to: a directory as Hugging Face's tools save it, or a GGUF file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::error::Result;
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
