//! `org/name[@revision][:path]`: what a repository, or a place in one, is called.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// A repository on the hub, at a revision, and perhaps a path in it.
///
/// ```
/// use assay_hub::HubName;
/// let name: HubName = "org/saes@v1.0:blocks.3.hook_resid_post".parse()?;
/// assert_eq!((name.repo(), name.revision(), name.path()), ("org/saes", "v1.0", Some("blocks.3.hook_resid_post")));
/// assert_eq!("org/saes".parse::<HubName>()?.revision(), "main");
/// # Ok::<(), assay_hub::HubError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubName {
    repo: String,
    revision: String,
    path: Option<String>,
}

const MAIN: &str = "main";

impl HubName {
    /// `org/name`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Directory or file in the repository.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Whether the revision is a whole commit hash, which can't come to mean something else.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }

    /// The same at another revision, where one is given.
    ///
    /// # Errors
    /// If the name has a revision already, or this can't be one.
    pub fn at(mut self, revision: Option<&str>) -> Result<Self, HubError> {
        let Some(revision) = revision else { return Ok(self) };
        let fail = |why: &str| HubError::Name { text: self.to_string(), why: why.to_owned() };
        if self.revision != MAIN {
            return Err(fail("its revision is given twice"));
        }
        check_revision(revision).map_err(fail)?;
        revision.clone_into(&mut self.revision);
        Ok(self)
    }

    /// The same at a commit, whatever its revision was.
    ///
    /// # Errors
    /// If this can't be a revision.
    pub fn at_commit(mut self, commit: &str) -> Result<Self, HubError> {
        MAIN.clone_into(&mut self.revision);
        self.at(Some(commit))
    }
}

/// 40 lower-case hex digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a path stays in the directory that it is joined to. A colon is part of a name, but where it stands behind a drive's letter.
pub(crate) fn stays_inside(path: &str) -> bool {
    let colon = cfg!(windows) && path.contains(':');
    !colon && !path.contains(['\\', '\0']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl FromStr for HubName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let fail = |why: &str| HubError::Name { text: text.to_owned(), why: why.to_owned() };
        let (head, path) = text.split_once(':').map_or((text, None), |(head, path)| (head, Some(path)));
        let (repo, revision) = head.split_once('@').unwrap_or((head, MAIN));
        check_repo(repo).map_err(fail)?;
        check_revision(revision).map_err(fail)?;
        let path = path.map(|path| path.trim_end_matches('/'));
        if path.is_some_and(|path| !stays_inside(path)) {
            return Err(fail("the path after `:` is empty or leaves the repository"));
        }
        Ok(Self { repo: repo.to_owned(), revision: revision.to_owned(), path: path.map(str::to_owned) })
    }
}

/// The hub's own rules: <https://huggingface.co/docs/huggingface_hub/package_reference/utilities#huggingface_hub.utils.validate_repo_id>.
fn check_repo(repo: &str) -> Result<(), &'static str> {
    let mut parts = repo.split('/');
    let (Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err("the owner comes first, then a slash and the name, as in openai-community/gpt2");
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = |part: &str| {
        !part.is_empty() && part.chars().all(plain) && !part.starts_with(['-', '.']) && !part.ends_with(['-', '.'])
    };
    if !repo.split('/').all(good) || repo.contains("--") || repo.contains("..") || repo.ends_with(".git") {
        return Err(
            "repositories have letters, digits, `-`, `_` and `.` in their names, and begin and end with none of the last",
        );
    }
    if repo.len() > 96 { Err("it is longer than 96 letters") } else { Ok(()) }
}

/// What git allows, as far as it matters in a path and in a URL.
fn check_revision(revision: &str) -> Result<(), &'static str> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    if revision.contains(odd) || !stays_inside(revision) {
        return Err("the revision after `@` can be no branch, tag or commit");
    }
    Ok(())
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)?;
        self.path.as_ref().map_or(Ok(()), |path| write!(f, ":{path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> HubName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_has_a_revision_and_a_path_or_not() {
        let name = parsed("EleutherAI/pythia-70m");
        assert_eq!((name.repo(), name.revision(), name.path()), ("EleutherAI/pythia-70m", "main", None));
        let name = parsed("org/d.a_ta@refs/convert/parquet:default/train");
        assert_eq!((name.repo(), name.revision()), ("org/d.a_ta", "refs/convert/parquet"));
        assert_eq!(name.path(), Some("default/train"));
        assert_eq!(parsed("org/x:a@b/").path(), Some("a@b"), "an @ in the path is the path's");
        #[cfg(not(windows))]
        assert_eq!(parsed("org/x@v1:a:v2/b").path(), Some("a:v2/b"));
        for text in ["org/x@main", "org/x@v1:a/b"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn what_could_be_a_path_is_no_name() {
        let texts = [
            "",
            "gpt2",
            "models/bundled/small",
            "./a",
            "../a",
            "/a/b",
            "~/a",
            "org/",
            "org//x",
            "org/x.git",
            "org/.x",
            "a--b/c",
            "org/x y",
            "org/x@",
            "org/x@a b",
            "org/x@../../up",
            "org/x:",
            "org/x:../up",
            "org/x:/abs",
            "org/x:a//b",
            "C:\\a/b",
        ];
        for text in texts {
            assert!(text.parse::<HubName>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_whole_hashes_are_commits() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert!(parsed(&format!("org/x@{hash}")).is_commit());
        assert!(!parsed("org/x@0123456").is_commit() && !parsed("org/x").is_commit());
    }

    #[test]
    fn a_revision_is_given_once() {
        assert_eq!(parsed("org/x:a").at(Some("v1")).unwrap(), parsed("org/x@v1:a"));
        assert_eq!(parsed("org/x").at(None).unwrap(), parsed("org/x"));
        assert!(parsed("org/x@v1").at(Some("v2")).is_err() && parsed("org/x").at(Some("a b")).is_err());
    }
}
