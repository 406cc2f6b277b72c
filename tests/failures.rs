//! SAEs whose training comes to nothing: each is stopped at its step, and the others of its sweep go on.

use std::path::{Path, PathBuf};

use assay::frames;
use assay_models::{RowUse, TokenSource};
use half::f16;
use safetensors::Dtype;

use crate::common::{assay, bundled, copy_dir, edit_tensors, files, stdout_of, sweep, write_spec, write_tokens};

/// The context that has the token that the model can't stand, of 320 that are trained on.
const CONTEXT: usize = 200;

/// A sweep over two hooks of a model in which one token, which is in one context of the training text and nowhere else, has a residual
/// stream so large that the gradient's norm is no f32; what the MLP adds to it is as small as ever.
fn spec(dir: &Path) -> PathBuf {
    let read = |name: &str, size: usize, rows: RowUse, count: usize| {
        TokenSource::open(&bundled(name), size, rows, None).unwrap().read(0, count).unwrap()
    };
    let mut train = read("train.parquet", 64, RowUse::Split, 320);
    let eval = read("eval.parquet", 32, RowUse::Split, 64);
    let rare = (0..4096).find(|id| !train.iter().chain(&eval).any(|token| token == id)).unwrap();
    train[[CONTEXT, 10]] = rare;
    write_tokens(&dir.join("train.safetensors"), &train.mapv(i64::from));

    let model = dir.join("model");
    copy_dir(&bundled("small"), &model);
    edit_tensors(&model.join("model.safetensors"), |tensors| {
        let (dtype, shape, bytes) = tensors.get_mut("gpt_neox.embed_in.weight").unwrap();
        assert_eq!(*dtype, Dtype::F16);
        let halves = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
        let mut values: Vec<f32> = halves.collect();
        values[rare as usize * shape[1]] = 1e18;
        (*dtype, *bytes) = (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect());
    });
    let changes = [
        (format!("path = '{}'", bundled("small").display()), format!("path = '{}'", model.display())),
        (
            format!("train = '{}'", bundled("train.parquet").display()),
            format!("train = '{}'", dir.join("train.safetensors").display()),
        ),
        ("k = [2, 4]".to_owned(), "k = [2, 4]\nhooks = [\"resid_post\", \"mlp_out\"]".to_owned()),
    ];
    let changes: Vec<(&str, &str)> = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    write_spec(dir, &changes)
}

#[test]
fn an_sae_whose_gradient_is_infinite_stops_there_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("tiny"));
    let done = sweep(&spec, &out).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    for name in ["small-L3-k2-seed0-20480tokens", "small-L3-k4-seed0-20480tokens"] {
        assert!(said.contains(&format!("warning: {name} failed at step ")), "{said}");
        assert!(said.contains("its gradient is not finite") && said.contains("the others continue"), "{said}");
        // As it was saved last it is an SAE like any other.
        let kept = out.join("failed").join(name);
        let inspected = stdout_of(assay().arg("inspect").arg(&kept));
        assert!(inspected.contains("blocks.3.hook_resid_post"), "{inspected}");
        assert!(out.join("logs").join(name).join("metrics.jsonl").exists(), "its curve stays");
    }
    let grid = frames::read(&out).unwrap();
    let hooks: Vec<&str> = grid.runs.iter().map(|run| run.hook.as_str()).collect();
    assert_eq!(hooks, ["blocks.3.hook_mlp_out"; 2]);
    assert_eq!(grid.failed.len(), 2);
    let failed = &grid.failed[0];
    assert_eq!((failed.hook.as_str(), failed.setting.as_str()), ("blocks.3.hook_resid_post", "topk mse k 2"));
    assert_eq!(failed.reason, "its gradient is not finite");
    // The token comes at the step in which its context's place in the buffer is: not in the rounds before.
    let step: usize = failed.when.strip_prefix("at step ").unwrap().parse().unwrap();
    assert!((2048 / 128..160).contains(&step), "{step}");
    for (file, part) in [("report.md", "**2 of 4 runs failed**"), ("tables/failed.md", "its gradient is not finite")] {
        let text = std::fs::read_to_string(out.join(file)).unwrap();
        assert!(text.contains(part), "{file}: {text}");
    }
    assert!(!out.join(".state").exists(), "nothing is left to resume");

    // The same command trains nothing again, and the same files come of it.
    let before = files(&out);
    let again = sweep(&spec, &out).output().unwrap();
    assert!(again.status.success() && !String::from_utf8(again.stderr).unwrap().contains("warning"));
    let after = files(&out);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(before.iter().all(|(path, bytes)| path.ends_with("timings.parquet") || after[path] == *bytes));
    let planned = stdout_of(sweep(&spec, &out).arg("--dry-run"));
    assert!(planned.contains("4 runs, 0 to do"), "{planned}");

    // In company with those that failed or without, the others are the same.
    let alone = dir.path().join("alone/tiny");
    stdout_of(sweep(&spec, &alone).args(["--set", "hooks=[\"mlp_out\"]"]));
    let grid_alone = frames::read(&alone).unwrap();
    for (run, alone) in grid.runs.iter().zip(&grid_alone.runs) {
        assert_eq!((&run.id, &run.curve, &run.values), (&alone.id, &alone.curve, &alone.values));
    }
    // A worker's warnings are shown by the process that started it, also where progress is not.
    let workers = dir.path().join("workers/tiny");
    let output = sweep(&spec, &workers).args(["--devices", "cpu"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let warned =
        said.lines().filter(|line| line.starts_with("warning: cpu: small-L3-k") && line.contains(" failed at step "));
    assert_eq!(warned.count(), 2, "{said}");
    // Where all fail there is nothing to report.
    let none = dir.path().join("none/tiny");
    let output = sweep(&spec, &none).args(["--set", "hooks=[\"resid_post\"]"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["error: ", "all runs failed", "blocks.3.hook_resid_post topk at step ", "its gradient is not finite"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(!none.join("runs.parquet").exists());
}
