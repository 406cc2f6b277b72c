//! The verdict of `assay eval` on SAEs, texts and tokens of which the right one is known.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use ndarray::Array2;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::{assay, bundled, copy_dir, edit_tensors, golden, root, stdout_of, write_tensors, write_tokens};

/// `assay eval` of an SAE on 32 sequences, the fewest that a verdict takes.
fn eval(sae: &Path) -> Command {
    let mut command = assay();
    command.arg("eval").arg("--model").arg(bundled("small")).arg("--sae").arg(sae);
    command.args(["--sequences", "32", "--context-size", "64", "--fisher-samples", "0", "--resamples", "1000"]);
    command
}

/// On held-out tokens.
fn eval_held_out(sae: &Path) -> Command {
    let mut command = eval(sae);
    command.arg("--tokens").arg(bundled("eval.parquet"));
    command
}

fn sae() -> PathBuf {
    golden("eval-small/L3_k8")
}

/// What is to be tried next reads what this read.
#[test]
fn what_is_tried_next_reads_the_same() {
    let mut aloud = Command::new(env!("CARGO_BIN_EXE_assay"));
    aloud
        .args(["--device", "cpu", "eval", "--fisher-samples", "0", "--resamples", "1000", "--model"])
        .arg(bundled("small"));
    aloud.arg("--sae").arg(sae()).arg("--tokens").arg(bundled("eval.parquet"));
    aloud.args(["--sequences", "32", "--context-size", "64", "--hook", "blocks.2.hook_resid_post"]);
    let output = aloud.output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(said.contains("--sequences 32 --context-size 64 --hook blocks.2.hook_resid_post --out features"), "{said}");
    assert!(
        said.contains("names the hook blocks.3.hook_resid_post, and is used at blocks.2.hook_resid_post"),
        "{said}"
    );
}

/// As `assay eval` does, every command says of an SAE that it names another model.
#[test]
fn an_sae_of_another_model_is_told_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("another");
    copy_dir(&bundled("small"), &model);
    let said = |command: &str, more: &[&str]| {
        let mut aloud = Command::new(env!("CARGO_BIN_EXE_assay"));
        aloud.args(["--device", "cpu", command, "--model"]).arg(&model).arg("--sae").arg(sae()).args(more);
        let output = aloud.current_dir(dir.path()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(said.contains("the SAE names the model small, and is used on"), "{command}: {said}");
    };
    let tokens = bundled("eval.parquet");
    let tokens = ["--tokens", tokens.to_str().unwrap(), "--sequences", "2"];
    said("latents", &["--prompt", "The cat"]);
    said("features", &[&tokens[..], &["--ablate", "0", "--no-dashboard", "--out", "features"]].concat());
    said("groups", &tokens);
}

fn verdict_of(command: &mut Command) -> (Value, Value) {
    let found: Value = serde_json::from_str(&stdout_of(command.arg("--json"))).unwrap();
    (found["verdict"].clone(), found)
}

fn warns(verdict: &Value, kind: &str) -> bool {
    verdict["warnings"].as_array().unwrap().iter().any(|warning| warning["kind"] == kind)
}

