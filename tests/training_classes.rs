//! The step of every class whose codes have rows of any length against autodiff, and its state and files.

use assay_sae::config::{BatchTopK, Gated, Hierarchical, JumpRelu, Matryoshka, Sparsity, Standard};
use assay_sae::{Architecture, DecoderNorm, InputScaling, Loss, Recipe, Task, TermKind, TrainConfig, Trainer};
use burn::tensor::activation::{relu, tanh};
use burn::tensor::{Tensor, TensorData};

use crate::common::{assert_close, cpu, values};
use crate::training::{RATE, noise, square, top_k_mask};

pub const D: usize = 12;
pub const N: usize = 40;
pub const BATCH: usize = 17;
/// Tokens of a first step; latents that it does not activate are dead in the second.
const FIRST: usize = 5;

pub fn matrix(rows: usize, cols: usize, scale: f32, seed: u64) -> Tensor<2> {
    Tensor::from_data(TensorData::new(noise(rows * cols, scale, seed), [rows, cols]), &cpu())
}

fn vector(len: usize, scale: f32, seed: u64) -> Tensor<1> {
    Tensor::from_data(noise(len, scale, seed).as_slice(), &cpu())
}

fn input() -> Tensor<2> {
    matrix(BATCH, D, 1.0, 6)
}

fn jumprelu(sparsity: Sparsity, ste_to_input: bool, pre_act_coefficient: f64) -> Architecture {
    Architecture::JumpRelu(JumpRelu {
        l0_coefficient: 0.3,
        target_l0: None,
        l0_warmup_steps: 4,
        sparsity,
        bandwidth: 0.4,
        init_threshold: 0.15,
        ste_to_input,
        pre_act_coefficient,
    })
}

fn batchtopk(k: f64) -> Architecture {
    Architecture::BatchTopK(BatchTopK { k, threshold_lr: 0.1 })
}

fn matryoshka(widths: &[usize], aux_by_level: bool) -> Architecture {
    Architecture::Matryoshka(Matryoshka { k: 3.0, threshold_lr: 0.1, widths: widths.to_vec(), aux_by_level })
}

fn hierarchical(ks: &[usize]) -> Architecture {
    Architecture::Hierarchical(Hierarchical { k: ks[0], ks: ks.to_vec() })
}

fn gated(l1_coefficient: f64) -> Architecture {
    Architecture::Gated(Gated { l1_coefficient, target_l0: None, l1_warmup_steps: 3 })
}

fn standard(l1_coefficient: f64, lp_norm: f64) -> Architecture {
    Architecture::Standard(Standard { l1_coefficient, target_l0: None, l1_warmup_steps: 3, lp_norm })
}

pub fn each() -> Vec<Architecture> {
    let tanh = Sparsity::Tanh { scale: 2.0 };
    vec![
        standard(0.4, 1.0),
        standard(0.4, 2.0),
        gated(0.5),
        jumprelu(Sparsity::Step, false, 0.0),
        jumprelu(Sparsity::Step, true, 0.01),
        jumprelu(tanh, false, 0.02),
        jumprelu(tanh, true, 0.0),
        jumprelu(Sparsity::Quadratic { target_l0: 4.0 }, true, 0.03),
        batchtopk(3.3),
        batchtopk(30.0),
        matryoshka(&[7, 20, N], false),
        matryoshka(&[1, 7, N], true),
        matryoshka(&[N], true),
        hierarchical(&[2, 3, 9]),
        hierarchical(&[4]),
        hierarchical(&[1, N]),
    ]
}

/// The classes of transcoders.
pub fn transcoders() -> Vec<Architecture> {
    vec![Architecture::topk(3), batchtopk(3.3), jumprelu(Sparsity::Step, true, 0.02)]
}

/// Plain gradient descent: without momentum and with an ε that dwarfs the gradient, an Adam step is −lr/ε·g.
fn config(architecture: &Architecture, loss: Loss, center: bool) -> TrainConfig {
    let recipe = TrainConfig::from_recipe(Recipe::Saelens, D, N, architecture.clone(), BATCH, 1_000_000);
    TrainConfig {
        lr: RATE * 1e6,
        adam_beta1: 0.0,
        adam_eps: 1e6,
        clip_norm: 1e12,
        loss,
        dead_after: FIRST as u64 - 1,
        aux_coefficient: recipe.aux_coefficient * 0.5,
        apply_b_dec_to_input: center,
        ..recipe
    }
}

