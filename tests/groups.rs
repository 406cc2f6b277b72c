//! A sweep in parts: groups in processes of their own, gathered, give the files of one process that did everything.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assay::frames;
use tempfile::TempDir;

use crate::common::{
    assay, assert_same_results, bundled, copy_dir, files, kill_when_saved, reference_sweep, refused, stdout_of, sweep,
    write_spec,
};

/// Two models, two budgets, two hooks at one layer, two architectures at one k: four groups of four SAEs.
fn spec(dir: &Path) -> PathBuf {
    let second = format!(
        "layers = {{ mid = 3 }}\n\n[[models]]\nname = \"medium\"\npath = '{}'\nlayers = {{ mid = 4 }}",
        bundled("medium").display()
    );
    let coders = "hooks = [\"resid_post\", \"mlp_out\"]\ncoders = [{ architecture = \"topk\", k = [4] }, { architecture = \"groupmax\", k = [4] }]";
    let changes = [
        ("k = [2, 4]", coders),
        ("[20480]", "[2048, 4096]"),
        ("layers = { mid = 3 }", second.as_str()),
        ("checkpoint_tokens = 2048", "checkpoint_tokens = 1024\nsave_saes = true"),
    ];
    write_spec(dir, &changes)
}

/// The results of one process.
fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("groups-reference", spec))
}

#[track_caller]
fn assert_same(out: &Path) {
    assert_same_results(out, whole());
}

fn group(spec: &Path, out: &Path, group: &str) -> assert_cmd::Command {
    let mut command = sweep(spec, out);
    command.args(["--group", group]);
    command
}

#[test]
fn groups_in_any_order_one_of_them_killed_end_as_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    // By number and by name, the last first; the second is killed in training and started again.
    assert_eq!(stdout_of(&mut group(&spec, &out, "3")).trim(), out.display().to_string());
    kill_when_saved(&spec, &out, &["--group", "small-4096tokens"]);
    let lacking = "3 of 4 groups are not finished: small-2048tokens (lacks 4 of 4 runs, the model's geometry), small-4096tokens (lacks 4 of \
         4 runs), medium-2048tokens (lacks 4 of 4 runs, the model's geometry);";
    refused(assay().arg("gather").arg(&out), &[lacking]);
    assert!(!out.join("runs.parquet").exists() && !out.join("report.md").exists(), "nothing was written");
    // A part by hand starts anew, which is said.
    let part = group(&spec, &out, "small-4096tokens@blocks.3.hook_mlp_out").output().unwrap();
    let said = String::from_utf8_lossy(&part.stderr).into_owned();
    assert!(
        part.status.success() && said.contains("small-4096tokens was begun, and what was trained of it is not used"),
        "{said}"
    );
    for name in ["medium-2048tokens", "small-4096tokens", "0"] {
        stdout_of(&mut group(&spec, &out, name));
    }
    let report = stdout_of(assay().arg("gather").arg(&out));
    assert_eq!(report.trim(), out.join("report.md").display().to_string());
    assert_same(&out);
    assert!(!out.join(".state").exists() && !out.join(".locks").exists(), "a gathered sweep keeps no state");
    // A whole sweep finds everything done.
    let before = files(&out);
    stdout_of(&mut sweep(&spec, &out));
    assert!(before == files(&out), "a finished sweep changes no file");
}

#[test]
fn a_group_of_which_some_runs_are_finished_does_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    copy_dir(whole(), &out);
    // One run of each hook of one group, all of another, and the geometry of a model.
    let grid = frames::read(whole()).unwrap();
    let of =
        |model: &'static str, tokens| grid.runs.iter().filter(move |r| r.model == model && r.training_tokens == tokens);
    let some = of("small", 2048).enumerate().filter(|(at, _)| at % 3 == 0).map(|(_, run)| run);
    for run in some.chain(of("medium", 4096)) {
        std::fs::remove_file(out.join(format!("runs/{}.json", run.id))).unwrap();
    }
    let geometry = std::fs::read_dir(out.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let geometry: Vec<PathBuf> = geometry.filter(|path| path.to_string_lossy().ends_with(".geometry.json")).collect();
    assert_eq!(geometry.len(), 2);
    std::fs::remove_file(&geometry[0]).unwrap();
    refused(
        assay().arg("gather").arg(&out),
        &["small-2048tokens (lacks 2 of 4 runs", "medium-4096tokens (lacks 4 of 4 runs"],
    );
    let spec = spec(dir.path());
    stdout_of(&mut group(&spec, &out, "3"));
    stdout_of(&mut sweep(&spec, &out));
    assert_same(&out);
}

