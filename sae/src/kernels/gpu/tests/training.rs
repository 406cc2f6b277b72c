//! Training on both devices.

use burn::tensor::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::{assert_close, cpu, floats, gpu, matrix, values};
use crate::{Architecture, Precision, Recipe, TrainConfig, Trainer};

/// A trainer after some steps on data with structure, so that selections are not decided by rounding.
fn trained(
    recipe: Recipe,
    architecture: Architecture,
    precision: Precision,
    device: &Device,
) -> (Vec<f64>, Vec<Vec<f32>>) {
    trained_after(recipe, architecture, precision, device, &|_| ())
}

/// The same with something done before each step.
fn trained_after(
    recipe: Recipe,
    architecture: Architecture,
    precision: Precision,
    device: &Device,
    before: &dyn Fn(&mut Trainer),
) -> (Vec<f64>, Vec<Vec<f32>>) {
    let (d, n, batch, steps) = (64, 512, 256, 40);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let directions = floats(&mut rng, 96 * d);
    let config = TrainConfig {
        precision,
        lr: 1e-3,
        dead_after: 1500,
        ..TrainConfig::from_recipe(recipe, d, n, architecture, batch, (batch * steps) as u64)
    };
    let mut trainer = Trainer::new(config, 3, device).unwrap();
    let mut losses = Vec::new();
    for step in 0..steps {
        let mut x = floats(&mut rng, batch * d);
        for row in x.chunks_mut(d) {
            for value in row.iter_mut() {
                *value *= 0.1;
            }
            for _ in 0..4 {
                let (which, size) = (rng.random_range(0..96), rng.random_range(0.5..2.0));
                for (value, &w) in row.iter_mut().zip(&directions[which * d..(which + 1) * d]) {
                    *value += size * w;
                }
            }
        }
        let x = matrix(&x, [batch, d], device);
        if step == 0 {
            trainer.calibrate(&x);
        }
        before(&mut trainer);
        let loss = trainer.step(x);
        losses.push(loss.total());
    }
    let [w_enc, w_dec] = trainer.weights();
    let [b_enc, b_dec] = trainer.biases();
    (losses, vec![values(w_enc), values(w_dec), values(b_enc), values(b_dec)])
}

/// Every class, with settings under which it does on these data what it is for.
fn classes() -> Vec<(Recipe, Architecture)> {
    let of = |settings: serde_json::Value| -> Architecture { serde_json::from_value(settings).unwrap() };
    let k = || {
        let hierarchical = json!({"architecture": "hierarchical", "ks": [2, 4, 8], "k": 8});
        [json!({"k": 8}), json!({"architecture": "groupmax", "k": 8}), hierarchical].map(of)
    };
    let nested = |by_level: bool| {
        let widths = [32, 128, 512];
        of(json!({"architecture": "matryoshka", "k": 8.0, "widths": widths, "aux_by_level": by_level}))
    };
    let batch = || [of(json!({"architecture": "batchtopk", "k": 8.5})), nested(false), nested(true)];
    let jumprelu = |more: serde_json::Value| {
        let mut settings =
            json!({"architecture": "jumprelu", "l0_coefficient": 1e-2, "bandwidth": 0.5, "init_threshold": 0.5});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(settings)
    };
    let penalised = [
        jumprelu(json!({})),
        jumprelu(json!({"sparsity": "tanh", "ste_to_input": true, "pre_act_coefficient": 1e-3})),
        jumprelu(json!({"sparsity": "quadratic", "target_l0": 12.0, "ste_to_input": true})),
        of(json!({"architecture": "gated", "l1_coefficient": 0.1})),
        of(json!({"architecture": "standard", "l1_coefficient": 0.1})),
        of(json!({"architecture": "standard", "l1_coefficient": 0.1, "lp_norm": 1.5})),
    ];
    let all = k().into_iter().chain(batch()).chain(penalised);
    all.flat_map(|class| [(Recipe::Assay, class.clone()), (Recipe::Saelens, class)]).collect()
}

#[test]
fn training_on_the_gpu_is_training_on_the_cpu() {
    for (recipe, architecture) in classes() {
        let (expected, weights) = trained(recipe, architecture.clone(), Precision::F32, &cpu());
        for (precision, loss_tolerance, weight_tolerance) in
            [(Precision::F32, 1e-4, 2e-3), (Precision::Bf16, 5e-2, 0.15)]
        {
            let (losses, found) = trained(recipe, architecture.clone(), precision, &gpu());
            let what = format!("{recipe}, {architecture} {}, {precision}", architecture.knob());
            for (step, (f, e)) in losses.iter().zip(&expected).enumerate() {
                assert!((f - e).abs() <= loss_tolerance * e, "{what}, step {step}: loss {f}, on the CPU {e}");
            }
            for (name, (f, e)) in ["w_enc", "w_dec", "b_enc", "b_dec"].iter().zip(found.iter().zip(&weights)) {
                assert_close(&format!("{what}: {name}"), f, e, weight_tolerance);
            }
        }
    }
}

#[test]
fn training_twice_on_the_gpu_gives_identical_bits() {
    for (recipe, architecture) in classes() {
        for precision in [Precision::F32, Precision::Bf16] {
            let run = || trained(recipe, architecture.clone(), precision, &gpu());
            assert_eq!(run(), run(), "{recipe}, {architecture}, {precision}");
        }
    }
}

/// Neither where it was too small nor where it was much too large, nor where its size asks for rows of another format.
#[test]
fn no_bit_depends_on_the_room_that_was_guessed() {
    for (recipe, architecture) in classes() {
        for precision in [Precision::F32, Precision::Bf16] {
            let run =
                |before: &dyn Fn(&mut Trainer)| trained_after(recipe, architecture.clone(), precision, &gpu(), before);
            let expected = run(&|_| ());
            for guess in [None, Some([0, 0]), Some([1 << 17, 1 << 17])] {
                let found = run(&|trainer| trainer.entries_before = guess);
                assert_eq!(found, expected, "{recipe}, {architecture}, {precision}, {guess:?}");
            }
        }
    }
}
