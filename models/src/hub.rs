//! Files of the Hugging Face hub that are on this machine: its cache, as its own tools fill it.

use std::path::{Path, PathBuf};

use crate::error::{ModelError, Result};

/// What kind of repository a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// `models--…` in the cache.
    Model,
    /// `datasets--…`.
    Dataset,
}

/// The cache: `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or `~/.cache/huggingface/hub`.
pub fn cache_dir() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || var("HOME").unwrap_or_default().join(".cache/huggingface");
    var("HF_HUB_CACHE").unwrap_or_else(|| var("HF_HOME").unwrap_or_else(home).join("hub"))
}

/// The directory of a repository's files at `revision` (a branch, a tag or a commit) in the cache `cache`.
///
/// # Errors
/// If they are not there; the message says how to fetch them.
pub fn snapshot(cache: &Path, kind: RepoKind, name: &str, revision: &str) -> Result<PathBuf> {
    let (prefix, flag) = match kind {
        RepoKind::Model => ("models", ""),
        RepoKind::Dataset => ("datasets", " --repo-type dataset"),
    };
    let repo = cache.join(format!("{prefix}--{}", name.replace('/', "--")));
    let commit = std::fs::read_to_string(repo.join("refs").join(revision));
    let commit = commit.map_or_else(|_| revision.to_owned(), |c| c.trim().to_owned());
    let dir = repo.join("snapshots").join(&commit);
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(ModelError::data(
        &repo,
        format!(
            "`{name}` at revision `{revision}` is not in the cache; fetch it where there is a network with \
             `hf download {name}{flag} --revision {revision}`, or give a local path"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_names_or_commits() {
        let cache = tempfile::tempdir().unwrap();
        let repo = cache.path().join("models--org--name");
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::create_dir_all(repo.join("snapshots/abc123")).unwrap();
        std::fs::write(repo.join("refs/main"), "abc123\n").unwrap();
        let find = |kind, revision| snapshot(cache.path(), kind, "org/name", revision);
        let expected = repo.join("snapshots/abc123");
        assert_eq!(find(RepoKind::Model, "main").unwrap(), expected);
        assert_eq!(find(RepoKind::Model, "abc123").unwrap(), expected);
        let error = find(RepoKind::Model, "v2").unwrap_err().to_string();
        assert!(error.contains("hf download org/name --revision v2"), "{error}");
        let error = find(RepoKind::Dataset, "main").unwrap_err().to_string();
        assert!(error.contains("--repo-type dataset"), "{error}");
    }
}
