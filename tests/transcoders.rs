//! Transcoders whose metrics are known beforehand: they read what an MLP reads and are put where it writes.

use std::ops::ControlFlow::Continue;
use std::path::Path;

use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, HookKind, HookPoint, Site};
use assay_probes::evaluate::Codec;
use assay_probes::metrics::{Subset, metric};
use assay_probes::{EvalConfig, Evaluation, ProbeError, Subject, Survey, evaluate};
use assay_sae::{Activation, Code, Sae, SparseCode, Transcoding, formats};
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, ArrayView2, Axis, s};

use crate::common::{Reference, bundled, copy_dir, cpu, device, edit_tensors, golden, gpl, real_model, values};

const LAYER: usize = 1;

fn site(kind: HookKind) -> Site {
    HookPoint { layer: LAYER, kind }.into()
}

/// What is found of a codec that reads what the MLP reads and is put where it writes, and of others in its company.
fn found(model: &Decoder, tokens: &Array2<u32>, reads: Site, codecs: &[&dyn Codec]) -> Vec<Evaluation> {
    try_found(model, tokens, reads, codecs).unwrap()
}

fn try_found(
    model: &Decoder,
    tokens: &Array2<u32>,
    reads: Site,
    codecs: &[&dyn Codec],
) -> Result<Vec<Evaluation>, ProbeError> {
    let out = site(HookKind::MlpOut);
    let survey = Survey::new(model, tokens.view(), &[out], &[], 2, |_| Continue(()))?;
    let config = EvalConfig { fisher_samples: 1, fisher_seed: 0, kl_zero: false };
    let mut subjects: Vec<Subject<'_>> = codecs.iter().map(|&codec| Subject::new(out, codec).reading(reads)).collect();
    evaluate(&survey, &mut subjects, config, |_| Continue(()))
}

fn value(found: &Evaluation, name: &str) -> f64 {
    maybe(found, name).unwrap_or_else(|| panic!("{name} is undefined"))
}

/// The same of what is undefined where an ablation costs nothing, as in models that nobody trained.
fn maybe(found: &Evaluation, name: &str) -> Option<f64> {
    (metric(name).unwrap().value)(&found.total(Subset::All))
}

/// Models of several layouts, with some tokens of theirs.
fn models() -> Vec<(String, Decoder, Array2<u32>)> {
    let of = |name: &str| {
        let dir = golden(name);
        let tokens = Reference::open(dir.join("expected.safetensors")).tokens("tokens");
        (name.to_owned(), Decoder::load(&dir, &cpu()).unwrap(), tokens)
    };
    let small = Decoder::load(&bundled("small"), &cpu()).unwrap();
    let tokens = Reference::open(golden("eval-small/tokens.safetensors")).tokens("tokens");
    let mut all = vec![("small".to_owned(), small, tokens.slice(s![..3, ..24]).to_owned())];
    all.extend(["neox-sequential", "families/llama-gqa-llama3-rope", "families/gemma3", "families/olmo2"].map(of));
    all
}

/// SmolLM2 and Gemma 3 270M, where they are.
fn real_models() -> Vec<(String, Decoder, Array2<u32>)> {
    let Some(text) = gpl() else { return Vec::new() };
    let of = |file: &str| {
        let path = real_model(file)?;
        let vocabulary = Vocabulary::load(&path).unwrap();
        let ids: Vec<u32> = vocabulary.bos().into_iter().chain(vocabulary.encode(&text[..600]).unwrap()).collect();
        let tokens = Array2::from_shape_vec((2, 24), ids[..48].to_vec()).unwrap();
        Some((file.to_owned(), Decoder::load(&path, &cpu()).unwrap(), tokens))
    };
    ["SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"].into_iter().filter_map(of).collect()
}

/// Checks what it reads, and gives what the MLP gave in that place.
struct Recorded {
    reads: Tensor<2>,
    gives: Tensor<2>,
}

impl Codec for Recorded {
    fn d_in(&self) -> usize {
        self.reads.dims()[1]
    }
    fn d_out(&self) -> usize {
        self.gives.dims()[1]
    }
    fn d_sae(&self) -> usize {
        1
    }
    fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, Code) {
        let tokens = x.dims()[0];
        let reads = values(self.reads.clone());
        let rows = values(x.clone());
        let at = reads.windows(rows.len()).position(|window| window == rows).expect("it reads what the MLP reads");
        let gives = self.gives.clone().narrow(0, at / self.reads.dims()[1], tokens);
        let none = |device| Tensor::zeros([tokens, 1], device);
        let indices = Tensor::zeros([tokens, 1], &x.device());
        (gives, Code::Sparse(SparseCode::new(none(&x.device()), indices, 1).unwrap()))
    }
}

