//! The training step of every class against SAELens, and what is saved of it (`tests/golden/README.md`).
//!
//! Each folder of `classes/`, or of the directory that `ASSAY_GOLDEN_CLASSES` names, is one training. Its `config.json` is read key by key:
//! one that asks for something else than what is trained here fails by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assay_sae::config::Hierarchical;
use assay_sae::{Architecture, Format, Metadata, Recipe, Sae, TrainConfig, Trainer, formats};
use burn::tensor::Tensor;
use serde_json::{Map, Value, json};

use crate::common::{Reference, assert_close, dense, device, golden, values};

const TOLERANCE: f64 = 1e-5;

/// Compares with a reference, of which zeros are met exactly.
#[track_caller]
fn assert_alike(what: &str, ours: &[f32], reference: &[f32]) {
    if reference.iter().all(|&value| value == 0.0) {
        assert!(ours.iter().all(|&value| value == 0.0), "{what} is not 0");
    } else {
        assert_close(what, ours, reference, TOLERANCE);
    }
}

/// SAELens' keys, each to be taken once.
struct Keys {
    of: String,
    keys: Map<String, Value>,
}

impl Keys {
    fn take(&mut self, key: &str) -> Value {
        self.keys.remove(key).unwrap_or_else(|| panic!("{}: `{key}` is missing", self.of))
    }

    fn number(&mut self, key: &str) -> f64 {
        let value = self.take(key);
        value.as_f64().unwrap_or_else(|| panic!("{}: `{key}` is {value}", self.of))
    }

    fn size(&mut self, key: &str) -> usize {
        let value = self.take(key);
        value.as_u64().unwrap_or_else(|| panic!("{}: `{key}` is {value}", self.of)) as usize
    }

    fn flag(&mut self, key: &str) -> bool {
        let value = self.take(key);
        value.as_bool().unwrap_or_else(|| panic!("{}: `{key}` is {value}", self.of))
    }

    /// A key that must have that value, or not be there.
    fn only(&mut self, key: &str, value: &Value) {
        let found = self.keys.remove(key).unwrap_or_else(|| value.clone());
        assert_eq!(found, *value, "{}: `{key}` = {found} is not implemented", self.of);
    }

    fn end(self) {
        let left: Vec<&String> = self.keys.keys().collect();
        assert!(left.is_empty(), "{}: {left:?} are not implemented", self.of);
    }
}

