//! Files that are there whole or not at all, also after a power cut.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use tempfile::{NamedTempFile, TempDir};

/// A path that begins with `~/`, from the home directory; any other as it is.
pub fn from_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

/// Writes a file beside its place and renames it into it: it is there whole or not at all.
///
/// # Errors
/// If it can't be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| Ok(file.write_all(bytes)?))
}

/// What the names of files on their way begin with.
pub const ON_ITS_WAY: &str = ".assay-";

/// As [`write_atomic`], for what writes to a file itself.
///
/// # Errors
/// If it can't be written.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let dir = directory_of(path);
    let write = || -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut staged = NamedTempFile::with_prefix_in(ON_ITS_WAY, dir)?;
        // As long as it is held, nobody takes it for one that was abandoned.
        _ = staged.as_file().try_lock();
        write(staged.as_file_mut())?;
        // A temporary file is private; a result is not.
        #[cfg(unix)]
        staged.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        // A rename may reach the disk before the bytes that it names.
        staged.as_file().sync_all()?;
        staged.persist(path)?;
        sync_dir(dir)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A directory beside a place, to be renamed into it when it is whole; it is gone if it is not.
///
/// # Errors
/// If it can't be made.
pub fn staging_beside(path: &Path) -> Result<TempDir> {
    let make = || -> std::io::Result<TempDir> {
        let dir = directory_of(path);
        std::fs::create_dir_all(dir)?;
        let mut staging = tempfile::Builder::new();
        staging.prefix(ON_ITS_WAY);
        // A temporary directory is private; a result is not.
        #[cfg(unix)]
        staging.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        staging.tempdir_in(dir)
    };
    make().with_context(|| format!("cannot write {}", path.display()))
}

/// The directory that a file is in, or would be.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Removes what killed processes left of files on their way in a directory. Those that are still being written stay.
pub fn remove_abandoned(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(ON_ITS_WAY)) {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Checks, before long work, that a file or directory can be made at a path, and removes what killed processes left beside it.
///
/// # Errors
/// If the directory that it would be in can't be written to.
pub fn check_writable(path: &Path) -> Result<()> {
    let dir = directory_of(path);
    remove_abandoned(dir);
    try_out(dir).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a file in a directory, or in what would hold it, and leaves nothing behind.
///
/// # Errors
/// If none can be made there.
pub fn try_out(dir: &Path) -> Result<()> {
    let there = dir.ancestors().find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(there).with_context(|| format!("nothing can be made in {}", there.display()))?;
    Ok(())
}

/// Reads a file of JSON; `None` if there is none.
///
/// # Errors
/// If it can't be read, or holds something else; `remedy` then says what to do.
pub fn read_json<T: DeserializeOwned>(path: &Path, remedy: &str) -> Result<Option<T>> {
    read(path)?.map(|bytes| of_json(&bytes, path, remedy)).transpose()
}

/// Reads a file; `None` if there is none.
///
/// # Errors
/// If it can't be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The JSON that a file held.
///
/// # Errors
/// As [`read_json`].
pub fn of_json<T: DeserializeOwned>(bytes: &[u8], path: &Path, remedy: &str) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("{} is damaged; {remedy}", path.display()))
}

/// Waits until the names in a directory are on the disk.
///
/// # Errors
/// If the system can't say so.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    // Windows opens no directory as a file, and keeps its names by a journal.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Bytes that a user may still write where a directory is, or would be.
#[cfg(feature = "workbench")]
pub fn free_space(dir: &Path) -> Option<u64> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    #[cfg(unix)]
    return rustix::fs::statvfs(there).ok().map(|found| found.f_bavail * found.f_frsize);
    #[cfg(not(unix))]
    return None;
}
