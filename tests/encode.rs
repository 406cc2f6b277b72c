//! `assay encode`: activations from files of every kind, through the program.

use std::path::{Path, PathBuf};

use assay::shards::{Contents, Dtype, Shards};
use assert_cmd::Command;
use polars::prelude::{Column, DataFrame, NamedFrom as _, ParquetWriter, Series};

use crate::common::{
    Reference, Tensors, assay, assert_close, bundled, golden, npy_bytes, refused, stdout_of, write_floats,
    write_tensors,
};
use crate::releases::{name_of, sae_dir, samples};

const SAMPLE: &str = "saelens-jumprelu-skip-transcoder";

fn encode(sae: &Path, activations: impl AsRef<std::ffi::OsStr>, out: &Path) -> Command {
    let mut command = assay();
    command.arg("encode").arg("--sae").arg(sae).arg("--activations").arg(activations).arg("--out").arg(out);
    command.args(["--device", "cpu", "--quiet"]);
    command
}

fn tensor_of(file: &Path, tensor: &str) -> std::ffi::OsString {
    let mut text = file.as_os_str().to_owned();
    text.push(":");
    text.push(tensor);
    text
}

/// The latents of a file, dense, and the reconstruction.
fn read(path: &Path, d_sae: usize) -> (Vec<f32>, Vec<f32>) {
    let file = Reference::open(path);
    let recon = file.floats("reconstruction").0;
    if file.names().contains(&"latents".to_owned()) {
        assert_eq!(file.names().len(), 2);
        return (file.floats("latents").0, recon);
    }
    let (offsets, indices) = (file.integers("offsets"), file.integers("indices"));
    let (values, [entries]) = (file.floats("values").0, [indices.len()]);
    assert_eq!((values.len(), offsets[0], *offsets.last().unwrap()), (entries, 0, entries as i64));
    assert!(values.iter().all(|v| *v != 0.0));
    let mut latents = vec![0.0; (offsets.len() - 1) * d_sae];
    for (row, range) in latents.chunks_mut(d_sae).zip(offsets.windows(2)) {
        let entries = range[0] as usize..range[1] as usize;
        assert!(indices[entries.clone()].is_sorted());
        for entry in entries {
            row[indices[entry] as usize] = values[entry];
        }
    }
    (latents, recon)
}

#[test]
fn every_published_layout_encodes_through_the_program() {
    let dir = tempfile::tempdir().unwrap();
    for sample in samples() {
        let (name, io) = (name_of(&sample), sample.join("io.safetensors"));
        let expected = Reference::open(&io);
        let (latents, shape) = expected.floats("latents");
        let active = |values: &[f32]| values.iter().map(|&v| v != 0.0).collect::<Vec<bool>>();
        for dense in [false, true] {
            let out = dir.path().join(format!("{name}-{dense}.safetensors"));
            let mut command = encode(&sae_dir(&sample), tensor_of(&io, "x"), &out);
            stdout_of(if dense { command.arg("--dense") } else { &mut command });
            let (found, recon) = read(&out, shape[1]);
            assert_close(&format!("{name} latents"), &found, &latents, 1e-5);
            assert!(active(&found) == active(&latents), "{name}: other latents are active");
            assert_close(&format!("{name} recon"), &recon, &expected.floats("recon").0, 1e-5);
        }
    }
}

/// An array as numpy writes it.
fn npy(path: &Path, values: &[f32], shape: &str) {
    std::fs::write(path, npy_bytes(values, shape)).unwrap();
}

fn parquet(path: &Path, name: &str, rows: &[&[f32]], group: usize) {
    let rows: Vec<Series> = rows.iter().map(|row| Series::new("".into(), *row)).collect();
    let other = Column::from(Series::new("token".into(), (0..rows.len() as i64).collect::<Vec<i64>>()));
    let mut frame = DataFrame::new_infer_height(vec![other, Column::from(Series::new(name.into(), rows))]).unwrap();
    let writer = ParquetWriter::new(std::fs::File::create(path).unwrap()).with_row_group_size(Some(group));
    writer.finish(&mut frame).unwrap();
}

