//! SAEs as files: what a conversion replaces, keeps and claims, and configurations as people and tools leave them.

use std::path::{Path, PathBuf};

use assay_sae::{Format, formats};
use assert_cmd::Command;
use burn::tensor::Tensor;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    Reference, assay, bundled, copy_dir, cpu, edit_tensors, files, golden, refused, stdout_of, sweep, values,
    write_spec, write_tensors, write_tokens,
};

fn source() -> PathBuf {
    golden("eval-small/L3_k8")
}

fn convert(from: &Path, to: &Path, format: Format) -> Command {
    let mut command = assay();
    command.arg("convert").arg(from).arg(to).args(["--to", format.name()]);
    command
}

fn eval(sae: &Path) -> Command {
    let mut command = assay();
    command.args(["eval", "--resamples", "100", "--sequences", "2", "--fisher-samples", "0", "--model"]);
    command.arg(bundled("small")).arg("--tokens").arg(golden("eval-small/tokens.safetensors")).arg("--sae").arg(sae);
    command
}

fn inspect(path: &Path) -> Command {
    let mut command = assay();
    command.arg("inspect").arg(path);
    command
}

fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&stdout_of(command)).unwrap()
}

fn json_in(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The SAE of `eval-small` in each format, in directories that are called so.
fn in_every_format() -> (TempDir, Vec<(Format, PathBuf)>) {
    let dir = tempfile::tempdir().unwrap();
    let made = Format::WRITTEN.map(|format| {
        let to = dir.path().join(format.name()).join("layers.3");
        stdout_of(&mut convert(&source(), &to, format));
        (format, to)
    });
    (dir, made.into())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Changes a configuration as text.
fn rewrite(path: &Path, change: impl FnOnce(String) -> String) {
    let text = change(std::fs::read_to_string(path).unwrap());
    std::fs::write(path, text).unwrap();
}

/// Keys of a configuration and their new values; `a.b` is b in a, and null removes.
type Changes<'a> = &'a [(&'a str, Value)];

/// Sets keys of a configuration.
fn set(path: &Path, changes: Changes<'_>) {
    let mut config = json_in(path);
    for (key, value) in changes {
        let (above, last) = key.rsplit_once('.').unwrap_or(("", key));
        let at = above.split('.').filter(|part| !part.is_empty()).fold(&mut config, |at, part| &mut at[part]);
        if value.is_null() {
            at.as_object_mut().unwrap().remove(last);
        } else {
            at[last] = value.clone();
        }
    }
    std::fs::write(path, config.to_string()).unwrap();
}

fn config_of(format: Format) -> &'static str {
    if format == Format::DictionaryLearning { "config.json" } else { "cfg.json" }
}

fn weights_of(format: Format) -> &'static str {
    match format {
        Format::SaeLens => "sae_weights.safetensors",
        Format::Sparsify => "sae.safetensors",
        Format::DictionaryLearning => "ae.safetensors",
        other => panic!("{other} is not written"),
    }
}

#[test]
fn a_conversion_replaces_the_files_of_the_sae_and_no_others() {
    let (dir, made) = in_every_format();
    for (old, sae) in &made {
        for (new, _) in &made {
            let to = dir.path().join(format!("{old}-{new}"));
            copy_dir(sae, &to);
            std::fs::create_dir(to.join("checkpoints")).unwrap();
            for mine in ["checkpoints/x", "notes.md", ".hidden", "optimizer.pt"] {
                std::fs::write(to.join(mine), "mine").unwrap();
            }
            let before = files(&to);
            refused(&mut convert(&source(), &to, *new), &["contains an SAE already", "--force"]);
            assert!(files(&to) == before, "{old} to {new}");
            stdout_of(convert(&source(), &to, *new).arg("--force"));
            let expected = [".hidden", "checkpoints", config_of(*new), "notes.md", "optimizer.pt", weights_of(*new)];
            let mut expected = expected.map(str::to_owned);
            expected.sort();
            assert_eq!(names(&to), expected, "{old} to {new}");
            for mine in ["checkpoints/x", "notes.md", ".hidden", "optimizer.pt"] {
                assert_eq!(std::fs::read_to_string(to.join(mine)).unwrap(), "mine");
            }
            assert_eq!(formats::load(&to, &cpu()).unwrap().format, *new);
        }
    }
}

#[test]
fn a_conversion_refuses_what_it_would_destroy() {
    let (dir, made) = in_every_format();
    let check = |from: &Path, to: &Path, format: Format, parts: &[&str]| {
        let before = files(dir.path());
        refused(convert(from, to, format).arg("--force"), parts);
        assert!(files(dir.path()) == before, "{} changed something", to.display());
    };
    let at = |name: &str| dir.path().join(name);
    let [saelens, sparsify] = [&made[0].1, &made[1].1];
    // The source itself, however it is spelled.
    let slash = PathBuf::from(format!("{}/", saelens.display()));
    for (from, to) in [(saelens, saelens), (saelens, &slash), (&saelens.join("cfg.json"), saelens)] {
        check(from, to, Format::Sparsify, &["is the SAE that is converted"]);
    }
    std::fs::write(at("file"), "mine").unwrap();
    check(saelens, &at("file"), Format::Sparsify, &["file", "an SAE is a directory"]);
    check(saelens, &at("file/below"), Format::Sparsify, &["file", "an SAE is a directory"]);
    // Configurations that are nobody's, and others' files with an SAE's name.
    for (name, foreign) in
        [("stray", "cfg.json"), ("model", "config.json"), ("weights", "ae.safetensors"), ("text", "a.txt")]
    {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join(foreign), "{}").unwrap();
        check(saelens, &at(name), Format::Sparsify, &[name, "contains no SAE"]);
    }
    copy_dir(saelens, &at("beside"));
    std::fs::write(at("beside/config.json"), "{\"model_type\": \"gpt_neox\"}").unwrap();
    check(sparsify, &at("beside"), Format::DictionaryLearning, &["beside", "config.json", "belongs to no SAE"]);
    copy_dir(saelens, &at("both"));
    copy_dir(&made[2].1, &at("both"));
    check(sparsify, &at("both"), Format::Sparsify, &["several SAEs", "sae_weights.safetensors", "ae.safetensors"]);
    // A configuration that can't be read is no reason to take its weights for nobody's.
    copy_dir(&made[2].1, &at("broken"));
    std::fs::write(at("broken/config.json"), "{\"trainer\": {").unwrap();
    check(saelens, &at("broken"), Format::SaeLens, &["broken/config.json", "line 1"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(saelens, at("link")).unwrap();
        check(saelens, &at("link"), Format::Sparsify, &["is the SAE that is converted"]);
        let elsewhere = tempfile::tempdir().unwrap();
        let dangling = elsewhere.path().join("dangling");
        std::os::unix::fs::symlink(at("nowhere"), &dangling).unwrap();
        check(saelens, &dangling, Format::Sparsify, &["dangling", "a link to nothing"]);
        assert_eq!(names(elsewhere.path()), ["dangling"]);
    }
}

#[test]
fn a_conversion_goes_where_it_is_told() {
    let (dir, made) = in_every_format();
    let at = |name: &str| dir.path().join(name);
    let sae = &made[0].1;
    // Inside its source, below directories that are not there yet, and with a slash at the end.
    let before = files(sae);
    for to in [sae.join("layers.3/"), at("new/a/b/layers.3/"), at("new/a/layers.3")] {
        stdout_of(&mut convert(sae, &to, Format::Sparsify));
        assert_eq!(formats::detect(&to).unwrap(), Some(Format::Sparsify));
        assert_eq!(names(to.parent().unwrap()).iter().filter(|name| name.starts_with('.')).count(), 0);
    }
    let after: Vec<_> = files(sae).into_iter().filter(|(path, _)| !path.starts_with("layers.3")).collect();
    assert!(after == before.into_iter().collect::<Vec<_>>());
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        std::os::unix::fs::symlink(at("new/a/layers.3"), at("link")).unwrap();
        stdout_of(convert(sae, &at("link"), Format::DictionaryLearning).arg("--force"));
        assert!(at("link").symlink_metadata().unwrap().is_symlink());
        assert_eq!(names(&at("new/a/layers.3")), ["ae.safetensors", "config.json"]);
        // A staging directory is private; what becomes of it is not.
        let parent = at("new/a").metadata().unwrap();
        let made = at("new/a/b/layers.3").metadata().unwrap();
        assert_eq!(
            (made.mode() & 0o777, made.permissions().mode() & 0o777),
            (parent.mode() & 0o777, parent.mode() & 0o777)
        );
    }
}

/// Under a limit on the size of files, which fails as a full disk does.
#[cfg(unix)]
#[test]
fn a_conversion_that_fails_leaves_nothing_and_takes_nothing() {
    let (dir, made) = in_every_format();
    let sae = &made[1].1;
    std::fs::write(sae.join("notes.md"), "mine").unwrap();
    for to in [sae.clone(), dir.path().join("new/a/layers.3")] {
        let before = (files(dir.path()), names(dir.path()));
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"]).arg(env!("CARGO_BIN_EXE_assay"));
        command.arg("convert").arg(source()).arg(&to).args(["--to", "saelens", "--force"]);
        let weights = to.join("sae_weights.safetensors");
        refused(&mut command, &["cannot write", weights.to_str().unwrap()]);
        assert!((files(dir.path()), names(dir.path())) == before, "{}", to.display());
        assert!(formats::load(sae, &cpu()).is_ok());
    }
}

#[cfg(unix)]
#[test]
fn the_cause_of_an_error_is_printed_once() {
    let dir = tempfile::tempdir().unwrap();
    let output = convert(&source(), &dir.path().join("x".repeat(300)), Format::SaeLens).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.matches("os error").count(), 1, "{message}");
}

