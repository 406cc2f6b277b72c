//! The first ten minutes: `assay demo`, `assay train` and `assay new`.

use std::path::Path;

use assert_cmd::Command;

use crate::common::{assay, bundled, files, refused, stdout_of};

/// Small enough for a test: two SAEs, ten steps.
const SMALL: [&str; 5] =
    ["k=[8]", "depths=[\"mid\"]", "training_tokens=[2560]", "eval.sequences=2", "eval.fisher_samples=0"];

fn with_sets(command: &mut Command, sets: &[&str]) {
    command.args(sets.iter().flat_map(|set| ["--set", set]));
}

#[test]
fn the_demo_runs_from_an_empty_directory_and_is_done_the_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let demo = || {
        let mut command = assay();
        command.arg("demo").current_dir(dir.path());
        with_sets(&mut command, &SMALL);
        stdout_of(&mut command)
    };
    assert_eq!(demo(), "results/demo/report.md\n");
    let report = std::fs::read_to_string(dir.path().join("results/demo/report.md")).unwrap();
    assert!(report.starts_with("# demo"), "{report}");
    let records = files(&dir.path().join("results/demo/runs"));
    assert!(!records.is_empty());
    demo();
    assert!(files(&dir.path().join("results/demo/runs")) == records, "finished runs are not done again");
}

/// The README's second command without its first.
#[test]
fn where_the_demo_writes_its_models_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut train = assay();
    train.args(["train", "--model", "models/bundled/small", "--text", "models/bundled/train.parquet"]);
    refused(
        train.current_dir(dir.path()),
        &["models/bundled/small", "`assay demo --dry-run` writes models/bundled/ here"],
    );
}

/// The options, the spec that they stand for, and the SAE that is left.
#[test]
fn an_sae_is_trained_without_a_spec_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let train_by = |mut command: Command, more: &[&str]| {
        command.arg("train").arg("--model").arg(bundled("small")).arg("--text").arg(bundled("train.parquet"));
        command.args(["--layer", "3", "--k", "8", "--training-tokens", "3000"]).args(more).current_dir(dir.path());
        command
    };
    let train = |more: &[&str]| train_by(assay(), more);
    let printed = stdout_of(with_fast(&mut train(&[])));
    let (report, sae) = printed.trim_end().split_once('\n').unwrap();
    assert_eq!(report, "results/small-L3-topk-8/report.md");
    // 3000 tokens are 23 steps of 128.
    assert_eq!(sae, "results/small-L3-topk-8/saes/small-L3-k8-seed0-2944tokens");
    let found: serde_json::Value =
        serde_json::from_str(&stdout_of(assay().args(["inspect", "--json", sae]).current_dir(dir.path()))).unwrap();
    assert_eq!(
        (&found["k"], &found["d_sae"], &found["hook"]),
        (&8.into(), &1024.into(), &"blocks.3.hook_resid_post".into())
    );

    // Another training would replace the report, and perhaps the SAE.
    let output = train(&["--set", "train.lr=1e-3"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && !said.contains("next:"), "{said}");
    assert!(said.contains("holds another training") && said.contains("--name or an --out of its own"), "{said}");
    // The same again says what was found, as `assay eval` does, by the numbers of the frames.
    let mut aloud = Command::new(env!("CARGO_BIN_EXE_assay"));
    aloud.args(["--device", "cpu"]);
    let output = with_fast(&mut train_by(aloud, &[])).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 run finished before") && !said.contains("no SAE is in"),
        "{said}"
    );
    assert!(
        said.contains("R²")
            && said.contains("| ce_loss_score_mean |")
            && said.contains("next, on text that it was not trained on: `assay eval"),
        "{said}"
    );
    assert!(said.contains("23 steps of 128 tokens are few") && said.contains("nothing to do"), "{said}");
    let grid = assay::frames::read(&dir.path().join("results/small-L3-topk-8")).unwrap();
    let r2 = format!("| r2                 | {:.4} |", grid.runs[0].value("r2").unwrap());
    assert!(said.contains(&r2), "{r2} is not in {said}");

    // What it recorded is a sweep, of which all is done.
    let again = Path::new("results/small-L3-topk-8/sweep.toml");
    let outlook = stdout_of(
        assay()
            .arg("sweep")
            .arg(again)
            .args(["--out", "results/small-L3-topk-8", "--dry-run", "--json"])
            .current_dir(dir.path()),
    );
    let outlook: serde_json::Value = serde_json::from_str(&outlook).unwrap();
    assert_eq!(outlook["runs"].as_array().unwrap().len(), 1);
    assert_eq!(outlook["runs"][0]["done"], true, "{outlook}");

    for (more, parts) in [
        (&["--layer", "6"][..], ["--layer 6", "layers 0 to 5"]),
        (&["--architecture", "matryoshka"], ["matryoshka", "assay new"]),
        (&["--training-tokens", "900000000"], ["train.parquet has", "give fewer"]),
        (&["--context-size", "4096"], ["--context-size", "2048"]),
    ] {
        let mut command = assay();
        command.arg("train").arg("--model").arg(bundled("small")).arg("--text").arg(bundled("train.parquet"));
        refused(command.args(more).current_dir(dir.path()), &parts);
    }
}