/// What the MLP reads and what it gives, `[tokens, d_model]` each.
fn recorded(model: &Decoder, tokens: ArrayView2<'_, u32>, reads: Site) -> [Tensor<2>; 2] {
    let both = model.capture(tokens, &[reads, site(HookKind::MlpOut)]).unwrap();
    let [reads, gives]: [Tensor<3>; 2] = both.try_into().unwrap();
    [reads.flatten(0, 1), gives.flatten(0, 1)]
}

/// The MLP's own output instead of the MLP's output changes no bit of what any of these models says.
#[test]
fn the_mlps_own_output_changes_nothing() {
    for (name, model, tokens) in models().into_iter().chain(real_models()) {
        for kind in [HookKind::MlpIn, HookKind::MlpNormalized, HookKind::ResidPre] {
            if site(kind).check(model.config()).is_err() {
                continue;
            }
            // As the evaluation captures them: two sequences at a time.
            let parts: Vec<[Tensor<2>; 2]> =
                tokens.axis_chunks_iter(Axis(0), 2).map(|part| recorded(&model, part, site(kind))).collect();
            let [reads, gives] = [0, 1].map(|at| Tensor::cat(parts.iter().map(|p| p[at].clone()).collect(), 0));
            let found = found(&model, &tokens, site(kind), &[&Recorded { reads, gives }]).remove(0);
            for (metric, expected) in
                [("ce_rec", 1.0), ("ce_loss_score", 1.0), ("kl", 0.0), ("r2", 1.0), ("nmse", 0.0), ("swd", 0.0)]
            {
                let found = maybe(&found, metric).or((metric == "ce_loss_score").then_some(1.0));
                assert_eq!(found, Some(expected), "{name}, {kind}: {metric}");
            }
            assert!(value(&found, "ce_zero") != value(&found, "ce_orig"), "{name}");
        }
    }
}

/// A transcoder that always gives 0 is the zero ablation, with and without a skip connection, whatever it reads.
#[test]
fn zeros_are_the_zero_ablation() {
    for (name, model, tokens) in models().into_iter().chain(real_models()) {
        let (d_model, device) = (model.config().d_model, cpu());
        let zeros = |skip: Option<Tensor<2>>| {
            let [encoder, decoder] = [1.0, 0.0].map(|value| Tensor::full([8, d_model], value, &device));
            let biases = [Tensor::zeros([8], &device), Tensor::zeros([d_model], &device)];
            let activation = Activation::TopK { k: 3, by_decoder_norm: false };
            Sae::new([encoder, decoder], biases, activation, false).transcoding(Transcoding { skip })
        };
        let (plain, skip) = (zeros(None), zeros(Some(Tensor::zeros([d_model, d_model], &device))));
        for found in found(&model, &tokens, site(HookKind::MlpIn), &[&plain, &skip]) {
            assert_eq!(value(&found, "ce_recon"), value(&found, "ce_zero"), "{name}");
            assert_eq!((maybe(&found, "ce_loss_score").unwrap_or(0.0), value(&found, "nmse")), (0.0, 1.0), "{name}");
            assert!(value(&found, "r2") <= 0.0 && value(&found, "l0") <= 3.0, "{name}");
        }
    }
}