/// Everything that a source says of itself, and nothing that it does not.
#[test]
fn a_conversion_keeps_what_the_source_says_and_invents_nothing() {
    let (dir, made) = in_every_format();
    let version = concat!("assay ", env!("CARGO_PKG_VERSION"));
    let said = json!({
        "sae_lens_version": "6.2.0", "neuronpedia_id": "small/3", "seqpos_slice": [null], "dataset_path": ["a", "b"],
        "exclude_special_tokens": [0], "my lab": {"run": 7}, "context_size": 512,
        "model_from_pretrained_kwargs": {"dtype": "bfloat16", "n_devices": 2},
    });
    let source = dir.path().join("source");
    copy_dir(&made[0].1, &source);
    let changes: Vec<(String, Value)> =
        said.as_object().unwrap().iter().map(|(key, value)| (format!("metadata.{key}"), value.clone())).collect();
    let changes: Vec<(&str, Value)> = changes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    set(&source.join("cfg.json"), &[&changes[..], &[("metadata.converted_by", Value::Null)]].concat());
    let trained = json_in(&source.join("cfg.json"))["metadata"].clone();
    for (format, _) in &made {
        let (to, back) = (dir.path().join(format!("{format}/kept")), dir.path().join(format!("{format}-back")));
        stdout_of(&mut convert(&source, &to, *format));
        stdout_of(&mut convert(&to, &back, Format::SaeLens));
        for metadata in
            [&json_in(&to.join(config_of(*format)))["metadata"], &json_in(&back.join("cfg.json"))["metadata"]]
        {
            for (key, value) in trained.as_object().unwrap() {
                assert_eq!(&metadata[key], value, "{format}: {key}");
            }
            assert_eq!(
                (&metadata["prepend_bos"], &metadata["converted_by"]),
                (&Value::Null, &json!(version)),
                "{format}"
            );
            assert!(metadata.get("trained_with").is_none(), "{format}: {metadata}");
        }
    }
    // The firing rates of its training are SAELens' own.
    let sparse = dir.path().join("sparse");
    let rates: Vec<u8> = (0..1024).flat_map(|latent| (-(latent as f32) / 100.0).to_le_bytes()).collect();
    let file = source.join("sparsity.safetensors");
    write_tensors(&file, &[("sparsity".to_owned(), (Dtype::F32, vec![1024], rates))].into());
    stdout_of(&mut convert(&source, &sparse, Format::SaeLens));
    let log_rates = |file: &Path| Reference::open(file).floats("sparsity").0;
    assert_eq!(log_rates(&sparse.join("sparsity.safetensors")), log_rates(&file));
    stdout_of(convert(&made[0].1, &sparse, Format::SaeLens).arg("--force"));
    assert_eq!(names(&sparse), ["cfg.json", "sae_weights.safetensors"]);
    // What never was SAELens' says so, and has no version that it was trained with.
    let foreign = golden("formats/dictionary-learning-topk/trainer_0");
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    copy_dir(&foreign, &dir.path().join("trainer_0"));
    let foreign = dir.path().join("trainer_0");
    set(&foreign.join("config.json"), &[("trainer.lr", json!(3e-4)), ("trainer.trainer_class", json!("TopKTrainer"))]);
    stdout_of(&mut convert(&foreign, &there, Format::SaeLens));
    let metadata = json_in(&there.join("cfg.json"))["metadata"].clone();
    assert!(metadata.as_object().unwrap().contains_key("sae_lens_training_version"));
    assert_eq!((&metadata["sae_lens_training_version"], &metadata["prepend_bos"]), (&Value::Null, &Value::Null));
    assert_eq!(metadata["sae_lens_version"], json!("6.54.12"));
    stdout_of(&mut convert(&there, &back, Format::DictionaryLearning));
    let (before, after) = (json_in(&foreign.join("config.json")), json_in(&back.join("config.json")));
    for part in ["trainer", "buffer"] {
        for (key, value) in before[part].as_object().unwrap() {
            assert_eq!(&after[part][key], value, "{part}.{key}");
        }
    }
    // An SAE that dictionary_learning did not train has none of its trainers.
    assert!(json_in(&made[2].1.join("config.json"))["trainer"].get("trainer_class").is_none());
}

