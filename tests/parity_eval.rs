//! A whole evaluation, the geometry and the metrics against values computed in float64 (`tests/golden/README.md`).

use assay_models::{Decoder, HookPoint, Site};
use assay_probes::geometry::Covariance;
use assay_probes::latents::latent_weights;
use assay_probes::metrics::{Directions, FirstLook, METRICS, Subset, Subsets, Sums, token_sums};
use assay_probes::rate::Firing;
use assay_probes::saebench::CoreSums;
use assay_probes::{EvalConfig, Subject, Survey, evaluate};
use assay_sae::formats;
use ndarray::{Array2, ArrayView2};
use serde_json::{Value, json};
use std::ops::ControlFlow::Continue;

use crate::common::{Reference, assay, bundled, device, golden, stdout_of};

/// The `expected.json` of a folder of reference values.
pub fn expected(folder: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(folder).join("expected.json")).unwrap()).unwrap()
}

/// Compares every number of `expected` with the one in the same place of `found`; gives how many there were.
#[track_caller]
pub fn agree(path: &str, found: &Value, expected: &Value, tolerance: &dyn Fn(&str) -> f64) -> usize {
    match expected {
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| agree(&format!("{path}.{key}"), &found[key], value, tolerance)).sum()
        }
        Value::Array(values) => {
            assert_eq!(found.as_array().map(Vec::len), Some(values.len()), "{path}");
            values
                .iter()
                .zip(found.as_array().unwrap())
                .map(|(value, found)| agree(path, found, value, tolerance))
                .sum()
        }
        value => {
            let reference = value.as_f64().unwrap();
            let ours = found.as_f64().unwrap_or_else(|| panic!("{path} is {found}"));
            let error = (ours - reference).abs() / reference.abs().max(f64::MIN_POSITIVE);
            assert!(error <= tolerance(path), "{path}: {ours} against {reference}, relative error {error:.2e}");
            1
        }
    }
}

fn eval_small(name: &str) -> Value {
    let mut command = assay();
    command.args(["eval", "--json", "--resamples", "100", "--model"]).arg(bundled("small"));
    command.arg("--sae").arg(golden("eval-small").join(name));
    command.arg("--tokens").arg(golden("eval-small/tokens.safetensors"));
    serde_json::from_str(&stdout_of(&mut command)).unwrap()
}

/// Counts and gradients depend on near ties and on differences of nearly equal numbers; all else is a plain mean.
pub fn tolerance(path: &str) -> f64 {
    let loose = ["swd", "abs_gdelta", "gdelta", "per_sequence", "top1_agreement", "alive_frac", "bits_bernoulli"];
    if path.split('.').any(|part| loose.contains(&part)) { 2e-3 } else { 1e-4 }
}

#[test]
fn a_whole_evaluation_agrees() {
    for name in ["L3_k8", "L4_k32"] {
        let mut expected = expected(&format!("eval-small/{name}"));
        // Jacobians: measured for the reference only.
        expected.as_object_mut().unwrap().retain(|key, _| !key.ends_with("_2x24"));
        let found = eval_small(name);
        assert_eq!(agree(name, &found, &expected, &tolerance), 101);
        for metric in ["ce_rec", "kl"] {
            let ends = &found["intervals_95"][metric];
            let value = found[metric].as_f64().unwrap();
            assert!(
                ends[0].as_f64().unwrap() < value && value < ends[1].as_f64().unwrap(),
                "{metric}: {value}, {ends}"
            );
        }
    }
}

#[test]
fn the_geometry_of_a_layer_is_that_of_an_evaluation_there() {
    let mut command = assay();
    command.args(["geometry", "--json", "--model"]).arg(bundled("small"));
    command.arg("--tokens").arg(golden("eval-small/tokens.safetensors"));
    let found: Value = serde_json::from_str(&stdout_of(&mut command)).unwrap();
    for name in ["L3_k8", "L4_k32"] {
        let expected = expected(&format!("eval-small/{name}"));
        let layer = &found["layers"][expected["layer"].as_u64().unwrap() as usize];
        for key in ["pr", "pr_deflated_1", "pr_deflated_4"] {
            agree(key, &layer[key], &expected[key], &|_| 1e-4);
        }
        agree("ce_orig", &found["ce_orig"], &expected["ce_orig"], &|_| 1e-4);
        agree("variance", &layer["variance"], &expected["all"]["sst_per_token"], &|_| 1e-4);
    }
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 6);
    for (index, layer) in layers.iter().enumerate() {
        assert_eq!(layer["layer"], json!(index));
        assert!(layer["mean_norm"].as_f64().unwrap() < layer["max_norm"].as_f64().unwrap());
    }
}

