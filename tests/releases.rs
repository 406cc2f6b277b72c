//! SAEs and transcoders in the layouts of published releases: what they encode and decode, where they belong, what conversions keep, and
//! what is refused.

use std::path::{Path, PathBuf};

use assay_sae::{Format, LoadedSae, SaeError, formats};
use burn::tensor::Tensor;
use serde_json::json;

use crate::common::{
    Reference, assay, assert_close, copy_dir, cpu, dense, device, edit_tensors, golden, stdout_of, values, write_floats,
};

/// The samples: folders with `io.safetensors` and an SAE below. `ASSAY_GOLDEN_FORMATS_2` names another directory of them.
pub fn samples() -> Vec<PathBuf> {
    let dir = std::env::var_os("ASSAY_GOLDEN_FORMATS_2").map_or_else(|| golden("formats-2"), PathBuf::from);
    let mut found: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("io.safetensors").is_file())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no samples in {}", dir.display());
    found
}

/// The first directory below that is an SAE's.
pub fn sae_dir(sample: &Path) -> PathBuf {
    let mut open: Vec<PathBuf> = vec![sample.to_owned()];
    while let Some(dir) = open.pop() {
        let mut below: Vec<PathBuf> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        if dir != *sample && formats::detect(&dir).unwrap().is_some() {
            return dir;
        }
        below.sort();
        open.extend(below);
    }
    panic!("no SAE below {}", sample.display());
}

fn of_golden(name: &str) -> PathBuf {
    sae_dir(&golden("formats-2").join(name))
}

pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Checks what an SAE computes against a sample.
fn agrees(what: &str, loaded: &LoadedSae, expected: &Reference) {
    let x: Tensor<2> = expected.tensor("x");
    let (latents, recon) = (expected.floats("latents").0, expected.floats("recon").0);
    let [_, d_in] = x.dims();
    let d_out = expected.floats("recon").1[1];
    assert_eq!((loaded.sae.d_in(), loaded.sae.d_out()), (d_in, d_out), "{what}");
    let found = dense(&loaded.sae, x.clone());
    assert_close(&format!("{what} latents"), &found, &latents, 1e-5);
    let active = |values: &[f32]| values.iter().map(|&v| v != 0.0).collect::<Vec<bool>>();
    assert!(active(&found) == active(&latents), "{what}: other latents are active");
    let (reconstructed, code) = loaded.sae.reconstruct(x);
    assert_close(&format!("{what} recon"), &values(reconstructed), &recon, 1e-5);
    let mut of_code = vec![0.0; latents.len()];
    let d_sae = loaded.sae.d_sae();
    code.for_each_active(|token, latent, value| of_code[token * d_sae + latent] = value);
    assert_close(&format!("{what} code"), &of_code, &latents, 1e-5);
}

#[test]
fn every_published_layout_encodes_and_decodes_as_it_is_meant_to() {
    for sample in samples() {
        let loaded = formats::load(&sae_dir(&sample), &device()).unwrap();
        agrees(&name_of(&sample), &loaded, &Reference::open(sample.join("io.safetensors")));
    }
}

