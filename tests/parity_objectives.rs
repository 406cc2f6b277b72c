//! End-to-end training against torch's autograd and Adam, step by step (`tests/golden/README.md`).

use assay_models::{CleanPass, Decoder, HookPoint};
use assay_sae::{Architecture, Divergence, Objective, Recipe, TrainConfig, Trainer};
use burn::tensor::Tensor;
use ndarray::Array2;
use serde_json::Value;

use crate::common::{Reference, assert_close, device, golden, values};

const TOLERANCE: f64 = 1e-5;

/// A trainer at the trace's start.
fn start(settings: &Value, trace: &Reference) -> Trainer {
    let size = |key: &str| settings[key].as_u64().unwrap() as usize;
    let number = |key: &str| settings[key].as_f64().unwrap();
    let (d, tokens) = (size("d_in"), trace.floats("grad.0").1[0]);
    let recipe =
        TrainConfig::from_recipe(Recipe::Saelens, d, size("d_sae"), Architecture::topk(size("k")), tokens, 1_000_000);
    let objective = match settings["objective"].as_str().unwrap() {
        "kl" => Objective::Kl,
        "kl+mse" => Objective::KlMse { share: 1.0 },
        other => panic!("`objective` = {other}"),
    };
    let scale = number("scale");
    let config = TrainConfig {
        lr: number("lr"),
        clip_norm: number("clip"),
        objective,
        aux_coefficient: 0.0,
        rescale_acts_by_decoder_norm: false,
        input_scaling: if scale == 1.0 { assay_sae::InputScaling::None } else { assay_sae::InputScaling::ExpectedNorm },
        ..recipe
    };
    assert_eq!(settings["adam"], serde_json::json!([config.adam_beta1, config.adam_beta2, config.adam_eps]));
    let weights = [trace.tensor("init.W_enc"), trace.tensor("init.W_dec")];
    let mut trainer =
        Trainer::from_weights(config, weights, [trace.tensor("init.b_enc"), trace.tensor("init.b_dec")]).unwrap();
    // A row whose norm is √d over the factor.
    trainer.calibrate(&Tensor::full([1, d], 1.0 / scale, &device()));
    trainer
}

fn follow(name: &str) {
    let dir = golden("objectives").join(name);
    let settings: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let trace = Reference::open(dir.join("trace.safetensors"));
    let model = Decoder::load(&golden(settings["model"].as_str().unwrap()), &device()).unwrap();
    let site = settings["hook"].as_str().unwrap().parse::<HookPoint>().unwrap().into();
    let mut trainer = start(&settings, &trace);
    let tokens = trace.integers("tokens");
    let (kl, mse) = (trace.floats("kl").0, trace.floats("mse").0);
    let rows = tokens.len() / kl.len();
    let context = 16;
    let mut found = (Vec::new(), Vec::new());
    for step in 0..kl.len() {
        let batch: Vec<u32> = tokens[step * rows..(step + 1) * rows].iter().map(|&t| t as u32).collect();
        let batch = Array2::from_shape_vec((rows / context, context), batch).unwrap();
        assert!(trainer.config().asks_model(trainer.steps_done()));
        let pass = CleanPass::new(&model, batch.view(), &[site]).unwrap();
        let forward = trainer.forward(pass.activations(site));
        let (of_tokens, output_grad) = pass.divergence(site, forward.reconstruction());
        assert_eq!(of_tokens.dims(), [rows]);
        if step == 0 {
            assert_close(&format!("{name} ∂x̂"), &values(output_grad.clone()), &trace.floats("grad.0").0, TOLERANCE);
        }
        let loss = trainer.step_patched(forward, Divergence { kl: of_tokens, output_grad }, false);
        found.0.push(loss.kl().unwrap() as f32);
        found.1.push(loss.reconstruction() as f32);
    }
    assert_close(&format!("{name} KL"), &found.0, &kl, TOLERANCE);
    assert_close(&format!("{name} MSE"), &found.1, &mse, TOLERANCE);
    let ([w_enc, w_dec], [b_enc, b_dec]) = (trainer.weights(), trainer.biases());
    for (what, ours) in
        [("W_enc", values(w_enc)), ("W_dec", values(w_dec)), ("b_enc", values(b_enc)), ("b_dec", values(b_dec))]
    {
        let (before, after) = (trace.floats(&format!("init.{what}")).0, trace.floats(&format!("final.{what}")).0);
        assert_close(&format!("{name} {what}"), &ours, &after, TOLERANCE);
        // What training changed is no rounding.
        let moved: f64 = before.iter().zip(&after).map(|(a, b)| f64::from((a - b).abs())).sum();
        assert!(moved > 1e-3 * before.len() as f64, "{name} {what}: {moved}");
    }
}

#[test]
fn the_kl_is_trained_as_by_autograd() {
    follow("kl");
    follow("kl-mlp");
}

#[test]
fn both_losses_are_balanced_as_by_autograd() {
    follow("kl-mse");
    follow("kl-mse-scaled");
}

/// A perfect reconstruction diverges nowhere, and there nothing pulls at it.
#[test]
fn what_changes_nothing_has_no_divergence() {
    let model = Decoder::load(&golden("neox-sequential"), &device()).unwrap();
    let site = HookPoint::resid_post(1).into();
    let tokens = Reference::open(golden("neox-sequential").join("expected.safetensors")).tokens("tokens");
    let pass = CleanPass::new(&model, tokens.view(), &[site]).unwrap();
    let (kl, gradient) = pass.divergence(site, pass.activations(site));
    // But for rounding: with a graph, the model computes some functions in other steps.
    assert!(values(kl).into_iter().all(|kl| kl.abs() < 1e-5));
    assert!(values(gradient).into_iter().all(|g| g.abs() < 1e-6));
}
