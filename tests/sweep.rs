//! A sweep gives the same files however it comes about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use assay::frames;
use tempfile::TempDir;

use crate::common::{
    assay, assert_same_frames, bundled, copy_dir, files, kill_when_saved, reference_sweep, stdout_of, sweep, write_spec,
};

/// The results of one uninterrupted sweep on one thread, which the tests compare with or copy.
fn reference() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| {
        reference_sweep("sweep-reference", |dir| write_spec(dir, &[("lr = 3e-3", "lr = 3e-3\nsave_saes = true")]))
    })
}

/// A copy of the reference under the same name, and its spec.
fn copy() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    copy_dir(reference(), &out);
    let spec = write_spec(dir.path(), &[]);
    (dir, spec, out)
}

#[track_caller]
fn assert_same(out: &Path) {
    assert_same_frames(out, reference());
}

fn records(out: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let runs = std::fs::read_dir(out.join("runs")).unwrap().map(|e| e.unwrap().path());
    runs.map(|p| (p.clone(), (p.metadata().unwrap().modified().unwrap(), std::fs::read(&p).unwrap()))).collect()
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[]);
    let out = dir.path().join("out");
    stdout_of(sweep(&spec, &out).env("RAYON_NUM_THREADS", "3"));
    assert_same(&out);
}

#[test]
fn a_killed_sweep_goes_on_and_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[]);
    let out = dir.path().join("out");
    kill_when_saved(&spec, &out, &[]);
    assert!(!out.join("runs").exists(), "it was killed too late");
    let output = sweep_aloud(&spec, &out);
    assert!(output.contains("resuming after"), "{output}");
    assert_same(&out);
    assert_eq!(curves(&out), curves(reference()));
    assert!(!out.join(".state").exists(), "a finished sweep keeps no state");
}

/// The training curves of a sweep by run, line by line, without what depends on the time.
fn curves(out: &Path) -> BTreeMap<String, Vec<serde_json::Map<String, serde_json::Value>>> {
    let runs = std::fs::read_dir(out.join("logs")).unwrap().map(|e| e.unwrap().path());
    let curve = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Map<_, _>>(line).unwrap());
        lines
            .map(|line| line.into_iter().filter(|(key, _)| key != "time" && key != "tokens_per_second").collect())
            .collect()
    };
    runs.map(|dir| (dir.file_name().unwrap().to_string_lossy().into_owned(), curve(&dir))).collect()
}

#[test]
fn training_curves_say_what_is_known_of_every_look() {
    let curves = curves(reference());
    let names: Vec<&str> = curves.keys().map(String::as_str).collect();
    assert_eq!(names, ["small-L3-k2-seed0-20480tokens", "small-L3-k4-seed0-20480tokens"]);
    let grid = frames::read(reference()).unwrap();
    for (run, curve) in grid.runs.iter().zip(curves.values()) {
        let of = |key: &str| curve.iter().map(|line| line[key].as_f64().unwrap()).collect::<Vec<_>>();
        // 160 steps of 128 tokens: each is looked at.
        assert_eq!(of("step"), (0..160).map(f64::from).collect::<Vec<_>>());
        assert_eq!(of("tokens"), (1..=160).map(|n| f64::from(128 * n)).collect::<Vec<_>>());
        let looked_at: Vec<f64> = run.curve.iter().map(|&(_, loss)| loss).collect();
        assert_eq!(of("loss"), looked_at);
        assert!(of("l0").iter().all(|&l0| l0 > 0.0 && l0 <= run.setting.k.unwrap() as f64));
        let fvu = of("fvu");
        assert!(fvu.iter().all(|&f| f > 0.0) && fvu[159] < 0.8 * fvu[0] && fvu[159] < 1.0, "{fvu:?}");
        let record = std::fs::read_to_string(reference().join(format!("runs/{}.json", run.id))).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(of("dead").last().copied(), record["n_dead"].as_f64());
        assert!(of("lr").iter().all(|&lr| lr > 0.0 && lr <= 3e-3));
        assert!(of("aux_loss").iter().all(|&aux| aux >= 0.0));
        let dir = reference().join("logs").join(format!("small-L3-k{}-seed0-20480tokens", run.setting.k.unwrap()));
        let events = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let events: Vec<String> = events.filter(|name| name != "metrics.jsonl").collect();
        assert!(events.len() == 1 && events[0].starts_with("events.out.tfevents."), "{events:?}");
    }
}

