//! Several SAEs in one `assay eval`: what one alone gives, differences on the same sequences, patterns, and frames.

use std::path::{Path, PathBuf};

use assay::frames;
use assert_cmd::Command;
use serde_json::{Value, json};

use crate::common::{assay, bundled, copy_dir, edit_tensors, files, golden, refused, stdout_of};

const SAES: [&str; 2] = ["eval-small/L3_k8", "eval-small/L4_k32"];

fn eval<S: AsRef<Path>>(saes: &[S]) -> Command {
    let mut command = assay();
    command.arg("eval").arg("--model").arg(bundled("small")).arg("--tokens").arg(bundled("eval.parquet"));
    command.args(["--sequences", "32", "--context-size", "64", "--fisher-samples", "1", "--resamples", "1000"]);
    command.arg("--sae").args(saes.iter().map(AsRef::as_ref));
    command
}

fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&stdout_of(command.arg("--json"))).unwrap()
}

#[test]
fn each_is_what_it_is_alone_and_differences_are_paired() {
    let dir = tempfile::tempdir().unwrap();
    let twin = dir.path().join("twin");
    copy_dir(&golden(SAES[0]), &twin);
    let saes = [golden(SAES[0]), golden(SAES[1]), twin];
    let together = json_of(&mut eval(&saes));
    let each = together["saes"].as_array().unwrap();
    assert_eq!(each.len(), 3);
    for (path, found) in saes.iter().zip(each).take(2) {
        assert_eq!(&json_of(&mut eval(&[path])), found, "{}", path.display());
        assert_eq!(found["sae"], path.display().to_string());
        assert_eq!(found["name"], path.file_name().unwrap().to_string_lossy().into_owned());
    }
    let differences = together["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 2);
    for (metric, of) in [("ce_rec_pooled", ""), ("kl", ""), ("r2", "all")] {
        let value = |sae: &Value| if of.is_empty() { sae[metric].as_f64() } else { sae[of][metric].as_f64() };
        let found = &differences[0][metric];
        let expected = value(&each[1]).unwrap() - value(&each[0]).unwrap();
        assert_eq!(found["difference"].as_f64().unwrap(), expected, "{metric}");
        let ends: Vec<f64> = found["interval_95"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert!(ends[0] < expected && expected < ends[1], "{metric}: {ends:?}");
        // Of an SAE and itself there is no difference, in no resample.
        assert_eq!(differences[1][metric], json!({ "difference": 0.0, "interval_95": [0.0, 0.0] }), "{metric}");
    }
}

#[test]
fn a_pattern_and_the_tables_of_several() {
    let listed = SAES.map(golden);
    let text = stdout_of(&mut eval(&listed));
    assert_eq!(text, stdout_of(&mut eval(&[golden("eval-small/L*")])));
    let root = golden("").display().to_string();
    let text =
        text.replace(root.trim_end_matches('/'), "GOLDEN").replace(&bundled("small").display().to_string(), "MODEL");
    // Digits may differ from one processor to another.
    insta::assert_snapshot!("several", text.replace(|c: char| c.is_ascii_digit(), "0"));
}

#[test]
fn frames_are_read_and_reported_like_a_sweep_s() {
    let dir = tempfile::tempdir().unwrap();
    let outs = ["a", "b"].map(|name| dir.path().join(name));
    for out in &outs {
        // An empty directory is as good as none.
        std::fs::create_dir(out).unwrap();
        stdout_of(eval(&SAES.map(golden)).arg("--out").arg(out));
    }
    assert_eq!(files(&outs[0]), files(&outs[1]));
    let left: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let grid = frames::read(&outs[0]).unwrap();
    let found = json_of(&mut eval(&SAES.map(golden)));
    let names: Vec<&str> = grid.runs.iter().map(|run| run.setting.knob.as_deref().unwrap()).collect();
    assert_eq!(names, ["L3_k8", "L4_k32"]);
    for (run, json) in grid.runs.iter().zip(found["saes"].as_array().unwrap()) {
        assert_eq!((run.value("r2"), run.value("kl")), (json["all"]["r2"].as_f64(), json["kl"].as_f64()));
        assert_eq!(run.value("ce_rec_low"), json["intervals_95"]["ce_rec"][0].as_f64());
        assert_eq!((run.setting.k, run.value("seed"), run.sequences.len()), (None, None, 32));
    }
    stdout_of(assay().arg("report").arg(&outs[0]));
    let report = std::fs::read_to_string(outs[0].join("report.md")).unwrap();
    assert!(report.contains("topk L3_k8") || report.contains("L3_k8"), "{report}");
    assert!(!report.contains(" 0 tokens"), "{report}");
    refused(eval(&SAES.map(golden)).arg("--out").arg(&outs[0]), &["--out", "something already", "new directory"]);
}

#[test]
fn what_cannot_be_is_said_before_anything_is_read() {
    let sae = golden(SAES[0]);
    refused(&mut eval(&[&sae, &sae]), &["L3_k8", "given twice"]);
    refused(&mut eval(&[&sae, &golden("eval-small/../eval-small/L3_k8")]), &["L3_k8", "given twice"]);
    refused(&mut eval(&[golden("eval-small/X*")]), &["X*", "fits this pattern", "assay saes"]);
    refused(eval(&SAES.map(golden)).args(["--save-reconstructions", "x.safetensors"]), &["of one SAE", "2 are given"]);
    refused(eval(&SAES.map(golden)).args(["--format", "saebench"]), &["a file for each", "--out DIR"]);
    let mut without = assay();
    without.args(["eval", "--text", "README.md", "--sae"]).args(SAES.map(golden));
    refused(&mut without, &["not in the catalogue", "--model"]);
}

#[test]
fn the_one_that_is_not_finite_is_named_alone() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    copy_dir(&golden(SAES[0]), &large);
    edit_tensors(&large.join("sae_weights.safetensors"), |tensors| {
        // Finite, but not what it reconstructs.
        let values = &mut tensors.get_mut("W_dec").unwrap().2;
        values.chunks_exact_mut(4).for_each(|bytes| bytes.copy_from_slice(&3e38_f32.to_le_bytes()));
    });
    let first = golden(SAES[1]);
    let mut command = eval(&[first.clone(), large.clone()]);
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{message}");
    assert!(
        message.contains("the reconstruction is not finite") && message.contains(&*large.to_string_lossy()),
        "{message}"
    );
    assert!(!message.contains(&*first.to_string_lossy()), "{message}");
}

#[test]
fn what_cannot_be_written_is_told_before_the_work_and_costs_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for option in ["--out", "--save-reconstructions"] {
        let below = file.join("below");
        let mut command = assay();
        command.args(["eval", "--model", "no-such/model", "--text", "README.md", "--sae"]).arg(golden(SAES[0]));
        refused(command.arg(option).arg(&below), &[&format!("cannot write {}", below.display())]);
    }
    #[cfg(unix)]
    for (option, name) in [("--out", "frames"), ("--save-reconstructions", "x.safetensors")] {
        let out = dir.path().join(name);
        let mut command = eval(&[golden(SAES[0])]);
        let output = crate::common::on_a_full_disk(command.arg(option).arg(&out)).output().unwrap();
        let [found, message] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(!output.status.success() && found.contains("ce_rec"), "{found}{message}");
        assert!(message.contains("cannot write") && message.contains(name), "{message}");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["file"], "nothing half-written");
    }
}

