//! What is broken is named, with the remedy, and nothing half-written stays behind.

use std::fs::File;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use ndarray::Array2;
use safetensors::Dtype;
use tempfile::TempDir;

use crate::common::{
    assay, bundled, copy_dir, edit_tensors, files, golden, refused, stdout_of, sweep, write_spec, write_tokens,
};

const QKV: &str = "gpt_neox.layers.2.attention.query_key_value.weight";

/// A copy of a directory, to be broken.
fn copy_of(from: &Path) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("copy");
    copy_dir(from, &to);
    (dir, to)
}

fn eval(model: &Path, sae: &Path, tokens: &Path) -> Command {
    let mut command = assay();
    command.arg("eval").arg("--model").arg(model).arg("--sae").arg(sae).arg("--tokens").arg(tokens);
    command
}

fn tokens() -> PathBuf {
    golden("eval-small/tokens.safetensors")
}

fn sae() -> PathBuf {
    golden("eval-small/L3_k8")
}

#[track_caller]
fn model_refused(change: impl FnOnce(&Path), parts: &[&str]) {
    let (_dir, model) = copy_of(&bundled("small"));
    change(&model);
    refused(&mut eval(&model, &sae(), &tokens()), &[&[model.to_str().unwrap()], parts].concat());
}

#[track_caller]
fn sae_refused(change: impl FnOnce(&Path), parts: &[&str]) {
    let (_dir, sae) = copy_of(&sae());
    change(&sae);
    refused(&mut eval(&bundled("small"), &sae, &tokens()), &[&[sae.to_str().unwrap()], parts].concat());
}

fn truncate(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() - 1000]).unwrap();
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_missing_tensor_is_named() {
    let drop_it = |dir: &Path| edit_tensors(&dir.join("model.safetensors"), |t| _ = t.remove(QKV).unwrap());
    model_refused(drop_it, &[QKV, "is missing"]);
    let drop_it = |dir: &Path| edit_tensors(&dir.join("sae_weights.safetensors"), |t| _ = t.remove("b_dec").unwrap());
    sae_refused(drop_it, &["sae_weights.safetensors", "`b_dec`", "is missing"]);
}

#[test]
fn a_wrong_shape_is_shown_beside_the_right_one() {
    let reshape = |dir: &Path| {
        edit_tensors(&dir.join("model.safetensors"), |t| t.get_mut(QKV).unwrap().1 = vec![128, 384]);
    };
    model_refused(reshape, &["model.safetensors", QKV, "[128, 384]", "[384, 128]", "config.json"]);
    let reshape = |dir: &Path| {
        edit_tensors(&dir.join("sae_weights.safetensors"), |t| t.get_mut("W_enc").unwrap().1 = vec![1024, 128]);
    };
    sae_refused(reshape, &["sae_weights.safetensors", "`W_enc`", "[1024, 128]", "[128, 1024]", "cfg.json"]);
}

#[test]
fn nan_in_a_model_is_found() {
    let poison = |dir: &Path| {
        edit_tensors(&dir.join("model.safetensors"), |t| {
            let bytes = &mut t.get_mut(QKV).unwrap().2;
            bytes[14..16].copy_from_slice(&0x7E00_u16.to_le_bytes());
        });
    };
    model_refused(poison, &["model.safetensors", QKV, "NaN at element 7", "damaged"]);
}

