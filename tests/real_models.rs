//! Two language models that people use, from their GGUF files, against an independent forward pass in numpy over the weights as the
//! Python package `gguf` gives them. Skipped with a message where `scripts/fetch-models.sh` has not been run.

use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, HookKind, HookPoint, Site};
use ndarray::Array2;

use crate::common::{device, gpl, real_model, values};

struct Expected {
    file: &'static str,
    /// Tokens of the GPL, and their mean next-token loss in nats.
    tokens: usize,
    loss: f64,
    /// ‖h‖ of the last token of "The capital of France is": in the embedding, and after some layers.
    embedding: f64,
    norms: &'static [(usize, f64)],
    /// The logits of what may come next, and how near they are to be.
    logits: &'static [(usize, f64)],
    tolerance: f64,
}

fn agrees(expected: &Expected) {
    let Some(path) = real_model(expected.file) else { return };
    let model = Decoder::load(&path, &device()).unwrap();
    let vocabulary = Vocabulary::load(&path).unwrap();
    let ids = |text: &str| vocabulary.bos().into_iter().chain(vocabulary.encode(text).unwrap()).collect::<Vec<u32>>();
    let batch = |ids: &[u32]| Array2::from_shape_vec((1, ids.len()), ids.to_vec()).unwrap();

    let prompt = batch(&ids("The capital of France is"));
    let near = |what: &str, found: f64, reference: f64, tolerance: f64| {
        assert!((found - reference).abs() <= tolerance, "{}: {what} is {found}, not {reference}", expected.file);
    };
    let norm = |hook: HookPoint| {
        let h = values(model.capture(prompt.view(), &[Site::from(hook)]).unwrap().remove(0));
        let last = &h[h.len() - model.config().d_model..];
        last.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
    };
    let embedding = HookPoint { layer: 0, kind: HookKind::ResidPre };
    near("the embedding", norm(embedding), expected.embedding, 1e-3 * expected.embedding);
    for &(layer, reference) in expected.norms {
        near(&format!("layer {layer}"), norm(HookPoint::resid_post(layer)), reference, 1e-3 * reference);
    }
    let logits = values(model.forward(prompt.view()).unwrap());
    let last = &logits[logits.len() - model.config().vocab_size..];
    let mut order: Vec<usize> = (0..last.len()).collect();
    order.sort_by(|&a, &b| last[b].total_cmp(&last[a]));
    for (&(token, logit), found) in expected.logits.iter().zip(order) {
        assert_eq!(found, token, "{}", expected.file);
        near(&format!("logit of {token}"), f64::from(last[token]), logit, expected.tolerance);
    }

    let Some(text) = gpl() else { return };
    let tokens = batch(&ids(&text)[..expected.tokens]);
    let losses =
        values(token_cross_entropy(scored_log_probs(model.forward(tokens.view()).unwrap()), tokens.view(), &device()));
    let mean = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
    near("mean loss", mean, expected.loss, 1e-3);
}

#[test]
fn smollm2_computes_what_it_should() {
    agrees(&Expected {
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        tokens: 2000,
        loss: 2.98806,
        embedding: 2.601,
        norms: &[(0, 35.194), (14, 152.108), (29, 619.245)],
        logits: &[(7042, 17.3713)],
        tolerance: 5e-3,
    });
}

/// Windows, two rotary bases, norms of queries and keys: without the windows the loss would be 4.00782.
#[test]
fn gemma_3_computes_what_it_should() {
    agrees(&Expected {
        file: "gemma-3-270m-q4_k_m.gguf",
        tokens: 1024,
        loss: 2.66806,
        embedding: 26.082,
        norms: &[(0, 125.831), (1, 908.83), (17, 35_987.8)],
        logits: &[(506, 19.0915), (496, 18.5476), (9079, 18.2686)],
        tolerance: 1e-2,
    });
}
