//! `assay circles` and `assay cloud`: classes with an order in a model, and points of its activations.

use std::collections::BTreeSet;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::common::{Reference, assay, bundled, golden, refused, stdout_of};

const HOOK: &str = "blocks.3.hook_resid_post";

fn circles(arguments: &[&str]) -> Command {
    let mut command = assay();
    command.args(["circles", "--hook", HOOK, "--draws", "19", "--model"]).arg(bundled("small")).args(arguments);
    command
}

fn found(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout_of(circles(arguments).arg("--json"))).unwrap()
}

/// Sentences of four classes, written by hand.
fn seasons(path: &Path) {
    let line = |(before, class): (&str, &str)| json!({"text": format!("{before} {class}"), "label": class}).to_string();
    let before = ["It rained all", "They met last", "The house was built in", "We travel every"];
    let classes = ["winter", "spring", "summer", "autumn"];
    let lines: Vec<String> = before.iter().flat_map(|b| classes.map(|c| line((b, c)))).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

#[test]
fn classes_of_a_file_are_read_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seasons.jsonl");
    seasons(&file);
    let data = file.to_str().unwrap();
    let of = |order: &str, threads: &str| found(&["--data", data, "--order", order, "--threads", threads]);
    let (one, two) = (of("winter,spring,summer,autumn", "1"), of("winter,spring,summer,autumn", "2"));
    assert_eq!(one, two, "threads change nothing");
    // The three orders of four classes share the variance out: each harmonic of order 1 is two thirds of it on average.
    let share = |order: &str| of(order, "2")["of_model"]["measured"]["order"]["share"].as_f64().unwrap();
    let shares = [
        share("winter,spring,summer,autumn"),
        share("winter,summer,spring,autumn"),
        share("winter,spring,autumn,summer"),
    ];
    assert!((shares.iter().sum::<f64>() - 2.0).abs() < 1e-9, "{shares:?}");
    let order = &one["of_model"]["measured"]["order"];
    assert_eq!((order["orders"].as_u64(), order["all"].as_bool()), (Some(3), Some(true)));
    // Nothing follows the texts, so that the model is not asked.
    assert_eq!(one["of_model"]["turned"], Value::Null);
    assert_ne!(one["of_model"], one["of_random_model"]);
    refused(
        &mut circles(&["--data", data, "--order", "winter,spring,summer"]),
        &["--order", "autumn", "name each once"],
    );
    refused(&mut circles(&["--case", "years"]), &["no case years", "weekdays and months"]);
}

#[test]
fn weekdays_are_measured_and_turned() {
    let text = stdout_of(&mut circles(&["--case", "weekdays"]));
    for part in ["112 texts of 7 classes", "| by chance", "(360)", "turned in a random plane", "Not claimed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn points_are_activations_as_they_are_captured() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tokens = golden("eval-small/tokens.safetensors");
    let run = |command: &str, arguments: &[&str], out: &str| {
        let mut run = assay();
        run.arg(command).arg("--model").arg(bundled("small")).arg("--tokens").arg(&tokens).args(arguments);
        run.arg("--out").arg(at(out));
        run
    };
    stdout_of(&mut run("capture", &["--hook", HOOK], "all.safetensors"));
    let (all, shape) = Reference::open(at("all.safetensors")).floats("activations");
    let bits = |row: &[f32]| row.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    // Position 0 of each context is left out: 24 contexts of 128 tokens.
    let captured: BTreeSet<Vec<u32>> =
        all.chunks(shape[1]).enumerate().filter(|(row, _)| row % 128 > 0).map(|(_, row)| bits(row)).collect();
    stdout_of(&mut run("cloud", &["--hook", HOOK], "cloud.safetensors"));
    let (cloud, shape) = Reference::open(at("cloud.safetensors")).floats("cloud");
    assert_eq!(shape, [24, 128]);
    assert!(cloud.chunks(128).all(|row| captured.contains(&bits(row))));
    let mut topology = assay();
    topology.arg("topology").arg(at("cloud.safetensors")).args(["--nulls", "none", "--json"]);
    let read: Value = serde_json::from_str(&stdout_of(&mut topology)).unwrap();
    assert_eq!(read["points"], 24);

    // What one latent writes lies on a ray: all rows are multiples of its decoder row.
    let sae = golden("eval-small/L3_k8");
    let of_latent = ["--sae", sae.to_str().unwrap(), "--latents", "178", "--what", "reconstruction"];
    stdout_of(&mut run("cloud", &of_latent, "ray.safetensors"));
    let (ray, shape) = Reference::open(at("ray.safetensors")).floats("cloud");
    let decoder = Reference::open(sae.join("sae_weights.safetensors")).floats("W_dec").0;
    let row = &decoder[178 * 128..179 * 128];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let strengths: Vec<f64> = ray.chunks(128).map(|point| dot(point, row) / dot(row, row)).collect();
    assert!(shape[0] > 1 && strengths.windows(2).all(|pair| pair[0] >= pair[1] && pair[1] > 0.0), "{strengths:?}");
    for (point, strength) in ray.chunks(128).zip(&strengths) {
        assert!(point.iter().zip(row).all(|(&p, &r)| (f64::from(p) - strength * f64::from(r)).abs() < 1e-4));
    }

    refused(&mut run("cloud", &["--hook", HOOK], "cloud.safetensors"), &["is there already"]);
    refused(
        &mut run("cloud", &["--hook", HOOK, "--what", "reconstruction"], "x.safetensors"),
        &["--sae and --latents"],
    );
    refused(
        &mut run("cloud", &["--sae", sae.to_str().unwrap(), "--latents", "9999"], "x.safetensors"),
        &["9999", "1024"],
    );
    assert!(!at("x.safetensors").exists());
}