#[test]
fn an_sae_that_a_sweep_trains_says_what_trained_it() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &[("k = [2, 4]", "k = [4]"), ("[train]", "[train]\nsave_saes = true")]);
    let out = dir.path().join("out");
    stdout_of(&mut sweep(&spec, &out));
    let saes = names(&out.join("saes"));
    let metadata = json_in(&out.join("saes").join(&saes[0]).join("cfg.json"))["metadata"].clone();
    assert_eq!(metadata["trained_with"], json!(concat!("assay ", env!("CARGO_PKG_VERSION"))));
    // The contexts are cut from documents, so that most begin in the middle of one.
    assert_eq!((&metadata["prepend_bos"], &metadata["context_size"]), (&json!(false), &json!(64)));
    assert_eq!(metadata["sae_lens_training_version"], Value::Null);
    assert!(metadata.get("converted_by").is_none() && metadata.get("training_architecture").is_none());
}

/// A file in the place of `name` in a copy of a golden SAE, and what it then reconstructs.
fn reconstruction(sae: &Path, sample: &str) -> Vec<f32> {
    let x: Tensor<2> = Reference::open(golden("formats").join(sample).join("encode.safetensors")).tensor("x");
    values(formats::load(sae, &cpu()).unwrap_or_else(|e| panic!("{sample}: {e}")).sae.reconstruct(x).0)
}

