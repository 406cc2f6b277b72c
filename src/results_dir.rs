//! A sweep's results directory: one process at a time works in it, and only on files that are a sweep's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::files::remove_abandoned;
use crate::frames;
use crate::plan::{PART, PLAN, group_and_sites};
use crate::spec::RECORDED_BY;

/// What the file `.lock` holds, so that a directory is known as a sweep's from its first moment on.
const MARK: &str = "The results of an `assay sweep`; locked while one is working here.\n";
const LOCK: &str = ".lock";
/// Where each group that is worked on by itself has a file that is locked.
const LOCKS: &str = ".locks";
const STATE: &str = ".state";

/// The file of a state that points to the rest of it.
pub const GROUP: &str = "group.json";

/// How long a process waits for another that prepares the directory, or that gathers what is in it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A results directory that this process works in.
pub struct ResultsDir {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

/// A group, or a part of one, that this process works on, and no other as long as this lives.
pub struct HeldGroup(#[expect(dead_code, reason = "they are locked for as long as they are open")] Vec<File>);

impl ResultsDir {
    /// Creates the directory, or takes one that is empty or that an earlier sweep left, and keeps other processes out for as long as this
    /// lives. Files of others that lie there since are never touched: where one has the name of a result, the directory is refused.
    ///
    /// # Errors
    /// If another process works in it, no sweep worked there before and it is not empty (hidden files do not count), it holds a file
    /// that a sweep would overwrite and that no sweep wrote, or it can't be written.
    pub fn claim(path: &Path) -> Result<Self> {
        Self::claim_within(path, Duration::ZERO)
    }

    /// The same, but a process that works there is waited for that long.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub fn claim_within(path: &Path, patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        Self::claim_after(path, || {
            ensure!(
                Instant::now() < deadline,
                "another process is working in {}; wait for it, or give another --out",
                path.display()
            );
            Ok(())
        })
    }

    /// The same, but a process that works there is waited for as long as `wait` allows, which is asked again and again.
    ///
    /// # Errors
    /// As [`Self::claim`], and those of `wait`.
    pub fn claim_after(path: &Path, mut wait: impl FnMut() -> Result<()>) -> Result<Self> {
        let mut lock = open_lock(path)?;
        while !taken(lock.try_lock(), path)? {
            wait()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        mark(&mut lock, path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The same for work on single groups of a sweep ([`Self::hold`]): processes that do so by the same plan are let in, all others kept
    /// out. `prepared` says whether the directory has that plan, `prepare` writes it; the latter is called when nobody else works there.
    ///
    /// # Errors
    /// As [`Self::claim`]; if other processes work there by another plan.
    pub fn join(
        path: &Path,
        prepared: impl Fn(&Path) -> Result<bool>,
        prepare: impl Fn(&Path) -> Result<()>,
    ) -> Result<Self> {
        let shown = path.display();
        let mut lock = open_lock(path)?;
        // Jobs of an array start together: one of them prepares the directory while the others wait for a moment.
        let deadline = Instant::now() + PATIENCE;
        let mut turn = u64::from(std::process::id());
        let wait = |turn: &mut u64| {
            ensure!(
                Instant::now() < deadline,
                "other processes are working in {shown} by another plan, or on all of it; wait for them, or give another --out"
            );
            *turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_millis(5 + (*turn >> 33) % 50));
            Ok(())
        };
        loop {
            if !taken(lock.try_lock_shared(), path)? {
                wait(&mut turn)?;
                continue;
            }
            if prepared(path)? {
                break;
            }
            lock.unlock().with_context(|| format!("cannot unlock {shown}"))?;
            if taken(lock.try_lock(), path)? {
                mark(&mut lock, path)?;
                if !prepared(path)? {
                    prepare(path)?;
                }
                lock.unlock().with_context(|| format!("cannot unlock {shown}"))?;
            } else {
                wait(&mut turn)?;
            }
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Takes a group, or a part of one, for as long as the result lives; `None` where another process works on it.
    ///
    /// # Errors
    /// If its file can't be written or locked.
    pub fn hold(&self, group: &str) -> Result<Option<HeldGroup>> {
        /// Bytes of a name that every file system takes.
        const LONGEST: usize = 200;
        let locks = self.path.join(LOCKS);
        std::fs::create_dir_all(&locks).with_context(|| format!("cannot create {}", locks.display()))?;
        let open = |name: &str| {
            let name = match name.len() {
                ..=LONGEST => locks.join(name),
                _ => locks.join(blake3::hash(name.as_bytes()).to_hex().as_str()),
            };
            // Readable: over NFS nobody else is kept out but by a lock that needs it.
            let file = OpenOptions::new().create(true).read(true).append(true).open(&name);
            file.with_context(|| format!("cannot write {}", name.display()))
        };
        let (whole, sites) = group_and_sites(group);
        let mut held = vec![open(whole)?];
        // Who works on a part leaves other sites to others, but nobody works on all of it.
        let mut is_taken = match sites.is_empty() {
            true => taken(held[0].try_lock(), &self.path)?,
            false => taken(held[0].try_lock_shared(), &self.path)?,
        };
        for site in sites {
            let site = open(&format!("{whole}{PART}{site}"))?;
            is_taken = is_taken && taken(site.try_lock(), &self.path)?;
            held.push(site);
        }
        Ok(is_taken.then_some(HeldGroup(held)))
    }

    /// Whether [`Self::claim`] would refuse the directory for what is in it; nothing is written.
    ///
    /// # Errors
    /// If it would.
    pub fn check(path: &Path) -> Result<()> {
        let shown = path.display();
        ensure!(!path.exists() || path.is_dir(), "{shown} is a file; give another --out");
        ensure!(
            path.exists() || path.symlink_metadata().is_err(),
            "{shown} is a link to nothing; remove it, or give another --out"
        );
        // Listed before the mark is looked for: another process, which works here, marks the directory before it writes anything else.
        let others = visible(path);
        let strangers = strangers(path);
        ensure!(
            strangers.is_empty(),
            "{shown} holds {}, which no sweep wrote and this one would overwrite; give another --out, or move what is there",
            strangers.join(", ")
        );
        if let Some(other) = others.first().filter(|_| !is_ours(path)) {
            bail!(
                "{shown} is no results directory and has files already, such as {other}; a sweep needs a directory of its own, such as --out {}",
                path.join("results").display()
            );
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what killed processes left of files on their way, and the directory of states if it is empty. Each finished group removes
    /// its own; what is left is of trainings that were stopped and then asked for otherwise, and would be resumed if they were asked for
    /// again.
    pub fn tidy(&self) {
        let written = ["runs", "tables", "plots"].map(|name| self.path.join(name));
        for dir in written.into_iter().chain(entries(&self.path.join("logs"))).chain([self.path.clone()]) {
            remove_abandoned(&dir);
        }
        // What a kill left of a state before it pointed to anything is nobody's.
        for state in states(&self.path).filter(|state| !state.join(GROUP).exists()) {
            let _kept = std::fs::remove_dir_all(state);
        }
        let _kept = std::fs::remove_dir(self.path.join(STATE));
        // Nobody works on a group while this process has the whole directory.
        let _kept = std::fs::remove_dir_all(self.path.join(LOCKS));
    }
}

/// The file that is locked, in a directory that a sweep may work in.
fn open_lock(path: &Path) -> Result<File> {
    ResultsDir::check(path)?;
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    let lock = path.join(LOCK);
    let file = OpenOptions::new().create(true).read(true).append(true).open(&lock);
    file.with_context(|| format!("cannot write {}", lock.display()))
}

/// Whether a lock was given; false where somebody else has it.
fn taken(locked: Result<(), TryLockError>, path: &Path) -> Result<bool> {
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.join(LOCK).display())),
    }
}

/// Marks a directory as a sweep's; to be called by who has it alone.
fn mark(lock: &mut File, path: &Path) -> Result<()> {
    if lock.metadata().is_ok_and(|m| m.len() == 0) {
        lock.write_all(MARK.as_bytes()).with_context(|| format!("cannot write {}", path.join(LOCK).display()))?;
    }
    Ok(())
}

/// How far a sweep has come whose results are not written yet.
pub struct Unfinished {
    /// Runs with a record.
    pub records: usize,
    /// Tokens that the group in training was trained on when its state was saved last; `None` if no state is saved.
    pub trained_tokens: Option<u64>,
}

/// What a sweep that was stopped has left in a directory, or one that is running there; `None` if none worked there.
pub fn unfinished(path: &Path) -> Option<Unfinished> {
    if !is_ours(path) {
        return None;
    }
    let records = recorded_runs(path);
    let tokens = |state: PathBuf| {
        let text = std::fs::read_to_string(state.join(GROUP)).ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()?.get("tokens")?.as_u64()
    };
    let trained_tokens = states(path).filter_map(tokens).max();
    Some(Unfinished { records, trained_tokens })
}

/// How many runs have a record in a directory.
pub fn recorded_runs(results: &Path) -> usize {
    entries(&results.join("runs")).filter(|record| is_record(record)).count()
}

/// Where the state of a group's training lies, by the id of the group.
pub fn state_dir(results: &Path, group: &str) -> PathBuf {
    results.join(STATE).join(group)
}

/// Where states lie of all groups and parts of groups that were stopped.
pub fn states(results: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    entries(&results.join(STATE)).filter(|state| is_state(state))
}

/// Where SAEs are whose training failed, as they were saved last.
pub const FAILED: &str = "failed";

/// Scripts and logs of what was submitted to Slurm.
pub const SLURM: &str = "slurm";

/// What a sweep writes when all of its runs are done, beside the frames.
const OUTCOMES: [&str; 4] = ["report.md", "report.html", "tables", "plots"];

/// What a sweep writes into its directory.
fn result_names() -> impl Iterator<Item = &'static str> {
    let others = ["sweep.toml", PLAN, "runs", "logs", "saes", FAILED, SLURM, STATE, LOCK, LOCKS];
    others.into_iter().chain(OUTCOMES).chain(frames::FILES).chain([frames::FAILURES, frames::LOOPS, frames::BARS])
}

/// What is there under the name of a result and was not written by a sweep.
fn strangers(path: &Path) -> Vec<&'static str> {
    // An empty lock says nothing of whose it is, and nothing is lost by it.
    let is_empty_lock = |name: &str| name == LOCK && path.join(name).metadata().is_ok_and(|m| m.len() == 0);
    let is_there = |name: &&str| path.join(name).symlink_metadata().is_ok() && !is_empty_lock(name);
    if !is_ours(path) {
        return result_names().filter(is_there).collect();
    }
    if path.join(frames::RUNS).is_file() {
        return Vec::new();
    }
    // The frame of runs is the first result that a sweep writes: without it, others are somebody else's.
    OUTCOMES.into_iter().chain(frames::FILES).filter(is_there).collect()
}

