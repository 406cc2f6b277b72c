//! Which SAEs are meant by what was given: each name, and for a pattern all that fit it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use assay_sae::formats;
use glob::{MatchOptions, Pattern};

use crate::catalogue::{self, Entry, catalogue};

/// The SAEs, in the order in which they were given, those of a pattern by name. One that a pattern fits by several links counts once.
///
/// # Errors
/// If a pattern is none, or fits no SAE, or one is given twice, be it under another spelling.
pub(super) fn named(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = Vec::new();
    let mut places: Vec<PathBuf> = Vec::new();
    for name in given {
        let text = name.to_string_lossy();
        let is_pattern = text.contains(['*', '?', '[']) && !name.exists();
        let found = if is_pattern { matching(&text)? } else { vec![name.clone()] };
        for sae in found {
            let place = sae.canonicalize().unwrap_or_else(|_| sae.clone());
            let known = places.iter().position(|known| *known == place);
            match known {
                Some(_) if is_pattern => {}
                Some(at) => bail!("--sae {} is given twice, as {} too", sae.display(), all[at].display()),
                None => {
                    all.push(sae);
                    places.push(place);
                }
            }
        }
    }
    Ok(all)
}

/// The SAEs on disk that fit a pattern, else those of a release of the catalogue, which the pattern names.
fn matching(text: &str) -> Result<Vec<PathBuf>> {
    let pattern = Pattern::new(text).with_context(|| format!("--sae {text} is no pattern"))?;
    let mut found = Vec::new();
    for path in glob::glob(text).with_context(|| format!("--sae {text} is no pattern"))? {
        let path = path.with_context(|| format!("--sae {text}"))?;
        if formats::is_sae(&path) {
            found.push(path);
        }
    }
    let release = text.split_once('/').and_then(|(head, _)| catalogue().release(head));
    if let Some(release) = release.filter(|_| found.is_empty()) {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let names = release.saes.iter().map(|sae| Entry { release, sae }.name());
        found.extend(names.filter(|name| pattern.matches_with(name, options)).map(PathBuf::from));
    }
    ensure!(
        !found.is_empty(),
        "--sae {text}: no directory of an SAE fits this pattern, and none of a release that `assay saes` lists; of published SAEs it begins with \
         the release's name, as in 'gemma-scope-2b-pt-res/layer_12/width_16k/*'"
    );
    Ok(found)
}

/// The model of SAEs: as asked for, else that of published ones.
///
/// # Errors
/// If nobody says which, or the SAEs are of several.
pub(in crate::commands) fn model_of(asked: Option<&Path>, saes: &[PathBuf]) -> Result<PathBuf> {
    let mut model: Option<(&str, &Path)> = None;
    for sae in saes {
        // Also where a model is given: a name that is nearly one of the catalogue is an error before anything is read.
        let entry = catalogue::published(sae)?;
        if asked.is_some() {
            continue;
        }
        let Some(entry) = entry else {
            let text = sae.to_string_lossy();
            let meant = catalogue::suggestion(&text).map(|meant| format!("; {meant}")).unwrap_or_default();
            bail!(
                "{text} is not in the catalogue (`assay saes`), which would say of what model it is; give --model{meant}"
            )
        };
        match model {
            Some((known, first)) if known != entry.release.model => bail!(
                "{} is of {known} and {} of {}: SAEs that are evaluated together are of one model",
                first.display(),
                sae.display(),
                entry.release.model
            ),
            _ => model = Some((entry.release.model, sae)),
        }
    }
    let found = asked.map(Path::to_owned).or(model.map(|(model, _)| model.into()));
    found.context("--sae: at least one SAE is needed")
}

/// The names without the directories that all have in common, and those.
pub(super) fn shortened(names: &[PathBuf]) -> (Option<PathBuf>, Vec<String>) {
    let parents: Vec<&Path> = names.iter().filter_map(|name| name.parent()).collect();
    let common = parents.first().and_then(|first| {
        first.ancestors().find(|ancestor| parents.iter().all(|parent| parent.starts_with(ancestor))).map(Path::to_owned)
    });
    let common = common.filter(|common| names.len() > 1 && common.components().next().is_some());
    let short = |name: &PathBuf| {
        let rest = common.as_ref().and_then(|common| name.strip_prefix(common).ok());
        rest.unwrap_or(name).display().to_string()
    };
    (common.clone(), names.iter().map(short).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_have_in_common_is_said_once() {
        let names = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let (common, short) = shortened(&names(&["a/b/c/d", "a/b/e"]));
        assert_eq!((common, short), (Some("a/b".into()), vec!["c/d".to_owned(), "e".to_owned()]));
        assert_eq!(shortened(&names(&["a/b", "c/d"])), (None, vec!["a/b".to_owned(), "c/d".to_owned()]));
        assert_eq!(shortened(&names(&["a/b"])), (None, vec!["a/b".to_owned()]));
    }

    #[test]
    fn a_pattern_stands_for_saes_of_the_catalogue() {
        let all = named(&["gemma-scope-2b-pt-res/layer_12/width_16k/*".into()]).unwrap();
        assert!(all.len() > 3 && all.iter().all(|name| name.starts_with("gemma-scope-2b-pt-res/layer_12/width_16k")));
        assert_eq!(model_of(None, &all).unwrap(), Path::new("google/gemma-2-2b"));
        for (given, parts) in [
            (vec!["no-such-release/*"], ["no-such-release/*", "fits this pattern"]),
            (vec!["a", "a"], ["--sae a", "twice"]),
            (vec!["a[/*"], ["a[/*", "no pattern"]),
        ] {
            let given: Vec<PathBuf> = given.into_iter().map(PathBuf::from).collect();
            let error = format!("{:#}", named(&given).unwrap_err());
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let mixed: Vec<PathBuf> =
            ["gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82", "gpt2-small-res-jb/blocks.0.hook_resid_pre"]
                .map(PathBuf::from)
                .to_vec();
        let error = model_of(None, &mixed).unwrap_err().to_string();
        assert!(error.contains("of one model"), "{error}");
    }
}
