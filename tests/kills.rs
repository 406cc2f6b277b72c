//! A sweep, or a pass of `assay features`, that is killed at any moment and started again ends with the files of one that was not.
//!
//! The moments are seeded: half of them are spread over the time that the program takes, half over its stages, so that short ones, such
//! as tokenising and the report, are met too. `ASSAY_KILLS=50` has so many of them, else there are 8.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::common::{bundled, files, golden, root, write_spec};

/// SAEs of every class, on text that is tokenised, in two groups.
fn spec(dir: &Path) -> PathBuf {
    let coders = r#"coders = [
    { architecture = "topk", k = 4, objective = ["mse", "kl+mse"] },
    { architecture = "groupmax", k = 4 },
    { architecture = "hierarchical", ks = [2, 4] },
    { architecture = "batchtopk", k = 4 },
    { architecture = "matryoshka", k = 4, widths = [32, 256] },
    { architecture = "jumprelu", target_l0 = 8 },
    { architecture = "gated", l1_coefficient = 1.0 },
    { architecture = "standard", l1_coefficient = 1.0 },
]"#;
    let parquet = format!("train = '{}'", bundled("train.parquet").display());
    let text = format!("train = '{}'\nrepeat = true", root().join("tests/fixtures/sample.jsonl.zst").display());
    let train = "checkpoint_tokens = 2048\nsave_saes = true\nema_decay = 0.99";
    let changes = [
        ("k = [2, 4]", coders),
        ("[20480]", "[2048, 6144]"),
        (parquet.as_str(), text.as_str()),
        ("checkpoint_tokens = 2048", train),
    ];
    write_spec(dir, &changes)
}

/// A place in memory, where the system has one: a kill is the same there, and nothing waits for the disk.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// What is killed. It writes to `tiny` in the directory that it is given.
#[derive(Clone, Copy)]
struct Program {
    command: fn(&Path) -> Command,
}

fn assay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args(["--device", "cpu"]).args(args).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

const SWEEP: Program = Program {
    command: |dir| {
        let mut command = assay(&["sweep"]);
        command.args([&spec(dir), Path::new("--out"), &dir.join("tiny")]);
        command
    },
};

const FEATURES: Program = Program {
    command: |dir| {
        let mut command = assay(&["features", "--context-size", "128", "--ablate", "16"]);
        command.args([Path::new("--model"), &bundled("small"), Path::new("--tokens"), &bundled("eval.parquet")]);
        command.args([Path::new("--sae"), &golden("eval-small/L3_k8"), Path::new("--out"), &dir.join("tiny")]);
        command
    },
};

/// A program that runs, and the lines that it says.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(self, dir: &Path) -> Running {
        let mut child = (self.command)(dir).spawn().unwrap();
        let (said, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Running { child, lines }
    }

    /// Runs it to its end; gives when each of its stages ended, and what it said.
    #[track_caller]
    fn finish(self, dir: &Path) -> (Vec<f64>, Vec<String>) {
        let started = Instant::now();
        let Running { mut child, lines } = self.start(dir);
        let (ends, said): (Vec<f64>, Vec<String>) =
            lines.iter().map(|line| (started.elapsed().as_secs_f64(), line)).unzip();
        assert!(child.wait().unwrap().success(), "{}", said.join("\n"));
        let ends = ends.into_iter().chain([started.elapsed().as_secs_f64()]).collect();
        (ends, said)
    }

    /// Kills it so long after it said so many lines; false if it was done by then.
    fn kill(self, dir: &Path, lines: usize, after: Duration) -> bool {
        let mut running = self.start(dir);
        let patience = Duration::from_secs(120);
        for _ in 0..lines {
            match running.lines.recv_timeout(patience) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("nothing is said for two minutes"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        std::thread::sleep(after);
        let was_running = running.child.try_wait().unwrap().is_none();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        was_running
    }
}

/// What a directory holds, without what depends on the time, or on how often something was started.
fn contents(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (path, bytes) in files(out) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("events.out.tfevents.") {
            found.insert(path.with_file_name("events.out.tfevents"), Vec::new());
        } else if name == "metrics.jsonl" {
            let untimed = |line: &str| {
                let mut look: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
                look.retain(|key, _| key != "time" && key != "tokens_per_second");
                serde_json::to_string(&look).unwrap() + "\n"
            };
            let lines = String::from_utf8(bytes).unwrap();
            found.insert(path, lines.lines().map(untimed).collect::<String>().into_bytes());
        } else if name == "timings.parquet" || name.ends_with(".timing.json") {
            found.insert(path, Vec::new());
        } else {
            found.insert(path, bytes);
        }
    }
    found
}

#[track_caller]
fn assert_same(out: &Path, reference: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let found = contents(out);
    let names = |of: &BTreeMap<PathBuf, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(reference), "{what}");
    for (path, bytes) in reference {
        assert!(found[path] == *bytes, "{what}: {} differs", path.display());
    }
}

/// Kills a program at `count` moments, each in a directory of its own and some of them again on the way, and says how many it survived.
#[track_caller]
#[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
fn survives(name: &str, program: Program, count: usize) {
    let whole = place();
    let (ends, said) = program.finish(whole.path());
    let reference = contents(&whole.path().join("tiny"));
    let all = *ends.last().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut killed, mut again) = (0, 0);
    for at in 0..count {
        // The stage, and the share of it that has gone by.
        let (stage, share) = if at % 2 == 0 {
            let moment = all * (at as f64 + rng.random::<f64>()) / count as f64;
            let stage = ends.iter().take_while(|end| **end <= moment).count().min(ends.len() - 1);
            let begin = if stage == 0 { 0.0 } else { ends[stage - 1] };
            (stage, (moment - begin) / (ends[stage] - begin))
        } else {
            (at / 2 % ends.len(), rng.random())
        };
        let begin = if stage == 0 { 0.0 } else { ends[stage - 1] };
        let dir = place();
        let after = Duration::from_secs_f64((ends[stage] - begin) * share);
        let mut killed_once = program.kill(dir.path(), stage, after);
        if rng.random_bool(0.3) {
            let after = Duration::from_secs_f64(all * rng.random::<f64>());
            let killed_again = program.kill(dir.path(), 0, after);
            again += usize::from(killed_again && killed_once);
            killed_once |= killed_again;
        }
        let stage = match said.get(stage) {
            Some(line) if !line.contains(" runs in ") => line.split(": ").next().unwrap(),
            _ => "report",
        };
        killed += usize::from(killed_once);
        *met.entry(stage).or_default() += usize::from(killed_once);
        program.finish(dir.path());
        let what = format!("{name}, killed {:.3} s into `{stage}` (moment {at})", after.as_secs_f64());
        assert_same(&dir.path().join("tiny"), &reference, &what);
    }
    let met: Vec<String> = met.into_iter().map(|(stage, times)| format!("{stage}: {times}")).collect();
    eprintln!("{name}: survived {killed} kills at {count} moments, {again} of them twice; {}", met.join(", "));
    assert!(killed * 2 > count, "most moments are before the end");
}

fn kills() -> usize {
    std::env::var("ASSAY_KILLS").map_or(8, |text| text.parse().expect("ASSAY_KILLS is a number"))
}

#[test]
fn a_sweep_killed_at_any_moment_ends_with_the_same_files() {
    survives("sweep", SWEEP, kills());
}

#[test]
fn a_pass_of_features_killed_at_any_moment_ends_with_the_same_files() {
    survives("features", FEATURES, kills().div_ceil(2));
}
