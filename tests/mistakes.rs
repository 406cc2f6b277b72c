//! Mistakes of somebody's first hour: what is said of them leads on, and what is no mistake is not refused.

use std::path::Path;

use assert_cmd::Command;

use crate::common::{assay, bundled, golden, refused, root, stdout_of, sweep, write_spec};

fn eval(model: &Path, tokens: &Path) -> Command {
    let mut command = assay();
    command.arg("eval").arg("--model").arg(model).arg("--sae").arg(golden("eval-small/L3_k8"));
    command.arg("--tokens").arg(tokens);
    command
}

/// One plans on a laptop what a GPU is to do: the runs are listed, and nothing is said that hangs on the device.
#[test]
fn bf16_is_planned_on_the_cpu_without_what_only_a_gpu_knows() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("k = [2, 4]", "k = [2, 4]\nprecision = \"bf16\"")]);
    let dry = |more: &[&str]| {
        stdout_of(sweep(&spec, &dir.path().join("out")).args(["--device", "cpu", "--dry-run"]).args(more))
    };
    let planned: serde_json::Value = serde_json::from_str(&dry(&["--json"])).unwrap();
    let in_f32: serde_json::Value = serde_json::from_str(&dry(&["--json", "--set", "precision=f32"])).unwrap();
    let [runs, others] = [&planned, &in_f32].map(|outlook| outlook["runs"].as_array().unwrap());
    assert!(!runs.is_empty() && runs.len() == others.len());
    for (run, other) in runs.iter().zip(others) {
        assert_eq!((&run["hook"], &run["k"], &run["d_sae"]), (&other["hook"], &other["k"], &other["d_sae"]));
        assert!(run["id"].is_null() && run["done"].is_null() && other["id"].is_string() && other["done"] == false);
    }
    assert_eq!(planned["flops"], in_f32["flops"]);
    for known in ["seconds", "model_bytes", "training_bytes", "evaluation_bytes"] {
        assert!(planned[known].is_null() && !in_f32[known].is_null(), "{known}");
    }
    assert!(in_f32["why_not"].is_null());
    let shown = dry(&[]);
    assert!(shown.contains("needs a GPU") && shown.contains("not known here") && !shown.contains("about"), "{shown}");
    assert!(!dir.path().join("out").exists());
}

/// What is there under nearly that name, and what lies below a directory, is named.
#[test]
fn a_path_that_misses_is_led_to_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = golden("eval-small/tokens.safetensors");
    let near = |name: &str| format!("did you mean {}?", bundled(name).display());
    refused(&mut eval(&bundled("small2"), &tokens), &["small2: no such file or directory", &near("small")]);
    refused(&mut eval(&bundled("small"), &bundled("evil.parquet")), &["evil.parquet", &near("eval.parquet")]);
    refused(&mut eval(&bundled(""), &tokens), &["there is no model directly in it", "bundled/small"]);
    refused(&mut eval(&bundled("small/config.json"), &tokens), &["give the directory that it is in"]);
    refused(&mut eval(&bundled("README.md"), &tokens), &["it is no model: a model is a directory"]);
    refused(&mut eval(Path::new("gpt2"), &tokens), &["the owner comes first", "openai-community/gpt2"]);
    let spec = write_spec(dir.path(), &[]);
    let meant = format!("did you mean {}?", spec.display());
    refused(&mut sweep(&spec.with_extension(""), &dir.path().join("out")), &[&meant, "`assay new` writes a spec"]);
    refused(assay().arg("report").arg(root().join("results/exmple")), &["did you mean", "results/example?"]);
    let results = root().join("results");
    refused(assay().arg("report").arg(&results), &["has no results itself", "results/example, "]);
    std::fs::copy(&spec, dir.path().join("sweep.toml")).unwrap();
    let of_results = format!("which of these results is {}", dir.path().join("sweep.toml").display());
    refused(&mut sweep(dir.path(), &dir.path().join("out")), &["is a directory", &of_results]);
    refused(assay().arg("inspect").arg(bundled("")), &["several things", "bundled/medium (model)", "small (model)"]);
    let found = stdout_of(assay().arg("inspect").arg(&spec));
    assert!(found.contains("spec of a sweep") && found.contains("| small"), "{found}");
}

