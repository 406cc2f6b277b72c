//! Where an SAE belongs and where it comes from: what its directory says, kept as it was said.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::json::Keys;
use crate::error::{Result, SaeError};

/// The name and version that are written into files: of the program that trained or converted an SAE.
pub const PROGRAM: &str = concat!("assay ", env!("CARGO_PKG_VERSION"));

/// SAELens' name for what TransformerLens' `from_pretrained` was called with.
const KWARGS: &str = "model_from_pretrained_kwargs";

/// TransformerLens' name for subtracting the mean over d_model from the residual stream.
const CENTER: &str = "center_writing_weights";

/// The arguments of TransformerLens' `from_pretrained` that rewrite the model's weights, besides [`CENTER`].
const PROCESSING: [&str; 5] =
    ["fold_ln", "center_unembed", "refactor_factored_attn_matrices", "fold_value_biases", "process_weights"];

/// Those that name the checkpoint, which [`Metadata::revision`] gives.
const CHECKPOINT: [&str; 3] = ["revision", "checkpoint_value", "checkpoint_index"];

/// Those of TransformerLens and of transformers that say where and how weights and tokenizer are loaded, not which.
const LOADING: [&str; 20] = [
    "attn_implementation",
    "cache_dir",
    "default_padding_side",
    "default_prepend_bos",
    "device",
    "device_map",
    "dtype",
    "force_download",
    "local_files_only",
    "low_cpu_mem_usage",
    "move_to_device",
    "n_devices",
    "offload_folder",
    "proxies",
    "resume_download",
    "token",
    "tokenizer",
    "torch_dtype",
    "trust_remote_code",
    "use_safetensors",
];

/// Where an SAE belongs and where it comes from, as far as its directory says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The model's name.
    pub model_name: Option<String>,
    /// The hook point, in TransformerLens' spelling.
    pub hook_name: Option<String>,
    /// The hook point whose activation a transcoder predicts, in the same spelling; `None` of an SAE.
    pub hook_name_out: Option<String>,
    /// What text it was trained on.
    pub dataset_path: Option<String>,
    /// Tokens per context.
    pub context_size: Option<usize>,
    /// Whether each context starts with an extra token.
    pub prepend_bos: Option<bool>,
    /// Whether it was trained on activations without their mean over d_model: on a model that TransformerLens
    /// processed with `center_writing_weights`, the one processing that an evaluation can repeat.
    pub center_residual: bool,
    /// The program that trained it, where that was this one ([`PROGRAM`]).
    pub trained_with: Option<String>,
    /// The program that brought it into this format from another's.
    pub converted_by: Option<String>,
    /// Every other key, as it was read. All of them are written again.
    pub other: Map<String, Value>,
}

impl Metadata {
    /// Reads an object that has the keys of SAELens' `metadata`; `path` is its file, for errors. What a user should know goes into
    /// `notes`.
    pub(super) fn parse(path: &Path, object: &Value, notes: &mut Vec<String>) -> Result<Self> {
        let keys = Keys::new(path, object);
        let mut other = object.as_object().cloned().unwrap_or_default();
        let owned = |text: &str| text.to_owned();
        let mut this = Self {
            // Hook and model decide where the SAE is used; the rest describes, and a value of an odd type stays in `other`.
            hook_name: keys.text("hook_name")?.map(owned),
            hook_name_out: keys.text("hook_name_out")?.map(owned),
            model_name: keys.text("model_name")?.map(owned),
            dataset_path: keys.text("dataset_path").ok().flatten().map(owned),
            context_size: keys.count("context_size").ok().flatten(),
            prepend_bos: keys.flag("prepend_bos").ok().flatten(),
            trained_with: keys.text("trained_with").ok().flatten().map(owned),
            converted_by: keys.text("converted_by").ok().flatten().map(owned),
            ..Self::default()
        };
        for (key, value) in this.named() {
            if !value.is_null() {
                other.shift_remove(key);
            }
        }
        let kwargs = keys.object(KWARGS)?;
        for (key, value) in object[KWARGS].as_object().into_iter().flatten() {
            if value.is_null() || kwargs.flag(key).is_ok_and(|flag| flag == Some(false)) {
                continue;
            }
            match key.as_str() {
                CENTER => this.center_residual = kwargs.flag(CENTER)? == Some(true),
                key if PROCESSING.contains(&key) => {
                    return Err(SaeError::config(
                        path,
                        format!("{KWARGS} has {key} = {value}: the SAE was trained on a processed model, which is not supported"),
                    ));
                }
                key if CHECKPOINT.contains(&key) || LOADING.contains(&key) => {}
                _ => notes.push(format!(
                    "{KWARGS} has {key} = {value}, which is not known here: if it changes the model, the SAE belongs to the changed one"
                )),
            }
        }
        this.other = other;
        Ok(this)
    }

    /// Keeps a tool's whole configuration under the tool's name, if it is the tool's own and not one that was converted to its format.
    pub(super) fn keep_source(&mut self, tool: &str, config: &Value) {
        if self.converted_by.is_none() && !self.other.contains_key(tool) {
            let mut config = config.as_object().cloned().unwrap_or_default();
            config.shift_remove("metadata");
            self.other.insert(tool.to_owned(), Value::Object(config));
        }
    }

