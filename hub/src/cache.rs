//! One repository in the hub's cache.
//!
//! ```text
//! models--org--name/refs/main                       the commit that a branch or tag was at when it was last looked up
//!                  /trees/<commit>.json             a commit's files, their sizes and hashes
//!                  /snapshots/<commit>/config.json  a link to its blob
//!                  /blobs/<hash>                    the file; <hash>.part while it is on its way
//! .locks/models--org--name/<hash>.lock              held by who downloads it
//! ```

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use hf_hub::Repo;

use crate::Result;
use crate::error::HubError;
use crate::name::is_commit;
use crate::tree::{Entry, Tree};

pub(crate) struct RepoCache {
    dir: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(crate) fn new(cache: &Path, repo: &Repo) -> Self {
        let folder = repo.folder_name();
        Self { dir: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The commit of a revision, as far as is known here.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.dir.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Says which commit a branch or tag is at.
    pub(crate) fn set_ref(&self, revision: &str, commit: &str) -> Result<()> {
        // Most often it is so already, and the cache may be one that can't be written.
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        replace(&self.dir.join("refs").join(revision), commit)
    }

    /// The list of a commit's files, if it is there.
    pub(crate) fn tree(&self, commit: &str) -> Option<Tree> {
        Tree::from_saved(commit, &std::fs::read_to_string(self.tree_path(commit)).ok()?)
    }

    pub(crate) fn set_tree(&self, tree: &Tree) -> Result<()> {
        if self.tree(&tree.commit).is_some() {
            return Ok(());
        }
        replace(&self.tree_path(&tree.commit), &tree.to_saved())
    }

    fn tree_path(&self, commit: &str) -> PathBuf {
        self.dir.join("trees").join(format!("{commit}.json"))
    }

    /// The files of a commit that are here, whether they are all or not.
    pub(crate) fn scan(&self, commit: &str) -> Option<Tree> {
        Tree::scan(commit, &self.snapshot(commit))
    }

    /// The directory of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    /// Whether a file of a commit is here, and whole.
    pub(crate) fn holds(&self, commit: &str, file: &Entry) -> bool {
        is_whole(&self.snapshot(commit).join(&file.path), file)
    }

    /// What is wrong with a file that [`holds`](Self::holds) does not find.
    pub(crate) fn damage(&self, commit: &str, file: &Entry) -> String {
        let found = self.snapshot(commit).join(&file.path).metadata();
        match found {
            Ok(found) => format!("{} is damaged: {} of {} bytes", file.path, found.len(), file.size),
            Err(_) => format!("{} is missing", file.path),
        }
    }

    /// Where a file's bytes lie.
    pub(crate) fn blob(&self, file: &Entry) -> PathBuf {
        self.dir.join("blobs").join(file.etag())
    }

    /// Where they are collected.
    pub(crate) fn part(&self, file: &Entry) -> PathBuf {
        self.dir.join("blobs").join(format!("{}.part", file.etag()))
    }

    /// Keeps other processes, also Python's, from downloading the same file for as long as the result lives.
    pub(crate) fn lock(&self, file: &Entry) -> Result<File> {
        let path = self.locks.join(format!("{}.lock", file.etag()));
        let lock = create_parent(&path).and_then(|()| File::create(&path)).map_err(|e| HubError::write(&path, e))?;
        // Some network file systems have no locks, or only seem to: a double download costs time, but does no harm, since both
        // write the same bytes to the same places.
        let _ = lock.lock();
        Ok(lock)
    }

    /// Makes a blob that is here a file of a commit.
    pub(crate) fn link(&self, commit: &str, file: &Entry) -> Result<()> {
        let (blob, path) = (self.blob(file), self.snapshot(commit).join(&file.path));
        if is_whole(&path, file) {
            return Ok(());
        }
        let linked = create_parent(&path).and_then(|()| {
            if path.symlink_metadata().is_ok() {
                std::fs::remove_file(&path)?;
            }
            link(&blob, &path, file.path.split('/').count())
        });
        // Another process may have been faster.
        linked.or_else(|e| if is_whole(&path, file) { Ok(()) } else { Err(HubError::write(&path, e)) })
    }
}

/// The repository that a path in a cache belongs to, and the place in it: `org/name` and `a/b` of
/// `…/models--org--name/snapshots/<commit>/a/b`. None of any other path, nor of a dataset's.
pub(crate) fn repository_of(path: &Path) -> Option<(String, String)> {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let (at, repo) =
        parts.iter().enumerate().rev().find_map(|(at, part)| Some((at, part.strip_prefix("models--")?)))?;
    let [snapshots, commit, place @ ..] = &parts[at + 1..] else { return None };
    let repo = repo.replacen("--", "/", 1);
    (snapshots == "snapshots" && is_commit(commit) && repo.contains('/')).then(|| (repo, place.join("/")))
}

/// Whether a path leads to a file of the size that it should have.
pub(crate) fn is_whole(path: &Path, file: &Entry) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.len() == file.size)
}

