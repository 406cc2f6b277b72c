//! A sweep on several devices at once: a worker process for each, whose files are those of one process.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use assay::frames;
use serde_json::Value;

use crate::common::{assay, assert_same_results, bundled, reference_sweep, refused, stdout_of, sweep, write_spec};

/// Two models, two budgets: four groups.
fn spec(dir: &Path) -> PathBuf {
    let second = format!(
        "layers = {{ mid = 3 }}\n\n[[models]]\nname = \"medium\"\npath = '{}'\nlayers = {{ mid = 4 }}",
        bundled("medium").display()
    );
    let changes = [("[20480]", "[2048, 20480]"), ("layers = { mid = 3 }", second.as_str())];
    write_spec(dir, &changes)
}

/// Two budgets, and no state but by time or on a signal; a training is far shorter than the two minutes after which one is saved by time.
fn unsaved_spec(dir: &Path) -> PathBuf {
    // Steps are slow enough that no training has ended before the other has begun, however late that is.
    let slow = ("expansion = 2", "expansion = 8");
    write_spec(dir, &[("[20480]", "[81792, 81920]"), slow, ("buffer_tokens = 2048\ncheckpoint_tokens = 2048\n", "")])
}

fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("devices-reference", spec))
}

#[track_caller]
fn assert_same(out: &Path) {
    assert_same_results(out, whole());
    assert!(!out.join(".state").exists() && !out.join(".locks").exists());
}

/// A sweep on two workers, with progress.
fn start(spec: &Path, out: &Path) -> Child {
    start_on("cpu,cpu", spec, out)
}

fn start_on(devices: &str, spec: &Path, out: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command.arg("sweep").args([spec, Path::new("--out"), out]).args(["--devices", devices]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its workers, by their process ids.
#[cfg(target_os = "linux")]
fn workers(child: &Child) -> Vec<u32> {
    let id = child.id();
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children.flat_map(|ids| ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()).collect()
}

fn signal(name: &str, id: u32) {
    let _ = Command::new("kill").args([name, &id.to_string()]).stderr(Stdio::null()).status().unwrap();
}

#[track_caller]
fn wait_until(child: &mut Child, what: &str, mut is_so: impl FnMut(&Child) -> bool) {
    let started = Instant::now();
    while !is_so(child) {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}: not in two minutes");
        assert!(child.try_wait().unwrap().is_none(), "{what}: it ended before");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether some group has saved a state.
fn is_saved(out: &Path) -> bool {
    !saved(out).is_empty()
}

/// The states that groups have saved, by how many tokens they were trained on.
fn saved(out: &Path) -> Vec<u64> {
    let states = std::fs::read_dir(out.join(".state")).into_iter().flatten().flatten();
    let texts = states.filter_map(|state| std::fs::read_to_string(state.path().join("group.json")).ok());
    texts.map(|text| serde_json::from_str::<Value>(&text).unwrap()["tokens"].as_u64().unwrap()).collect()
}

/// The tokens that each SAE was trained on at its last look.
fn looks(out: &Path) -> Vec<u64> {
    let logs = std::fs::read_dir(out.join("logs")).into_iter().flatten().flatten();
    let texts = logs.filter_map(|run| std::fs::read_to_string(run.path().join("metrics.jsonl")).ok());
    let last = |text: String| serde_json::from_str::<Value>(text.lines().last()?).ok()?["tokens"].as_u64();
    texts.filter_map(last).collect()
}

/// The worker that works on a group.
#[cfg(target_os = "linux")]
fn worker_of(child: &Child, out: &Path, group: &str) -> Option<u32> {
    let lock = out.canonicalize().ok()?.join(".locks").join(group);
    let holds = |id: &u32| {
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        open.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path == lock))
    };
    workers(child).into_iter().find(holds)
}

/// The records of runs.
fn records(out: &Path) -> usize {
    let names = std::fs::read_dir(out.join("runs")).into_iter().flatten().flatten().map(|run| run.file_name());
    names.filter(|name| name.len() == "0123456789abcdef.json".len()).count()
}

#[test]
fn two_workers_write_the_files_of_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    let child = start(&spec, &out);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_same(&out);
    // Both have trained, and the largest group came first: that of the wider model.
    let of =
        |label: &str| said.lines().filter(|line| line.starts_with(label) && line.contains("train")).collect::<Vec<_>>();
    assert!(!of("cpu #1: ").is_empty() && !of("cpu #2: ").is_empty(), "{said}");
    assert_eq!(said.matches("tokens train 2 SAEs: done").count(), 4, "{said}");
    let begun = |group: &str| said.find(&format!("{group} train")).unwrap();
    assert!(begun("small 20k tokens") < begun("small 2048 tokens"), "{said}");
    // A second time there is nothing to do, and nothing changes.
    let again = stdout_of(sweep(&spec, &out).args(["--devices", "cpu,cpu"]));
    assert_eq!(again.trim(), out.join("report.md").display().to_string());
    assert_same(&out);
}

