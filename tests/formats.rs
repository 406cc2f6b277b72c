//! SAEs of other tools: what they encode and decode there, what conversions keep, and what is refused.

use std::path::{Path, PathBuf};

use assay_sae::{Activation, Format, SaeError, formats};
use assert_cmd::Command;
use burn::tensor::Tensor;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    Reference, assay, assert_close, bundled, copy_dir, cpu, dense, device, edit_tensors, files, golden,
    refused as refused_by, root, stdout_of, values,
};
use crate::parity_eval::{agree, expected, tolerance};

/// Every sample: its folder, the format, the architecture, the hook that it belongs to.
const SAMPLES: [(&str, Format, &str, &str); 19] = {
    use Format::{DictionaryLearning, SaeLens, Sparsify};
    const POST: &str = "blocks.1.hook_resid_post";
    [
        ("saelens-topk-l0-below-k", SaeLens, "topk", POST),
        ("saelens-standard", SaeLens, "standard", POST),
        ("saelens-jumprelu", SaeLens, "jumprelu", POST),
        ("saelens-gated", SaeLens, "gated", POST),
        ("saelens-batchtopk", SaeLens, "jumprelu", POST),
        ("saelens-matryoshka", SaeLens, "jumprelu", POST),
        ("saelens-topk-constant-norm", SaeLens, "topk", POST),
        ("saelens-gated-layer-norm", SaeLens, "gated", POST),
        ("saelens-jumprelu-expected-average", SaeLens, "jumprelu", POST),
        ("saelens-legacy-topk-bf16", SaeLens, "topk", POST),
        ("sparsify-topk", Sparsify, "topk", POST),
        ("sparsify-groupmax", Sparsify, "groupmax", "blocks.1.hook_mlp_out"),
        ("dictionary-learning-standard", DictionaryLearning, "standard", POST),
        ("dictionary-learning-standard-new", DictionaryLearning, "standard", POST),
        ("dictionary-learning-topk", DictionaryLearning, "topk", POST),
        ("dictionary-learning-batchtopk", DictionaryLearning, "jumprelu", POST),
        ("dictionary-learning-gated", DictionaryLearning, "gated", POST),
        ("dictionary-learning-jumprelu", DictionaryLearning, "jumprelu", POST),
        ("dictionary-learning-matryoshka", DictionaryLearning, "jumprelu", POST),
    ]
};

fn sample(name: &str) -> PathBuf {
    golden("formats").join(name)
}

/// The directory of a sample's SAE: the one beside `encode.safetensors`.
fn sae_dir(name: &str) -> PathBuf {
    let mut below = std::fs::read_dir(sample(name)).unwrap().map(|entry| entry.unwrap().path());
    below.find(|path| path.is_dir()).unwrap()
}

