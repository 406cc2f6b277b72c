//! Models, datasets and SAEs by their name on the Hugging Face hub.
//!
//! ```
//! let name: assay_hub::HubName = "EleutherAI/pythia-70m@step3000".parse()?;
//! assert_eq!((name.repo(), name.revision(), name.path()), ("EleutherAI/pythia-70m", "step3000", None));
//! # Ok::<(), assay_hub::HubError>(())
//! ```
//!
//! What is there under a name is downloaded, where the cache lacks it:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use assay_hub::{Hub, HubName, Settings, Want};
//!
//! let name: HubName = "EleutherAI/pythia-70m@main".parse()?;
//! let hub = Hub::new(Settings::from_env(), &|_: &Path| Ok(()));
//! let model = hub.fetch(Want::Model, &name, &mut |_| ())?;
//! println!("{} of commit {}", model.path.display(), model.commit);
//! # Ok::<(), assay_hub::HubError>(())
//! ```
//!
//! Files lie in the cache that the hub's own tools use (`HF_HUB_CACHE`, `HF_HOME`), in their layout, so that neither downloads
//! what the other has. A revision is resolved to a commit once, and every file is that commit's. A pinned commit whose files
//! are in the cache needs no network; a branch or tag is looked up each time, and taken from the cache where the hub can't be
//! reached or `HF_HUB_OFFLINE` is set.
//!
//! [`hf_hub`] gives the HTTP agent and the layout's names. Its own download is not used: as of 0.5 it sends the token to the
//! host that the hub redirects to (`Api::metadata`), never times out, is refused (416) where a file had arrived whole but not been
//! renamed, writes a retry's bytes behind what is there whatever range it asked for, and doesn't compare sizes.

mod cache;
mod client;
mod download;
mod error;
mod name;
mod select;
mod settings;
mod tree;

use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};

pub use error::HubError;
pub use name::HubName;
pub use settings::Settings;

use crate::cache::RepoCache;
use crate::client::{Client, Failure};
use crate::select::{Selection, select};
use crate::tree::{Entry, Tree};

type Result<T, E = HubError> = std::result::Result<T, E>;

/// What is looked for under a name: which files of the repository are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// `config.json`, `tokenizer.json` if there is one, and weights in safetensors, or the GGUF file that the name ends with. Pickled
    /// weights never.
    Model,
    /// The files of one SAE, in any layout that is published: `cfg.json` or another configuration and the safetensors beside it, Gemma
    /// Scope's `params.npz` or `params.safetensors`, a file among those of other layers.
    Sae,
    /// Whichever of the two lies there.
    ModelOrSae,
    /// All shards of one kind: parquet, else JSON lines, else text. The path may be a directory, a file or a glob.
    Dataset,
}

/// The repository that a path in the hub's cache belongs to, and the place in it; `None` of every other path, nor of a dataset's.
pub fn repository_of(path: &Path) -> Option<(String, String)> {
    cache::repository_of(path)
}

impl Want {
    fn repo_type(self) -> RepoType {
        if self == Self::Dataset { RepoType::Dataset } else { RepoType::Model }
    }

    fn kind(self) -> &'static str {
        if self == Self::Dataset { "dataset" } else { "model" }
    }

    /// What stands before a repository's name in the address of its page and files.
    fn folder(self) -> &'static str {
        if self == Self::Dataset { "datasets/" } else { "" }
    }
}

/// Files of one commit, on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The directory that holds them, or the file where there is just one; for a glob the pattern.
    pub path: PathBuf,
    /// The commit: 40 hex digits.
    pub commit: String,
}

/// What [`Hub::fetch`] would download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The commit: 40 hex digits.
    pub commit: String,
    /// Files that the cache lacks.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
}