/// Whether a sweep worked here before. One file of a sweep among a user's own does not make the directory a sweep's: a recorded
/// spec is there to be copied.
fn is_ours(path: &Path) -> bool {
    let mut mark = String::new();
    let marked = File::open(path.join(LOCK)).and_then(|file| file.take(1024).read_to_string(&mut mark)).is_ok();
    if marked && mark == MARK {
        return true;
    }
    let results = path.join(frames::RUNS).is_file()
        || entries(&path.join("runs")).any(|record| is_record(&record))
        || states(path).next().is_some();
    let recorded = std::fs::read_to_string(path.join("sweep.toml")).is_ok_and(|text| text.starts_with(RECORDED_BY));
    // Records alone may have been brought together from several machines.
    let only_records = result_names().filter(|name| path.join(name).exists()).eq(["runs"]);
    results && (recorded || only_records)
}

/// The names of what is in a directory, in their order, but for hidden files, which say nothing of what the directory is for.
fn visible(dir: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries(dir).map(name).filter(|name| !name.starts_with('.')).collect();
    names.sort_unstable();
    names
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether a file is named as a run's record is: `<16 hex digits>.json`.
fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "json") && path.file_stem().is_some_and(|stem| is_id(&stem.to_string_lossy()))
}

/// Whether a directory is named as a group's state is, and holds nothing else.
fn is_state(path: &Path) -> bool {
    let ours = |entry: PathBuf| {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name == GROUP || name.starts_with("round-") || name.starts_with(".assay-")
    };
    path.is_dir() && path.file_name().is_some_and(|name| is_id(&name.to_string_lossy())) && entries(path).all(ours)
}