/// A mistake of the command line is not looked for in the file.
#[test]
fn an_override_that_is_wrong_is_named_as_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[]);
    for (set, parts) in [
        ("train.lr=high", &["--set train.lr=high: invalid type: string \"high\", expected a number"][..]),
        ("train.lrr=1", &["--set train.lrr=1: unknown field `lrr`", "did you mean `lr`?"]),
        ("k=8", &["--set k=8", "expected a list", "write a list"]),
        ("k=[8, 8]", &[".toml with --set k=[8, 8]: ", "twice"]),
        ("training_tokens=[0]", &["with --set training_tokens=[0]: training_tokens = 0 trains nothing"]),
    ] {
        let mut command = sweep(&spec, &dir.path().join("out"));
        refused(command.args(["--set", "seeds=[1]", "--set", set]), parts);
        let said = command.output().unwrap().stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains(" at line ") && !said.contains("usize"), "{said}");
    }
    // The one that is named is the one that the mistake came with.
    for (sets, named) in [
        (["seeds=[-1]", "k=5"], "--set k=5: invalid type"),
        (["training_tokens=[0]", "name='a b'"], "with --set name='a b': name"),
        (["k=5", "k=[5]"], ""),
        (["train.lr=abc", "train.batch_size=128"], "--set train.lr=abc: "),
    ] {
        let mut command = sweep(&spec, &dir.path().join("out"));
        command.args(["--dry-run", "--set", sets[0], "--set", sets[1]]);
        let said = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
        assert!(said.contains(named) && said.contains("--set") != named.is_empty(), "{sets:?}: {said}");
    }
    std::fs::write(&spec, std::fs::read_to_string(&spec).unwrap().replace("[train]", "[training]")).unwrap();
    let mut command = sweep(&spec, &dir.path().join("out"));
    refused(command.args(["--set", "seeds=[1]"]), &["TOML parse error at line", "training", "did you mean `train`?"]);
}

/// What can't be a name on the hub is not taken for one, and `~/` is the home directory wherever a path may be given.
#[test]
fn a_path_is_not_taken_for_a_name_on_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = golden("eval-small/tokens.safetensors");
    std::fs::write(dir.path().join("text.jsonl"), "{\"text\": \"A text.\"}").unwrap();
    let refused_here = |command: &mut Command, parts: &[&str]| {
        let output = command.current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)) && !said.contains("hub"), "{said}");
    };
    refused_here(&mut eval(Path::new("./nothing"), &tokens), &["./nothing: no such file or directory"]);
    refused_here(&mut eval(Path::new("$HOME/model"), &tokens), &["variables are not expanded here", "`~/`"]);
    refused_here(
        assay().args(["train", "--text", "text.json", "--model"]).arg(bundled("small")),
        &["text.json: no such file or directory; did you mean text.jsonl?"],
    );
    let mut home = eval(Path::new("~/small"), &tokens);
    home.env("HOME", bundled("")).args(["--sequences", "2"]);
    stdout_of(&mut home);
    // In a spec as well.
    for (from, to, parts) in [
        ("bundled/small", "bundled/smal", ["[[models]] small", "did you mean"]),
        ("eval.parquet", "eval.parqet", ["[tokens] eval", "did you mean"]),
        ("train.parquet", "tain.parquet", ["[tokens] train", "did you mean"]),
    ] {
        let spec = write_spec(dir.path(), &[(from, to)]);
        refused(&mut sweep(&spec, &dir.path().join("out")), &parts);
    }
}

#[test]
fn a_file_that_is_something_else_is_said_to_be_it() {
    let readme = root().join("README.md");
    refused(assay().arg("report").arg(&readme), &["README.md is a file; give the directory of results"]);
    for (sae, parts) in
        [(&readme, &["README.md", "it is no file of an SAE"][..]), (&bundled("small"), &["small: a model, and no SAE"])]
    {
        let mut command = assay();
        command.args(["eval", "--model"]).arg(bundled("small")).arg("--sae").arg(sae);
        refused(command.arg("--tokens").arg(golden("eval-small/tokens.safetensors")), parts);
    }
    let mut probe = assay();
    probe.args(["probe", "--model"]).arg(bundled("small")).arg("--sae").arg(golden("eval-small/L3_k8"));
    refused(probe.args(["--tasks", "bundled", "--k", "1,5000"]), &["--k 5000: the SAE has 1024 latents"]);
}

