//! The text of a sweep: as its author wrote it, with the overrides of the command line, and as it is recorded.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use assay_hub::HubName;
use assay_models::read_text;
use serde::de::DeserializeOwned;
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::SweepSpec;
use super::check::{Source, explain};
use crate::files::from_home;
use crate::spelling::missing;

/// How a recorded spec begins.
pub const RECORDED_BY: &str = "# Recorded by assay";

/// A spec's TOML, with comments and order as they were, and overrides in their places.
pub struct SpecDocument {
    path: PathBuf,
    /// As its author wrote it.
    written: String,
    overrides: Vec<String>,
    document: DocumentMut,
}

impl SpecDocument {
    /// Reads a spec and applies `key=value` overrides: dotted keys, and TOML values; what is no TOML value is taken as a string.
    ///
    /// # Errors
    /// If the file is unreadable or not TOML, or an override names no place in it.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self> {
        let shown = path.display();
        let of_results = path.join("sweep.toml");
        ensure!(
            !path.is_dir(),
            "{shown} is a directory; give the TOML file of a sweep{}",
            if of_results.is_file() {
                format!(", which of these results is {}", of_results.display())
            } else {
                String::new()
            }
        );
        ensure!(
            path.exists(),
            "{}; `assay new` writes a spec for your model and text, and `assay demo` runs the demonstration's",
            missing(path)
        );
        let text = read_text(path).context("cannot read the sweep")?;
        Self::of(path, &text, overrides)
    }

    /// As [`Self::read`], of a text that would lie at `path`.
    ///
    /// # Errors
    /// If it is not TOML, or an override names no place in it.
    pub fn of(path: &Path, text: &str, overrides: &[String]) -> Result<Self> {
        let shown = path.display();
        let mut document: DocumentMut = text.parse().with_context(|| format!("{shown} is not TOML"))?;
        for text in overrides {
            let (key, value) = text.split_once('=').with_context(|| format!("--set {text}: expected key=value"))?;
            let key: Vec<&str> = key.trim().split('.').collect();
            let value = toml_value(value.trim()).with_context(|| format!("--set {text}"))?;
            set(document.as_table_mut(), &key, value).with_context(|| format!("--set {text}"))?;
        }
        Ok(Self { path: path.to_owned(), written: text.to_owned(), overrides: overrides.to_vec(), document })
    }

    /// The spec that the text describes, checked, with paths resolved against its directory.
    ///
    /// # Errors
    /// If it has a key that is not known, or a value that can't be.
    pub fn spec(&self) -> Result<SweepSpec> {
        let mut spec: SweepSpec = self.parsed()?;
        let mistake = |document: &Self| Some(document.read_as::<SweepSpec>().ok()?.check().err()?.to_string());
        spec.check().with_context(|| match self.source(mistake) {
            Source::File(path) => path.display().to_string(),
            Source::Override(set) => format!("{} with --set {set}", self.path.display()),
        })?;
        for model in &mut spec.models {
            for path in [&mut model.path, &mut model.step0] {
                *path = path.take().map(|p| self.place(&p));
            }
        }
        spec.tokens.train = spec.tokens.train.map(|p| self.place(&p));
        spec.tokens.eval = spec.tokens.eval.map(|p| self.place(&p));
        Ok(spec)
    }

    /// What the text says in the form of `T`: the whole spec, or some of its keys.
    ///
    /// # Errors
    /// If a value is none of its key, or a key is missing or not known.
    pub fn parsed<T: DeserializeOwned>(&self) -> Result<T> {
        let mistake = |document: &Self| document.read_as::<T>().err().map(|error| error.message().to_owned());
        self.read_as().map_err(|error| explain(&error, &self.source(mistake)))
    }

    fn read_as<T: DeserializeOwned>(&self) -> Result<T, toml::de::Error> {
        toml::from_str(&self.document.to_string())
    }

    /// Where the mistake was made that is left with all overrides: by the one since which it is there, or in the file.
    fn source(&self, mistake: impl Fn(&Self) -> Option<String>) -> Source<'_> {
        let with = |count: usize| mistake(&Self::of(&self.path, &self.written, &self.overrides[..count]).ok()?);
        let left = mistake(self);
        let since = (0..self.overrides.len()).rev().take_while(|&count| with(count) == left).last();
        match since.unwrap_or(self.overrides.len()).checked_sub(1) {
            None => Source::File(&self.path),
            Some(at) => Source::Override(&self.overrides[at]),
        }
    }

    /// The spec as it was run, to lie in `dir`, where it can be run again: overrides are in their places, paths lead from there,
    /// and what came from the hub is named at its commit.
    ///
    /// # Errors
    /// If a path can't be followed.
    pub fn recorded(&self, dir: &Path, commits: &[(HubName, String)]) -> Result<String> {
        let mut document = self.document.clone();
        let moved = |item: &mut Item| -> Result<()> {
            // From the home directory it leads to the same file from anywhere, on any machine.
            if let Some(path) = item.as_str().filter(|path| !Path::new(path).starts_with("~")) {
                let path = path_from(dir, &self.place(Path::new(path)))?;
                replace(item, path.into());
            }
            Ok(())
        };
        let pinned = |table: &mut dyn TableLike, key: &str, beside: Option<&str>| -> Result<()> {
            let Some(name) = table.get(key).and_then(Item::as_str) else { return Ok(()) };
            let revision = beside.and_then(|beside| table.get(beside)).and_then(Item::as_str);
            let name = name.parse::<HubName>()?.at(revision)?;
            let Some((_, commit)) = commits.iter().find(|(known, _)| *known == name) else { return Ok(()) };
            let name = name.at_commit(commit)?.to_string();
            if let Some(beside) = beside {
                table.remove(beside);
            }
            table.get_mut(key).into_iter().for_each(|item| replace(item, name.as_str().into()));
            Ok(())
        };
        if let Some(item) = document.get_mut("models") {
            for model in tables_of(item) {
                for key in ["path", "step0"] {
                    model.get_mut(key).map_or(Ok(()), moved)?;
                }
                pinned(model, "step0_hub", None)?;
                pinned(model, "hub", Some("revision"))?;
            }
        }
        if let Some(tokens) = document.get_mut("tokens").and_then(Item::as_table_like_mut) {
            tokens.get_mut("train").map_or(Ok(()), moved)?;
            tokens.get_mut("eval").map_or(Ok(()), moved)?;
            pinned(tokens, "dataset", Some("revision"))?;
        }
        let name = self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let text = document.to_string();
        // Of a spec that was recorded before, the line that says so is replaced.
        let rest =
            if text.starts_with(RECORDED_BY) { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
        Ok(format!("{RECORDED_BY} {} from {name}: `assay sweep` runs it again.\n{rest}", env!("CARGO_PKG_VERSION")))
    }

    /// Where a path in the spec leads: from its directory, or from the home directory where it begins with `~/`.
    fn place(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(from_home(path))
    }
}

