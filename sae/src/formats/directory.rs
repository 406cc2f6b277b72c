//! An SAE's files put in their place: all of them or none, and nothing else is touched.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Format;
use super::find::{self, SaeFiles, parent};
use crate::error::{Result, SaeError};

/// How the names of directories begin in which files wait until all of them are written.
const PREFIX: &str = ".assay-sae-";
/// A file in such a directory that its process holds locked.
const LOCK: &str = "lock";
/// Where the files of the SAE that is replaced go meanwhile.
const OLD: &str = "old";

/// Has `write` fill a directory, and then puts its files into `dir`. What goes are the files of an SAE that is there already; all others
/// stay. Until everything is written and on disk nothing in `dir` changes, and if a step fails after that, those before it are undone.
///
/// # Errors
/// If `dir` is no directory, has several SAEs, or a file that is none of its SAE's and stands in the way; if a file can't be written.
pub(super) fn replace(dir: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = |e: io::Error| SaeError::write(dir, e);
    let exists = is_directory(dir)?;
    let place = if exists { dir } else { existing_parent(dir) };
    let staging = Staging::new(place).map_err(failed)?;
    let fresh = staging.dir.path().join("new");
    std::fs::create_dir(&fresh).map_err(failed)?;
    write(&fresh).map_err(|e| e.in_place(&fresh, dir))?;
    sync(&fresh).map_err(failed)?;
    if !exists {
        let above = parent(dir);
        std::fs::create_dir_all(above).and_then(|()| std::fs::rename(&fresh, dir)).map_err(failed)?;
        return sync(above).map_err(failed);
    }
    let coming = names(&fresh);
    let leaving = leaving(dir, &coming)?;
    staging.swap(dir, &fresh, &leaving, &coming).map_err(failed)?;
    sync(dir).map_err(failed)
}

/// Whether `path` is a directory; nothing there is none.
///
/// # Errors
/// If it is something else, or a link to nothing.
pub(super) fn is_directory(path: &Path) -> Result<bool> {
    let refuse = |why: &str| Err(SaeError::config(path, why));
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => refuse("it is a file; an SAE is a directory"),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            refuse("a part of the path is a file; an SAE is a directory")
        }
        Err(_) if path.symlink_metadata().is_ok() => refuse("it is a link to nothing; remove it, or give another path"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(SaeError::write(path, e)),
    }
}

/// Whether a directory is empty, but for what a killed process of this program may have left there.
pub fn is_vacant(dir: &Path) -> bool {
    dir.is_dir() && find::entries(dir).iter().all(|path| is_staging(path))
}

fn is_staging(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
}

/// The nearest directory above `path` that is there.
fn existing_parent(path: &Path) -> &Path {
    let mut above = parent(path);
    while !above.exists() && above != parent(above) {
        above = parent(above);
    }
    above
}

/// The names in `dir` that make room for those that are `coming`.
fn leaving(dir: &Path, coming: &[OsString]) -> Result<Vec<OsString>> {
    let found = find::only(dir)?;
    let old: Vec<OsString> = found.as_ref().map(SaeFiles::files).unwrap_or_default();
    // Weights without a configuration are what a kill between two moves leaves: nobody can read them.
    let orphan = |name: &OsString| {
        found.is_none() && Format::ALL.iter().any(|format| *name != *format.config() && format.owns(name))
    };
    let in_the_way =
        |name: &&OsString| dir.join(name).symlink_metadata().is_ok() && !old.contains(*name) && !orphan(name);
    if let Some(name) = coming.iter().find(in_the_way) {
        let why = format!("{} is there and belongs to no SAE; move it, or give another directory", name.display());
        return Err(SaeError::config(dir, why));
    }
    let mut leaving = old;
    leaving.extend(coming.iter().filter(|name| orphan(name) && dir.join(name).exists()).cloned());
    Ok(leaving)
}

/// What lies in a directory, configurations first.
fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> =
        find::entries(dir).iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    names.sort_by_key(|name| !Format::ALL.iter().any(|format| *name == *format.config()));
    names
}