#[test]
fn curves_are_not_written_where_the_spec_says_so() {
    let (_dir, spec, out) = copy();
    for entry in ["logs", "runs"] {
        std::fs::remove_dir_all(out.join(entry)).unwrap();
    }
    stdout_of(sweep(&spec, &out).args(["--set", "train.log=false"]));
    assert!(!out.join("logs").exists());
    assert_same(&out);
}

/// A sweep on compressed JSON lines, killed when its first state is saved, and resumed.
#[test]
fn a_sweep_on_streamed_text_goes_on_where_it_was_killed() {
    let text = crate::common::root().join("tests/fixtures/sample.jsonl.zst");
    let train = format!("train = '{}'", bundled("train.parquet").display());
    let changes =
        [(train.as_str(), format!("train = '{}'\nrepeat = true", text.display())), ("[2, 4]", "[2]".to_owned())];
    let changes: Vec<(&str, &str)> = changes.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &changes);
    let (whole, out) = (dir.path().join("whole/tiny"), dir.path().join("killed/tiny"));
    stdout_of(&mut sweep(&spec, &whole));
    kill_when_saved(&spec, &out, &[]);
    assert!(!out.join("runs").exists(), "it was killed too late");
    let output = sweep_aloud(&spec, &out);
    assert!(output.contains("resuming after") && output.contains("small tokenise"), "{output}");
    assert_same_frames(&out, &whole);
    assert_eq!(curves(&out), curves(&whole));
}

/// Standard error of a sweep with progress.
fn sweep_aloud(spec: &Path, out: &Path) -> String {
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_assay"))
        .arg("sweep")
        .arg(spec)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_finished_sweep_trains_nothing_again() {
    let (_dir, spec, out) = copy();
    let before = records(&out);
    assert_eq!(before.len(), 5, "two records and their timings, and the geometry");
    let all = files(&out);
    stdout_of(&mut sweep(&spec, &out));
    assert_eq!(records(&out), before);
    assert_same(&out);
    let after = files(&out);
    // The spec's copy says save_saes no more, and the plan is that of the spec.
    let follows = |path: &Path| path.ends_with("sweep.toml") || path.ends_with("plan.json");
    for (path, bytes) in all.iter().filter(|(path, _)| !follows(path)) {
        assert!(after[path] == *bytes, "{} changed", path.display());
    }
}

#[test]
fn an_sae_trained_alone_is_the_one_trained_in_company() {
    let (_dir, spec, out) = copy();
    let is_run = |path: &PathBuf| path.file_stem().is_some_and(|stem| !stem.to_string_lossy().contains('.'));
    let record = records(&out).into_keys().find(is_run).unwrap();
    let bytes = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    stdout_of(&mut sweep(&spec, &out));
    assert!(std::fs::read(&record).unwrap() == bytes);
    assert_same(&out);
}

#[test]
fn a_report_is_rebuilt_from_the_parquet_files_alone() {
    let (_dir, _, out) = copy();
    let before = files(&out);
    for folder in ["tables", "plots", "runs", "saes"] {
        std::fs::remove_dir_all(out.join(folder)).unwrap();
    }
    let pages = ["report.md", "report.html"];
    pages.iter().for_each(|page| std::fs::remove_file(out.join(page)).unwrap());
    stdout_of(assay().arg("report").arg(&out));
    let after = files(&out);
    let made = |path: &&PathBuf| {
        path.starts_with("tables") || path.starts_with("plots") || pages.iter().any(|page| path.ends_with(page))
    };
    assert_eq!(before.keys().filter(|path| pages.iter().any(|page| path.ends_with(page))).count(), 2);
    assert_eq!(after.keys().filter(made).count(), before.keys().filter(made).count());
    for path in before.keys().filter(made) {
        assert!(after[path] == before[path], "{} differs", path.display());
    }
    assert!(before.keys().filter(made).count() >= 10, "five tables, two plots twice, a report");
}

#[test]
fn a_saved_sae_evaluates_to_its_record() {
    let grid = frames::read(reference()).unwrap();
    assert_eq!(grid.runs.len(), 2);
    for run in &grid.runs {
        let mut command = assay();
        command.args(["eval", "--json", "--sequences", "4", "--context-size", "32", "--resamples", "100", "--model"]);
        command.arg(bundled("small")).arg("--tokens").arg(bundled("eval.parquet"));
        command.arg("--sae").arg(reference().join(format!(
            "saes/small-L3-k{}-seed0-{}tokens",
            run.setting.k.unwrap(),
            run.training_tokens
        )));
        let found: serde_json::Value = serde_json::from_str(&stdout_of(&mut command)).unwrap();
        assert_eq!(found["hook"], run.hook);
        assert_eq!(found["all"]["r2"].as_f64(), run.value("r2"));
        assert_eq!(found["ce_rec"].as_f64(), run.value("ce_rec"));
        assert_eq!(found["alive_frac"].as_f64(), run.value("alive_frac"));
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[]);
    let out = dir.path().join("out");
    let listed = stdout_of(sweep(&spec, &out).arg("--dry-run"));
    assert!(listed.contains("2 runs, 2 to do"), "{listed}");
    assert_eq!(files(dir.path()).len(), 1, "only the spec");
    assert!(!out.exists());
    // And it knows what is done: the same runs under other names of model and depth.
    let spec = write_spec(dir.path(), &[("\"small\"", "\"other\""), ("mid = 3", "middle = 3")]);
    let listed = stdout_of(sweep(&spec, reference()).arg("--dry-run"));
    assert!(listed.contains("2 runs, 0 to do"), "{listed}");
}

#[test]
fn a_model_without_a_path_is_left_out_until_it_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let second = "layers = { mid = 3 }\n\n[[models]]\nname = \"large\"\nlayers = { mid = 4 }";
    let spec = write_spec(dir.path(), &[("layers = { mid = 3 }", second), ("[20480]", "[2048]"), ("[2, 4]", "[2]")]);
    let out = dir.path().join("out");
    let done = sweep(&spec, &out).output().unwrap();
    assert!(done.status.success());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("model `large` is left out") && said.contains("--set models.large.path=DIR"), "{said}");
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("**`large` is missing**"));
    assert_eq!(frames::read(&out).unwrap().missing, ["large"]);

    let path = format!("models.large.path={}", bundled("medium").display());
    stdout_of(sweep(&spec, &out).args(["--set", &path]));
    let grid = frames::read(&out).unwrap();
    assert_eq!((grid.runs.len(), grid.models()), (2, vec!["small".to_owned(), "large".to_owned()]));
    assert!(grid.missing.is_empty());
    assert!(!std::fs::read_to_string(out.join("report.md")).unwrap().contains("is missing"));
}

