//! What the README and the guides say is so: links lead somewhere, commands exist and run, Python reads what it is said to read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use assay::cli::Cli;
use clap::Parser as _;

use crate::common::{copy_dir, root, skipped};

/// The README, the pages of `docs/`, and what is beside them for readers.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.sort();
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "models/bundled/README.md", "results/README.md"];
    others.map(|name| root().join(name)).into_iter().chain(found).collect()
}

/// The blocks of a document in a language, each without its fences.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            found.push(
                lines.by_ref().take_while(|line| line.trim() != "```").map(|line| line.to_owned() + "\n").collect(),
            );
        } else if line.starts_with("```") {
            lines.by_ref().find(|line| line.trim() == "```");
        }
    }
    found
}

/// `[text](target)` outside of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        let begins = line.match_indices("](").map(|(at, _)| at + 2);
        found.extend(begins.filter_map(|at| line[at..].split_once(')')).map(|(target, _)| target.to_owned()));
    }
    found
}

/// What GitHub and mdBook make of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.trim().replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut checked = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if link.starts_with("http") || link.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} is not there", document.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let is_there =
                    text.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == heading);
                assert!(is_there, "{}: {link}: no such heading", document.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let contents = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for document in documents().iter().filter(|path| path.starts_with(root().join("docs"))) {
        let name = document.file_name().unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || contents.contains(&format!("({name})")), "docs/SUMMARY.md lacks {name}");
    }
}

/// The lines of a document's shell blocks that call `assay`, with lines that go on joined.
fn commands(text: &str) -> Vec<String> {
    let lines = blocks(text, "sh").concat().replace("\\\n", " ");
    lines.lines().filter(|line| line.starts_with("assay ")).map(str::to_owned).collect()
}

/// The words of a command, as a shell finds them.
fn words(line: &str) -> Vec<OsString> {
    let script = format!("set -f; set -- {line}\nprintf '%s\\n' \"$@\"");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).unwrap().lines().map(OsString::from).collect()
}

#[test]
fn every_command_is_one_that_the_program_knows() {
    let mut parsed = 0;
    for document in documents() {
        for line in commands(&std::fs::read_to_string(&document).unwrap()) {
            for part in line.split(" && ") {
                match Cli::try_parse_from(words(part)) {
                    Err(error) if error.use_stderr() => panic!("{}: {line}\n{error}", document.display()),
                    _ => parsed += 1,
                }
            }
        }
    }
    assert!(parsed > 30, "{parsed}");
}

/// What of a command says that it can't run here, or not in seconds, and why. Everything else is run.
const NOT_RUN: [(&str, &str); 11] = [
    ("org/", "on the hub"),
    ("EleutherAI/", "on the hub"),
    ("gemma-scope", "on the hub"),
    ("sweeps/fast2.toml", "on the hub"),
    ("results/fast2", "of a sweep of models on the hub"),
    ("SmolLM2", "a model that is fetched"),
    ("smollm2", "a model that is fetched"),
    ("SPEC", "stands for the reader's own"),
    ("ladder-", "hours on two cores"),
    ("assay demo", "minutes; the tests in `first` run it with fewer tokens"),
    ("results/demo", "of what the demo leaves"),
];

/// What takes long on the bundled models too, and is run by tests of its own.
const LONG: [&str; 5] = ["--group 0", "assay topology", "assay features", "assay probe", "# nine SAEs"];

#[test]
#[cfg(unix)]
fn commands_run_where_the_demonstration_was_laid_out() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["models", "sweeps", "tests", "LICENSE-APACHE"] {
        std::os::unix::fs::symlink(root().join(name), dir.path().join(name)).unwrap();
    }
    copy_dir(&root().join("results/example"), &dir.path().join("results/example"));
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_assay")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut seen = BTreeSet::new();
    for document in documents() {
        for line in commands(&std::fs::read_to_string(&document).unwrap()) {
            if NOT_RUN.iter().any(|(part, _)| line.contains(part)) || LONG.iter().any(|part| line.contains(part)) {
                continue;
            }
            // A command that several pages have is run once.
            if !seen.insert(line.clone()) {
                continue;
            }
            let here = line.replace("/tmp/", &format!("{}/", scratch.display()));
            let mut command = Command::new("sh");
            command.args(["-c", &here]).current_dir(dir.path()).env("PATH", &path).env("HF_HUB_OFFLINE", "1");
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {line}\n{said}", document.display());
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
}

/// A Python with polars and pandas: the one that ASSAY_PYTHON names, or `python3`.
fn python() -> Option<OsString> {
    let python = std::env::var_os("ASSAY_PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(&python).args(["-c", "import polars, pandas, pyarrow"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skipped("no Python with polars, pandas and pyarrow; ASSAY_PYTHON names one");
    None
}

/// Both snippets of the guide, as they stand there, against the cells of the table that the report has.
#[test]
fn polars_and_pandas_read_the_numbers_of_the_tables() {
    let Some(python) = python() else { return };
    let guide = std::fs::read_to_string(root().join("docs/read-results.md")).unwrap();
    let snippets = blocks(&guide, "python");
    assert!(snippets.iter().any(|s| s.contains("polars")) && snippets.iter().any(|s| s.contains("pandas")));
    let table = std::fs::read_to_string(root().join("results/example/tables/grid.md")).unwrap();
    // Model, hook and k to the cells of R² and CE_rec.
    let mut cells = BTreeMap::new();
    for line in table.lines().skip(2) {
        let row: Vec<&str> = line.split('|').map(str::trim).collect();
        cells.insert((row[2].to_owned(), row[3].to_owned(), row[4].to_owned()), [row[7].to_owned(), row[8].to_owned()]);
    }
    for snippet in snippets.iter().filter(|snippet| snippet.contains("runs.parquet")) {
        let script = snippet.to_owned()
            + "import json\n\
               rows = runs.to_dicts() if hasattr(runs, 'to_dicts') else runs.to_dict('records')\n\
               names = ['r2', 'r2_low', 'r2_high', 'ce_rec', 'ce_rec_low', 'ce_rec_high']\n\
               print()\n\
               print(json.dumps([[r['model'], r['hook'], str(int(r['k'])), [float(r[n]) for n in names]] for r in rows]))\n";
        let output = Command::new(&python).args(["-c", &script]).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{snippet}\n{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        let rows: Vec<(String, String, String, [f64; 6])> =
            serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert_eq!(rows.len(), cells.len());
        for (model, hook, k, [r2, r2_low, r2_high, ce, ce_low, ce_high]) in rows {
            let expected =
                [format!("{r2:.3} [{r2_low:.3}, {r2_high:.3}]"), format!("{ce:.3} [{ce_low:.3}, {ce_high:.3}]")];
            assert_eq!(cells[&(model, hook, k)], expected);
        }
    }
}
