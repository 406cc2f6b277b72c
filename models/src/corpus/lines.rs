//! The lines of a file, decompressed on the way.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use super::decompress::{Bytes, open};
use super::kind::{FileKind, by_content};
use crate::error::{ModelError, Result};
use crate::files::without_bom;

/// A line with its line end, and its number from 1.
pub(super) type Line = (usize, Vec<u8>);

/// Lines, the first without a byte order mark. After an error there are no more.
pub(super) struct Lines {
    path: PathBuf,
    reader: Bytes,
    number: usize,
    failed: bool,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (reader, _) = open(path)?;
        Ok(Self { path: path.to_owned(), reader, number: 0, failed: false })
    }

    /// The same for what is to be plain text: of a pipe it is known only now whether it is.
    pub(super) fn of_text(path: &Path) -> Result<Self> {
        let mut lines = Self::open(path)?;
        // What is damaged is an error of its line.
        let head = lines.reader.fill_buf().unwrap_or_default();
        match by_content(path, head)? {
            None | Some(FileKind::Text) => Ok(lines),
            Some(kind) => Err(ModelError::data(
                path,
                format!("it is {kind}, and of a pipe only plain text is read; write it to a file"),
            )),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self) -> Result<Option<Line>> {
        let mut bytes = Vec::new();
        let number = self.number + 1;
        let read = self.reader.read_until(b'\n', &mut bytes).map_err(|e| {
            ModelError::data(
                &self.path,
                format!("line {number}: {e}; the file is damaged or not complete, copy it again"),
            )
        })?;
        if read == 0 {
            return Ok(None);
        }
        self.number = number;
        if number == 1 && without_bom(&bytes).len() < bytes.len() {
            bytes = without_bom(&bytes).to_vec();
        }
        Ok(Some((number, bytes)))
    }
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.read().transpose();
        self.failed = matches!(line, Some(Err(_)));
        line
    }
}

/// The text of a line.
pub(super) fn utf8(path: &Path, (number, bytes): Line) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to() + 1;
        ModelError::data(path, format!("line {number}: not UTF-8 at byte {at} of the line"))
    })
}