/// What happens during a fetch.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A download starts.
    Start {
        /// Bytes to download, in all.
        bytes: u64,
    },
    /// Bytes arrived.
    Bytes {
        /// How many since the last event; where a download is resumed, first those that were there.
        count: u64,
        /// The file that they belong to.
        file: &'a str,
    },
    /// All files are there.
    End {
        /// How many were downloaded.
        files: usize,
    },
    /// Something that the user should know.
    Warning(&'a str),
}

/// Says why the model cannot be read whose `config.json` is in a directory, if it cannot.
pub type CheckModel<'a> = &'a dyn Fn(&Path) -> Result<(), String>;

/// The hub as the environment sets it.
pub struct Hub<'a> {
    settings: Settings,
    check_model: CheckModel<'a>,
}

/// Why the hub itself was not asked.
enum Blocked {
    Offline,
    Unreachable { url: String, why: String },
}

/// The files of a commit, and where the list comes from.
struct Located {
    repo: RepoCache,
    tree: Tree,
    blocked: Option<Blocked>,
}

impl<'a> Hub<'a> {
    /// The hub with these settings. A model's configuration is downloaded first, and its weights only if `check_model` accepts it.
    pub fn new(settings: Settings, check_model: CheckModel<'a>) -> Self {
        Self { settings, check_model }
    }

