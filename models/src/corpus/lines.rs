//! The lines of a file, decompressed on the way.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::files::{Compression, compression};
use crate::error::{ModelError, Result};

/// Lines with their line ends, and their numbers from 1. After an error there are no more.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    number: usize,
    failed: bool,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = BufReader::new(File::open(path).map_err(|e| ModelError::read(path, e))?);
        let reader: Box<dyn BufRead + Send> = match compression(path) {
            None => Box::new(file),
            Some(Compression::Gzip) => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
            Some(Compression::Zstd) => Box::new(BufReader::new(zstd(file).map_err(|e| ModelError::read(path, e))?)),
        };
        Ok(Self { path: path.to_owned(), reader, number: 0, failed: false })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self) -> Result<Option<(usize, String)>> {
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
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to() + 1;
            ModelError::data(&self.path, format!("line {number}: not UTF-8 at byte {at} of the line"))
        })?;
        Ok(Some((number, text)))
    }
}

fn zstd<R: BufRead>(file: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
    // What `zstd --long=31` wrote, as large corpora are, needs a window that must be asked for.
    decoder.window_log_max(31)?;
    Ok(decoder)
}

impl Iterator for Lines {
    type Item = Result<(usize, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.read().transpose();
        self.failed = matches!(line, Some(Err(_)));
        line
    }
}
