//! Sweeps over objectives: on one stream, killed and resumed, alone and in company, told apart, and refused where they can't be.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assay::frames;
use serde_json::Value;

use crate::common::{
    assert_same_frames, kill_when, kill_when_saved, reference_sweep, refused, stdout_of, sweep, write_spec,
};

/// Forty steps on whole contexts; `kl+mse` asks the model from step 20 on, in the middle of a round of eight.
fn spec_of(dir: &Path, coders: &str) -> PathBuf {
    write_spec(
        dir,
        &[
            ("k = [2, 4]", &format!("seeds = [0, 1]\ncoders = [{coders}]")),
            ("[20480]", "[5120]"),
            ("checkpoint_tokens = 2048", "checkpoint_tokens = 1024\nsave_saes = true"),
        ],
    )
}

const TOPK: &str = r#"{ architecture = "topk", k = [4], objective = ["mse", "kl", "kl+mse"], kl_share = 0.5 }"#;
const JUMPRELU: &str = r#"{ architecture = "jumprelu", l0_coefficient = 0.05, bandwidth = 0.5, objective = "kl+mse" }"#;

fn spec(dir: &Path) -> PathBuf {
    spec_of(dir, &format!("{TOPK}, {JUMPRELU}"))
}

fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("objectives-reference", spec))
}

#[test]
fn a_training_that_was_killed_before_or_after_the_switch_ends_the_same() {
    for tokens in [0, 3072] {
        let dir = tempfile::tempdir().unwrap();
        let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
        let reached = |state: &str| {
            let state: Value = serde_json::from_str(state).unwrap_or_default();
            state["tokens"].as_u64().is_some_and(|saved| saved >= tokens)
        };
        match tokens {
            0 => kill_when_saved(&spec, &out, &[]),
            _ => kill_when(&spec, &out, &[], reached),
        }
        stdout_of(&mut sweep(&spec, &out));
        assert_same_frames(&out, whole());
    }
}

#[test]
fn an_sae_is_the_same_alone_and_in_company() {
    let record = |out: &Path, id: &str| std::fs::read(out.join("runs").join(format!("{id}.json"))).unwrap();
    for objective in ["mse", "kl", "kl+mse"] {
        let dir = tempfile::tempdir().unwrap();
        let share = if objective == "kl+mse" { ", kl_share = 0.5" } else { "" };
        let coder = format!("{{ architecture = \"topk\", k = [4], objective = \"{objective}\"{share} }}");
        let out = dir.path().join("tiny");
        stdout_of(&mut sweep(&spec_of(dir.path(), &coder), &out));
        let grid = frames::read(&out).unwrap();
        assert_eq!(grid.runs.len(), 2);
        for run in &grid.runs {
            assert!(record(&out, &run.id) == record(whole(), &run.id), "{objective}, seed {}", run.seed);
        }
    }
}