#[test]
fn activations_of_every_kind_of_file_encode_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let sae = sae_dir(&golden("formats-2").join(SAMPLE));
    let expected = Reference::open(golden("formats-2").join(SAMPLE).join("io.safetensors"));
    let (x, shape) = expected.floats("x");
    let d = shape[1];
    npy(&at("x.npy"), &x, &format!("({}, {d})", shape[0]));
    npy(&at("deep.npy"), &x, &format!("(2, {}, {d})", shape[0] / 2));
    write_floats(&at("one.safetensors"), &[("whatever", x.clone(), [shape[0], d])]);
    write_floats(
        &at("several.safetensors"),
        &[("activations", x.clone(), [shape[0], d]), ("other", vec![1.0; 6], [2, 3])],
    );
    let rows: Vec<&[f32]> = x.chunks(d).collect();
    parquet(&at("x.parquet"), "resid", &rows, 5);
    let dir_of_shards = at("shards");
    let contents = Contents {
        model: "m".to_owned(),
        weights: "w".to_owned(),
        hook: "blocks.0.mlp.hook_in".to_owned(),
        tokens: "t".to_owned(),
        sequences: shape[0],
        context_size: 1,
        bos: None,
        dtype: Dtype::F32,
        shape: [shape[0], d],
        shard_sequences: 5,
    };
    let mut shards = Shards::open(&dir_of_shards, contents).unwrap();
    let missing = shards.missing();
    for (at, shard) in missing.iter().enumerate() {
        if at + 1 == missing.len() {
            // The last is not there yet.
            refused(&mut encode(&sae, &dir_of_shards, &dir.path().join("early")), &["not finished", &shard.file]);
        }
        let values = &x[shard.first * d..(shard.first + shard.rows) * d];
        shards.write(shard, |push| push(values)).unwrap();
    }
    let sources: [PathBuf; 7] = [
        at("x.npy"),
        at("deep.npy"),
        at("one.safetensors"),
        at("several.safetensors"),
        at("x.parquet"),
        tensor_of(&at("x.parquet"), "resid").into(),
        dir_of_shards.clone(),
    ];
    for (number, source) in sources.iter().enumerate() {
        let out = at(&format!("{number}.safetensors"));
        let report = stdout_of(encode(&sae, source, &out).arg("--json"));
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["tokens"], &report["d_out"]), (&shape[0].into(), &28.into()), "{report}");
        let (latents, recon) = read(&out, 96);
        assert_close(&format!("{}", source.display()), &latents, &expected.floats("latents").0, 1e-5);
        assert_close(&format!("{}", source.display()), &recon, &expected.floats("recon").0, 1e-5);
    }
    // Two shards in each other's place, and one that leads elsewhere.
    let [first, second] = [0, 1].map(|n| dir_of_shards.join(&missing[n].file));
    std::fs::rename(&first, at("kept")).unwrap();
    std::fs::rename(&second, &first).unwrap();
    std::fs::rename(at("kept"), &second).unwrap();
    refused(&mut encode(&sae, &dir_of_shards, &at("swapped")), &[&missing[0].file, "is not the shard"]);
    let index = dir_of_shards.join("index.json");
    let text = std::fs::read_to_string(&index).unwrap().replace(&missing[0].file, "../one.safetensors");
    std::fs::write(&index, text).unwrap();
    refused(&mut encode(&sae, &dir_of_shards, &at("outside")), &["not finished", &missing[0].file]);
}

