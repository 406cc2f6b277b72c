//! Codecs whose metrics are known beforehand.

use std::ops::ControlFlow::Continue;

use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, HookKind, HookPoint, Site};
use assay_probes::evaluate::{Codec, Observed, Observer};
use assay_probes::geometry::{model_geometry, residual_stream};
use assay_probes::metrics::{Subset, metric};
use assay_probes::{EvalConfig, Evaluation, ProbeError, Subject, Survey, evaluate};
use assay_sae::{Code, Sae, SparseCode, formats};
use burn::tensor::Tensor;
use ndarray::{Array2, s};
use safetensors::Dtype;

use crate::common::{Reference, bundled, copy_dir, cpu, edit_tensors, golden, values};

const HOOK: HookPoint = HookPoint { layer: 3, kind: HookKind::ResidPost };
const CONFIG: EvalConfig = EvalConfig { fisher_samples: 2, fisher_seed: 0, kl_zero: false };

/// What is found of SAEs at sites, `batch` sequences at a time.
fn found_in(
    batch: usize,
    model: &Decoder,
    tokens: &Array2<u32>,
    saes: &[(Site, &dyn Codec)],
) -> Result<Vec<Evaluation>, ProbeError> {
    let sites: Vec<Site> = saes.iter().map(|(site, _)| *site).collect();
    let survey = Survey::new(model, tokens.view(), &sites, &[], batch, |_| Continue(()))?;
    let mut subjects: Vec<Subject<'_>> = saes.iter().map(|&(site, sae)| Subject::new(site, sae)).collect();
    evaluate(&survey, &mut subjects, CONFIG, |_| Continue(()))
}

/// The same of one SAE at [`HOOK`].
fn found(model: &Decoder, tokens: &Array2<u32>, sae: &dyn Codec) -> Result<Evaluation, ProbeError> {
    Ok(found_in(3, model, tokens, &[(HOOK.into(), sae)])?.remove(0))
}

/// Gives every activation back, or one vector instead of all.
struct Fixed {
    d_model: usize,
    output: Option<Tensor<1>>,
}