/// Whoever ends last waits for the other's report.
#[test]
fn the_same_sweep_started_twice_at_once_is_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    let both = [start(&spec, &out), start(&spec, &out)];
    let mut trained = 0;
    for child in both {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        trained += said.lines().filter(|line| line.contains("train") && line.contains(": done in")).count();
    }
    assert_eq!(trained, 4, "each group once");
    assert_same(&out);
}

/// One model at three sites, and one budget: one group, which two workers share, and with it what is the model's alone.
fn shared_spec(dir: &Path) -> PathBuf {
    const AUDIT: &str = "[topology]\nclouds = ['activations']\nmetrics = ['angular']\ndraws = 59\n\n[eval]";
    let layers = ("layers = { mid = 3 }", "layers = { early = 1, mid = 2, late = 3 }");
    write_spec(dir, &[layers, ("sequences = 4", "sequences = 24"), ("[eval]", AUDIT)])
}

fn shared_whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("devices-shared", shared_spec))
}

#[test]
fn two_workers_share_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (shared_spec(dir.path()), dir.path().join("out/tiny"));
    let one = shared_whole();
    let output = start(&spec, &out).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_same_results(&out, one);
    for part in ["blocks.2.hook_resid_post train 2", "blocks.1.hook_resid_post blocks.3.hook_resid_post train 4"] {
        assert_eq!(said.matches(&format!("small 20k tokens {part} SAEs: done")).count(), 1, "{said}");
    }
    // A part by itself, by any launcher; then the other, whose name a mistake does not find.
    let parts = dir.path().join("parts/tiny");
    let part = |name: &str| {
        let mut command = sweep(&spec, &parts);
        command.args(["--group", &format!("small-20480tokens@{name}")]);
        command
    };
    stdout_of(&mut part("blocks.3.hook_resid_post,blocks.2.hook_resid_post"));
    let known = "there are blocks.1.hook_resid_post, blocks.2.hook_resid_post, blocks.3.hook_resid_post";
    refused(&mut part("blocks.0.hook_resid_post"), &["has no site `blocks.0.hook_resid_post`", known]);
    stdout_of(&mut part("blocks.1.hook_resid_post"));
    stdout_of(assay().arg("gather").arg(&parts));
    assert_same_results(&parts, one);
}

/// What was trained of the parts of a group is not lost on one who goes on with all of it.
#[test]
#[cfg(target_os = "linux")]
fn one_process_goes_on_with_parts() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (shared_spec(dir.path()), dir.path().join("out/tiny"));
    let mut child = start(&spec, &out);
    wait_until(&mut child, "a state", |_| is_saved(&out));
    signal("-INT", child.id());
    child.wait().unwrap();
    assert!(is_saved(&out));
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    let output = command.args(["--device", "cpu", "sweep"]).args([&spec, Path::new("--out"), &out]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("resuming after"), "{said}");
    assert_same_results(&out, shared_whole());
    assert!(!out.join(".state").exists(), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_worker_that_is_killed_is_replaced_and_its_group_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    let mut child = start(&spec, &out);
    // Both have begun by then, so that each is at work on something.
    let locks = || std::fs::read_dir(out.join(".locks")).map_or(0, Iterator::count);
    wait_until(&mut child, "a state, and two groups at work", |_| is_saved(&out) && locks() >= 2);
    signal("-KILL", workers(&child)[0]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("the worker died (signal: 9 (SIGKILL)) while it worked on ") && said.contains("goes to another"),
        "{said}"
    );
    assert!(said.contains(": another worker is started"), "{said}");
    assert_same(&out);
}