#[test]
fn a_configuration_means_the_same_in_the_types_that_tools_write() {
    let cases: [(&str, &str, Changes<'_>); 8] = [
        (
            "saelens-topk-constant-norm/sae",
            "cfg.json",
            &[
                ("k", json!(6.0)),
                ("d_in", json!("24")),
                ("d_sae", json!([64])),
                ("rescale_acts_by_decoder_norm", json!("True")),
                ("apply_b_dec_to_input", json!(1)),
                ("metadata.context_size", json!(128.0)),
                ("metadata.dataset_path", json!(["a", "b"])),
                ("metadata.prepend_bos", json!("true")),
                ("metadata.hook_name", json!(["blocks.1.hook_resid_post"])),
                ("hook_name", json!("blocks.1.hook_resid_post")),
                ("seed", json!(42.0)),
            ],
        ),
        (
            "saelens-legacy-topk-bf16/sae",
            "cfg.json",
            &[
                ("activation_fn_kwargs", json!({"k": 6.0})),
                ("k", json!(6)),
                ("activation_fn", json!("topk")),
                ("normalize_activations", json!(false)),
                ("finetuning_scaling_factor", json!(0)),
                ("hook_point", json!("blocks.1.hook_resid_post")),
                ("context_size", json!("128")),
            ],
        ),
        ("saelens-standard/sae", "cfg.json", &[("normalize_activations", json!("false")), ("d_sae", json!(320.0))]),
        (
            "saelens-jumprelu/sae",
            "cfg.json",
            &[("metadata.sae_lens_version", json!(6.5)), ("dtype", json!(["float32"]))],
        ),
        (
            "sparsify-topk/layers.1",
            "cfg.json",
            &[
                ("k", json!(12.0)),
                ("num_latents", json!("320")),
                ("d_in", json!(48.0)),
                ("transcode", json!(0)),
                ("skip_connection", json!("false")),
                ("expansion_factor", json!(6.666)),
                ("activation", json!(["topk"])),
            ],
        ),
        ("sparsify-groupmax/layers.1.mlp", "cfg.json", &[("k", json!("8")), ("multi_topk", json!("no"))]),
        (
            "dictionary-learning-topk/trainer_0",
            "config.json",
            &[
                ("trainer.k", json!(6.0)),
                ("trainer.dict_size", json!(64.0)),
                ("trainer.activation_dim", json!("24")),
                ("trainer.layer", json!("1")),
                ("buffer.ctx_len", json!(128.0)),
                ("trainer.lr", json!("3e-4")),
            ],
        ),
        (
            "dictionary-learning-gated/trainer_0",
            "config.json",
            &[("trainer.layer", json!(1.0)), ("trainer.dict_class", json!(["GatedAutoEncoder"]))],
        ),
    ];
    for (sae, config, changes) in cases {
        let (sample, name) = sae.split_once('/').unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join(name);
        copy_dir(&golden("formats").join(sae), &copy);
        let before = formats::load(&copy, &cpu()).unwrap().metadata;
        set(&copy.join(config), changes);
        // As Python and some editors write it.
        rewrite(&copy.join(config), |text| {
            format!("\u{feff}{{\"loss\": NaN, \"bounds\": [-Infinity, Infinity], \"note\": \"NaN\", {}", &text[1..])
        });
        assert!(reconstruction(&copy, sample) == reconstruction(&golden("formats").join(sae), sample), "{sae}");
        assert_eq!(formats::load(&copy, &cpu()).unwrap().metadata.hook_name, before.hook_name, "{sae}");
    }
}

#[test]
fn keys_that_contradict_each_other_or_say_nothing_usable_are_named() {
    let processed = json!({"checkpoint_value": 3000, "fold_ln": true});
    let cases: [(&str, &str, Changes<'_>, &[&str]); 14] = [
        (
            "saelens-legacy-topk-bf16/sae",
            "cfg.json",
            &[("model_from_pretrained_kwargs", processed)],
            &["fold_ln = true", "processed model"],
        ),
        ("saelens-standard/sae", "cfg.json", &[("d_in", json!(47))], &["`W_enc`", "[48, 320]", "[47, 320]"]),
        ("saelens-standard/sae", "cfg.json", &[("d_sae", json!("NaN"))], &["d_sae is \"NaN\"", "whole number"]),
        ("saelens-standard/sae", "cfg.json", &[("d_sae", json!(0))], &["d_sae is 0"]),
        ("saelens-standard/sae", "cfg.json", &[("architecture", Value::Null)], &["`architecture` is missing"]),
        (
            "saelens-standard/sae",
            "cfg.json",
            &[("hook_name", json!("blocks.2.hook_resid_post"))],
            &["hook_name is", "metadata's"],
        ),
        ("saelens-topk-l0-below-k/sae", "cfg.json", &[("k", json!(12.5))], &["k is 12.5", "whole number"]),
        ("saelens-legacy-topk-bf16/sae", "cfg.json", &[("k", json!(7))], &["k is 7", "activation_fn_kwargs.k is 6"]),
        (
            "saelens-legacy-topk-bf16/sae",
            "cfg.json",
            &[("activation_fn", json!("relu"))],
            &["activation_fn_str is topk", "relu"],
        ),
        ("sparsify-topk/layers.1", "cfg.json", &[("transcode", json!("perhaps"))], &["transcode", "true or false"]),
        ("sparsify-topk/layers.1", "cfg.json", &[("num_latents", json!(64))], &["`encoder.weight`", "[64, 48]"]),
        (
            "dictionary-learning-topk/trainer_0",
            "config.json",
            &[("trainer.layer", json!(2))],
            &["layer is 2", "submodule_name is 1"],
        ),
        (
            "dictionary-learning-topk/trainer_0",
            "config.json",
            &[("trainer.dict_class", Value::Null)],
            &["dict_class", "missing"],
        ),
        (
            "dictionary-learning-topk/trainer_0",
            "config.json",
            &[("trainer", json!("TopK"))],
            &["trainer is \"TopK\"", "an object"],
        ),
    ];
    for (sae, config, changes, parts) in cases {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join(sae.split_once('/').unwrap().1);
        copy_dir(&golden("formats").join(sae), &copy);
        set(&copy.join(config), changes);
        let error = formats::load(&copy, &cpu()).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{sae}: `{part}` is not in: {error}");
        }
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_by_every_command() {
    let (dir, made) = in_every_format();
    for (format, sae) in &made {
        let config = sae.join(config_of(*format));
        let whole = std::fs::read_to_string(&config).unwrap();
        let lines = whole.lines().count();
        let cut: String = whole.lines().take(lines / 2).collect::<Vec<_>>().join("\n");
        let end = format!("line {}", lines / 2);
        let size = if *format == Format::DictionaryLearning { "dict_size" } else { "d_in" };
        let damages: [(String, &[&str]); 5] = [
            (cut, &["ends too early", &end]),
            (String::new(), &["ends too early"]),
            (whole.replacen(':', "", 1), &["not valid JSON", "line 2"]),
            (whole.replacen(&format!("\"{size}\": "), &format!("\"{size}\": NaN, \"x\": "), 1), &[size, "NaN"]),
            (
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n".to_owned(),
                &["Git LFS pointer", "git lfs pull"],
            ),
        ];
        for (text, parts) in damages {
            std::fs::write(&config, text).unwrap();
            let parts = &[&[config.to_str().unwrap()], parts].concat()[..];
            for path in [sae.clone(), config.clone(), sae.join(weights_of(*format))] {
                refused(&mut eval(&path), parts);
                refused(&mut inspect(&path), parts);
                refused(&mut convert(&path, &dir.path().join("to"), Format::SaeLens), parts);
            }
        }
        if *format == Format::DictionaryLearning {
            // A search that comes past it tells, too.
            std::fs::write(&config, "{\"trainer\": {").unwrap();
            refused(&mut eval(sae.parent().unwrap()), &[config.to_str().unwrap(), "ends too early", "line 1"]);
        }
        std::fs::write(&config, format!("\u{feff}{whole}")).unwrap();
        stdout_of(&mut inspect(sae));
    }
}

#[test]
fn every_file_of_an_sae_stands_for_it() {
    let (_dir, made) = in_every_format();
    for (format, sae) in &made {
        let whole = stdout_of(&mut inspect(sae));
        assert!(whole.contains(&format!("SAE, topk, {format} format")), "{whole}");
        for name in names(sae) {
            assert_eq!(stdout_of(&mut inspect(&sae.join(name))), whole);
        }
        // Also where the file is named from its own directory.
        assert_eq!(stdout_of(inspect(Path::new(config_of(*format))).current_dir(sae)), whole);
        std::fs::write(sae.join("notes.txt"), "A text beside it.").unwrap();
        let text = stdout_of(&mut inspect(&sae.join("notes.txt")));
        assert!(!text.contains("SAE"), "{text}");
        refused(&mut eval(&sae.join("notes.txt")), &["notes.txt", "no file of the SAE"]);
        // Weights without a configuration, and the other way round.
        let config = sae.join(config_of(*format));
        std::fs::rename(&config, sae.join("moved")).unwrap();
        refused(&mut inspect(&sae.join(weights_of(*format))), &["no SAE", config_of(*format), "is missing"]);
    }
}

#[test]
fn of_several_saes_in_one_directory_the_file_says_which() {
    let (_dir, made) = in_every_format();
    let (both, other) = (&made[0].1, &made[2].1);
    copy_dir(other, both);
    refused(
        &mut inspect(both),
        &["several SAEs", "sae_weights.safetensors (saelens)", "ae.safetensors (dictionary-learning)"],
    );
    for (format, file) in [(Format::SaeLens, "cfg.json"), (Format::DictionaryLearning, "ae.safetensors")] {
        assert_eq!(formats::load(&both.join(file), &cpu()).unwrap().format, format);
    }
}

#[test]
fn a_pointer_of_git_lfs_is_no_damaged_file() {
    let (_dir, made) = in_every_format();
    for (format, sae) in &made {
        let weights = sae.join(weights_of(*format));
        std::fs::write(&weights, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n").unwrap();
        refused(&mut eval(sae), &[weights.to_str().unwrap(), "Git LFS pointer", "git lfs pull"]);
    }
}

#[test]
fn a_hook_that_no_file_names_is_asked_for() {
    let (dir, made) = in_every_format();
    let sae = &made[2].1;
    let config = sae.join("config.json");
    let ask = |changes: Changes<'_>| {
        set(&config, &[changes, &[("metadata", Value::Null)]].concat());
        refused(&mut eval(sae), &["names no hook", "--hook blocks.L.hook_resid_post"]);
    };
    ask(&[("trainer.submodule_name", Value::Null)]);
    ask(&[("trainer.submodule_name", json!("")), ("trainer.layer", json!(3))]);
    ask(&[("trainer.submodule_name", json!("resid_post")), ("trainer.layer", Value::Null)]);
    // Whose output or input it is: the name says so, `io` says so, or nobody does.
    ask(&[("trainer.submodule_name", json!("mlp_layer_3")), ("buffer.io", Value::Null)]);
    let hook = |changes: Changes<'_>| {
        set(&config, changes);
        formats::load(sae, &cpu()).unwrap().metadata.hook_name
    };
    assert_eq!(hook(&[("trainer.submodule_name", json!("mlp_out_layer_3"))]).as_deref(), Some("blocks.3.hook_mlp_out"));
    assert_eq!(
        hook(&[("trainer.submodule_name", json!("resid_post_layer_2"))]).as_deref(),
        Some("blocks.2.hook_resid_post")
    );
    set(&config, &[("trainer.submodule_name", Value::Null)]);
    let to = dir.path().join("hooked");
    let printed = stdout_of(&mut convert(sae, &to, Format::SaeLens));
    assert!(printed.contains("--hook"), "{printed}");
    stdout_of(convert(sae, &to, Format::SaeLens).args(["--force", "--hook", "blocks.3.hook_resid_post"]));
    stdout_of(&mut eval(&to));
}

#[test]
fn a_directory_whose_name_sparsify_cannot_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let note = |name: &str| stdout_of(&mut convert(&source(), &dir.path().join(name), Format::Sparsify));
    for (name, told) in
        [("layers.3", false), ("run/layers.3/seed1", false), ("layers.4", true), ("L3_k8", true), ("blocks.3", true)]
    {
        let printed = note(name);
        assert_eq!(printed.contains("to `layers.3`"), told, "{name}: {printed}");
    }
    let renamed = dir.path().join("layers.5");
    copy_dir(&dir.path().join("layers.3"), &renamed);
    let loaded = formats::load(&renamed, &cpu()).unwrap();
    assert_eq!(loaded.metadata.hook_name.as_deref(), Some("blocks.3.hook_resid_post"));
    assert!(loaded.notes[0].contains("blocks.5.hook_resid_post"), "{:?}", loaded.notes);
}

#[test]
fn an_sae_that_names_another_model_or_context_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let sae = dir.path().join("sae");
    copy_dir(&source(), &sae);
    assert_eq!(json_of(eval(&sae).arg("--json"))["notes"], json!([]));
    set(
        &sae.join("cfg.json"),
        &[
            ("metadata.model_name", json!("pythia-70m-deduped")),
            ("metadata.context_size", json!(1024)),
            ("metadata.prepend_bos", json!(true)),
            ("metadata.model_from_pretrained_kwargs", json!({"revision": "step3000"})),
        ],
    );
    let tokens = dir.path().join("tokens.safetensors");
    write_tokens(&tokens, &ndarray::Array2::from_shape_fn((2, 16), |(row, column)| (5 + row + column) as i64));
    let mut command = assay();
    command.args(["eval", "--resamples", "100", "--fisher-samples", "0", "--model"]).arg(bundled("small"));
    let printed = stdout_of(command.arg("--sae").arg(&sae).arg("--tokens").arg(tokens));
    for part in ["pythia-70m-deduped", "step3000", "contexts of 1024 tokens", "prepend_bos"] {
        assert!(printed.lines().any(|line| line.starts_with("Note: ") && line.contains(part)), "{part}: {printed}");
    }
}