/// Waits until a directory's entries are on disk, where the system can say so.
fn sync(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// A directory that is gone when this is dropped, and, where a process died before, with the next one in the same place.
struct Staging {
    dir: TempDir,
    _lock: File,
}

impl Staging {
    fn new(place: &Path) -> io::Result<Self> {
        remove_stale(place);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        // Locked before anybody looks for it under its name. Where a file system has no locks nobody else gets one either, and nothing is
        // taken for stale.
        let unnamed = dir.path().join("unnamed");
        let lock = File::create(&unnamed)?;
        let _ = lock.try_lock();
        std::fs::rename(unnamed, dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    /// Moves the files `leaving` out of `dir` and those of `fresh` in. Configurations leave first and come last, so that no moment has one
    /// SAE's beside another's weights.
    fn swap(self, dir: &Path, fresh: &Path, leaving: &[OsString], coming: &[OsString]) -> io::Result<()> {
        let old = self.dir.path().join(OLD);
        std::fs::create_dir(&old)?;
        let out = leaving.iter().map(|name| (dir.join(name), old.join(name)));
        let moves = out.chain(coming.iter().rev().map(|name| (fresh.join(name), dir.join(name))));
        let mut done: Vec<(PathBuf, PathBuf)> = Vec::new();
        for (from, to) in moves {
            if let Err(error) = std::fs::rename(&from, &to) {
                if done.iter().rev().filter(|(from, to)| std::fs::rename(to, from).is_err()).count() > 0 {
                    let kept = self.dir.keep();
                    return Err(io::Error::other(format!(
                        "{error}; the files that were there are in {}",
                        kept.display()
                    )));
                }
                return Err(error);
            }
            done.push((from, to));
        }
        Ok(())
    }
}

/// Removes what killed processes left in `place`; what may be the only copy of an SAE stays.
fn remove_stale(place: &Path) {
    for path in find::entries(place) {
        if is_staging(&path)
            && find::entries(&path.join(OLD)).is_empty()
            && File::open(path.join(LOCK)).is_ok_and(|f| f.try_lock().is_ok())
        {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    fn texts(dir: &Path) -> Vec<(String, String)> {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        find::entries(dir).iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap_or_default())).collect()
    }

    const OLD_SAE: [(&str, &str); 3] =
        [("config.json", r#"{"trainer": {}}"#), ("ae.safetensors", "old"), ("notes.md", "mine")];
    const NEW_SAE: [(&str, &str); 2] = [("cfg.json", "{}"), ("sae.safetensors", "new")];

    fn new_sae(dir: &Path) -> Result<()> {
        write(dir, &NEW_SAE);
        Ok(())
    }

    #[test]
    fn a_write_that_fails_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &OLD_SAE);
        let before = texts(dir.path());
        for place in [dir.path().to_owned(), dir.path().join("a/b/c")] {
            let error = replace(&place, |fresh| {
                write(fresh, &NEW_SAE);
                Err(SaeError::Setting("the disk is full".to_owned()))
            });
            assert_eq!(error.unwrap_err().to_string(), "the disk is full");
            assert_eq!(texts(dir.path()), before);
        }
    }

    #[test]
    fn a_move_that_fails_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &OLD_SAE);
        let before = texts(dir.path());
        let staging = Staging::new(dir.path()).unwrap();
        let fresh = staging.dir.path().join("new");
        std::fs::create_dir(&fresh).unwrap();
        write(&fresh, &NEW_SAE);
        let names = |names: &[&str]| names.iter().map(OsString::from).collect::<Vec<_>>();
        let coming = names(&["gone.json", "cfg.json", "sae.safetensors"]);
        assert!(staging.swap(dir.path(), &fresh, &names(&["config.json", "ae.safetensors"]), &coming).is_err());
        assert_eq!(texts(dir.path()), before);
    }

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_unless_it_is_all_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let left = |name: &str, old: bool| {
            let stale = dir.path().join(format!("{PREFIX}{name}"));
            std::fs::create_dir_all(stale.join(OLD)).unwrap();
            std::fs::write(stale.join(LOCK), "").unwrap();
            if old {
                std::fs::write(stale.join(OLD).join("cfg.json"), "{}").unwrap();
            }
            stale
        };
        let (stale, only_copy, running) = (left("a", false), left("b", true), left("c", false));
        let held = File::open(running.join(LOCK)).unwrap();
        held.lock().unwrap();
        replace(&dir.path().join("sae"), new_sae).unwrap();
        assert!(!stale.exists() && only_copy.exists() && running.exists());
        assert_eq!(texts(&dir.path().join("sae")).len(), 2);
        assert!(!is_vacant(dir.path()));
        std::fs::remove_dir_all(dir.path().join("sae")).unwrap();
        assert!(is_vacant(dir.path()));
    }

    #[test]
    fn weights_that_a_kill_left_without_a_configuration_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("sae.safetensors", "old")]);
        replace(dir.path(), new_sae).unwrap();
        assert_eq!(texts(dir.path())[1], ("sae.safetensors".to_owned(), "new".to_owned()));
    }
}