/// Two sweeps of one's own are the first thing that the name of `assay compare` suggests; and nothing is not compared in silence.
#[test]
fn what_cannot_be_compared_is_said() {
    let example = root().join("results/example");
    let mut command = assay();
    command.arg("compare").arg(&example).arg(root().join("results/classes"));
    refused(
        &mut command,
        &["results/classes", "published numbers here, not with one another", "`assay eval --sae A B`"],
    );
    let found = stdout_of(assay().arg("compare").arg(&example).args(["--reference", "fast2"]));
    assert!(found.starts_with("None of the ") && found.contains("`--map small="), "{found}");
}

/// A prompt's answer comes first, and a latent that can't change anything is said to.
#[test]
fn a_prompt_is_answered_before_what_fires_on_it() {
    let on = |sae: &str, args: &[&str]| {
        let mut command = assay();
        command.args(["latents", "--model"]).arg(bundled("small")).arg("--sae").arg(golden(sae)).args(args);
        command
    };
    let latents = |args: &[&str]| on("eval-small/L3_k8", &[&["--prompt", "The museum was opened in"], args].concat());
    let shown = stdout_of(&mut latents(&[]));
    let place = |part: &str| shown.find(part).unwrap_or_else(|| panic!("{part} is not in {shown}"));
    assert!(place("Next token: ") < place("| token") && place("| token") < place("| latent |"), "{shown}");
    let rows =
        |shown: &str| shown.split("| latent |").nth(1).unwrap().lines().filter(|line| line.starts_with('|')).count();
    let all = stdout_of(&mut latents(&["--all"]));
    // The head's rest is no row of the table; the line below it is.
    assert_eq!(rows(&shown), 11);
    assert!(rows(&all) > 11 && shown.contains("--all shows what the other") && !all.contains("--all"), "{shown}");

    let found: serde_json::Value = serde_json::from_str(&stdout_of(&mut latents(&["--json"]))).unwrap();
    let tokens = found["tokens"].as_array().unwrap();
    let fires = |latent: u64, at: usize| {
        let active = tokens[at]["active"].as_array().unwrap();
        active.iter().any(|active| active["latent"] == latent)
    };
    let last = tokens.len() - 1;
    let of_last = (0..1024).find(|&latent| fires(latent, last) && !(0..last).any(|at| fires(latent, at))).unwrap();
    let before = (0..1024).find(|&latent| fires(latent, last - 1)).unwrap();
    let none = (0..1024).find(|&latent| !(0..=last).any(|at| fires(latent, at))).unwrap();
    for (latent, part, has_losses) in [
        (of_last, "the last token alone", false),
        (none, "no token of this prompt", false),
        (before, "loss, nats", true),
    ] {
        let shown = stdout_of(&mut latents(&["--ablate", &latent.to_string()]));
        assert!(shown.contains(part) && shown.contains("loss, nats") == has_losses, "{latent}: {shown}");
        assert!(shown.find("Without latent") < shown.find("latents that fire"), "{shown}");
    }
    let output = latents(&["--ablate", "foo"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("known by its number, from 0"));
    let long = "word ".repeat(4000);
    refused(&mut on("eval-small/L3_k8", &["--prompt", &long]), &["the prompt has ", "the model takes 2048"]);
}

/// Said before anything is trained, and in a dry run.
#[test]
fn tokens_of_another_tokenizer_are_noticed_before_the_training() {
    let dir = tempfile::tempdir().unwrap();
    // Ids that the model knows, in an order that no text has.
    let tokens: Vec<Vec<u32>> =
        (0..200_u32).map(|row| (0..64).map(|at| (row * 911 + at * at * 37) % 4096).collect()).collect();
    let lines: Vec<String> = tokens.iter().map(|tokens| serde_json::json!({ "tokens": tokens }).to_string()).collect();
    std::fs::write(dir.path().join("other.jsonl"), lines.join("\n")).unwrap();
    let eval = bundled("eval.parquet").display().to_string();
    for (path, is_foreign) in [("other.jsonl", true), (eval.as_str(), false)] {
        let spec = write_spec(
            dir.path(),
            &[(&format!("eval = '{eval}'"), &format!("eval = '{path}'")), ("[20480]", "[2048]")],
        );
        let out = dir.path().join(format!("out-{is_foreign}"));
        for dry in [&["--dry-run"][..], &[]] {
            let output = sweep(&spec, &out).args(dry).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            let warned = said.find("Were they made with this model's tokenizer?");
            assert_eq!(warned.is_some(), is_foreign, "{said}");
            assert!(warned <= said.find(" train ").or(warned), "{said}");
        }
    }
}
