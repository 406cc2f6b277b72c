//! Documents, one after another, from text, JSON and the text of parquet files. Nothing is held but the document at hand.

mod decompress;
pub(crate) mod files;
mod json;
pub(crate) mod jsonl;
mod kind;
mod lines;
pub mod objects;
pub(crate) mod padding;
mod text;

use std::path::PathBuf;

use crate::error::{ModelError, Result};
use crate::parquet::Shard;
use crate::reading::{Contents, Reading};
use files::Files;
pub(crate) use json::lenient_with;
pub(crate) use kind::FileKind;

/// A document, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its text.
    pub text: String,
    /// Whether a document begins with it.
    pub starts: bool,
}

impl Piece {
    fn document(text: String) -> Self {
        Self { text, starts: true }
    }
}

/// Documents in the order of the files and of what is in them, without those that are blank.
pub(crate) type Pieces = Box<dyn Iterator<Item = Result<Piece>> + Send>;

/// The documents of some files; those of JSON are in the field `column`. With `cut`, long documents of plain text come in pieces.
pub(crate) fn documents(files: Files, column: &str, cut: bool) -> Pieces {
    let column = column.to_owned();
    let pieces = files.paths.clone().into_iter().flat_map(move |path| match files.kind {
        FileKind::Text => text::documents(path, cut),
        FileKind::Json => jsonl::documents(path, &column, &files),
        FileKind::Parquet => parquet_documents(path, &files.reading),
        FileKind::Safetensors => failed(ModelError::data(&path, "safetensors contain no text")),
    });
    Box::new(pieces.filter(|piece| !matches!(piece, Ok(p) if p.starts && p.text.trim().is_empty())))
}

/// Nothing but an error.
fn failed(error: ModelError) -> Pieces {
    Box::new(std::iter::once(Err(error)))
}

/// The rows of a parquet file's text column.
fn parquet_documents(path: PathBuf, reading: &Reading) -> Pieces {
    let shard = match Shard::open(&path, &Reading { wanted: Some(Contents::Text), ..reading.clone() }) {
        Ok(shard) => shard,
        Err(e) => return failed(e),
    };
    let blocks: Vec<_> = shard.blocks().collect();
    Box::new(blocks.into_iter().flat_map(move |rows| -> Pieces {
        match shard.texts(rows) {
            Ok(texts) => Box::new(texts.into_iter().map(|text| Ok(Piece::document(text)))),
            Err(e) => failed(e),
        }
    }))
}
