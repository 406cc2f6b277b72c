//! A sweep that is interrupted saves what it has, says so, and ends with the same bytes when it is run again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};

use crate::common::{assay, files, npy_bytes, reference_sweep, stdout_of, sweep, write_spec};

/// With the default settings of buffer and checkpoints: one round holds all tokens.
fn spec(dir: &Path) -> PathBuf {
    let changes = [("buffer_tokens = 2048\ncheckpoint_tokens = 2048\n", ""), ("[20480]", "[40960]")];
    write_spec(dir, &changes)
}

fn start(spec: &Path, out: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(["--device", "cpu", "sweep"])
        .args([spec, Path::new("--out"), out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, name: &str) {
    // It may have ended in between.
    let _ = Command::new("kill").args([name, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
}

fn wait(child: Child) -> (Output, String) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// The looks of a training so far.
fn looks(out: &Path) -> usize {
    let logs = std::fs::read_dir(out.join("logs")).into_iter().flatten().flatten();
    let lines = logs.filter_map(|run| std::fs::read_to_string(run.path().join("metrics.jsonl")).ok());
    lines.map(|text| text.lines().count()).min().unwrap_or(0)
}

#[track_caller]
fn wait_until(child: &mut Child, what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}: not in two minutes");
        assert!(child.try_wait().unwrap().is_none(), "{what}: it ended before");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("interrupt-reference", spec))
}

#[track_caller]
fn assert_same(out: &Path) {
    let (ours, reference) = (files(out), files(whole()));
    let same = |path: &Path| path.extension().is_some_and(|e| e == "parquet" || e == "md" || e == "svg");
    for (path, bytes) in reference.iter().filter(|(path, _)| same(path) && !path.starts_with("timings.parquet")) {
        assert!(ours[path] == *bytes, "{} differs", path.display());
    }
    assert!(!out.join(".state").exists(), "a finished sweep keeps no state");
}

#[test]
fn ten_interrupts_with_default_settings_lose_no_step_and_change_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    // One process after the other, each interrupted a little later than where the one before was; 160 looks are the whole training.
    for at in (10..=154).step_by(16) {
        let mut child = start(&spec, &out);
        wait_until(&mut child, "training", || looks(&out) >= at);
        let (name, code) = if at % 32 == 10 { ("-INT", 130) } else { ("-TERM", 143) };
        signal(&child, name);
        let (output, said) = wait(child);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("interrupted; small") && said.contains("is saved"), "{said}");
        assert!(at == 10 || said.contains("resuming after"), "{said}");
        let found = stdout_of(assay().arg("inspect").arg(&out));
        assert!(found.contains("unfinished") && found.contains("runs in all"), "{found}");
        assert!(looks(&out) >= at, "what was trained is lost: {} looks after {at}", looks(&out));
    }
    let said = wait(start(&spec, &out)).1;
    assert!(said.contains("resuming after"), "{said}");
    assert_same(&out);
}

#[test]
fn an_interrupt_during_evaluation_keeps_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let mut child = start(&spec, &out);
    // All 320 steps are done, 160 of which are looked at; evaluation is next, and takes longer than a step.
    wait_until(&mut child, "training", || looks(&out) == 160);
    std::thread::sleep(Duration::from_millis(30));
    signal(&child, "-INT");
    let (output, said) = wait(child);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("is saved") || said.contains("are saved"), "{said}");
    let said = wait(start(&spec, &out)).1;
    assert!(said.contains("resuming"), "{said}");
    assert_same(&out);
}

/// coreutils' `timeout` signals its child and then the group that they are both in.
#[cfg(target_os = "linux")]
#[test]
fn two_signals_at_once_are_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let mut child = start(&spec, &out);
    wait_until(&mut child, "training", || looks(&out) >= 20);
    signal(&child, "-TERM");
    signal(&child, "-TERM");
    let (output, said) = wait(child);
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert!(said.contains("is saved"), "{said}");
    assert!(wait(start(&spec, &out)).1.contains("resuming after"));
    assert_same(&out);
}

#[test]
fn a_second_interrupt_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let mut child = start(&spec, &out);
    wait_until(&mut child, "training", || looks(&out) >= 20);
    signal(&child, "-INT");
    // Stopped, so that it is still at work when the second comes; one that comes within a second is the same request.
    signal(&child, "-STOP");
    std::thread::sleep(Duration::from_millis(1200));
    signal(&child, "-INT");
    signal(&child, "-CONT");
    assert_eq!(wait(child).0.status.code(), Some(130));
    stdout_of(&mut sweep(&spec, &out));
    assert_same(&out);
}