#[test]
fn what_cannot_be_encoded_is_said_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let sae = sae_dir(&golden("formats-2").join(SAMPLE));
    write_floats(&at("narrow.safetensors"), &[("x", vec![0.5; 38], [2, 19])]);
    npy(&at("nan.npy"), &[[1.0; 20], [f32::NAN; 20]].concat(), "(2, 20)");
    npy(&at("short.npy"), &[1.0; 39], "(2, 20)");
    npy(&at("vector.npy"), &[1.0; 20], "(20,)");
    write_floats(&at("two.safetensors"), &[("a", vec![1.0; 20], [1, 20]), ("b", vec![1.0; 20], [1, 20])]);
    let mut integers = Tensors::new();
    integers.insert("ids".to_owned(), (safetensors::Dtype::I64, vec![1, 20], vec![0; 160]));
    write_tensors(&at("integers.safetensors"), &integers);
    std::fs::write(at("text.txt"), "words and words").unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    let even: [f32; 20] = [1.0; 20];
    parquet(&at("uneven.parquet"), "x", &[&even, &even[..19]], 1);
    parquet(&at("nan.parquet"), "x", &[&even, &[f32::INFINITY; 20]], 1);
    let out = at("out.safetensors");
    let cases: [(PathBuf, &[&str]); 11] = [
        (at("narrow.safetensors"), &["narrow.safetensors are 19 wide", "reads 20"]),
        (at("nan.npy"), &["nan.npy", "NaN in row 1, column 0"]),
        (at("short.npy"), &["short.npy", "are not the array of shape [2, 20]"]),
        (at("vector.npy"), &["shape [20]", "[tokens, width]"]),
        (at("two.safetensors"), &["after a `:`", "`a` (f32 [1, 20])", "`b`"]),
        (tensor_of(&at("two.safetensors"), "c").into(), &["`c` is no tensor of floats"]),
        (tensor_of(&at("integers.safetensors"), "ids").into(), &["`ids` is no tensor of floats", "i64"]),
        (at("text.txt"), &["text.txt", "not a complete safetensors file"]),
        (at("empty"), &["without index.json"]),
        (at("uneven.parquet"), &["row 1 of column `x` has 19 numbers", "20"]),
        (at("nan.parquet"), &["`x` holds inf in row 0 of row group 1"]),
    ];
    for (source, parts) in cases {
        refused(&mut encode(&sae, &source, &out), parts);
        assert!(!out.exists(), "{}", source.display());
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".assay")), "{left:?}");
    refused(&mut encode(&sae, at("gone.npy"), &out), &["gone.npy"]);
    std::fs::write(&out, "mine").unwrap();
    refused(&mut encode(&sae, at("narrow.safetensors"), &out), &["out.safetensors is there already"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
}

#[test]
fn a_layer_of_a_cross_layer_transcoder_has_latents_and_no_reconstruction() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let matrix = |values: Vec<f32>, shape: [usize; 2]| (safetensors::Dtype::F32, shape.to_vec(), le(&values));
    let vector = |values: Vec<f32>| (safetensors::Dtype::F32, vec![values.len()], le(&values));
    for layer in [0, 1] {
        let mut tensors = Tensors::new();
        tensors.insert(format!("W_enc_{layer}"), matrix(vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [3, 2]));
        tensors.insert(format!("b_enc_{layer}"), vector(vec![0.0, 0.5, -1.0]));
        tensors.insert(format!("b_dec_{layer}"), vector(vec![0.0, 0.0]));
        if layer == 1 {
            tensors.insert("threshold_1".to_owned(), vector(vec![2.0, 0.0, 0.0]));
        }
        write_tensors(&at(&format!("W_enc_{layer}.safetensors")), &tensors);
    }
    std::fs::write(at("config.yaml"), "model_name: org/model\nfeature_input_hook: hook_resid_mid\n").unwrap();
    npy(&at("x.npy"), &[2.0, -1.0, 1.0, 3.0], "(2, 2)");
    // x W_enc + b_enc is (2, −0.5, 0) and (1, 3.5, 3).
    for (layer, expected) in [(0, [2.0, 0.0, 0.0, 1.0, 3.5, 3.0]), (1, [0.0, 0.0, 0.0, 0.0, 3.5, 3.0])] {
        let sae = at(&format!("W_enc_{layer}.safetensors"));
        let out = at(&format!("out{layer}.safetensors"));
        stdout_of(encode(&sae, at("x.npy"), &out).arg("--dense"));
        let file = Reference::open(&out);
        assert_eq!((file.names(), file.floats("latents").0), (vec!["latents".to_owned()], expected.to_vec()));
        let report = stdout_of(assay().arg("inspect").arg(&sae));
        assert!(report.contains("layer of a cross-layer transcoder") && report.contains("hook_resid_mid"), "{report}");
    }
    refused(&mut encode(dir.path(), at("x.npy"), &at("out")), &["several SAEs", "W_enc_1.safetensors"]);
    let convert = ["convert", at("W_enc_0.safetensors").to_str().unwrap(), "--to", "saelens"].map(str::to_owned);
    refused(assay().args(convert).arg(at("converted")), &["cross-layer transcoder", "`assay encode`"]);
}

#[test]
fn a_layer_of_gemma_scope_2s_cross_layer_transcoder_has_latents() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("gemma-scope-2-270m-pt/clt/width_3_l0_small_affine");
    std::fs::create_dir_all(&set).unwrap();
    for layer in [3, 4] {
        // It writes to two layers, and has a skip connection to its own, which are left alone.
        let tensors = [
            ("w_enc", vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0], vec![2, 3]),
            ("b_enc", vec![0.0, 0.5, -1.0], vec![3]),
            ("threshold", vec![1.5, 0.0, 2.5], vec![3]),
            ("w_dec", vec![1.0; 3 * 2 * 2], vec![3, 2, 2]),
            ("b_dec", vec![0.0; 2], vec![2]),
            ("affine_skip_connection", vec![1.0; 4], vec![2, 2]),
        ];
        write_floats(&set.join(format!("params_layer_{layer}.safetensors")), &tensors);
    }
    let (x, out) = (dir.path().join("x.npy"), dir.path().join("out.safetensors"));
    npy(&x, &[2.0, -1.0, 1.0, 3.0], "(2, 2)");
    let sae = set.join("params_layer_3.safetensors");
    // x W_enc + b_enc is (2, −0.5, 0) and (1, 3.5, 3).
    stdout_of(encode(&sae, &x, &out).arg("--dense"));
    let file = Reference::open(&out);
    assert_eq!(file.names(), ["latents"]);
    assert_eq!(file.floats("latents").0, [2.0, 0.0, 0.0, 0.0, 3.5, 3.0]);
    let report = stdout_of(assay().arg("inspect").arg(&sae));
    for part in ["layer of a cross-layer transcoder", "gemma-3-270m", "blocks.3.mlp.hook_in"] {
        assert!(report.contains(part), "`{part}` is not in {report}");
    }
    refused(&mut encode(&set, &x, &dir.path().join("other")), &["several SAEs", "params_layer_4.safetensors"]);
    let eval = ["eval", "--text", "README.md", "--model", "models/bundled/small", "--sae"];
    refused(assay().args(eval).arg(&sae), &["cross-layer transcoder", "`assay encode`"]);
}