/// Without a word about objectives the reconstruction is trained, under the ids that such runs always had.
#[test]
fn the_reconstruction_goes_without_saying() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    stdout_of(&mut sweep(&spec_of(dir.path(), r#"{ architecture = "topk", k = [4] }"#), &out));
    let ids = |out: &Path, objective: &str| -> Vec<String> {
        let grid = frames::read(out).unwrap();
        grid.runs.into_iter().filter(|run| run.setting.objective == objective).map(|run| run.id).collect()
    };
    let silent = ids(&out, "mse");
    assert_eq!(silent.len(), 2);
    assert!(silent.iter().all(|id| ids(whole(), "mse").contains(id)));
    let plan = std::fs::read_to_string(out.join("plan.json")).unwrap();
    assert!(!plan.contains("objective"), "{plan}");
}

#[test]
fn runs_are_told_apart_by_their_objective() {
    let grid = frames::read(whole()).unwrap();
    assert_eq!(grid.objectives(), ["mse", "kl", "kl+mse0.5", "kl+mse"]);
    assert_eq!(grid.runs.len(), 8);
    let report = std::fs::read_to_string(whole().join("report.md")).unwrap();
    assert!(report.contains(" objectives mse, kl, kl+mse0.5, kl+mse;"), "{report}");
    let contrasts = std::fs::read_to_string(whole().join("tables/architectures.md")).unwrap();
    for row in ["| topk kl 4 ", "| topk kl+mse0.5 4 ", "| topk mse |", "| ΔKL at equal k "] {
        assert!(contrasts.contains(row), "{row} in {contrasts}");
    }
    let looks = |name: &str| -> Vec<Value> {
        let dir = whole().join("logs").join(name);
        assert!(whole().join("saes").join(name).join("cfg.json").exists(), "{name}");
        let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let kl = |name: &str| looks(name).iter().map(|look| look["kl"].as_f64()).collect::<Vec<Option<f64>>>();
    assert!(kl("small-L3-k4-seed0-5120tokens").iter().all(Option::is_none));
    let end_to_end = kl("small-L3-kl-k4-seed0-5120tokens");
    assert_eq!(end_to_end.len(), 40);
    let mean = |values: &[Option<f64>]| values.iter().map(|kl| kl.unwrap()).sum::<f64>() / values.len() as f64;
    assert!(mean(&end_to_end[35..]) < 0.7 * mean(&end_to_end[..5]), "{end_to_end:?}");
    let last = kl("small-L3-kl+mse0.5-k4-seed1-5120tokens");
    assert!(last[..20].iter().all(Option::is_none) && last[20..].iter().all(Option::is_some), "{last:?}");
    let tenth = kl("small-L3-jumprelu-kl+mse-l0_coefficient0.05-seed0-5120tokens");
    assert!(tenth[..36].iter().all(Option::is_none) && tenth[36..].iter().all(Option::is_some), "{tenth:?}");
    // The curve holds what the logs hold.
    let curves = frames::open(&whole().join("curves.parquet")).unwrap();
    let known = curves.column("kl").unwrap().f64().unwrap().iter().flatten().count();
    assert_eq!(known, 2 * (40 + 20 + 4));
}

/// Training by the KL lowers it on held-out text, at the cost of the reconstruction.
#[test]
fn the_kl_is_lower_where_it_is_trained_and_r2_does_not_tell() {
    let grid = frames::read(whole()).unwrap();
    let mean = |objective: &str, column: &str| {
        let of = |run: &&frames::RunResult| run.setting.objective == objective && run.setting.k == Some(4);
        let values: Vec<f64> = grid.runs.iter().filter(of).map(|run| run.value(column).unwrap()).collect();
        assert_eq!(values.len(), 2);
        values.iter().sum::<f64>() / 2.0
    };
    for objective in ["kl", "kl+mse0.5"] {
        assert!(mean(objective, "kl") < 0.95 * mean("mse", "kl"), "{objective}");
        assert!(mean(objective, "r2") < mean("mse", "r2"), "{objective}");
    }
}

/// What the first half of `kl+mse` computes is what `mse` computes.
#[test]
fn until_the_switch_nothing_differs_from_the_reconstruction() {
    let losses = |name: &str| -> Vec<f64> {
        let path = whole().join("logs").join(name).join("metrics.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
    };
    let (mse, both) = (losses("small-L3-k4-seed0-5120tokens"), losses("small-L3-kl+mse0.5-k4-seed0-5120tokens"));
    assert_eq!(mse[..20], both[..20]);
    assert_ne!(mse[20..], both[20..]);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_captured() {
    let kl = r#"coders = [{ architecture = "topk", k = [4], objective = "kl" }]"#;
    let with = |more: &str| format!("coders = [{{ architecture = \"topk\", k = [4]{more} }}]");
    let train = |more: &str| format!("lr = 3e-3\n{more}");
    let topk = "k = [2, 4]";
    for (changes, parts) in [
        (
            vec![(topk, kl.to_owned()), ("batch_size = 128", "batch_size = 160".to_owned())],
            vec!["batch_size = 160", "context_size = 64", "batch_size = 192 would be"],
        ),
        (vec![(topk, with(", objective = \"kl+mse\", kl_share = 0"))], vec!["kl_share is 0", "at most 1"]),
        (vec![(topk, with(", objective = \"kl+mse\", kl_share = 1.5"))], vec!["kl_share is 1.5", "at most 1"]),
        (
            vec![(topk, with(", objective = \"kl\", kl_share = 0.5"))],
            vec!["kl_share = 0.5 belongs to objective = \"kl+mse\"", "the objective is kl"],
        ),
        (vec![(topk, with(", kl_share = 0.5"))], vec!["kl_share = 0.5 belongs to", "remove it"]),
        (vec![("lr = 3e-3", train("kl_share = 0.5"))], vec!["[train] kl_share = 0.5", "remove it"]),
        (vec![("lr = 3e-3", train("objective = \"ce\""))], vec!["unknown variant `ce`", "kl+mse"]),
        (vec![(topk, with(", objective = \"ce\""))], vec!["unknown variant `ce`", "kl+mse"]),
        (
            vec![("lr = 3e-3", train("objective = \"mse\"\nloss = \"fvu\""))],
            vec!["objective = \"mse\" and loss = \"fvu\" contradict each other"],
        ),
        (
            vec![("lr = 3e-3", train("objective = \"kl+mse\"\nloss = \"fvu\""))],
            vec!["objective = \"kl+mse\" uses the MSE", "loss = \"fvu\""],
        ),
        (vec![(topk, with(", objective = [\"kl\", \"kl\"]"))], vec!["a value is listed twice (topk k 4 kl)"]),
        (vec![(topk, format!("hooks = [\"resid_mid\"]\n{kl}"))], vec!["resid_mid", "parallel"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let changes: Vec<(&str, &str)> = changes.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let (spec, out) = (write_spec(dir.path(), &changes), dir.path().join("out"));
        refused(&mut sweep(&spec, &out), &parts);
        assert!(!out.join(".state").exists() && !out.join("runs").exists());
    }
}

#[test]
fn the_objective_of_a_sweep_is_that_of_its_coders_but_where_they_say_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let coders =
        r#"coders = [{ architecture = "topk", k = [4] }, { architecture = "topk", k = [4], objective = "mse" }]"#;
    let spec = write_spec(
        dir.path(),
        &[("k = [2, 4]", coders), ("lr = 3e-3", "lr = 3e-3\nobjective = \"kl+mse\"\nkl_share = 0.25")],
    );
    let listed = stdout_of(sweep(&spec, &dir.path().join("out")).arg("--dry-run"));
    assert!(
        listed.contains("| objective ") && listed.contains("| kl+mse0.25 ") && listed.contains("| mse "),
        "{listed}"
    );
}
