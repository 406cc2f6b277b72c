//! What people have on their disks, through the program: padded, oddly named, damaged and foreign files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assay_models::{Decoder, ModelFiles};
use assert_cmd::Command;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::{
    Reference, assay, bundled, copy_dir, device, edit_tensors, golden, refused, root, stdout_of, sweep, values,
    write_spec, write_tensors,
};

fn eval(args: &[&str], path: &Path) -> Command {
    let mut command = assay();
    command.arg("eval").arg("--model").arg(bundled("small")).arg("--sae").arg(golden("eval-small/L3_k8"));
    command.args(["--fisher-samples", "0", "--resamples", "100", "--json"]).args(args).arg(path);
    command
}

fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&stdout_of(command)).unwrap()
}

fn ce_orig(command: &mut Command) -> f64 {
    json_of(command)["ce_orig"].as_f64().unwrap()
}

/// Rows of the golden tokens, padded to 128 with id 0 after 20 or more real tokens.
fn padded(dir: &Path) -> (PathBuf, PathBuf) {
    let tokens = assay_models::tokens::read_token_file(&golden("eval-small/tokens.safetensors")).unwrap();
    let (mut lines, mut real) = (String::new(), String::new());
    for (at, row) in tokens.rows().into_iter().enumerate().take(8) {
        let counted = 20 + 4 * at;
        let mask: Vec<u32> = (0..row.len()).map(|i| u32::from(i < counted)).collect();
        let ids: Vec<u32> = row.iter().zip(&mask).map(|(id, m)| id * m).collect();
        lines += &format!("{}\n", json!({ "input_ids": ids, "attention_mask": mask }));
        real += &format!("{}\n", json!({ "tokens": row.to_vec()[..20] }));
    }
    let paths = (dir.join("padded.jsonl"), dir.join("real.jsonl"));
    std::fs::write(&paths.0, lines).unwrap();
    std::fs::write(&paths.1, real).unwrap();
    paths
}

#[test]
fn padding_has_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (padded, real) = padded(dir.path());
    refused(
        &mut eval(&["--tokens"], &padded),
        &["padded.jsonl", "`attention_mask`", "20 (line 1) to 48", "--context-size 20"],
    );
    let found = ce_orig(&mut eval(&["--context-size", "20", "--tokens"], &padded));
    assert_eq!(found, ce_orig(&mut eval(&["--tokens"], &real)));
}

#[test]
fn a_sweep_trains_on_no_padding() {
    let dir = tempfile::tempdir().unwrap();
    let (padded, _) = padded(dir.path());
    let from = format!("train = '{}'", bundled("train.parquet").display());
    let to = format!("train = '{}'\nrepeat = true", padded.display());
    let spec = write_spec(dir.path(), &[(&from, &to), ("context_size = 64", "context_size = 24")]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args(["--device", "cpu", "sweep"]).arg(&spec).arg("--out").arg(dir.path().join("out")).arg("--dry-run");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 row left out, with fewer tokens than a context"), "{said}");
}

#[test]
fn columns_are_read_as_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both.jsonl");
    let text = "The museum was opened in 1952. ".repeat(60);
    let line = json!({ "tokens": ["The", "museum"], "text": text, "ids": vec![5; 32], "body": text });
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let context = ["--context-size", "32"];
    let as_text = ce_orig(&mut eval(&[&context[..], &["--text"]].concat(), &path));
    assert_eq!(as_text, ce_orig(&mut eval(&[&context[..], &["--column", "body", "--text"]].concat(), &path)));
    refused(&mut eval(&["--tokens"], &path), &["both.jsonl", "`tokens` is an array of strings", "`--text`"]);
    assert!(ce_orig(&mut eval(&["--column", "ids", "--tokens"], &path)) > 0.0);
    refused(&mut eval(&["--column", "id", "--tokens"], &path), &["no field `id`", "`ids` (an array)"]);
    refused(&mut eval(&["--tokens"], &root().join("tests/fixtures/sample.txt")), &["plain text", "`--text`"]);
    refused(&mut eval(&["--text"], &golden("eval-small/tokens.safetensors")), &["tokens.safetensors", "`--tokens`"]);
    for path in ["tests/fixtures/sample.jsonl", "tests/fixtures/sample.txt"] {
        let mut command = eval(&["--sequences", "0", "--text"], &root().join(path));
        assert!(matches!(command.output().unwrap().status.code(), Some(1 | 2)));
    }
}

