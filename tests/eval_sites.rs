//! `assay eval` at hooks of every kind of a real model, and of transcoders, in the layouts of Gemma Scope and Gemma Scope 2, against
//! transformers in float64 (`tests/golden/README.md`).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::common::{assay, golden, npy_bytes, real_model, stdout_of, write_floats};
use crate::parity_eval::{agree, tolerance};

/// Numbers in (−scale, scale): a hash of each one's place, as `scripts/make_eval_sites.py` makes them.
fn uniform(seed: u64, count: usize, scale: f64) -> Vec<f32> {
    let number = |at: u64| {
        let mut x = (at + seed * 10_000_019) as u32;
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        ((f64::from(x) / 2_f64.powi(31) - 1.0) * scale) as f32
    };
    (0..count as u64).map(number).collect()
}

const D_SAE: usize = 96;

/// What a hook of layer 9 is called: by TransformerLens, by Gemma Scope 2, and by the end of a repository of Gemma Scope.
fn hook(name: &str) -> [&'static str; 3] {
    match name {
        "resid_post" => ["blocks.9.hook_resid_post", "model.layers.9.output", "res"],
        "z" => ["blocks.9.attn.hook_z", "model.layers.9.self_attn.o_proj.input", "att"],
        "mlp_in" => ["blocks.9.mlp.hook_in", "model.layers.9.pre_feedforward_layernorm.output", ""],
        "mlp_normalized" => ["blocks.9.ln2.hook_normalized", "", "transcoders"],
        "mlp_out" => ["blocks.9.hook_mlp_out", "model.layers.9.post_feedforward_layernorm.output", "mlp"],
        other => panic!("{other}"),
    }
}

type Weights = Vec<(&'static str, Vec<f32>, Vec<usize>)>;

/// The weights of an SAE, as Gemma Scope 2 calls them.
fn weights(sae: &Value) -> Weights {
    let number = |key: &str| sae[key].as_f64().unwrap();
    let size = |key: &str| sae[key].as_u64().unwrap() as usize;
    let (seed, d_in, d_out) = (10 * sae["seed"].as_u64().unwrap(), size("d_in"), size("d_out"));
    let (scale_in, scale_out) = (number("scale_in"), number("scale_out"));
    let threshold: Vec<f32> = uniform(seed + 4, D_SAE, 0.25).into_iter().map(|v| 1.0 + v).collect();
    let mut tensors = vec![
        ("w_enc", uniform(seed, d_in * D_SAE, (3.0 / d_in as f64).sqrt() / scale_in), vec![d_in, D_SAE]),
        ("b_enc", uniform(seed + 1, D_SAE, 0.1), vec![D_SAE]),
        ("w_dec", uniform(seed + 2, D_SAE * d_out, scale_out / (D_SAE as f64).sqrt()), vec![D_SAE, d_out]),
        ("b_dec", uniform(seed + 3, d_out, 0.1 * scale_out), vec![d_out]),
        ("threshold", threshold, vec![D_SAE]),
    ];
    if sae["affine"] == true {
        let matrix = uniform(seed + 5, d_in * d_out, scale_out / (scale_in * (d_in as f64).sqrt()));
        tensors.push(("affine_skip_connection", matrix, vec![d_in, d_out]));
    }
    tensors
}

/// Writes an SAE in the layout of Gemma Scope 2.
fn write_scope_2(dir: &Path, sae: &Value) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    write_floats(&dir.join("params.safetensors"), &weights(sae));
    let module = |key: &str| hook(sae[key].as_str().unwrap())[1];
    let config = json!({
        "architecture": "jump_relu", "width": D_SAE, "model_name": "google/gemma-3-270m", "affine_connection": sae["affine"],
        "type": if sae["affine"] == true { "transcoder" } else { "sae" },
        "hf_hook_point_in": module("reads"), "hf_hook_point_out": module("patched"),
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir.to_owned()
}

/// Writes an SAE in the layout of Gemma Scope, whose names alone say what it belongs to, as `numpy.savez` and `savez_compressed` do.
fn write_scope(dir: &Path, sae: &Value) -> PathBuf {
    let site = hook(sae["reads"].as_str().unwrap())[2];
    let dir = dir.join(format!("gemma-scope-2b-pt-{site}/layer_9/width_96/average_l0_15"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut archive = ZipWriter::new(File::create(dir.join("params.npz")).unwrap());
    for (at, (name, values, shape)) in weights(sae).into_iter().enumerate() {
        let name = if name.starts_with('w') { name.replacen('w', "W", 1) } else { name.to_owned() };
        let method = [CompressionMethod::Stored, CompressionMethod::Deflated][at % 2];
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
        let shape: String = shape.iter().map(|size| format!("{size},")).collect();
        archive.write_all(&npy_bytes(&values, &format!("({shape})"))).unwrap();
    }
    archive.finish().unwrap();
    dir
}

/// Compares an evaluation with the oracle's, and gives what it notes.
fn agrees(name: &str, write: impl Fn(&Path, &Value) -> PathBuf) -> Option<Value> {
    let model = real_model("gemma-3-270m-q4_k_m.gguf")?;
    let golden = golden("eval-sites");
    let text = std::fs::read_to_string(golden.join(format!("{name}.json"))).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let sae = write(&dir.path().join(name), &reference["sae"]);
    let mut command = assay();
    command.args(["eval", "--json", "--resamples", "100", "--fisher-samples", "0", "--batch", "1", "--model"]);
    command.arg(model).arg("--sae").arg(sae).arg("--tokens").arg(golden.join("tokens.safetensors"));
    let found: Value = serde_json::from_str(&stdout_of(&mut command)).unwrap();
    let [reads, patched] = ["reads", "patched"].map(|key| json!(hook(reference["sae"][key].as_str().unwrap())[0]));
    let out = if reads == patched { Value::Null } else { patched };
    assert_eq!((&found["hook"], &found["hook_out"]), (&reads, &out));
    assert_eq!(agree(name, &found, &reference["expected"], &tolerance), 56);
    Some(found["notes"].clone())
}

fn of_scope_2(name: &str) {
    if let Some(notes) = agrees(name, write_scope_2) {
        assert_eq!(notes, json!([]), "{name}");
    }
}

/// Gemma Scope's SAEs are of Gemma 2, which is what the only note says.
fn of_scope(name: &str) {
    let Some(notes) = agrees(name, write_scope) else { return };
    let notes = notes.as_array().unwrap();
    assert!(notes.len() == 1 && notes[0].as_str().unwrap().contains("google/gemma-2-2b"), "{name}: {notes:?}");
}

#[test]
fn the_residual_stream_agrees() {
    of_scope_2("resid_post");
}

#[test]
fn the_heads_agree() {
    of_scope_2("z");
}

#[test]
fn the_mlps_output_agrees() {
    of_scope_2("mlp_out");
}

#[test]
fn an_affine_transcoder_agrees() {
    of_scope_2("affine");
}

#[test]
fn the_residual_stream_agrees_from_npz() {
    of_scope("scope_resid_post");
}

#[test]
fn the_heads_agree_from_npz() {
    of_scope("scope_z");
}

#[test]
fn the_mlps_output_agrees_from_npz() {
    of_scope("scope_mlp_out");
}

#[test]
fn a_transcoder_agrees_from_npz() {
    of_scope("scope_transcoder");
}