#[test]
fn every_published_layout_is_known_for_what_it_is() {
    let mlp = ["blocks.1.hook_mlp_in", "blocks.1.hook_mlp_out"];
    let post = ["blocks.1.hook_resid_post", ""];
    let gemma = ["blocks.5.mlp.hook_in", "blocks.5.hook_mlp_out"];
    let of_sparsify = ["blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out"];
    let llama = ["blocks.3.hook_mlp_out", ""];
    let tracer = ["blocks.4.mlp.hook_in", "blocks.4.hook_mlp_out"];
    // Name, architecture, whether it has a skip connection, what it reads and predicts.
    let samples = [
        ("circuit-tracer-jumprelu", Format::CircuitTracer, "jumprelu", false, tracer),
        ("circuit-tracer-skip", Format::CircuitTracer, "standard", true, tracer),
        ("gemma-scope", Format::GemmaScope, "jumprelu", false, ["", ""]),
        ("gemma-scope-2", Format::GemmaScope2, "jumprelu", false, ["blocks.5.hook_resid_post", ""]),
        ("gemma-scope-2-affine-transcoder", Format::GemmaScope2, "jumprelu", true, gemma),
        ("gemma-scope-compressed", Format::GemmaScope, "jumprelu", false, ["", ""]),
        ("llama-scope", Format::LlamaScope, "jumprelu", false, llama),
        ("llama-scope-jumprelu", Format::LlamaScope, "jumprelu", false, llama),
        ("llama-scope-r1", Format::LlamaScope, "jumprelu", false, ["blocks.3.hook_resid_post", ""]),
        ("llama-scope-topk", Format::LlamaScope, "topk", false, llama),
        ("saelens-abstopk", Format::SaeLens, "abstopk", false, post),
        ("saelens-jumprelu-skip-transcoder", Format::SaeLens, "jumprelu", true, mlp),
        ("saelens-jumprelu-transcoder", Format::SaeLens, "jumprelu", false, mlp),
        ("saelens-matching-pursuit", Format::SaeLens, "matching_pursuit", false, post),
        ("saelens-skip-transcoder", Format::SaeLens, "standard", true, mlp),
        ("saelens-transcoder", Format::SaeLens, "standard", false, mlp),
        ("sparsify-groupmax-transcoder", Format::Sparsify, "groupmax", false, of_sparsify),
        ("sparsify-skip-transcoder", Format::Sparsify, "topk", true, of_sparsify),
        ("sparsify-transcoder", Format::Sparsify, "topk", false, of_sparsify),
    ];
    let mut folders: Vec<String> =
        std::fs::read_dir(golden("formats-2")).unwrap().map(|entry| name_of(&entry.unwrap().path())).collect();
    folders.sort();
    assert_eq!(folders, samples.map(|sample| sample.0));
    for (name, format, architecture, skips, hooks) in samples {
        let LoadedSae { sae, metadata, format: found, notes, .. } = formats::load(&of_golden(name), &cpu()).unwrap();
        assert_eq!((found, sae.activation().name(), sae.skip().is_some()), (format, architecture, skips), "{name}");
        let named = [metadata.hook_name, metadata.hook_name_out].map(Option::unwrap_or_default);
        assert_eq!(named, hooks.map(str::to_owned), "{name}");
        assert_eq!(sae.is_transcoder(), !hooks[1].is_empty(), "{name}");
        // Only of Gemma Scope's SAEs, which stand in no repository here, something is not known.
        let unknown = format == Format::GemmaScope;
        let width = format == Format::GemmaScope2 && notes.iter().all(|note| note.contains("width"));
        assert!(notes.len() == usize::from(unknown) || width, "{name}: {notes:?}");
    }
}

#[test]
fn a_conversion_of_a_published_sae_computes_the_same_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for sample in samples() {
        let name = name_of(&sample);
        let loaded = formats::load(&sae_dir(&sample), &cpu()).unwrap();
        let expected = Reference::open(sample.join("io.safetensors"));
        for format in Format::ALL {
            let to = dir.path().join(format!("{name}-{format}"));
            let result = formats::save(&to, format, &loaded.sae, &loaded.metadata, None);
            if !format.can_hold(&loaded.sae) {
                let error = result.unwrap_err();
                assert!(matches!(error, SaeError::Inexpressible { .. }) && !to.exists(), "{error}");
                continue;
            }
            result.unwrap();
            let again = formats::load(&to, &device()).unwrap();
            let what = format!("{name} to {format}");
            assert_eq!(again.sae.is_transcoder(), loaded.sae.is_transcoder(), "{what}");
            assert_eq!(again.metadata.hook_name, loaded.metadata.hook_name, "{what}");
            assert_eq!(again.metadata.hook_name_out, loaded.metadata.hook_name_out, "{what}");
            let (recon, _) = again.sae.reconstruct(expected.tensor("x"));
            assert_close(&what, &values(recon), &expected.floats("recon").0, 1e-5);
        }
        // Somewhere every one of them can go but the transcoders that choose by groups or counts and are not square.
        assert!(Format::for_sae(&loaded.sae).can_hold(&loaded.sae), "{name}");
    }
}

/// A copy of a sample's SAE as it lies in the hub's cache.
fn cached(name: &str, repository: &str, path: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join(format!("models--{}/snapshots/0123abcd", repository.replace('/', "--"))).join(path);
    copy_dir(&of_golden(name), &to);
    (dir, to)
}

