//! Activations as safetensors: what an evaluation reads, in shards that are resumed, and never in a place of something else.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::common::{Reference, assay, bundled, files, golden, refused, stdout_of};

const HOOK: &str = "blocks.3.hook_resid_post";

fn capture(out: &Path, args: &[&str]) -> Command {
    let mut command = assay();
    command.args(["capture", "--hook", HOOK, "--model"]).arg(bundled("small")).arg("--out").arg(out).args(args);
    command
}

fn tokens() -> String {
    golden("eval-small/tokens.safetensors").to_str().unwrap().to_owned()
}

/// The activations of all shards of a directory, and the shapes of the shards.
fn shards(dir: &Path) -> (Vec<u8>, Vec<Vec<usize>>) {
    let mut bytes = Vec::new();
    let mut shapes = Vec::new();
    let mut paths: Vec<PathBuf> =
        files(dir).into_keys().filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    paths.sort();
    for path in paths {
        let content = std::fs::read(dir.join(path)).unwrap();
        let file = SafeTensors::deserialize(&content).unwrap();
        let tensor = file.tensor("activations").unwrap();
        bytes.extend_from_slice(tensor.data());
        shapes.push(tensor.shape().to_vec());
    }
    (bytes, shapes)
}

fn index(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("index.json")).unwrap()).unwrap()
}

#[test]
fn captured_are_the_activations_that_an_evaluation_reads() {
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("eval.safetensors");
    let mut eval = assay();
    eval.args(["eval", "--sequences", "all", "--resamples", "100", "--fisher-samples", "0", "--sae"]);
    eval.arg(golden("eval-small/L3_k8")).arg("--model").arg(bundled("small")).args(["--tokens", &tokens()]);
    stdout_of(eval.arg("--save-reconstructions").arg(&saved));
    let (expected, shape) = Reference::open(&saved).floats("x");
    let expected: Vec<u8> = expected.into_iter().flat_map(f32::to_le_bytes).collect();

    let out = dir.path().join("shards");
    let shown = stdout_of(&mut capture(&out, &["--tokens", &tokens(), "--shard-tokens", "600"]));
    assert!(shown.contains(&format!("activations [{}, 128]", shape[0])), "{shown}");
    let (found, shapes) = shards(&out);
    assert!(found == expected, "other activations than those of an evaluation");
    let about = index(&out);
    let context = about["context_size"].as_u64().unwrap() as usize;
    assert_eq!(about["shape"], serde_json::json!(shape));
    assert_eq!((&about["hook"], &about["dtype"], &about["bos"]), (&HOOK.into(), &"F32".into(), &Value::Null));
    assert_eq!(shapes[0], [600 / context * context, 128]);
    assert_eq!(shapes.iter().map(|shape| shape[0]).sum::<usize>(), shape[0]);

    // In one file, rounded.
    let file = dir.path().join("one.safetensors");
    stdout_of(&mut capture(&file, &["--tokens", &tokens(), "--dtype", "bf16"]));
    let content = std::fs::read(&file).unwrap();
    let parsed = SafeTensors::deserialize(&content).unwrap();
    let tensor = parsed.tensor("activations").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::BF16, shape.as_slice()));
    let pairs = tensor.data().chunks_exact(2).zip(expected.chunks_exact(4));
    for (short, long) in pairs {
        let short = f32::from_bits(u32::from(u16::from_le_bytes(short.try_into().unwrap())) << 16);
        let long = f32::from_le_bytes(long.try_into().unwrap());
        assert!((short - long).abs() <= long.abs() / 256.0, "{short} {long}");
    }
    refused(&mut capture(&file, &["--tokens", &tokens()]), &["one.safetensors: it is there already", "another --out"]);
}

#[test]
fn a_killed_capture_goes_on_and_keeps_what_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let train = bundled("train.parquet");
    let args =
        ["--tokens", train.to_str().unwrap(), "--context-size", "64", "--sequences", "600", "--shard-tokens", "2048"];
    let whole = dir.path().join("whole");
    stdout_of(&mut capture(&whole, &args));

    let out = dir.path().join("killed");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args(["--quiet", "--device", "cpu", "capture", "--hook", HOOK, "--model"]).arg(bundled("small"));
    let mut child = command.arg("--out").arg(&out).args(args).stdout(Stdio::null()).spawn().unwrap();
    let finished = || {
        std::fs::read(out.join("index.json"))
            .ok()
            .and_then(|_| index(&out)["shards"].as_object().map(serde_json::Map::len))
    };
    let started = Instant::now();
    while finished().unwrap_or(0) < 2 {
        assert!(
            started.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(),
            "it ended, or never began"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = finished().unwrap();
    let time = |file: &str| out.join(file).metadata().unwrap().modified().unwrap();
    let first = time("activations-00000.safetensors");
    assert!((2..19).contains(&kept), "{kept} shards are finished");
    // What a killed process left goes, what another is writing stays.
    std::fs::write(out.join(".assay-gone"), "").unwrap();
    let held = std::fs::File::create(out.join(".assay-held")).unwrap();
    held.lock().unwrap();
    stdout_of(&mut capture(&out, &args));
    let on_their_way: Vec<PathBuf> =
        files(&out).into_keys().filter(|path| path.to_string_lossy().starts_with(".assay-")).collect();
    assert_eq!(on_their_way, [Path::new(".assay-held")]);
    assert_eq!(finished(), Some(19));
    assert_eq!(time("activations-00000.safetensors"), first, "a finished shard was written again");
    assert!(shards(&out) == shards(&whole), "other activations after a kill");
    assert_eq!(index(&out), index(&whole));
    // All is there: nothing is done, and the same is said.
    let again = stdout_of(&mut capture(&out, &args));
    assert_eq!(again, stdout_of(&mut capture(&whole, &args)).replace("whole", "killed"));
}

#[test]
fn text_begins_as_the_tokenizer_says() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    std::fs::write(&text, "The quick brown fox jumps over the lazy dog, again and again. ".repeat(60)).unwrap();
    let out = dir.path().join("out");
    let args = ["--text", text.to_str().unwrap(), "--context-size", "32", "--json"];
    let found: Value = serde_json::from_str(&stdout_of(&mut capture(&out, &args))).unwrap();
    assert_eq!(found["context_size"], 32);
    assert!(found["sequences"].as_u64() > Some(5) && found["path"] == out.to_str().unwrap());
    // Other tokens are other activations.
    let other = ["--text", text.to_str().unwrap(), "--context-size", "16"];
    refused(
        &mut capture(&out, &other),
        &["has other activations", "context_size is 32 there, 16 here", "give another --out"],
    );
}

#[test]
fn what_can_not_be_captured_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let tokens = tokens();
    let with = |args: &[&str]| {
        let mut command = assay();
        command
            .args(["capture", "--model"])
            .arg(bundled("small"))
            .args(["--tokens", &tokens, "--out"])
            .arg(&out)
            .args(args);
        command
    };
    refused(&mut with(&["--hook", "blocks.6.hook_mlp_out"]), &["blocks.6.hook_mlp_out", "6 layers, 0 to 5"]);
    refused(
        &mut with(&["--hook", HOOK, "--sequences", "100000"]),
        &["contains 24 sequences of 128 tokens; 100000 are asked for (--sequences)"],
    );
    assert!(!out.exists());
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("notes.txt"), "mine").unwrap();
    refused(&mut with(&["--hook", HOOK]), &["has no activations but other files, such as notes.txt", "another --out"]);
    assert_eq!(files(&out).len(), 1);
}