#[test]
fn mutual_information_is_measured_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "[information]\ntokens = 16384\nsteps = 4\nwidths = [1, 8]\n\n[eval]";
    let spec = write_spec(dir.path(), &[("[eval]", settings), ("[20480]", "[2048]"), ("[2, 4]", "[2]")]);
    let out = dir.path().join("out");
    stdout_of(&mut sweep(&spec, &out));
    let (before, frame) = (records(&out), std::fs::read(out.join("information.parquet")).unwrap());
    let found = frames::read(&out).unwrap().information;
    let of = |e: &assay::frames::Estimated| (e.critic.clone(), e.bound.clone(), e.width);
    let names = |critic: &str, bound: &str, width| (critic.to_owned(), bound.to_owned(), width);
    let expected = [
        names("separable", "info_nce", None),
        names("separable", "smile", None),
        names("concatenated", "info_nce", None),
        names("concatenated", "smile", None),
        names("concatenated", "smile", Some(1)),
        names("concatenated", "smile", Some(8)),
    ];
    assert_eq!(found.iter().map(|(_, e)| of(e)).collect::<Vec<_>>(), expected);
    assert!(found.iter().all(|(model, e)| model == "small" && e.depth == "mid" && e.nats.is_finite() && e.pairs > 0));
    assert!(found.iter().all(|(_, e)| e.cap.is_some() == (e.bound == "info_nce")));
    assert!(std::fs::read_to_string(out.join("report.md")).unwrap().contains("`tables/information.md`"));

    stdout_of(&mut sweep(&spec, &out));
    assert!(records(&out) == before, "measured anew");
    assert!(std::fs::read(out.join("information.parquet")).unwrap() == frame);
}