#[test]
fn a_repositorys_name_says_what_its_files_do_not() {
    let scope = |repository: &str, path: &str| {
        let (_dir, at) = cached("gemma-scope", &format!("google/{repository}"), path);
        let loaded = formats::load(&at, &cpu()).unwrap();
        (loaded.metadata.model_name.clone(), loaded.metadata.hook_name.clone(), loaded)
    };
    let named = |text: &str| Some(text.to_owned());
    let (model, hook, loaded) = scope("gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_82");
    assert_eq!((model, hook), (named("google/gemma-2-2b"), named("blocks.12.hook_resid_post")));
    assert!(!loaded.sae.is_transcoder() && loaded.notes.is_empty(), "{:?}", loaded.notes);
    let (model, hook, loaded) = scope("gemma-scope-2b-pt-transcoders", "layer_3/width_16k/average_l0_7");
    assert_eq!((model, hook), (named("google/gemma-2-2b"), named("blocks.3.ln2.hook_normalized")));
    assert!(loaded.sae.is_transcoder());
    assert_eq!(loaded.metadata.hook_name_out, named("blocks.3.hook_mlp_out"));

    // Rows of the embedding matrix were learned; the model multiplies them by √d.
    let (_, hook, loaded) = scope("gemma-scope-9b-pt-res", "embedding/width_4k/average_l0_6");
    assert_eq!(hook, named("hook_embed"));
    let expected = Reference::open(golden("formats-2/gemma-scope/io.safetensors"));
    let root = (loaded.sae.d_in() as f32).sqrt();
    let (recon, _) = loaded.sae.reconstruct(expected.tensor::<2>("x") * root);
    let scaled: Vec<f32> = expected.floats("recon").0.iter().map(|v| v * root).collect();
    assert_close("embedding", &values(recon), &scaled, 1e-5);

    // Without a config.json, Gemma Scope 2's directories say the same.
    for (name, path, hooks) in [
        ("gemma-scope-2", "attn_out/layer_7_width_16k_l0_small", [named("blocks.7.attn.hook_z"), None]),
        (
            "gemma-scope-2-affine-transcoder",
            "transcoder_all/layer_2_width_16k_l0_small_affine",
            [named("blocks.2.mlp.hook_in"), named("blocks.2.hook_mlp_out")],
        ),
    ] {
        let (_dir, at) = cached(name, "google/gemma-scope-2-270m-pt", path);
        std::fs::remove_file(at.join("config.json")).unwrap();
        let loaded = formats::load(&at, &cpu()).unwrap();
        assert_eq!(loaded.metadata.model_name, named("google/gemma-3-270m"));
        assert_eq!([loaded.metadata.hook_name.clone(), loaded.metadata.hook_name_out.clone()], hooks);
        assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
        agrees(name, &loaded, &Reference::open(golden("formats-2").join(name).join("io.safetensors")));
    }
}

/// SAELens calls what Gemma Scope 2's transcoders read as TransformerLens calls another place, but keeps the module's name beside it.
#[test]
fn the_input_of_a_gemma_transcoder_that_saelens_saved_is_after_the_norm() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&of_golden("saelens-transcoder"), dir.path());
    let hook = |module: Option<&str>| {
        let path = dir.path().join("cfg.json");
        let mut cfg: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        cfg["metadata"]["hf_hook_name"] = json!(module);
        std::fs::write(&path, cfg.to_string()).unwrap();
        let loaded = formats::load(dir.path(), &cpu()).unwrap();
        (loaded.metadata.hook_name.unwrap(), loaded.notes.len())
    };
    assert_eq!(hook(None), ("blocks.1.hook_mlp_in".to_owned(), 0));
    let module = Some("model.layers.1.pre_feedforward_layernorm.output");
    assert_eq!(hook(module), ("blocks.1.mlp.hook_in".to_owned(), 1));
}

