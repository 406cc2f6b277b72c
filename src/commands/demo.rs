//! `assay demo`: the demonstration, wherever the program is.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::sweep::{SweepArgs, SweepOptions};
use crate::files::write_atomic;
use crate::progress::Progress;
use crate::spec::SpecDocument;

/// Train and evaluate the 24 SAEs of the demonstration, whose models, text and spec are part of this program: about two minutes on two cores.
///
/// First it writes models/bundled/ (two small models, their tokenizer, tokens; 22 MB) and sweeps/demo.toml into the current directory,
/// unless they are there; then it does what `assay sweep sweeps/demo.toml` does. Examples of other commands that name these files work
/// there as well. The same command resumes where it was stopped. If a different file has one of these names, that is an error, and
/// nothing is written.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay demo\n  assay demo --dry-run\n  assay demo --set 'k=[8]' --out results/one-k"
)]
pub struct DemoArgs {
    #[command(flatten)]
    options: SweepOptions,
}

/// Files of the repository, by their place in it, which is also where they are written.
macro_rules! files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)) as &[u8])),*]
    };
}

/// The spec of the demonstration.
const SPEC: &str = "sweeps/demo.toml";

/// What the demonstration reads, and whose text it is. As they are: weights in fp16 and zstd's Parquet shrink by a tenth at most.
static FILES: [(&str, &[u8]); 11] = files![
    "models/bundled/README.md",
    "models/bundled/small/config.json",
    "models/bundled/small/model.safetensors",
    "models/bundled/small/tokenizer.json",
    "models/bundled/medium/config.json",
    "models/bundled/medium/model-00001-of-00002.safetensors",
    "models/bundled/medium/model-00002-of-00002.safetensors",
    "models/bundled/medium/model.safetensors.index.json",
    "models/bundled/train.parquet",
    "models/bundled/eval.parquet",
    "sweeps/demo.toml",
];

impl DemoArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If other files are under the names of the demonstration's, and as `assay sweep`.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let written = write_missing(Path::new(""))?;
        if written > 0 {
            progress.say(&format!("{written} files of the demonstration were written: models/bundled/, {SPEC}"));
        }
        let document = SpecDocument::read(Path::new(SPEC), &self.options.overrides)?;
        SweepArgs::of(Path::new(SPEC), &self.options).run_document(&document, device_name, progress)
    }
}

/// Writes the files that are not in `root` yet, the spec last; gives how many.
fn write_missing(root: &Path) -> Result<usize> {
    let mut missing = Vec::new();
    for (path, bytes) in all_files() {
        let path = root.join(path);
        match std::fs::read(&path) {
            Ok(there) if there == bytes => {}
            Ok(_) => bail!(
                "{} is there, and is not what the demonstration of this version has; run `assay demo` in an empty directory, or that file's \
                 own sweep with `assay sweep {SPEC}`",
                path.display()
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing.push((path, bytes)),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    for (path, bytes) in &missing {
        write_atomic(path, bytes)?;
    }
    Ok(missing.len())
}

/// The files; `medium` has the tokenizer of `small`.
fn all_files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    let tokenizer = FILES.iter().filter(|(path, _)| path.ends_with("small/tokenizer.json"));
    tokenizer.map(|(_, bytes)| ("models/bundled/medium/tokenizer.json", *bytes)).chain(FILES.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_repository_has() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write_missing(dir.path()).unwrap(), FILES.len() + 1);
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (path, _) in all_files() {
            let [there, here] = [dir.path(), repository].map(|root| std::fs::read(root.join(path)).unwrap());
            assert!(there == here, "{path}");
        }
        assert_eq!(write_missing(dir.path()).unwrap(), 0);
        assert_eq!(write_missing(repository).unwrap(), 0, "a clone has them all");
    }

    #[test]
    fn another_file_under_one_of_the_names_stays_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sweeps")).unwrap();
        std::fs::write(dir.path().join(SPEC), "name = 'mine'").unwrap();
        let error = write_missing(dir.path()).unwrap_err().to_string();
        assert!(error.contains("sweeps/demo.toml is there") && error.contains("empty directory"), "{error}");
        assert!(!dir.path().join("models").exists());
        assert_eq!(std::fs::read_to_string(dir.path().join(SPEC)).unwrap(), "name = 'mine'");
    }
}