/// The subsets of tokens, whose activations are shown in two parts.
fn subsets(activations: &[f32], d_model: usize, context: usize) -> Subsets {
    let parts = activations.split_at(activations.len() / (context * d_model) / 2 * context * d_model);
    let mut first = FirstLook::new(d_model, context);
    first.add(parts.0);
    first.add(parts.1);
    let mut second = first.finish();
    if second.is_needed() {
        second.add(parts.0);
        second.add(parts.1);
    }
    second.finish()
}

#[test]
fn reconstruction_metrics_agree_on_every_subset() {
    let inputs = Reference::open(golden("recon-metrics/inputs.safetensors"));
    let (activations, shape) = inputs.floats("activations");
    let (reconstructions, _) = inputs.floats("reconstructions");
    let (latents, latents_shape) = inputs.floats("latents");
    let &[_, context, d_model] = &shape[..] else { panic!("{shape:?}") };
    let d_sae = latents_shape[2];

    let directions = Directions::default();
    let subsets = subsets(&activations, d_model, context);
    let mut found = json!({});
    for subset in Subset::ALL {
        let mut sums = Sums::default();
        for (token, (a, r)) in activations.chunks(d_model).zip(reconstructions.chunks(d_model)).enumerate() {
            if subsets.contains(subset, token) {
                sums += &subsets.from_mean(subset, a, &directions).complete(token_sums(a, r, &directions));
            }
        }
        found[subset.name()] = METRICS.iter().map(|m| (m.name.to_owned(), json!((m.value)(&sums)))).collect();
    }
    let mut covariance = Covariance::new(d_model);
    // In two parts: moments are taken about the first one's mean.
    let rows = ArrayView2::from_shape((activations.len() / d_model, d_model), &activations).unwrap();
    let (head, tail) = rows.split_at(ndarray::Axis(0), 100);
    covariance.add(head);
    covariance.add(tail);
    let spectrum = covariance.spectrum().unwrap();
    found["pr"] = json!(spectrum.participation_ratio(0));
    for top in [1, 2, 4] {
        found[format!("pr_deflated_{top}")] = json!(spectrum.participation_ratio(top));
    }
    let mut firing = Firing { fires: vec![0; d_sae], sequences: Vec::new(), tokens: (latents.len() / d_sae) as u64 };
    for (at, _) in latents.iter().enumerate().filter(|(_, v)| **v != 0.0) {
        firing.fires[at % d_sae] += 1;
    }
    found["l0"] = json!(firing.density().iter().sum::<f64>());
    found["alive_frac"] = json!(firing.alive_frac());
    found["bits_per_token"] = json!(firing.bits_per_token());
    found["bits_bernoulli"] = json!(firing.bits_bernoulli());

    assert_eq!(agree("", &found, &expected("recon-metrics"), &|_| 1e-6), 38);
}

