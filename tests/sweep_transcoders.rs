//! Sweeps over transcoders beside SAEs of what they predict: one stream for both, killed and resumed, and what is refused.

use std::path::{Path, PathBuf};

use assay::frames;
use assay_models::{Decoder, HookKind, HookPoint, Site};
use assay_sae::{Trainer, config::Task};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::common::{bundled, cpu, killed_and_resumed, refused, spec_of, stdout_of, sweep, write_spec};

const CODERS: &str = r#"hooks = ["mlp_out"]
coders = [
  { architecture = "topk", k = [4] },
  { architecture = "topk", k = [4], transcode = "mlp_in" },
  { architecture = "topk", k = [4], transcode = "mlp_in", skip = true },
  { architecture = "batchtopk", k = [4], transcode = "mlp_in" },
  { architecture = "jumprelu", l0_coefficient = 0.5, bandwidth = 0.5, transcode = "mlp_normalized", skip = true },
]"#;

fn spec(dir: &Path) -> PathBuf {
    spec_of(CODERS, dir)
}

/// The settings under which each run is compared, in the order of the spec.
const CLASSES: [&str; 5] = [
    "topk",
    "topk transcoder",
    "topk skip transcoder",
    "batchtopk transcoder",
    "jumprelu skip transcoder of mlp_normalized",
];

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The records of the runs of a results directory.
fn records(out: &Path) -> Vec<Value> {
    let paths = std::fs::read_dir(out.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let records = paths.filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| json(&path));
    records.filter(|record| record["curve"].is_array()).collect()
}

/// What they are known by.
fn keys(out: &Path) -> Vec<Value> {
    records(out).into_iter().map(|record| record["key"].clone()).collect()
}

#[test]
fn transcoders_are_trained_on_two_hooks_of_one_stream_and_resumed() {
    let (_dir, out) = killed_and_resumed("transcoders-reference", spec);

    // Each is a series of its own, of one site.
    let grid = frames::read(&out).unwrap();
    assert_eq!(grid.architectures(), CLASSES);
    assert!(!grid.names().has_kinds(), "all are put where the MLP writes");
    let of = |class: &str| grid.runs.iter().find(|run| run.setting.architecture == class).unwrap();
    let value = |class: &str, metric: &str| of(class).value(metric).unwrap();
    for class in CLASSES {
        assert!(value(class, "r2").is_finite() && value(class, "kl") > 0.0, "{class}");
        // The ablations are those of the hook that is predicted.
        for metric in ["ce_zero", "ce_mean", "sst_per_token", "ce_orig"] {
            assert_eq!(value(class, metric), value("topk", metric), "{class}: {metric}");
        }
        let report = std::fs::read_to_string(out.join("report.md")).unwrap();
        assert!(report.contains(class), "{class}");
    }
    // A linear map of what is read beside the latents is worth something from the first steps on.
    assert!(value("topk skip transcoder", "r2") > value("topk transcoder", "r2"));

    // What was read is in the key alone where it is not what is reconstructed.
    let mut hooks = Vec::new();
    for key in keys(&out) {
        assert_eq!(key["hook"], "blocks.3.hook_mlp_out");
        assert_eq!(key["reads"].is_string(), key["train"]["task"].is_string(), "{key}");
        hooks.push(key["reads"].as_str().map(str::to_owned));
    }
    hooks.sort();
    let reads = [None, Some("mlp_in"), Some("mlp_in"), Some("mlp_in"), Some("mlp_normalized")];
    assert_eq!(hooks, reads.map(|name| name.map(str::to_owned)));

    // SAELens' format, where that has the class, says both hooks.
    for (name, reads, class) in [
        ("small-L3-mlp_out-batchtopk-transcoder-k4-seed0-5120tokens", "mlp.hook_in", "jumprelu_transcoder"),
        (
            "small-L3-mlp_out-jumprelu-skip-transcoder-of-mlp_normalized-l0_coefficient0.5-seed0-5120tokens",
            "ln2.hook_normalized",
            "jumprelu_skip_transcoder",
        ),
    ] {
        let cfg = json(&out.join("saes").join(name).join("cfg.json"));
        assert_eq!(cfg["architecture"], class, "{name}");
        assert_eq!(cfg["metadata"]["hook_name"], format!("blocks.3.{reads}"), "{name}");
        assert_eq!(cfg["metadata"]["hook_name_out"], "blocks.3.hook_mlp_out", "{name}");
    }
    let saes = out.join("saes");
    for name in
        ["small-L3-mlp_out-k4", "small-L3-mlp_out-topk-transcoder-k4", "small-L3-mlp_out-topk-skip-transcoder-k4"]
    {
        assert!(saes.join(format!("{name}-seed0-5120tokens")).is_dir(), "{name}");
    }
}

