//! Which files a path stands for, a directory or a glob: each once, and none that an editor or a system left beside the data.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};

use glob::Pattern;

use super::jsonl;
use super::kind::FileKind;
use crate::error::{ModelError, Result};
use crate::reading::{LeftOut, Reading};

/// Files of one kind, in the order in which they are read.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// What they hold.
    pub kind: FileKind,
    /// At least one.
    pub paths: Vec<PathBuf>,
    /// How they are read.
    pub reading: Reading,
    /// What of them is not.
    pub left_out: LeftOut,
}

/// Entries of a directory tree that are looked at, at most: a link may lead to a whole disk.
const MOST: usize = 1_000_000;

const HIDDEN: &str = "hidden, or left by an editor or a system";
const TWICE: &str = "the same file as one that is read";
const OTHER: &str = "of no kind that is read";
const DESCRIPTION: &str = "one JSON object that is no data";

impl Files {
    /// A file; the files of a directory and those below it that are of a known kind; or those that a glob matches
    /// (`data/**/*.jsonl.zst`). Of a directory or glob, in the order of their paths, without hidden files, and each once even if links
    /// lead to it. A file whose content and name say nothing is text.
    ///
    /// # Errors
    /// If there are none, they are of several kinds, or one is of no kind that is read.
    pub(crate) fn find(path: &Path, reading: &Reading) -> Result<Self> {
        let mut search = Search::default();
        let pattern = path.to_str().filter(|p| p.contains(['*', '?', '[']));
        let mut paths = if path.is_dir() {
            search.data_below(path, reading)?
        } else if let Some(pattern) = pattern.filter(|_| !path.exists()) {
            search.matches(path, pattern)?
        } else {
            vec![path.to_owned()]
        };
        paths.sort();
        let kinds = paths.iter().map(|path| FileKind::of(path)).collect::<Result<Vec<_>>>()?;
        if let Some(other) = kinds.iter().position(|&kind| kind != kinds[0]) {
            return Err(ModelError::data(
                path,
                format!(
                    "files of several kinds, {} ({}) and {} ({}) among them; name one kind, for example {}",
                    paths[0].display(),
                    kinds[0],
                    paths[other].display(),
                    kinds[other],
                    "`DIR/**/*.parquet`"
                ),
            ));
        }
        Ok(Self { kind: kinds[0], paths, reading: reading.clone(), left_out: search.left_out })
    }
}

