//! What can go wrong with an SAE on disk or in training.

use std::path::{Path, PathBuf};

use crate::formats::Format;
use crate::tensors::Unread;

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, SaeError>;

/// Every error names the file and the value at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaeError {
    /// A file could not be read or written. Why is its source, which whoever prints the chain of causes adds.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration is unreadable or asks for something that is not supported.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A safetensors file that cannot be parsed.
    #[error("{} is not a complete safetensors file ({why}); copy or download it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        why: String,
    },
    /// What Git LFS leaves where it has not fetched a file.
    #[error(
        "{} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository, or download the file", path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A tensor that is not in the file.
    #[error("{}: tensor `{name}` is missing; is the file complete, and of the architecture that {config} says?", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The file that says which tensors there are.
        config: &'static str,
    },
    /// A tensor whose shape or dtype is not what the configuration says.
    #[error("{}: tensor `{name}` is {found}, {config} asks for numbers {expected:?}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The file that says which shape.
        config: &'static str,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Dtype and shape in the file.
        found: String,
    },
    /// NaN or infinity among the weights.
    #[error("{}: tensor `{name}` holds {value} at element {index}; the SAE is damaged or its training diverged", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The value.
        value: f32,
        /// Flat index of the first such element.
        index: usize,
    },
    /// A format that has no word for what an SAE computes.
    #[error("{format} can't express a {architecture} {}{}; {others} can", if *transcodes { "transcoder" } else { "SAE" }, if *normalization == "none" { String::new() } else { format!(" with normalize_activations {normalization}") })]
    Inexpressible {
        /// The format.
        format: Format,
        /// The SAE's architecture.
        architecture: &'static str,
        /// Whether it is a transcoder.
        transcodes: bool,
        /// What it does to its input.
        normalization: &'static str,
        /// Formats that can.
        others: String,
    },
    /// A setting that cannot be.
    #[error("{0}")]
    Setting(String),
}

impl SaeError {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Io { action: "read", path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Io { action: "write", path: path.to_owned(), source }
    }

    /// The same error, of a file that was written in the directory `staged` and belongs into `place`.
    pub(crate) fn in_place(mut self, staged: &Path, place: &Path) -> Self {
        if let Self::Io { path, .. } | Self::Config { path, .. } = &mut self
            && let Ok(rest) = path.strip_prefix(staged)
        {
            *path = place.join(rest);
        }
        self
    }

    /// A tensor whose values can't be read.
    pub(crate) fn unread(path: &Path, name: &str, why: Unread) -> Self {
        match why {
            Unread::Io(source) => Self::read(path, source),
            Unread::NotFinite { value, index } => {
                Self::NotFinite { path: path.to_owned(), name: name.to_owned(), value, index }
            }
        }
    }

    pub(crate) fn config(path: &Path, why: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), why: why.into() }
    }
}
