//! The decoder against transformers (`tests/golden/README.md` says how the values were made).

use assay_models::loss::{loss_gradient, scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, HookPoint, Precision, Site};
use burn::tensor::Tensor;
use ndarray::ArrayView2;

use crate::common::{Reference, assert_close, copy_dir, device, edit_tensors, golden, values};
use crate::families::families;

fn agrees_with_transformers(name: &str, tolerance: f64) {
    let load = || Decoder::load(&golden(name), &device()).unwrap();
    model_agrees(&load(), name, tolerance);
    // What a GPU does with products, attention and GELU, gradients included, is the same mathematics on the CPU.
    model_agrees(&load().with_pinned_products(), name, tolerance);
}

fn model_agrees(model: &Decoder, name: &str, tolerance: f64) {
    let expected = Reference::open(golden(name).join("expected.safetensors"));
    let tokens = expected.tokens("tokens");
    let sites: Vec<Site> = (0..model.config().n_layers()).map(|layer| HookPoint::resid_post(layer).into()).collect();

    let logits = model.forward(tokens.view()).unwrap();
    assert_close("logits", &values(logits.clone()), &expected.floats("logits").0, tolerance);
    let ce = token_cross_entropy(scored_log_probs(logits), tokens.view(), &device());
    assert_close("ce", &values(ce), &expected.floats("ce").0, tolerance);

    for cut in model.cut(tokens.view(), &sites).unwrap() {
        let hook = cut.site().hook;
        let layer = hook.layer;
        let reference = expected.tensor::<3>(&format!("resid_post.{layer}"));
        assert_close(&format!("{hook}"), &values(cut.value()), &values(reference), tolerance);
        let again = model.forward_from(&cut, cut.value());
        assert_close(&format!("logits from {hook}"), &values(again), &expected.floats("logits").0, tolerance);
        let gradient = loss_gradient(model, &cut, tokens.view());
        let reference = expected.floats(&format!("grad_resid_post.{layer}")).0;
        assert_close(&format!("gradient at {hook}"), &values(gradient), &reference, tolerance);
    }
}

/// Passes in bf16 give what passes in f32 give, up to the rounding of the products' factors, which grows from layer to layer to 2 % in
/// the deepest of these models with their sharp attention; where the device has no such passes they are the same.
#[test]
fn capture_in_bf16_is_near() {
    for dir in families().into_iter().chain(["neox-parallel", "neox-sequential"].map(golden)) {
        let name = dir.display();
        let model = Decoder::load(&dir, &device()).unwrap();
        let tokens = Reference::open(dir.join("expected.safetensors")).tokens("tokens");
        let sites: Vec<Site> = (0..model.config().n_layers())
            .flat_map(|layer| ["hook_resid_pre", "hook_resid_post"].map(|kind| format!("blocks.{layer}.{kind}")))
            .map(|hook| hook.parse::<HookPoint>().unwrap().into())
            .collect();
        let exact = model.capture(tokens.view(), &sites).unwrap();
        let near = model.capture_in(Precision::Bf16, tokens.view(), &sites).unwrap();
        for ((hook, e), n) in sites.iter().zip(exact).zip(near) {
            assert_close(&format!("{name}, {hook}"), &values(n), &values(e), if model.has_bf16() { 3e-2 } else { 0.0 });
        }
    }
}

#[test]
fn parallel_residual_agrees() {
    agrees_with_transformers("neox-parallel", 1e-5);
}

#[test]
fn sequential_residual_with_full_rotary_agrees() {
    agrees_with_transformers("neox-sequential", 1e-5);
}

/// Scores reach ±11,000, where a finite mask of −1e4 would let the future through; the reference is float64.
#[test]
fn extreme_attention_scores_agree() {
    agrees_with_transformers("neox-extreme-scores", 1e-3);
}

/// Checkpoints as older and newer transformers write them: the other name of the unembedding, the other spelling of the rotary
/// settings, and the masks that old files hold.
#[test]
fn other_spellings_load_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("model");
    copy_dir(&golden("neox-parallel"), &copy);
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let rope = config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
    config["rotary_pct"] = rope["partial_rotary_factor"].clone();
    config["rotary_emb_base"] = rope["rope_theta"].clone();
    std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
    edit_tensors(&copy.join("model.safetensors"), |tensors| {
        let unembed = tensors.remove("embed_out.weight").unwrap();
        let mask = tensors["gpt_neox.final_layer_norm.bias"].clone();
        tensors.insert("lm_head.weight".to_owned(), unembed);
        tensors.insert("gpt_neox.layers.0.attention.bias".to_owned(), mask.clone());
        tensors.insert("gpt_neox.layers.0.attention.rotary_emb.inv_freq".to_owned(), mask);
    });
    let tokens = Reference::open(golden("neox-parallel").join("expected.safetensors")).tokens("tokens");
    let logits = |dir: &std::path::Path| values(Decoder::load(dir, &device()).unwrap().forward(tokens.view()).unwrap());
    assert!(logits(&copy) == logits(&golden("neox-parallel")));
}

/// A standardised vector after the last layer passes the final LayerNorm as it is, but for its gain, bias and ε.
#[test]
fn the_logit_lens_is_the_end_of_the_forward_pass() {
    let model = Decoder::load(&golden("neox-parallel"), &device()).unwrap();
    let (d_model, last) = (model.config().d_model, HookPoint::resid_post(model.config().n_layers() - 1));
    let wave = |at: usize| ((at * at + 3 * at) as f32 * 0.37).sin();
    let raw: Vec<f32> = (0..d_model).map(wave).collect();
    let mean = raw.iter().sum::<f32>() / d_model as f32;
    let sd = (raw.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / d_model as f32).sqrt();
    let standard: Vec<f32> = raw.iter().map(|v| (v - mean) / sd).collect();
    let tensor = |v: &[f32]| Tensor::<1>::from_data(v, &device());
    let cut = model.cut(ArrayView2::from(&[[0]]), &[last.into()]).unwrap().remove(0);
    let logits = |h: &[f32]| values(model.forward_from(&cut, tensor(h).unsqueeze()));
    let beyond_bias: Vec<f32> =
        logits(&standard).iter().zip(&logits(&vec![0.0; d_model])).map(|(a, b)| a - b).collect();
    // A constant added to all of a direction is lost in the norm.
    let shifted: Vec<f32> = standard.iter().map(|v| v + 2.0).collect();
    let lens = values(model.logit_lens(tensor(&shifted).unsqueeze()));
    assert_close("logit lens", &lens, &beyond_bias, 1e-4);
}
