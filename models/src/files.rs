//! Whole files: texts (configurations, indices, tokenizers, specs), and weights mapped into memory.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use memmap2::Mmap;

use crate::error::{ModelError, Result};

/// The byte order mark that some editors, and Windows above all, put before UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// Bytes without a byte order mark before them.
pub(crate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// Whether a file begins as what Git LFS leaves in the place of one that it has not fetched.
pub(crate) fn is_lfs_pointer(head: &[u8]) -> bool {
    head.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// The error of a Git LFS pointer.
pub(crate) fn lfs_pointer(path: &Path) -> ModelError {
    ModelError::data(
        path,
        "it is a Git LFS pointer, not the file itself; run `git lfs pull` in the repository that it was cloned from, or download it",
    )
}

/// The text of a file in UTF-8, without a byte order mark.
///
/// # Errors
/// If it can't be read, is not UTF-8, or is a Git LFS pointer.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| ModelError::read(path, e))?;
    if is_lfs_pointer(&bytes) {
        return Err(lfs_pointer(path));
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes.as_slice() {
        return Err(ModelError::data(path, "it is UTF-16; save it as UTF-8"));
    }
    let text = std::str::from_utf8(without_bom(&bytes));
    text.map(str::to_owned).map_err(|e| ModelError::data(path, format!("not UTF-8 at byte {}", e.valid_up_to() + 1)))
}

/// What a library makes of a file. Some end in a panic where a file is damaged in a way that they did not think of; that is an error like
/// any other.
///
/// # Errors
/// Those of `parse`, and where it panics one that says so.
pub(crate) fn guarded<T>(path: &Path, parse: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| ModelError::data(path, "it is damaged, and its parser gave up; copy it again");
    catch_unwind(AssertUnwindSafe(parse)).map_err(panicked)?
}

/// Opens a file that is mapped, or read at several places. One would wait for a pipe without an end.
///
/// # Errors
/// If it can't be opened, or is a pipe, a device or a directory.
pub fn open_regular(path: &Path) -> Result<File> {
    if !std::fs::metadata(path).map_err(|e| ModelError::read(path, e))?.is_file() {
        let why = "it is no regular file but, for example, a pipe or a directory; write its contents to a file first";
        return Err(ModelError::data(path, why));
    }
    File::open(path).map_err(|e| ModelError::read(path, e))
}

/// Maps a file of weights into memory.
///
/// # Errors
/// If it can't be read, or is a Git LFS pointer.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = open_regular(path)?;
    // SAFETY: the map is only read; a file that somebody truncates while it is in use can fault, as with every memory-mapped
    // loader.
    #[expect(unsafe_code, reason = "memory mapping has no safe interface")]
    let map = unsafe { Mmap::map(&file) }.map_err(|e| ModelError::read(path, e))?;
    if is_lfs_pointer(&map) {
        return Err(lfs_pointer(path));
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_text(&path).map_err(|e| e.to_string())
        };
        assert_eq!(read(b"\xef\xbb\xbf{}").unwrap(), "{}");
        assert_eq!(read("ü".as_bytes()).unwrap(), "ü");
        assert_eq!(read(b"").unwrap(), "");
        assert!(read(b"\xff\xfe{\0}\0").unwrap_err().contains("UTF-16"));
        assert!(read(b"ab\xff").unwrap_err().contains("byte 3"));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
        assert!(read(pointer).unwrap_err().contains("git lfs pull"));
    }
}