/// A trainer after a first step.
fn trainer(config: TrainConfig) -> Trainer {
    let weights = [1, 2].map(|seed| matrix(N, D, 1.0 / (D as f32).sqrt(), seed));
    let biases = [(N, 3), (D, 4)].map(|(len, seed)| vector(len, 0.1, seed));
    let mut trainer = Trainer::from_weights(config, weights, biases).unwrap();
    for (seed, (name, start)) in (10..).zip(trainer.vectors()) {
        let moved = start + vector(N, 0.1, seed).abs();
        trainer = trainer.with_vector(name, moved).unwrap();
    }
    trainer.step(matrix(FIRST, D, 0.3, 5));
    trainer
}

/// All parameters by name, as the next step finds them.
fn parameters(trainer: &Trainer) -> Vec<(&'static str, Vec<f32>)> {
    let ([w_enc, w_dec], [b_enc, b_dec]) = (trainer.weights(), trainer.biases());
    let mut all =
        vec![("W_enc", values(w_enc)), ("W_dec", values(w_dec)), ("b_enc", values(b_enc)), ("b_dec", values(b_dec))];
    let vectors = trainer.vectors().into_iter();
    all.extend(vectors.map(|(name, vector)| {
        // Before a step a threshold is brought back to 0.
        (name, values(if name == "threshold" { vector.clamp_min(0.0) } else { vector }))
    }));
    all.extend(trainer.skip().map(|skip| ("W_skip", values(skip))));
    all
}

/// A code's values, what it decodes with, and terms of a loss.
struct Dense {
    z: Tensor<2>,
    terms: Tensor<1>,
}

