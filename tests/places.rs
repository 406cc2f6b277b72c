//! Where `assay eval` puts SAEs and transcoders: as their files say, and as the command line says instead.

use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use assay_models::{Decoder, HookKind, HookPoint, Site};
use assay_probes::metrics::{Subset, metric};
use assay_probes::{EvalConfig, Subject, Survey, evaluate};
use assay_sae::{Activation, Format, Metadata, Sae, Transcoding, formats};
use assert_cmd::Command;
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, s};
use serde_json::Value;

use crate::common::{Reference, assay, bundled, cpu, golden, refused, stdout_of, write_tokens};

/// `[rows, columns]`, without meaning.
fn wave(rows: usize, columns: usize, scale: f32) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * columns).map(|at| (at as f32 * 0.71 + 0.3).sin() * scale).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &cpu())
}

/// An SAE with JumpReLU.
fn sae(d_in: usize, d_out: usize) -> Sae {
    let activation = Activation::JumpRelu { threshold: Tensor::full([32], 0.1, &cpu()) };
    let biases = [Tensor::zeros([32], &cpu()), Tensor::full([d_out], 0.01, &cpu())];
    Sae::new([wave(32, d_in, 0.1), wave(32, d_out, 0.2)], biases, activation, false)
}

fn transcoder(d_model: usize) -> Sae {
    sae(d_model, d_model).transcoding(Transcoding { skip: Some(wave(d_model, d_model, 0.02)) })
}

/// The SAE as SAELens keeps it, with what its files say of hooks.
fn saved(dir: &Path, name: &str, sae: &Sae, hook: Option<&str>, hook_out: Option<&str>) -> PathBuf {
    let path = dir.join(name);
    let owned = |name: Option<&str>| name.map(str::to_owned);
    let metadata = Metadata { hook_name: owned(hook), hook_name_out: owned(hook_out), ..Metadata::default() };
    formats::save(&path, Format::SaeLens, sae, &metadata, None).unwrap();
    path
}

fn eval(model: &Path, tokens: &Path, sae: &Path) -> Command {
    let mut command = assay();
    command.args(["eval", "--resamples", "100", "--fisher-samples", "0", "--model"]).arg(model);
    command.arg("--tokens").arg(tokens).arg("--sae").arg(sae);
    command
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&stdout_of(command.arg("--json"))).unwrap()
}

/// Tokens of a golden model, as a file.
fn tokens(dir: &Path, name: &str) -> (PathBuf, Array2<u32>) {
    let tokens = Reference::open(golden(name)).tokens("tokens");
    let tokens = tokens.slice(s![..2, ..24]).to_owned();
    let path = dir.join("tokens.safetensors");
    write_tokens(&path, &tokens.mapv(i64::from));
    (path, tokens)
}

/// The loss with an SAE patched in, by the library.
fn ce_recon(model: &Path, tokens: &Array2<u32>, subject: Subject<'_>) -> f64 {
    let model = Decoder::load(model, &cpu()).unwrap();
    let survey = Survey::new(&model, tokens.view(), &[subject.site], &[], 8, |_| Continue(())).unwrap();
    let config = EvalConfig { fisher_samples: 0, fisher_seed: 0, kl_zero: false };
    let found = evaluate(&survey, &mut [subject], config, |_| Continue(())).unwrap().remove(0);
    (metric("ce_recon").unwrap().value)(&found.total(Subset::All)).unwrap()
}

#[test]
fn heads_are_read_without_the_values_biases_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("families/gpt2");
    let (path, tokens) = tokens(dir.path(), "families/gpt2/expected.safetensors");
    let z = HookPoint { layer: 1, kind: HookKind::Z };
    let width = z.width(Decoder::load(&model, &cpu()).unwrap().config());
    let sae = sae(width, width);
    let path_of = saved(dir.path(), "z", &sae, Some("blocks.1.attn.hook_z"), None);
    let plain = json(&mut eval(&model, &path, &path_of));
    let without = json(eval(&model, &path, &path_of).arg("--without-value-bias"));
    assert_eq!((&plain["without_value_bias"], &without["without_value_bias"]), (&false.into(), &true.into()));
    for (found, without_value_bias) in [(&plain, false), (&without, true)] {
        let site = Site { without_value_bias, ..z.into() };
        assert_eq!(found["ce_recon"].as_f64().unwrap(), ce_recon(&model, &tokens, Subject::new(site, &sae)));
        assert_eq!((&found["hook"], &found["hook_out"]), (&"blocks.1.attn.hook_z".into(), &Value::Null));
    }
    // Zeros leave the biases there; the loss of the model itself is what it was, but for rounding.
    assert!(plain["ce_zero"] != without["ce_zero"] && plain["ce_recon"] != without["ce_recon"]);
    let [a, b] = [&plain, &without].map(|found| found["ce_orig"].as_f64().unwrap());
    assert!((a - b).abs() < 1e-5 * a, "{a} {b}");
    let table = stdout_of(eval(&model, &path, &path_of).arg("--without-value-bias=true"));
    assert!(table.contains("at blocks.1.attn.hook_z, without the values' biases"), "{table}");
    let table = stdout_of(eval(&model, &path, &path_of).arg("--without-value-bias=false"));
    assert!(!table.contains("biases"), "{table}");
}

