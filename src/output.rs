//! What the program prints: results on standard output, everything else on standard error.
//!
//! `println!` and its kind panic where the other end was closed or the disk is full. Here a result that can't be written is an
//! error, and a message that nobody reads changes nothing.

use std::fmt::{self, Display};
use std::io::{ErrorKind, Write as _};

use anyhow::{Context, Result};

/// Whoever read standard output has seen enough, as in `assay … | head`: no failure of ours.
#[derive(Clone, Copy, Debug)]
pub struct ReaderGone;

impl Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed by its reader")
    }
}

impl std::error::Error for ReaderGone {}

/// Writes a result to standard output as it is.
///
/// # Errors
/// [`ReaderGone`] if its reader closed it; else if it can't be written.
pub fn result(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    written(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes a result and ends the line.
///
/// # Errors
/// As [`result`].
pub fn result_line(text: impl Display) -> Result<()> {
    result(format_args!("{text}\n"))
}

fn written(outcome: std::io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        outcome => outcome.context("cannot write to standard output"),
    }
}

/// Writes a line about the work to standard error, if anybody reads it.
pub fn message(text: impl Display) {
    let _unread = writeln!(std::io::stderr().lock(), "{text}");
}