/// The gradients of every parameter from dense operations and autodiff, in the order of [`parameters`], and the whole loss.
fn by_autodiff(trainer: &Trainer, x: &Tensor<2>, target: &Tensor<2>) -> (Vec<Vec<f32>>, f64) {
    let config = trainer.config();
    let [w_enc, w_dec] = trainer.weights().map(|w| w.autodiff().require_grad());
    let [b_enc, b_dec] = trainer.biases().map(|b| b.autodiff().require_grad());
    let own: Vec<Tensor<1>> = trainer
        .vectors()
        .into_iter()
        .map(|(name, v)| if name == "threshold" { v.clamp_min(0.0) } else { v }.autodiff().require_grad())
        .collect();
    let device = w_enc.device();
    let mask = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [BATCH, N]), &device);
    let skip = trainer.skip().map(|skip| skip.autodiff().require_grad());
    let x: Tensor<2> = x.clone().autodiff();
    let weight = match config.loss {
        Loss::Mse => 1.0 / BATCH as f64,
        Loss::Fvu => {
            let centred = square(target.clone() - target.clone().mean_dim(0));
            1.0 / values(centred).into_iter().map(f64::from).sum::<f64>()
        }
    };
    let target: Tensor<2> = target.clone().autodiff();
    let reconstruction = |output: Tensor<2>| square(output - target.clone()).sum() * weight;
    let input = if config.apply_b_dec_to_input { x.clone() - b_dec.clone().unsqueeze() } else { x.clone() };
    let product = input.matmul(w_enc.clone().transpose());
    let pre = product.clone() + b_enc.clone().unsqueeze();
    let norms = square(w_dec.clone()).sum_dim(1).sqrt().transpose();
    let decode = |z: Tensor<2>| {
        let output = z.matmul(w_dec.clone()) + b_dec.clone().unsqueeze();
        skip.as_ref().map_or(output.clone(), |skip| output + x.clone().matmul(skip.clone().transpose()))
    };
    let dead: Vec<f32> = trainer.fires().iter().map(|&fires| f32::from(u8::from(fires == 0))).collect();
    let dead_mask = mask(dead.repeat(BATCH));
    let mean = |per_token: Tensor<2>, coefficient: f64| per_token.sum() * (coefficient / BATCH as f64);
    // A second step, of a coefficient's warm-up.
    let warm = |coefficient: f64, steps: u64| coefficient / steps as f64;
    let host = |x: &Tensor<2>| values(x.clone().inner());

    let Dense { z, terms } = match &config.architecture {
        Architecture::Standard(class) => {
            let z = relu(pre);
            let scaled = z.clone() * norms;
            let size = if class.lp_norm == 1.0 { scaled.sum_dim(1) } else { square(scaled).sum_dim(1).sqrt() };
            Dense { z, terms: mean(size, warm(class.l1_coefficient, class.l1_warmup_steps)) }
        }
        Architecture::Gated(class) => {
            let open = pre.clone().greater_elem(0.0).float();
            let magnitude = product * own[0].clone().exp().unsqueeze() + own[1].clone().unsqueeze();
            let gate = relu(pre);
            let l1 = mean(gate.clone() * norms, warm(class.l1_coefficient, class.l1_warmup_steps));
            Dense { z: relu(magnitude) * open, terms: l1 + reconstruction(decode(gate)) }
        }
        Architecture::JumpRelu(class) => {
            let threshold = own[0].clone().unsqueeze::<2>().expand([BATCH, N]);
            let (of_pre, of_threshold) = (host(&pre), host(&threshold));
            let pairs = || of_pre.iter().zip(&of_threshold);
            let active = mask(pairs().map(|(p, t)| f32::from(u8::from(p > t))).collect());
            let bandwidth = class.bandwidth as f32;
            let near = mask(pairs().map(|(p, t)| f32::from(u8::from(((p - t) / bandwidth).abs() < 0.5))).collect());
            // 0, with the gradient of the estimator's rectangle.
            let fixed = |x: &Tensor<2>| x.clone().detach();
            let mut distance = fixed(&threshold) - threshold.clone();
            if class.ste_to_input {
                distance = distance + pre.clone() - fixed(&pre);
            }
            let smeared = near * distance / class.bandwidth;
            let step = active.clone() + smeared.clone();
            let z = pre.clone() * active + fixed(&threshold) * smeared;
            let coefficient = warm(class.l0_coefficient, class.l0_warmup_steps);
            let l0 = step.sum_dim(1);
            let sparsity = match class.sparsity {
                Sparsity::Step => mean(l0, coefficient),
                Sparsity::Quadratic { target_l0 } => mean(square(l0 - target_l0) * (2.0 / target_l0), coefficient),
                Sparsity::Tanh { scale } => mean(tanh(z.clone() * norms.clone() * scale), coefficient),
            };
            let below = relu(threshold - pre) * dead_mask * norms;
            Dense { z, terms: sparsity + mean(below, class.pre_act_coefficient) }
        }
        Architecture::TopK(_)
        | Architecture::BatchTopK(_)
        | Architecture::Matryoshka(_)
        | Architecture::Hierarchical(_) => {
            let scores = pre.clone() * norms.clone();
            let of_scores = host(&scores);
            let choose = |mask_of: Vec<f32>| relu(scores.clone()) * mask(mask_of) / norms.clone();
            let largest = |&k: &usize| choose(top_k_mask(&of_scores, k, &[true; N]));
            let ks = match &config.architecture {
                Architecture::Hierarchical(class) => class.ks.clone(),
                Architecture::TopK(class) => vec![class.k],
                _ => Vec::new(),
            };
            let z = ks.last().map(largest).unwrap_or_else(|| {
                let count = (config.architecture.k().unwrap() * BATCH as f64) as usize;
                choose(top_k_mask(&of_scores, count, &[true; BATCH * N]))
            });
            let (widths, by_level) = match &config.architecture {
                Architecture::Matryoshka(class) => (class.widths.clone(), class.aux_by_level),
                _ => (vec![N], false),
            };
            let columns = |range: std::ops::Range<usize>| {
                let row: Vec<f32> = (0..N).map(|at| f32::from(u8::from(range.contains(&at)))).collect();
                mask(row.repeat(BATCH))
            };
            let outputs: Vec<Tensor<2>> = if ks.is_empty() {
                widths.iter().map(|&width| decode(z.clone() * columns(0..width))).collect()
            } else {
                ks.iter().map(|k| decode(largest(k))).collect()
            };
            let share = if ks.is_empty() { 1.0 } else { 1.0 / ks.len() as f64 };
            // The last is added below, whole.
            let mut terms = reconstruction(outputs[outputs.len() - 1].clone()) * (share - 1.0);
            for output in &outputs[..outputs.len() - 1] {
                terms = terms + reconstruction(output.clone()) * share;
            }
            let starts = [0].into_iter().chain(widths.iter().copied());
            let levels: Vec<_> = if by_level {
                starts.zip(&widths).zip(&outputs).map(|((start, &end), output)| (start..end, output)).collect()
            } else {
                vec![(0..N, outputs.last().unwrap())]
            };
            for (latents, output) in levels {
                let allowed: Vec<bool> = (0..N).map(|at| latents.contains(&at) && dead[at] > 0.0).collect();
                let n_dead = allowed.iter().filter(|&&dead| dead).count();
                let revived = scores.clone() * mask(top_k_mask(&of_scores, D / 2, &allowed)) / norms.clone();
                let error = revived.matmul(w_dec.clone()) + (output.clone() - target.clone()).detach();
                let share = (n_dead as f64 / (D / 2) as f64).min(1.0);
                terms = terms + square(error).sum() * (config.aux_coefficient * weight * share);
            }
            Dense { z, terms }
        }
        other => panic!("{other}"),
    };
    let loss = reconstruction(decode(z)) + terms;
    let total = f64::from(loss.clone().into_scalar::<f32>());
    let gradients = loss.backward();
    let zeros = |len: usize| vec![0.0_f32; len];
    let of = |t: &Tensor<2>| t.grad(&gradients).map_or_else(|| zeros(N * D), values);
    let of_vector = |t: &Tensor<1>| t.grad(&gradients).map_or_else(|| zeros(t.dims()[0]), values);
    let mut all = vec![of(&w_enc), of(&w_dec), of_vector(&b_enc), of_vector(&b_dec)];
    all.extend(own.iter().map(of_vector));
    all.extend(skip.iter().map(of));
    (all, total)
}