impl Codec for Fixed {
    fn d_in(&self) -> usize {
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
    let found = found(&model, &tokens, &identity).unwrap();
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
    let h = values(model.capture(tokens.view(), &[HOOK.into()]).unwrap().remove(0));
    let mut mean = vec![0.0_f64; 128];
    for row in h.chunks(128) {
        for (m, &v) in mean.iter_mut().zip(row) {
            *m += f64::from(v) / (h.len() / 128) as f64;
        }
    }
    let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
    let codec = Fixed { d_model: 128, output: Some(Tensor::from_data(mean.as_slice(), &cpu())) };
    let found = found(&model, &tokens, &codec).unwrap();
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
    let together = found_in(3, &model, &tokens, &[(HOOK.into(), &other), (HOOK.into(), &sae)]).unwrap().remove(1);
    let alone = found(&model, &tokens, &sae).unwrap();
    assert_eq!(alone.sequences, together.sequences);
    assert_eq!(alone.firing, together.firing);
    let again = found_in(1, &model, &tokens, &[(HOOK.into(), &sae)]).unwrap().remove(0);
    for name in ["ce_recon", "kl", "swd", "r2"] {
        let (a, b) = (value(&alone, name), value(&again, name));
        assert!((a - b).abs() < 1e-4 * a.abs(), "{name}: {a} {b}");
    }
}

/// Sites share a pass over the tokens, a pass forward and gradients, and no number knows of it.
#[test]
fn sites_together_are_evaluated_as_each_alone() {
    let (model, tokens) = small();
    let sae = |name: &str| -> Sae { formats::load(&golden("eval-small").join(name), &cpu()).unwrap().sae };
    let (a, b) = (sae("L3_k8"), sae("L4_k32"));
    let site = |layer, kind, center| Site { center, ..HookPoint { layer, kind }.into() };
    let saes: Vec<(Site, &dyn Codec)> = vec![
        (site(4, HookKind::ResidPost, false), &b),
        (site(3, HookKind::ResidPost, false), &a),
        (site(3, HookKind::ResidPost, true), &a),
        (site(3, HookKind::MlpOut, false), &b),
        (site(3, HookKind::ResidPost, false), &b),
        (site(3, HookKind::Z, false), &a),
        (site(2, HookKind::AttnOut, false), &a),
        (site(4, HookKind::ResidPre, true), &b),
    ];
    let together = found_in(2, &model, &tokens, &saes).unwrap();
    for (sae, together) in saes.iter().zip(&together) {
        let alone = found_in(2, &model, &tokens, &[*sae]).unwrap().remove(0);
        assert_eq!(alone.sequences, together.sequences, "{}", sae.0);
        assert_eq!((&alone.firing, alone.core), (&together.firing, together.core), "{}", sae.0);
        assert_eq!(alone.spectrum.values(), together.spectrum.values(), "{}", sae.0);
        assert_eq!(alone.by_norm, together.by_norm, "{}", sae.0);
    }
    // Each is another evaluation than its neighbours.
    let losses: Vec<f64> = together.iter().map(|found| value(found, "ce_recon")).collect();
    assert!((1..losses.len()).all(|at| !losses[..at].contains(&losses[at])), "{losses:?}");
}

/// An identity at any site, centred or not, changes no bit of what the model says.
#[test]
fn a_perfect_reconstruction_changes_nothing_anywhere() {
    let (model, tokens) = small();
    let identity = Fixed { d_model: 128, output: None };
    for (kind, center) in [(HookKind::Z, false), (HookKind::MlpOut, true), (HookKind::AttnOut, false)] {
        let site = Site { center, ..HookPoint { layer: 2, kind }.into() };
        let found = found_in(3, &model, &tokens, &[(site, &identity)]).unwrap().remove(0);
        for (name, expected) in [("ce_rec", 1.0), ("kl", 0.0), ("top1_agreement", 1.0), ("r2", 1.0)] {
            assert_eq!(value(&found, name), expected, "{site}: {name}");
        }
        assert!(value(&found, "ce_zero") != value(&found, "ce_orig"), "{site}");
    }
}

/// The geometry from a survey of SAEs' sites is that which a pass of its own measures, as is the loss.
#[test]
fn one_survey_serves_evaluation_and_geometry() {
    let (model, tokens) = small();
    for center in [false, true] {
        let sites = [Site { center, ..HOOK.into() }, HookPoint { layer: 1, kind: HookKind::MlpOut }.into()];
        let layers = residual_stream(model.config(), center);
        let survey = Survey::new(&model, tokens.view(), &sites, &layers, 2, |_| Continue(())).unwrap();
        let alone = model_geometry(&model, tokens.view(), 2, center, |_| Continue(())).unwrap();
        assert_eq!(survey.geometry(), Some(&alone));
        let losses =
            token_cross_entropy(scored_log_probs(model.forward(tokens.view()).unwrap()), tokens.view(), &cpu());
        let losses = values(losses);
        let mean = losses.iter().map(|&ce| f64::from(ce)).sum::<f64>() / losses.len() as f64;
        assert!((alone.ce_orig - mean).abs() < 1e-5 * mean, "{} {mean}", alone.ce_orig);
    }
}

/// The mean without outliers needs a second look at the activations: one token is embedded a hundred times as long as it was.
#[test]
fn outliers_are_left_out_of_the_mean_of_the_rest() {
    let tokens = Reference::open(golden("neox-parallel/expected.safetensors")).tokens("tokens");
    let (dir, long) = (tempfile::tempdir().unwrap(), tokens[[0, 3]] as usize);
    let copy = dir.path().join("model");
    copy_dir(&golden("neox-parallel"), &copy);
    edit_tensors(&copy.join("model.safetensors"), |tensors| {
        let (dtype, shape, bytes) = tensors.get_mut("gpt_neox.embed_in.weight").unwrap();
        assert_eq!(*dtype, Dtype::F32);
        let row = &mut bytes[4 * shape[1] * long..4 * shape[1] * (long + 1)];
        for bytes in row.chunks_exact_mut(4) {
            let value = f32::from_le_bytes(bytes.try_into().unwrap());
            bytes.copy_from_slice(&(100.0 * value).to_le_bytes());
        }
    });
    let model = Decoder::load(&copy, &cpu()).unwrap();
    let d_model = model.config().d_model;
    let site: Site = HookPoint { layer: 0, kind: HookKind::ResidPre }.into();
    let h = values(model.capture(tokens.view(), &[site]).unwrap().remove(0));
    let rest: Vec<&[f32]> =
        h.chunks(d_model).zip(&tokens).filter(|(_, token)| **token as usize != long).map(|(row, _)| row).collect();
    assert!(rest.len() < tokens.len() && rest.len() > tokens.len() / 2);
    let mean: Vec<f64> =
        (0..d_model).map(|i| rest.iter().map(|row| f64::from(row[i])).sum::<f64>() / rest.len() as f64).collect();
    let sst: f64 = rest.iter().flat_map(|row| row.iter().zip(&mean)).map(|(&v, m)| (f64::from(v) - m).powi(2)).sum();
    let identity = Fixed { d_model, output: None };
    let batches = [1, 4].map(|batch| found_in(batch, &model, &tokens, &[(site, &identity)]).unwrap().remove(0));
    for found in batches {
        let [all, .., no_outlier] = Subset::ALL.map(|subset| found.total(subset));
        assert_eq!((all.tokens, no_outlier.tokens), (tokens.len() as f64, rest.len() as f64));
        assert!((no_outlier.sst / sst - 1.0).abs() < 1e-12, "{} {sst}", no_outlier.sst);
        assert!(all.sst > 10.0 * sst);
    }
}

/// Keeps what it sees.
#[derive(Default)]
struct Keeper {
    sequences: Vec<usize>,
    tokens: Vec<u32>,
    activations: Vec<f32>,
    reconstructions: Vec<f32>,
    active: usize,
}

impl Observer for Keeper {
    fn batch(&mut self, observed: &Observed<'_>) -> std::io::Result<()> {
        self.sequences.extend(observed.at.clone());
        self.tokens.extend(observed.tokens);
        self.activations.extend(observed.activations);
        self.reconstructions.extend(observed.reconstructions);
        observed.code.clone().for_each_active(|_, _, _| self.active += 1);
        if self.active == 0 { Err(std::io::Error::other("nothing fires here")) } else { Ok(()) }
    }
}

#[test]
fn observers_see_every_batch_of_their_sae() {
    let (model, tokens) = small();
    let sae: Sae = formats::load(&golden("eval-small/L3_k8"), &cpu()).unwrap().sae;
    let identity = Fixed { d_model: 128, output: None };
    let survey = Survey::new(&model, tokens.view(), &[HOOK.into()], &[], 2, |_| Continue(())).unwrap();
    let (mut keeper, mut other) = (Keeper::default(), Keeper::default());
    let mut subjects = [Subject::new(HOOK, &identity), Subject::new(HOOK, &sae)];
    subjects[1].observers.push(&mut keeper);
    let found = evaluate(&survey, &mut subjects, CONFIG, |_| Continue(())).unwrap().remove(1);
    assert_eq!(keeper.sequences, [0, 1, 2, 3, 4]);
    assert_eq!(keeper.tokens, tokens.iter().copied().collect::<Vec<_>>());
    let sse = |x: &[f32]| x.iter().zip(&keeper.reconstructions).map(|(x, r)| f64::from(r - x).powi(2)).sum::<f64>();
    let sse = sse(&keeper.activations) / tokens.len() as f64;
    assert!((sse / value(&found, "sse_per_token") - 1.0).abs() < 1e-6);
    assert_eq!(keeper.active as u64, found.firing.fires.iter().sum::<u64>());
    // One that fails ends the evaluation, and says why.
    let mut subjects = [Subject::new(HOOK, &identity)];
    subjects[0].observers.push(&mut other);
    let error = evaluate(&survey, &mut subjects, CONFIG, |_| Continue(())).unwrap_err().to_string();
    assert_eq!(error, "nothing fires here");
}

#[test]
fn a_site_that_was_not_surveyed_is_named() {
    let (model, tokens) = small();
    let identity = Fixed { d_model: 128, output: None };
    let survey = Survey::new(&model, tokens.view(), &[HOOK.into()], &[], 2, |_| Continue(())).unwrap();
    let centred = Site { center: true, ..HOOK.into() };
    let error = evaluate(&survey, &mut [Subject::new(centred, &identity)], CONFIG, |_| Continue(())).unwrap_err();
    assert!(error.to_string().contains("blocks.3.hook_resid_post, centred over d_model was not surveyed"), "{error}");
}

#[test]
fn an_sae_of_another_width_is_refused_with_both_widths() {
    let (model, tokens) = small();
    let narrow = Fixed { d_model: 96, output: None };
    let error = found(&model, &tokens, &narrow).unwrap_err().to_string();
    assert!(error.contains("96") && error.contains("128"), "{error}");
}

#[test]
fn a_reconstruction_that_is_not_finite_is_found_where_it_is() {
    let (model, tokens) = small();
    let broken = Fixed { d_model: 128, output: Some(Tensor::full([128], f32::NAN, &cpu())) };
    let error = found(&model, &tokens, &broken).unwrap_err().to_string();
    assert!(error.contains("the reconstruction is not finite at sequence 0, position 0"), "{error}");
}

/// The largest resident memory of a command, in kB, as the kernel has it just before the end.
#[cfg(target_os = "linux")]
fn peak_memory(arguments: &[&str]) -> u64 {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(["--quiet", "--device", "cpu", "--threads", "1"])
        .args(arguments)
        // glibc lets this threshold rise with what is freed, by chance of timing; then 24 MB of holes count in some runs. Fixed, large
        // allocations are given back when they are freed, and the peak is that of what is in use.
        .envs([("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_ARENA_MAX", "1")])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// Of an evaluation set only a norm per token is kept, not its activations. (The bootstrap draws a number for each sequence and replicate, so
/// that there are few of those here.)
#[cfg(target_os = "linux")]
#[test]
fn four_times_the_sequences_take_no_more_memory() {
    let (model, tokens) = (bundled("small"), bundled("train.parquet"));
    let sae = golden("eval-small/L3_k8");
    let [model, tokens, sae] = [&model, &tokens, &sae].map(|path| path.to_str().unwrap());
    let of = |sequences| {
        let arguments = ["eval", "--model", model, "--sae", sae, "--tokens", tokens, "--sequences", sequences];
        peak_memory(
            &[&arguments[..], &["--context-size", "64", "--batch", "8", "--fisher-samples", "0", "--resamples", "100"]]
                .concat(),
        )
    };
    let (few, many) = (of("192"), of("768"));
    assert!(many as f64 <= 1.05 * few as f64, "{few} kB for 192 sequences, {many} kB for 768");
}
