//! Mutual information of activations and logits, on a bundled model.

use assay_models::{Decoder, HookPoint, RowUse, Site, TokenSource};
use assay_probes::information::{LogitPairs, PairsConfig, logit_pairs, model_information};
use assay_probes::{Bound, Critic, CriticConfig};
use ndarray::{Array1, Array2, Axis, s};
use std::ops::ControlFlow;

use crate::common::{assert_close, bundled, device, values};

fn tokens(context: usize, sequences: usize) -> Array2<u32> {
    let source = TokenSource::open(&bundled("eval.parquet"), context, RowUse::Split, None).unwrap();
    source.read(0, sequences).unwrap()
}

/// Scores s_k are principal components of logits Z (mean-centred, N rows) if they are orthogonal eigenvectors of Z·Zᵀ with
/// ‖s_k‖² = N·λ_k, and the first ones if no larger eigenvalue is left. That needs no eigenvectors computed here.
#[test]
fn scores_are_the_principal_components_of_the_logits() {
    let model = Decoder::load(&bundled("small"), &device()).unwrap();
    let tokens = tokens(64, 5);
    let logits = model.forward(tokens.view()).unwrap();
    let [sequences, context, vocab] = logits.dims();
    for (center_logits, first_position) in [(false, 0), (true, 1)] {
        let config = PairsConfig { batch: 2, components: 6, center_logits, first_position };
        let LogitPairs { scores, variances, variance_share, .. } =
            logit_pairs(&model, &[], tokens.view(), &config, |_| ()).unwrap();

        let scored = logits.clone().slice([0..sequences, first_position..context - 1, 0..vocab]);
        let n = sequences * (context - 1 - first_position);
        let z = Array2::from_shape_vec((n, vocab), values(scored)).unwrap().mapv(f64::from);
        let z = if center_logits { &z - &z.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1)) } else { z };
        let z = &z - &z.mean_axis(Axis(0)).unwrap();
        let gram = z.dot(&z.t());
        let trace: f64 = gram.diag().sum();

        assert_eq!(scores.dim(), (n, 6));
        let scores = scores.mapv(f64::from);
        let norm = |v: &Array1<f64>| v.dot(v).sqrt();
        let mut rest = gram.clone();
        for (k, &variance) in variances.iter().enumerate() {
            let score = scores.column(k).to_owned();
            let eigenvalue = variance * n as f64;
            assert!((score.dot(&score) / eigenvalue - 1.0).abs() < 1e-4, "component {k}");
            let residual = gram.dot(&score) - &score * eigenvalue;
            assert!(norm(&residual) < 1e-3 * eigenvalue * norm(&score), "component {k}");
            assert!(k == 0 || variance < variances[k - 1]);
            for other in 0..k {
                assert!(score.dot(&scores.column(other)).abs() < 1e-3 * eigenvalue, "components {k} and {other}");
            }
            let score = score.insert_axis(Axis(1));
            rest -= &score.dot(&score.t());
        }
        let mut vector = Array1::from_elem(n, 1.0) + Array1::linspace(0.0, 1.0, n);
        for _ in 0..300 {
            vector = rest.dot(&vector);
            vector /= norm(&vector);
        }
        let left = vector.dot(&rest.dot(&vector)) / n as f64;
        assert!(left > 0.0 && left < variances[5] * 1.001, "{left} is left after {variances:?}");

        let share = variances.iter().sum::<f64>() * n as f64 / trace;
        assert!((variance_share.unwrap() - share).abs() < 1e-5, "{variance_share:?} and {share}");
    }
}

#[test]
fn activations_are_those_of_the_scored_positions() {
    let model = Decoder::load(&bundled("small"), &device()).unwrap();
    let tokens = tokens(32, 3);
    let sites = [5, 1].map(|layer| Site { center: true, ..HookPoint::resid_post(layer).into() });
    let config = PairsConfig { batch: 2, first_position: 4, ..PairsConfig::default() };
    let found = logit_pairs(&model, &sites, tokens.view(), &config, |_| ()).unwrap();
    for (site, activations) in sites.iter().zip(&found.activations) {
        let h = model.capture(tokens.view(), &[site.hook.into()]).unwrap().remove(0);
        let h = h.clone() - h.mean_dim(2);
        assert_eq!(activations.dim(), (3 * 27, 128));
        let expected = values(h.slice([0..3, 4..31, 0..128]));
        assert_close("activations", activations.as_slice().unwrap(), &expected, 1e-5);
    }
    let short = logit_pairs(&model, &sites, tokens.slice(s![.., ..5]), &config, |_| ());
    assert!(short.unwrap_err().to_string().contains("too few"));
}

/// From tokens to estimates: later layers know more about the logits.
#[test]
fn a_later_layer_has_more_information() {
    let model = Decoder::load(&bundled("small"), &device()).unwrap();
    let sites = [0, 5].map(|layer| Site::from(HookPoint::resid_post(layer)));
    let config = CriticConfig {
        hidden: 64,
        batch: 64,
        eval_batch: 256,
        steps: 300,
        lr: 2e-3,
        ..CriticConfig::new(Critic::Separable, Bound::InfoNce)
    };
    let critics = [config, CriticConfig { width: Some(1), ..config }];
    let mut told = 0;
    let found = model_information(&model, &sites, tokens(64, 64).view(), &PairsConfig::default(), &critics, |n| {
        told += n;
        ControlFlow::Continue(())
    })
    .unwrap();
    let order: Vec<_> = found.iter().map(|f| (f.site.hook.layer, f.config.width)).collect();
    assert_eq!(order, [(0, None), (0, Some(1)), (5, None), (5, Some(1))]);
    assert_eq!(told, 4);
    let nats = |at: usize| found[at].information.nats;
    println!("{found:#?}");
    assert!(nats(2) > nats(0) + 0.2, "{found:?}");
    assert!(nats(2) > nats(3) + 0.2, "one dimension is not enough: {found:?}");
    assert!(found.iter().all(|f| f.components == 16 && f.variance_share.is_some_and(|s| s > 0.1 && s < 1.0)));
    assert!(found.iter().all(|f| f.information.cap == Some(256.0_f64.ln())));
}