#[test]
fn what_can_not_be_a_group_is_refused() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let known = "there are 0 (small-2048tokens), 1 (small-4096tokens), 2 (medium-2048tokens), 3 (medium-4096tokens)";
    refused(&mut group(&spec, &out, "4"), &["--group 4", known]);
    refused(&mut group(&spec, &out, "small"), &["--group small", known]);
    assert!(!out.exists());
    refused(assay().arg("gather").arg(&out), &["no such directory"]);
    std::fs::create_dir(&out).unwrap();
    refused(assay().arg("gather").arg(&out), &["has no plan.json", "run a group of the sweep there first"]);
    assert_eq!(files(&out).len(), 0, "nothing was left behind");
}

#[test]
fn hooks_and_architectures_are_never_merged() {
    let grid = frames::read(whole()).unwrap();
    assert_eq!(grid.runs.len(), 16);
    let mut ids: Vec<&str> = grid.runs.iter().map(|run| run.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 16);
    for (folder, count) in [("saes", 16), ("logs", 16)] {
        assert_eq!(std::fs::read_dir(whole().join(folder)).unwrap().count(), count, "{folder}");
    }
    let names = [
        "small-L3-mlp_out-groupmax-k4-seed0-2048tokens",
        "small-L3-mlp_out-k4-seed0-2048tokens",
        "small-L3-k4-seed0-2048tokens",
    ];
    for name in names {
        assert!(whole().join("saes").join(name).is_dir() && whole().join("logs").join(name).is_dir(), "{name}");
    }
    // Different SAEs, not copies of one another.
    let mut finals: Vec<u64> = grid.runs.iter().map(|run| run.value("final_loss").unwrap().to_bits()).collect();
    finals.sort_unstable();
    finals.dedup();
    assert_eq!(finals.len(), 16);
    let analysis = assay::analysis::Analysis::new(&grid);
    assert_eq!(analysis.cells.len(), 16, "no run is a seed of another");
    assert!(analysis.cells.iter().all(|cell| cell.runs.len() == 1));
}

/// A plan and a spec that do not belong together, as a copy or a kill between the two may leave them, gather nothing.
#[test]
fn a_plan_of_another_spec_is_not_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    copy_dir(whole(), &out);
    let before = files(&out);
    let plan = std::fs::read_to_string(out.join("plan.json")).unwrap();
    let mut fewer: serde_json::Value = serde_json::from_str(&plan).unwrap();
    fewer["groups"] = serde_json::json!([]);
    std::fs::write(out.join("plan.json"), fewer.to_string()).unwrap();
    refused(assay().arg("gather").arg(&out), &["plan.json is not that of the sweep.toml beside it"]);
    std::fs::write(out.join("plan.json"), &plan).unwrap();
    let spec = std::fs::read_to_string(out.join("sweep.toml")).unwrap();
    std::fs::write(out.join("sweep.toml"), spec.replace("seeds", "# seeds") + "\n# changed\n").unwrap();
    refused(assay().arg("gather").arg(&out), &["plan.json is not that of the sweep.toml beside it"]);
    std::fs::write(out.join("sweep.toml"), spec).unwrap();
    std::fs::write(out.join("plan.json"), &plan[..plan.len() / 2]).unwrap();
    refused(assay().arg("gather").arg(&out), &["plan.json is damaged"]);
    std::fs::write(out.join("plan.json"), plan).unwrap();
    // A run of another spec is said to be left out.
    let other = out.join("runs/0123456789abcdef.json");
    std::fs::write(&other, "{}").unwrap();
    let mut aloud = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
    let gathered = aloud.arg("gather").arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&gathered.stderr).into_owned();
    assert!(gathered.status.success() && said.contains("has 1 more run, of an earlier spec"), "{said}");
    std::fs::remove_file(other).unwrap();
    let after = files(&out);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert_same(&out);
}
