//! What is saved of a training, of every class: on raw activations it does what was trained, in every format that can hold it.

use std::path::{Path, PathBuf};

use assay_sae::config::{DecoderBias, Hierarchical, InputScaling, TopK};
use assay_sae::{Architecture, Format, Metadata, Recipe, Sae, Task, TrainConfig, Trainer, formats};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};
use serde_json::{Value, json};

use crate::common::synthetic::Synthetic;
use crate::common::{Reference, assert_close, cpu, dense, values, write_floats};
use crate::training::{group_mask, square, top_k_mask};
use crate::training_classes::{BATCH, D, N, each, matrix, transcoders};

/// Every class that is trained here.
fn all() -> Vec<Architecture> {
    [Architecture::topk(3), Architecture::groupmax(4)].into_iter().chain(each()).collect()
}

/// The factor that brings the mean norm of activations to √d.
fn scale_of(sample: &Tensor<2>) -> f64 {
    let norms = values(square(sample.clone()).sum_dim(1).sqrt());
    let mean = norms.iter().map(|&norm| f64::from(norm)).sum::<f64>() / norms.len() as f64;
    (sample.dims()[1] as f64).sqrt() / mean
}

/// Latents and reconstruction by the parameters as they are in training, in units of the activations; of classes that choose among a
/// batch, by the threshold that stands for the choice. Latents are in units of training.
fn as_trained(trainer: &Trainer, scale: f64, x: &Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let config = trainer.config();
    let ([w_enc, w_dec], [b_enc, b_dec]) = (trainer.weights(), trainer.biases());
    let x = x.clone() * scale;
    let [tokens, _] = x.dims();
    let input = if config.apply_b_dec_to_input { x - b_dec.clone().unsqueeze() } else { x };
    let product = input.matmul(w_enc.transpose());
    let pre = product.clone() + b_enc.unsqueeze();
    let norms = square(w_dec.clone()).sum_dim(1).sqrt().transpose();
    let scores = if config.rescale_acts_by_decoder_norm { pre.clone() * norms } else { pre.clone() };
    let mask = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [tokens, N]), &cpu());
    let above = |x: &Tensor<2>, threshold: Tensor<2>| x.clone().greater(threshold.expand([tokens, N])).float();
    let vector = |name: &str| trainer.vectors().into_iter().find(|(known, _)| *known == name).unwrap().1.unsqueeze();
    let z = match &config.architecture {
        Architecture::TopK(TopK { k }) | Architecture::Hierarchical(Hierarchical { k, .. }) => {
            relu(pre) * mask(top_k_mask(&values(scores), *k, &[true; N]))
        }
        Architecture::GroupMax(class) => relu(pre) * mask(group_mask(&values(scores), N / class.k)),
        Architecture::BatchTopK(_) | Architecture::Matryoshka(_) => {
            let threshold = Tensor::full([1, N], trainer.threshold().unwrap(), &cpu());
            relu(pre) * above(&scores, threshold)
        }
        Architecture::JumpRelu(_) => relu(pre.clone()) * above(&pre, vector("threshold")),
        Architecture::Gated(_) => {
            let magnitude = product * vector("r_mag").exp() + vector("b_mag");
            relu(magnitude) * above(&pre, Tensor::zeros([1, N], &cpu()))
        }
        Architecture::Standard(_) => relu(pre),
    };
    let recon = (z.clone().matmul(w_dec) + b_dec.unsqueeze()) / scale;
    (z, recon)
}

/// The same SAE, written and read.
fn through(format: Format, sae: &Sae) -> Sae {
    let dir = tempfile::tempdir().unwrap();
    formats::save(dir.path(), format, sae, &Metadata::default(), None).unwrap();
    formats::load(dir.path(), &cpu()).unwrap().sae
}