/// The settings of a training that SAELens' configuration describes.
fn settings(dir: &Path) -> TrainConfig {
    let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let Value::Object(whole) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    let mut top = Keys { of: dir.display().to_string(), keys: whole };
    let object = |value: Value| value.as_object().unwrap().clone();
    let (own, all) = (object(top.take("settings")), object(top.take("defaults")));
    for (key, value) in &own {
        assert_eq!(all.get(key), Some(value), "{}: `{key}`", top.of);
    }
    let mut keys = Keys { of: top.of.clone(), keys: all };
    let (d_model, d_sae, batch) = (top.size("d_in"), top.size("d_sae"), top.size("batch"));
    keys.only("d_in", &json!(d_model));
    keys.only("d_sae", &json!(d_sae));
    for (key, value) in [
        ("dtype", json!("float32")),
        ("device", json!("cpu")),
        ("reshape_activations", json!("none")),
        ("normalize_activations", json!("none")),
    ] {
        keys.only(key, &value);
    }
    // How weights were drawn that are given here, and how codes are held.
    keys.number("decoder_init_norm");
    keys.keys.remove("use_sparse_activations");

    let name = top.take("architecture");
    let mut class = Map::new();
    let mut put = |key: &str, value: Value| class.insert(key.to_owned(), value);
    let mut aux = None;
    match name.as_str().unwrap() {
        name @ ("batchtopk" | "matryoshka_batchtopk") => {
            put("k", keys.take("k"));
            put("threshold_lr", keys.take("topk_threshold_lr"));
            aux = Some((keys.number("aux_loss_coefficient"), keys.flag("rescale_acts_by_decoder_norm")));
            if name == "batchtopk" {
                put("architecture", json!("batchtopk"));
            } else {
                put("architecture", json!("matryoshka"));
                put("widths", keys.take("matryoshka_widths"));
                put("aux_by_level", keys.take("use_matryoshka_aux_loss"));
            }
        }
        "jumprelu" => {
            put("architecture", json!("jumprelu"));
            put("l0_coefficient", keys.take("l0_coefficient"));
            put("l0_warmup_steps", keys.take("l0_warm_up_steps"));
            put("bandwidth", keys.take("jumprelu_bandwidth"));
            put("init_threshold", keys.take("jumprelu_init_threshold"));
            put("ste_to_input", keys.take("jumprelu_ste_to_input"));
            put("pre_act_coefficient", keys.keys.remove("pre_act_loss_coefficient").unwrap_or(json!(0.0)));
            // Those of another loss than the one that is chosen have no effect.
            let (scale, target) = (keys.take("jumprelu_tanh_scale"), keys.keys.remove("target_l0"));
            let sparsity = keys.take("jumprelu_sparsity_loss_mode");
            match sparsity.as_str().unwrap() {
                "tanh" => _ = put("tanh_scale", scale),
                "quadratic" => _ = put("target_l0", target.unwrap()),
                _ => {}
            }
            put("sparsity", sparsity);
        }
        name @ ("gated" | "standard") => {
            put("architecture", json!(name));
            put("l1_coefficient", keys.take("l1_coefficient"));
            put("l1_warmup_steps", keys.take("l1_warm_up_steps"));
            if name == "standard" {
                put("lp_norm", keys.take("lp_norm"));
            }
        }
        other => panic!("{}: `architecture` = {other} is not implemented", top.of),
    }
    let architecture = Architecture::try_from(class).unwrap();
    let recipe = TrainConfig::from_recipe(Recipe::Saelens, d_model, d_sae, architecture, batch, 1_000_000);
    let (aux_coefficient, rescale) = aux.unwrap_or((0.0, false));
    let config = TrainConfig {
        lr: top.number("lr"),
        dead_after: top.take("dead_feature_window_steps").as_u64().unwrap() * batch as u64,
        aux_coefficient,
        rescale_acts_by_decoder_norm: rescale,
        apply_b_dec_to_input: keys.flag("apply_b_dec_to_input"),
        clip_norm: top.number("clip_grad_norm"),
        ..recipe
    };
    let adam = json!([config.adam_beta1, config.adam_beta2, config.adam_eps]);
    top.only("adam", &adam);
    for told in ["sae_lens", "torch", "steps"] {
        top.take(told);
    }
    top.end();
    keys.end();
    config
}

/// SAELens' name of b_enc.
fn bias(config: &TrainConfig) -> &'static str {
    if matches!(config.architecture, Architecture::Gated(_)) { "b_gate" } else { "b_enc" }
}

/// A trainer at the trace's start. Every tensor of it has a place.
fn start(config: &TrainConfig, trace: &Reference) -> Trainer {
    let matrix = |name: &str| trace.tensor::<2>(&format!("init.{name}"));
    let vector = |name: &str| trace.tensor::<1>(&format!("init.{name}"));
    let mut known = vec!["W_enc", "W_dec", "b_dec", bias(config)];
    let weights = [matrix("W_enc").transpose(), matrix("W_dec")];
    let mut trainer = Trainer::from_weights(config.clone(), weights, [vector(bias(config)), vector("b_dec")]).unwrap();
    for (name, _) in trainer.vectors() {
        trainer = trainer.with_vector(name, vector(name)).unwrap();
        known.push(name);
    }
    if trainer.threshold().is_some() {
        assert_eq!(trace.floats("init.topk_threshold").0, [0.0]);
        known.push("topk_threshold");
    }
    if trainer.skip().is_some() {
        assert!(trace.floats("init.W_skip").0.iter().all(|&w| w == 0.0));
        known.push("W_skip");
    }
    for name in trace.names() {
        let Some(name) = name.strip_prefix("init.") else { continue };
        assert!(known.contains(&name), "{name} has no place");
    }
    trainer
}