#[test]
fn transcoders_are_called_so_in_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let (sae, out) = (dir.path().join("transcoder"), dir.path().join("out"));
    copy_dir(&golden("formats-2/saelens-skip-transcoder/sae"), &sae);
    edit_tensors(&sae.join("sae_weights.safetensors"), |tensors| {
        for (name, shape) in [("W_enc", [128, 8]), ("W_dec", [8, 128]), ("W_skip", [128, 128])] {
            let values = vec![1e-3_f32; shape[0] * shape[1]];
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(name.to_owned(), (safetensors::Dtype::F32, shape.to_vec(), bytes));
        }
        for (name, len) in [("b_enc", 8), ("b_dec", 128)] {
            tensors.insert(name.to_owned(), (safetensors::Dtype::F32, vec![len], vec![0; 4 * len]));
        }
    });
    let path = sae.join("cfg.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value) in [("d_in", 128), ("d_out", 128), ("d_sae", 8)] {
        config[key] = json!(value);
    }
    std::fs::write(&path, config.to_string()).unwrap();
    let hooks = ["--hook", "blocks.3.mlp.hook_in", "--hook-out", "blocks.3.hook_mlp_out"];
    stdout_of(eval(&[sae]).args(hooks).arg("--out").arg(&out));
    let grid = frames::read(&out).unwrap();
    assert_eq!(grid.architectures(), ["standard skip transcoder"]);
    stdout_of(assay().arg("report").arg(&out));
    assert!(std::fs::read_to_string(out.join("report.md")).unwrap().contains("standard skip transcoder"));
}
