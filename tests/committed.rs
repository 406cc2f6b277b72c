//! The results that lie in the repository.

use std::path::PathBuf;

use assay::frames;
use assay::record::RunKey;
use assay::spec::{LegibilitySpec, SpecDocument};
use assay_probes::metrics::Subset;
use polars::prelude::DataFrame;

use crate::common::root;

/// The committed results directories: not what the demo left, which another version may have written.
fn committed() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("results")).unwrap().map(|entry| entry.unwrap().path());
    let is_committed = |dir: &PathBuf| dir.join("runs.parquet").is_file() && !dir.ends_with("demo");
    let mut found: Vec<PathBuf> = entries.filter(is_committed).collect();
    found.sort();
    assert!(found.len() >= 4, "{found:?}");
    found
}

fn text(frame: &DataFrame, name: &str) -> Vec<String> {
    let column = frame.column(name).unwrap();
    column.str().unwrap().iter().map(|value| value.unwrap().to_owned()).collect()
}

fn whole(frame: &DataFrame, name: &str) -> Vec<u64> {
    let column = frame.column(name).unwrap();
    column.u64().unwrap().iter().map(Option::unwrap).collect()
}

/// What a run is known by follows from its row, so records of the same runs are found again by every later version.
#[test]
fn ids_are_those_of_the_runs_that_were_recorded() {
    for dir in committed() {
        let frame = frames::open(&dir.join("runs.parquet")).unwrap();
        let [ids, devices, precisions, weights, hooks, train_tokens, eval_tokens, configs] =
            ["id", "device_class", "precision", "weights", "hook", "train_tokens", "eval_tokens", "train_config"]
                .map(|name| text(&frame, name));
        let [versions, contexts, buffers, passes, tokens, seeds, batches, samples, fisher_seeds] = [
            "metric_version",
            "context_size",
            "buffer_tokens",
            "contexts_per_pass",
            "training_tokens",
            "seed",
            "eval_batch",
            "fisher_samples",
            "fisher_seed",
        ]
        .map(|name| whole(&frame, name));
        let centred: Vec<bool> =
            frame.column("center_residual").unwrap().bool().unwrap().iter().map(Option::unwrap).collect();
        let reads = frame.column("reads").ok().map(|column| column.str().unwrap());
        let begins = frame.column("bos").ok().map(|column| column.u32().unwrap());
        let objectives = frame.column("objective").ok().map(|column| column.str().unwrap());
        let latents = frame.column("legibility_latents").ok().map(|column| column.u64().unwrap());
        let controls = frame.column("control").ok().map(|column| column.str().unwrap());
        for at in 0..frame.height() {
            // An objective names the tokens that were left out of the loss.
            let objective = objectives.and_then(|objectives| objectives.get(at)).unwrap_or_default();
            let left_out = |subset: &Subset| objective.ends_with(&format!(" {}", subset.name()));
            let key = RunKey {
                metric_version: versions[at] as u32,
                device_class: devices[at].clone(),
                precision: precisions[at].clone(),
                weights: weights[at].clone(),
                hook: hooks[at].clone(),
                center_residual: centred[at],
                train_tokens: train_tokens[at].clone(),
                context_size: contexts[at] as usize,
                buffer_tokens: buffers[at] as usize,
                contexts_per_pass: passes[at] as usize,
                training_tokens: tokens[at],
                seed: seeds[at],
                train: serde_json::from_str(&configs[at]).unwrap(),
                eval_tokens: eval_tokens[at].clone(),
                eval_batch: batches[at] as usize,
                fisher_samples: samples[at] as usize,
                fisher_seed: fisher_seeds[at],
                reads: reads.and_then(|reads| reads.get(at)).map(|name| name.parse().unwrap()),
                bos: begins.and_then(|bos| bos.get(at)),
                loss_tokens: Subset::ALL.into_iter().find(left_out).unwrap_or(Subset::All),
                legibility: latents
                    .and_then(|of| of.get(at))
                    .map(|latents| LegibilitySpec { latents: latents as usize }),
                control: controls.and_then(|of| of.get(at)).map(|name| serde_json::from_value(name.into()).unwrap()),
            };
            assert_eq!(key.id(), ids[at], "{}, row {at}", dir.display());
        }
    }
}

#[test]
fn recorded_specs_can_be_run_again() {
    for dir in committed() {
        let text = std::fs::read_to_string(dir.join("sweep.toml")).unwrap();
        let absolute = text.lines().find(|line| line.contains("= \"/"));
        assert!(absolute.is_none(), "{}: a path of one machine, {absolute:?}", dir.display());
        let spec = SpecDocument::read(&dir.join("sweep.toml"), &[]).unwrap().spec().unwrap();
        let models = spec.models.iter().filter_map(|model| model.path.as_ref());
        // Real models are fetched to somewhere else, if at all.
        let own = models.filter(|path| path.starts_with(root()));
        for path in own.chain(&spec.tokens.train).chain(&spec.tokens.eval) {
            assert!(path.exists(), "{}: {} is not there", dir.display(), path.display());
        }
    }
}

/// A reader who opens a report sees what was found and what is open, and every link leads somewhere.
#[test]
fn committed_reports_begin_with_their_findings() {
    for dir in committed() {
        let text = std::fs::read_to_string(dir.join("report.md")).unwrap();
        let (first, _) = text.split_once("\n## ").unwrap();
        for part in ["**What was run.** ", "finding", "](plots/paths.svg)", "**Undecided.** ", "**Caveats.**"] {
            assert!(first.contains(part), "{}: {part} is missing", dir.display());
        }
        let tables = first.matches("\n| --").count();
        assert!(
            tables == usize::from(first.contains("(tables/glance.md)")),
            "{}: {tables} tables before the first section",
            dir.display()
        );
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| link.starts_with("tables/") || link.starts_with("plots/")) {
            assert!(dir.join(link).is_file(), "{}: {link}", dir.display());
        }
    }
    let demo = std::fs::read_to_string(root().join("results/example/report.md")).unwrap();
    let row = demo.lines().take(60).find(|line| line.starts_with('|') && line.contains("undecided"));
    assert_eq!(row, None);
}

/// The stages of a numbered list: number and name.
fn stages(text: &str, line: impl Fn(&str) -> Option<(String, String)>) -> Vec<(String, String)> {
    let found: Vec<(String, String)> = text.lines().filter_map(line).collect();
    assert!(found.len() > 5, "{found:?}");
    found
}

#[test]
fn the_architecture_page_matches_the_tree() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let page = read("ARCHITECTURE.md");
    let of_page = stages(&page, |line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next().filter(|n| n.parse::<u32>().is_ok())?;
        Some((number.to_owned(), cells.next()?.to_owned()))
    });
    let of_lib = stages(&read("src/lib.rs"), |line| {
        let (number, rest) = line.strip_prefix("//! ")?.split_once(". ")?;
        number.parse::<u32>().ok()?;
        Some((number.to_owned(), rest.split_once(':')?.0.to_owned()))
    });
    assert_eq!(of_page, of_lib);
    // Whole paths that the page names are there.
    let paths = page.split('`').skip(1).step_by(2).filter(|path| {
        let crates =
            ["hub/src/", "models/src/", "sae/src/", "probes/src/", "src/", "kernels/src/", "tests/", "vendor/"];
        crates.iter().any(|start| path.starts_with(start)) && !path.contains(['<', ' ', '*', ':'])
    });
    let missing: Vec<&str> = paths.filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