#[test]
fn neither_tokens_nor_text_is_told_of_both() {
    let output = assay().args(["eval", "--model", "m", "--sae", "s"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("--tokens") && said.contains("--text"), "{said}");
}

#[test]
fn bad_lines_are_skipped_if_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.jsonl");
    let lines = std::fs::read_to_string(root().join("tests/fixtures/sample.jsonl")).unwrap();
    std::fs::write(&path, format!("{lines}{{\"text\": 3}}\n{lines}")).unwrap();
    refused(assay().arg("inspect").arg(&path), &["bad.jsonl", "line 13", "expected a string"]);
    let shown = stdout_of(assay().args(["inspect", "--skip-bad-lines"]).arg(&path));
    assert!(shown.contains("| documents  | 24 ") && shown.contains("Note: 1 bad line left out"), "{shown}");
    let from = format!("train = '{}'", bundled("train.parquet").display());
    let to = |more: &str| format!("train = '{}'\nrepeat = true\n{more}", path.display());
    let spec = write_spec(dir.path(), &[(&from, &to(""))]);
    refused(sweep(&spec, &dir.path().join("out")).arg("--dry-run"), &["bad.jsonl", "line 13"]);
    let spec = write_spec(dir.path(), &[(&from, &to("skip_bad_lines = true\ncolumn = 'text'"))]);
    stdout_of(sweep(&spec, &dir.path().join("out")).arg("--dry-run"));
}

#[test]
fn a_byte_order_mark_is_skipped_in_every_file_of_text() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    copy_dir(&bundled("medium"), &model);
    let mark = |path: &Path| {
        let text = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, [b"\xef\xbb\xbf".as_slice(), &text].concat()).unwrap();
    };
    for name in ["config.json", "model.safetensors.index.json", "tokenizer.json"] {
        mark(&model.join(name));
    }
    let shown = |path: &Path| stdout_of(assay().arg("inspect").arg(path));
    assert_eq!(shown(&model), shown(&bundled("medium")));
    let from = format!("path = '{}'", bundled("small").display());
    let train = format!("train = '{}'", bundled("train.parquet").display());
    let text = format!("train = '{}'\nrepeat = true", root().join("tests/fixtures/sample.txt").display());
    let spec = write_spec(dir.path(), &[(&from, &format!("path = '{}'", model.display())), (&train, &text)]);
    mark(&spec);
    stdout_of(sweep(&spec, &dir.path().join("out")).arg("--dry-run"));
}

/// A copy of a model whose tensors and configuration were changed.
fn changed(
    from: &Path,
    config: &[(&str, Value)],
    change: impl FnOnce(&mut crate::common::Tensors),
) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    copy_dir(from, &model);
    let path = model.join("config.json");
    let mut keys: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value) in config {
        keys[*key] = value.clone();
    }
    std::fs::write(&path, keys.to_string()).unwrap();
    edit_tensors(&model.join("model.safetensors"), change);
    (dir, model)
}

const EMBED: &str = "gpt_neox.embed_in.weight";
const HEAD: &str = "embed_out.weight";