/// A transcoder with a latent for each token, which reads it and writes what the MLP makes of it: true to any MLP on those tokens. With a
/// skip connection latents write what that leaves.
#[test]
fn a_latent_a_token_writes_what_the_mlp_does() {
    for (name, model, tokens) in models().into_iter().chain(real_models()) {
        let reads = site(HookKind::MlpIn);
        let [read, gives] = recorded(&model, tokens.view(), reads);
        let [n, d_model] = read.dims();
        // z = x·w − (the largest of other tokens), made 1 at its own token by its scale.
        let own = (read.clone() * read.clone()).sum_dim(1);
        let norms = own.clone().sqrt();
        let unit = read.clone() / norms.clone();
        let cosines = values(unit.clone().matmul(unit.clone().transpose()));
        let nearest = (0..n * n).filter(|at| at / n != at % n).map(|at| cosines[at]).fold(-1.0, f32::max);
        assert!(nearest < 1.0 - 1e-6, "{name}: two tokens are read alike, {nearest}");
        let wave: Vec<f32> = (0..d_model * d_model).map(|at| (at as f32 * 0.61).sin() / d_model as f32).collect();
        let wave = Tensor::from_data(TensorData::new(wave, [d_model, d_model]), &cpu());
        for skip in [None, Some(wave)] {
            let left = match &skip {
                Some(skip) => gives.clone() - assay_sae::product(read.clone(), skip.clone().transpose()),
                None => gives.clone(),
            };
            let weights = [unit.clone(), left / norms.clone()];
            let biases = [Tensor::zeros([n], &cpu()), Tensor::zeros([d_model], &cpu())];
            // By the largest cosine: rows of the encoder have norm 1, and a token's own is the largest.
            let activation = Activation::TopK { k: 1, by_decoder_norm: false };
            let sae = Sae::new(weights, biases, activation, false).transcoding(Transcoding { skip });
            let found = found(&model, &tokens, reads, &[&sae]).remove(0);
            assert_eq!((value(&found, "l0"), found.firing.alive_frac()), (1.0, Some(1.0)), "{name}");
            for (metric, expected, tolerance) in [("ce_rec", 1.0, 1e-5), ("kl", 0.0, 1e-6), ("r2", 1.0, 1e-8)] {
                let value = value(&found, metric);
                assert!((value - expected).abs() <= tolerance, "{name}: {metric} is {value}");
            }
        }
    }
}

/// A copy of a random model whose MLP at the layer is relu(x·W + b)·V + c, with b so large that it is linear if `linear` says so.
fn with_relu(dir: &Path, linear: bool) -> Decoder {
    copy_dir(&golden("neox-parallel"), dir);
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["hidden_act"] = "relu".into();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    edit_tensors(&dir.join("model.safetensors"), |tensors| {
        let name = format!("gpt_neox.layers.{LAYER}.mlp.dense_h_to_4h.bias");
        let (dtype, _, bytes) = tensors.get_mut(&name).unwrap();
        assert_eq!(*dtype, safetensors::Dtype::F32);
        for bytes in bytes.chunks_exact_mut(4).filter(|_| linear) {
            let bias = f32::from_le_bytes(bytes.try_into().unwrap()) + 30.0;
            bytes.copy_from_slice(&bias.to_le_bytes());
        }
    });
    Decoder::load(dir, &device()).unwrap()
}

/// An MLP with a ReLU is a transcoder of the class `standard`, and one that is linear is a skip connection.
#[test]
fn an_mlp_that_a_transcoder_can_be_is_replaced_without_loss() {
    let tokens = Reference::open(golden("neox-parallel/expected.safetensors")).tokens("tokens");
    for linear in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let model = with_relu(&dir.path().join("model"), linear);
        let file = Reference::open(dir.path().join("model/model.safetensors"));
        let tensor = |part: &str| format!("gpt_neox.layers.{LAYER}.mlp.{part}");
        let up: Tensor<2> = file.tensor(&tensor("dense_h_to_4h.weight"));
        let b_enc: Tensor<1> = file.tensor(&tensor("dense_h_to_4h.bias"));
        let down: Tensor<2> = file.tensor(&tensor("dense_4h_to_h.weight"));
        let b_dec: Tensor<1> = file.tensor(&tensor("dense_4h_to_h.bias"));
        let d_sae = b_enc.dims()[0];
        let relu =
            Sae::new([up.clone(), down.clone().transpose()], [b_enc.clone(), b_dec.clone()], Activation::Relu, false)
                .transcoding(Transcoding { skip: None });
        let found_relu = found(&model, &tokens, site(HookKind::MlpIn), &[&relu]).remove(0);
        let mut all = vec![("relu", found_relu)];
        if linear {
            assert_eq!(value(&all[0].1, "l0"), d_sae as f64, "every unit is in its linear part");
            // On the CPU: a GPU's own product may round its factors.
            let [up_there, down_there] = [&up, &down].map(|matrix| matrix.clone().to_device(&cpu()));
            let bias = down_there.clone().matmul(b_enc.clone().to_device(&cpu()).unsqueeze_dim(1)).squeeze_dim::<1>(1);
            let skip = down_there.matmul(up_there).to_device(&device());
            let constant = b_dec.clone() + bias.to_device(&device());
            let nothing = [Tensor::zeros_like(&up), Tensor::zeros_like(&up)];
            let biases = [b_enc.zeros_like(), constant];
            let skip = Sae::new(nothing, biases, Activation::Relu, false).transcoding(Transcoding { skip: Some(skip) });
            let found = found(&model, &tokens, site(HookKind::MlpIn), &[&skip]).remove(0);
            assert_eq!(value(&found, "l0"), 0.0);
            all.push(("skip", found));
        }
        for (name, found) in all {
            for (metric, expected, tolerance) in [("ce_rec", 1.0, 1e-5), ("kl", 0.0, 1e-6), ("r2", 1.0, 1e-8)] {
                let value = value(&found, metric);
                assert!((value - expected).abs() <= tolerance, "{name}, linear: {linear}, {metric} is {value}");
            }
            assert!((value(&found, "ce_zero") - value(&found, "ce_orig")).abs() > 1e-3, "{name}: an MLP that matters");
        }
    }
}

