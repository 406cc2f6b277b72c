//! Files that are there whole or not at all, also after a power cut.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

/// Writes a file beside its place and renames it into it: it is there whole or not at all.
///
/// # Errors
/// If it can't be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| Ok(file.write_all(bytes)?))
}

/// As [`write_atomic`], for what writes to a file itself.
///
/// # Errors
/// If it can't be written.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let write = || -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut staged = NamedTempFile::with_prefix_in(".assay-", dir)?;
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

/// Reads a file of JSON; `None` if there is none.
///
/// # Errors
/// If it can't be read, or holds something else; `remedy` then says what to do.
pub fn read_json<T: DeserializeOwned>(path: &Path, remedy: &str) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let read = serde_json::from_str(&text);
    read.map(Some).with_context(|| format!("{} is damaged; {remedy}", path.display()))
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
