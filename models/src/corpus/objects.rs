//! The JSON objects of a file whatever their fields, and its text decompressed: for readers of labelled text.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::decompress;
use super::json::{lenient, values};
use super::lines::utf8;
use crate::error::{ModelError, Result};

/// An object, and the number of the line on which it begins.
pub type Object = (usize, Map<String, Value>);

/// The JSON objects of a file: one per line, one after another, or the elements of an array; also `.gz` or `.zst`.
///
/// # Errors
/// If the file can't be read. What is no JSON object is an error of its own.
pub fn objects(path: &Path) -> Result<impl Iterator<Item = Result<Object>> + Send + use<>> {
    let values = values(path)?;
    let path = path.to_owned();
    Ok(values.map(move |line| {
        let (number, bytes) = line?;
        let text = utf8(&path, (number, bytes))?;
        let parsed = serde_json::from_str(&text);
        let parsed = parsed.or_else(|error| serde_json::from_slice(&lenient(text.as_bytes())).map_err(|_| error));
        let why = match parsed {
            Ok(Value::Object(object)) => return Ok((number, object)),
            Ok(_) => "no JSON object".to_owned(),
            Err(error) => format!("not JSON ({error})"),
        };
        Err(ModelError::data(&path, format!("line {number}: {why}; each line is an object with a text and a label")))
    }))
}

/// A file of text as a whole, decompressed if it is `.gz` or `.zst`; `most` bytes at most.
///
/// # Errors
/// If it can't be read, is larger, or is not UTF-8.
pub fn whole_text(path: &Path, most: u64) -> Result<String> {
    let (bytes, _) = decompress::open(path)?;
    let mut text = Vec::new();
    bytes.take(most + 1).read_to_end(&mut text).map_err(|e| ModelError::read(path, e))?;
    if text.len() as u64 > most {
        return Err(ModelError::data(path, format!("it holds more than {most} bytes; make it Parquet or JSON lines")));
    }
    String::from_utf8(text)
        .map_err(|e| ModelError::data(path, format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_any_fields_are_read_and_others_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        std::fs::write(&file, "{\"x\": 1, \"y\": \"a\"}\n\n[1]\n").unwrap();
        let mut found = objects(&file).unwrap();
        let (line, object) = found.next().unwrap().unwrap();
        assert_eq!((line, object["x"].as_i64(), object["y"].as_str()), (1, Some(1), Some("a")));
        let error = found.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("a.jsonl") && error.contains("line 3"), "{error}");
        assert_eq!(whole_text(&file, 100).unwrap().len(), 24);
        assert!(whole_text(&file, 10).unwrap_err().to_string().contains("more than 10 bytes"));
    }
}
