//! The bytes of a file, decompressed on the way as the tools of the two formats do it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::error::{ModelError, Result};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// gzip, of one member or several.
    Gzip,
    /// zstd, of one frame or several.
    Zstd,
}

impl Compression {
    /// By an extension in lower case.
    pub(super) fn named(extension: &str) -> Option<Self> {
        match extension {
            "gz" | "gzip" => Some(Self::Gzip),
            "zst" | "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// By what a file begins with, whatever its name: no text begins so.
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or one to be skipped, as `pzstd` writes first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Bytes to read.
pub(super) type Bytes = Box<dyn BufRead + Send>;

/// A file, and how it was compressed.
///
/// # Errors
/// If it can't be opened.
pub(super) fn open(path: &Path) -> Result<(Bytes, Option<Compression>)> {
    let bad = |e| ModelError::read(path, e);
    let mut file = BufReader::new(File::open(path).map_err(bad)?);
    let compression = Compression::of(file.fill_buf().map_err(bad)?);
    let bytes: Bytes = match compression {
        None => Box::new(file),
        Some(Compression::Gzip) => Box::new(BufReader::new(Members(Some(GzDecoder::new(file))))),
        Some(Compression::Zstd) => Box::new(BufReader::new(zstd(file).map_err(bad)?)),
    };
    Ok((bytes, compression))
}

fn zstd<R: BufRead>(file: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
    // What `zstd --long=31` wrote, as large corpora are, needs a window that must be asked for.
    decoder.window_log_max(31)?;
    Ok(decoder)
}

/// The members of a gzip file, one after another; `None` at the end. What follows the last and is none, such as the zeros with which
/// tapes are filled up, is ignored, as `gzip` does.
struct Members<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.0 else { return Ok(0) };
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut rest) = self.0.take().map(GzDecoder::into_inner) else { return Ok(0) };
            // The buffer may end after the first of the two bytes that a member begins with.
            if matches!(rest.fill_buf()?, [0x1f] | [0x1f, 0x8b, ..]) {
                self.0 = Some(GzDecoder::new(rest));
            }
        }
    }
}
