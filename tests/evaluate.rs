//! Codecs whose metrics are known beforehand.

use std::ops::ControlFlow::Continue;

use assay_models::{Decoder, HookPoint};
use assay_probes::evaluate::Codec;
use assay_probes::metrics::{Subset, metric};
use assay_probes::{EvalConfig, Evaluation, evaluate};
use assay_sae::{Code, Sae, SparseCode, formats};
use burn::tensor::Tensor;
use ndarray::{Array2, s};

use crate::common::{Reference, bundled, cpu, golden, values};

const HOOK: HookPoint = HookPoint { layer: 3, kind: assay_models::HookKind::ResidPost };
const CONFIG: EvalConfig =
    EvalConfig { batch: 3, center_residual: false, fisher_samples: 2, fisher_seed: 0, kl_zero: false };

/// Gives every activation back, or one vector instead of all.
struct Fixed {
    d_model: usize,
    output: Option<Tensor<1>>,
}

impl Codec for Fixed {
    fn d_model(&self) -> usize {
        self.d_model
    }
    fn d_sae(&self) -> usize {
        1
    }
    fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, Code) {
        let [tokens, d_model] = x.dims();
        let (values, indices) = (Tensor::zeros([tokens, 1], &x.device()), Tensor::zeros([tokens, 1], &x.device()));
        let code = Code::Sparse(SparseCode::new(values, indices, 1).unwrap());
        let output = self.output.clone();
        (output.map_or(x, |mean| mean.unsqueeze::<2>().expand([tokens, d_model])), code)
    }
}

fn small() -> (Decoder, Array2<u32>) {
    let tokens = Reference::open(golden("eval-small/tokens.safetensors")).tokens("tokens");
    (Decoder::load(&bundled("small"), &cpu()).unwrap(), tokens.slice(s![..5, ..32]).to_owned())
}

fn value(found: &Evaluation, name: &str) -> f64 {
    (metric(name).unwrap().value)(&found.total(Subset::All)).unwrap()
}

#[test]
fn a_perfect_reconstruction_changes_nothing() {
    let (model, tokens) = small();
    let identity = Fixed { d_model: 128, output: None };
    let found = evaluate(&model, HOOK, tokens.view(), &[&identity], CONFIG, |_| Continue(())).unwrap().remove(0);
    for (name, expected) in [
        ("ce_rec", 1.0),
        ("ce_rec_pooled", 1.0),
        ("ce_loss_score", 1.0),
        ("kl", 0.0),
        ("top1_agreement", 1.0),
        ("swd", 0.0),
        ("r2", 1.0),
        ("nmse", 0.0),
        ("l0", 0.0),
    ] {
        assert_eq!(value(&found, name), expected, "{name}");
    }
    assert_eq!(found.firing.tokens, 5 * 32);
    assert_eq!(found.sequences.len(), 5);
}

#[test]
fn the_mean_activation_explains_no_variance_and_costs_what_mean_ablation_costs() {
    let (model, tokens) = small();
    let h = values(model.capture(tokens.view(), &[HOOK]).unwrap().remove(0));
    let mut mean = vec![0.0_f64; 128];
    for row in h.chunks(128) {
        for (m, &v) in mean.iter_mut().zip(row) {
            *m += f64::from(v) / (h.len() / 128) as f64;
        }
    }
    let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
    let codec = Fixed { d_model: 128, output: Some(Tensor::from_data(mean.as_slice(), &cpu())) };
    let found = evaluate(&model, HOOK, tokens.view(), &[&codec], CONFIG, |_| Continue(())).unwrap().remove(0);
    assert!(value(&found, "r2").abs() < 1e-6, "{}", value(&found, "r2"));
    let (recon, ablated) = (value(&found, "ce_recon"), value(&found, "ce_mean"));
    assert!((recon - ablated).abs() < 1e-5 * ablated, "{recon} {ablated}");
    assert!(value(&found, "ce_loss_score_mean").abs() < 1e-4);
}

#[test]
fn company_and_batches_do_not_change_an_evaluation() {
    let (model, tokens) = small();
    let sae: Sae = formats::load(&golden("eval-small/L3_k8"), &cpu()).unwrap().sae;
    let other = Fixed { d_model: 128, output: None };
    let together = evaluate(&model, HOOK, tokens.view(), &[&other, &sae], CONFIG, |_| Continue(())).unwrap().remove(1);
    let alone = evaluate(&model, HOOK, tokens.view(), &[&sae], CONFIG, |_| Continue(())).unwrap().remove(0);
    assert_eq!(alone.sequences, together.sequences);
    assert_eq!(alone.firing, together.firing);
    let one_by_one = EvalConfig { batch: 1, ..CONFIG };
    let again = evaluate(&model, HOOK, tokens.view(), &[&sae], one_by_one, |_| Continue(())).unwrap().remove(0);
    for name in ["ce_recon", "kl", "swd", "r2"] {
        let (a, b) = (value(&alone, name), value(&again, name));
        assert!((a - b).abs() < 1e-4 * a.abs(), "{name}: {a} {b}");
    }
}

#[test]
fn an_sae_of_another_width_is_refused_with_both_widths() {
    let (model, tokens) = small();
    let narrow = Fixed { d_model: 96, output: None };
    let error = evaluate(&model, HOOK, tokens.view(), &[&narrow], CONFIG, |_| Continue(())).unwrap_err().to_string();
    assert!(error.contains("96") && error.contains("128"), "{error}");
}

#[test]
fn a_reconstruction_that_is_not_finite_is_found_where_it_is() {
    let (model, tokens) = small();
    let broken = Fixed { d_model: 128, output: Some(Tensor::full([128], f32::NAN, &cpu())) };
    let error = evaluate(&model, HOOK, tokens.view(), &[&broken], CONFIG, |_| Continue(())).unwrap_err().to_string();
    assert!(error.contains("the reconstruction is not finite at sequence 0, position 0"), "{error}");
}
