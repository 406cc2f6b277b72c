//! Sweeps over the tokens that SAEs are trained on: on one stream, killed and resumed, alone and in company, and refused where they can't be.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assay::frames;
use assay::frames::RunResult;

use crate::common::{killed_and_resumed, reference_sweep, refused, spec_of, stdout_of, sweep};

const ALL: &str = r#"coders = [{ architecture = "topk", k = [4], loss_tokens = ["all", "no_first", "no_outlier"], objective = "mse" }]"#;

fn spec(dir: &Path) -> PathBuf {
    spec_of(ALL, dir)
}

fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("loss-tokens-reference", spec))
}

fn run_of<'a>(grid: &'a frames::Grid, objective: &str) -> &'a RunResult {
    grid.runs.iter().find(|run| run.setting.objective == objective).unwrap_or_else(|| panic!("no {objective}"))
}

/// No token of this model is an outlier, so that leaving them out changes no bit; leaving out first tokens changes the SAE.
#[test]
fn what_is_left_out_is_all_that_differs() {
    let grid = frames::read(whole()).unwrap();
    assert_eq!(grid.objectives(), ["mse", "mse no_first"]);
    let [all, no_first] = ["mse", "mse no_first"].map(|name| run_of(&grid, name));
    // One SAE counts once.
    let [no_outlier] = &grid.copies[..] else { panic!("{:?}", grid.copies) };
    assert_eq!(no_outlier.setting.objective, "mse no_outlier");
    let report = std::fs::read_to_string(whole().join("report.md")).unwrap();
    assert!(report.contains("beside them 1 SAE (mse no_outlier) in no number"), "{report}");
    let value = |run: &RunResult, column: &str| run.value(column).unwrap();
    assert_eq!(value(all, "no_outlier.tokens"), value(all, "tokens"), "the model has no outliers");
    for column in ["r2", "ce_rec", "kl", "no_first.r2"] {
        assert_eq!(value(all, column).to_bits(), value(no_outlier, column).to_bits(), "{column}");
        assert_ne!(value(all, column), value(no_first, column), "{column}");
    }
    assert!(whole().join("saes/small-L3-mse-no_first-k4-seed0-5120tokens/cfg.json").exists());
}

#[test]
fn a_run_that_leaves_nothing_out_is_the_one_that_does_not_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    stdout_of(&mut sweep(&spec_of(r#"coders = [{ architecture = "topk", k = [4] }]"#, dir.path()), &out));
    let (alone, company) = (frames::read(&out).unwrap(), frames::read(whole()).unwrap());
    assert_eq!(alone.runs[0].id, run_of(&company, "mse").id);
    let record = |out: &Path| std::fs::read(out.join(format!("runs/{}.json", alone.runs[0].id))).unwrap();
    assert!(record(&out) == record(whole()));
}

#[test]
fn a_training_without_some_tokens_resumes() {
    killed_and_resumed("loss-tokens-killed", spec);
}

#[test]
fn the_kl_is_taken_over_all_tokens() {
    let dir = tempfile::tempdir().unwrap();
    for (coder, part) in [
        (r#"objective = "kl", loss_tokens = "no_first""#, r#"loss_tokens = "no_first" with objective = "kl""#),
        (
            r#"loss_tokens = "first""#,
            "loss_tokens: unknown variant `first`, expected one of `all`, `no_first`, `no_outlier`",
        ),
    ] {
        let spec = spec_of(&format!(r#"coders = [{{ architecture = "topk", k = [4], {coder} }}]"#), dir.path());
        refused(&mut sweep(&spec, &dir.path().join("out")), &[part]);
    }
}