/// The input is normalised, and nothing is undone in the prediction.
#[test]
fn a_transcoder_of_normalised_inputs_is_written_as_it_was() {
    let x: Tensor<2> = Reference::open(golden("formats-2/saelens-transcoder/io.safetensors")).tensor("x");
    let reconstruct = |loaded: &LoadedSae| values(loaded.sae.reconstruct(x.clone()).0);
    let plain = reconstruct(&formats::load(&of_golden("saelens-transcoder"), &device()).unwrap());
    for norm in ["layer_norm", "constant_norm_rescale"] {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(&of_golden("saelens-transcoder"), dir.path());
        let path = dir.path().join("cfg.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["normalize_activations"] = json!(norm);
        std::fs::write(&path, config.to_string()).unwrap();
        let loaded = formats::load(dir.path(), &device()).unwrap();
        let to = dir.path().join("written");
        formats::save(&to, Format::SaeLens, &loaded.sae, &loaded.metadata, None).unwrap();
        let found = reconstruct(&loaded);
        assert_ne!(found, plain, "{norm}");
        assert_eq!(reconstruct(&formats::load(&to, &device()).unwrap()), found, "{norm}");
    }
}

#[test]
fn one_of_several_transcoders_is_named_by_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let set = of_golden("circuit-tracer-skip");
    std::fs::copy(set.join("config.yaml"), dir.path().join("config.yaml")).unwrap();
    for layer in [0, 4, 11] {
        std::fs::copy(set.join("layer_4.safetensors"), dir.path().join(format!("layer_{layer}.safetensors"))).unwrap();
    }
    for several in [dir.path().to_owned(), dir.path().join("config.yaml")] {
        let error = formats::load(&several, &cpu()).unwrap_err().to_string();
        assert!(error.contains("several SAEs") && error.contains("layer_11.safetensors"), "{error}");
    }
    let loaded = formats::load(&dir.path().join("layer_11.safetensors"), &cpu()).unwrap();
    assert_eq!(loaded.metadata.hook_name.as_deref(), Some("blocks.11.mlp.hook_in"));
    agrees("layer 11", &loaded, &Reference::open(golden("formats-2/circuit-tracer-skip/io.safetensors")));
    // Llama Scope's weights lie below the directory of the SAE.
    let weights = of_golden("llama-scope").join("checkpoints/final.safetensors");
    assert_eq!(formats::load(&weights, &cpu()).unwrap().format, Format::LlamaScope);
    let report = stdout_of(assay().arg("inspect").arg(&weights));
    assert!(report.contains("jumprelu, llama-scope format") && report.contains("Llama-3.1-8B"), "{report}");
}

/// Changes a copy of a sample's SAE, and says what the refusal must contain.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

