//! In what two descriptions of what a directory holds differ, as somebody can act on it.

use serde_json::Value;

/// What is said of a value that is a hash.
const HASHES: [(&str, &str); 3] = [
    ("weights", "the model has other weights"),
    ("sae_weights", "the SAE has other weights"),
    ("tokens", "it is another text, or other tokens"),
];

/// What follows where sequences are cut otherwise: the hash of all tokens, the rows, and the contexts of a pass, which are chosen by their length.
const FOLLOWS: [&str; 3] = ["tokens", "shape", "batch"];

/// Of two objects with the same keys: settings with both values, then in words what is known by a hash. What follows from another difference
/// goes without saying.
pub fn differences(there: &Value, here: &Value) -> String {
    let all = here.as_object().into_iter().flatten();
    let differs: Vec<(&str, &Value)> =
        all.filter(|(key, value)| there[*key] != **value).map(|(key, value)| (key.as_str(), value)).collect();
    let is_cut_otherwise = differs.iter().any(|(key, _)| ["sequences", "context_size"].contains(key));
    let (mut settings, mut words) = (Vec::new(), Vec::new());
    for (key, value) in differs.into_iter().filter(|(key, _)| !(is_cut_otherwise && FOLLOWS.contains(key))) {
        match HASHES.iter().find(|(hash, _)| *hash == key) {
            Some((_, said)) => words.push((*said).to_owned()),
            None => settings.push(format!("{key} is {} there, {value} here", there[key])),
        }
    }
    settings.append(&mut words);
    settings.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_said_and_hashes_are_not() {
        let there = json!({ "weights": "1", "tokens": "0fea", "sequences": 40, "batch": 8, "hook": "a" });
        let said = |change: &[(&str, Value)]| {
            let mut here = there.clone();
            change.iter().for_each(|(key, value)| here[*key] = value.clone());
            differences(&there, &here)
        };
        assert_eq!(said(&[("tokens", json!("f795"))]), "it is another text, or other tokens");
        assert_eq!(
            said(&[("tokens", json!("f795")), ("sequences", json!(20)), ("batch", json!(1))]),
            "sequences is 40 there, 20 here"
        );
        assert_eq!(said(&[("batch", json!(1))]), "batch is 8 there, 1 here", "it changes how numbers are rounded");
        assert_eq!(
            said(&[("weights", json!("2")), ("hook", json!("b"))]),
            "hook is \"a\" there, \"b\" here; the model has other weights"
        );
    }
}