/// As in transformers: a tied model's own head stays if it differs, and either of the two stands for both.
#[test]
fn a_tied_model_with_a_head_of_its_own_uses_it() {
    let tokens = Reference::open(golden("neox-parallel").join("expected.safetensors")).tokens("tokens");
    let logits = |dir: &Path| values(Decoder::load(dir, &device()).unwrap().forward(tokens.view()).unwrap());
    let from = golden("neox-parallel");
    let tied = [("tie_word_embeddings", json!(true))];
    let inspected = |dir: &Path| -> Value { json_of(assay().args(["inspect", "--json"]).arg(dir)) };
    let all = inspected(&from);

    let (_dir, own) = changed(&from, &tied, |_| ());
    assert!(logits(&own) == logits(&from));
    let shown = inspected(&own);
    assert!(shown["notes"][0].as_str().unwrap().contains("tie_word_embeddings"), "{shown}");
    assert_eq!(shown["parameters"], all["parameters"]);

    let (_dir, without) = changed(&from, &tied, |tensors| _ = tensors.remove(HEAD).unwrap());
    let (_dir, copied) = changed(&from, &tied, |tensors| _ = tensors.insert(HEAD.to_owned(), tensors[EMBED].clone()));
    let (_dir, only) = changed(&from, &tied, |tensors| {
        let embed = tensors.remove(EMBED).unwrap();
        tensors.insert(HEAD.to_owned(), embed);
    });
    assert!(logits(&without) != logits(&from));
    let shape = |dir: &Path| {
        let embed = Decoder::load(dir, &device()).unwrap();
        (embed.config().vocab_size * embed.config().d_model) as u64
    };
    for model in [&without, &copied, &only] {
        assert!(logits(model) == logits(&without), "{}", model.display());
        let shown = inspected(model);
        assert_eq!(shown["parameters"].as_u64().unwrap() + shape(model), all["parameters"].as_u64().unwrap());
        assert_eq!(shown["notes"], json!([]));
    }
    let (_dir, neither) = changed(&from, &[("tie_word_embeddings", json!(false))], |tensors| _ = tensors.remove(HEAD));
    refused(assay().arg("inspect").arg(&neither), &[HEAD, "is missing"]);
}

#[test]
fn inspect_counts_what_the_files_hold() {
    let path = bundled("small").join("model.safetensors");
    let mut elements = 0;
    edit_copy(&path, |tensors| elements = tensors.values().map(|(_, shape, _)| shape.iter().product::<usize>()).sum());
    let shown = json_of(assay().args(["inspect", "--json"]).arg(bundled("small")));
    assert_eq!(shown["parameters"], elements);
    assert_eq!(shown["bytes_of_weights"], 2 * elements);
    assert_eq!(shown["dtype"], "F16");
    let hash = ModelFiles::open(&bundled("small")).unwrap().weights_hash()[..16].to_owned();
    assert_eq!(shown["blake3_of_configuration_and_weights"], hash);
}

fn edit_copy(path: &Path, change: impl FnOnce(&mut crate::common::Tensors)) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    std::fs::copy(path, &copy).unwrap();
    edit_tensors(&copy, change);
}

#[test]
fn a_tensor_in_two_shards_is_named_with_both() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    copy_dir(&bundled("medium"), &model);
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let mut second = None;
    edit_tensors(&model.join(shards[1]), |tensors| second = tensors.iter().next().map(|(n, t)| (n.clone(), t.clone())));
    let (name, tensor) = second.unwrap();
    edit_tensors(&model.join(shards[0]), |tensors| _ = tensors.insert(name.clone(), tensor));
    refused(assay().arg("inspect").arg(&model), &[&name, shards[0], shards[1]]);
}