/// Takes a step, which is that of autodiff.
fn assert_steps_down_the_gradient(what: &str, trainer: &mut Trainer, x: &Tensor<2>, target: &Tensor<2>) {
    let (gradients, total) = by_autodiff(trainer, x, target);
    let before = parameters(trainer);
    let said = trainer.step_towards(x.clone(), target.clone());
    assert!((said.total() - total).abs() <= 1e-5 * total, "{what}: loss {} against {total}", said.total());
    let [w_enc, w_dec] = trainer.weights().map(values);
    let [b_enc, b_dec] = trainer.biases().map(values);
    let mut after = vec![w_enc, w_dec, b_enc, b_dec];
    after.extend(trainer.vectors().into_iter().map(|(_, vector)| values(vector)));
    after.extend(trainer.skip().map(values));
    assert_eq!(after.len(), gradients.len());
    for (((name, before), after), gradient) in before.iter().zip(&after).zip(&gradients) {
        let step = before.iter().zip(after).map(|(&b, &a)| ((f64::from(b) - f64::from(a)) / RATE) as f32);
        let step: Vec<f32> = step.collect();
        assert!(gradient.iter().any(|&g| g != 0.0), "{what}: nothing reaches {name}");
        assert_close(&format!("{what}: {name}"), &step, gradient, 1e-4);
    }
}

#[test]
fn the_closed_form_step_of_a_transcoder_is_the_gradient_of_autodiff() {
    for architecture in transcoders() {
        for task in [Task::Transcoder, Task::SkipTranscoder] {
            for loss in [Loss::Mse, Loss::Fvu] {
                let mut trainer = trainer(TrainConfig { task, ..config(&architecture, loss, false) });
                assert_eq!(trainer.skip().is_some(), task == Task::SkipTranscoder);
                let what = format!("{architecture:?}, {task:?}, {loss:?}");
                assert_steps_down_the_gradient(&what, &mut trainer, &input(), &matrix(BATCH, D, 1.5, 7));
            }
        }
    }
}