#[test]
fn a_layer_below_the_first_is_said_to_be_one() {
    let output = assay().args(["train", "--model", "m", "--text", "t", "--layer", "-1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("invalid value '-1' for '--layer <N>'"), "{said}");
}

fn with_fast(command: &mut Command) -> &mut Command {
    command.args(["--set", "eval.sequences=2", "--set", "eval.fisher_samples=0"])
}

#[test]
fn a_new_spec_fits_the_model_and_the_text_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let new = |name: &str| {
        let mut command = assay();
        command.args(["new", name, "--model"]).arg(bundled("medium"));
        command.arg("--text").arg(bundled("train-text.jsonl.zst")).args(["--training-tokens", "20000"]);
        command.current_dir(dir.path());
        command
    };
    assert_eq!(stdout_of(&mut new("mine")), "mine.toml\n");
    let text = std::fs::read_to_string(dir.path().join("mine.toml")).unwrap();
    for part in [
        "8 layers",
        "d_model 256",
        "layers 1, 4, 7",
        "training_tokens = [19968]",
        "at least 28",
        "save_saes = true",
        "seeds = [0, 1, 2]  # a training for each",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    let outlook = stdout_of(assay().args(["sweep", "mine.toml", "--dry-run", "--json"]).current_dir(dir.path()));
    let outlook: serde_json::Value = serde_json::from_str(&outlook).unwrap();
    // Three k at three depths, each trained three times.
    assert_eq!(outlook["runs"].as_array().unwrap().len(), 27);

    // The file's name is as good as the sweep's.
    refused(&mut new("mine"), &["mine.toml is there already"]);
    refused(&mut new("mine.toml"), &["mine.toml is there already"]);
    refused(&mut new("sub/mine"), &["sub/mine", "current directory"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("mine.toml")).unwrap(), text);
    refused(&mut new("a b"), &["a b", "name of a directory"]);
    assert!(!dir.path().join("a b.toml").exists());
}

/// What the options say of the text is in the spec, and what they can't mean is said before a file is written.
#[test]
fn a_text_is_read_and_held_out_as_the_options_say() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        |at: usize| serde_json::json!({ "id": at, "content": format!("Line {at} of a text. ").repeat(60) }).to_string();
    let lines: Vec<String> = (0..12).map(line).collect();
    std::fs::write(dir.path().join("content.jsonl"), lines.join("\n")).unwrap();
    std::fs::write(dir.path().join("broken.jsonl"), format!("{}\nno JSON\n{}", lines[0], lines[1..].join("\n")))
        .unwrap();
    std::fs::write(dir.path().join("short.txt"), "A few words.").unwrap();
    let command = |args: &[&str]| {
        let mut command = assay();
        command.args(args).arg("--model").arg(bundled("small")).current_dir(dir.path());
        command
    };
    let spec = |name: &str, args: &[&str]| {
        stdout_of(command(&["new", name]).args(args));
        std::fs::read_to_string(dir.path().join(format!("{name}.toml"))).unwrap()
    };
    let content = ["--text", "content.jsonl", "--column", "content"];
    let text = spec("own", &[&content[..], &["--eval-sequences", "3"]].concat());
    assert!(text.contains("column = \"content\"\n") && text.contains("sequences = 3  #"), "{text}");
    let text = spec("lines", &["--text", "broken.jsonl", "--column", "content", "--skip-bad-lines"]);
    // Some forty contexts of which a fifth is held out.
    assert!(text.contains("skip_bad_lines = true") && !text.contains("sequences = 64"), "{text}");
    stdout_of(assay().args(["sweep", "lines.toml", "--dry-run"]).current_dir(dir.path()));
    // Of a held-out text of its own all contexts of a row, as of the other.
    let eval = bundled("eval.parquet").display().to_string();
    let train = bundled("train.parquet").display().to_string();
    let text = spec("both", &["--text", &train, "--eval-text", &eval]);
    assert!(text.contains("eval_rows = \"split\"") && text.contains("sequences = 64  #"), "{text}");
    stdout_of(assay().args(["sweep", "both.toml", "--dry-run"]).current_dir(dir.path()));
    for (eval, parts) in [
        ("nope.txt", ["--eval-text nope.txt", "no such file or directory"]),
        ("content.json", ["--eval-text content.json", "did you mean content.jsonl?"]),
        ("short.txt", ["--eval-text short.txt", "it has 0 contexts of 128 tokens"]),
    ] {
        refused(command(&["new", "bad", "--text", &train]).args(["--eval-text", eval]), &parts);
    }
    refused(
        command(&["new", "bad", "--text", &train, "--eval-text", &eval]).args(["--eval-sequences", "5000"]),
        &["5000 are asked for", "--eval-sequences"],
    );
    assert!(!dir.path().join("bad.toml").exists());
    // From the home directory, in the options and in the spec that is written.
    let mut home = assay();
    home.args(["new", "home", "--model", "~/small", "--text", "~/train.parquet", "--eval-text", "~/eval.parquet"]);
    stdout_of(home.env("HOME", bundled("")).current_dir(dir.path()));
    let text = std::fs::read_to_string(dir.path().join("home.toml")).unwrap();
    assert!(text.contains("path = \"~/small\"") && text.contains("train = \"~/train.parquet\""), "{text}");
    // `--set` says the same as the option.
    let row = |args: &[&str]| {
        let shown = stdout_of(command(&["train", "--text", "content.jsonl", "--dry-run"]).args(args));
        shown.lines().find(|line| line.contains("| topk")).map(str::to_owned).expect("the run")
    };
    let [set, option, more] = ["2", "2", "12"].map(|sequences| ["--eval-sequences", sequences]);
    let set = row(&["--set", "tokens.column=content", "--set", &format!("eval.sequences={}", set[1])]);
    let [option, more] = [option, more].map(|held| row(&[&["--column", "content"][..], &held].concat()));
    assert!(set == option && option != more, "{set}\n{option}\n{more}");
}