/// Takes the steps of a trace.
fn follow(dir: &Path, config: TrainConfig) -> Trainer {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let trace = Reference::open(dir.join("trace.safetensors"));
    let mut trainer = start(&config, &trace);
    let batches: Tensor<3> = trace.tensor("batches");
    let [steps, batch, d] = batches.dims();
    let terms: Vec<String> =
        trace.names().into_iter().filter_map(|n| Some(n.strip_prefix("loss.")?.to_owned())).collect();
    let expected = |what: &str| trace.floats(what).0;
    let numbers = |what: &str| match what {
        "n_dead" => trace.integers(what).into_iter().map(|n| n as f32).collect(),
        _ => expected(what),
    };
    for step in 0..steps {
        let near = |what: &str, ours: f64, reference: f32| {
            let difference = (ours - f64::from(reference)).abs();
            let bound = TOLERANCE * f64::from(reference).abs();
            assert!(difference <= bound, "{name}, step {step}: {what} is {ours}, not {reference}");
        };
        near("n_dead", trainer.n_dead() as f64, numbers("n_dead")[step]);
        let of_step = |all: &Tensor<3>| all.clone().slice([step..step + 1, 0..batch, 0..d]).reshape([batch, d]);
        let loss = if config.task.is_autoencoder() {
            let loss = trainer.step_watched(of_step(&batches));
            near("l0", loss.l0().unwrap(), expected("l0")[step]);
            loss
        } else {
            trainer.step_towards(of_step(&batches), of_step(&trace.tensor("targets")))
        };
        near("total", loss.total(), expected("total")[step]);
        for term in &terms {
            let ours = if term == "mse_loss" {
                loss.reconstruction()
            } else {
                loss.terms().filter(|(kind, _)| kind.to_string() == *term).map(|(_, value)| value).sum()
            };
            near(term, ours, expected(&format!("loss.{term}"))[step]);
        }
        let unknown = loss.terms().find(|(kind, _)| !terms.contains(&kind.to_string()));
        assert!(unknown.is_none(), "{name}: {unknown:?} is no term of SAELens");
    }

    let ([w_enc, w_dec], [b_enc, b_dec]) = (trainer.weights(), trainer.biases());
    let mut found = vec![
        ("W_enc", values(w_enc.transpose())),
        ("W_dec", values(w_dec)),
        (bias(&config), values(b_enc)),
        ("b_dec", values(b_dec)),
    ];
    found.extend(trainer.vectors().into_iter().map(|(name, vector)| (name, values(vector))));
    found.extend(trainer.threshold().map(|threshold| ("topk_threshold", vec![threshold as f32])));
    found.extend(trainer.skip().map(|skip| ("W_skip", values(skip))));
    let finals = trace.names().into_iter().filter(|name| name.starts_with("final.")).count();
    assert_eq!(found.len(), finals, "{name}: every final tensor is compared");
    for (what, ours) in found {
        assert_alike(&format!("{name} {what}"), &ours, &expected(&format!("final.{what}")));
    }
    trainer
}

/// What SAELens saves for inference is what is saved here, and read of its file.
fn assert_saved_alike(dir: &Path, trainer: &Trainer) {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let out = tempfile::tempdir().unwrap();
    formats::save(out.path(), Format::SaeLens, &trainer.sae(), &Metadata::default(), None).unwrap();
    let saved = formats::load(out.path(), &device()).unwrap().sae;
    let theirs = formats::load(&dir.join("sae"), &device()).unwrap().sae;
    let expected = Reference::open(dir.join("encode.safetensors"));
    let x: Tensor<2> = expected.tensor("x");
    let check = |what: &str, sae: &Sae| {
        assert_alike(&format!("{name} {what} latents"), &dense(sae, x.clone()), &expected.floats("latents").0);
        let recon = values(sae.reconstruct(x.clone()).0);
        assert_alike(&format!("{name} {what} recon"), &recon, &expected.floats("recon").0);
    };
    check("ours", &trainer.sae());
    check("saved", &saved);
    check("theirs", &theirs);
    assert_eq!(layout(out.path().to_owned()), layout(dir.join("sae")), "{name}");
}