#[test]
fn what_is_saved_does_on_raw_activations_what_was_trained() {
    let batch = |seed| matrix(BATCH, D, 30.0, seed);
    let active = |latents: &[f32]| latents.iter().map(|&z| z != 0.0).collect::<Vec<_>>();
    for architecture in all() {
        for (recipe, center) in [(Recipe::Assay, true), (Recipe::Saelens, true), (Recipe::Saelens, false)] {
            let settings = TrainConfig::from_recipe(recipe, D, N, architecture.clone(), BATCH, 20 * BATCH as u64);
            let config = TrainConfig {
                lr: 0.01,
                input_scaling: InputScaling::ExpectedNorm,
                decoder_bias: DecoderBias::Mean,
                apply_b_dec_to_input: center,
                ..settings
            };
            let what = format!("{architecture:?}, {recipe}, center {center}");
            let mut trainer = Trainer::new(config, 1, &cpu()).unwrap();
            trainer.calibrate(&batch(1));
            (2..12).for_each(|seed| _ = trainer.step(batch(seed)));
            let x = batch(20);
            let scale = scale_of(&batch(1));
            assert!((scale - 1.0).abs() > 0.5, "{scale}");
            let (latents, recon) = as_trained(&trainer, scale, &x);
            let (latents, recon) = (values(latents), values(recon));
            assert!(active(&latents).contains(&true) && active(&latents).contains(&false), "{what}");
            let sae = trainer.sae();
            let saved = Format::ALL.into_iter().filter(|format| format.can_hold(&sae));
            let saved: Vec<(String, Sae)> = saved.map(|format| (format.to_string(), through(format, &sae))).collect();
            assert!(!saved.is_empty(), "{what}");
            for (place, sae) in [("memory".to_owned(), sae)].iter().chain(&saved) {
                let what = format!("{what}, {place}");
                assert!(active(&dense(sae, x.clone())) == active(&latents), "{what}: other latents are active");
                assert_close(&what, &values(sae.reconstruct(x.clone()).0), &recon, 1e-5);
            }
        }
    }
}

/// Their own tools load these in `tests/interop/classes.py`.
#[test]
fn transcoders_are_written_as_their_tools_keep_them() {
    for architecture in transcoders() {
        for task in [Task::Transcoder, Task::SkipTranscoder] {
            let (trainer, x) = transcoder(&architecture, task);
            let sae = trainer.sae();
            let (_, mut expected) = as_trained(&trainer, 1.0, &x);
            if let Some(skip) = trainer.skip() {
                expected = expected + x.clone().matmul(skip.transpose());
            }
            let expected = values(expected);
            assert_close(&format!("{architecture:?}"), &values(sae.reconstruct(x.clone()).0), &expected, 1e-5);
            let topk = matches!(architecture, Architecture::TopK(_));
            let (format, weights) =
                if topk { (Format::Sparsify, "sae.safetensors") } else { (Format::SaeLens, "sae_weights.safetensors") };
            let held: Vec<Format> = Format::ALL.into_iter().filter(|format| format.can_hold(&sae)).collect();
            assert_eq!((held, Format::for_sae(&sae)), (vec![format], format));
            let dir = tempfile::tempdir().unwrap();
            formats::save(dir.path(), format, &sae, &Metadata::default(), None).unwrap();
            let file = Reference::open(dir.path().join(weights));
            let skips = task == Task::SkipTranscoder;
            assert_eq!(file.names().contains(&"W_skip".to_owned()), skips);
            if skips {
                assert_eq!(file.floats("W_skip"), (values(trainer.skip().unwrap()), vec![D, D]));
            }
            let cfg: Value =
                serde_json::from_str(&std::fs::read_to_string(dir.path().join("cfg.json")).unwrap()).unwrap();
            if topk {
                assert_eq!([&cfg["transcode"], &cfg["skip_connection"]], [&json!(true), &json!(skips)]);
            } else {
                let name = if skips { "jumprelu_skip_transcoder" } else { "jumprelu_transcoder" };
                assert_eq!((&cfg["architecture"], &cfg["d_out"]), (&json!(name), &json!(D)));
                assert_eq!(cfg["apply_b_dec_to_input"], json!(false));
            }
            let again = formats::load(dir.path(), &cpu()).unwrap().sae;
            assert!(again.is_transcoder() && again.skip().is_some() == skips);
            assert_close(&format!("{architecture:?} read"), &values(again.reconstruct(x).0), &expected, 1e-5);
        }
    }
}