/// Token ids that follow from a number, in no order that a language has.
fn scattered(at: usize, below: usize) -> i64 {
    let hash = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (((hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32) % below as u64) as i64
}

/// A dense SAE that gives every activation back, plus `offset` in every dimension: layer norms take such an offset away.
fn identity_plus(dir: &Path, offset: f32) {
    const D: usize = 128;
    let signed = |row: usize, column: usize| match row {
        row if row == column => 1.0_f32,
        row if row == column + D => -1.0,
        _ => 0.0,
    };
    let bytes = |values: &mut dyn Iterator<Item = f32>| values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let decoder = bytes(&mut (0..2 * D * D).map(|at| signed(at / D, at % D)));
    let encoder = bytes(&mut (0..2 * D * D).map(|at| signed(at % (2 * D), at / (2 * D))));
    let tensors = [
        ("W_enc", vec![D, 2 * D], encoder),
        ("W_dec", vec![2 * D, D], decoder),
        ("b_enc", vec![2 * D], bytes(&mut std::iter::repeat_n(0.0, 2 * D))),
        ("b_dec", vec![D], bytes(&mut std::iter::repeat_n(offset, D))),
    ];
    let tensors =
        tensors.into_iter().map(|(name, shape, bytes)| (name.to_owned(), (Dtype::F32, shape, bytes))).collect();
    write_tensors(&dir.join("sae_weights.safetensors"), &tensors);
    let cfg = json!({
        "architecture": "standard", "d_in": D, "d_sae": 2 * D, "apply_b_dec_to_input": false,
        "metadata": { "sae_lens_version": "6.54.12", "hook_name": "blocks.3.hook_resid_post" },
    });
    std::fs::write(dir.join("cfg.json"), cfg.to_string()).unwrap();
}

#[test]
fn a_reconstruction_that_the_model_does_not_mind_is_understated_by_r2() {
    let dir = tempfile::tempdir().unwrap();
    identity_plus(dir.path(), 2.0);
    let (verdict, found) = verdict_of(&mut eval_held_out(dir.path()));
    assert!(found["all"]["r2"].as_f64().unwrap() < 0.5 && found["ce_rec"].as_f64().unwrap() > 0.999, "{verdict}");
    assert_eq!(verdict["outcome"], "understates");
    assert!(!warns(&verdict, "dense_code"), "as many latents as dimensions are not more: {verdict}");

    identity_plus(dir.path(), 0.0);
    let text = stdout_of(&mut eval_held_out(dir.path()));
    let start = "On this text the SAE keeps 100 % of what the activation does for the model's loss, and R² says about as much (100 %).";
    assert!(text.starts_with(start) && text.contains("R² 1.000 [1.000, 1.000]"), "{text}");
}

/// Weights of a TopK SAE that are read as those of a ReLU SAE: hundreds of latents are active at once.
#[test]
fn a_code_that_is_far_too_dense_is_useless_and_named() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&sae(), dir.path());
    let path = dir.path().join("cfg.json");
    let mut cfg: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    cfg["architecture"] = json!("standard");
    for key in ["k", "rescale_acts_by_decoder_norm"] {
        cfg.as_object_mut().unwrap().remove(key);
    }
    std::fs::write(&path, cfg.to_string()).unwrap();
    let (verdict, found) = verdict_of(&mut eval_held_out(dir.path()));
    assert!(found["all"]["r2"].as_f64().unwrap() < -1.0 && found["l0"].as_f64().unwrap() > 128.0, "{}", found["all"]);
    assert_eq!(verdict["outcome"], "useless", "{verdict}");
    assert!(warns(&verdict, "dense_code"), "{verdict}");
}

#[test]
fn an_sae_without_a_live_latent_is_useless_and_named() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&sae(), dir.path());
    edit_tensors(&dir.path().join("sae_weights.safetensors"), |tensors| {
        let bytes = &mut tensors.get_mut("b_enc").unwrap().2;
        bytes.chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&(-1e6_f32).to_le_bytes()));
    });
    let (verdict, found) = verdict_of(&mut eval_held_out(dir.path()));
    assert_eq!((&verdict["outcome"], &found["l0"]), (&json!("useless"), &json!(0.0)), "{verdict}");
    assert!(warns(&verdict, "no_live_latent"), "{verdict}");
}

/// The recipe that gave a confident verdict once; also ids of a small range, and the model's own tokens out of order.
#[test]
fn tokens_that_are_not_the_models_get_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign.safetensors");
    for below in [4096, 300] {
        write_tokens(&path, &Array2::from_shape_fn((32, 64), |(row, column)| scattered(64 * row + column, below)));
        let (verdict, found) = verdict_of(eval(&sae()).arg("--tokens").arg(&path));
        assert_eq!(verdict["outcome"], "foreign_tokens", "below {below}: {found}");
        assert_eq!(verdict["reasons"], json!([]));
        let (own, mean) = (found["ce_orig"].as_f64().unwrap(), found["ce_mean"].as_f64().unwrap());
        assert_eq!(found["ce_loss_score_mean"].is_null(), own >= mean, "{own} {mean}");
        let text = stdout_of(eval(&sae()).arg("--tokens").arg(&path));
        assert!(text.starts_with("There is no verdict, because these tokens are not this model's text"), "{text}");
    }
}

#[test]
fn activations_that_do_not_vary_have_no_r2_and_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("constant.safetensors");
    write_tokens(&path, &Array2::from_elem((32, 64), 7));
    let (verdict, found) = verdict_of(eval(&sae()).arg("--tokens").arg(&path));
    assert_eq!(found["all"]["r2"], Value::Null, "{}", found["all"]);
    assert!(verdict["outcome"] == "undecided" || verdict["outcome"] == "foreign_tokens", "{verdict}");
    assert!(warns(&verdict, "constant_activations"), "{verdict}");
}