/// SAEs beside transcoders have the numbers that they have alone, and what the activations define is that of where they are put.
#[test]
fn a_transcoder_changes_nothing_of_its_company() {
    let (_, model, tokens) = models().remove(0);
    let sae = formats::load(&golden("eval-small/L3_k8"), &cpu()).unwrap().sae;
    let (out, reads) = (site(HookKind::MlpOut), site(HookKind::MlpIn));
    let survey = Survey::new(&model, tokens.view(), &[out, HookPoint::resid_post(2).into()], &[], 2, |_| Continue(()));
    let survey = survey.unwrap();
    let config = EvalConfig { fisher_samples: 1, fisher_seed: 0, kl_zero: true };
    let run = |mut subjects: Vec<Subject<'_>>| evaluate(&survey, &mut subjects, config, |_| Continue(())).unwrap();
    let together = run(vec![
        Subject::new(out, &sae),
        Subject::new(out, &sae).reading(reads),
        Subject::new(HookPoint::resid_post(2), &sae),
        Subject::new(HookPoint::resid_post(2), &sae).reading(HookPoint { layer: 2, kind: HookKind::ResidPre }),
    ]);
    let alone = [Subject::new(out, &sae), Subject::new(out, &sae).reading(reads)].map(|s| run(vec![s]).remove(0));
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone.sequences, together.sequences);
        assert_eq!((&alone.firing, alone.core, &alone.by_norm), (&together.firing, together.core, &together.by_norm));
    }
    let [sae, transcoder] = [&together[0], &together[1]];
    for metric in ["sst_per_token", "ce_orig", "ce_zero", "ce_mean", "tokens"] {
        assert_eq!(value(sae, metric), value(transcoder, metric), "{metric}");
    }
    assert_eq!(sae.spectrum.values(), transcoder.spectrum.values());
    assert_eq!(
        sae.by_norm.iter().map(|bin| bin.norm).collect::<Vec<_>>(),
        transcoder.by_norm.iter().map(|bin| bin.norm).collect::<Vec<_>>()
    );
    assert!(value(sae, "r2") != value(transcoder, "r2") && together[2].sequences != together[3].sequences);
}

#[test]
fn transcoders_that_do_not_fit_are_refused_with_both_numbers() {
    let (_, model, tokens) = models().remove(0);
    let of = |d_in: usize, d_out: usize| {
        let weights = [Tensor::ones([4, d_in], &cpu()), Tensor::ones([4, d_out], &cpu())];
        let biases = [Tensor::zeros([4], &cpu()), Tensor::zeros([d_out], &cpu())];
        Sae::new(weights, biases, Activation::Relu, false).transcoding(Transcoding { skip: None })
    };
    for (sae, reads, parts) in [
        (of(96, 128), HookKind::MlpIn, ["d_in is 96", "blocks.1.mlp.hook_in of the model is 128 wide"]),
        (of(128, 64), HookKind::MlpIn, ["d_out is 64", "blocks.1.hook_mlp_out of the model is 128 wide"]),
        (of(128, 128), HookKind::ResidPost, ["reads blocks.1.hook_resid_post", "after blocks.1.hook_mlp_out"]),
    ] {
        let error = try_found(&model, &tokens, site(reads), &[&sae]).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}
