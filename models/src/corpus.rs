//! Documents: plain text and JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::error::{ModelError, Result};

/// Reads the documents of a `.jsonl` file (field `text`, one document a line) or of any other
/// text file (the whole file is one document; a NUL byte separates several).
///
/// # Errors
/// If the file is unreadable, not UTF-8, holds no document, or a line is not an object with a
/// string `text`; the message names the line.
pub fn read_documents(path: &Path) -> Result<Vec<String>> {
    let documents = if path.extension().is_some_and(|e| e == "jsonl") {
        read_jsonl(path)?
    } else {
        let text = std::fs::read_to_string(path).map_err(|e| ModelError::read(path, e))?;
        text.split('\0').filter(|d| !d.trim().is_empty()).map(str::to_owned).collect()
    };
    if documents.is_empty() {
        return Err(ModelError::data(path, "no documents in it"));
    }
    Ok(documents)
}

fn read_jsonl(path: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Line {
        text: String,
    }
    let file = File::open(path).map_err(|e| ModelError::read(path, e))?;
    let mut documents = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|e| ModelError::read(path, e))?;
        if line.trim().is_empty() {
            continue;
        }
        let parsed: Line = serde_json::from_str(&line).map_err(|e| {
            ModelError::data(path, format!("line {}: {e}; each line is an object with a string `text`", number + 1))
        })?;
        if !parsed.text.trim().is_empty() {
            documents.push(parsed.text);
        }
    }
    Ok(documents)
}
