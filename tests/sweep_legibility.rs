//! `[legibility]`: scores of what latents mean as numbers of a sweep's runs, the same as those of `assay features`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assay::frames;
use polars::prelude::{DataFrame, ParquetReader, SerReader as _};

use crate::common::{
    assay, bundled, files, killed_and_resumed, reference_sweep, refused, spec_of, stdout_of, sweep, write_spec,
};

const SCORED: &str = r#"controls = ["permuted-decoder", "random-model"]
coders = [{ architecture = "topk", k = [4] }, { architecture = "batchtopk", k = [4] }]
seeds = [0, 1]
legibility = { latents = 100000 }"#;

fn spec(dir: &Path) -> PathBuf {
    let path = spec_of(SCORED, dir);
    let text = std::fs::read_to_string(&path).unwrap();
    // Text in which latents fire often enough to be explained.
    std::fs::write(&path, text.replace("sequences = 4\ncontext_size = 32", "sequences = 24\ncontext_size = 128"))
        .unwrap();
    path
}

fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("legibility-reference", spec))
}

fn frame(path: &Path) -> DataFrame {
    ParquetReader::new(std::fs::File::open(path).unwrap()).finish().unwrap()
}

fn numbers(frame: &DataFrame, name: &str) -> Vec<Option<f64>> {
    frame.column(name).unwrap_or_else(|_| panic!("no {name}")).f64().unwrap().iter().collect()
}

/// Of all latents, so that the mean is that of a column of `features.parquet`.
#[test]
fn scores_are_means_of_what_the_features_say() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features");
    let sae = whole().join("saes/small-L3-k4-seed0-5120tokens");
    let mut command = assay();
    command.arg("features").arg("--model").arg(bundled("small")).arg("--sae").arg(&sae).arg("--out").arg(&out);
    command.arg("--tokens").arg(bundled("eval.parquet")).args([
        "--sequences",
        "24",
        "--context-size",
        "128",
        "--batch",
        "8",
    ]);
    stdout_of(command.args(["--ablate", "0", "--no-dashboard"]));
    let features = frame(&out.join("features.parquet"));
    let grid = frames::read(whole()).unwrap();
    let run = grid.runs.iter().find(|run| run.seed == 0 && run.setting.architecture == "topk").unwrap();
    let alive: Vec<bool> = features.column("firings").unwrap().u64().unwrap().iter().map(|n| n.unwrap() > 0).collect();
    for (score, column) in [
        ("detection_tokens", "detection_tokens_auroc"),
        ("detection_ngrams", "detection_ngrams_auroc"),
        ("detection_keywords", "detection_keywords_auroc"),
        ("detection_written", "detection_written_auroc"),
        ("detection_rule", "detection_rule_auroc"),
        ("token_entropy", "token_entropy"),
        ("purity", "purity"),
        ("eta2_token", "eta2_token_adjusted"),
        ("eta2_previous", "eta2_previous_adjusted"),
        ("eta2_position", "eta2_position_adjusted"),
        ("eta2_document", "eta2_document_adjusted"),
        ("input_score", "input_score"),
    ] {
        let of_alive = numbers(&features, column).into_iter().zip(&alive).filter(|(_, alive)| **alive);
        let values: Vec<f64> = of_alive.filter_map(|(value, _)| value).collect();
        assert!(values.len() > 20, "{column}: {}", values.len());
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let found = run.value(&format!("legibility.{score}")).unwrap();
        assert!((found - mean).abs() < 1e-9, "{score}: {found}, the features {mean}");
        let interval = run.interval(&format!("legibility.{score}")).unwrap();
        assert!(interval.low < found && found < interval.high, "{score}");
    }
    let explained = numbers(&features, "detection_tokens_auroc").iter().flatten().count();
    let share = explained as f64 / alive.iter().filter(|alive| **alive).count() as f64;
    assert!((run.value("legibility.explained").unwrap() - share).abs() < 1e-9);
}

/// A permuted decoder fires where its SAE does, and writes something else.
#[test]
fn a_permuted_decoder_moves_what_is_of_its_rows_alone() {
    let grid = frames::read(whole()).unwrap();
    let permuted = grid.controls.iter().filter(|of| of.control == "permuted-decoder");
    let mut seen = 0;
    for of in permuted {
        let run = grid.runs.iter().find(|run| run.setting == of.run.setting && run.seed == of.run.seed).unwrap();
        for (name, value) in &run.values {
            let Some(score) = name.strip_prefix("legibility.") else { continue };
            let is_of_rows =
                ["detection_written", "input_score", "encoder_decoder"].iter().any(|of| score.starts_with(of));
            assert_eq!(of.run.values[name] != *value, is_of_rows, "{name}");
            seen += 1;
        }
    }
    assert!(seen > 0);
    let text = |file: &str| std::fs::read_to_string(whole().join(file)).unwrap();
    let table = text("tables/legibility.md");
    assert!(table.contains("SAEs − permuted-decoder") && table.contains("ICC beyond random-model"), "{table}");
    assert!(text("report.md").contains("Can latents be read, and do R² or behaviour say so?"));
}

#[test]
fn a_sweep_that_reads_latents_resumes_and_leaves_no_firings() {
    let (_dir, out) = killed_and_resumed("legibility-killed", spec);
    assert!(!files(&out).keys().any(|path| path.to_string_lossy().contains("events.safetensors")));
    assert!(!out.join(".state").exists());
}

#[test]
fn one_latent_makes_no_mean() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("k = [2, 4]", "k = [4]\nlegibility = { latents = 1 }")]);
    refused(&mut sweep(&spec, &dir.path().join("out")), &["[legibility]: latents = 1: at least 2 make a mean"]);
}

#[test]
fn an_estimate_says_what_it_leaves_out() {
    let dir = tempfile::tempdir().unwrap();
    let estimate = |section: &str| {
        let spec = write_spec(dir.path(), &[("k = [2, 4]", &format!("k = [4]{section}"))]);
        stdout_of(sweep(&spec, &dir.path().join("out")).arg("--dry-run"))
    };
    assert!(!estimate("").contains("not counted"));
    let with = estimate("\nlegibility = { latents = 2 }");
    assert!(with.contains("the work of [legibility] is not counted"), "{with}");
}
