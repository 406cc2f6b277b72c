//! A sweep as jobs of a real Slurm on loopback: Debian's packages `slurm-wlm` and `munge`, and root, who may start them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::common::{
    assert_same_frames, bundled, files, reference_sweep, refused, root, skipped, stdout_of, sweep, write_spec,
};

/// Two models, four budgets: eight groups, of which the last is long.
fn spec(dir: &Path) -> PathBuf {
    let second = format!(
        "layers = {{ mid = 3 }}\n\n[[models]]\nname = \"medium\"\npath = '{}'\nlayers = {{ mid = 4 }}",
        bundled("medium").display()
    );
    let changes = [
        ("k = [2, 4]", "k = [2]"),
        ("[20480]", "[2048, 4096, 6144, 81920]"),
        ("layers = { mid = 3 }", second.as_str()),
        ("rows = \"split\"", "rows = \"split\"\nrepeat = true"),
    ];
    write_spec(dir, &changes)
}

/// A cluster, for as long as this lives.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    /// `None`, and it is said why, where there is no Slurm.
    fn start() -> Option<Self> {
        let there = |program: &str| Command::new(program).arg("-V").output().is_ok();
        if !there("slurmctld") || !there("slurmd") || !there("sbatch") {
            skipped("there is no Slurm here; apt-get install slurm-wlm munge");
            return None;
        }
        let user = Command::new("id").arg("-u").output().unwrap();
        if user.stdout != b"0\n" {
            skipped("only root can start a Slurm here");
            return None;
        }
        let cluster = Self { dir: tempfile::tempdir().unwrap() };
        cluster.node("start");
        let started = Instant::now();
        while !cluster.said("sinfo", &["--noheader", "--format=%T"]).contains("idle") {
            assert!(started.elapsed() < Duration::from_secs(60), "the node does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(cluster)
    }

    fn node(&self, what: &str) {
        let script = root().join("tests/slurm-local.sh");
        let done = Command::new("bash").arg(script).args([Path::new(what), self.dir.path()]).status().unwrap();
        assert!(done.success(), "{what}");
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("slurm.conf")
    }

    fn said(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).env("SLURM_CONF", self.conf()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// `assay sweep SPEC --out OUT --slurm`, with more.
    fn assay(&self, spec: &Path, out: &Path, more: &[&str]) -> assert_cmd::Command {
        let mut command = sweep(spec, out);
        command.arg("--slurm").args(more).env("SLURM_CONF", self.conf());
        command
    }

    /// Waits until nothing is in the queue.
    #[track_caller]
    fn wait(&self, seconds: u64) {
        let started = Instant::now();
        while !self.said("squeue", &["--noheader"]).trim().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(seconds), "{}", self.said("squeue", &["--array"]));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a group of the largest budget has saved a state.
    #[track_caller]
    fn wait_until_saved(&self, out: &Path) {
        let started = Instant::now();
        let states = || std::fs::read_dir(out.join(".state")).into_iter().flatten().flatten();
        let tokens = |state: std::fs::DirEntry| {
            let text = std::fs::read_to_string(state.path().join("group.json")).ok()?;
            serde_json::from_str::<serde_json::Value>(&text).ok()?["tokens"].as_u64()
        };
        while !states().filter_map(tokens).any(|tokens| tokens > 6144) {
            assert!(started.elapsed() < Duration::from_secs(120), "{}", self.said("squeue", &["--array"]));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.said("scancel", &["--user=root"]);
        self.node("stop");
    }
}

#[test]
fn an_array_of_eight_groups_with_a_task_cancelled_and_a_node_killed_gives_the_files_of_one_process() {
    let Some(cluster) = Cluster::start() else { return };
    let whole = reference_sweep("slurm-reference", spec);
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let submitted = stdout_of(&mut cluster.assay(&spec, &out, &["--sbatch=--cpus-per-task=1", "--time", "10"]));
    assert!(submitted.contains(": 8 groups; job ") && submitted.contains(" gathers"), "{submitted}");
    let id = submitted.split([' ', ':']).nth(1).unwrap().to_owned();
    refused(&mut cluster.assay(&spec, &out, &[]), &["are in the queue", "--retry"]);

    // What its author makes of the spec now is not the tasks' business.
    let text = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, text.replace("[2048, 4096, 6144, 81920]", "[81920]")).unwrap();

    // A task is cancelled in the middle of its training: it saves its state, as it does at the end of its time.
    cluster.wait_until_saved(&out);
    let status = stdout_of(&mut cluster.assay(&spec, &out, &["--status"]));
    assert!(status.contains("running") && status.contains("pending"), "{status}");
    cluster.said("scancel", &[&format!("{id}_3")]);
    // The daemon of the node dies, and comes again; its tasks go on.
    cluster.node("kill-node");
    std::thread::sleep(Duration::from_secs(1));
    cluster.node("start-node");
    cluster.wait(240);
    let status = stdout_of(&mut cluster.assay(&spec, &out, &["--status"]));
    assert!(status.contains("small-81920tokens stopped; ") && status.contains("slurm/group-3.log ends:"), "{status}");
    assert!(status.contains("--slurm --retry") && status.contains("Report: not in the queue"), "{status}");
    assert!(!out.join("report.md").exists(), "nothing is gathered before all are done");

    let retried = stdout_of(&mut cluster.assay(&spec, &out, &["--retry"]));
    assert!(retried.contains("groups; job "), "{retried}");
    let script = std::fs::read_to_string(out.join("slurm/array.sh")).unwrap();
    assert!(script.contains("#SBATCH --cpus-per-task=1\n") && script.contains("#SBATCH --time=10\n"), "{script}");
    refused(
        &mut cluster.assay(&spec, &out, &["--retry", "--set", "k=[4]"]),
        &["--retry goes by the spec as it was submitted"],
    );
    cluster.wait(240);
    let status = stdout_of(&mut cluster.assay(&spec, &out, &["--status"]));
    assert_eq!(status.matches("| finished |").count(), 8, "{status}");
    assert!(status.contains(&out.join("report.md").display().to_string()), "{status}");
    assert_same_frames(&out, &whole);
    let log = std::fs::read_to_string(out.join("slurm/group-3.log")).unwrap();
    assert!(log.contains("the same command resumes") && log.contains("resuming after"), "{log}");
    let again = stdout_of(&mut cluster.assay(&spec, &out, &["--retry"]));
    assert!(again.contains("nothing to submit again"), "{again}");
}

#[test]
fn a_dry_run_prints_a_script_that_a_shell_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("it's mine/tiny"));
    let more = ["--dry-run", "--partition", "gpus", "--gres", "gpu:1", "--time", "2:00:00", "--sbatch=--mem=64G"];
    let mut command = sweep(&spec, &out);
    let script = stdout_of(command.arg("--slurm").args(more).args(["--set", "train.lr=1e-3"]));
    for part in [
        "#SBATCH --array=0-7\n",
        "#SBATCH --partition=gpus\n",
        "#SBATCH --gres=gpu:1\n",
        "#SBATCH --time=2:00:00\n",
        "#SBATCH --mem=64G\n",
        "#SBATCH --signal=B:TERM@120\n",
        "  medium-81920tokens  # 7\n",
        "export HF_HUB_OFFLINE=1\n",
        "/tiny/slurm/spec.toml'",
        "--group \"${groups[$SLURM_ARRAY_TASK_ID]}\"",
        "gather '",
        r"it'\''s mine",
    ] {
        assert!(script.contains(part), "`{part}` is not in: {script}");
    }
    assert_eq!(script.matches("--gres").count(), 1, "gathering needs no GPU: {script}");
    assert_eq!(files(dir.path()).len(), 1, "only the spec");
    let checked: Output = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn without_slurm_it_says_what_else_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let mut command = sweep(&spec, &out);
    refused(
        command.arg("--slurm").env("PATH", dir.path()),
        &["there is no `sbatch` here", "--group N", "assay gather"],
    );
    refused(sweep(&spec, &dir.path().join("none")).args(["--slurm", "--status"]), &["has no jobs"]);
    refused(sweep(&spec, &out).args(["--slurm", "--device", "gpu"]), &["--device gpu", "no such kind of device"]);
    let output = sweep(&spec, &out).args(["--gres", "gpu:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "it belongs to --slurm");
}