#[test]
fn nan_in_an_sae_is_found() {
    let poison = |dir: &Path| {
        edit_tensors(&dir.join("sae_weights.safetensors"), |t| {
            let bytes = &mut t.get_mut("b_enc").unwrap().2;
            bytes[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
        });
    };
    sae_refused(poison, &["sae_weights.safetensors", "`b_enc`", "NaN at element 5", "damaged"]);
}

#[test]
fn a_surplus_tensor_is_named() {
    let add = |dir: &Path| {
        edit_tensors(&dir.join("model.safetensors"), |t| {
            t.insert("gpt_neox.layers.6.mlp.bias".to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
        });
    };
    model_refused(add, &["1 tensor(s)", "gpt_neox.layers.6.mlp.bias", "config.json"]);
}

#[test]
fn truncated_files_are_named() {
    let remedy = "copy";
    model_refused(
        |dir| truncate(&dir.join("model.safetensors")),
        &["model.safetensors", "not a complete safetensors file", remedy],
    );
    sae_refused(
        |dir| truncate(&dir.join("sae_weights.safetensors")),
        &["sae_weights.safetensors", "not a complete", remedy],
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short.safetensors");
    std::fs::copy(tokens(), &path).unwrap();
    truncate(&path);
    refused(&mut eval(&bundled("small"), &sae(), &path), &[path.to_str().unwrap(), "not a complete", remedy]);
}

#[test]
fn a_model_without_weights_is_told_how_to_get_them() {
    model_refused(|dir| std::fs::remove_file(dir.join("model.safetensors")).unwrap(), &["save_pretrained"]);
}

#[test]
fn a_token_beyond_the_vocabulary_is_found_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign.safetensors");
    let mut tokens = Array2::from_elem((3, 16), 7_i64);
    tokens[[1, 4]] = 5000;
    write_tokens(&path, &tokens);
    let parts = ["5000", "sequence 1", "position 4", "4096", "another model"];
    refused(&mut eval(&bundled("small"), &sae(), &path), &parts);
    refused(assay().arg("geometry").arg("--model").arg(bundled("small")).arg("--tokens").arg(&path), &parts);

    let eval = format!("eval = '{}'", path.display());
    let from = format!("eval = '{}'", bundled("eval.parquet").display());
    let spec = write_spec(
        dir.path(),
        &[(&from, &eval), ("sequences = 4\ncontext_size = 32", "sequences = 3\ncontext_size = 16")],
    );
    spec_refused(&spec, &[], &parts);
}

#[test]
fn negative_tokens_are_no_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("negative.safetensors");
    write_tokens(&path, &Array2::from_elem((2, 16), -1));
    refused(&mut eval(&bundled("small"), &sae(), &path), &[path.to_str().unwrap(), "-1 is not a token id"]);
}

#[test]
fn an_sae_of_another_model_is_refused_with_both_widths() {
    let foreign = golden("saelens-topk/sae");
    let mut command = eval(&bundled("small"), &foreign, &tokens());
    refused(&mut command, &[foreign.to_str().unwrap(), "d_in is 64", "is 128 wide"]);
}

#[test]
fn a_hook_beyond_the_last_layer_is_refused_with_the_layers_there_are() {
    let mut command = eval(&bundled("small"), &sae(), &tokens());
    refused(command.args(["--hook", "blocks.99.hook_resid_post"]), &["blocks.99.hook_resid_post", "0 to 5"]);
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("mid = 3", "mid = 99")]);
    spec_refused(&spec, &[], &["model `small`", "depth `mid`", "0 to 5"]);
}

#[test]
fn what_is_not_json_is_named() {
    model_refused(|dir| std::fs::write(dir.join("config.json"), "not JSON").unwrap(), &["config.json", "line 1"]);
    sae_refused(|dir| std::fs::write(dir.join("cfg.json"), "{\"k\": 8").unwrap(), &["cfg.json", "line 1"]);
}

#[test]
fn settings_that_are_not_supported_are_named() {
    model_refused(
        |dir| replace(&dir.join("config.json"), "\"gpt_neox\"", "\"mixtral\""),
        &["config.json", "`mixtral`", "a mixture of experts", "gpt_neox"],
    );
    sae_refused(
        |dir| replace(&dir.join("cfg.json"), "\"architecture\": \"topk\"}", "\"architecture\": \"jumprelu\"}"),
        &["sae_weights.safetensors", "`threshold` is missing", "cfg.json"],
    );
    sae_refused(
        |dir| {
            replace(
                &dir.join("cfg.json"),
                "\"normalize_activations\": \"none\"",
                "\"normalize_activations\": \"whitened\"",
            );
        },
        &["cfg.json", "normalize_activations", "`whitened`", "layer_norm"],
    );
    sae_refused(|dir| trained_with(dir, "fold_ln"), &["cfg.json", "fold_ln", "processed model"]);
    model_refused(
        |dir| replace(&dir.join("config.json"), "\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 64"),
        &["128 tokens", "64", "context_size"],
    );
}

