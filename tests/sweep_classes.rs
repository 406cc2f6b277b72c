//! Sweeps over classes of SAE: all kinds on one stream, killed and resumed, and what is refused before anything is captured.

use std::path::{Path, PathBuf};

use assay::frames;
use assay_sae::formats;

use crate::common::{cpu, killed_and_resumed, refused, spec_of, sweep, values, write_spec};

const CODERS: &str = r#"coders = [
  { architecture = "topk", k = [4] },
  { architecture = "batchtopk", k = [2.5, 4] },
  { architecture = "matryoshka", k = [4], widths = [32, 256] },
  { architecture = "hierarchical", ks = [2, 4, 16] },
  { architecture = "jumprelu", l0_coefficient = [0.05, 0.5], bandwidth = 0.5 },
  { architecture = "gated", l1_coefficient = 0.5 },
  { architecture = "standard", l1_coefficient = [0.5] },
]"#;

fn spec(dir: &Path) -> PathBuf {
    spec_of(CODERS, dir)
}

#[test]
fn every_class_is_trained_on_one_stream_and_resumed() {
    let (_dir, out) = killed_and_resumed("classes-reference", spec);

    let grid = frames::read(&out).unwrap();
    let settings: Vec<(String, Option<u64>, Option<String>)> = grid
        .runs
        .iter()
        .map(|run| (run.setting.architecture.clone(), run.setting.k, run.setting.knob.clone()))
        .collect();
    let knob = |class: &str, knob: &str| (class.to_owned(), None, Some(knob.to_owned()));
    let k = |class: &str, k| (class.to_owned(), Some(k), None);
    let expected = [
        k("topk", 4),
        knob("batchtopk", "k 2.5"),
        k("batchtopk", 4),
        k("matryoshka", 4),
        k("hierarchical", 2),
        k("hierarchical", 4),
        k("hierarchical", 16),
        knob("jumprelu", "l0_coefficient 0.05"),
        knob("jumprelu", "l0_coefficient 0.5"),
        knob("gated", "l1_coefficient 0.5"),
        knob("standard", "l1_coefficient 0.5"),
    ];
    for setting in &expected {
        assert!(settings.contains(setting), "{setting:?} is not among {settings:?}");
    }
    assert_eq!(settings.len(), expected.len());
    assert!(grid.runs.iter().all(|run| run.value("r2").is_some_and(f64::is_finite)));

    for (name, activation) in [
        ("small-L3-batchtopk-k2.5-seed0-5120tokens", "jumprelu"),
        ("small-L3-jumprelu-l0_coefficient0.5-seed0-5120tokens", "jumprelu"),
        ("small-L3-gated-l1_coefficient0.5-seed0-5120tokens", "gated"),
        ("small-L3-standard-l1_coefficient0.5-seed0-5120tokens", "standard"),
    ] {
        let saved = formats::load(&out.join("saes").join(name), &cpu()).unwrap();
        assert_eq!(saved.sae.activation().name(), activation, "{name}");
    }
    // One training, used at every k of its grid.
    let at = |k: usize| {
        let dir = out.join("saes").join(format!("small-L3-hierarchical-k{k}-seed0-5120tokens"));
        let sae = formats::load(&dir, &cpu()).unwrap().sae;
        (sae.k(), sae.weights().map(values))
    };
    let weights = at(2).1;
    assert_eq!([2, 4, 16].map(at), [2, 4, 16].map(|k| (Some(k), weights.clone())));
}

#[test]
fn settings_that_cannot_be_are_refused_before_anything_is_captured() {
    for (coder, parts) in [
        (
            r#"{ architecture = "matryoshka", k = [4], widths = [32, 200] }"#,
            ["widths = [32, 200] must end at d_sae = 256", "add it"],
        ),
        (r#"{ architecture = "batchtopk", k = [300] }"#, ["k is 300", "between 1 and d_sae = 256"]),
        (
            r#"{ architecture = "jumprelu", l0_coefficient = 1, sparsity = "quadratic", target_l0 = [300] }"#,
            ["target_l0 is 300", "at most d_sae = 256"],
        ),
        (r#"{ architecture = "hierarchical", ks = [4, 300] }"#, ["k is 300", "between 1 and d_sae = 256"]),
        (r#"{ architecture = "hierarchical", ks = [8, 4] }"#, ["ks = [8, 4]", "ascending"]),
        (r#"{ architecture = "hierarchical", ks = [4, 8], k = 6 }"#, ["k = 6 is none of ks = [4, 8]", "add it there"]),
        (r#"{ architecture = "gated", target_l0 = [0] }"#, ["target_l0 is 0", "at most d_sae = 256"]),
        (r#"{ architecture = "jumprelu", target_l0 = 300 }"#, ["target_l0 is 300", "at most d_sae = 256"]),
        (r#"{ architecture = "standard", k = [8], l1_coefficient = 1 }"#, ["unknown field `k`", "`l1_coefficient`"]),
        (r#"{ architecture = "gated", l1_coefficient = [-1] }"#, ["l1_coefficient is -1", "must be 0 or positive"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let coders = format!("coders = [{coder}]");
        let spec = write_spec(dir.path(), &[("k = [2, 4]", &coders)]);
        let out = dir.path().join("out");
        refused(&mut sweep(&spec, &out), &parts);
        assert!(!out.join(".state").exists());
    }
}