fn is_id(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    const RECORDED: &str = "# Recorded by assay 0.1.0 from s.toml.\n";

    #[test]
    fn a_directory_is_no_sweeps_for_one_file_in_it() {
        for (files, named) in [
            (vec![("report.md", "mine")], "report.md"),
            (vec![(".state/notes", "mine")], ".state"),
            (vec![("sweep.toml", RECORDED), ("report.md", "mine")], "report.md"),
            (vec![("sweep.toml", "name = 'x'"), ("runs.parquet", "mine")], "runs.parquet"),
            (vec![(".lock", "pid 12")], ".lock"),
            (vec![("plots/me.png", "mine"), ("runs/0123456789abcdef.json", "{}")], "plots"),
            (vec![("runs/mine.json", "{}")], "runs"),
            (vec![("notes.md", "mine")], "notes.md"),
            (vec![("bundled/small/config.json", "{}")], "bundled"),
        ] {
            let dir = dir_with(&files);
            let error = format!("{:#}", ResultsDir::claim(dir.path()).err().expect(named));
            assert!(error.contains(named), "{error}");
            for (name, text) in &files {
                assert_eq!(std::fs::read_to_string(dir.path().join(name)).unwrap(), *text);
            }
        }
    }

    #[test]
    fn what_a_sweep_left_is_taken_up_again() {
        for files in [
            vec![],
            vec![(".gitignore", "*")],
            vec![("runs/0123456789abcdef.json", "{}")],
            vec![("sweep.toml", RECORDED), ("runs.parquet", ""), ("report.md", ""), ("notes.md", "mine")],
            vec![("sweep.toml", RECORDED), (".lock", ""), (".state/0123456789abcdef/group.json", "{}")],
        ] {
            let dir = dir_with(&files);
            let claimed = ResultsDir::claim(dir.path()).unwrap();
            assert!(ResultsDir::claim(dir.path()).is_err(), "two at a time");
            std::fs::write(dir.path().join(frames::RUNS), "").unwrap();
            std::fs::write(dir.path().join("report.md"), "a report").unwrap();
            drop(claimed);
            ResultsDir::claim(dir.path()).unwrap();
        }
    }

    #[test]
    fn a_process_that_ends_soon_is_waited_for() {
        let dir = dir_with(&[]);
        let claimed = ResultsDir::claim(dir.path()).unwrap();
        assert!(ResultsDir::claim_within(dir.path(), Duration::from_millis(60)).is_err());
        let waits = std::thread::spawn({
            let path = dir.path().to_owned();
            move || ResultsDir::claim_within(&path, Duration::from_secs(60)).map(drop)
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waits.is_finished());
        drop(claimed);
        waits.join().unwrap().unwrap();
    }

    #[test]
    fn what_appears_before_a_sweep_has_written_results_is_not_its_own() {
        let dir = dir_with(&[]);
        drop(ResultsDir::claim(dir.path()).unwrap());
        std::fs::write(dir.path().join("report.md"), "mine").unwrap();
        let error = format!("{:#}", ResultsDir::claim(dir.path()).err().unwrap());
        assert!(error.contains("report.md"), "{error}");
        std::fs::write(dir.path().join(frames::RUNS), "").unwrap();
        ResultsDir::claim(dir.path()).unwrap();
    }

    #[test]
    fn states_stay_while_there_are_any() {
        let dir = dir_with(&[]);
        let claimed = ResultsDir::claim(dir.path()).unwrap();
        let state = dir.path().join(".state/0123456789abcdef");
        std::fs::create_dir_all(state.join("round-1-0")).unwrap();
        std::fs::write(state.join("group.json"), "{}").unwrap();
        claimed.tidy();
        assert!(state.exists());
        // What nothing points to was never whole.
        std::fs::remove_file(state.join("group.json")).unwrap();
        claimed.tidy();
        assert!(!dir.path().join(STATE).exists());
    }
}