/// One SAE on text that the model finds easy, hard and foreign: CE_rec, which divides by the model's loss, varies with it, the
/// verdict must not contradict itself.
#[test]
fn one_sae_gets_no_two_verdicts_that_contradict_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let random = dir.path().join("random.safetensors");
    write_tokens(&random, &Array2::from_shape_fn((32, 64), |(row, column)| scattered(64 * row + column, 4096)));
    let texts = [
        ("--tokens", bundled("train.parquet")),
        ("--tokens", bundled("eval.parquet")),
        ("--text", root().join("LICENSE-APACHE")),
        ("--text", root().join("README.md")),
        ("--text", root().join("probes/src/metrics.rs")),
        ("--tokens", random),
    ];
    for sae in [sae(), golden("eval-small/L4_k32")] {
        let mut seen: Vec<(String, f64, f64)> = Vec::new();
        for (source, path) in &texts {
            let (verdict, found) = verdict_of(eval(&sae).arg(source).arg(path));
            seen.push((
                verdict["outcome"].as_str().unwrap().to_owned(),
                found["ce_orig"].as_f64().unwrap(),
                verdict["comparisons"][0]["difference"].as_f64().unwrap_or(f64::NAN),
            ));
        }
        let mut decided: Vec<&str> = seen.iter().map(|(outcome, ..)| outcome.as_str()).collect();
        decided.retain(|outcome| !["undecided", "foreign_tokens"].contains(outcome));
        decided.sort_unstable();
        decided.dedup();
        assert!(decided.len() <= 1, "{}: {seen:?}", sae.display());
        assert_eq!(seen.last().unwrap().0, "foreign_tokens", "{seen:?}");
        let losses = seen[..5].iter().map(|(_, loss, _)| *loss);
        assert!(losses.clone().fold(0.0, f64::max) > 1.3 * losses.fold(f64::INFINITY, f64::min), "{seen:?}");
    }
}

#[test]
fn the_sentence_comes_first_and_eight_rows_after_it() {
    let shown = stdout_of(&mut eval_held_out(&sae()));
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| ")).count() - 2;
    assert!(shown.starts_with("On this text the SAE keeps 75 % of what the activation does"), "{shown}");
    assert_eq!(rows(&shown), 8, "{shown}");
    assert!(shown.contains("8.318 for a uniform guess among 4096 tokens"), "{shown}");
    let whole = stdout_of(eval_held_out(&sae()).arg("--all"));
    let more: usize = shown.split("--all shows ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(rows(&whole), 8 + more, "{whole}");
    assert!(whole.starts_with(shown.lines().next().unwrap()), "the verdict is the same");
}

#[test]
fn the_help_has_the_thresholds_of_the_verdict() {
    use assay::verdict::{AGREE, DIFFER, MIN_REPLICATES, MIN_SEQUENCES};
    let help = stdout_of(assay().args(["eval", "--help"]));
    for part in [
        format!("inside ±{AGREE}"),
        format!("above +{DIFFER}"),
        format!("below -{DIFFER}"),
        format!("Fewer than {MIN_SEQUENCES} sequences or {MIN_REPLICATES} resamples"),
    ] {
        assert!(help.contains(&part), "`{part}` is not in: {help}");
    }
}

#[test]
fn settings_that_can_only_mislead_are_refused_on_the_command_line() {
    for (setting, remedy) in [
        (["--resamples", "1"], "give 100 or more"),
        (["--resamples", "0"], "give 100 or more"),
        (["--resamples", "100000000000"], "give 100000 or less"),
        (["--batch", "0"], "give 1 or more"),
        (["--sequences", "0"], "from 1 up"),
        (["--context-size", "1"], "give 2 or more"),
        (["--seed", "9223372036854775808"], "give 9223372036854775807 or less"),
        (["--seed", "x"], "whole number"),
    ] {
        for source in [["--tokens", "t.parquet"], ["--text", "t.txt"]] {
            let mut command = assay();
            command.args(["eval", "--model", "m", "--sae", "s"]).args(source).args(setting);
            let output = command.output().unwrap();
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(message.contains(setting[0]) && message.contains(remedy), "{setting:?}: {message}");
        }
    }
    let output = assay().args(["eval", "--model", "m", "--sae", "s"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("--tokens <FILE>") && message.contains("--text <FILE>"), "{message}");
}

#[test]
fn geometry_reads_text_as_eval_does() {
    let geometry = |args: &[&str]| -> Value {
        let mut command = assay();
        command.args(["geometry", "--json", "--model"]).arg(bundled("small")).args(args);
        serde_json::from_str(&stdout_of(command.arg("--text").arg(root().join("LICENSE-APACHE")))).unwrap()
    };
    let found = geometry(&["--sequences", "4", "--context-size", "32"]);
    assert_eq!(found["layers"].as_array().unwrap().len(), 6);
    let mut command = eval(&sae());
    command.arg("--text").arg(root().join("LICENSE-APACHE"));
    let (_, evaluated) = verdict_of(&mut command);
    let same = geometry(&["--sequences", "32", "--context-size", "64"]);
    let (ours, theirs) = (same["ce_orig"].as_f64().unwrap(), evaluated["ce_orig"].as_f64().unwrap());
    assert!((ours - theirs).abs() < 1e-6 * ours, "{ours} {theirs}");
}
