//! `assay utility`: what the topology of neighbourhoods adds, of files.

use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::common::{assay, npy_bytes, refused, stdout_of};

/// Points on rings and in discs, far apart from each other, with labels that are mixed more in discs, and counts that know of neither.
fn clouds(dir: &std::path::Path) {
    let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let (mut points, mut labels, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for group in 0..8 {
        for _ in 0..40 {
            let angle = rng.random::<f32>() * std::f32::consts::TAU;
            let radius = if group % 2 == 0 { 1.0 } else { rng.random::<f32>().sqrt() };
            points.extend([angle.cos() * radius + 10.0 * group as f32, angle.sin() * radius]);
            let label = f32::from(u8::from(rng.random::<f32>() < if group % 2 == 0 { 0.9 } else { 0.5 }));
            labels.extend([label, 1.0 - label]);
            counts.extend((0..6).map(|_| rng.random_range(0..5) as f32));
        }
    }
    for (name, values, width) in [("points", points, 2), ("labels", labels, 2), ("counts", counts, 6)] {
        let shape = format!("({}, {width})", values.len() / width);
        std::fs::write(dir.join(name).with_extension("npy"), npy_bytes(&values, &shape)).unwrap();
    }
}

#[test]
fn every_representation_is_asked_the_same() {
    let dir = tempfile::tempdir().unwrap();
    clouds(dir.path());
    let at = |name: &str| dir.path().join(name).with_extension("npy");
    let run = |threads: &str| {
        let mut command = assay();
        command.arg("utility").arg(at("points")).arg("--labels").arg(at("labels")).arg("--beside").arg(at("counts"));
        command.args(["--neighbours", "20", "--clusters", "16", "--draws", "19", "--threads", threads, "--json"]);
        stdout_of(&mut command)
    };
    let text = run("1");
    assert!(text == run("3"), "the number of threads changes a byte");
    let report: Value = serde_json::from_str(&text).unwrap();
    let found = report["found"].as_array().unwrap();
    let names: Vec<&str> = found.iter().map(|found| found["representation"].as_str().unwrap()).collect();
    assert!(names[1].ends_with("counts.npy, principal components") && names[2].ends_with("random projection"));
    assert!(found.iter().all(|found| found["dimensions"] == 2 && found["targets"].as_array().unwrap().len() == 3));
    let entropy = |at: usize| &found[at]["targets"][2];
    assert_eq!((entropy(0)["target"].as_str(), entropy(0)["rows"].as_u64()), (Some("entropy"), Some(320)));
    for of in found.iter().flat_map(|found| found["targets"].as_array().unwrap()) {
        let r2 = |at: usize| of["r2"][at].as_f64().unwrap();
        assert!((of["gain"].as_f64().unwrap() - (r2(2) - r2(0))).abs() < 1e-9, "{of}");
        assert!(of["p"].as_f64().is_some_and(|p| (0.05..=1.0).contains(&p)) && of["splits"] == 15, "{of}");
    }
    // Each representation has neighbours of its own.
    assert!(entropy(0)["r2"] != entropy(1)["r2"] && entropy(1)["r2"] != entropy(2)["r2"]);
    let mut shown = assay();
    shown.arg("utility").arg(at("points")).arg("--labels").arg(at("labels")).args([
        "--neighbours",
        "20",
        "--draws",
        "5",
    ]);
    let shown = stdout_of(&mut shown);
    assert!(shown.contains("| entropy ") && shown.contains("not that there is a loop"), "{shown}");
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    clouds(dir.path());
    let at = |name: &str| dir.path().join(name).with_extension("npy");
    std::fs::write(at("short"), npy_bytes(&[0.0, 1.0, 1.0, 0.0], "(2, 2)")).unwrap();
    let of = |labels: &str, more: &[&str]| {
        let mut command = assay();
        command.arg("utility").arg(at("points")).arg("--labels").arg(at(labels)).args(more);
        command
    };
    refused(&mut of("short", &[]), &["short.npy has 2 rows", "points.npy has 320"]);
    refused(&mut of("counts", &[]), &["counts.npy", "labels are 0 or 1"]);
    refused(&mut of("labels", &["--rows", "20"]), &["--neighbours 40 needs 41 points", "there are 20"]);
}

#[test]
fn one_label_may_be_a_row_and_too_few_points_name_the_option() {
    let dir = tempfile::tempdir().unwrap();
    clouds(dir.path());
    let (points, label) = (dir.path().join("points.npy"), dir.path().join("label.npy"));
    std::fs::write(&label, npy_bytes(&[1.0; 320], "(1, 320)")).unwrap();
    let run = |more: &[&str]| {
        let mut command = assay();
        command.arg("utility").arg(&points).arg("--labels").arg(&label).args(["--draws", "3", "--json"]).args(more);
        command
    };
    let report: Value = serde_json::from_str(&stdout_of(&mut run(&["--neighbours", "20"]))).unwrap();
    assert_eq!((report["labels"].as_u64(), report["points"].as_u64()), (Some(1), Some(320)));
    refused(&mut run(&["--rows", "30"]), &["--neighbours 40 needs 41 points", "there are 30", "--rows"]);
}

#[test]
fn what_does_not_vary_is_said_to() {
    let dir = tempfile::tempdir().unwrap();
    clouds(dir.path());
    let (points, label) = (dir.path().join("points.npy"), dir.path().join("label.npy"));
    let run = |value: f32, more: &[&str]| {
        std::fs::write(&label, npy_bytes(&[value; 320], "(320, 1)")).unwrap();
        let mut command = assay();
        command.arg("utility").arg(&points).arg("--labels").arg(&label);
        stdout_of(command.args(["--draws", "3", "--neighbours", "20"]).args(more))
    };
    for (value, why, shown) in [(1.0, "constant", "the same at every point"), (0.0, "no_rows", "none has a label")] {
        let report: Value = serde_json::from_str(&run(value, &["--json"])).unwrap();
        for target in report["found"][0]["targets"].as_array().unwrap() {
            assert_eq!(target["undefined"], why, "{target}");
            assert!(["r2", "gain", "gain_spearman", "p"].iter().all(|key| target[key].is_null()), "{target}");
        }
        let text = run(value, &[]);
        assert!(text.contains("Nothing can be said where") && text.matches(shown).count() == 3, "{text}");
    }
}