/// All by which SAELens knows how to load an SAE: `cfg.json` but for its metadata, and the tensors' names and shapes.
pub fn layout(sae: PathBuf) -> (Map<String, Value>, BTreeMap<String, Vec<usize>>) {
    let text = std::fs::read_to_string(sae.join("cfg.json")).unwrap();
    let mut cfg: Map<String, Value> = serde_json::from_str(&text).unwrap();
    cfg.remove("metadata").unwrap();
    let weights = Reference::open(sae.join("sae_weights.safetensors"));
    let shape = |name: String| (name.clone(), weights.floats(&name).1);
    (cfg, weights.names().into_iter().map(shape).collect())
}

fn folders() -> Vec<PathBuf> {
    let root = std::env::var_os("ASSAY_GOLDEN_CLASSES").map_or_else(|| golden("classes"), PathBuf::from);
    let entries = std::fs::read_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("config.json").is_file()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} has no traces", root.display());
    folders
}

#[test]
fn training_of_every_class_reproduces_its_trace() {
    let mut failed = Vec::new();
    for dir in folders() {
        if std::panic::catch_unwind(|| assert_saved_alike(&dir, &follow(&dir, settings(&dir)))).is_err() {
            failed.push(dir);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// SAELens has no such class: the traces are of torch, with the paper's loss.
#[test]
fn training_of_a_hierarchical_sae_reproduces_its_trace() {
    for name in ["hierarchical", "hierarchical-one-by-one"] {
        let text = std::fs::read_to_string(golden(name).join("config.json")).unwrap();
        let config: TrainConfig = serde_json::from_str(&text).unwrap();
        let Architecture::Hierarchical(class) = &config.architecture else { panic!("{text}") };
        let trainer = follow(&golden(name), config.clone());
        for &k in &class.ks {
            let architecture = Architecture::Hierarchical(Hierarchical { k, ..class.clone() });
            assert_eq!(trainer.sae_as(&TrainConfig { architecture, ..config.clone() }).k(), Some(k));
        }
    }
}

/// By sparsify's own modules, which also say how a transcoder is kept.
#[test]
fn training_of_a_transcoder_reproduces_its_trace() {
    for name in ["transcoder-topk", "transcoder-topk-skip"] {
        let text = std::fs::read_to_string(golden(name).join("config.json")).unwrap();
        let trainer = follow(&golden(name), serde_json::from_str(&text).unwrap());
        let expected = Reference::open(golden(name).join("encode.safetensors"));
        let recon = trainer.sae().reconstruct(expected.tensor("x")).0;
        assert_alike(name, &values(recon), &expected.floats("recon").0);
        let out = tempfile::tempdir().unwrap();
        formats::save(out.path(), Format::Sparsify, &trainer.sae(), &Metadata::default(), None).unwrap();
        let [ours, theirs] = [out.path().to_owned(), golden(name).join("sae")].map(|dir| {
            let cfg: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("cfg.json")).unwrap()).unwrap();
            let computes = ["activation", "num_latents", "k", "skip_connection", "transcode", "d_in"];
            let weights = Reference::open(dir.join("sae.safetensors"));
            let shapes: BTreeMap<_, _> =
                weights.names().into_iter().map(|name| (name.clone(), weights.floats(&name).1)).collect();
            (computes.map(|key| cfg[key].clone()), shapes)
        });
        assert_eq!(ours, theirs, "{name}");
    }
}

/// A configuration that asks for what is not trained here fails by its key.
#[test]
fn what_is_not_implemented_is_refused_by_key() {
    let dir = golden("classes/train-standard");
    let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
    for (from, to, key) in [
        ("\"normalize_activations\": \"none\"", "\"normalize_activations\": \"layer_norm\"", "normalize_activations"),
        ("\"lp_norm\"", "\"noise\": 0.1, \"lp_norm\"", "noise"),
        ("\"clip_grad_norm\"", "\"lr_decay_steps\": 3, \"clip_grad_norm\"", "lr_decay_steps"),
        ("\"architecture\": \"standard\"", "\"architecture\": \"temporal\"", "temporal"),
    ] {
        assert!(text.contains(from));
        let out = tempfile::tempdir().unwrap();
        std::fs::write(out.path().join("config.json"), text.replace(from, to)).unwrap();
        let panic = std::panic::catch_unwind(|| settings(out.path())).unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        assert!(said.contains(key) && said.contains("not implemented"), "{said}");
    }
}
