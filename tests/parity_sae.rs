//! Encode, decode and the training step against SAELens (`tests/golden/README.md`).

use std::collections::BTreeSet;

use assay_sae::config::{DecoderBias, DecoderNorm};
use assay_sae::{Architecture, Code, Format, Metadata, Recipe, TrainConfig, Trainer, formats};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::common::{Reference, assert_close, dense, device, golden, values};
use crate::parity_classes::layout;

const TRACES: [&str; 5] =
    ["saelens-topk", "saelens-topk-aux", "saelens-topk-few-dead", "saelens-topk-no-bdec", "saelens-topk-rescaled"];

#[test]
fn encode_and_decode_agree() {
    for name in TRACES {
        let formats::LoadedSae { sae, metadata, .. } = formats::load(&golden(name).join("sae"), &device()).unwrap();
        assert_eq!(metadata.hook_name.as_deref(), Some("blocks.2.hook_resid_post"));
        let expected = Reference::open(golden(name).join("encode.safetensors"));
        let x: Tensor<2> = expected.tensor("x");
        let latents = expected.floats("latents").0;
        assert_close(&format!("{name} latents"), &dense(&sae, x.clone())[..latents.len()], &latents, 1e-5);
        let decoded = sae.decode(sae.encode(x.clone()));
        assert_close(&format!("{name} decode"), &values(decoded), &expected.floats("recon").0, 1e-5);
        let recon = sae.reconstruct(x).0;
        assert_close(&format!("{name} recon"), &values(recon), &expected.floats("recon").0, 1e-5);
    }
}

#[test]
fn training_reproduces_the_traces() {
    for name in TRACES {
        let settings: Value =
            serde_json::from_str(&std::fs::read_to_string(golden(name).join("config.json")).unwrap()).unwrap();
        let number = |key: &str| settings[key].as_u64().unwrap() as usize;
        let trace = Reference::open(golden(name).join("trace.safetensors"));
        let batch = number("batch");
        let architecture = Architecture::topk(number("k"));
        let recipe =
            TrainConfig::from_recipe(Recipe::Saelens, number("d_in"), number("d_sae"), architecture, batch, 1_000_000);
        assert_eq!((recipe.lr, recipe.decoder_norm, recipe.decoder_bias), (3e-4, DecoderNorm::Free, DecoderBias::Zero),);
        let config = TrainConfig {
            lr: settings["lr"].as_f64().unwrap(),
            rescale_acts_by_decoder_norm: settings["rescale_acts_by_decoder_norm"].as_bool().unwrap(),
            apply_b_dec_to_input: settings["apply_b_dec_to_input"].as_bool().unwrap_or(true),
            dead_after: settings["dead_feature_window_steps"].as_u64().unwrap() * batch as u64,
            ..recipe
        };
        // What equals another tensor of the folder is not stored again.
        let names = trace.names();
        let saved = Reference::open(golden(name).join("sae/sae_weights.safetensors"));
        let last = |n: &str| {
            let of_trace = format!("final.{n}");
            if names.contains(&of_trace) { trace.floats(&of_trace).0 } else { saved.floats(n).0 }
        };
        let w_dec = trace.tensor::<2>("init.W_dec");
        let w_enc = if names.contains(&"init.W_enc".to_owned()) {
            trace.tensor::<2>("init.W_enc").transpose()
        } else {
            w_dec.clone()
        };
        let mut trainer =
            Trainer::from_weights(config, [w_enc, w_dec], [trace.tensor("init.b_enc"), trace.tensor("init.b_dec")])
                .unwrap();

        let batches: Tensor<3> = trace.tensor("batches");
        let [steps, batch, d] = batches.dims();
        let (mut mse, mut aux) = (Vec::new(), Vec::new());
        for step in 0..steps {
            if names.contains(&"n_dead".to_owned()) {
                let expected: Vec<i64> = trace.integers("n_dead");
                assert_eq!(trainer.n_dead() as i64, expected[step], "{name}: dead latents before step {step}");
            }
            let x = batches.clone().slice([step..step + 1, 0..batch, 0..d]).reshape([batch, d]);
            let loss = trainer.step(x);
            mse.push(loss.reconstruction() as f32);
            aux.push(loss.auxiliary() as f32);
        }
        assert_close(&format!("{name} mse_loss"), &mse, &trace.floats("mse_loss").0, 1e-5);
        let expected_aux = trace.floats("aux_loss").0;
        if expected_aux.iter().any(|&a| a != 0.0) {
            assert_close(&format!("{name} aux_loss"), &aux, &expected_aux, 1e-5);
        } else {
            assert!(aux.iter().all(|&a| a == 0.0), "{name}: {aux:?}");
        }
        let [w_enc, w_dec] = trainer.weights();
        let [b_enc, b_dec] = trainer.biases();
        for (what, ours) in [
            ("W_enc", values(w_enc.transpose())),
            ("W_dec", values(w_dec)),
            ("b_enc", values(b_enc)),
            ("b_dec", values(b_dec)),
        ] {
            assert_close(&format!("{name} {what}"), &ours, &last(what), 1e-5);
        }
        // What SAELens saves for inference is what we would save: norms folded in.
        let x = batches.slice([steps - 1..steps, 0..batch, 0..d]).reshape([batch, d]);
        let encoded = Reference::open(golden(name).join("encode.safetensors"));
        let recon = trainer.sae().reconstruct(x).0;
        assert_close(&format!("{name} folded"), &values(recon), &encoded.floats("recon").0, 1e-5);
        let out = tempfile::tempdir().unwrap();
        formats::save(out.path(), Format::SaeLens, &trainer.sae(), &Metadata::default(), None).unwrap();
        let [(ours, our_shapes), (theirs, their_shapes)] =
            [out.path().to_owned(), golden(name).join("sae")].map(layout);
        let [ours, theirs] = [&ours, &theirs].map(|cfg| cfg.keys().collect::<BTreeSet<_>>());
        assert!(our_shapes == their_shapes && ours == theirs, "{name}: {ours:?}");
    }
}

#[test]
fn a_code_has_its_latents_in_ascending_order() {
    let sae = formats::load(&golden("saelens-topk/sae"), &device()).unwrap().sae;
    let x: Tensor<2> = Reference::open(golden("saelens-topk/encode.safetensors")).tensor("x");
    let Code::Sparse(code) = sae.encode(x) else { panic!("a TopK code is sparse") };
    let k = code.k().unwrap();
    let indices = code.indices().into_data().try_into_vec::<i32>().unwrap();
    assert!(indices.chunks(k).all(<[i32]>::is_sorted));
}