pub(crate) fn create_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// A relative link, so that the cache can be moved. `depth` counts the parts of the file's path in the snapshot.
#[cfg(unix)]
fn link(blob: &Path, path: &Path, depth: usize) -> std::io::Result<()> {
    let mut target: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
    target.extend(["blobs".as_ref(), blob.file_name().unwrap_or_default()]);
    std::os::unix::fs::symlink(target, path)
}

/// Where links need a privilege the file itself goes into the snapshot, as with the hub's own tools.
#[cfg(not(unix))]
fn link(blob: &Path, path: &Path, _depth: usize) -> std::io::Result<()> {
    std::fs::rename(blob, path)
}

/// Writes a small file such that others see the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        create_parent(path)?;
        let mut draft = tempfile::Builder::new();
        // Others read the cache as well: what the umask lets them.
        #[cfg(unix)]
        draft.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut draft = draft.tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
        draft.write_all(text.as_bytes())?;
        draft.as_file().sync_all()?;
        draft.persist(path)?;
        Ok(())
    };
    write().map_err(|e| HubError::write(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn cache() -> (tempfile::TempDir, RepoCache, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let repo = RepoCache::new(dir.path(), &Repo::model("org/name".to_owned()));
        let answer =
            format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "a/b.txt", "size": 3, "blobId": "abc"}}]}}"#);
        (dir, repo, Tree::from_answer(answer.as_bytes()).unwrap())
    }

    #[test]
    fn refs_are_read_and_written() {
        let (dir, repo, _) = cache();
        assert_eq!(repo.commit_of("main"), None);
        repo.set_ref("refs/pr/1", COMMIT).unwrap();
        assert_eq!(repo.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!(repo.commit_of(COMMIT).as_deref(), Some(COMMIT));
        // As other tools leave them, and a commit needs none.
        std::fs::write(dir.path().join("models--org--name/refs/main"), format!("{COMMIT}\n")).unwrap();
        assert_eq!(repo.commit_of("main").as_deref(), Some(COMMIT));
        repo.set_ref(COMMIT, COMMIT).unwrap();
        assert!(!dir.path().join("models--org--name/refs").join(COMMIT).exists());
    }

    #[test]
    fn a_path_in_the_cache_says_where_it_is_from() {
        let of = |path: &str| repository_of(Path::new(&path.replace("COMMIT", COMMIT)));
        let found = |repo: &str, place: &str| Some((repo.to_owned(), place.to_owned()));
        assert_eq!(of("/h/hub/models--org--name/snapshots/COMMIT/a/b.c"), found("org/name", "a/b.c"));
        assert_eq!(of("models--org--na-me/snapshots/COMMIT"), found("org/na-me", ""));
        for other in [
            "/h/org/name",
            "models--org--name/snapshots/main/a",
            "datasets--org--name/snapshots/COMMIT",
            "models--x/snapshots/COMMIT",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_blob_becomes_a_file_of_a_commit() {
        let (dir, repo, tree) = cache();
        let file = &tree.files[0];
        assert!(!repo.holds(COMMIT, file));
        assert_eq!(repo.damage(COMMIT, file), "a/b.txt is missing");
        create_parent(&repo.blob(file)).unwrap();
        std::fs::write(repo.blob(file), "12").unwrap();
        repo.link(COMMIT, file).unwrap();
        assert!(!repo.holds(COMMIT, file), "the blob lacks a byte");
        assert_eq!(repo.damage(COMMIT, file), "a/b.txt is damaged: 2 of 3 bytes");
        std::fs::write(repo.blob(file), "123").unwrap();
        repo.link(COMMIT, file).unwrap();
        assert!(repo.holds(COMMIT, file));
        let scanned = repo.scan(COMMIT).unwrap();
        assert_eq!((scanned.files[0].path.as_str(), scanned.files[0].size), ("a/b.txt", 3));
        // The cache can be moved.
        let moved = dir.path().join("moved");
        std::fs::rename(dir.path().join("models--org--name"), &moved).unwrap();
        assert_eq!(std::fs::read_to_string(moved.join("snapshots").join(COMMIT).join("a/b.txt")).unwrap(), "123");
    }
}
