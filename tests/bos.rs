//! Contexts that begin with BOS: by the tokenizer's setting, by the spec's, by the command line's.

use std::path::{Path, PathBuf};

use assay::frames;
use assay::inside::ModelWithSae;
use assay_models::vocabulary::Vocabulary;
use serde_json::Value;

use crate::common::{assay, bundled, copy_dir, cpu, golden, root, stdout_of, sweep, write_spec};

/// A token that text has none of.
const BOS: u32 = 4095;

/// The small model with a tokenizer that begins texts with [`BOS`].
fn begun(dir: &Path) -> PathBuf {
    let model = dir.join("begun");
    copy_dir(&bundled("small"), &model);
    let path = model.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    tokenizer["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
    });
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    model
}

/// What `assay eval` says as JSON, and on standard error.
fn eval(model: &Path, args: &[&str]) -> (Value, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args([
        "--device",
        "cpu",
        "eval",
        "--json",
        "--sequences",
        "4",
        "--resamples",
        "100",
        "--fisher-samples",
        "0",
    ]);
    command.arg("--model").arg(model).arg("--sae").arg(golden("eval-small/L3_k8")).args(args);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn an_evaluation_begins_texts_as_the_tokenizer_or_the_user_says() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, begun) = (bundled("small"), begun(dir.path()));
    let text = root().join("LICENSE-APACHE");
    let of = |model: &Path, more: &[&str]| {
        let args = [&["--text", text.to_str().unwrap(), "--context-size", "32"], more].concat();
        eval(model, &args).0
    };
    let (without, with) = (of(&plain, &[]), of(&begun, &[]));
    assert_eq!((&without["bos"], &with["bos"]), (&Value::Null, &Value::from(BOS)));
    assert_ne!(without["ce_orig"], with["ce_orig"]);
    // Either can be said.
    assert_eq!(of(&begun, &["--bos", "no"])["ce_orig"], without["ce_orig"]);
    assert_eq!(of(&begun, &["--bos", "yes"])["ce_orig"], with["ce_orig"]);
    // The small model's configuration calls the end-of-text token BOS.
    let said = of(&plain, &["--bos", "yes"]);
    assert_eq!(said["bos"], 0);
    assert_ne!(said["ce_orig"], without["ce_orig"]);
    crate::common::refused(
        assay()
            .args(["geometry", "--bos", "yes", "--text", "x", "--model"])
            .arg({
                let model = dir.path().join("none");
                copy_dir(&plain, &model);
                let config = std::fs::read_to_string(plain.join("config.json")).unwrap();
                std::fs::write(model.join("config.json"), config.replace("bos_token_id", "other")).unwrap();
                std::fs::write(dir.path().join("x"), "text").unwrap();
                model
            })
            .current_dir(dir.path()),
        &["tokenizer.json", "begin with BOS", "bos_token_id"],
    );
}

#[test]
fn token_ids_are_used_as_they_are_and_that_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = bundled("eval.parquet");
    let args = ["--tokens", tokens.to_str().unwrap(), "--context-size", "32"];
    let (without, quiet) = eval(&bundled("small"), &args);
    let (with, said) = eval(&begun(dir.path()), &args);
    assert_eq!(without["ce_orig"], with["ce_orig"]);
    assert_eq!(said.matches("begins texts with token 4095").count(), 1, "{said}");
    assert!(!quiet.contains("begins texts"), "{quiet}");
}

#[test]
fn a_prompt_begins_as_texts_do() {
    let dir = tempfile::tempdir().unwrap();
    let begun = begun(dir.path());
    assert_eq!(Vocabulary::load(&begun).unwrap().bos(), Some(BOS));
    for (model, first) in [(bundled("small"), 0), (begun, BOS)] {
        let inside = ModelWithSae::open(&model, golden("eval-small/L3_k8"), &cpu()).unwrap();
        let prompt = inside.read("The museum was opened").unwrap();
        assert_eq!(prompt.tokens[0], first);
        assert!(!prompt.tokens[1..].contains(&first));
    }
}

/// The run's ids, their BOS, and `prepend_bos` of the SAEs.
fn sweep_of(dir: &Path, name: &str, model: &Path, bos: &str) -> (Vec<String>, Vec<Option<u32>>, Value) {
    let text = root().join("models/bundled/train-text.jsonl.zst");
    let eval = root().join("models/bundled/eval-text.jsonl.zst");
    let line = |key: &str, path: &Path| format!("{key} = '{}'", path.display());
    let spec = write_spec(
        dir,
        &[
            (&line("path", &bundled("small")), &line("path", model)),
            (&line("train", &bundled("train.parquet")), &line("train", &text)),
            (&line("eval", &bundled("eval.parquet")), &line("eval", &eval)),
            ("rows = \"split\"\n", bos),
            ("[20480]", "[1024]"),
            ("[2, 4]", "[2]"),
            ("expansion = 2", "expansion = 2\nsave_saes = true"),
        ],
    );
    let out = dir.join(name);
    stdout_of(&mut sweep(&spec, &out));
    let frame = frames::open(&out.join("runs.parquet")).unwrap();
    let ids = frame.column("id").unwrap().str().unwrap().iter().map(|id| id.unwrap().to_owned()).collect();
    let begins = match frame.column("bos") {
        Ok(column) => column.u32().unwrap().iter().collect(),
        Err(_) => vec![None; frame.height()],
    };
    let sae = std::fs::read_dir(out.join("saes")).unwrap().next().unwrap().unwrap().path().join("cfg.json");
    let sae: Value = serde_json::from_str(&std::fs::read_to_string(sae).unwrap()).unwrap();
    (ids, begins, sae["metadata"]["prepend_bos"].clone())
}

#[test]
fn a_sweep_records_whether_its_texts_begin_with_bos() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, begun) = (bundled("small"), begun(dir.path()));
    let without = sweep_of(dir.path(), "without", &plain, "");
    assert_eq!((&without.1, &without.2), (&vec![None], &Value::Bool(false)));
    let with = sweep_of(dir.path(), "with", &begun, "");
    assert_eq!((&with.1, &with.2), (&vec![Some(BOS)], &Value::Bool(true)));
    assert_ne!(with.0, without.0);
    // What the spec says goes before what the tokenizer says; a run without BOS is the one that it always was.
    assert_eq!(sweep_of(dir.path(), "told", &begun, "bos = false\n"), without);
    assert_eq!(sweep_of(dir.path(), "forced", &plain, "bos = true\n").1, [Some(0)]);
}
