//! `target_l0`: the coefficient of a sparsity penalty is steered so that the latents of a token come to the number that is asked for.

use assay_sae::{Architecture, Recipe, TrainConfig, Trainer};
use serde_json::{Value, json};

use crate::common::cpu;
use crate::common::synthetic::Synthetic;

const D: usize = 24;
const N: usize = 128;
const BATCH: usize = 128;

fn architecture(keys: &Value) -> Architecture {
    Architecture::try_from(keys.as_object().unwrap().clone()).unwrap()
}

/// Every class that has a coefficient, with a target, and coefficients to start from that are far from it on both sides.
fn each() -> Vec<(Value, [f64; 2])> {
    vec![
        (json!({"architecture": "jumprelu"}), [0.001, 0.3]),
        (json!({"architecture": "jumprelu", "sparsity": "tanh", "ste_to_input": true}), [0.001, 0.3]),
        (json!({"architecture": "gated"}), [0.03, 10.0]),
        (json!({"architecture": "standard", "l1_warmup_steps": 100}), [0.03, 10.0]),
    ]
}

#[test]
fn the_l0_of_a_batch_comes_to_its_target_and_stays() {
    const STEPS: u64 = 2000;
    for (keys, starts) in each() {
        let key = if keys["architecture"] == "jumprelu" { "l0_coefficient" } else { "l1_coefficient" };
        for (start, target) in starts.into_iter().zip([8.0, 6.0]) {
            let mut keys = keys.clone();
            (keys[key], keys["target_l0"]) = (json!(start), json!(target));
            let architecture = architecture(&keys);
            let config = TrainConfig::from_recipe(Recipe::Assay, D, N, architecture, BATCH, BATCH as u64 * STEPS);
            let mut trainer = Trainer::new(config, 1, &cpu()).unwrap();
            let mut activations = Synthetic::new(D, 64, 4, 2.0, 3);
            trainer.calibrate(&activations.batch(1024, &cpu()));
            let mut l0 = Vec::new();
            for _ in 0..STEPS {
                l0.push(trainer.step_watched(activations.batch(BATCH, &cpu())).l0().unwrap());
            }
            // Means over 100 steps of the last three tenths; in most of these the learning rate falls.
            for mean in l0[1400..].chunks(100).map(|part| part.iter().sum::<f64>() / part.len() as f64) {
                assert!((mean / target - 1.0).abs() < 0.1, "{keys}: L0 is {mean}");
            }
            let coefficient = trainer.coefficient().unwrap();
            assert!((coefficient / start - 1.0).abs() > 0.1, "{keys}: the coefficient is {coefficient}");
        }
    }
}

#[test]
fn steering_goes_on_from_a_saved_state() {
    let dir = tempfile::tempdir().unwrap();
    for (mut keys, _) in each() {
        keys["target_l0"] = json!(6);
        let config = TrainConfig::from_recipe(Recipe::Assay, D, N, architecture(&keys), 32, 32 * 200);
        let mut activations = Synthetic::new(D, 64, 4, 2.0, 3);
        let mut batches = (0..150).map(|_| activations.batch(32, &cpu())).collect::<Vec<_>>().into_iter();
        let mut whole = Trainer::new(config.clone(), 1, &cpu()).unwrap();
        // Between two looks at L0, after the warm-up.
        batches.by_ref().take(121).for_each(|batch| _ = whole.step(batch));
        whole.save_state(dir.path()).unwrap();
        let mut resumed = Trainer::load_state(dir.path(), &config, &cpu()).unwrap();
        let before = whole.coefficient();
        for batch in batches {
            whole.step(batch.clone());
            resumed.step(batch);
            assert_eq!(whole.coefficient(), resumed.coefficient(), "{keys}");
        }
        assert_ne!(before, whole.coefficient(), "{keys}");
        let state = |trainer: &Trainer| {
            trainer.save_state(dir.path()).unwrap();
            std::fs::read(dir.path().join("trainer_state.safetensors")).unwrap()
        };
        assert!(state(&whole) == state(&resumed), "{keys}");
    }
}

#[test]
fn a_target_is_a_setting_with_a_start_that_may_go_without_saying() {
    for (mut keys, _) in each() {
        let key = if keys["architecture"] == "jumprelu" { "l0_coefficient" } else { "l1_coefficient" };
        let missing = Architecture::try_from(keys.as_object().unwrap().clone()).unwrap_err().to_string();
        assert!(missing.contains(key) && missing.contains("target_l0"), "{missing}");
        keys["target_l0"] = json!(6.5);
        let class = architecture(&keys);
        assert_eq!(class.knob().to_string(), "target_l0 6.5");
        let config = |class| TrainConfig::from_recipe(Recipe::Assay, D, N, class, BATCH, 1000);
        let text = serde_json::to_string(&config(class.clone())).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config(class), "{text}");
        for (name, value, part) in [
            ("target_l0", json!(0), "target_l0 is 0; it must be above 0 and at most d_sae = 128"),
            ("target_l0", json!(129), "target_l0 is 129; it must be above 0 and at most d_sae = 128"),
            (key, json!(0), "leave"),
        ] {
            let mut keys = keys.clone();
            keys[name] = value;
            let error = config(architecture(&keys)).check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
