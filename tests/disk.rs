//! Disks that are full, lie or forget: what was finished stays, what is damaged is named, and no number is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::common::{
    assay, assert_same_frames, copy_dir, files, kill_when_saved, reference_sweep, refused, skipped, stdout_of, sweep,
    write_spec,
};

fn spec(dir: &Path) -> PathBuf {
    write_spec(dir, &[("checkpoint_tokens = 2048", "checkpoint_tokens = 2048\nsave_saes = true")])
}

fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("disk-reference", spec))
}

/// A file system of some bytes in memory, for as long as this lives.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// `None`, and it is said why, where none can be made.
    fn of(kilobytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={kilobytes}k");
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if made.is_ok_and(|output| output.status.success()) {
            return Some(Self { dir });
        }
        skipped("no file system can be mounted here; only root may");
        None
    }

    fn grow(&self) {
        let done = Command::new("mount").args(["-o", "remount,size=512m"]).arg(self.dir.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}

#[test]
fn a_disk_that_is_full_at_any_point_loses_nothing_that_was_finished() {
    // All that a sweep writes, and a state or two besides.
    let all: u64 = files(whole()).values().map(|bytes| bytes.len().next_multiple_of(4096) as u64 / 1024).sum();
    let (mut failed, mut done) = (0, 0);
    for share in [1, 5, 20, 50, 70, 85, 95, 100] {
        let Some(disk) = Disk::of(all * share / 100 + 8) else { return };
        let home = tempfile::tempdir().unwrap();
        let (spec, out) = (spec(home.path()), disk.dir.path().join("tiny"));
        let first = sweep(&spec, &out).output().unwrap();
        let said = String::from_utf8_lossy(&first.stderr).into_owned();
        match first.status.code() {
            Some(0) => done += 1,
            code => {
                failed += 1;
                assert_eq!(code, Some(1), "at {share} %: {said}");
                assert!(said.contains("o space left on device") && said.contains("cannot"), "at {share} %: {said}");
            }
        }
        let records = |out: &Path| {
            let found = files(out).into_iter().filter(|(path, _)| path.starts_with("runs"));
            found.collect::<std::collections::BTreeMap<_, _>>()
        };
        let before = if out.exists() { records(&out) } else { Default::default() };
        disk.grow();
        stdout_of(&mut sweep(&spec, &out));
        assert_same_frames(&out, whole());
        let after = records(&out);
        let kept = |path: &PathBuf| path.to_string_lossy().contains(".timing.") || after[path] == before[path];
        assert!(before.keys().filter(|path| !path.to_string_lossy().contains(".assay-")).all(kept), "at {share} %");
        assert!(after.keys().all(|path| !path.to_string_lossy().contains(".assay-")), "nothing half-written stays");
    }
    assert!(failed >= 5, "{failed} of them were full, {done} were not");
}

/// Root may write anywhere, so the directory is one of a file system that nobody may write to.
#[test]
fn a_directory_that_cannot_be_written_is_named_before_anything_is_trained() {
    let Some(disk) = Disk::of(1024) else { return };
    let home = tempfile::tempdir().unwrap();
    let spec = spec(home.path());
    let done = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.dir.path()).status().unwrap();
    assert!(done.success());
    let out = disk.dir.path().join("tiny");
    refused(&mut sweep(&spec, &out), &["cannot create", &*out.to_string_lossy(), "ead-only file system"]);
}

#[test]
fn a_bit_that_flips_in_a_record_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    copy_dir(whole(), &out);
    let is_record = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().matches('.').count() == 1;
    let record = std::fs::read_dir(out.join("runs")).unwrap().map(|e| e.unwrap().path()).find(is_record).unwrap();
    let bytes = std::fs::read(&record).unwrap();
    let name = record.file_name().unwrap().to_string_lossy().into_owned();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..100 {
        let mut flipped = bytes.clone();
        flipped[rng.random_range(0..bytes.len())] ^= 1 << rng.random_range(0..8);
        std::fs::write(&record, flipped).unwrap();
        let output = assay().arg("gather").arg(&out).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(&name) && said.contains("remove"), "{said}");
    }
    std::fs::write(&record, bytes).unwrap();
    stdout_of(assay().arg("gather").arg(&out));
    assert_same_frames(&out, whole());
}

#[test]
fn a_state_that_is_cut_short_or_flipped_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    kill_when_saved(&spec, &out, &[]);
    let states = |end: &str| {
        let of = |path: &&PathBuf| path.starts_with(".state") && path.to_string_lossy().ends_with(end);
        files(&out).keys().filter(of).cloned().collect::<Vec<_>>()
    };
    let group = out.join(&states("group.json")[0]);
    let pointed: serde_json::Value = serde_json::from_slice(&std::fs::read(&group).unwrap()).unwrap();
    let round = format!("round-{}-{}/", pointed["rounds"], pointed["into_round"]);
    let state = states("trainer_state.safetensors").into_iter().find(|path| path.to_string_lossy().contains(&round));
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for path in [group, out.join(state.unwrap())] {
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..20 {
            let place = rng.random_range(0..bytes.len());
            let mut damaged = bytes.clone();
            if at % 2 == 0 {
                damaged.truncate(place);
            } else {
                damaged[place] ^= 1 << rng.random_range(0..8);
            }
            std::fs::write(&path, damaged).unwrap();
            let output = sweep(&spec, &out).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{} {at} {place}: {said}", path.display());
            assert!(said.contains("damaged") && said.contains("to train from the start"), "{said}");
        }
        std::fs::write(&path, bytes).unwrap();
    }
    stdout_of(&mut sweep(&spec, &out));
    assert_same_frames(&out, whole());
}

/// A power cut leaves the old or the new: what is renamed is on the disk before, and its name after.
#[test]
fn what_is_renamed_is_on_the_disk_before() {
    let traces = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !traces.is_ok_and(|output| output.status.success()) {
        skipped("there is no strace here, or it may not trace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (spec, out, trace) = (spec(dir.path()), dir.path().join("tiny"), dir.path().join("trace"));
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=fsync,fdatasync,?rename,?renameat,?renameat2", "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_assay")).args(["--quiet", "--device", "cpu", "sweep"]).arg(&spec);
    let done = command.arg("--out").arg(&out).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let synced = |path: &Path, lines: &[&str]| {
        let open = format!("<{}>", path.display());
        lines.iter().any(|line| line.contains("sync(") && line.contains(&open))
    };
    let mut renames = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" rename") && line.contains('"')) {
        let names: Vec<&Path> = line.split('"').skip(1).step_by(2).map(Path::new).collect();
        let [from, to] = names[..] else { panic!("{line}") };
        // The lock of a directory on its way guards nothing that stays.
        if !to.starts_with(&out) || to.ends_with("lock") {
            continue;
        }
        renames += 1;
        // A directory is on the disk with all that is in it.
        assert!(synced(from, &lines[..at]), "{} was renamed before it was on the disk", from.display());
        let place = to.parent().unwrap();
        assert!(synced(place, &lines[at..]), "the name {} may be lost", to.display());
    }
    assert!(renames > 30, "{renames}");
}