/// Says in an SAE's `cfg.json` that its model was processed.
fn trained_with(dir: &Path, kwarg: &str) {
    let metadata = format!("\"metadata\": {{\"model_from_pretrained_kwargs\": {{\"{kwarg}\": true}}, ");
    replace(&dir.join("cfg.json"), "\"metadata\": {", &metadata);
}

/// The one processing that can be repeated is: an SAE that says so is evaluated on centred activations.
#[test]
fn an_sae_of_centred_activations_gets_them() {
    let (_dir, centred) = copy_of(&sae());
    trained_with(&centred, "center_writing_weights");
    let found = |sae: &Path, args: &[&str]| {
        let mut command = eval(&bundled("small"), sae, &tokens());
        let text = stdout_of(command.args(["--sequences", "2", "--resamples", "100"]).args(args));
        // What names the SAE, and who says that it is centred.
        let other = |line: &&str| !line.contains(" at blocks.3") && !line.contains("given on the command line");
        text.lines().filter(other).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    };
    assert_eq!(found(&centred, &[]), found(&sae(), &["--center-residual"]));
    assert_ne!(found(&centred, &[]), found(&sae(), &[]));
}

#[test]
fn a_hook_that_the_model_does_not_have_is_named_with_what_to_do() {
    let named = |dir: &Path, hook: &str| {
        replace(&dir.join("cfg.json"), "\"blocks.3.hook_resid_post\"", hook);
    };
    sae_refused(|dir| named(dir, "null"), &["names no hook", "--hook blocks.L.hook_resid_post"]);
    sae_refused(|dir| named(dir, "\"gpt_neox.layers.3\""), &["`gpt_neox.layers.3`", "--hook blocks.L.hook_resid_post"]);
    sae_refused(|dir| named(dir, "\"blocks.6.hook_mlp_out\""), &["blocks.6.hook_mlp_out", "6 layers, 0 to 5"]);
    sae_refused(|dir| named(dir, "\"blocks.3.hook_resid_mid\""), &["blocks.3.hook_resid_mid", "parallel residual"]);
    let mut command = eval(&bundled("small"), &sae(), &tokens());
    command.args(["--hook", "blocks.3.attn.hook_z", "--center-residual"]);
    refused(&mut command, &["--hook", "blocks.3.attn.hook_z", "can't be centred", "center_residual"]);
}

#[test]
fn a_text_without_a_whole_context_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short.txt");
    std::fs::write(&path, "Too short.").unwrap();
    let mut command = assay();
    command.arg("eval").arg("--model").arg(bundled("small")).arg("--sae").arg(sae()).arg("--text").arg(&path);
    refused(&mut command, &["short.txt", "128 tokens", "--context-size"]);
}

/// A sweep that is refused before it writes anything.
#[track_caller]
fn spec_refused(spec: &Path, args: &[&str], parts: &[&str]) {
    let out = spec.with_file_name("out");
    refused(sweep(spec, &out).args(args), parts);
    assert!(!out.exists(), "it left {:?}", files(&out).keys());
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("buffer_tokens", "buffer_token")]);
    spec_refused(&spec, &[], &["tiny.toml", "line 19", "`buffer_token`", "did you mean `buffer_tokens`?"]);
    let spec = write_spec(dir.path(), &[]);
    spec_refused(
        &spec,
        &["--set", "eval.sequence=3"],
        &["--set eval.sequence=3", "`sequence`", "did you mean `sequences`?"],
    );
}

#[test]
fn more_training_tokens_than_there_are_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("[20480]", "[12800000]")]);
    spec_refused(
        &spec,
        &[],
        &["training tokens", "train.parquet", "200000 are asked for", "lower training_tokens = 12800000 to "],
    );
}

#[test]
fn more_evaluation_sequences_than_there_are_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("sequences = 4", "sequences = 4000")]);
    spec_refused(
        &spec,
        &[],
        &["evaluation tokens", "eval.parquet", "4000 are asked for", "lower [eval] sequences to 48"],
    );
    let mut command = eval(&bundled("small"), &sae(), &tokens());
    refused(command.args(["--sequences", "25"]), &["tokens.safetensors", "24 sequences of 128", "25 are asked for"]);
}