#[test]
fn a_state_is_saved_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let text = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, text.replace("[train]", "[train]\ncheckpoint_seconds = 0")).unwrap();
    let mut child = start(&spec, &out);
    wait_until(&mut child, "a state", || {
        std::fs::read_dir(out.join(".state"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|g| g.path().join("group.json").exists())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let said = wait(start(&spec, &out)).1;
    assert!(said.contains("resuming"), "{said}");
    assert_same(&out);
}

/// Bars of directions in many dimensions take minutes a draw, within which nothing can be asked: what was begun is left.
#[test]
fn an_audit_whose_draws_take_minutes_is_left_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (cloud, out) = (dir.path().join("cloud.npy"), dir.path().join("out"));
    let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(6);
    let values: Vec<f32> = (0..600 * 128).map(|_| rng.random::<f32>() - 0.5).collect();
    std::fs::write(&cloud, npy_bytes(&values, "(600, 128)")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(["topology", "--metric", "angular", "--out"])
        .args([&out, &cloud])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Past the estimate, within the first draws.
    std::thread::sleep(Duration::from_secs(12));
    let (output, said) = ends_soon(child, "-INT");
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted; nothing is written"), "{said}");
    assert!(said.contains("about ") && said.contains("--rows chooses fewer points"), "{said}");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "a file is left");
}

/// Commands that write at their end alone say that there is nothing.
#[test]
fn an_evaluation_that_is_interrupted_says_so() {
    let begin = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
        command.args(["--device", "cpu"]).args(args).arg("--model").arg(crate::common::bundled("small"));
        command.arg("--sae").arg(crate::common::golden("eval-small/L3_k8"));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let text = crate::common::bundled("train.parquet").display().to_string();
    for args in [
        &["eval", "--tokens", &text, "--sequences", "768"][..],
        &["probe", "--tasks", "bundled", "--texts", "1000", "--orders", "20"],
    ] {
        let child = begin(args);
        std::thread::sleep(Duration::from_secs(10));
        signal(&child, "-INT");
        let (output, said) = wait(child);
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(said.contains("interrupted; nothing is written"), "{said}");
    }
}

/// The same in a sweep: what was finished before stays, and it goes on from there.
#[test]
fn a_sweep_leaves_a_draw_that_takes_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    const SECTION: &str =
        "[topology]\nclouds = ['activations', 'encoder']\nmetrics = ['angular']\nrows = 500\ndraws = 19\n\n[eval]";
    let saved = ("lr = 3e-3", "lr = 3e-3\nsave_saes = true");
    let many = [("expansion = 2", "expansion = 6"), ("k = [2, 4]", "k = [64]"), ("sequences = 4", "sequences = 24")];
    let mut changes = vec![saved, ("[eval]", SECTION)];
    changes.extend(many);
    let spec = write_spec(dir.path(), &changes);
    let audits = || {
        let records = std::fs::read_dir(out.join("runs")).into_iter().flatten().flatten();
        records.filter(|record| record.file_name().to_string_lossy().ends_with(".topology.json")).count()
    };
    let mut child = start(&spec, &out);
    wait_until(&mut child, "the audit of activations", || audits() == 1);
    std::thread::sleep(Duration::from_secs(3));
    let (output, said) = ends_soon(child, "-TERM");
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert!(said.contains("interrupted; small: its finished runs are saved"), "{said}");
    assert_eq!(audits(), 1);
    // With fewer points the rest is soon done; nothing is trained again.
    let text = std::fs::read_to_string(&spec).unwrap().replace("rows = 500", "rows = 24");
    std::fs::write(&spec, text).unwrap();
    let (output, said) = wait(start(&spec, &out));
    assert!(output.status.success() && !said.contains("small train"), "{said}");
    assert!(out.join("topology.parquet").exists());
}

/// Signals a process, which has to end within two seconds.
#[track_caller]
fn ends_soon(child: Child, name: &str) -> (Output, String) {
    signal(&child, name);
    let asked = Instant::now();
    let (output, said) = wait(child);
    assert!(asked.elapsed() < Duration::from_secs(2), "{} s: {said}", asked.elapsed().as_secs_f64());
    (output, said)
}
