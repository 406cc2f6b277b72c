//! Several SAEs in one `assay eval`: what one alone gives, differences on the same sequences, patterns, and frames.

use std::path::{Path, PathBuf};

use assay::frames;
use assert_cmd::Command;
use serde_json::{Value, json};

use crate::common::{assay, bundled, copy_dir, files, golden, refused, stdout_of};

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
        let mut alone = json_of(&mut eval(&[path]));
        alone["sae"] = json!(path.display().to_string());
        assert_eq!(&alone, found, "{}", path.display());
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
