//! What a file holds: by what it begins with, and by its name where that does not settle it.

use std::io::Read as _;
use std::path::Path;

use super::decompress::{Compression, open};
use crate::error::{ModelError, Result};
use crate::files::{is_lfs_pointer, lfs_pointer, without_bom};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Plain text.
    Text,
    /// JSON objects: one per line, in an array, or one after another.
    Json,
    /// Columns of tokens or text.
    Parquet,
    /// Tensors of tokens.
    Safetensors,
}

impl std::fmt::Display for FileKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "plain text",
            Self::Json => "JSON",
            Self::Parquet => "Parquet",
            Self::Safetensors => "safetensors",
        })
    }
}

/// Bytes that are looked at.
const HEAD: u64 = 1 << 16;

/// What other files begin with, and what they are: none of them is text.
const FOREIGN: [(&[u8], &str); 14] = [
    (b"ARROW1", "an Arrow file (`datasets` writes Parquet with `to_parquet`)"),
    (b"\xff\xff\xff\xff", "an Arrow stream (`datasets` writes Parquet with `to_parquet`)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x93NUMPY", "a NumPy file (`safetensors.numpy.save_file` writes an array that is read)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\xfd7zXZ\0", "compressed by xz"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"%PDF-", "a PDF"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
];

const REMEDY: &str =
    "convert it to Parquet, JSON lines, plain text in UTF-8 (these two also .gz or .zst) or safetensors";

impl FileKind {
    /// By the name alone: upper case counts for nothing, and what says that a file is compressed is looked through.
    pub(crate) fn named(path: &Path) -> Option<Self> {
        match inner_extension(path)?.as_str() {
            "txt" => Some(Self::Text),
            "jsonl" | "json" | "ndjson" | "jsonlines" => Some(Self::Json),
            "parquet" | "pq" => Some(Self::Parquet),
            "safetensors" => Some(Self::Safetensors),
            _ => None,
        }
    }

    /// What places in it are called.
    pub(crate) fn place(self) -> &'static str {
        match self {
            Self::Text | Self::Json => "line",
            Self::Parquet | Self::Safetensors => "row",
        }
    }

    /// Whether the name says JSON that need not be lines.
    pub(super) fn is_plain_json(path: &Path) -> bool {
        inner_extension(path).as_deref() == Some("json")
    }

    /// By what is in it; by its name where it is empty, damaged, or a pipe, which can't be read twice. Text if neither says anything.
    ///
    /// # Errors
    /// If it can't be read, or is none of the kinds.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let named = Self::named(path);
        if !path.metadata().map_err(|e| ModelError::read(path, e))?.is_file() {
            return Ok(named.unwrap_or(Self::Text));
        }
        let (reader, compression) = open(path)?;
        let mut head = Vec::new();
        // What is damaged is found, and its line named, by those who read on.
        let _ = reader.take(HEAD).read_to_end(&mut head);
        let kind = by_content(path, &head)?.or(named).unwrap_or(Self::Text);
        // `gzip` in the name of a Parquet file may mean its pages, so what is in it decides; an empty file has only its name.
        let packed = compression.is_some() || head.is_empty() && named_compression(path);
        if packed && matches!(kind, Self::Parquet | Self::Safetensors) {
            return Err(ModelError::data(path, "only text and JSON are read compressed; decompress it"));
        }
        Ok(kind)
    }
}

/// What bytes at the start of a file (decompressed) say, if that is more than that they may be text.
pub(super) fn by_content(path: &Path, head: &[u8]) -> Result<Option<FileKind>> {
    if is_lfs_pointer(head) {
        return Err(lfs_pointer(path));
    }
    if head.starts_with(b"PAR1") {
        return Ok(Some(FileKind::Parquet));
    }
    // The length of the header, then the header, which is JSON.
    if let Some((length, [b'{', ..])) = head.split_first_chunk::<8>()
        && u64::from_le_bytes(*length) < 100_000_000
    {
        return Ok(Some(FileKind::Safetensors));
    }
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(ModelError::data(path, format!("it is {what}, which is not read; {REMEDY}")));
    }
    if matches!(inner_extension(path).as_deref(), Some("csv" | "tsv")) {
        return Err(ModelError::data(path, format!("tables of values with separators are not read; {REMEDY}")));
    }
    Ok(is_json(without_bom(head)).then_some(FileKind::Json))
}

/// Whether bytes begin as a JSON object does, or an array of objects, strings or arrays of numbers. Prose that begins with a bracket
/// goes on otherwise.
fn is_json(head: &[u8]) -> bool {
    fn string(text: &[u8]) -> &[u8] {
        let mut escaped = false;
        let end = text.iter().position(|&b| {
            let ends = b == b'"' && !escaped;
            escaped = b == b'\\' && !escaped;
            ends
        });
        end.map_or(&[], |end| text[end + 1..].trim_ascii_start())
    }
    match head.trim_ascii_start().split_first() {
        Some((b'{', rest)) => match rest.trim_ascii_start().split_first() {
            Some((b'"', key)) => string(key).first().is_none_or(|&b| b == b':'),
            Some((b'}', _)) => true,
            _ => false,
        },
        Some((b'[', rest)) => match rest.trim_ascii_start().split_first() {
            Some((b'{', _)) => is_json(rest),
            Some((b'"', text)) => string(text).first().is_none_or(|&b| b == b',' || b == b']'),
            Some((b'[', row)) => {
                let row = row.trim_ascii_start();
                let digits = row.iter().take_while(|b| b.is_ascii_digit()).count();
                digits > 0 && row[digits..].trim_ascii_start().first() == Some(&b',')
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether the name says that the file is compressed.
fn named_compression(path: &Path) -> bool {
    extension(path).is_some_and(|e| Compression::named(&e).is_some())
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// The last extension that is not one of a compression.
fn inner_extension(path: &Path) -> Option<String> {
    if named_compression(path) { extension(&path.with_extension("")) } else { extension(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_files_hold() {
        for (name, kind) in [
            ("a.txt", Some(FileKind::Text)),
            ("a.b.TXT.gz", Some(FileKind::Text)),
            ("a.jsonl.zst", Some(FileKind::Json)),
            ("a.JSONL", Some(FileKind::Json)),
            ("a.json.gz", Some(FileKind::Json)),
            ("a.NDJSON.GZ", Some(FileKind::Json)),
            ("a.json", Some(FileKind::Json)),
            ("a.parquet", Some(FileKind::Parquet)),
            ("a.parquet.gzip", Some(FileKind::Parquet)),
            ("a.zst", None),
            ("README.md", None),
            ("txt", None),
        ] {
            assert_eq!(FileKind::named(Path::new(name)), kind, "{name}");
        }
    }

    #[test]
    fn json_is_known_by_how_it_begins_and_prose_in_brackets_is_prose() {
        for json in [
            "{\"text\": \"a\"}",
            "\n  {\n \"text\": \"a\"",
            "[{\"text\": \"a\"}]",
            "[\n  {\n    \"te\\\"xt\"  : 1",
            "[\"a\", \"b\"]",
            "[[1, 2], [3]]",
            "{}",
            "{\"a key that does not end here",
        ] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for prose in [
            "",
            " \n",
            "[1] A. Smith, 1999",
            "[[1984]] is a novel",
            "[[Category:A]]",
            "[\"Hello,\" he said]",
            "{{ name }}",
            "{\\bf a}",
            "{ int a; }",
            "{\"quoted\" words}",
            "a {\"text\": 1}",
            "[Footnote]",
            "1",
        ] {
            assert!(!is_json(prose.as_bytes()), "{prose}");
        }
    }
}
