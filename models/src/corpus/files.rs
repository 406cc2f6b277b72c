//! Which files a path stands for, a directory or a glob, and what they hold by their names.

use std::path::{Path, PathBuf};

use crate::error::{ModelError, Result};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain text.
    Text,
    /// A JSON object a line.
    JsonLines,
    /// Columns of tokens or text.
    Parquet,
    /// One tensor of tokens.
    Safetensors,
}

impl Kind {
    /// By the name, if that says so: `.gz` and `.zst` are looked through.
    fn named(path: &Path) -> Option<Self> {
        let inner = if compression(path).is_some() { path.with_extension("") } else { path.to_owned() };
        match inner.extension()?.to_str()? {
            "txt" => Some(Self::Text),
            "jsonl" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            "safetensors" => Some(Self::Safetensors),
            _ => None,
        }
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// gzip, of one member or several.
    Gzip,
    /// zstd, of one frame or several.
    Zstd,
}

/// By the name's end; `None`: not at all.
pub(crate) fn compression(path: &Path) -> Option<Compression> {
    match path.extension()?.to_str()? {
        "gz" => Some(Compression::Gzip),
        "zst" => Some(Compression::Zstd),
        _ => None,
    }
}

/// Files of one kind, in the order in which they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// What they hold.
    pub kind: Kind,
    /// At least one.
    pub paths: Vec<PathBuf>,
}

impl Files {
    /// A file; the files of a directory and those below it that are of a known kind; or those that a glob matches
    /// (`data/**/*.jsonl.zst`). Of a directory or glob, in the order of their paths. A file whose name says nothing is text.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let pattern = path.to_str().filter(|p| p.contains(['*', '?', '[']));
        let paths = if path.is_dir() {
            below(path)?
        } else if let Some(pattern) = pattern.filter(|_| !path.exists()) {
            matches(path, pattern)?
        } else {
            vec![path.to_owned()]
        };
        let kind_of = |path: &Path| Kind::named(path).unwrap_or(Kind::Text);
        let kind = kind_of(&paths[0]);
        if let Some(other) = paths.iter().find(|p| kind_of(p) != kind) {
            return Err(ModelError::data(
                path,
                format!(
                    "files of several kinds, {} and {} among them; name one kind, for example {}",
                    paths[0].display(),
                    other.display(),
                    "`DIR/**/*.parquet`"
                ),
            ));
        }
        let packed = paths.iter().find(|p| compression(p).is_some());
        if let (Kind::Parquet | Kind::Safetensors, Some(packed)) = (kind, packed) {
            return Err(ModelError::data(packed, "only text and JSON lines are read compressed; decompress it"));
        }
        Ok(Self { kind, paths })
    }
}

fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| ModelError::read(&dir, e))? {
            let path = entry.map_err(|e| ModelError::read(&dir, e))?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if Kind::named(&path).is_some() {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ModelError::data(dir, "no .parquet, .jsonl, .txt (also .gz, .zst) or .safetensors files in it"));
    }
    Ok(files)
}

fn matches(path: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let found = glob::glob(pattern).map_err(|e| ModelError::data(path, format!("not a glob: {e}")))?;
    let mut files = Vec::new();
    for entry in found {
        let entry = entry.map_err(|e| ModelError::read(e.path(), e.error().kind().into()))?;
        if !entry.is_dir() {
            files.push(entry);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ModelError::data(path, "no file matches it"));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_files_hold() {
        for (name, kind) in [
            ("a.txt", Some(Kind::Text)),
            ("a.b.txt.gz", Some(Kind::Text)),
            ("a.jsonl.zst", Some(Kind::JsonLines)),
            ("a.jsonl", Some(Kind::JsonLines)),
            ("a.parquet", Some(Kind::Parquet)),
            ("a.zst", None),
            ("README.md", None),
            ("txt", None),
        ] {
            assert_eq!(Kind::named(Path::new(name)), kind, "{name}");
        }
    }
}
