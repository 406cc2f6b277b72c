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
    refused(&mut circles(&["--case", "years"]), &["no case `years`", "weekdays and months"]);
}

#[test]
fn weekdays_are_measured_turned_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("weekdays.svg");
    let text = stdout_of(circles(&["--case", "weekdays", "--plot"]).arg(&plot));
    for part in ["112 texts of 7 classes", "| by chance", "(360)", "turned in a random plane", "Not claimed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let svg = std::fs::read_to_string(plot).unwrap();
    for part in ["Wednesday", "model: ", "random model: ", "component 1 of the means"] {
        assert!(svg.contains(part), "{part}");
    }
    // Of both models a mark a text and class, and a text along the loop; the legend has one a class.
    assert!(svg.matches("<polygon").count() + svg.matches("<circle").count() > 2 * (112 + 7), "{}", svg.len());
}

/// The last tokens of labelled texts; those of some labels are some of them.
#[test]
fn points_are_of_the_last_tokens_of_texts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let cloud = |arguments: &[&str], out: &str| {
        let mut command = assay();
        command
            .args(["cloud", "--hook", HOOK, "--model"])
            .arg(bundled("small"))
            .args(arguments)
            .arg("--out")
            .arg(at(out));
        command
    };
    let read = |out: &str| {
        let (values, shape) = Reference::open(at(out)).floats("cloud");
        let rows: Vec<Vec<u32>> =
            values.chunks(shape[1]).map(|row| row.iter().map(|v| v.to_bits()).collect()).collect();
        (rows, shape)
    };
    seasons(&at("seasons.jsonl"));
    let data = at("seasons.jsonl");
    let data = ["--data", data.to_str().unwrap()];
    stdout_of(&mut cloud(&data, "all.safetensors"));
    stdout_of(&mut cloud(&[&data[..], &["--labels", "summer,winter"]].concat(), "some.safetensors"));
    let (all, shape) = read("all.safetensors");
    assert_eq!(shape, [16, 128]);
    // Lines of the file are in turns of winter, spring, summer and autumn.
    let expected: Vec<_> = all.chunks(4).flat_map(|turn| [turn[0].clone(), turn[2].clone()]).collect();
    assert_eq!(read("some.safetensors").0, expected);
    // A text of its own has the same activations as among others.
    let one = json!({"text": "They met last autumn", "label": "a"}).to_string();
    let other = json!({"text": "They met", "label": "b"}).to_string();
    std::fs::write(at("two.jsonl"), format!("{one}\n{other}")).unwrap();
    stdout_of(&mut cloud(&["--data", at("two.jsonl").to_str().unwrap(), "--labels", "a"], "one.safetensors"));
    let floats = |rows: &[Vec<u32>]| rows.concat().into_iter().map(f32::from_bits).collect::<Vec<f32>>();
    let (alone, among) = (floats(&read("one.safetensors").0), floats(&all[7..8]));
    assert!(alone.len() == 128 && alone.iter().zip(&among).all(|(a, b)| (a - b).abs() < 1e-4), "{alone:?} {among:?}");
    refused(
        &mut cloud(&[&data[..], &["--labels", "monsoon"]].concat(), "x.safetensors"),
        &["monsoon", "autumn, spring"],
    );
    assert_eq!(
        cloud(&[&data[..], &["--case", "months"]].concat(), "x.safetensors").output().unwrap().status.code(),
        Some(2)
    );
    assert_eq!(cloud(&[], "x.safetensors").output().unwrap().status.code(), Some(2));
    assert!(!at("x.safetensors").exists());
}

/// What is said of a group agrees with its decoder rows, and with the points that `assay cloud` writes of its latents.
#[test]
fn groups_are_of_rows_that_are_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (sae, tokens) = (golden("eval-small/L3_k8"), golden("eval-small/tokens.safetensors"));
    let of = |command: &str, arguments: &[&str]| {
        let mut run = assay();
        run.arg(command).arg("--model").arg(bundled("small")).arg("--sae").arg(&sae).arg("--tokens").arg(&tokens);
        run.args(arguments);
        run
    };
    let groups = |arguments: &[&str]| -> Value {
        serde_json::from_str(&stdout_of(of("groups", &["--least", "20", "--json"]).args(arguments))).unwrap()
    };
    let found = groups(&["--by", "linked:0.3"]);
    assert_eq!(found, groups(&["--by", "linked:0.3", "--threads", "1"]));
    let rows = found["found"].as_array().unwrap();
    assert!(!rows.is_empty(), "{found}");
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap();
    assert!(rows.windows(2).all(|pair| number(&pair[0], "score") >= number(&pair[1], "score")));
    let decoder = Reference::open(sae.join("sae_weights.safetensors")).floats("W_dec").0;
    let row = |latent: u64| &decoder[latent as usize * 128..][..128];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let cosine = |a: u64, b: u64| dot(row(a), row(b)) / (dot(row(a), row(a)) * dot(row(b), row(b))).sqrt();
    for (at, group) in rows.iter().take(3).enumerate() {
        let latents: Vec<u64> = serde_json::from_value(group["latents"].clone()).unwrap();
        let pairs: Vec<(u64, u64)> =
            latents.iter().flat_map(|&a| latents.iter().filter(move |&&b| b != a).map(move |&b| (a, b))).collect();
        let mean = pairs.iter().map(|&(a, b)| cosine(a, b)).sum::<f64>() / pairs.len() as f64;
        assert!((mean - number(group, "cosine")).abs() < 1e-6, "{group}");
        // Each has a partner whose cosine is above what was asked for.
        assert!(latents.iter().all(|&a| latents.iter().any(|&b| b != a && cosine(a, b) > 0.3)), "{group}");
        assert!(
            (number(group, "score") - number(group, "separability") * (1.0 - number(group, "mixture"))).abs() < 1e-12
        );
        let names: Vec<String> = latents.iter().map(u64::to_string).collect();
        let out = dir.path().join(format!("{at}.safetensors"));
        let every =
            ["--what", "reconstruction", "--per-context", "1000", "--rows", "100000", "--latents", &names.join(",")];
        stdout_of(of("cloud", &every).arg("--out").arg(&out));
        let (_, shape) = Reference::open(&out).floats("cloud");
        assert_eq!(Some(shape[0] as u64), group["tokens"].as_u64());
    }
    assert!(groups(&["--by", "spectral:20"])["groups"].as_u64() > Some(1));
    assert_eq!(of("groups", &["--by", "nearest"]).output().unwrap().status.code(), Some(2));
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