    /// Downloads what the cache lacks, and gives the place of all of it.
    ///
    /// # Errors
    /// If the name leads nowhere, access is refused, there is no network and the cache lacks a file, or a file can't be written.
    pub fn fetch(&self, want: Want, name: &HubName, on: &mut dyn FnMut(Event<'_>)) -> Result<Snapshot> {
        let located = self.locate(want, name, on)?;
        let (missing, Selection { root, config, .. }) = self.missing(want, name, &located)?;
        let Located { repo, tree, .. } = &located;
        let commit = tree.commit.as_str();
        if !missing.is_empty() {
            let client = Client::new(&self.settings)?;
            on(Event::Start { bytes: missing.iter().map(|file| file.size).sum() });
            for file in &missing {
                let source = download::Source { client: &client, name, want, commit };
                download::file(&source, repo, file, &mut |count| on(Event::Bytes { count, file: &file.path }))?;
                if config == Some(*file) {
                    self.check(name, repo, commit, file)?;
                }
            }
            on(Event::End { files: missing.len() });
        }
        // Last, so that a branch leads only to commits whose files are there.
        let noted = repo.set_ref(name.revision(), commit);
        if !missing.is_empty() {
            // Else the cache may be one that can be read only, and all is there.
            noted?;
        }
        Ok(Snapshot { path: root.within(&repo.snapshot(commit)), commit: commit.to_owned() })
    }

    /// What [`fetch`](Self::fetch) would download.
    ///
    /// # Errors
    /// As `fetch`, but for the download itself.
    pub fn pending(&self, want: Want, name: &HubName, on: &mut dyn FnMut(Event<'_>)) -> Result<Pending> {
        let located = self.locate(want, name, on)?;
        let (missing, _) = self.missing(want, name, &located)?;
        let (files, bytes) = (missing.len(), missing.iter().map(|file| file.size).sum());
        Ok(Pending { files, bytes, commit: located.tree.commit })
    }

    /// Resolves the revision, and lists the commit's files.
    fn locate(&self, want: Want, name: &HubName, on: &mut dyn FnMut(Event<'_>)) -> Result<Located> {
        let repo = RepoCache::new(self.settings.cache(), &Repo::new(name.repo().to_owned(), want.repo_type()));
        // A commit never changes. Where an older tool filled the cache, there is no list of it, but a checkpoint says itself
        // whether it is complete; a dataset doesn't.
        if name.is_commit() {
            let commit = name.revision();
            let known = repo.tree(commit).or_else(|| {
                let found = repo.scan(commit)?;
                (want != Want::Dataset && select(want, &found, name.path()).is_ok()).then_some(found)
            });
            if let Some(tree) = known {
                let blocked = self.settings.offline().then_some(Blocked::Offline);
                return Ok(Located { repo, tree, blocked });
            }
        }
        let blocked = if self.settings.offline() {
            Blocked::Offline
        } else {
            match Client::new(&self.settings)?.tree(want, name) {
                Ok(tree) => {
                    // A cache that can't be written may still have all the files.
                    let _ = repo.set_tree(&tree);
                    return Ok(Located { repo, tree, blocked: None });
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Unreachable { url, why } | Failure::Busy { url, why, .. }) => {
                    Blocked::Unreachable { url, why }
                }
            }
        };
        let commit = repo.commit_of(name.revision());
        let listed = commit.as_deref().and_then(|commit| repo.tree(commit));
        let complete = listed.is_some();
        let Some(tree) = listed.or_else(|| repo.scan(commit.as_deref()?)) else {
            return Err(self.lacking(want, name, &blocked, None));
        };
        if let (Blocked::Unreachable { url, why }, false) = (&blocked, name.is_commit()) {
            let commit = &tree.commit;
            on(Event::Warning(&format!(
                "cannot reach {url} ({why}); for {name} the cache's commit {commit} is used, which may not be the latest"
            )));
        }
        if !complete && want == Want::Dataset {
            on(Event::Warning(&format!(
                "the cache has no list of the files of {name}: those that it has are used, which may not be all of them"
            )));
        }
        Ok(Located { repo, tree, blocked: Some(blocked) })
    }

    /// The files to download, if they may be, of those that were selected. A model's configuration comes first: if it is there and that
    /// of a model that can't be read, nothing is downloaded.
    fn missing<'t>(&self, want: Want, name: &HubName, located: &'t Located) -> Result<(Vec<&'t Entry>, Selection<'t>)> {
        let Located { repo, tree, blocked } = located;
        let selected = select(want, tree, name.path()).map_err(|why| match blocked {
            // The list may be of the files that are here, not of all that there are.
            Some(blocked) => self.lacking(want, name, blocked, Some(why)),
            None => HubError::NoFile { name: name.to_string(), commit: tree.commit.clone(), why },
        });
        let selected = selected?;
        let mut files = selected.files.clone();
        files.retain(|file| !repo.holds(&tree.commit, file));
        files.sort_by_key(|file| selected.config != Some(*file));
        if let Some(config) = selected.config.filter(|config| repo.holds(&tree.commit, config)) {
            self.check(name, repo, &tree.commit, config)?;
        }
        match (blocked, files.first()) {
            (Some(blocked), Some(first)) => {
                Err(self.lacking(want, name, blocked, Some(repo.damage(&tree.commit, first))))
            }
            _ => Ok((files, selected)),
        }
    }

    /// The cache lacks something: `detail` says what, if not all.
    fn lacking(&self, want: Want, name: &HubName, blocked: &Blocked, detail: Option<String>) -> HubError {
        let kind = if want == Want::Dataset { " --repo-type dataset" } else { "" };
        let part = name.path().map(|path| format!(" --include '{path}*'")).unwrap_or_default();
        let command = format!("hf download {}{kind} --revision {}{part}", name.repo(), name.revision());
        let why = match blocked {
            Blocked::Offline => "HF_HUB_OFFLINE is set (unset it where there is a network)".to_owned(),
            Blocked::Unreachable { url, why } => format!("{url} can't be reached ({why})"),
        };
        let why = detail.map_or(why.clone(), |detail| format!("{detail}, and {why}"));
        HubError::NotCached { name: name.to_string(), cache: self.settings.cache().to_owned(), why, command }
    }

    /// Checks a model's configuration, which is in the cache.
    fn check(&self, name: &HubName, repo: &RepoCache, commit: &str, config: &Entry) -> Result<()> {
        let path = repo.snapshot(commit).join(&config.path);
        let dir = path.parent().unwrap_or(&path);
        (self.check_model)(dir).map_err(|why| HubError::Model { name: name.to_string(), why })
    }
}
