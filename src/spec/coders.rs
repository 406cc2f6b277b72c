//! `[[coders]]`: a class of SAE with its settings, of which the one that sets its sparsity is a list.

use assay_sae::Architecture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The settings by which the sparsity of some class is set.
const KNOBS: [&str; 4] = ["k", "target_l0", "l0_coefficient", "l1_coefficient"];

/// SAEs of one class, `architecture`: `topk`, `groupmax`, `hierarchical`, `batchtopk`, `matryoshka`, `jumprelu`, `gated` or `standard`.
/// Beside it are the class's settings; those that set the sparsity (`k`, `target_l0`, `l0_coefficient`, `l1_coefficient`) may be lists, one
/// SAE for each value. Of a hierarchical SAE, which is one for all of its `ks`, there is a run at each of them, or at those that `k` lists.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct CoderSpec {
    keys: Map<String, Value>,
    /// One for each value.
    pub architectures: Vec<Architecture>,
}

impl TryFrom<Map<String, Value>> for CoderSpec {
    type Error = String;

    fn try_from(keys: Map<String, Value>) -> Result<Self, String> {
        let names = Architecture::NAMES.join(", ");
        if !keys.contains_key("architecture") {
            return Err(format!("[[coders]]: `architecture` is missing; one of {names}"));
        }
        let mut lists = keys.clone();
        if keys["architecture"] == "hierarchical"
            && let Some(ks) = keys.get("ks")
        {
            lists.entry("k").or_insert(ks.clone());
        }
        let mut all = vec![lists.clone()];
        for knob in KNOBS {
            if let Some(Value::Array(values)) = lists.get(knob) {
                if values.is_empty() {
                    return Err(format!("[[coders]] {knob}: at least one value is needed for each"));
                }
                let with = |keys: &Map<String, Value>, value: &Value| {
                    let mut keys = keys.clone();
                    keys.insert(knob.to_owned(), value.clone());
                    keys
                };
                all = all.iter().flat_map(|keys| values.iter().map(move |value| with(keys, value))).collect();
            }
        }
        let architectures: Result<_, _> = all.into_iter().map(Architecture::try_from).collect();
        Ok(Self { keys, architectures: architectures.map_err(|error| format!("[[coders]]: {error}"))? })
    }
}

impl From<CoderSpec> for Map<String, Value> {
    fn from(coder: CoderSpec) -> Self {
        coder.keys
    }
}