/// What SAEBench reports beside that, of the same inputs, and of an SAE's weights.
#[test]
fn saebench_metrics_agree() {
    let expected = expected("saebench");
    let inputs = Reference::open(golden("recon-metrics/inputs.safetensors"));
    let (activations, shape) = inputs.floats("activations");
    let (reconstructions, _) = inputs.floats("reconstructions");
    let (latents, latents_shape) = inputs.floats("latents");
    let (&[_, context, d_model], d_sae) = (&shape[..], latents_shape[2]) else { panic!("{shape:?}") };
    let directions = Directions::default();
    let subsets = subsets(&activations, d_model, context);
    let mut core = CoreSums::default();
    let mut firing = Firing { fires: vec![0; d_sae], sequences: vec![0; d_sae], tokens: 0 };
    for (token, (a, r)) in activations.chunks(d_model).zip(reconstructions.chunks(d_model)).enumerate() {
        let sums = subsets.from_mean(Subset::All, a, &directions).complete(token_sums(a, r, &directions));
        let code = &latents[token * d_sae..(token + 1) * d_sae];
        core += &CoreSums::of_token(&sums, code.iter().map(|v| f64::from(v.abs())).sum(), None);
        firing.tokens += 1;
        code.iter().zip(&mut firing.fires).for_each(|(v, fires)| *fires += u64::from(*v != 0.0));
    }
    for of_sequence in latents.chunks(context * d_sae) {
        for (latent, sequences) in firing.sequences.iter_mut().enumerate() {
            *sequences += u64::from(of_sequence.iter().skip(latent).step_by(d_sae).any(|&v| v != 0.0));
        }
    }
    let sae = formats::load(&golden("formats/saelens-gated-layer-norm/sae"), &device()).unwrap().sae;
    let weights = latent_weights(&sae);
    let found = json!({
        "l2_norm_in": core.l2_norm_in(),
        "l2_norm_out": core.l2_norm_out(),
        "explained_variance_legacy": core.explained_variance_legacy(),
        "l1": core.l1(),
        "consistent_activation_heuristic": firing.consistent_activation(),
        "freq_over_5_percent": firing.latents_above(0.05),
        "freq_over_6_percent": firing.latents_above(0.06),
        "normalized_freq_over_5_percent": firing.firings_above(0.05),
        "normalized_freq_over_6_percent": firing.firings_above(0.06),
        "encoder_bias": weights.encoder_bias,
        "encoder_norm": weights.encoder_norm,
        "encoder_decoder_cosine_sim": weights.encoder_decoder_cosine,
        "max_encoder_cosine_sim": weights.max_encoder_cosine,
        "max_decoder_cosine_sim": weights.max_decoder_cosine,
    });
    assert_eq!(agree("", &found, &expected, &|_| 1e-5), 8 + 96 + 5 * 64);
    assert_eq!(core.kl_zero(), None);
}

/// The references sum variances over the whole vocabulary, Jacobian by Jacobian; ours are means over drawn labels.
#[test]
fn drawn_labels_estimate_the_exact_fisher_distortions() {
    const COPIES: usize = 60;
    let model = Decoder::load(&bundled("small"), &device()).unwrap();
    let tokens = Reference::open(golden("eval-small/tokens.safetensors")).tokens("tokens");
    // The same two sequences again and again: each copy draws labels of its own.
    let tokens = Array2::from_shape_fn((2 * COPIES, 24), |(row, column)| tokens[[row % 2, column]]);
    for name in ["L3_k8", "L4_k32"] {
        let formats::LoadedSae { sae, metadata, .. } =
            formats::load(&golden("eval-small").join(name), &device()).unwrap();
        let hook: HookPoint = metadata.hook_name.unwrap().parse().unwrap();
        let site: Site = hook.into();
        let config = EvalConfig { fisher_samples: 32, fisher_seed: 1, kl_zero: false };
        let survey = Survey::new(&model, tokens.view(), &[site], &[], 2 * COPIES, |_| Continue(())).unwrap();
        let found = evaluate(&survey, &mut [Subject::new(site, &sae)], config, |_| Continue(())).unwrap().remove(0);
        let expected = expected(&format!("eval-small/{name}"));
        // A copy of both sequences is one draw of an estimate; the spread of the draws says how far their mean may be off.
        let draws = |of: fn(&Sums) -> f64| -> Vec<f64> {
            let sequences: Vec<Sums> = found.sequences.iter().map(|s| s[Subset::All.index()]).collect();
            sequences.chunks(2).map(|pair| (of(&pair[0]) + of(&pair[1])) / (pair[0].scored + pair[1].scored)).collect()
        };
        for (key, draws) in [("fwd_exact_2x24", draws(|s| s.fwd)), ("kl_pred_exact_2x24", draws(|s| s.kl_pred))] {
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (draws.len() - 1) as f64;
            let error = (variance / draws.len() as f64).sqrt();
            let exact = expected[key].as_f64().unwrap();
            assert!((mean - exact).abs() < 4.0 * error, "{name} {key}: {mean} ± {error} against {exact}");
            assert!(error < 0.04 * exact, "{name} {key}: ± {error} tells little of {exact}");
        }
    }
}