#[test]
fn places_that_cannot_be_are_refused_before_tokens_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (small, tokens) = (bundled("small"), Path::new("there-are-none.parquet"));
    let resid = saved(dir.path(), "resid", &sae(128, 128), Some("blocks.3.hook_resid_post"), None);
    let narrow = saved(dir.path(), "narrow", &sae(96, 96), Some("blocks.3.hook_mlp_out"), None);
    let nowhere = saved(dir.path(), "nowhere", &sae(128, 128), None, None);
    let before = saved(dir.path(), "before", &sae(128, 128), Some("blocks.3.hook_mlp_in"), None);
    for (sae, more, parts) in [
        (&resid, &["--hook-out", "blocks.3.hook_mlp_out"][..], &["--hook-out", "no transcoder", "--hook alone"][..]),
        (&resid, &["--without-value-bias"], &["blocks.3.hook_resid_post", "only attn.hook_z"]),
        (&resid, &["--hook", "blocks.3.mlp.hook_in", "--center-residual"], &["mlp.hook_in can't be centred"]),
        (&narrow, &[], &["narrow", "d_in is 96", "blocks.3.hook_mlp_out of the model is 128 wide"]),
        (&nowhere, &[], &["names no hook_name", "give --hook blocks.L.hook_resid_post"]),
        (&before, &[], &["`blocks.3.hook_mlp_in`", "none of this model's", "--hook"]),
        (&resid, &["--hook", "blocks.3.hook_mlp_in"], &["hook_mlp_in"]),
    ] {
        let output = eval(&small, tokens, sae).args(more).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{message}");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}

#[test]
fn a_transcoder_is_evaluated_between_the_hooks_that_its_files_name() {
    let dir = tempfile::tempdir().unwrap();
    let small = bundled("small");
    let (path, tokens) = tokens(dir.path(), "eval-small/tokens.safetensors");
    let of = transcoder(128);
    let (reads, writes) = ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out");
    let sae = saved(dir.path(), "transcoder", &of, Some(reads), Some(writes));
    let at = |kind| HookPoint { layer: 3, kind };
    let found = json(&mut eval(&small, &path, &sae));
    assert_eq!((&found["hook"], &found["hook_out"], &found["layer"]), (&reads.into(), &writes.into(), &3.into()));
    assert_eq!(found["notes"], serde_json::json!([]));
    let expected = |kind| ce_recon(&small, &tokens, Subject::new(at(HookKind::MlpOut), &of).reading(at(kind)));
    assert_eq!(found["ce_recon"].as_f64().unwrap(), expected(HookKind::MlpIn));
    let table = stdout_of(&mut eval(&small, &path, &sae));
    assert!(table.contains(&format!("from {reads} to {writes}")), "{table}");

    // The command line says otherwise, and a note says so.
    let found = json(eval(&small, &path, &sae).args(["--hook", "blocks.3.ln2.hook_normalized"]));
    assert_eq!(found["ce_recon"].as_f64().unwrap(), expected(HookKind::MlpNormalized));
    assert!(found["notes"][0].as_str().unwrap().contains(reads), "{}", found["notes"]);
    let found = json(eval(&small, &path, &sae).args([
        "--hook-out",
        "blocks.3.hook_attn_out",
        "--hook",
        "blocks.2.mlp.hook_in",
    ]));
    assert!(found["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains(writes)));

    // What is saved is what it predicts.
    let recon = dir.path().join("recon.safetensors");
    stdout_of(eval(&small, &path, &sae).arg("--save-reconstructions").arg(&recon));
    let model = Decoder::load(&small, &cpu()).unwrap();
    let truth = model.capture(tokens.view(), &[at(HookKind::MlpOut).into()]).unwrap().remove(0);
    let (x, shape) = Reference::open(&recon).floats("x");
    assert_eq!((shape, x), (vec![48, 128], crate::common::values(truth)));

    let bench: Value =
        serde_json::from_str(&stdout_of(eval(&small, &path, &sae).args(["--format", "saebench"]))).unwrap();
    let cfg = &bench["sae_cfg_dict"];
    assert_eq!((&cfg["hook_name"], &cfg["hook_name_out"]), (&reads.into(), &writes.into()));

    let nowhere = saved(dir.path(), "nowhere", &of, Some(reads), None);
    refused(&mut eval(&small, &path, &nowhere), &["names no hook_name_out", "--hook-out blocks.L.hook_mlp_out"]);
    let stream = saved(dir.path(), "stream", &of, Some(reads), Some("blocks.3.hook_resid_post"));
    refused(
        &mut eval(&small, &path, &stream),
        &["hook_name_out is blocks.3.hook_resid_post", "not the stream itself", "--hook-out blocks.3.hook_mlp_out"],
    );
    refused(
        eval(&small, &path, &sae).args(["--hook-out", "blocks.3.hook_resid_post"]),
        &["--hook-out blocks.3.hook_resid_post", "not the stream itself"],
    );
    refused(
        eval(&small, &path, &sae).args(["--hook", "blocks.4.mlp.hook_in"]),
        &["reads blocks.4.mlp.hook_in", "after blocks.3.hook_mlp_out"],
    );
    refused(&mut eval(&golden("families/gpt2"), &path, &sae), &["hook_mlp_out", "3"]);
}
