//! Configurations as tools write them: JSON with what Python's `json` adds to it, and one meaning in several types.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::Path;

use serde_json::Value;

use crate::error::{Result, SaeError};
use crate::tensors::{is_lfs_pointer, write_synced};

/// Reads a JSON file. A byte order mark is skipped; NaN and infinities, which Python writes bare, become strings, so that they are
/// refused only where somebody reads them.
pub(super) fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|e| SaeError::read(path, e))?;
    if is_lfs_pointer(&bytes) {
        return Err(SaeError::LfsPointer { path: path.to_owned() });
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes).map_err(|e| SaeError::config(path, format!("not UTF-8 text: {e}")))?;
    serde_json::from_str(&quoting_non_finite(text)).map_err(|e| {
        let why = if e.is_eof() { "the file ends too early, copy or download it again" } else { "not valid JSON" };
        SaeError::config(path, format!("{why}: {e}"))
    })
}

/// Reads a JSON file that must be an object.
pub(super) fn read_object(path: &Path) -> Result<Value> {
    let value = read_json(path)?;
    if value.is_object() { Ok(value) } else { Err(SaeError::config(path, "a JSON object is expected")) }
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("a JSON value serialises");
    write_synced(path, (text + "\n").as_bytes())
}

/// The text with every bare `NaN`, `Infinity` and `-Infinity` in quotes.
fn quoting_non_finite(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut in_string = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !in_string && rest.starts_with(word));
        let mut len = word.map_or(c.len_utf8(), str::len);
        if in_string && c == '\\' {
            len += rest[1..].chars().next().map_or(0, char::len_utf8);
        }
        let quote = if word.is_some() { "\"" } else { "" };
        out.extend([quote, &rest[..len], quote]);
        in_string ^= c == '"';
        rest = &rest[len..];
    }
    out.into()
}

/// The keys of an object in a configuration. Null counts as absent, and a list of one as its element.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    path: &'a Path,
    object: &'a Value,
}

impl<'a> Keys<'a> {
    /// Those of `object`, read from the file `path`.
    pub fn new(path: &'a Path, object: &'a Value) -> Self {
        Self { path, object }
    }

    /// The value of a key.
    pub fn get(self, key: &str) -> Option<&'a Value> {
        let value = match &self.object[key] {
            Value::Array(values) if values.len() == 1 => &values[0],
            value => value,
        };
        Some(value).filter(|value| !value.is_null())
    }

    /// The keys of an object in this one; none, if it isn't there.
    pub fn object(self, key: &str) -> Result<Self> {
        let object = self.get(key).unwrap_or(&Value::Null);
        if object.is_object() || object.is_null() {
            return Ok(Self { object, ..self });
        }
        Err(self.refused(key, object, "an object"))
    }

    /// A whole number: `32`, `32.0` or `"32"`.
    pub fn count(self, key: &str) -> Result<Option<usize>> {
        self.read(key, "a whole number", |value| {
            let number = number_of(value)?;
            // Every whole number up to 2^53 is exact in f64.
            ((0.0..9e15).contains(&number) && number.fract() == 0.0).then_some(number as usize)
        })
    }

    /// A number: `0.5` or `"0.5"`.
    pub fn number(self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", |value| number_of(value).filter(|number| number.is_finite()))
    }

    /// A whole number that must be there and at least 1.
    pub fn size(self, key: &str) -> Result<usize> {
        match self.count(key)? {
            Some(0) => Err(SaeError::config(self.path, format!("{key} is 0; it must be at least 1"))),
            Some(size) => Ok(size),
            None => Err(SaeError::config(self.path, format!("`{key}` is missing"))),
        }
    }

    /// A truth value: a boolean, 0 or 1, or `"true"` or `"false"` in any case.
    pub fn flag(self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", |value| match value {
            Value::Bool(yes) => Some(*yes),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            value => number_of(value).filter(|n| *n == 0.0 || *n == 1.0).map(|n| n == 1.0),
        })
    }

    /// A text; an empty one counts as absent.
    pub fn text(self, key: &str) -> Result<Option<&'a str>> {
        Ok(self.read(key, "a text", Value::as_str)?.filter(|text| !text.is_empty()))
    }

    fn read<T>(self, key: &str, kind: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.refused(key, value, kind))
    }

    fn refused(self, key: &str, value: &Value, kind: &str) -> SaeError {
        SaeError::config(self.path, format!("{key} is {value}; it must be {kind}"))
    }
}

/// A number, or a text that is one.
fn number_of(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// One value that stands under several keys: the first that is there, if all others that are say the same.
pub(super) fn agreed<T: PartialEq + Display>(
    path: &Path,
    found: impl IntoIterator<Item = (&'static str, Option<T>)>,
) -> Result<Option<T>> {
    let mut first: Option<(&str, T)> = None;
    for (key, value) in found {
        let Some(value) = value else { continue };
        match &first {
            None => first = Some((key, value)),
            Some((other, known)) if *known != value => {
                return Err(SaeError::config(path, format!("{other} is {known}, but {key} is {value}")));
            }
            Some(_) => {}
        }
    }
    Ok(first.map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_python_writes_bare_are_quoted_outside_strings_only() {
        let text = r#"{"NaN": NaN, "a\"NaN": [-Infinity, Infinity], "b": "is \\", "c": NaN, "é": "Infinity"}"#;
        let expected =
            json!({"NaN": "NaN", "a\"NaN": ["-Infinity", "Infinity"], "b": "is \\", "c": "NaN", "é": "Infinity"});
        assert_eq!(serde_json::from_str::<Value>(&quoting_non_finite(text)).unwrap(), expected);
        assert!(matches!(quoting_non_finite("{\"k\": 3}"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_value_is_read_in_every_type_that_tools_write_it_in() {
        let path = Path::new("cfg.json");
        let object = json!({
            "a": 32, "b": 32.0, "c": "32", "d": [32], "e": null, "t": true, "u": "True", "v": 1, "w": [false], "x": 0.0,
            "half": 0.5, "minus": -1, "nan": "NaN", "two": [1, 2], "name": "relu", "empty": "",
        });
        let keys = Keys::new(path, &object);
        for key in ["a", "b", "c", "d"] {
            assert_eq!(keys.count(key).unwrap(), Some(32), "{key}");
        }
        assert_eq!((keys.count("e").unwrap(), keys.count("absent").unwrap()), (None, None));
        for (key, yes) in [("t", true), ("u", true), ("v", true), ("w", false), ("x", false)] {
            assert_eq!(keys.flag(key).unwrap(), Some(yes), "{key}");
        }
        assert_eq!((keys.text("name").unwrap(), keys.text("empty").unwrap()), (Some("relu"), None));
        for key in ["half", "minus", "nan", "two", "name", "t"] {
            let error = keys.count(key).unwrap_err().to_string();
            assert!(error.contains(&format!("cfg.json: {key} is")) && error.contains("whole number"), "{error}");
        }
        assert!(keys.flag("a").is_err() && keys.text("a").is_err() && keys.object("a").is_err());
        assert!(keys.size("x").is_err() && keys.size("absent").is_err());
    }

    #[test]
    fn two_spellings_must_say_the_same() {
        let path = Path::new("cfg.json");
        assert_eq!(agreed(path, [("k", None), ("top_k", Some(8)), ("n", Some(8))]).unwrap(), Some(8));
        let error = agreed(path, [("k", Some(4)), ("top_k", Some(8))]).unwrap_err().to_string();
        assert!(error.ends_with("k is 4, but top_k is 8"), "{error}");
    }
}