#[test]
fn what_a_published_layout_cannot_mean_is_refused() {
    let set = |file: &'static str, key: &'static str, value: serde_json::Value| {
        move |dir: &Path| {
            let path = dir.join(file);
            let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            config[key] = value.clone();
            std::fs::write(&path, config.to_string()).unwrap();
        }
    };
    let without = |file: &'static str, tensor: &'static str| {
        move |dir: &Path| edit_tensors(&dir.join(file), |t| _ = t.remove(tensor).unwrap())
    };
    let cut = |file: &'static str, keep: usize| {
        move |dir: &Path| {
            let bytes = std::fs::read(dir.join(file)).unwrap();
            std::fs::write(dir.join(file), &bytes[..keep]).unwrap();
        }
    };
    let yaml = |text: &'static str| move |dir: &Path| std::fs::write(dir.join("config.yaml"), text).unwrap();
    let hyper = |key, value| set("hyperparams.json", key, value);
    let config = |key, value| set("config.json", key, value);
    let cases: [Damage<'_>; 25] = [
        ("gemma-scope", &cut("params.npz", 9000), &["params.npz", "not a complete archive", "again"]),
        ("gemma-scope-compressed", &cut("params.npz", 0), &["params.npz", "not a complete archive"]),
        ("gemma-scope-2", &cut("params.safetensors", 900), &["params.safetensors", "not a complete"]),
        ("gemma-scope-2", &set("config.json", "architecture", json!("topk")), &["`topk`", "jump_relu"]),
        (
            "gemma-scope-2",
            &set("config.json", "affine_connection", json!(true)),
            &["affine_connection is true", "lack"],
        ),
        ("gemma-scope-2", &without("params.safetensors", "threshold"), &["`threshold` is missing"]),
        (
            "gemma-scope-2-affine-transcoder",
            &without("params.safetensors", "affine_skip_connection"),
            &["affine_connection is true"],
        ),
        ("llama-scope", &hyper("use_glu_encoder", json!(true)), &["use_glu_encoder"]),
        ("llama-scope", &hyper("act_fn", json!("gelu")), &["`gelu`"]),
        ("llama-scope", &hyper("d_sae", json!(97)), &["d_sae is 97", "96"]),
        ("llama-scope", &hyper("norm_activation", json!("token-wise")), &["token-wise", "dataset-wise"]),
        ("llama-scope", &hyper("dataset_average_activation_norm", json!({"in": 2})), &["norm.out"]),
        ("llama-scope", &hyper("jump_relu_threshold", json!(-1)), &["jump_relu_threshold is -1"]),
        ("llama-scope-r1", &config("sae_type", json!("crosscoder")), &["sae_type `crosscoder`"]),
        ("llama-scope-r1", &config("expansion_factor", json!(5)), &["expansion_factor 5", "96 latents"]),
        ("llama-scope-r1", &config("act_fn", json!("batchtopk")), &["`batchtopk`"]),
        (
            "llama-scope-r1",
            &without("sae_weights.safetensors", "log_jumprelu_threshold"),
            &["lack `log_jumprelu_threshold`"],
        ),
        (
            "llama-scope-r1",
            &|dir| {
                edit_tensors(&dir.join("sae_weights.safetensors"), |tensors| {
                    let name = "dataset_average_activation_norm.blocks.3.hook_resid_post";
                    tensors.get_mut(name).unwrap().2.fill(0);
                });
            },
            &["dataset_average_activation_norm.blocks.3.hook_resid_post", "is 0; it must be a positive number"],
        ),
        ("circuit-tracer-skip", &yaml("model_name: |\n  x\n"), &["config.yaml", "model_name"]),
        ("saelens-transcoder", &set("cfg.json", "d_out", json!(27)), &["`W_dec`", "[96, 27]"]),
        ("saelens-transcoder", &set("cfg.json", "apply_b_dec_to_input", json!(true)), &["apply_b_dec_to_input"]),
        ("saelens-abstopk", &set("cfg.json", "k", json!(97)), &["k is 97"]),
        ("saelens-matching-pursuit", &set("cfg.json", "residual_threshold", json!("small")), &["residual_threshold"]),
        (
            "saelens-matching-pursuit",
            &set("cfg.json", "max_iterations", json!("many")),
            &["max_iterations", "whole number"],
        ),
        ("sparsify-skip-transcoder", &without("sae.safetensors", "W_skip"), &["`W_skip` is missing"]),
    ];
    for (name, change, parts) in cases {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("sae");
        copy_dir(&of_golden(name), &copy);
        change(&copy);
        let error = formats::load(&copy, &cpu()).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{name}: `{part}` is not in: {error}");
        }
    }
}

#[test]
fn what_is_no_sae_of_one_activation_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for sort in ["crosscoder", "temporal"] {
        std::fs::create_dir(at(sort)).unwrap();
    }
    std::fs::write(at("crosscoder/config.json"), "{}").unwrap();
    let encoder = ("encoder.weight", vec![1.0; 12], vec![2, 2, 3]);
    write_floats(&at("crosscoder/model.safetensors"), &[encoder]);
    std::fs::write(at("temporal/conf.yaml"), "sae: temporal\n").unwrap();
    write_floats(&at("temporal/latest_ckpt.safetensors"), &[("D", vec![1.0; 6], vec![2, 3])]);
    for (sort, parts) in [
        ("crosscoder", ["crosscoder of several models", "not supported"]),
        ("temporal", ["`temporal` is not supported", "whole sequences"]),
    ] {
        let error = formats::load(&at(sort), &cpu()).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{sort}: {error}");
    }
}

#[test]
#[ignore = "writes files for tests/interop/classes.py to the directory ASSAY_INTEROP_DIR"]
fn writes_every_published_sae_for_other_tools() {
    let out = PathBuf::from(std::env::var_os("ASSAY_INTEROP_DIR").unwrap());
    for sample in samples() {
        let loaded = formats::load(&sae_dir(&sample), &cpu()).unwrap();
        let dir = out.join(name_of(&sample));
        for format in Format::ALL.into_iter().filter(|format| format.can_hold(&loaded.sae)) {
            formats::save(&dir.join(format.name()), format, &loaded.sae, &loaded.metadata, None).unwrap();
            std::fs::copy(sample.join("io.safetensors"), dir.join("encode.safetensors")).unwrap();
        }
    }
}
