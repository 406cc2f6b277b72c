//! What can go wrong between a name on the hub and a file.

use std::path::{Path, PathBuf};

/// Every error names what was asked for and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Text that is no name on the hub.
    #[error("`{text}` is no name on the hub: {why}; expected org/name[@revision][:path]")]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cache lacks something, and the hub was not asked or not reached.
    #[error(
        "{name} is not in the cache {}: {why}; fetch it with `{command}` where there is a network and copy the cache, or give a local path",
        cache.display()
    )]
    NotCached {
        /// What was asked for.
        name: String,
        /// The cache.
        cache: PathBuf,
        /// What it lacks, and why that was not downloaded.
        why: String,
        /// What fills the cache.
        command: String,
    },
    /// 401 or 403.
    #[error("the hub refuses access to {name} ({status}): {remedy}")]
    Denied {
        /// What was asked for.
        name: String,
        /// The hub's answer.
        status: u16,
        /// What to do.
        remedy: String,
    },
    /// No such repository.
    #[error("the hub has no {kind} {repo}{hidden}; check the spelling at {page}")]
    NoRepository {
        /// `model` or `dataset`.
        kind: &'static str,
        /// Its name.
        repo: String,
        /// What else the answer may mean.
        hidden: String,
        /// Where it would be.
        page: String,
    },
    /// No such branch, tag or commit.
    #[error("{repo} has no revision `{revision}`; {page} lists its branches and tags")]
    NoRevision {
        /// Name of the repository.
        repo: String,
        /// What was asked for.
        revision: String,
        /// Where they are listed.
        page: String,
    },
    /// The commit lacks a file that is needed.
    #[error("{name} (commit {commit}): {why}")]
    NoFile {
        /// What was asked for.
        name: String,
        /// The commit.
        commit: String,
        /// What it lacks, and what it has.
        why: String,
    },
    /// A model that can't be read, by its configuration.
    #[error("{name} is no model that can be read, so its weights are not downloaded: {why}")]
    Model {
        /// What was asked for.
        name: String,
        /// What is wrong with the configuration.
        why: String,
    },
    /// Any other answer.
    #[error("{url}: the hub answers {status}{said}; try again later, or see https://status.huggingface.co")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: u16,
        /// The hub's own words, or nothing.
        said: String,
    },
    /// An answer that makes no sense.
    #[error("{url}: {why}; is HF_ENDPOINT a Hugging Face hub?")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// A download that broke off again and again.
    #[error(
        "{name}: {file} broke off at {got} of {size} bytes, {tries} times in a row ({why}); run the same command again to resume"
    )]
    BrokeOff {
        /// What was asked for.
        name: String,
        /// The file.
        file: String,
        /// Bytes that are there.
        got: u64,
        /// Bytes that it has.
        size: u64,
        /// Tries without success.
        tries: u32,
        /// How the last ended.
        why: String,
    },
    /// A file other than the list says.
    #[error(
        "{name}: {file} is not what the hub's list says: {why}; run the same command again, and report it to the repository's owner if it stays so"
    )]
    Differs {
        /// What was asked for.
        name: String,
        /// The file.
        file: String,
        /// How it differs.
        why: String,
    },
    /// The cache can't be written or read.
    // Not `source`: whoever prints the chain of causes would print it twice.
    #[error("cannot write {} ({why}); is the disk full? HF_HUB_CACHE names another place for the hub's cache", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
}

impl HubError {
    pub(crate) fn write(path: &Path, why: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), why }
    }
}