/// Whether a name is that of something that editors and systems leave beside data. Names that begin with `.` or `_` are left out by
/// Arrow, Spark and Hive too (`ignore_prefixes` of `pyarrow.dataset`).
fn is_leaving(name: &str) -> bool {
    name.starts_with(['.', '_'])
        || name.ends_with('~')
        || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'))
        || [".bak", ".orig", ".rej", ".swp", ".tmp", ".part", ".partial", ".crdownload", ".incomplete", ".lock"]
            .iter()
            .any(|end| name.to_ascii_lowercase().ends_with(end))
        || ["Thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "$RECYCLE.BIN", "System Volume Information"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a part of a pattern asks for a leaving: by the letter that makes the name one, not by a wildcard that happens to match.
fn asks_for(part: &str, name: &str) -> bool {
    let literal = |letter: Option<char>| letter.filter(|c| !"*?[]".contains(*c));
    let (first, last) = (literal(part.chars().next()), literal(part.chars().next_back()));
    let named =
        if name.starts_with(['.', '_']) { first == name.chars().next() } else { last == name.chars().next_back() };
    named && Pattern::new(part).is_ok_and(|pattern| pattern.matches(name))
}

/// What is one file or directory, whatever the paths that lead to it.
type Identity = (u64, u64, PathBuf);

#[cfg(unix)]
fn identity(_: &Path, found: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    Some((found.dev(), found.ino(), PathBuf::new()))
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &Metadata) -> Option<Identity> {
    Some((0, 0, path.canonicalize().ok()?))
}

/// A walk through directories.
#[derive(Default)]
struct Search {
    seen: usize,
    left_out: LeftOut,
}

/// An entry of a directory.
struct Entry {
    path: PathBuf,
    name: String,
    /// Of what it leads to; `None` for a link that leads nowhere.
    found: Option<Metadata>,
    is_link: bool,
}

impl Entry {
    fn is_dir(&self) -> bool {
        self.found.as_ref().is_some_and(Metadata::is_dir)
    }
}

impl Search {
    /// The entries of a directory, those first that are no links, so that a file keeps its own path.
    fn entries(&mut self, dir: &Path) -> Result<Vec<Entry>> {
        let bad = |e| ModelError::read(dir, e);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(bad)? {
            let entry = entry.map_err(bad)?;
            self.seen += 1;
            if self.seen > MOST {
                let why = format!(
                    "more than {MOST} files are below it, or behind its links; name a narrower directory or pattern"
                );
                return Err(ModelError::data(dir, why));
            }
            let path = entry.path();
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                found: path.metadata().ok(),
                is_link: entry.file_type().is_ok_and(|t| t.is_symlink()),
                path,
            });
        }
        entries.sort_by(|a, b| (a.is_link, &a.path).cmp(&(b.is_link, &b.path)));
        Ok(entries)
    }

    /// All directories at and below some, each once: real ones before those that only links lead to.
    fn directories(&mut self, roots: Vec<PathBuf>, hidden: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        let mut seen = BTreeSet::new();
        let (mut found, mut open, mut links) = (Vec::new(), roots, Vec::new());
        open.reverse();
        while let Some(dir) = open.pop().or_else(|| links.pop()) {
            let data = dir.metadata().map_err(|e| ModelError::read(&dir, e))?;
            if identity(&dir, &data).is_some_and(|id| !seen.insert(id)) {
                continue;
            }
            for entry in self.entries(&dir)?.into_iter().rev().filter(Entry::is_dir) {
                if hidden(&entry.name) {
                    self.left_out.file(&entry.path, HIDDEN);
                } else if entry.is_link {
                    links.push(entry.path);
                } else {
                    open.push(entry.path);
                }
            }
            found.push(dir);
        }
        Ok(found)
    }

    /// The files of a directory and those below it that are data.
    fn data_below(&mut self, root: &Path, reading: &Reading) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for dir in self.directories(vec![root.to_owned()], &is_leaving)? {
            for entry in self.entries(&dir)?.into_iter().filter(|entry| !entry.is_dir()) {
                if is_leaving(&entry.name) {
                    self.left_out.file(&entry.path, HIDDEN);
                } else if FileKind::named(&entry.path).is_none() || entry.found.as_ref().is_some_and(|f| !f.is_file()) {
                    self.left_out.file(&entry.path, OTHER);
                } else {
                    files.push(entry);
                }
            }
        }
        let files = self.each_once(files);
        let files = self.without_descriptions(files, reading);
        if files.is_empty() {
            let notes = self.left_out.notes().join("; ");
            let there = if notes.is_empty() { "it is empty".to_owned() } else { notes };
            return Err(ModelError::data(
                root,
                format!(
                    "no .parquet, .jsonl, .json, .txt (these three also .gz, .zst) or .safetensors files in it: {there}"
                ),
            ));
        }
        Ok(files)
    }

    /// The files that a pattern matches.
    fn matches(&mut self, path: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
        let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
        let parsed = |part: &str| Pattern::new(part).map_err(|e| ModelError::data(path, format!("not a glob: {e}")));
        let texts = || parts.iter().filter_map(|part| part.as_os_str().to_str());
        let hidden = |name: &str| is_leaving(name) && !texts().any(|part| asks_for(part, name));
        let is_literal = |part: &str| !part.contains(['*', '?', '[']);
        let mut dirs = vec![PathBuf::new()];
        let mut files = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let text = part.as_os_str().to_str().unwrap_or_default();
            let is_last = at + 1 == parts.len();
            let matcher = parsed(text)?;
            if text == "**" {
                let dot = |dir: &PathBuf| if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.clone() };
                dirs = self.directories(dirs.iter().map(dot).collect(), &hidden)?;
                if !is_last {
                    continue;
                }
            } else if !is_last && (!matches!(part, Component::Normal(_)) || is_literal(text)) {
                dirs = dirs.into_iter().map(|dir| dir.join(text)).filter(|dir| dir.is_dir()).collect();
                continue;
            }
            let mut next = Vec::new();
            for dir in std::mem::take(&mut dirs) {
                let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir.as_path() };
                for mut entry in self.entries(listed)? {
                    let fits = if text == "**" {
                        FileKind::named(&entry.path).is_some()
                    } else {
                        matcher.matches(&entry.name)
                    };
                    if !fits || entry.is_dir() == is_last {
                        continue;
                    }
                    entry.path = dir.join(&entry.name);
                    if hidden(&entry.name) {
                        self.left_out.file(&entry.path, HIDDEN);
                    } else if is_last {
                        files.push(entry);
                    } else {
                        next.push(entry.path);
                    }
                }
            }
            dirs = next;
        }
        let found = self.each_once(files);
        if found.is_empty() {
            let notes = self.left_out.notes().join("; ");
            let why = if notes.is_empty() { String::new() } else { format!(" ({notes})") };
            return Err(ModelError::data(path, format!("no file matches it{why}")));
        }
        Ok(found)
    }

    /// Files without those that another path leads to as well; the path that is no link stays, else the first.
    fn each_once(&self, mut files: Vec<Entry>) -> Vec<PathBuf> {
        files.sort_by(|a, b| (a.is_link, &a.path).cmp(&(b.is_link, &b.path)));
        let mut seen = BTreeSet::new();
        let mut kept = Vec::new();
        for Entry { path, found, .. } in files {
            // A link that leads nowhere is missing data, which is said where it is opened.
            let is_new = found.is_none_or(|found| identity(&path, &found).is_none_or(|id| seen.insert(id)));
            if is_new {
                kept.push(path);
            } else {
                self.left_out.file(&path, TWICE);
            }
        }
        kept
    }

    /// Files of a directory without those of JSON that describe the others, as `dataset_info.json` does.
    fn without_descriptions(&self, mut files: Vec<PathBuf>, reading: &Reading) -> Vec<PathBuf> {
        files.retain(|path| {
            let is_data = !FileKind::is_plain_json(path) || !jsonl::is_description(path, reading);
            if !is_data {
                self.left_out.file(path, DESCRIPTION);
            }
            is_data
        });
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leavings_are_known_by_their_names() {
        for name in [
            ".ipynb_checkpoints",
            "._a.jsonl",
            ".a.jsonl.swp",
            "a.jsonl~",
            "#a.jsonl#",
            "__MACOSX",
            "_SUCCESS",
            "Thumbs.db",
            "a.txt.bak",
            "a.parquet.crdownload",
        ] {
            assert!(is_leaving(name), "{name}");
        }
        for name in ["a.jsonl", "a_b.txt", "a.b.c.parquet", "#1.txt", "~a.txt"] {
            assert!(!is_leaving(name), "{name}");
        }
        assert!(asks_for(".git*", ".github") && asks_for("*.bak", "a.bak") && asks_for("_*", "_a"));
        assert!(
            !asks_for("*", ".github")
                && !asks_for("*b", ".github")
                && !asks_for("a*", "a.bak")
                && !asks_for("?a", "_a")
        );
    }
}