#[test]
fn evaluation_text_that_is_also_training_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = format!("eval = '{}'", bundled("eval.parquet").display());
    let eval = format!("eval = '{}'", bundled("train.parquet").display());
    let spec = write_spec(
        dir.path(),
        &[(&from, &eval), ("sequences = 4\ncontext_size = 32", "sequences = 4\ncontext_size = 64")],
    );
    spec_refused(&spec, &[], &["overlap"]);
    // The lengths of contexts and sequences need not be equal for that.
    let spec = write_spec(dir.path(), &[(&from, &eval)]);
    spec_refused(&spec, &[], &["4 of 4", "overlap"]);
}

#[test]
fn a_second_process_is_kept_out_of_a_results_directory() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("[20480]", "[1024]")]);
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let lock = File::create(out.join(".lock")).unwrap();
    lock.lock().unwrap();
    refused(&mut sweep(&spec, &out), &[out.to_str().unwrap(), "another process", "--out"]);
    assert_eq!(files(&out).len(), 1, "nothing but the lock");
    lock.unlock().unwrap();
    stdout_of(&mut sweep(&spec, &out));
}

#[test]
fn a_damaged_record_is_named_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[]);
    let out = dir.path().join("out");
    let listed = stdout_of(sweep(&spec, &out).arg("--dry-run"));
    let id = listed.lines().nth(2).unwrap().split_whitespace().nth(1).unwrap();
    let record = out.join("runs").join(format!("{id}.json"));
    std::fs::create_dir_all(out.join("runs")).unwrap();
    std::fs::write(&record, "{\"id\": \"").unwrap();
    refused(&mut sweep(&spec, &out), &[record.to_str().unwrap(), "damaged", "remove it"]);
    assert_eq!(std::fs::read_to_string(&record).unwrap(), "{\"id\": \"");
}

#[test]
fn a_directory_without_results_makes_no_report() {
    let dir = tempfile::tempdir().unwrap();
    refused(assay().arg("report").arg(dir.path()), &["runs.parquet", "assay sweep"]);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    let with = |device: &str, parts: &[&str]| {
        let parts = [&["--device", device, "devices here: cpu"], parts].concat();
        refused(eval(&bundled("small"), &sae(), &tokens()).args(["--device", device]), &parts);
    };
    with("tpu", &["no such kind of device"]);
    with("cpu:1", &["no number"]);
    with("cuda:99", if cfg!(feature = "cuda") { &["no such device"] } else { &["cargo install", "--features cuda"] });
    refused(
        assay().arg("geometry").args(["--device", "cuda:x", "--model", "m", "--tokens", "t"]),
        &["cuda:x", "`cuda:0`"],
    );
}

#[test]
fn bf16_on_the_cpu_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("k = [2, 4]", "k = [2, 4]\nprecision = \"bf16\"")]);
    spec_refused(&spec, &["--device", "cpu"], &["needs a GPU", "--device cuda", "--set precision=f32"]);
}

#[cfg(unix)]
#[test]
fn a_place_for_temporary_files_is_asked_for_where_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let train = format!("train = '{}'", bundled("train.parquet").display());
    let text =
        format!("train = '{}'\nrepeat = true", crate::common::root().join("tests/fixtures/sample.txt").display());
    let spec = write_spec(dir.path(), &[(&train, &text)]);
    let nowhere = dir.path().join("nowhere");
    let mut command = sweep(&spec, &dir.path().join("out"));
    refused(command.arg("--dry-run").env("TMPDIR", &nowhere), &["sample.txt", "nowhere", "set TMPDIR"]);
}

#[test]
fn what_is_neither_model_nor_results_nor_tokens_is_not_inspected() {
    let dir = tempfile::tempdir().unwrap();
    refused(assay().arg("inspect").arg(dir.path()), &["no model (config.json, or a GGUF file)", "no .parquet"]);
    let corpus = crate::common::root().join("tests/fixtures/sample.jsonl.zst");
    let found = stdout_of(assay().arg("inspect").arg(corpus));
    assert!(found.contains("| documents  | 12 ") && found.contains("| kind       | text "), "{found}");
    let pattern = crate::common::root().join("tests/fixtures/*.jsonl*");
    let found = stdout_of(assay().arg("inspect").arg(pattern));
    assert!(found.contains("| documents  | 24 ") && found.contains("| files      | 2 "), "{found}");
    refused(assay().arg("inspect").arg(dir.path().join("*.txt")), &["no file matches"]);
}