#[test]
fn weights_that_no_computation_survives_are_named() {
    let (_dir, made) = in_every_format();
    for (format, sae) in &made {
        let weights = sae.join(weights_of(*format));
        edit_tensors(&weights, |tensors| {
            tensors.get_mut("b_dec").unwrap().2[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
        });
        refused(&mut eval(sae), &[weights.to_str().unwrap(), "`b_dec`", "inf at element 1"]);
    }
}

/// As SAELens has SAEs of all attention heads together.
#[test]
fn an_sae_of_attention_heads_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("z");
    let hook = ["--to", "saelens", "--hook", "blocks.3.attn.hook_z"];
    stdout_of(assay().arg("convert").arg(golden("eval-small/L3_k8")).arg(&to).args(hook));
    let text = std::fs::read_to_string(to.join("cfg.json")).unwrap();
    let cfg: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(cfg["reshape_activations"], "hook_z");
    let found: serde_json::Value =
        serde_json::from_str(&stdout_of(assay().arg("inspect").arg("--json").arg(&to))).unwrap();
    assert!(found.to_string().contains("blocks.3.attn.hook_z"), "{found}");
    let head = text.replacen('{', "{\"hook_head_index\": 1,", 1);
    std::fs::write(to.join("cfg.json"), head).unwrap();
    refused(assay().arg("inspect").arg(&to), &["hook_head_index", "single attention head"]);
}