#[test]
#[cfg(target_os = "linux")]
fn a_group_that_kills_its_workers_is_reported_and_the_others_are_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    let group = "medium-20480tokens";
    let mut child = start_on("cpu", &spec, &out);
    let mut killed = 0;
    for _ in 0..2 {
        wait_until(&mut child, "a worker on the group", |child| {
            worker_of(child, &out, group).is_some_and(|worker| worker != killed)
        });
        killed = worker_of(&child, &out, group).unwrap();
        signal("-KILL", killed);
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let error = said.lines().find(|line| line.starts_with("error: not all groups are finished")).unwrap();
    assert!(error.contains(&format!("while it worked on {group}, as 1 before")), "{said}");
    assert_eq!(records(&out), 6, "three groups of two runs are finished: {said}");
    stdout_of(sweep(&spec, &out).args(["--devices", "cpu"]));
    assert_same(&out);
}

#[test]
fn a_group_that_another_process_holds_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    stdout_of(sweep(&spec, &out).args(["--group", "small-2048tokens"]));
    // The largest, which comes first.
    let held = File::create(out.join(".locks/medium-20480tokens")).unwrap();
    held.lock().unwrap();
    let mut child = start_on("cpu", &spec, &out);
    wait_until(&mut child, "all other groups", |_| records(&out) == 6);
    std::thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none(), "it waits for the group");
    drop(held);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("medium-20480tokens: another process is working on it").count(), 1, "{said}");
    assert_same(&out);
}

#[test]
#[cfg(target_os = "linux")]
fn workers_that_plan_do_not_hold_up_an_interrupt() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    stdout_of(sweep(&spec, &out).args(["--group", "small-2048tokens"]));
    // Workers that can't have the directory wait for ten seconds before they have a plan.
    let lock = OpenOptions::new().append(true).open(out.join(".lock")).unwrap();
    lock.lock().unwrap();
    let mut child = start(&spec, &out);
    wait_until(&mut child, "two workers", |child| workers(child).len() == 2);
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    signal("-INT", child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    drop(lock);
    stdout_of(sweep(&spec, &out).args(["--devices", "cpu,cpu"]));
    assert_same(&out);
}

