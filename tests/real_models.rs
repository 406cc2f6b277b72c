//! Two language models that people use, from their GGUF files, against an independent forward pass in numpy over the weights as the
//! Python package `gguf` gives them. Skipped with a message where `scripts/fetch-models.sh` has not been run.

use std::path::Path;

use assay::inside::ModelWithSae;
use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, HookKind, HookPoint, Site};
use ndarray::Array2;

use crate::common::{assay, cpu, device, gpl, real_model, root, stdout_of, sweep, values};

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

/// The spec of `sweeps/smollm2-small.toml` with that file, and much less of everything.
fn small_sweep(model: &Path, out: &Path) {
    let path = format!("models.SmolLM2-135M-Instruct.path={}", model.display());
    let less = [
        path.as_str(),
        "k=[8]",
        "training_tokens=[512]",
        "tokens.context_size=32",
        "train.expansion=2",
        "train.batch_size=128",
        "train.buffer_tokens=512",
        "eval.sequences=2",
        "eval.context_size=32",
        "eval.resamples=100",
    ];
    let mut command = sweep(&root().join("sweeps/smollm2-small.toml"), out);
    stdout_of(command.args(less.iter().flat_map(|set| ["--set", set])));
}

/// From its file through training, evaluation, geometry and a look inside.
#[test]
fn a_gguf_file_is_a_model_everywhere() {
    let Some(path) = real_model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let shown = stdout_of(assay().arg("inspect").arg(&path));
    for part in ["Llama, in GGUF", "Q4_1", "byte-level BPE, 49152 tokens", "gated, SiLU", "θ 100000"] {
        assert!(shown.contains(part), "`{part}` is not in: {shown}");
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    small_sweep(&path, &out);
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("SmolLM2-135M-Instruct") && report.contains("mid mlp_out"), "{report}");
    let recorded = std::fs::read_to_string(out.join("sweep.toml")).unwrap();
    assert!(recorded.contains("SmolLM2-135M-Instruct.Q4_1.gguf"), "{recorded}");

    let sae = out.join("saes/SmolLM2-135M-Instruct-L15-k8-seed0-512tokens");
    let text = root().join("models/bundled/eval-text.jsonl.zst");
    let of = |command: &str, more: &[&str]| -> serde_json::Value {
        let mut assay = assay();
        assay.arg(command).arg("--model").arg(&path).arg("--text").arg(&text).args(more);
        let found = stdout_of(assay.args(["--sequences", "2", "--context-size", "32", "--json"]));
        serde_json::from_str(&found).unwrap()
    };
    let found = of("eval", &["--sae", sae.to_str().unwrap(), "--resamples", "100", "--fisher-samples", "1"]);
    assert_eq!(found["notes"], serde_json::json!([]), "the SAE is known to be that model's");
    assert_eq!((&found["d_model"], &found["bos"]), (&576.into(), &serde_json::Value::Null));
    let loss = found["ce_orig"].as_f64().unwrap();
    assert!((1.5..6.0).contains(&loss), "{loss}");
    let geometry = of("geometry", &[]);
    assert_eq!(geometry["layers"].as_array().unwrap().len(), 30);
    assert!((geometry["ce_orig"].as_f64().unwrap() - loss).abs() < 1e-3, "{geometry}");

    let inside = ModelWithSae::open(&path, &sae, &cpu()).unwrap();
    let prompt = inside.read("The capital of France is").unwrap();
    assert_eq!(prompt.texts[1..], ["The", " capital", " of", " France", " is"]);
    assert_eq!(inside.says(&prompt, 1)[0].text, " Paris");
    assert_eq!(prompt.active[3].len(), 8);
}