#[test]
fn a_text_that_is_too_short_is_read_again_if_the_spec_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let short = format!("train = '{}'", bundled("eval.parquet").display());
    let long = format!("eval = '{}'", bundled("train.parquet").display());
    let train = format!("train = '{}'", bundled("train.parquet").display());
    let eval = format!("eval = '{}'", bundled("eval.parquet").display());
    // 49,152 tokens, of which the budget asks for more.
    let changes = [(train.as_str(), short.as_str()), (&eval, &long), ("[20480]", "[51200]"), ("[2, 4]", "[2]")];
    let spec = write_spec(dir.path(), &changes);
    let refused = sweep(&spec, &dir.path().join("refused")).arg("--dry-run").output().unwrap();
    assert!(!refused.status.success());
    stdout_of(sweep(&spec, &dir.path().join("out")).args(["--set", "tokens.repeat=true"]));
    assert_eq!(frames::read(&dir.path().join("out")).unwrap().runs.len(), 1);
}

#[test]
fn the_recorded_spec_runs_again_to_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("[20480]", "[2048]")]);
    let out = dir.path().join("first");
    let text = format!("tokens.eval={}", bundled("eval.parquet").display());
    stdout_of(sweep(&spec, &out).args(["--set", "k=[4]", "--set", "eval.seed=7", "--set", &text]));
    std::fs::remove_file(&spec).unwrap();
    // Moved, with all that it was run with in it; where it lies, and copied beside other files.
    let recorded = out.join("sweep.toml");
    let again = dir.path().join("again");
    stdout_of(&mut sweep(&recorded, &again));
    assert_same_frames(&again, &out);
    let listed = stdout_of(sweep(&recorded, &out).arg("--dry-run"));
    assert!(listed.contains("1 run, 0 to do"), "{listed}");
    let read =
        |dir: &Path| std::fs::read_to_string(dir.join("sweep.toml")).unwrap().split_once('\n').unwrap().1.to_owned();
    assert_eq!(read(&again), read(&out), "both name their sources from the root, which is all that they share");
}

#[test]
fn files_that_no_sweep_wrote_are_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("[20480]", "[2048]"), ("[2, 4]", "[2]")]);
    let out = dir.path().join("mine");
    std::fs::create_dir_all(out.join(".state/drafts")).unwrap();
    std::fs::write(out.join("report.md"), "my own report").unwrap();
    std::fs::write(out.join(".state/drafts/one"), "my own draft").unwrap();
    let before = files(&out);
    crate::common::refused(&mut sweep(&spec, &out), &["report.md", ".state", "no sweep wrote", "--out"]);
    assert_eq!(files(&out), before);
    // A directory with files of other names is not a sweep's either, and stays as it is.
    std::fs::rename(out.join("report.md"), out.join("notes.md")).unwrap();
    std::fs::rename(out.join(".state"), out.join("state")).unwrap();
    let before = files(&out);
    let own = format!("--out {}", out.join("results").display());
    for more in [&[][..], &["--dry-run"], &["--group", "0"], &["--devices", "cpu,cpu"]] {
        let parts = ["no results directory", "such as notes.md", &own];
        crate::common::refused(sweep(&spec, &out).args(more), &parts);
        assert!(files(&out) == before, "{more:?} changed a file");
    }
    // Where that leads it works, and what somebody puts beside its results is left.
    let own = out.join("results");
    stdout_of(&mut sweep(&spec, &own));
    std::fs::rename(out.join("notes.md"), own.join("notes.md")).unwrap();
    stdout_of(&mut sweep(&spec, &own));
    assert_eq!(std::fs::read_to_string(own.join("notes.md")).unwrap(), "my own report");
    assert_eq!(std::fs::read_to_string(out.join("state/drafts/one")).unwrap(), "my own draft");
}

#[test]
fn a_sweep_of_another_name_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let short = [("[20480]", "[2048]"), ("[2, 4]", "[2]")];
    let spec = write_spec(dir.path(), &short);
    let out = dir.path().join("tiny");
    stdout_of(&mut sweep(&spec, &out));
    let before = files(&out);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = write_spec(elsewhere.path(), &[short[0], short[1], ("\"tiny\"", "\"other\"")]);
    let parts = ["holds the sweep `tiny`", "this one, `other`", "give another --out", "--set name=tiny"];
    for more in [&[][..], &["--dry-run"], &["--group", "0"], &["--devices", "cpu,cpu"], &["--slurm"]] {
        crate::common::refused(sweep(&other, &out).args(more), &parts);
        assert!(files(&out) == before, "{more:?} changed a file");
    }
    // A spec of its name goes on there, changed or not.
    stdout_of(sweep(&other, &out).args(["--set", "name=tiny", "--set", "k=[2, 4]"]));
    assert_eq!(frames::read(&out).unwrap().runs.len(), 2);
}