#[test]
fn every_sample_has_its_test() {
    let mut folders: Vec<String> = std::fs::read_dir(golden("formats"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut tested: Vec<&str> = SAMPLES.iter().map(|sample| sample.0).collect();
    tested.sort_unstable();
    assert_eq!(folders, tested);
}

#[test]
fn every_sample_encodes_and_decodes_as_in_its_own_tool() {
    for (name, format, architecture, hook) in SAMPLES {
        let loaded = formats::load(&sae_dir(name), &device()).unwrap();
        assert_eq!((loaded.format, loaded.sae.activation().name()), (format, architecture), "{name}");
        assert_eq!(loaded.metadata.hook_name.as_deref(), Some(hook), "{name}");
        let expected = Reference::open(sample(name).join("encode.safetensors"));
        let x: Tensor<2> = expected.tensor("x");
        let (latents, recon) = (expected.floats("latents").0, expected.floats("recon").0);
        let found = dense(&loaded.sae, x.clone());
        assert_close(&format!("{name} latents"), &found, &latents, 1e-5);
        let active = |values: &[f32]| values.iter().map(|&v| v != 0.0).collect::<Vec<bool>>();
        assert!(active(&found) == active(&latents), "{name}: other latents are active");
        let (reconstructed, code) = loaded.sae.reconstruct(x);
        assert_close(&format!("{name} recon"), &values(reconstructed), &recon, 1e-5);
        let mut of_code = vec![0.0; latents.len()];
        let d_sae = loaded.sae.d_sae();
        code.for_each_active(|token, latent, value| of_code[token * d_sae + latent] = value);
        assert_close(&format!("{name} code"), &of_code, &latents, 1e-5);
    }
}

#[test]
fn a_conversion_reconstructs_the_same_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = 0;
    for (name, ..) in SAMPLES {
        let loaded = formats::load(&sae_dir(name), &cpu()).unwrap();
        let expected = Reference::open(sample(name).join("encode.safetensors"));
        for format in Format::ALL {
            let to = dir.path().join(format!("{name}-{format}"));
            let result = formats::save(&to, format, &loaded.sae, &loaded.metadata, None);
            let gated_or_jump = matches!(loaded.sae.activation().name(), "jumprelu" | "gated" | "standard");
            let normalised = name.ends_with("-norm");
            let refused = match format {
                Format::SaeLens => name == "sparsify-groupmax",
                Format::Sparsify => gated_or_jump || normalised,
                Format::DictionaryLearning => name == "sparsify-groupmax" || normalised,
                _ => true,
            };
            if refused {
                let error = result.unwrap_err();
                assert!(matches!(error, SaeError::Inexpressible { .. }), "{error}");
                assert!(error.to_string().contains(" can"), "{error}");
                assert!(!to.exists(), "{name} to {format}: something was left behind");
                continue;
            }
            result.unwrap();
            let again = formats::load(&to, &device()).unwrap();
            assert_eq!(again.format, format, "{name}");
            assert_eq!(named(&again.metadata), named(&loaded.metadata), "{name} to {format}");
            for (key, value) in &loaded.metadata.other {
                assert_eq!(again.metadata.other.get(key), Some(value), "{name} to {format}: {key}");
            }
            let (recon, _) = again.sae.reconstruct(expected.tensor("x"));
            assert_close(&format!("{name} to {format}"), &values(recon), &expected.floats("recon").0, 1e-5);
            written += 1;
        }
    }
    assert_eq!(written, 18 + 5 + 16);
}

/// What metadata says in fields of its own.
fn named(metadata: &formats::Metadata) -> formats::Metadata {
    formats::Metadata { other: serde_json::Map::new(), ..metadata.clone() }
}

/// What is done to a copy of a sample's SAE, and what the refusal must say.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

fn refused(cases: &[Damage<'_>]) {
    for (name, change, parts) in cases {
        let (_dir, copy) = copy_of(name);
        change(&copy);
        let error = formats::load(&copy, &cpu()).unwrap_err().to_string();
        for part in *parts {
            assert!(error.contains(part), "{name}: `{part}` is not in: {error}");
        }
    }
}

fn copy_of(name: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let from = sae_dir(name);
    let to = dir.path().join(from.file_name().unwrap());
    copy_dir(&from, &to);
    (dir, to)
}

/// Sets a key of a configuration; `a.b` is b in a.
fn set(dir: &Path, file: &str, key: &str, value: Value) {
    let path = dir.join(file);
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    *key.split('.').fold(&mut config, |at, part| &mut at[part]) = value;
    std::fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn settings_that_change_the_sae_are_refused() {
    let cfg = |key: &'static str, value: Value| move |dir: &Path| set(dir, "cfg.json", key, value.clone());
    let trainer = |key: &'static str, value: Value| move |dir: &Path| set(dir, "config.json", key, value.clone());
    refused(&[
        ("saelens-standard", &cfg("architecture", "batchtopk".into()), &["batchtopk", "save_inference_model"]),
        ("saelens-standard", &cfg("architecture", "transcoder".into()), &["`d_out` is missing"]),
        ("saelens-standard", &cfg("architecture", "temporal".into()), &["`temporal`", "whole sequences"]),
        ("saelens-standard", &cfg("architecture", "crosscoder".into()), &["`crosscoder`", "jumprelu_skip_transcoder"]),
        ("saelens-standard", &cfg("reshape_activations", "hook_z".into()), &["hook_z", "not supported"]),
        ("saelens-standard", &cfg("metadata.hook_head_index", 3.into()), &["hook_head_index"]),
        ("saelens-standard", &cfg("normalize_activations", "covariance_whitening".into()), &["covariance_whitening"]),
        ("saelens-standard", &cfg("finetuning_scaling_factor", true.into()), &["finetuning_scaling_factor", "W_dec"]),
        ("saelens-legacy-topk-bf16", &cfg("activation_fn_str", "tanh-relu".into()), &["tanh-relu", "relu and topk"]),
        ("sparsify-topk", &cfg("skip_connection", true.into()), &["skip_connection", "transcode is not"]),
        ("sparsify-groupmax", &cfg("signed", true.into()), &["signed"]),
        ("sparsify-topk", &cfg("activation", "relu".into()), &["`relu`", "groupmax"]),
        ("sparsify-groupmax", &cfg("k", 7.into()), &["k 7", "multiple"]),
        (
            "dictionary-learning-topk",
            &trainer("trainer.dict_class", "CrossCoder".into()),
            &["`CrossCoder`", "GatedAutoEncoder"],
        ),
        ("dictionary-learning-topk", &trainer("trainer.k", 5.into()), &["k is 5", "say 6"]),
        ("dictionary-learning-topk", &trainer("trainer.dict_size", 65.into()), &["dict_size is 65", "64"]),
    ]);
}

#[test]
fn what_is_damaged_or_missing_is_named() {
    let cfg = |key: &'static str, value: Value| move |dir: &Path| set(dir, "cfg.json", key, value.clone());
    let weights = |dir: &Path| {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().find(|path| path.extension().is_some_and(|e| e == "safetensors")).unwrap()
    };
    let truncate = |dir: &Path| {
        let bytes = std::fs::read(weights(dir)).unwrap();
        std::fs::write(weights(dir), &bytes[..bytes.len() - 100]).unwrap();
    };
    let without =
        |tensor: &'static str| move |dir: &Path| edit_tensors(&weights(dir), |t| _ = t.remove(tensor).unwrap());
    let poisoned = |tensor: &'static str| {
        move |dir: &Path| {
            edit_tensors(&weights(dir), |t| {
                t.get_mut(tensor).unwrap().2[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
            });
        }
    };
    let flattened = |tensor: &'static str| {
        move |dir: &Path| {
            edit_tensors(&weights(dir), |t| {
                let shape = &mut t.get_mut(tensor).unwrap().1;
                *shape = vec![shape.iter().product()];
            });
        }
    };
    refused(&[
        ("saelens-jumprelu", &truncate, &["sae_weights.safetensors", "not a complete", "copy"]),
        ("sparsify-topk", &truncate, &["sae.safetensors", "not a complete"]),
        ("dictionary-learning-gated", &truncate, &["ae.safetensors", "not a complete"]),
        ("saelens-jumprelu", &without("threshold"), &["`threshold` is missing", "cfg.json"]),
        ("dictionary-learning-batchtopk", &without("threshold"), &["`threshold` is missing", "config.json"]),
        ("saelens-gated", &without("r_mag"), &["`r_mag` is missing"]),
        ("sparsify-topk", &without("encoder.bias"), &["`encoder.bias` is missing"]),
        ("saelens-topk-l0-below-k", &cfg("k", Value::Null), &["cfg.json", "`k` is missing"]),
        ("sparsify-topk", &cfg("k", Value::Null), &["cfg.json", "`k` is missing"]),
        ("sparsify-topk", &cfg("k", 321.into()), &["k is 321", "d_sae = 320"]),
        ("saelens-gated", &poisoned("b_mag"), &["`b_mag`", "NaN at element 2"]),
        ("sparsify-topk", &poisoned("W_dec"), &["`W_dec`", "NaN at element 2"]),
        ("dictionary-learning-jumprelu", &poisoned("threshold"), &["`threshold`", "NaN at element 2"]),
        ("saelens-standard", &flattened("W_dec"), &["`W_dec`", "[320, 48]", "[15360]"]),
        ("sparsify-topk", &flattened("encoder.weight"), &["`encoder.weight`", "[320, 48]"]),
        ("dictionary-learning-topk", &flattened("decoder.weight"), &["`decoder.weight`", "[24, 64]"]),
        ("dictionary-learning-topk", &flattened("encoder.weight"), &["a matrix is expected"]),
        (
            "saelens-standard",
            &|dir| std::fs::remove_file(weights(dir)).unwrap(),
            &["sae_weights.safetensors", "no SAE"],
        ),
    ]);
}

#[test]
fn pickles_are_never_read_and_the_way_out_is_shown() {
    for file in ["ae.pt", "sae_weights.pt", "model.pth", "pytorch_model.bin"] {
        let (_dir, copy) = copy_of("dictionary-learning-topk");
        std::fs::rename(copy.join("ae.safetensors"), copy.join(file)).unwrap();
        for path in [copy.clone(), copy.join(file)] {
            let error = formats::load(&path, &cpu()).unwrap_err().to_string();
            for part in [file, "config.json", "scripts/convert/dictionary_learning.py"] {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
        refused_by(assay().arg("inspect").arg(&copy), &[file, "scripts/convert/dictionary_learning.py"]);
    }
    let dir = tempfile::tempdir().unwrap();
    for (file, script) in [
        ("layer7.sae.pt", "qwen_scope.py"),
        ("Llama-3.1-8B-Instruct-SAE-l19.pth", "goodfire.py"),
        ("DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt", "goodfire.py"),
        ("gpt2-small_L0_Hcat_z.pt", "hook_z_kk.py"),
        ("ae.pt", "dictionary_learning.py"),
    ] {
        std::fs::write(dir.path().join(file), "pickle").unwrap();
        std::fs::write(dir.path().join("gpt2-small_L0_Hcat_z_cfg.json"), "{}").unwrap();
        let error = formats::load(&dir.path().join(file), &cpu()).unwrap_err().to_string();
        assert!(error.contains(&format!("python scripts/convert/{script} ")), "{error}");
        assert!(root().join("scripts/convert").join(script).is_file(), "{script}");
    }
    let (_dir, copy) = copy_of("dictionary-learning-topk");
    std::fs::rename(copy.join("ae.safetensors"), copy.join("params.npz")).unwrap();
    let error = formats::load(&copy.join("params.npz"), &cpu()).unwrap_err().to_string();
    assert!(error.contains("params.npz") && error.contains("not a complete archive"), "{error}");
}

#[test]
fn a_directory_above_lists_the_saes_below() {
    let error = formats::load(&golden("eval-small"), &cpu()).unwrap_err().to_string();
    for name in ["L3_k8 (saelens)", "L4_k32 (saelens)"] {
        assert!(error.contains(name), "{error}");
    }
    let error = formats::load(&golden("formats"), &cpu()).unwrap_err().to_string();
    assert!(error.contains("(dictionary-learning)") && error.contains("(sparsify)"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = formats::load(empty.path(), &cpu()).unwrap_err().to_string();
    assert!(error.contains("no SAE") && error.contains("ae.safetensors"), "{error}");
    let error = formats::load(&empty.path().join("gone"), &cpu()).unwrap_err().to_string();
    assert!(error.contains("no such directory"), "{error}");
}

#[test]
fn a_file_of_weights_stands_for_its_directory() {
    let (_dir, copy) = copy_of("dictionary-learning-topk");
    let is_topk = |path: &Path| {
        let loaded = formats::load(path, &cpu()).unwrap();
        assert!(matches!(loaded.sae.activation(), Activation::TopK { k: 6, .. }));
    };
    is_topk(&copy.join("ae.safetensors"));
    // The only file of weights needs no particular name.
    std::fs::rename(copy.join("ae.safetensors"), copy.join("mine.safetensors")).unwrap();
    is_topk(&copy);
}

#[test]
fn the_factor_of_a_training_checkpoint_is_folded() {
    let (_dir, copy) = copy_of("saelens-jumprelu-expected-average");
    assert_eq!(formats::load(&copy, &device()).unwrap().notes.len(), 1);
    std::fs::write(copy.join("activation_scaler.json"), "{\"scaling_factor\": 0.25}").unwrap();
    let scaled = formats::load(&copy, &device()).unwrap();
    assert!(scaled.notes.is_empty());
    let expected = Reference::open(sample("saelens-jumprelu-expected-average").join("encode.safetensors"));
    let x: Tensor<2> = expected.tensor("x");
    // Four times the input is scaled back to the input that the reference has.
    let (recon, _) = scaled.sae.reconstruct(x * 4.0);
    assert_close("folded", &values(recon / 4.0), &expected.floats("recon").0, 1e-5);
}

#[test]
fn sparsify_names_its_hook_by_directory_and_its_model_in_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("layers.7/seed1");
    copy_dir(&sae_dir("sparsify-topk"), &seed);
    std::fs::write(dir.path().join("config.json"), r#"{"model": "EleutherAI/pythia-70m", "ctx_len": 2048}"#).unwrap();
    let metadata = formats::load(&seed, &cpu()).unwrap().metadata;
    assert_eq!(metadata.hook_name.as_deref(), Some("blocks.7.hook_resid_post"));
    assert_eq!((metadata.model_name.as_deref(), metadata.context_size), (Some("EleutherAI/pythia-70m"), Some(2048)));
}

fn convert(from: &Path, to: &Path, format: Format) -> Command {
    let mut command = assay();
    command.arg("convert").arg(from).arg(to).args(["--to", format.name()]);
    command
}

/// `assay eval` on the tokens of `eval-small`.
fn eval(sae: &Path) -> Command {
    let mut command = assay();
    command.args(["eval", "--resamples", "1000", "--model"]).arg(bundled("small"));
    command.arg("--tokens").arg(golden("eval-small/tokens.safetensors")).arg("--sae").arg(sae);
    command
}

fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&stdout_of(command)).unwrap()
}

#[test]
fn an_evaluation_is_the_same_through_every_format() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["L3_k8", "L4_k32"] {
        let source = golden("eval-small").join(name);
        let mut expected = expected(&format!("eval-small/{name}"));
        expected.as_object_mut().unwrap().retain(|key, _| !key.ends_with("_2x24"));
        let original = json_of(eval(&source).args(["--json", "--fisher-samples", "1"]));
        for format in Format::WRITTEN {
            let to = dir.path().join(format!("{name}-{format}"));
            let said = json_of(convert(&source, &to, format).arg("--json"));
            assert_eq!((&said["from"], &said["to"]), (&json!("saelens"), &json!(format.name())));
            let mut found = json_of(eval(&to).args(["--json", "--fisher-samples", "1"]));
            assert_eq!(agree(&format!("{name} {format}"), &found, &expected, &tolerance), 101);
            assert_eq!(
                (&found["format"], &found["k"], &found["hook"]),
                (&json!(format.name()), &original["k"], &original["hook"])
            );
            if format == Format::SaeLens {
                // Nothing is folded, so no bit differs.
                for key in ["sae", "name"] {
                    found[key] = original[key].clone();
                }
                assert_eq!(found, original);
            }
        }
    }
}

#[test]
fn a_conversion_replaces_nothing_unasked_and_nothing_but_saes() {
    let dir = tempfile::tempdir().unwrap();
    let (source, to) = (golden("eval-small/L3_k8"), dir.path().join("layers.3"));
    stdout_of(&mut convert(&source, &to, Format::Sparsify));
    let before = files(&to);
    refused_by(&mut convert(&source, &to, Format::DictionaryLearning), &["layers.3", "--force"]);
    assert!(files(&to) == before);
    stdout_of(convert(&source, &to, Format::DictionaryLearning).arg("--force"));
    assert_eq!(formats::detect(&to).unwrap(), Some(Format::DictionaryLearning));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the staging directory is gone");

    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    refused_by(convert(&source, dir.path(), Format::Sparsify).arg("--force"), &["contains no SAE"]);
    let jump = sae_dir("saelens-jumprelu");
    let parts = ["sparsify can't express a jumprelu SAE", "saelens or dictionary-learning can"];
    refused_by(&mut convert(&jump, &dir.path().join("jump"), Format::Sparsify), &parts);
    assert!(!dir.path().join("jump").exists());
}

#[test]
fn inspect_says_what_an_sae_is() {
    let inspect = |name: &str| stdout_of(assay().arg("inspect").arg(sae_dir(name)));
    insta::assert_snapshot!("inspect_jumprelu", inspect("saelens-jumprelu-expected-average"));
    insta::assert_snapshot!("inspect_batchtopk", inspect("dictionary-learning-batchtopk"));
    insta::assert_snapshot!("inspect_layer_norm", inspect("saelens-gated-layer-norm"));
}

#[test]
fn the_output_for_saebench_has_its_keys_and_our_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let sae = golden("eval-small/L3_k8");
    let args = ["--fisher-samples", "0", "--sequences", "8"];
    let printed = stdout_of(eval(&sae).args(args).args(["--format", "saebench", "--out"]).arg(dir.path()));
    let path = dir.path().join("eval-small_L3_k8_eval_results.json");
    assert_eq!(printed.trim(), path.to_str().unwrap());
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let mut listed = format!("{}\n\neval_config: {}\n", keys(&found), keys(&found["eval_config"]));
    for (group, metrics) in found["eval_result_metrics"].as_object().unwrap() {
        listed += &format!("{group}: {}\n", keys(metrics));
    }
    listed += &format!("\ndetails: {}\n", keys(&found["eval_result_details"][0]));
    insta::assert_snapshot!("saebench_keys", listed);

    let ours = json_of(eval(&sae).args(args).arg("--json"));
    let metrics = &found["eval_result_metrics"];
    for (theirs, ours) in [
        (&metrics["model_performance_preservation"]["ce_loss_score"], &ours["ce_loss_score"]),
        (&metrics["model_performance_preservation"]["ce_loss_with_sae"], &ours["ce_recon"]),
        (&metrics["model_behavior_preservation"]["kl_div_with_sae"], &ours["kl"]),
        (&metrics["reconstruction_quality"]["explained_variance"], &ours["all"]["r2"]),
        (&metrics["sparsity"]["l0"], &ours["l0"]),
        (&metrics["misc_metrics"]["frac_alive"], &ours["alive_frac"]),
    ] {
        assert_eq!(theirs, ours);
        assert!(ours.is_number());
    }
    let score = |key: &str| metrics["model_behavior_preservation"][key].as_f64().unwrap();
    let (sae_kl, ablated) = (score("kl_div_with_sae"), score("kl_div_with_ablation"));
    assert!(sae_kl < ablated && (score("kl_div_score") - (1.0 - sae_kl / ablated)).abs() < 1e-12);
    let details = found["eval_result_details"].as_array().unwrap();
    assert_eq!(details.len(), 1024);
    let silent = details.iter().find(|latent| latent["feature_density"] == json!(0.0)).unwrap();
    assert_eq!(silent["consistent_activation_heuristic"], json!(-1.0));
    refused_by(eval(&sae).arg("--out").arg(dir.path()), &["--format saebench"]);
}

#[test]
fn text_is_enough_for_a_quick_look() {
    let mut command = assay();
    command.args(["eval", "--json", "--fisher-samples", "0", "--resamples", "100", "--context-size", "32", "--model"]);
    command
        .arg(bundled("small"))
        .arg("--sae")
        .arg(golden("eval-small/L3_k8"))
        .arg("--text")
        .arg(root().join("LICENSE-MIT"));
    let found = json_of(&mut command);
    assert_eq!(found["T"], json!(32));
    let sequences = found["S"].as_u64().unwrap();
    assert!((2..=64).contains(&sequences), "{sequences}");
    assert!(found["ce_rec"].as_f64().unwrap() < 1.0);
    assert_eq!(found["all"]["tokens"], json!(32 * sequences));
    let fewer = json_of(command.args(["--sequences", "2"]));
    assert_eq!((&fewer["S"], &fewer["verdict"]["outcome"]), (&json!(2), &json!("undecided")));
}