#[test]
fn what_a_transcoder_cannot_have_is_refused() {
    let transcoder =
        |architecture: &Architecture| TrainConfig { task: Task::Transcoder, ..config(architecture, Loss::Mse, false) };
    let topk = transcoder(&Architecture::topk(3));
    assert!(topk.check().is_ok());
    let text = serde_json::to_string(&topk).unwrap();
    assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), topk, "{text}");
    for (config, parts) in [
        (TrainConfig { apply_b_dec_to_input: true, ..topk.clone() }, ["apply_b_dec_to_input", "set it to false"]),
        (TrainConfig { input_scaling: InputScaling::ExpectedNorm, ..topk }, ["input_scaling", "leave it out"]),
        (transcoder(&gated(0.5)), ["architecture = \"gated\"", "topk, batchtopk and jumprelu are"]),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn the_closed_form_step_of_every_class_is_the_gradient_of_autodiff() {
    let mut dead = 0;
    for architecture in each() {
        for (loss, center) in [(Loss::Mse, true), (Loss::Mse, false), (Loss::Fvu, true)] {
            let mut trainer = trainer(config(&architecture, loss, center));
            dead += trainer.n_dead();
            let what = format!("{architecture:?}, {loss:?}, center {center}");
            assert_steps_down_the_gradient(&what, &mut trainer, &input(), &input());
        }
    }
    assert!(dead > 0);
}

/// A penalty on the norms of rows that are held at norm 1 has no effect, and neither has the gradient along them.
#[test]
fn rows_of_unit_norm_stay_so_in_every_class() {
    for architecture in each() {
        let mut config = config(&architecture, Loss::Mse, true);
        (config.decoder_norm, config.decoder_init_norm, config.rescale_acts_by_decoder_norm) =
            (DecoderNorm::Unit, 1.0, false);
        let mut trainer = Trainer::new(config, 3, &cpu()).unwrap();
        for seed in 0..3 {
            trainer.step(matrix(BATCH, D, 1.0, 20 + seed));
        }
        let rows = values(trainer.weights()[1].clone());
        for row in rows.chunks(D) {
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            assert!((norm - 1.0).abs() < 1e-6, "{architecture:?}: {norm}");
        }
    }
}

/// Of half a latent a token there is none in a batch of one, and a threshold that no batch has set stays.
#[test]
fn a_batch_in_which_nothing_is_chosen_is_a_step_too() {
    for architecture in [
        batchtopk(0.5),
        Architecture::Matryoshka(Matryoshka { k: 0.5, threshold_lr: 0.1, widths: vec![5, N], aux_by_level: false }),
    ] {
        let mut trainer = trainer(config(&architecture, Loss::Mse, true));
        let before = trainer.threshold();
        let loss = trainer.step_watched(matrix(1, D, 1.0, 6));
        assert_eq!((loss.l0(), trainer.threshold()), (Some(0.0), before), "{architecture}");
        assert!(
            loss.total().is_finite() && parameters(&trainer).iter().all(|(_, of)| of.iter().all(|v| v.is_finite()))
        );
    }
}

#[test]
fn training_of_every_class_goes_on_from_a_saved_state() {
    let state = |trainer: &Trainer| {
        let dir = tempfile::tempdir().unwrap();
        trainer.save_state(dir.path()).unwrap();
        std::fs::read(dir.path().join("trainer_state.safetensors")).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let autoencoders = each().into_iter().map(|architecture| (architecture, Task::Autoencoder));
    let transcoders = transcoders().into_iter().map(|architecture| (architecture, Task::SkipTranscoder));
    for (at, (architecture, task)) in autoencoders.chain(transcoders).enumerate() {
        let recipe = TrainConfig::from_recipe(Recipe::Assay, D, N, architecture.clone(), BATCH, 20 * BATCH as u64);
        let apply_b_dec_to_input = task.is_autoencoder();
        let config = TrainConfig { lr: 0.01, dead_after: 3 * BATCH as u64, task, apply_b_dec_to_input, ..recipe };
        // Every other one has a mean of its weights as well.
        let config = TrainConfig { ema_decay: [0.0, 0.8][at % 2], ..config };
        let mut whole = Trainer::new(config.clone(), 1, &cpu()).unwrap();
        let step = |trainer: &mut Trainer, seed: u64| {
            let x = matrix(BATCH, D, 1.0, 20 + seed);
            let target = if task.is_autoencoder() { x.clone() } else { matrix(BATCH, D, 1.0, 50 + seed) };
            trainer.step_towards(x, target);
        };
        (0..8).for_each(|seed| step(&mut whole, seed));
        whole.save_state(dir.path()).unwrap();
        let mut resumed = Trainer::load_state(dir.path(), &config, &cpu()).unwrap();
        for seed in 8..16 {
            step(&mut whole, seed);
            step(&mut resumed, seed);
        }
        assert!(state(&whole) == state(&resumed), "{architecture:?}");
        assert_eq!(whole.threshold(), resumed.threshold());
        let has_one = matches!(architecture, Architecture::BatchTopK(_) | Architecture::Matryoshka(_));
        assert_eq!(whole.threshold().is_some(), has_one, "{architecture:?}");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn the_terms_of_a_loss_have_saelens_names() {
    let names = |architecture: &Architecture| {
        let mut trainer = trainer(config(architecture, Loss::Mse, true));
        let names: Vec<String> = trainer.step(input()).terms().map(|(kind, _)| kind.to_string()).collect();
        names.join(" ")
    };
    for (architecture, expected) in [
        (standard(0.1, 1.0), "l1_loss"),
        (gated(0.1), "l1_loss auxiliary_reconstruction_loss"),
        (jumprelu(Sparsity::Step, false, 0.1), "l0_loss pre_act_loss"),
        (batchtopk(2.0), "auxiliary_reconstruction_loss"),
        (matryoshka(&[7, N], false), "inner_mse_loss_7 auxiliary_reconstruction_loss"),
        (hierarchical(&[2, 3]), "inner_mse_loss_2 auxiliary_reconstruction_loss"),
    ] {
        assert_eq!(names(&architecture), expected);
    }
    assert_eq!(TermKind::Inner(16).to_string(), "inner_mse_loss_16");
}

/// Σ decay^(T−t)·w_t / Σ decay^(T−t) over the weights after each step, in f64, beside what the SAE is given; training is the same without.
#[test]
fn an_sae_may_have_the_running_mean_of_its_weights() {
    const DECAY: f64 = 0.7;
    for (decoder_norm, task) in [
        (DecoderNorm::Unit, Task::Autoencoder),
        (DecoderNorm::Free, Task::Autoencoder),
        (DecoderNorm::Free, Task::SkipTranscoder),
    ] {
        let recipe = TrainConfig::from_recipe(Recipe::Assay, D, N, Architecture::topk(3), BATCH, 20 * BATCH as u64);
        let apply_b_dec_to_input = task.is_autoencoder();
        let last = TrainConfig { lr: 0.05, decoder_norm, task, apply_b_dec_to_input, ..recipe };
        let mean = TrainConfig { ema_decay: DECAY, ..last.clone() };
        let [mut last, mut mean] = [last, mean].map(|config| Trainer::new(config, 1, &cpu()).unwrap());
        let untrained = mean.sae().weights().map(values);
        assert_eq!(untrained, last.sae().weights().map(values));
        let (mut sums, mut all) = (vec![vec![0.0; N * D]; 3], 0.0);
        for seed in 0..9 {
            let (x, target) = (matrix(BATCH, D, 1.0, seed), matrix(BATCH, D, 1.0, 30 + seed));
            for trainer in [&mut last, &mut mean] {
                let target = if task.is_autoencoder() { x.clone() } else { target.clone() };
                trainer.step_towards(x.clone(), target);
            }
            assert_eq!(parameters(&last), parameters(&mean));
            all = all * DECAY + 1.0;
            let [w_enc, w_dec] = last.weights();
            let now = [Some(w_enc), Some(w_dec), last.skip()].map(|w| w.map_or_else(Vec::new, values));
            for (sum, now) in sums.iter_mut().zip(&now) {
                sum.iter_mut().zip(now).for_each(|(sum, &w)| *sum = *sum * DECAY + f64::from(w));
            }
        }
        sums.iter_mut().flatten().for_each(|sum| *sum /= all);
        if decoder_norm == DecoderNorm::Unit {
            for row in sums[1].chunks_mut(D) {
                let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                row.iter_mut().for_each(|v| *v /= norm);
            }
        }
        let sae = mean.sae();
        let [w_enc, w_dec] = sae.weights();
        let found = [Some(w_enc), Some(w_dec), sae.skip()].map(|w| w.map_or_else(Vec::new, values));
        for (found, expected) in found.iter().zip(&sums) {
            let far = found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max);
            assert!(far < 1e-6, "{decoder_norm:?}, {task:?}: {far}");
        }
        assert_ne!(found[0], values(last.sae().weights()[0].clone()));
    }
}