/// What was trained for a wider spec is kept, and said to be there.
#[test]
fn a_report_that_becomes_smaller_says_how_the_earlier_one_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("[20480]", "[2048]")]);
    let out = dir.path().join("tiny");
    let aloud = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
        command.args(["--device", "cpu", "sweep"]).arg(&spec).arg("--out").arg(&out).args(more);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = aloud(&[]);
    assert!(said.contains("2 runs in ") && !said.contains("more run"), "{said}");
    let report = std::fs::read(out.join("report.md")).unwrap();
    let said = aloud(&["--set", "k=[2]"]);
    assert!(said.contains("nothing to do, 1 run finished before"), "{said}");
    assert!(said.contains("tiny has 1 more run") && said.contains("another --out keeps both"), "{said}");
    assert_eq!(frames::read(&out).unwrap().runs.len(), 1);
    let said = aloud(&["--set", "k=[2, 8]"]);
    assert!(said.contains("2 runs in ") && said.contains("1 of them trained now"), "{said}");
    let said = aloud(&[]);
    assert!(said.contains("nothing to do, 2 runs finished before") && said.contains("1 more run"), "{said}");
    assert!(std::fs::read(out.join("report.md")).unwrap() == report, "it is back, byte for byte");
}

#[test]
fn mutual_information_follows_from_all_text_that_it_reads() {
    // 256 contexts are read, 32 are trained on: what changes lies beyond the first budget.
    let dir = tempfile::tempdir().unwrap();
    let text = crate::common::root().join("models/bundled/train.parquet");
    let tokens =
        assay_models::tokens::TokenSource::open(&text, 64, Default::default(), None).unwrap().read(0, 300).unwrap();
    let write = |path: &Path, changed: bool| {
        let mut tokens = tokens.mapv(i64::from);
        if changed {
            tokens.slice_mut(ndarray::s![100.., ..]).mapv_inplace(|t| (t + 1) % 4096);
        }
        crate::common::write_tokens(path, &tokens);
    };
    let path = dir.path().join("text.safetensors");
    let train = format!("train = '{}'", bundled("train.parquet").display());
    let here = format!("train = '{}'", path.display());
    let settings = "[information]\ntokens = 16384\nsteps = 4\nwidths = [1]\n\n[eval]";
    let spec =
        write_spec(dir.path(), &[(&train, &here), ("[eval]", settings), ("[20480]", "[2048]"), ("[2, 4]", "[2]")]);
    let out = dir.path().join("out");
    let measured = |args: &[&str]| {
        stdout_of(sweep(&spec, &out).args(args));
        std::fs::read(out.join("information.parquet")).unwrap()
    };
    write(&path, false);
    let before = measured(&[]);
    assert!(measured(&[]) == before);
    write(&path, true);
    assert!(measured(&[]) != before, "the estimates of other text");
    write(&path, false);
    assert!(measured(&[]) == before);
}

#[test]
fn the_speed_of_a_training_that_was_killed_counts_all_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("[2, 4]", "[2]")]);
    let out = dir.path().join("out");
    kill_when_saved(&spec, &out, &[]);
    assert!(!out.join("runs").exists(), "it was killed too late");
    // As if the process that was killed had trained for an hour.
    let group = std::fs::read_dir(out.join(".state")).unwrap().next().unwrap().unwrap().path().join("group.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&group).unwrap()).unwrap();
    assert!(
        state["train_seconds"].as_f64().unwrap() > 0.0 && state["capture_seconds"].as_f64().unwrap() > 0.0,
        "{state}"
    );
    state["train_seconds"] = 3600.0.into();
    // As versions wrote it that sealed nothing.
    (state["seal"], state["blake3"]) = ("".into(), serde_json::json!({}));
    std::fs::write(&group, state.to_string()).unwrap();
    stdout_of(&mut sweep(&spec, &out));
    let frame = frames::open(&out.join("timings.parquet")).unwrap();
    let of = |name: &str| frame.column(name).unwrap().f64().unwrap().get(0).unwrap();
    assert!(of("train_seconds") > 3600.0);
    assert!((of("tokens_per_second") - 20480.0 / of("train_seconds")).abs() < 1e-6);
}
