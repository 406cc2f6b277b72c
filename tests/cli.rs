//! What the program prints, as snapshots.

use crate::common::{assay, bundled, golden, root, stdout_of, sweep, write_spec};

fn help(args: &[&str]) -> String {
    stdout_of(assay().args(args).arg("--help"))
}

#[test]
fn help_says_what_there_is() {
    insta::assert_snapshot!("help", help(&[]));
    insta::assert_snapshot!("help_demo", help(&["demo"]));
    insta::assert_snapshot!("help_train", help(&["train"]));
    insta::assert_snapshot!("help_new", help(&["new"]));
    insta::assert_snapshot!("help_sweep", help(&["sweep"]));
    insta::assert_snapshot!("help_eval", help(&["eval"]));
    insta::assert_snapshot!("help_features", help(&["features"]));
    insta::assert_snapshot!("help_latents", help(&["latents"]));
    insta::assert_snapshot!("help_saes", help(&["saes"]));
    insta::assert_snapshot!("help_capture", help(&["capture"]));
    insta::assert_snapshot!("help_encode", help(&["encode"]));
    insta::assert_snapshot!("help_convert", help(&["convert"]));
    insta::assert_snapshot!("help_probe", help(&["probe"]));
    insta::assert_snapshot!("help_absorption", help(&["absorption"]));
    insta::assert_snapshot!("help_geometry", help(&["geometry"]));
    insta::assert_snapshot!("help_topology", help(&["topology"]));
    insta::assert_snapshot!("help_utility", help(&["utility"]));
    insta::assert_snapshot!("help_cloud", help(&["cloud"]));
    insta::assert_snapshot!("help_circles", help(&["circles"]));
    insta::assert_snapshot!("help_groups", help(&["groups"]));
    insta::assert_snapshot!("help_report", help(&["report"]));
    insta::assert_snapshot!("help_compare", help(&["compare"]));
    insta::assert_snapshot!("help_inspect", help(&["inspect"]));
    insta::assert_snapshot!("help_doctor", help(&["doctor"]));
    insta::assert_snapshot!("help_completions", help(&["completions"]));
}

#[test]
fn a_mistake_on_the_command_line_is_exit_code_2() {
    assert_eq!(assay().args(["sweep"]).output().unwrap().status.code(), Some(2));
    assert_eq!(assay().args(["sweep", "x.toml", "--no-such"]).output().unwrap().status.code(), Some(2));
}

/// As in `assay compare … | head`.
#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args(["compare", "--json", "--reference", "fast2"]).arg(root().join("results/reference/proxy-gap.csv"));
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn doctor_finds_this_machine() {
    let found: serde_json::Value = serde_json::from_str(&stdout_of(assay().args(["doctor", "--json"]))).unwrap();
    assert!(found["devices"][0].as_str().unwrap().starts_with("cpu"));
    assert!(found["hub"]["cache"].is_string() && found["disk"][0]["free_bytes"].as_u64() > Some(0));
    // What Linux says of this machine itself.
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    for feature in ["avx2", "fma", "avx512f"] {
        let is_found = found["cpu_features"].as_array().unwrap().contains(&feature.into());
        assert_eq!(is_found, flags.split_whitespace().any(|flag| flag == feature), "{feature}");
    }
    if let Ok(memory) = std::fs::read_to_string("/proc/meminfo") {
        let total = memory.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
        assert!((1..=total).contains(&found["memory_bytes"].as_u64().unwrap()));
    }
    assert!(found["disk"].as_array().unwrap().iter().all(|disk| disk["refused"].is_null()), "{found}");
    let shown = stdout_of(assay().arg("doctor").envs([
        ("HF_HUB_OFFLINE", "1"),
        ("HF_HOME", "/nowhere"),
        ("HF_TOKEN", "secret"),
    ]));
    // Nobody can make a file there, whoever runs this.
    if cfg!(target_os = "linux") {
        let shown = stdout_of(assay().arg("doctor").env("HF_HUB_CACHE", "/proc/assay"));
        assert!(shown.contains("can't be written: nothing can be made in /proc"), "{shown}");
    }
    assert!(shown.contains("/nowhere/hub") && shown.contains("HF_HUB_OFFLINE") && !shown.contains("secret"), "{shown}");
}

#[test]
fn what_programs_read_is_json() {
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&stdout_of(assay().current_dir(root()).args(args))).unwrap()
    };
    let model = json(&["inspect", "--json", "models/bundled/small"]);
    assert_eq!((&model["d_model"], &model["layers"]), (&128.into(), &6.into()));
    let sae = json(&["inspect", "--json", "tests/golden/eval-small/L3_k8"]);
    assert_eq!((&sae["k"], &sae["hook"]), (&8.into(), &"blocks.3.hook_resid_post".into()));
    let outlook = json(&["sweep", "sweeps/demo.toml", "--dry-run", "--json"]);
    assert_eq!(outlook["runs"].as_array().unwrap().len(), 24);
    assert_eq!(outlook["runs"][0]["hook"], "blocks.1.hook_resid_post");
}

#[test]
fn inspect_says_what_a_path_holds() {
    let inspect = |path| stdout_of(assay().arg("inspect").arg(path));
    insta::assert_snapshot!("inspect_model", inspect(bundled("small")));
    insta::assert_snapshot!("inspect_sae", inspect(golden("eval-small/L3_k8")));
    insta::assert_snapshot!("inspect_tokens", inspect(golden("eval-small/tokens.safetensors")));
}

/// Numbers, yes and no hidden, cells not padded: floats depend on the processor, and widths on them.
fn masked(table: &str) -> String {
    let mut out = String::new();
    for (at, line) in table.lines().enumerate() {
        let cell = |cell: &str| if at == 0 { cell.trim().to_owned() } else { mask_numbers(cell.trim()) };
        let cells: Vec<String> = line.split('|').map(cell).collect();
        out += cells.join(" | ").trim();
        out.push('\n');
    }
    out
}

fn mask_numbers(cell: &str) -> String {
    if cell == "yes" || cell == "no" {
        return "yes/no".to_owned();
    }
    if !cell.is_empty() && cell.chars().all(|c| c == '-') {
        return "---".to_owned();
    }
    let number = |c: char| c.is_ascii_digit() || "+-.".contains(c);
    let words = cell.split(' ').map(|word| {
        let bare = word.trim_matches(|c| "[],".contains(c));
        if !bare.is_empty() && bare.chars().all(number) { word.replace(bare, "#") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn tables_have_their_columns_and_rows() {
    let dir = tempfile::tempdir().unwrap();
    let medium = bundled("medium");
    let second = format!(
        "layers = {{ mid = 3 }}\n\n[[models]]\nname = \"medium\"\npath = '{}'\nlayers = {{ mid = 4 }}",
        medium.display()
    );
    let spec = write_spec(
        dir.path(),
        &[
            ("layers = { mid = 3 }", &second),
            ("[20480]", "[1024, 2048]"),
            ("training_tokens", "seeds = [0, 1]\ntraining_tokens"),
        ],
    );
    let out = dir.path().join("out");
    stdout_of(&mut sweep(&spec, &out));
    let table = |name: &str| masked(&std::fs::read_to_string(out.join(format!("tables/{name}.md"))).unwrap());
    insta::assert_snapshot!("grid", table("grid"));
    for name in ["headline", "delta-by-k", "phase2", "overlap", "hypotheses"] {
        insta::assert_snapshot!(name, table(name));
    }
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    let headings: Vec<&str> = report.lines().filter(|l| l.starts_with('#')).collect();
    insta::assert_snapshot!("report_headings", headings.join("\n"));
}
