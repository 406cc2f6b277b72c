//! Of YAML, what configurations of transcoders need: the texts and numbers at the top of a document.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Result, SaeError};

/// The keys at the top of a YAML file whose value is a text, number or truth value on the same line; lists and what is nested are left
/// out.
///
/// # Errors
/// If it can't be read, or a value is something that YAML has more ways to write: an anchor, a tag, a block of lines.
pub(super) fn read_yaml(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|e| SaeError::read(path, e))?;
    let text = std::str::from_utf8(&bytes).map_err(|e| SaeError::config(path, format!("not UTF-8 text: {e}")))?;
    let mut all = Map::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        // Comments, list items and nested lines have no key in the first column.
        if line.starts_with([' ', '\t', '#', '-', '%', '.', '}', ']']) || line.trim().is_empty() {
            continue;
        }
        let Some((key, value)) =
            line.split_once(':').filter(|(_, value)| value.is_empty() || value.starts_with([' ', '\t']))
        else {
            return Err(SaeError::config(path, format!("`{line}` is no line `key: value`")));
        };
        let value = scalar(value.trim()).ok_or_else(|| {
            SaeError::config(path, format!("`{line}`: write its value as a plain or quoted text on the same line"))
        })?;
        if all.insert(key.trim_matches(['"', '\'']).to_owned(), value).is_some() {
            return Err(SaeError::config(path, format!("`{key}` is there twice")));
        }
    }
    Ok(Value::Object(all))
}

/// A value; null for none, and for what stands in brackets or on the lines that follow.
fn scalar(text: &str) -> Option<Value> {
    let quoted = |quote: char| -> Option<Value> {
        let (inside, rest) = text[1..].split_once(quote)?;
        let plain = !inside.contains('\\') && (rest.trim().is_empty() || rest.trim_start().starts_with('#'));
        plain.then(|| inside.into())
    };
    match text.chars().next() {
        None | Some('#' | '[' | '{') => Some(Value::Null),
        Some('&' | '*' | '!' | '|' | '>' | '@' | '`') => None,
        Some(quote @ ('"' | '\'')) => quoted(quote),
        Some(_) => {
            let plain = text.split(" #").next().unwrap_or_default().trim_end();
            let number = plain.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from);
            Some(match plain {
                "null" | "~" => Value::Null,
                "true" => true.into(),
                "false" => false.into(),
                plain => number.unwrap_or_else(|| plain.into()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        read_yaml(&path)
    }

    #[test]
    fn the_top_of_a_document_is_read() {
        let text = "# a set\n---\nmodel_name: \"meta-llama/Llama-3.2-1B\"\nfeature_input_hook: 'hook_resid_mid' # before\n\
                    feature_output_hook: mlp.hook_out\nscan: null\nn: 16\nshare: 0.5\nlazy: true\n\ntranscoders:\n  - id: \"a: b\"\n    layer: 0\n- x\n";
        let expected = json!({
            "model_name": "meta-llama/Llama-3.2-1B", "feature_input_hook": "hook_resid_mid",
            "feature_output_hook": "mlp.hook_out", "scan": null, "n": 16.0, "share": 0.5, "lazy": true, "transcoders": null,
        });
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("").unwrap(), json!({}));
        assert_eq!(read("url: http://a/b#c\n").unwrap(), json!({"url": "http://a/b#c"}));
    }

    #[test]
    fn what_would_be_misread_is_refused() {
        for text in ["a: &x 1\n", "a: |\n  b\n", "a: \"b\\n\"\n", "a: \"b\n", "no key\n", "a: 1\na: 2\n", "a:1\n"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
