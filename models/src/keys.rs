//! The keys of a `config.json`, read as loosely as the ecosystem writes them: integers as floats or in quotes, null for what is not set,
//! words for yes and no, and what Python's `json` takes for a number.

use serde_json::{Map, Value};

use crate::corpus::lenient_with;

/// The keys of an object. A key that is null is not there.
pub(crate) struct Keys(Map<String, Value>);

impl Keys {
    /// Parses an object.
    ///
    /// # Errors
    /// If the text is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // What is no number stays there as a word: a key that is read as a number is then refused with it.
        let value = serde_json::from_str(text)
            .or_else(|strict| serde_json::from_slice(&lenient_with(text.as_bytes(), b"\"NaN\"")).map_err(|_| strict))
            .map_err(|e| format!("not JSON: {e}"))?;
        match value {
            Value::Object(keys) => Ok(Self(keys)),
            _ => Err("not a JSON object".to_owned()),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A key's value by some reading of it; the error names both, and what is wanted.
    fn read<T>(&self, key: &str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, String> {
        let value = self.get(key);
        value.map(|value| read(value).ok_or_else(|| format!("{key} is {value}; {wanted} is needed"))).transpose()
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, String> {
        self.read(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, String> {
        self.read(key, "a number", number)
    }

    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, String> {
        self.read(key, "a whole number from 0 on", |value| integer(value).and_then(|count| usize::try_from(count).ok()))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.read(key, "true or false", |value| match value {
            Value::Bool(yes) => Some(*yes),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => match integer(value)? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
        })
    }

    /// A token's id, or the first of a list of them; −1 stands for none.
    pub(crate) fn first_id(&self, key: &str) -> Result<Option<u32>, String> {
        let id = |value: &Value| match integer(value)? {
            -1 => Some(None),
            id => u32::try_from(id).ok().map(Some),
        };
        let found = self.read(key, "a token id or a list of them", |value| match value {
            Value::Array(values) => values.iter().find(|v| !v.is_null()).map_or(Some(None), id),
            one => id(one),
        })?;
        Ok(found.flatten())
    }

    /// A list of strings.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        self.read(key, "a list of strings", |value| {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        })
    }

    /// A list of numbers.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, String> {
        self.read(key, "a list of numbers", |value| value.as_array()?.iter().map(number).collect())
    }

    /// Whether a key is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether a key is there and null, which in some classes is not the same as its absence.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(Value::is_null)
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, String> {
        self.read(key, "an object", |value| value.as_object().cloned().map(Self))
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    Some(number).filter(|n| n.is_finite())
}

/// Integers, and floats without a fraction up to 2^53.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| number(value).filter(|n| n.fract() == 0.0 && n.abs() <= 9e15).map(|n| n as i64))
}
