//! The files of one commit: their paths, sizes and hashes.
//!
//! The hub lists them; the list is kept in the cache as `trees/<commit>.json`, as `huggingface_hub` does since 1.30, so that what
//! is missing of a commit is known without a network.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::name::{is_commit, is_hex, stays_inside};

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path in the repository, with `/`.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Its hash as git has it: of the file, or of the pointer that stands for it.
    blob_id: String,
    /// Its SHA-256, where git only has a pointer.
    lfs_sha256: Option<String>,
}

/// All files of a commit, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) commit: String,
    pub(crate) files: Vec<Entry>,
}

impl Entry {
    /// The hub's ETag of it, which names it in the cache.
    pub(crate) fn etag(&self) -> &str {
        self.lfs_sha256.as_deref().unwrap_or(&self.blob_id)
    }
}

/// The part that matters of `/api/…/revision/…?blobs=true`.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

/// The file `trees/<commit>.json`.
#[derive(Deserialize, Serialize)]
struct Saved {
    format_version: u32,
    files: BTreeMap<String, SavedEntry>,
}

#[derive(Deserialize, Serialize)]
struct SavedEntry {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

const FORMAT: u32 = 1;

impl Tree {
    /// Sorts and checks: paths and hashes become file names, so none may lead out of the cache.
    fn new(commit: String, mut files: Vec<Entry>) -> Result<Self, String> {
        if !is_commit(&commit) {
            return Err(format!("`{commit}` is no commit"));
        }
        for file in &files {
            if !stays_inside(&file.path) {
                return Err(format!("`{}` is no path in a repository", file.path));
            }
            if file.etag().is_empty() || !is_hex(file.etag()) {
                return Err(format!("{}: `{}` is no hash", file.path, file.etag()));
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { commit, files })
    }

    /// From the hub's answer.
    pub(crate) fn from_answer(body: &[u8]) -> Result<Self, String> {
        let info: Info = serde_json::from_slice(body).map_err(|e| format!("not a list of files: {e}"))?;
        let entry = |file: Sibling| match (file.size, file.blob_id) {
            (Some(size), Some(blob_id)) => {
                Ok(Entry { path: file.rfilename, size, blob_id, lfs_sha256: file.lfs.map(|lfs| lfs.sha256) })
            }
            _ => Err(format!("the list of files has no size or hash for {}", file.rfilename)),
        };
        let files = info.siblings.into_iter().map(entry).collect::<Result<_, _>>()?;
        Self::new(info.sha, files)
    }

    /// From `trees/<commit>.json`; `None` where it is of another format.
    pub(crate) fn from_saved(commit: &str, text: &str) -> Option<Self> {
        let saved: Saved = serde_json::from_str(text).ok()?;
        let files = saved.files.into_iter().map(|(path, file)| {
            let SavedEntry { size, blob_id, lfs_sha256, .. } = file;
            Entry { path, size, blob_id, lfs_sha256 }
        });
        (saved.format_version == FORMAT).then(|| Self::new(commit.to_owned(), files.collect()).ok())?
    }

    /// The text of `trees/<commit>.json`.
    pub(crate) fn to_saved(&self) -> String {
        let files = self.files.iter().map(|file| {
            let lfs_size = file.lfs_sha256.as_ref().map(|_| file.size);
            let (blob_id, lfs_sha256) = (file.blob_id.clone(), file.lfs_sha256.clone());
            (file.path.clone(), SavedEntry { size: file.size, blob_id, lfs_sha256, lfs_size })
        });
        let saved = Saved { format_version: FORMAT, files: files.collect() };
        serde_json::to_string_pretty(&saved).expect("a list of files serialises")
    }

    /// The files below a snapshot's directory, as far as they are there. Their hashes are not known.
    pub(crate) fn scan(commit: &str, dir: &Path) -> Option<Self> {
        let (mut files, mut open) = (Vec::new(), vec![String::new()]);
        while let Some(at) = open.pop() {
            for entry in std::fs::read_dir(dir.join(&at)).ok()? {
                let entry = entry.ok()?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = if at.is_empty() { name } else { format!("{at}/{name}") };
                // Follows links; one that leads nowhere is no file.
                match entry.path().metadata() {
                    Ok(found) if found.is_dir() => open.push(path),
                    Ok(found) => {
                        files.push(Entry { path, size: found.len(), blob_id: "0".to_owned(), lfs_sha256: None });
                    }
                    Err(_) => {}
                }
            }
        }
        Self::new(commit.to_owned(), files).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn answer(files: &str) -> Result<Tree, String> {
        Tree::from_answer(format!(r#"{{"sha": "{COMMIT}", "siblings": [{files}], "tags": []}}"#).as_bytes())
    }

    #[test]
    fn a_list_is_kept_as_it_came() {
        let tree = answer(
            r#"{"rfilename": "model.safetensors", "size": 9, "blobId": "aa", "lfs": {"sha256": "bb", "size": 9, "pointerSize": 1}},
               {"rfilename": "config.json", "size": 3, "blobId": "cc"}"#,
        )
        .unwrap();
        let etags: Vec<_> = tree.files.iter().map(|file| (file.path.as_str(), file.etag())).collect();
        assert_eq!(etags, [("config.json", "cc"), ("model.safetensors", "bb")]);
        let text = tree.to_saved();
        assert_eq!(Tree::from_saved(COMMIT, &text), Some(tree));
        assert_eq!(Tree::from_saved(COMMIT, &text.replace("\"format_version\": 1", "\"format_version\": 2")), None);
        assert_eq!(Tree::from_saved(COMMIT, "{"), None);
    }

    #[test]
    fn a_list_that_leads_out_of_the_cache_is_refused() {
        for (path, hash) in
            [("../x", "aa"), ("/etc/x", "aa"), ("a/../../x", "aa"), ("a\\\\..\\\\x", "aa"), ("x", "../aa"), ("x", "")]
        {
            let found = answer(&format!(r#"{{"rfilename": "{path}", "size": 1, "blobId": "{hash}"}}"#));
            assert!(found.is_err(), "{path} {hash}");
        }
        assert!(answer(r#"{"rfilename": "config.json"}"#).unwrap_err().contains("no size or hash for config.json"));
        assert!(Tree::from_answer(b"<html>").unwrap_err().contains("not a list of files"));
    }

    /// `ASSAY_FUZZ_SECONDS=600` goes on for so long.
    #[test]
    fn damaged_lists_are_refused_or_stay_inside() {
        use std::time::{Duration, Instant};

        use rand::{Rng as _, SeedableRng as _};

        let files =
            r#"{"rfilename": "a/model.safetensors", "size": 9, "blobId": "aa", "lfs": {"sha256": "bb", "size": 9}}"#;
        let whole = format!(r#"{{"sha": "{COMMIT}", "siblings": [{files}, {files}], "tags": []}}"#);
        let seconds = std::env::var("ASSAY_FUZZ_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
        let start = Instant::now();
        let (mut count, mut accepted) = (0u64, 0u64);
        while seconds.map_or(count < 20_000, |s| start.elapsed() < Duration::from_secs(s)) {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seconds.map_or(count, |s| (s << 40) + count));
            let mut bytes = whole.clone().into_bytes();
            for _ in 0..rng.random_range(1..=4) {
                let at = rng.random_range(0..bytes.len());
                let end = (at + rng.random_range(0..6)).min(bytes.len());
                let parts: [&[u8]; 8] = [b"/", b"../", b"..", b"\\\\", b"\\u0000", b"\"", b"-1", b""];
                bytes.splice(at..end, parts[rng.random_range(0..parts.len())].iter().copied());
            }
            if let Ok(tree) = Tree::from_answer(&bytes) {
                accepted += 1;
                for file in &tree.files {
                    let mut parts = std::path::Path::new(&file.path).components();
                    let inside = parts.all(|part| matches!(part, std::path::Component::Normal(_)));
                    assert!(inside && is_hex(file.etag()), "{:?}", String::from_utf8_lossy(&bytes));
                }
            }
            count += 1;
        }
        assert!(accepted > 0 && accepted < count, "{accepted} of {count}");
    }
}
