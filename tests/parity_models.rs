//! The decoder against transformers (`tests/golden/README.md` says how the values were made).

use assay_models::loss::{loss_gradient, scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, HookPoint};

use crate::common::{Reference, assert_close, cpu, golden, values};

fn agrees_with_transformers(name: &str, tolerance: f64) {
    let model = Decoder::load(&golden(name), &cpu()).unwrap();
    let expected = Reference::open(golden(name).join("expected.safetensors"));
    let tokens = expected.tokens("tokens");
    let hooks: Vec<HookPoint> = (0..model.config().n_layers).map(HookPoint::resid_post).collect();

    let logits = model.forward(tokens.view()).unwrap();
    assert_close("logits", &values(logits.clone()), &expected.floats("logits").0, tolerance);
    let ce = token_cross_entropy(scored_log_probs(logits), tokens.view(), &cpu());
    assert_close("ce", &values(ce), &expected.floats("ce").0, tolerance);

    let captured = model.capture(tokens.view(), &hooks).unwrap();
    for (hook, h) in hooks.into_iter().zip(captured) {
        let layer = hook.layer;
        let reference = expected.tensor::<3>(&format!("resid_post.{layer}"));
        assert_close(&format!("{hook}"), &values(h.clone()), &values(reference), tolerance);
        let again = model.forward_from(hook, h.clone()).unwrap();
        assert_close(&format!("logits from {hook}"), &values(again), &expected.floats("logits").0, tolerance);
        let gradient = loss_gradient(&model, hook, h, tokens.view()).unwrap();
        let reference = expected.floats(&format!("grad_resid_post.{layer}")).0;
        assert_close(&format!("gradient at {hook}"), &values(gradient), &reference, tolerance);
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