/// An allocation that fails ends a process on the CPU; on a GPU it is an error. What comes after is the same.
#[test]
#[cfg(target_os = "linux")]
fn passes_are_halved_where_the_memory_is_full() {
    let dir = tempfile::tempdir().unwrap();
    // A process whose passes are of 128 sequences of 32 tokens takes 750 MB of addresses, one whose passes are of one 440. The texts change
    // places, as there is more of what is trained on otherwise.
    let (train, eval) = (bundled("train.parquet").display().to_string(), bundled("eval.parquet").display().to_string());
    let (train, eval) = (format!("train = '{train}'\neval = '{eval}'"), format!("train = '{eval}'\neval = '{train}'"));
    let changes = [
        ("[20480]", "[2048]"),
        (train.as_str(), eval.as_str()),
        ("sequences = 4\ncontext_size = 32", "sequences = 128\nbatch = 128\ncontext_size = 32"),
    ];
    let spec = write_spec(dir.path(), &changes);
    let limited = |out: &Path, more: &[&str]| {
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit -v 600000; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_assay"), "--threads", "2"]);
        command.arg("sweep").args([&spec, Path::new("--out"), out]).args(["--devices", "cpu"]).args(more);
        command.output().unwrap()
    };
    let (free, full) = (dir.path().join("free/tiny"), dir.path().join("full/tiny"));
    stdout_of(sweep(&spec, &free).args(["--threads", "2"]));
    let output = limited(&full, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("warning: cpu: the worker died") && said.contains("memory allocation of "), "{said}");
    assert!(said.contains("trying passes of 16 contexts in training and 64 sequences in evaluation"), "{said}");
    let (free, full) = (frames::read(&free).unwrap(), frames::read(&full).unwrap());
    assert_eq!(full.runs.len(), 2);
    for (free, full) in free.runs.iter().zip(&full.runs) {
        assert_eq!((&free.id, &free.curve), (&full.id, &full.curve), "what is asked for is the same");
        let [free, full] = [free, full].map(|run| run.value("r2").unwrap());
        assert!((free - full).abs() < 1e-6, "{free} and {full}");
    }
    let halved = |path: PathBuf| -> Value {
        serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap()["passes_halved"].clone()
    };
    let record = format!("runs/{}.json", full.runs[0].id);
    assert!(halved(dir.path().join("full/tiny").join(&record)).as_u64().unwrap() >= 1);
    assert!(halved(dir.path().join("free/tiny").join(&record)).is_null());

    // SAEs that fit in no passes.
    let none = dir.path().join("none/tiny");
    let more = ["--set", "train.expansion=2048", "--set", "eval.sequences=4", "--set", "eval.batch=4"];
    let output = limited(&none, &more);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let error = &said[said.find("error: not all groups are finished").expect("an error")..];
    assert!(error.contains("memory allocation of ") && error.contains("its passes can't be smaller"), "{said}");
    assert_eq!(records(&none), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn workers_save_when_they_are_interrupted_or_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (unsaved_spec(dir.path()), dir.path().join("out/tiny"));
    for (name, code, at) in [("-INT", Some(130), 2_000), ("-TERM", Some(143), 4_000), ("-KILL", None, 6_000)] {
        let mut child = start(&spec, &out);
        wait_until(&mut child, "two groups in training", |child| {
            let looks = looks(&out);
            workers(child).len() == 2 && looks.len() == 4 && looks.iter().all(|tokens| *tokens >= at)
        });
        let workers = workers(&child);
        signal(name, child.id());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), code, "{said}");
        assert!(code.is_none() || said.contains("the same command resumes"), "{said}");
        // Those of a process that was killed notice it, and save.
        let started = Instant::now();
        let alive =
            |id: &u32| std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while workers.iter().any(alive) {
            assert!(started.elapsed() < Duration::from_secs(60), "a worker goes on alone");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nothing but the signal, or the end of the other process, makes them save.
        let saved = saved(&out);
        assert!(saved.len() == 2 && saved.iter().all(|tokens| *tokens >= at), "{saved:?} after {at} tokens, {name}");
    }
    stdout_of(sweep(&spec, &out).args(["--devices", "cpu,cpu"]));
    assert_same_results(&out, &reference_sweep("devices-unsaved", unsaved_spec));
}

#[test]
fn what_no_worker_can_do_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out"));
    let devices = |names: &str| {
        let mut command = sweep(&spec, &out);
        command.args(["--devices", names]);
        command
    };
    refused(&mut devices("cpu,tpu"), &["--devices cpu,tpu: `tpu`", "no such kind of device", "devices here: cpu"]);
    if assay::device::names().len() == 1 {
        refused(&mut devices("all"), &["--devices all", "cpu,cpu", "no GPU", "devices here: cpu"]);
    }
    if !assay::device::backends().contains(&"cuda") {
        refused(&mut devices("cpu,cuda:0"), &["--devices cpu,cuda:0: `cuda:0`", "this build lacks it"]);
    }
    refused(
        devices("cpu,cpu").args(["--set", "training_tokens=[999999872]"]),
        &["no worker could begin; cpu #", "15624998 are asked for"],
    );
    let both = devices("cpu").args(["--group", "0"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
}