/// A transcoder, trained on activations that a map with a bend makes of others, and some of these.
fn transcoder(architecture: &Architecture, task: Task) -> (Trainer, Tensor<2>) {
    let mut activations = Synthetic::new(D, 2 * D, 3, 2.0, 7);
    let settings = TrainConfig::from_recipe(Recipe::Assay, D, N, architecture.clone(), 64, 6400);
    let config = TrainConfig { lr: 3e-3, task, apply_b_dec_to_input: false, ..settings };
    let mut trainer = Trainer::new(config, 1, &cpu()).unwrap();
    let map = matrix(D, D, 0.5, 3);
    for _ in 0..100 {
        let x = activations.batch(64, &cpu());
        trainer.step_towards(x.clone(), relu(x.matmul(map.clone())));
    }
    (trainer, activations.batch(500, &cpu()))
}

/// Where [`writes_one_sae_of_each_class`] writes.
fn out() -> PathBuf {
    std::env::var_os("ASSAY_INTEROP_DIR").map_or_else(|| PathBuf::from("interop"), PathBuf::from)
}

/// Trains an SAE of each class and recipe, and writes it in every format that can hold it, for `tests/interop/classes.py`:
/// `<class>-<recipe>/<format>/`, and beside those `encode.safetensors` with what it computes here.
#[test]
#[ignore = "writes files for tests/interop/classes.py to the directory ASSAY_INTEROP_DIR"]
fn writes_one_sae_of_each_class() {
    let names: Vec<&str> = all().iter().map(Architecture::name).collect();
    assert!(Architecture::NAMES.iter().all(|name| names.contains(name)), "{names:?} are not all");
    for (at, architecture) in all().into_iter().enumerate() {
        for recipe in [Recipe::Assay, Recipe::Saelens] {
            write_one(&out().join(format!("{at:02}-{architecture}-{recipe}")), &architecture, recipe);
        }
    }
    for architecture in transcoders() {
        for (task, name) in [(Task::Transcoder, "transcoder"), (Task::SkipTranscoder, "skip-transcoder")] {
            let (trainer, x) = transcoder(&architecture, task);
            write(&out().join(format!("{name}-{architecture}")), &trainer.sae(), x);
        }
    }
}

fn write_one(dir: &Path, architecture: &Architecture, recipe: Recipe) {
    const STEPS: u64 = 100;
    let mut activations = Synthetic::new(D, 2 * D, 3, 8.0, 7);
    let settings = TrainConfig::from_recipe(recipe, D, N, architecture.clone(), 64, 64 * STEPS);
    let config =
        TrainConfig { lr: 3e-3, input_scaling: InputScaling::ExpectedNorm, apply_b_dec_to_input: true, ..settings };
    let mut trainer = Trainer::new(config, 1, &cpu()).unwrap();
    trainer.calibrate(&activations.batch(256, &cpu()));
    (0..STEPS).for_each(|_| _ = trainer.step(activations.batch(64, &cpu())));
    write(dir, &trainer.sae(), activations.batch(500, &cpu()));
}

fn write(dir: &Path, sae: &Sae, x: Tensor<2>) {
    let recon = values(sae.reconstruct(x.clone()).0);
    let latents = dense(sae, x.clone());
    for format in Format::ALL.into_iter().filter(|format| format.can_hold(sae)) {
        formats::save(&dir.join(format.name()), format, sae, &Metadata::default(), None).unwrap();
    }
    let tensors = [("x", values(x), D), ("latents", latents, N), ("recon", recon, D)];
    write_floats(&dir.join("encode.safetensors"), &tensors.map(|(name, values, cols)| (name, values, [500, cols])));
}