#[test]
fn tensors_may_have_colons_in_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let gemma = sae_dir(&golden("formats-2/gemma-scope"));
    let x = Reference::open(golden("formats-2/gemma-scope/io.safetensors")).floats("x");
    let file = dir.path().join("a:b.safetensors");
    write_floats(&file, &[("layer:3:x", x.0.clone(), x.1.clone()), ("other", x.0, x.1)]);
    for (name, out) in [("layer:3:x", "one"), ("other", "two")] {
        stdout_of(&mut encode(&gemma, tensor_of(&file, name), &dir.path().join(out)));
    }
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert_eq!(read("one"), read("two"));
    refused(
        &mut encode(&gemma, tensor_of(&file, "layer:3:y"), &dir.path().join("three")),
        &["`layer:3:y` is no tensor"],
    );
}

#[test]
fn a_row_of_zeros_has_no_norm_and_stays_one() {
    let dir = tempfile::tempdir().unwrap();
    let gemma = sae_dir(&golden("formats-2/gemma-scope"));
    let x = Reference::open(golden("formats-2/gemma-scope/io.safetensors")).floats("x").0;
    let width = x.len() / 16;
    let of = |values: &[f32], name: &str| {
        let (from, to) = (dir.path().join(format!("{name}.npy")), dir.path().join(name));
        npy(&from, values, &format!("({}, {width})", values.len() / width));
        stdout_of(encode(&gemma, &from, &to).args(["--dense", "--normalization", "constant_norm_rescale"]));
        Reference::open(&to).floats("reconstruction").0
    };
    let [plain, with_zeros] = [of(&x, "plain"), of(&[vec![0.0; width], x.clone()].concat(), "with")];
    assert!(with_zeros[..width].iter().all(|v| *v == 0.0) && with_zeros[width..] == plain);
}

/// A capture says where it is from; an SAE of another hook is used all the same, with a note.
#[test]
fn activations_of_another_hook_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (hook, shards, file) in [
        ("blocks.3.hook_resid_post", "own", "own.safetensors"),
        ("blocks.2.hook_resid_post", "other", "other.safetensors"),
    ] {
        for out in [shards, file] {
            let mut capture = assay();
            capture.args([
                "capture",
                "--text",
                "LICENSE-APACHE",
                "--sequences",
                "2",
                "--context-size",
                "16",
                "--hook",
                hook,
            ]);
            stdout_of(capture.arg("--model").arg(bundled("small")).arg("--out").arg(at(out)));
        }
    }
    let sae = golden("eval-small/L3_k8");
    let note = "the SAE names the hook blocks.3.hook_resid_post, and the activations were captured at blocks.2.hook_resid_post";
    for (from, noted) in [("own", false), ("own.safetensors", false), ("other", true), ("other.safetensors", true)] {
        let said = stdout_of(&mut encode(&sae, at(from), &at(&format!("latents of {from}"))));
        assert_eq!(said.contains(note), noted, "{from}: {said}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_a_full_disk_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let gemma = sae_dir(&golden("formats-2/gemma-scope"));
    for name in ["x.npy", "params.npz", "x.parquet"] {
        assert!(std::process::Command::new("mkfifo").arg(at(name)).status().unwrap().success());
    }
    let of = |sae: &Path, activations: std::ffi::OsString, parts: &[&str]| {
        let mut command = encode(sae, activations, &at("out"));
        refused(command.timeout(std::time::Duration::from_secs(60)), parts);
    };
    of(&gemma, at("x.npy").into(), &["x.npy", "no regular file"]);
    of(&gemma, at("x.parquet").into(), &["x.parquet", "no regular file"]);
    of(&gemma, tensor_of(&at("x.npy"), "x"), &["x.npy", "no regular file"]);
    let x = tensor_of(&golden("formats-2/gemma-scope/io.safetensors"), "x");
    of(&at("params.npz"), x.clone(), &["params.npz"]);

    let below = at("x.npy").join("out");
    refused(&mut encode(&gemma, &x, &below), &[&format!("cannot write {}", below.display())]);
    let full = at("full.safetensors");
    let mut command = encode(&gemma, &x, &full);
    refused(&mut crate::common::on_a_full_disk(command.arg("--dense")), &[&format!("cannot write {}", full.display())]);
    assert!(!full.exists());
}

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
