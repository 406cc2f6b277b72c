//! A sweep on several devices at once: a worker process for each, whose files are those of one process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::{assert_same_results, bundled, reference_sweep, refused, stdout_of, sweep, write_spec};

/// Two models, two budgets: four groups.
fn spec(dir: &Path) -> PathBuf {
    let second = format!(
        "layers = {{ mid = 3 }}\n\n[[models]]\nname = \"medium\"\npath = '{}'\nlayers = {{ mid = 4 }}",
        bundled("medium").display()
    );
    let changes = [("[20480]", "[2048, 20480]"), ("layers = { mid = 3 }", second.as_str())];
    write_spec(dir, &changes)
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command.arg("sweep").args([spec, Path::new("--out"), out]).args(["--devices", "cpu,cpu"]);
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
    let states = std::fs::read_dir(out.join(".state")).into_iter().flatten().flatten();
    states.into_iter().any(|state| state.path().join("group.json").exists())
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

#[test]
#[cfg(target_os = "linux")]
fn the_group_of_a_worker_that_is_killed_goes_to_another() {
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
    assert_same(&out);
}

#[test]
#[cfg(target_os = "linux")]
fn workers_save_when_they_are_interrupted_or_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    for (name, code) in [("-INT", Some(130)), ("-TERM", Some(143)), ("-KILL", None)] {
        let mut child = start(&spec, &out);
        wait_until(&mut child, "a state", |child| is_saved(&out) && workers(child).len() == 2);
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
    }
    stdout_of(sweep(&spec, &out).args(["--devices", "cpu,cpu"]));
    assert_same(&out);
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
    refused(
        devices("cpu,cpu").args(["--set", "training_tokens=[999999872]"]),
        &["no worker could begin; cpu #", "15624998 contexts of 64 tokens"],
    );
    let both = devices("cpu").args(["--group", "0"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
}