/// A TOML value as it is given on the command line.
fn toml_value(text: &str) -> Result<Value> {
    match text.parse::<Value>() {
        Ok(value) => Ok(value),
        // A broken list or number is a mistake; anything else is a string without its quotes.
        Err(error) if text.starts_with(['[', '{', '"', '\'']) || is_number(text) => {
            Err(anyhow::anyhow!("`{text}` is no TOML value: {}", error.message()))
        }
        Err(_) => Ok(text.into()),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

/// Sets a dotted key to a value.
fn set(table: &mut dyn TableLike, key: &[&str], value: Value) -> Result<()> {
    let [first, rest @ ..] = key else { bail!("a key is expected before `=`") };
    ensure!(!first.is_empty(), "a part of the key is empty");
    if rest.is_empty() {
        match table.get_mut(first) {
            Some(item) => replace(item, value),
            None => _ = table.insert(first, Item::Value(value)),
        }
        return Ok(());
    }
    if table.get(first).is_none() {
        table.insert(first, Item::Value(Value::InlineTable(toml_edit::InlineTable::new())));
    }
    let item = table.get_mut(first).expect("it was inserted if it was missing");
    if item.is_table_like() {
        return set(item.as_table_like_mut().expect("just asked"), rest, value);
    }
    // One of several tables, by its name: `models.large.path`.
    let [name, rest @ ..] = rest else { bail!("`{first}` is not a table") };
    let mut tables = tables_of(item);
    ensure!(!tables.is_empty(), "`{first}` is not a table");
    let named = tables.iter_mut().find(|t| t.get("name").and_then(Item::as_str) == Some(name));
    set(*named.with_context(|| format!("`{first}` has none of the name `{name}`"))?, rest, value)
}

/// The tables of a list of tables, in either of TOML's spellings.
fn tables_of(item: &mut Item) -> Vec<&mut dyn TableLike> {
    match item {
        Item::ArrayOfTables(tables) => tables.iter_mut().map(|t| t as &mut dyn TableLike).collect(),
        Item::Value(Value::Array(array)) => {
            array.iter_mut().filter_map(|v| v.as_inline_table_mut().map(|t| t as &mut dyn TableLike)).collect()
        }
        _ => Vec::new(),
    }
}

/// Another value, with the comments of the one before.
fn replace(item: &mut Item, mut value: Value) {
    if let Some(before) = item.as_value() {
        *value.decor_mut() = before.decor().clone();
    }
    *item = Item::Value(value);
}

/// How `path` is reached from `dir`: in steps that both can be moved with where they have more in common than the root, else from the
/// root.
fn path_from(dir: &Path, path: &Path) -> Result<String> {
    let dir = real(dir)?;
    let path = real(path)?;
    let shared = dir.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let relative = if shared > 1 { pathdiff::diff_paths(&path, &dir) } else { None };
    let found = relative.unwrap_or(path);
    let text = found
        .to_str()
        .with_context(|| format!("{}: a spec can't hold this path, which is not UTF-8", found.display()))?;
    Ok(text.to_owned())
}

/// The path without links and `..`, as far as it exists: the rest may be a pattern.
fn real(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
    for known in path.ancestors() {
        if let Ok(found) = known.canonicalize() {
            let rest = path.strip_prefix(known).expect("an ancestor is a prefix");
            return Ok(if rest.as_os_str().is_empty() { found } else { found.join(rest) });
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "# Why it is run.\nname = 's'  # a name\nk = [4]\ntraining_tokens = [512]\n\n[[models]]\nname = 'm'\npath = 'm'\n\n\
        [[models]]\nname = 'h'\nhub = 'org/m'\nrevision = 'v1'\n\n[tokens]\ntrain = 'data/**/*.jsonl'\ncontext_size = 256\n\n\
        [train]\nexpansion = 4\nbatch_size = 256\n";

    #[test]
    fn what_is_recorded_runs_again_from_where_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let (specs, results) = (root.path().join("specs"), root.path().join("results/s"));
        for dir in [&specs, &results, &specs.join("m")] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(specs.join("s.toml"), SPEC).unwrap();
        let overrides =
            ["k=[8]", "train.lr=1e-3", "eval.sequences=3", "models.m.layers={ mid = 3 }"].map(str::to_owned);
        let document = SpecDocument::read(&specs.join("s.toml"), &overrides).unwrap();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let commits = [("org/m@v1".parse().unwrap(), commit.to_owned())];
        let text = document.recorded(&results, &commits).unwrap();
        assert!(
            text.starts_with(RECORDED_BY) && text.contains("# Why it is run.") && text.contains("# a name"),
            "{text}"
        );

        std::fs::write(results.join("sweep.toml"), &text).unwrap();
        let again = SpecDocument::read(&results.join("sweep.toml"), &[]).unwrap();
        let (spec, first) = (again.spec().unwrap(), document.spec().unwrap());
        assert_eq!((spec.k.as_slice(), spec.train.lr, spec.eval.sequences), ([8].as_slice(), Some(1e-3), 3));
        assert_eq!(spec.models[0].layers, first.models[0].layers);
        let same = |a: &Option<PathBuf>, b: &Option<PathBuf>| {
            real(a.as_ref().unwrap()).unwrap() == real(b.as_ref().unwrap()).unwrap()
        };
        assert!(same(&spec.models[0].path, &first.models[0].path) && same(&spec.tokens.train, &first.tokens.train));
        assert!(text.contains("'../../specs/m'") || text.contains("\"../../specs/m\""), "relative: {text}");
        assert_eq!(spec.models[1].hub_name().unwrap().unwrap().revision(), commit);
        // Recorded where it lies, it stays as it is.
        assert_eq!(
            again.recorded(&results, &[]).unwrap().lines().skip(1).collect::<Vec<_>>(),
            text.lines().skip(1).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_path_from_home_is_one_from_any_directory() {
        let document = SpecDocument::of(Path::new("/specs/s.toml"), "", &[]).unwrap();
        let home = std::env::home_dir().unwrap();
        assert_eq!(document.place(Path::new("~/m/x.gguf")), home.join("m/x.gguf"));
        for (path, expected) in [("m", "/specs/m"), ("~m", "/specs/~m"), ("m/~/x", "/specs/m/~/x"), ("/m", "/m")] {
            assert_eq!(document.place(Path::new(path)), Path::new(expected));
        }
        let text = "models = [{ path = '~/m/x.gguf' }]";
        let recorded = SpecDocument::of(Path::new("/specs/s.toml"), text, &[]).unwrap().recorded(&home, &[]).unwrap();
        assert_eq!(recorded.lines().nth(1), Some(text), "on any machine");
    }

    #[test]
    fn what_lies_elsewhere_is_named_from_the_root() {
        assert_eq!(path_from(Path::new("/proc"), Path::new("/etc/a/*.txt")).unwrap(), "/etc/a/*.txt");
    }
}
