//! Nobody reads what the program prints, or it can't be written.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{bundled, golden, root, write_spec};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command.current_dir(root()).args(["--device", "cpu"]).args(args);
    command
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_under_standard_output_is_an_error_of_every_command() {
    let (model, sae, tokens) = (bundled("small"), golden("eval-small/L3_k8"), golden("eval-small/tokens.safetensors"));
    let [model, sae, tokens] = [&model, &sae, &tokens].map(|p| p.to_str().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("sae");
    let quick = ["--sequences", "2", "--context-size", "16", "--fisher-samples", "0"];
    for args in [
        vec!["--help"],
        vec!["--version"],
        vec!["help", "sweep"],
        vec!["sweep", "sweeps/demo.toml", "--dry-run"],
        [["eval", "--model", model, "--sae", sae, "--tokens", tokens].as_slice(), &quick].concat(),
        [["eval", "--json", "--model", model, "--sae", sae, "--tokens", tokens].as_slice(), &quick].concat(),
        vec!["convert", sae, target.to_str().unwrap(), "--to", "saelens"],
        vec!["geometry", "--model", model, "--tokens", tokens],
        vec!["compare", "results/reference/proxy-gap.csv", "--reference", "all"],
        vec!["inspect", model],
        vec!["doctor"],
        vec!["completions", "bash"],
    ] {
        let output = program(&args).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("error: cannot write to standard output"), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn training_goes_on_when_nobody_reads_progress() {
    for closed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let spec = write_spec(dir.path(), &[("[20480]", "[2048]"), ("[2, 4]", "[2]")]);
        let out = dir.path().join("tiny");
        let mut command = program(&["sweep"]);
        command.args([spec.as_path(), Path::new("--out"), &out]).stdout(Stdio::null());
        let status = if closed {
            // `… 2>&1 | head -0`: the reader is gone before the first line.
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            drop(child.stderr.take());
            child.wait().unwrap()
        } else {
            command.stderr(full()).status().unwrap()
        };
        assert_eq!(status.code(), Some(0), "closed: {closed}");
        assert!(out.join("report.md").is_file());
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for args in [vec!["doctor"], vec!["help", "sweep"], vec!["completions", "zsh"], vec!["inspect", "README.md"]] {
        let mut child = program(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(said.is_empty(), "{args:?}: {said}");
    }
}
