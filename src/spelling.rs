//! What somebody may have meant.

use std::path::{Path, PathBuf};

/// How alike two names are, from 0 to 1, of which one may be meant by the other.
const CLOSE: f64 = 0.6;

/// The `most` names that are closest to a text, the closest first; none that is very different from it.
pub(crate) fn closest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    // An abbreviation, or what it is short for: `eval` of `evaluation`.
    let is_short = |a: &str, b: &str| a.len() >= 3 && b.starts_with(a);
    let score = |name: &str| match strsim::normalized_damerau_levenshtein(text, name) {
        score if is_short(text, name) || is_short(name, text) => score.max(CLOSE),
        score => score,
    };
    let mut close: Vec<(f64, &str)> =
        known.into_iter().map(|name| (score(name), name)).filter(|(score, _)| *score >= CLOSE).collect();
    // Stable, so that of two that are equally close the first is taken.
    close.sort_by(|a, b| b.0.total_cmp(&a.0));
    close.into_iter().take(most).map(|(_, name)| name).collect()
}

/// What is said of a path that leads nowhere: `results/dem: no such file or directory; did you mean results/demo?`
pub(crate) fn missing(path: &Path) -> String {
    let meant = nearby(path).map(|meant| format!("; did you mean {}?", meant.display())).unwrap_or_default();
    let shown = path.display().to_string();
    let expanded = if shown.contains('$') { "; variables are not expanded here, only `~/` is" } else { "" };
    format!("{shown}: no such file or directory{expanded}{meant}{}", of_demo(path))
}

/// What is said of files that this program has in itself and writes where the demonstration runs.
pub(crate) fn of_demo(path: &Path) -> &'static str {
    let demo = Path::new("models/bundled");
    if path.starts_with(demo) && !demo.exists() { "; `assay demo --dry-run` writes models/bundled/ here" } else { "" }
}

/// What lies where a path first goes astray, under a name like the one that is not there.
pub(crate) fn nearby(path: &Path) -> Option<PathBuf> {
    // The last ancestor of a relative path is the empty one: the directory that we are in.
    let is_astray = |part: &&Path| !part.as_os_str().is_empty() && !part.exists();
    let astray = path.ancestors().take_while(is_astray).last()?;
    let name = astray.file_name()?.to_str()?;
    let parent = astray.parent()?;
    let dir = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let mut there: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    there.sort();
    // A name without its ending is as good as the whole.
    let of_ending = there.iter().find(|entry| Path::new(entry).file_stem().is_some_and(|stem| stem == name));
    let meant = of_ending.map(String::as_str).or_else(|| closest_name(name, &there))?;
    let (meant, rest) = (parent.join(meant), path.strip_prefix(astray).ok()?);
    let whole = meant.join(rest);
    Some(if rest.as_os_str().is_empty() || !whole.exists() { meant } else { whole })
}

/// The name that is closest to another. An ending that both have makes them no more alike: `few.toml` is not meant by `first.toml`.
fn closest_name<'a>(name: &str, there: &'a [String]) -> Option<&'a str> {
    let parts = |name: &str| {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        (stem.to_owned(), ending.to_owned())
    };
    let (stem, ending) = parts(name);
    let is_meant = |other: &str| {
        let (of_other, its_ending) = parts(other);
        its_ending != ending || !closest(&stem, [of_other.as_str()], 1).is_empty()
    };
    closest(name, there.iter().map(String::as_str).filter(|other| is_meant(other)), 1).pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_is_spelt_alike_or_short_for_the_other() {
        let known = ["models", "tokens", "train", "eval", "k"];
        assert_eq!(closest("evaluation", known, 1), ["eval"]);
        assert_eq!(closest("tokes", known, 1), ["tokens"]);
        assert_eq!(closest("tok", known, 1), ["tokens"]);
        assert!(closest("seeds", known, 1).is_empty() && closest("key", known, 1).is_empty());
    }

    #[test]
    fn a_path_that_goes_astray_is_led_back_as_far_as_there_is_something() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("models/bundled/small")).unwrap();
        std::fs::write(dir.path().join("first.toml"), "").unwrap();
        let near = |path: &str| nearby(&dir.path().join(path));
        let there = |path: &str| Some(dir.path().join(path));
        assert_eq!(near("models/bundled/smal"), there("models/bundled/small"));
        assert_eq!(near("model/bundled/small"), there("models/bundled/small"), "the rest is there");
        assert_eq!(near("model/bundled/large"), there("models"), "the rest is not");
        assert_eq!(near("first2.toml"), there("first.toml"));
        assert_eq!(near("first"), there("first.toml"));
        assert_eq!(near("few.toml"), None, "only the ending is alike");
        assert_eq!(near("models/bundled/other"), None);
        assert_eq!(near("models/bundled/small"), None, "it is there");
        assert_eq!(nearby(Path::new("Cargo.tom")), Some(PathBuf::from("Cargo.toml")), "here");
        assert!(missing(Path::new("$HOME/x")).contains("variables are not expanded"));
        let said = missing(&dir.path().join("first2.toml"));
        assert!(said.contains("no such file or directory; did you mean") && said.ends_with("first.toml?"), "{said}");
    }
}
