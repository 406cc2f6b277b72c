//! Sweeps that audit clouds for loops: what is audited, resumed, reported and refused.

use std::collections::BTreeMap;
use std::path::Path;

use assay::frames::{self, LoopTest};
use assert_cmd::Command;
use serde_json::Value;

use crate::common::{Reference, assay, refused, stdout_of, sweep, write_floats, write_spec};

const SECTION: &str =
    "[topology]\nclouds = ['decoder', 'encoder', 'activations']\ndraws = 19\nrows = 40\nseeds = [0, 1]\n\n[eval]";
const SAVED: (&str, &str) = ("lr = 3e-3", "lr = 3e-3\nsave_saes = true");
/// More held-out sequences, of each of which a token is taken.
const SEQUENCES: (&str, &str) = ("sequences = 4", "sequences = 24");

fn bytes(out: &Path, names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    names.iter().map(|name| ((*name).to_owned(), std::fs::read(out.join(name)).unwrap())).collect()
}

fn records(out: &Path) -> Vec<std::path::PathBuf> {
    let runs = std::fs::read_dir(out.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = runs.filter(|path| path.to_string_lossy().ends_with(".topology.json")).collect();
    found.sort();
    found
}

const LOOPS: [&str; 4] = ["topology.parquet", "bars.parquet", "report.md", "plots/loops.svg"];

#[test]
fn clouds_are_audited_once_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let without = write_spec(dir.path(), &[SAVED, SEQUENCES]);
    stdout_of(&mut sweep(&without, &out));
    assert!(!out.join("topology.parquet").exists());
    let other_names =
        ["runs.parquet", "sequences.parquet", "latents.parquet", "geometry.parquet", "tables/everything.md"];
    let before = bytes(&out, &other_names);
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(!report.contains("more of a loop"));

    // Asked for later, of SAEs that were trained before: nothing else changes.
    let spec = write_spec(dir.path(), &[SAVED, SEQUENCES, ("[eval]", SECTION)]);
    stdout_of(sweep(&spec, &out).env("RAYON_NUM_THREADS", "3"));
    assert!(bytes(&out, &other_names) == before);
    // Decoder and encoder of two SAEs, and their hook.
    assert_eq!(records(&out).len(), 5);
    let with = bytes(&out, &LOOPS);
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    for part in
        ["## Is there more of a loop", "**Not claimed:**", " of decoder rows ", " of activations ", "tables/loops.md"]
    {
        assert!(report.contains(part), "{part}");
    }
    let found = frames::read(&out).unwrap().loops;
    let names: Vec<&str> = found.tests.chunk_by(|a, b| a.cloud == b.cloud).map(|of| of[0].cloud.as_str()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(names[0], "small blocks.3.hook_resid_post activations");
    assert!(names[1].starts_with("small-L3-k2-") && names[1].ends_with(" decoder"), "{names:?}");
    // Eight statistics of five clouds against two nulls in two metrics with two seeds.
    assert_eq!(found.tests.len(), 8 * 5 * 2 * 2 * 2);
    assert!(found.tests.iter().all(|test| test.p.is_some_and(|p| (0.05..=1.0).contains(&p))));
    assert!(found.tests.iter().any(|test| test.ratio_author.is_some()) && !found.bars.is_empty());

    // On one thread, some of it removed, and then by gathering alone: the same bytes.
    for path in records(&out).iter().skip(2) {
        std::fs::remove_file(path).unwrap();
    }
    refused(assay().arg("gather").arg(&out), &["not finished", "the topology of 3 clouds"]);
    stdout_of(sweep(&spec, &out).env("RAYON_NUM_THREADS", "1"));
    assert!(bytes(&out, &LOOPS) == with, "another number of threads, and another order");
    std::fs::remove_file(out.join("topology.parquet")).unwrap();
    stdout_of(assay().arg("gather").arg(&out));
    assert!(bytes(&out, &LOOPS) == with);

    decoder_rows_are_those_of_the_command(&out, &found.tests);

    // Without the section nothing is left of it.
    let without = write_spec(dir.path(), &[SAVED, SEQUENCES]);
    stdout_of(&mut sweep(&without, &out));
    assert!(!out.join("topology.parquet").exists() && !out.join("bars.parquet").exists());
    assert!(bytes(&out, &other_names) == before);
}

/// What `assay topology` finds of the rows of the latents that fire, read from the SAE's file.
fn decoder_rows_are_those_of_the_command(out: &Path, tests: &[LoopTest]) {
    let latents = frames::open(&out.join("latents.parquet")).unwrap();
    let runs = frames::open(&out.join("runs.parquet")).unwrap();
    let id = runs.column("id").unwrap().str().unwrap().get(0).unwrap().to_owned();
    let ids = latents.column("id").unwrap().str().unwrap().clone();
    let fires = latents.column("fires").unwrap().u64().unwrap().clone();
    let of_run: Vec<u64> =
        ids.iter().zip(fires.iter()).filter(|(of, _)| *of == Some(&id)).map(|(_, f)| f.unwrap()).collect();
    let decoder = tests.iter().find(|test| test.what == "decoder").unwrap();
    let sae = out.join("saes").join(decoder.cloud.strip_suffix(" decoder").unwrap());
    let (rows, shape) = Reference::open(sae.join("sae_weights.safetensors")).floats("W_dec");
    assert_eq!(shape[0], of_run.len());
    let living = of_run.iter().filter(|&&fires| fires > 0).count();
    assert!(living > 4, "{living}");
    let kept = (0..shape[0]).filter(|&latent| of_run[latent] > 0);
    let values: Vec<f32> = kept.flat_map(|latent| rows[latent * shape[1]..(latent + 1) * shape[1]].to_vec()).collect();
    let cloud = out.join("rows.safetensors");
    write_floats(&cloud, &[("rows", values, vec![living, shape[1]])]);
    let json = stdout_of(assay().arg("topology").arg(&cloud).args([
        "--metric",
        "euclidean,angular",
        "--draws",
        "19",
        "--rows",
        "40",
        "--seed",
        "1",
        "--json",
    ]));
    refused(
        assay().arg("topology").arg(&cloud).arg("--out").arg(out),
        &["holds the results of a sweep", "another directory"],
    );
    std::fs::remove_file(&cloud).unwrap();
    let found: Value = serde_json::from_str(&json).unwrap();
    for of in found.as_array().unwrap() {
        for null in of["nulls"].as_array().unwrap() {
            let p = null["tests"].as_array().unwrap().iter().find(|test| test["statistic"] == "pi").unwrap();
            let is_it = |test: &&LoopTest| {
                test.cloud == decoder.cloud
                    && test.seed == 1
                    && test.statistic == "pi"
                    && of["metric"] == test.metric.as_str()
                    && null["null"] == test.null.as_str()
            };
            let test = tests.iter().find(is_it).unwrap();
            assert_eq!(test.p, p["p"].as_f64());
            assert_eq!(test.observed, of["statistics"]["pi"].as_f64());
            assert_eq!(test.p_over_metrics, of["p_over_metrics"].as_f64());
            assert_eq!(test.points as usize, living.min(40));
        }
    }
}

#[test]
fn clouds_that_cannot_be_audited_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dry = |changes: &[(&str, &str)]| -> Command {
        let spec = write_spec(dir.path(), changes);
        let mut command = sweep(&spec, &dir.path().join("out"));
        command.arg("--dry-run");
        command
    };
    let asked = |text: &'static str| ("[eval]", text);
    refused(&mut dry(&[asked("[topology]\n\n[eval]")]), &["[topology] clouds", "save_saes = true"]);
    for (section, parts) in [
        ("[topology]\ndraws = 5\n\n[eval]", ["[topology] draws = 5", "or more"]),
        ("[topology]\nmetrics = ['jaccard']\n\n[eval]", ["[topology] metrics", "jaccard is of sets"]),
        ("[topology]\nnulls = ['labels']\n\n[eval]", ["[topology] nulls", "assay topology --labels"]),
        ("[topology]\nmetrics = ['euclid']\n\n[eval]", ["`euclid` is no metric", "euclidean"]),
        ("[topology]\nclouds = ['latents']\n\n[eval]", ["latents", "decoder"]),
        ("[topology]\nseeds = [1, 1]\n\n[eval]", ["[topology] seeds", "listed twice"]),
    ] {
        refused(&mut dry(&[SAVED, asked(section)]), &parts);
    }
    let text = stdout_of(&mut dry(&[SAVED, ("[eval]", SECTION)]));
    assert!(text.contains("beside it the topology of 5 clouds, up to 152 draws of each"), "{text}");

    // Rows are at most so many: it is the clouds that have to fit into memory, and these are of 256 latents.
    let most = "[topology]\nrows = 5000000\n\n[eval]";
    let text = stdout_of(&mut dry(&[SAVED, asked(most)]));
    assert!(text.contains("beside it the topology of 2 clouds"), "{text}");
    let wide = [SAVED, asked(most), ("expansion = 2", "expansion = 4000")];
    refused(&mut dry(&wide), &["512000 points take about", "choose fewer with [topology] rows", " decoder"]);

    // Five clouds, of which one alone could not stand with 19 draws.
    let said = dry(&[SAVED, ("[eval]", SECTION)]).output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("warning: of 5 clouds") && said.contains("[topology] draws = 99 would do"), "{said}");
    let enough = SECTION.replace("draws = 19", "draws = 99");
    let said = dry(&[SAVED, ("[eval]", &enough)]).output().unwrap().stderr;
    assert!(!String::from_utf8_lossy(&said).contains("looked at together"));

    // An SAE that was not saved is named, with what would train it again.
    let out = dir.path().join("unsaved");
    stdout_of(&mut sweep(&write_spec(dir.path(), &[]), &out));
    let spec = write_spec(dir.path(), &[SAVED, ("[eval]", "[topology]\n\n[eval]")]);
    refused(&mut sweep(&spec, &out), &["its SAE is not in", "save_saes", "remove runs/"]);
}