/// End to end, a transcoder's predictions are what the model is run on with.
#[test]
fn transcoders_are_trained_end_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let coders = r#"hooks = ["mlp_out"]
coders = [
  { architecture = "topk", k = [4], transcode = "mlp_in", objective = ["mse", "kl"] },
]"#;
    let spec = write_spec(dir.path(), &[("k = [2, 4]", coders), ("[20480]", "[5120]")]);
    let out = dir.path().join("out");
    stdout_of(&mut sweep(&spec, &out));
    let grid = frames::read(&out).unwrap();
    assert_eq!(grid.architectures(), ["topk transcoder"]);
    assert_eq!(grid.objectives(), ["mse", "kl"]);
    let records = records(&out);
    let record = records.iter().find(|record| record["key"]["train"]["objective"].is_string()).unwrap();
    let curve: Vec<f64> = record["kl_curve"].as_array().unwrap().iter().map(|at| at[1].as_f64().unwrap()).collect();
    let last = curve[curve.len() - 10..].iter().sum::<f64>() / 10.0;
    assert!(curve.len() == 40 && last < 0.7 * curve[0], "{curve:?}");
}

/// A step of the sweep's transcoder is the trainer's on activations of two hooks of the same tokens.
#[test]
fn what_is_read_and_what_is_predicted_are_of_the_same_tokens() {
    let model = Decoder::load(&bundled("small"), &cpu()).unwrap();
    let at = |kind| Site::from(HookPoint { layer: 3, kind });
    let tokens = ndarray::Array2::from_shape_fn((4, 32), |(row, at)| ((row * 97 + at * 31) % 4096) as u32);
    let both = model.capture(tokens.view(), &[at(HookKind::MlpIn), at(HookKind::MlpOut)]).unwrap();
    let [x, y]: [Tensor<2>; 2] = <[Tensor<3>; 2]>::try_from(both).unwrap().map(|h| h.flatten(0, 1));
    let config = assay_sae::TrainConfig {
        task: Task::SkipTranscoder,
        apply_b_dec_to_input: false,
        lr: 3e-3,
        warmup_steps: 0,
        ..assay_sae::TrainConfig::from_recipe(
            assay_sae::Recipe::Assay,
            128,
            256,
            assay_sae::Architecture::topk(4),
            128,
            128 * 200,
        )
    };
    let mut trainer = Trainer::new(config, 0, &cpu()).unwrap();
    trainer.calibrate(&y);
    let watched = |trainer: &mut Trainer| trainer.step_towards_watched(x.clone(), y.clone()).fvu().unwrap();
    let first = watched(&mut trainer);
    for _ in 0..150 {
        trainer.step_towards(x.clone(), y.clone());
    }
    let last = watched(&mut trainer);
    assert!(last < 0.3 * first, "{first} to {last}: an MLP's output follows from its input");
}

#[test]
fn transcoders_that_cannot_be_are_refused_before_anything_is_captured() {
    for (hooks, coder, parts) in [
        (
            "resid_post",
            r#"{ architecture = "topk", k = [4], transcode = "mlp_in" }"#,
            &["transcode = \"mlp_in\"", "hooks has \"resid_post\"", "set hooks = [\"mlp_out\"]"][..],
        ),
        (
            "mlp_in",
            r#"{ architecture = "topk", k = [4], transcode = "mlp_in" }"#,
            &["hooks has \"mlp_in\"", "set hooks = [\"mlp_out\"]"],
        ),
        (
            "mlp_out",
            r#"{ architecture = "topk", k = [4], transcode = "resid_mid" }"#,
            &["transcode = \"resid_mid\"", "\"mlp_in\" or \"mlp_normalized\""],
        ),
        ("mlp_out", r#"{ architecture = "topk", k = [4], transcode = true }"#, &["transcode = true", "\"mlp_in\""]),
        (
            "mlp_out",
            r#"{ architecture = "topk", k = [4], skip = true }"#,
            &["skip = true is of transcoders", "add transcode = \"mlp_in\""],
        ),
        (
            "mlp_out",
            r#"{ architecture = "topk", k = [4], transcode = "mlp_in", skip = "yes" }"#,
            &["skip = \"yes\"", "true or false"],
        ),
        (
            "mlp_out",
            r#"{ architecture = "groupmax", k = [4], transcode = "mlp_in" }"#,
            &["groupmax", "no class of transcoder", "topk, batchtopk and jumprelu"],
        ),
        (
            "mlp_out",
            r#"{ architecture = "topk", k = [4], transcode = "mlp_in" }, { architecture = "topk", k = 4, transcode = "mlp_in", skip = false }"#,
            &["a value is listed twice", "topk transcoder k 4"],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let coders = format!("hooks = [\"{hooks}\"]\ncoders = [{coder}]");
        let spec = write_spec(dir.path(), &[("k = [2, 4]", &coders)]);
        let out = dir.path().join("out");
        refused(&mut sweep(&spec, &out), parts);
        assert!(!out.join(".state").exists());
    }
    for (key, part) in
        [("apply_b_dec_to_input = true", "set it to false"), ("input_scaling = \"expected_norm\"", "input_scaling")]
    {
        let dir = tempfile::tempdir().unwrap();
        let coders = "hooks = [\"mlp_out\"]\ncoders = [{ architecture = \"topk\", k = [4], transcode = \"mlp_in\" }]";
        let spec = write_spec(dir.path(), &[("k = [2, 4]", coders), ("lr = 3e-3", key)]);
        refused(&mut sweep(&spec, &dir.path().join("out")), &["topk transcoder k 4", part]);
    }
}