    /// The checkpoint of the model that the SAE was trained on, if it is said: a revision, or `step` and the step that
    /// TransformerLens' `checkpoint_value` names, as Pythia calls its revisions.
    pub fn revision(&self) -> Option<String> {
        let kwargs = &self.other.get(KWARGS)?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let said = |key: &str| Some(&kwargs[key]).filter(|value| !value.is_null()).map(text);
        said("revision")
            .or_else(|| said("checkpoint_value").map(|step| format!("step{step}")))
            .or_else(|| said("checkpoint_index").map(|index| format!("checkpoint_index {index}")))
    }

    /// The keys that have a field, with null for what is not known.
    fn named(&self) -> [(&'static str, Value); 8] {
        [
            ("model_name", json!(self.model_name)),
            ("hook_name", json!(self.hook_name)),
            ("hook_name_out", json!(self.hook_name_out)),
            ("dataset_path", json!(self.dataset_path)),
            ("context_size", json!(self.context_size)),
            ("prepend_bos", json!(self.prepend_bos)),
            ("trained_with", json!(self.trained_with)),
            ("converted_by", json!(self.converted_by)),
        ]
    }

    /// The object that [`Self::parse`] reads. What is not known is null, and nothing is claimed that was not read or done.
    pub(super) fn json(&self) -> Value {
        let mut all: Map<String, Value> =
            self.named().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for key in ["hook_name_out", "trained_with", "converted_by"] {
            if all[key].is_null() {
                all.shift_remove(key);
            }
        }
        all.extend(self.other.clone());
        // SAELens' evaluation passes it on as keyword arguments, so it is always an object.
        let kwargs = all.entry(KWARGS).or_insert(Value::Null);
        if !kwargs.is_object() {
            *kwargs = json!({});
        }
        if self.center_residual {
            kwargs[CENTER] = json!(true);
        }
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(object: &Value) -> (Result<Metadata>, Vec<String>) {
        let mut notes = Vec::new();
        let metadata = Metadata::parse(Path::new("cfg.json"), object, &mut notes);
        (metadata, notes)
    }

    #[test]
    fn what_was_read_is_written_again() {
        let object = json!({
            "model_name": "m", "hook_name": "blocks.0.hook_resid_post", "dataset_path": ["a", "b"], "context_size": 128.0,
            "prepend_bos": "sometimes", "seqpos_slice": [null], "trained_with": "other 2", "neuronpedia_id": null,
            "model_from_pretrained_kwargs": {"center_writing_weights": true, "dtype": "bfloat16"},
        });
        let (metadata, notes) = parse(&object);
        let metadata = metadata.unwrap();
        assert_eq!((metadata.context_size, metadata.prepend_bos, metadata.center_residual), (Some(128), None, true));
        assert!(notes.is_empty(), "{notes:?}");
        let written = metadata.json();
        for (key, value) in object.as_object().unwrap() {
            let equal = if key == "context_size" { written[key] == json!(128) } else { written[key] == *value };
            assert!(equal, "{key}: {}", written[key]);
        }
        assert!(written.get("converted_by").is_none());
        assert_eq!(parse(&written).0.unwrap(), metadata);
    }

    #[test]
    fn what_is_not_known_is_null_and_not_invented() {
        let written = Metadata::default().json();
        assert_eq!((&written["prepend_bos"], &written["model_name"]), (&Value::Null, &Value::Null));
        assert_eq!(written["model_from_pretrained_kwargs"], json!({}));
        assert!(written.get("trained_with").is_none() && written.get("sae_lens_training_version").is_none());
    }

    #[test]
    fn arguments_that_load_a_model_are_no_processing_of_it() {
        let of = |kwargs: Value| parse(&json!({ "model_from_pretrained_kwargs": kwargs }));
        for (kwargs, revision) in [
            (json!({"checkpoint_value": 3000}), Some("step3000")),
            (json!({"revision": "step512", "dtype": "float16"}), Some("step512")),
            (json!({"checkpoint_index": 4}), Some("checkpoint_index 4")),
            (
                json!({"n_devices": 2, "device_map": {"a": 0}, "default_prepend_bos": true, "trust_remote_code": true}),
                None,
            ),
            (json!({"fold_ln": false, "center_unembed": 0, "fold_value_biases": null}), None),
        ] {
            let (metadata, notes) = of(kwargs.clone());
            assert_eq!(metadata.unwrap().revision().as_deref(), revision, "{kwargs}");
            assert!(notes.is_empty(), "{kwargs}: {notes:?}");
        }
        let (metadata, notes) = of(json!({"first_n_layers": 3}));
        assert!(metadata.is_ok() && notes[0].contains("first_n_layers = 3"), "{notes:?}");
        for key in PROCESSING {
            let error = of(json!({ key: true })).0.unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("processed model"), "{error}");
        }
        assert!(of(json!("none")).0.is_err());
    }
}
