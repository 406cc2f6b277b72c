//! `[[coders]]`: a class of SAE with its settings, of which those that tell SAEs apart may be lists.

use assay_probes::metrics::Subset;
use assay_sae::Architecture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::objective::ObjectiveKeys;
use crate::transcode::{Transcode, class_name};

/// The settings that may be lists: by which the sparsity of some class is set, and what SAEs are trained for.
const LISTS: [&str; 6] = ["k", "target_l0", "l0_coefficient", "l1_coefficient", "objective", "loss_tokens"];

/// SAEs of one class, `architecture`: `topk`, `groupmax`, `hierarchical`, `batchtopk`, `matryoshka`, `jumprelu`, `gated` or `standard`.
/// Beside it are the class's settings, and `objective`, `kl_share` and `loss_tokens` where they are not as in `[train]`. The objective, the
/// tokens of the loss and the settings of the sparsity (`k`, `target_l0`, `l0_coefficient`, `l1_coefficient`) may be lists, one SAE for each value. Of a hierarchical SAE, which is
/// one for all of its `ks`, there is a run at each of them, or at those that `k` lists.
///
/// `transcode = "mlp_in"`, or `"mlp_normalized"`, makes it a transcoder (`topk`, `batchtopk` and `jumprelu`): it reads that, and predicts
/// what the MLP adds to the residual stream, so that `hooks` is `["mlp_out"]`; `skip = true` puts a linear map beside its latents.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct CoderSpec {
    keys: Map<String, Value>,
    /// One for each value.
    pub coders: Vec<Coder>,
}

/// What a hook gets an SAE of, for every seed and budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Coder {
    /// The class with its settings.
    pub architecture: Architecture,
    /// What its entry says of what it is trained for.
    pub objective: ObjectiveKeys,
    /// Of a transcoder.
    pub transcode: Option<Transcode>,
    /// What its entry says of the tokens that it is trained on.
    pub loss_tokens: Option<Subset>,
}

impl Coder {
    /// What it is compared as: its class, and whether it is a transcoder.
    pub fn class(&self) -> String {
        class_name(&self.architecture, self.transcode)
    }
}

/// What an entry says of a transcoder; takes the keys out.
fn transcode(keys: &mut Map<String, Value>) -> Result<Option<Transcode>, String> {
    let known = || Transcode::READS.map(|kind| format!("\"{}\"", kind.short_name())).join(" or ");
    let skip = match keys.remove("skip") {
        None => None,
        Some(Value::Bool(skip)) => Some(skip),
        Some(other) => return Err(format!("skip = {other}: it is true or false")),
    };
    let Some(reads) = keys.remove("transcode") else {
        return match skip {
            None => Ok(None),
            Some(skip) => Err(format!(
                "skip = {skip} is of transcoders; add transcode = {}, what it reads, or remove it",
                known()
            )),
        };
    };
    let kind = reads.as_str().and_then(|name| name.parse().ok()).filter(|kind| Transcode::READS.contains(kind));
    let reads = kind.ok_or_else(|| {
        format!("transcode = {reads}: it is what a transcoder reads, {}; it predicts hooks = [\"mlp_out\"]", known())
    })?;
    Ok(Some(Transcode { reads, skip: skip.unwrap_or(false) }))
}

impl From<Architecture> for Coder {
    fn from(architecture: Architecture) -> Self {
        Self { architecture, objective: ObjectiveKeys::default(), transcode: None, loss_tokens: None }
    }
}

impl TryFrom<Map<String, Value>> for Coder {
    type Error = String;

    fn try_from(mut keys: Map<String, Value>) -> Result<Self, String> {
        let own = ["objective", "kl_share"].into_iter().filter_map(|key| keys.remove_entry(key)).collect();
        let objective = serde_json::from_value(Value::Object(own)).map_err(|error| format!("objective: {error}"))?;
        let transcode = transcode(&mut keys)?;
        let loss_tokens = match keys.remove("loss_tokens") {
            None => None,
            Some(name) => Some(serde_json::from_value(name).map_err(|error| format!("loss_tokens: {error}"))?),
        };
        let architecture = Architecture::try_from(keys).map_err(|error| error.to_string())?;
        Ok(Self { architecture, objective, transcode, loss_tokens })
    }
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
        for list in LISTS {
            if let Some(Value::Array(values)) = lists.get(list) {
                if values.is_empty() {
                    return Err(format!("[[coders]] {list}: at least one value is needed for each"));
                }
                let with = |keys: &Map<String, Value>, value: &Value| {
                    let mut keys = keys.clone();
                    keys.insert(list.to_owned(), value.clone());
                    if list == "objective" && value != "kl+mse" && values.iter().any(|other| other == "kl+mse") {
                        // Of the one in the list that has a share.
                        keys.remove("kl_share");
                    }
                    keys
                };
                all = all.iter().flat_map(|keys| values.iter().map(move |value| with(keys, value))).collect();
            }
        }
        let coders: Result<_, _> = all.into_iter().map(Coder::try_from).collect();
        Ok(Self { keys, coders: coders.map_err(|error: String| format!("[[coders]]: {error}"))? })
    }
}

impl From<CoderSpec> for Map<String, Value> {
    fn from(coder: CoderSpec) -> Self {
        coder.keys
    }
}