#[test]
fn a_git_lfs_pointer_is_named_as_one() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4485272\n";
    for name in ["model.safetensors", "config.json"] {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        copy_dir(&bundled("small"), &model);
        std::fs::write(model.join(name), pointer).unwrap();
        refused(assay().arg("inspect").arg(&model), &[name, "Git LFS pointer", "git lfs pull"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens.safetensors");
    std::fs::write(&tokens, pointer).unwrap();
    refused(&mut eval(&["--tokens"], &tokens), &["tokens.safetensors", "git lfs pull"]);
}

#[test]
fn loose_configurations_are_read_and_impossible_ones_named() {
    let from = golden("neox-parallel");
    let (_dir, loose) = changed(
        &from,
        &[("eos_token_id", json!([0, 1])), ("attention_bias", Value::Null), ("max_position_embeddings", json!(2048.0))],
        |_| (),
    );
    stdout_of(assay().arg("inspect").arg(&loose));
    let (_dir, wrong) = changed(&from, &[("hidden_size", json!("wide"))], |_| ());
    refused(assay().arg("inspect").arg(&wrong), &["config.json", "hidden_size", "\"wide\""]);
}

/// An error and its cause are one sentence each.
#[test]
fn a_cause_is_named_once() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.safetensors");
    let output = eval(&["--tokens"], &missing).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("no such file or directory").count(), 1, "{said}");
    let mut command = assay();
    // SAEs are looked for first, so this one is there.
    command
        .arg("eval")
        .arg("--model")
        .arg(dir.path())
        .arg("--sae")
        .arg(golden("eval-small/L3_k8"))
        .args(["--tokens", "t"]);
    let said = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    assert_eq!(said.matches("there is no model in it").count(), 1, "{said}");
}

#[test]
fn tokens_under_other_names_and_types_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let bytes = (0..64_u64).flat_map(u64::to_le_bytes).collect();
    write_tensors(&path, &BTreeMap::from([("input_ids".to_owned(), (Dtype::U64, vec![2, 32], bytes))]));
    assert!(ce_orig(&mut eval(&["--tokens"], &path)) > 0.0);
    write_tensors(&path, &BTreeMap::from([("ids".to_owned(), (Dtype::U8, vec![2, 32], vec![1; 64]))]));
    refused(&mut eval(&["--tokens"], &path), &["no tensor `tokens` or `input_ids`", "`ids` (U8 [2, 32])", "--column"]);
    assert!(ce_orig(&mut eval(&["--column", "ids", "--tokens"], &path)) > 0.0);
}

/// What the first row has decides how all are read, so padding that only later rows name must not be counted in silence.
#[test]
fn a_mask_that_only_later_rows_have_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("late.jsonl");
    let ids = vec!["5"; 32].join(",");
    let row = |mask: &str| format!("{{\"input_ids\": [{ids}]{mask}}}\n");
    let padded = format!(", \"attention_mask\": [{}]", [["1"; 20].join(","), ["0"; 12].join(",")].join(","));
    let all = format!(", \"attention_mask\": [{}]", ["1"; 32].join(","));
    for (first, refused) in [("", true), (", \"mask\": null", true), ("", false)] {
        let later = if refused { &padded } else { &all };
        std::fs::write(&path, row(first) + &row(later)).unwrap();
        let found = assay_models::tokens::read_token_file(&path);
        match refused {
            true => {
                let error = found.unwrap_err().to_string();
                assert!(error.contains("line 2") && error.contains("attention_mask"), "{error}");
            }
            false => assert_eq!(found.unwrap().dim(), (2, 32)),
        }
    }
}

#[test]
fn a_mask_of_another_name_is_not_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("masked.jsonl");
    for (name, refused) in
        [("padding_mask", true), ("attn_mask", true), ("Attention_Mask", true), ("special_tokens_mask", false)]
    {
        std::fs::write(&path, format!("{{\"tokens\": [5, 6, 7], \"{name}\": [1, 1, 0]}}\n")).unwrap();
        let found = assay_models::tokens::read_token_file(&path);
        assert_eq!(found.is_err(), refused, "{name}");
        if let Err(error) = found {
            assert!(error.to_string().contains(name) && error.to_string().contains("rename it"), "{error}");
        }
    }
}

#[test]
fn reconstructions_are_written_over_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.safetensors");
    std::fs::write(&path, "mine").unwrap();
    let mut command = assay();
    command.args(["eval", "--sequences", "2", "--resamples", "100", "--model"]).arg(bundled("small"));
    command.arg("--sae").arg(golden("eval-small/L3_k8")).arg("--tokens").arg(golden("eval-small/tokens.safetensors"));
    refused(command.arg("--save-reconstructions").arg(&path), &["mine.safetensors", "it is there already"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}
