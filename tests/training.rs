//! The training step against autodiff, and what must not change a bit of it.

use std::path::Path;

use assay_models::{ActivationStream, Decoder, HookPoint, RowUse, Site, StreamConfig, TokenSource};
use assay_sae::{
    Activation, Architecture, DecoderNorm, Format, InputScaling, Loss, Metadata, Precision, Recipe, Sae, StepLoss,
    TrainConfig, Trainer, formats,
};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};

use crate::common::{assert_close, bundled, cpu, values};

const BATCH: usize = 128;
const TOKENS: usize = 4096;

struct Text {
    model: Decoder,
    source: TokenSource,
}

impl Text {
    fn open() -> Self {
        let source = TokenSource::open(&bundled("train.parquet"), 96, RowUse::Split, None).unwrap();
        Self { model: Decoder::load(&bundled("small"), &cpu()).unwrap(), source }
    }

    /// Small passes and a small buffer, so that rounds begin and end within contexts and passes.
    fn stream(&self, hooks: &[usize]) -> ActivationStream<'_> {
        let sites: Vec<Site> = hooks.iter().map(|&layer| HookPoint::resid_post(layer).into()).collect();
        let config = StreamConfig {
            first_context: 5,
            tokens: TOKENS,
            batch_size: BATCH,
            buffer_tokens: 1024,
            contexts_per_pass: 4,
            seed: 0,
            precision: Precision::F32,
        };
        ActivationStream::new(&self.model, &self.source, &sites, config).unwrap()
    }

    /// All batches in the order of a seed.
    fn batches(&self, seed: u64) -> Vec<Tensor<2>> {
        let mut stream = self.stream(&[3]);
        let mut out = Vec::new();
        while let Some(round) = stream.next_round().unwrap() {
            out.extend(round.order(seed).chunks(BATCH).map(|places| stream.batch(0, places)));
        }
        assert_eq!(out.len(), TOKENS / BATCH);
        out
    }
}

fn settings(k: usize) -> TrainConfig {
    settings_of(Architecture::topk(k))
}

fn settings_of(architecture: Architecture) -> TrainConfig {
    TrainConfig { lr: 2e-3, ..TrainConfig::from_recipe(Recipe::Assay, 128, 256, architecture, BATCH, TOKENS as u64) }
}

/// Everything that a trainer holds, as bytes.
fn state(trainer: &Trainer) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    trainer.save_state(dir.path()).unwrap();
    std::fs::read(dir.path().join("trainer_state.safetensors")).unwrap()
}

/// Trains several SAEs, given by k and seed, in turn on the batches of one stream.
fn lockstep(text: &Text, pupils: &[(usize, u64)]) -> Vec<Trainer> {
    let mut trainers: Vec<Trainer> =
        pupils.iter().map(|&(k, seed)| Trainer::new(settings(k), seed, &cpu()).unwrap()).collect();
    let mut stream = text.stream(&[3]);
    while let Some(round) = stream.next_round().unwrap() {
        for at in (0..round.tokens()).step_by(BATCH) {
            for (trainer, &(_, seed)) in trainers.iter_mut().zip(pupils) {
                trainer.step(stream.batch(0, &round.order(seed)[at..at + BATCH]));
            }
        }
    }
    trainers
}

#[test]
fn five_companions_change_no_bit_of_an_sae() {
    let text = Text::open();
    let alone = lockstep(&text, &[(8, 1)]);
    let together = lockstep(&text, &[(4, 0), (8, 0), (4, 1), (8, 1), (32, 1), (8, 2)]);
    let untrained = Trainer::new(settings(8), 1, &cpu()).unwrap();
    assert!(state(&alone[0]) == state(&together[3]));
    assert!(state(&alone[0]) != state(&untrained) && state(&together[3]) != state(&together[1]));
    assert!(alone[0].n_dead() > 0, "the auxiliary loss had something to do");
}

#[test]
fn training_goes_on_from_a_saved_state_as_if_it_had_not_stopped() {
    let batches = Text::open().batches(0);
    for (architecture, other) in
        [(Architecture::topk(8), Architecture::groupmax(8)), (Architecture::groupmax(8), Architecture::topk(8))]
    {
        let config = settings_of(architecture);
        let mut whole = Trainer::new(config.clone(), 0, &cpu()).unwrap();
        whole.calibrate(&batches[0]);
        let dir = tempfile::tempdir().unwrap();
        for (step, x) in batches.iter().enumerate() {
            if step == 17 {
                whole.save_state(dir.path()).unwrap();
            }
            whole.step(x.clone());
        }
        let mut resumed = Trainer::load_state(dir.path(), &config, &cpu()).unwrap();
        assert_eq!(resumed.steps_done(), 17);
        for x in &batches[17..] {
            resumed.step(x.clone());
        }
        assert!(state(&whole) == state(&resumed));

        for config in [settings(4), settings_of(other)] {
            let error = Trainer::load_state(dir.path(), &config, &cpu()).err().unwrap().to_string();
            assert!(error.contains("trainer_state.safetensors") && error.contains("other settings"), "{error}");
        }
    }
}

#[test]
fn a_watched_step_is_the_same_step_and_says_more() {
    let batches = Text::open().batches(0);
    for loss in [Loss::Mse, Loss::Fvu] {
        let config = TrainConfig { loss, ..settings(8) };
        let [mut plain, mut watched] = [(); 2].map(|()| Trainer::new(config.clone(), 3, &cpu()).unwrap());
        for x in &batches[..12] {
            // Before the step, whose loss is that of the weights it starts from.
            let activation = Activation::TopK { k: 8, by_decoder_norm: false };
            let sae = Sae::new(watched.weights(), watched.biases(), activation, true);
            let (said, known) = (plain.step(x.clone()), watched.step_watched(x.clone()));
            assert_eq!(said.reconstruction().to_bits(), known.reconstruction().to_bits());
            assert_eq!((said.fvu(), said.l0()), (None, None));
            let all = |loss: &StepLoss| [Some(loss.total()), Some(loss.reconstruction()), loss.fvu(), loss.l0()];
            let mut fetched = [said.clone(), known.clone()];
            StepLoss::fetch(fetched.iter_mut());
            assert_eq!(fetched.each_ref().map(all), [all(&said), all(&known)]);

            let code = sae.encode(x.clone());
            let mut active = 0;
            code.clone().for_each_active(|_, _, _| active += 1);
            assert_eq!(known.l0(), Some(active as f64 / BATCH as f64));
            let (inputs, outputs) = (values(x.clone()), values(sae.decode(code)));
            let mean = |column: usize| {
                inputs.iter().skip(column).step_by(128).map(|&v| f64::from(v)).sum::<f64>() / BATCH as f64
            };
            let means: Vec<f64> = (0..128).map(mean).collect();
            let sse: f64 = inputs.iter().zip(&outputs).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
            let sst: f64 = inputs.iter().enumerate().map(|(at, &x)| (f64::from(x) - means[at % 128]).powi(2)).sum();
            let fvu = known.fvu().unwrap();
            assert!((fvu / (sse / sst) - 1.0).abs() < 1e-5, "{fvu} is not {}", sse / sst);
            if loss == Loss::Fvu {
                assert!((fvu / known.reconstruction() - 1.0).abs() < 1e-6);
            }
        }
        assert!(state(&plain) == state(&watched));
    }
}

fn save_and_load(sae: &Sae, dir: &Path) -> Sae {
    let metadata = Metadata {
        model_name: Some("small".to_owned()),
        hook_name: Some("blocks.3.hook_resid_post".to_owned()),
        context_size: Some(96),
        prepend_bos: Some(false),
        ..Metadata::default()
    };
    let format = Format::for_sae(sae);
    formats::save(dir, format, sae, &metadata, None).unwrap();
    let loaded = formats::load(dir, &cpu()).unwrap();
    assert_eq!(loaded.format, format);
    if format == Format::SaeLens {
        // Beside it is only what SAELens needs in order to load the file.
        assert_eq!(Metadata { other: metadata.other.clone(), ..loaded.metadata }, metadata);
    }
    loaded.sae
}

#[test]
fn a_saved_sae_reconstructs_bit_for_bit() {
    let batches = Text::open().batches(0);
    let dir = tempfile::tempdir().unwrap();
    let saelens = TrainConfig::from_recipe(Recipe::Saelens, 128, 256, Architecture::topk(8), BATCH, TOKENS as u64);
    let scaled = TrainConfig { input_scaling: InputScaling::ExpectedNorm, ..settings(8) };
    for (architecture, format) in
        [(Architecture::topk(8), Format::SaeLens), (Architecture::groupmax(8), Format::Sparsify)]
    {
        for config in [settings(8), saelens.clone(), scaled.clone()] {
            let mut trainer =
                Trainer::new(TrainConfig { architecture: architecture.clone(), ..config }, 3, &cpu()).unwrap();
            trainer.calibrate(&batches[0]);
            for x in &batches {
                trainer.step(x.clone());
            }
            let sae = trainer.sae();
            assert_eq!((Format::for_sae(&sae), sae.activation().name()), (format, &*architecture.to_string()));
            // Saving twice replaces the first.
            let dir = dir.path().join(architecture.to_string());
            save_and_load(&sae, &dir);
            let loaded = save_and_load(&sae, &dir);
            let x = batches[5].clone();
            let (folded, code) = sae.reconstruct(x.clone());
            let folded = values(folded);
            assert_eq!(values(loaded.reconstruct(x.clone()).0), folded);
            let mut latents = vec![Vec::new(); BATCH];
            code.for_each_active(|token, latent, _| latents[token].push(latent));
            assert!(latents.iter().all(|of_token| of_token.len() <= 8) && latents.iter().flatten().count() > BATCH);
            if format == Format::Sparsify {
                // Of each group of 256/8 neighbours one at most.
                assert!(latents.iter().all(|of_token| of_token.is_sorted_by(|a, b| a / 32 < b / 32)));
            }

            // Folding changes rounding only.
            assert_close("not folded", &values(trainer.forward(x).reconstruction()), &folded, 1e-5);
        }
    }
}

#[test]
fn skipped_rounds_leave_the_same_batches() {
    let text = Text::open();
    let hooks = [1, 3];
    let rounds = |skip: u64, walk: u64| {
        let mut stream = text.stream(&hooks);
        if skip > 0 {
            stream.skip_rounds(skip).unwrap();
        }
        for _ in 0..walk {
            stream.next_round().unwrap();
        }
        let mut out = Vec::new();
        while let Some(round) = stream.next_round().unwrap() {
            out.push([0, 1].map(|hook| values(stream.batch(hook, &round.order(4)))));
        }
        out
    };
    for skip in [1, 3, 6] {
        let walked = rounds(0, skip);
        assert!(!walked.is_empty() && walked[0][0] != walked[0][1]);
        assert!(walked == rounds(skip, 0), "after {skip} rounds");
    }
}

/// Sizes and settings of one comparison with autodiff.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Of so many latents a token.
    architecture: fn(usize) -> Architecture,
    d_model: usize,
    d_sae: usize,
    k: usize,
    batch: usize,
    /// Tokens of a first step; latents that it does not activate are dead in the second.
    first_batch: usize,
    loss: Loss,
    aux: f64,
    rescale: bool,
    center: bool,
}

/// Plain gradient descent: without momentum and with an ε that dwarfs the gradient, an Adam step is −lr/ε·g.
pub const RATE: f64 = 0.1;

impl Case {
    fn config(self) -> TrainConfig {
        TrainConfig {
            lr: RATE * 1e6,
            adam_beta1: 0.0,
            adam_eps: 1e6,
            clip_norm: 1e12,
            loss: self.loss,
            aux_coefficient: self.aux,
            dead_after: self.first_batch as u64 - 1,
            rescale_acts_by_decoder_norm: self.rescale,
            apply_b_dec_to_input: self.center,
            ..TrainConfig::from_recipe(
                Recipe::Saelens,
                self.d_model,
                self.d_sae,
                (self.architecture)(self.k),
                self.batch,
                1_000_000,
            )
        }
    }

    fn matrix(rows: usize, cols: usize, scale: f32, seed: u64) -> Tensor<2> {
        Tensor::from_data(TensorData::new(noise(rows * cols, scale, seed), [rows, cols]), &cpu())
    }

    /// A trainer after a first step.
    fn trainer(self) -> Trainer {
        self.trainer_with(self.config())
    }

    fn trainer_with(self, config: TrainConfig) -> Trainer {
        let Self { d_model, d_sae, .. } = self;
        let weights = [1, 2].map(|seed| Self::matrix(d_sae, d_model, 1.0 / (d_model as f32).sqrt(), seed));
        let biases =
            [(d_sae, 3), (d_model, 4)].map(|(len, seed)| Tensor::from_data(noise(len, 0.1, seed).as_slice(), &cpu()));
        let mut trainer = Trainer::from_weights(config, weights, biases).unwrap();
        trainer.calibrate(&self.input());
        trainer.step(Self::matrix(self.first_batch, d_model, 0.3, 5));
        trainer
    }

    fn input(self) -> Tensor<2> {
        Self::matrix(self.batch, self.d_model, 1.0, 6)
    }
}

/// Reproducible numbers about 0.
pub fn noise(len: usize, scale: f32, seed: u64) -> Vec<f32> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..20).for_each(|_| _ = uniform());
    (0..len).map(|_| scale * (uniform() + uniform() + uniform())).collect()
}

/// 1 where a value is among the k largest of its row and its column is allowed, else 0.
pub fn top_k_mask(rows: &[f32], k: usize, allowed: &[bool]) -> Vec<f32> {
    let mut mask = vec![0.0; rows.len()];
    for (row, mask) in rows.chunks(allowed.len()).zip(mask.chunks_mut(allowed.len())) {
        let mut order: Vec<usize> = (0..row.len()).filter(|&i| allowed[i]).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        order.truncate(k);
        order.into_iter().for_each(|i| mask[i] = 1.0);
    }
    mask
}

/// 1 where a value is the largest of its group of neighbours, else 0.
pub fn group_mask(rows: &[f32], size: usize) -> Vec<f32> {
    rows.chunks(size).flat_map(|group| top_k_mask(group, 1, &vec![true; size])).collect()
}

pub fn square(t: Tensor<2>) -> Tensor<2> {
    t.clone() * t
}

/// The reconstruction loss's weight on Σ‖x̂ − x‖².
fn weight(case: Case, x: &Tensor<2>) -> f64 {
    match case.loss {
        Loss::Mse => 1.0 / case.batch as f64,
        Loss::Fvu => 1.0 / values(square(x.clone() - x.clone().mean_dim(0))).into_iter().map(f64::from).sum::<f64>(),
    }
}

/// Gradients of W_enc, W_dec, b_enc and b_dec from dense operations and autodiff, and what they are gradients of: an objective of the
/// reconstruction x̂, and the auxiliary loss.
fn by_autodiff(
    case: Case,
    trainer: &Trainer,
    x: &Tensor<2>,
    objective: impl FnOnce(Tensor<2>) -> Tensor<1>,
) -> ([Vec<f32>; 4], f64) {
    let [w_enc, w_dec] = trainer.weights().map(|w| w.autodiff().require_grad());
    let [b_enc, b_dec] = trainer.biases().map(|b| b.autodiff().require_grad());
    let device = w_enc.device();
    let weight = weight(case, x);
    let x: Tensor<2> = x.clone().autodiff();
    let dense = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [case.batch, case.d_sae]), &device);

    let input = if case.center { x.clone() - b_dec.clone().unsqueeze() } else { x.clone() };
    let linear = input.matmul(w_enc.clone().transpose()) + b_enc.clone().unsqueeze();
    let norms = square(w_dec.clone()).sum_dim(1).sqrt().transpose();
    let scaled = if case.rescale { linear * norms.clone() } else { linear };
    let unscale = |z: Tensor<2>| if case.rescale { z / norms.clone() } else { z };
    let host = values(scaled.clone().inner());

    let mask = dense(if trainer.config().architecture.is_topk() {
        top_k_mask(&host, case.k, &vec![true; case.d_sae])
    } else {
        group_mask(&host, case.d_sae / case.k)
    });
    let output = unscale(relu(scaled.clone()) * mask).matmul(w_dec.clone()) + b_dec.clone().unsqueeze();
    let mut loss = objective(output.clone());
    let dead: Vec<bool> = trainer.fires().iter().map(|&f| f == 0).collect();
    let n_dead = dead.iter().filter(|d| **d).count();
    assert_eq!(n_dead, trainer.n_dead());
    if case.aux > 0.0 {
        let k_aux = case.d_model / 2;
        let mask = dense(top_k_mask(&host, k_aux, &dead));
        let error = unscale(scaled * mask).matmul(w_dec.clone()) + (output - x).detach();
        loss = loss + square(error).sum() * (case.aux * weight * (n_dead as f64 / k_aux as f64).min(1.0));
    }
    let total = f64::from(loss.clone().into_scalar::<f32>());
    let gradients = loss.backward();
    let of = |t: Tensor<2>| values(t.grad(&gradients).unwrap());
    let of_bias = |t: Tensor<1>| values(t.grad(&gradients).unwrap());
    ([of(w_enc), of(w_dec), of_bias(b_enc), of_bias(b_dec)], total)
}

/// The same of the reconstruction loss.
fn of_the_loss(case: Case, trainer: &Trainer, x: &Tensor<2>) -> ([Vec<f32>; 4], f64) {
    let target = x.clone().autodiff();
    by_autodiff(case, trainer, x, |output| square(output - target).sum() * weight(case, x))
}

fn parameters(trainer: &Trainer) -> [Vec<f32>; 4] {
    let ([w_enc, w_dec], [b_enc, b_dec]) = (trainer.weights(), trainer.biases());
    [values(w_enc), values(w_dec), values(b_enc), values(b_dec)]
}

const NAMES: [&str; 4] = ["W_enc", "W_dec", "b_enc", "b_dec"];

/// Compares where plain gradient descent led with the gradients.
fn assert_descended(what: &str, before: &[Vec<f32>; 4], trainer: &Trainer, gradients: &[Vec<f32>; 4]) {
    for (((name, before), after), gradient) in NAMES.iter().zip(before).zip(&parameters(trainer)).zip(gradients) {
        let step: Vec<f32> =
            before.iter().zip(after).map(|(&b, &a)| ((f64::from(b) - f64::from(a)) / RATE) as f32).collect();
        if gradient.iter().all(|&g| g == 0.0) {
            assert!(step.iter().all(|&s| s == 0.0), "{what}: {name}");
        } else {
            assert_close(&format!("{what}: {name}"), &step, gradient, 1e-4);
        }
    }
}

/// d_model, d_sae, k, batch, tokens of the first step
const SIZES: [[usize; 5]; 7] = [
    [24, 96, 4, 40, 8],
    [31, 77, 5, 13, 60],
    [17, 45, 1, 29, 30],
    [10, 12, 12, 7, 3],
    [3, 1, 1, 5, 2],
    [16, 40, 7, 1, 9],
    [16, 40, 8, 11, 9],
];

/// All sizes in each architecture that can have them.
fn cases(loss: Loss, aux: f64, rescale: bool, center: bool) -> impl Iterator<Item = Case> {
    SIZES
        .into_iter()
        .flat_map(|sizes| {
            [Architecture::topk as fn(usize) -> Architecture, Architecture::groupmax]
                .map(|architecture| (sizes, architecture))
        })
        .map(move |([d_model, d_sae, k, batch, first_batch], architecture)| Case {
            architecture,
            d_model,
            d_sae,
            k,
            batch,
            first_batch,
            loss,
            aux,
            rescale,
            center,
        })
        .filter(|case| (case.architecture)(case.k).is_topk() || case.d_sae.is_multiple_of(case.k))
        // One token has no variance.
        .filter(|case| case.batch > 1 || case.loss != Loss::Fvu)
}

#[test]
fn the_closed_form_step_is_the_gradient_of_autodiff() {
    let (mut few, mut many, mut none) = (0, 0, 0);
    for (loss, aux, rescale, center) in [
        (Loss::Mse, 0.0, false, true),
        (Loss::Mse, 1.0, false, true),
        (Loss::Fvu, 1.0 / 32.0, false, true),
        (Loss::Mse, 1.0, true, true),
        (Loss::Mse, 0.5, true, false),
        (Loss::Fvu, 0.0, true, true),
    ] {
        for case in cases(loss, aux, rescale, center) {
            let mut trainer = case.trainer();
            match trainer.n_dead() {
                0 => none += 1,
                n if n < case.d_model / 2 => few += 1,
                _ => many += 1,
            }
            let x = case.input();
            let (gradients, total) = of_the_loss(case, &trainer, &x);
            let before = parameters(&trainer);
            let found = trainer.step(x);
            let ours = found.reconstruction() + found.auxiliary();
            assert!((ours - total).abs() <= 1e-5 * total, "{case:?}: loss {ours} against {total}");
            assert_descended(&format!("{case:?}"), &before, &trainer, &gradients);
        }
    }
    assert!(few > 0 && many > 0 && none > 0, "dead latents: few {few}, many {many}, none {none}");
}

/// The gradient of Σ G·x̂ for a G that no reconstruction loss gives, as a model would that the reconstruction is patched into.
#[test]
fn a_gradient_of_ones_own_goes_back_as_by_autodiff() {
    for (aux, rescale, center) in [(0.0, false, true), (1.0, false, true), (0.5, true, false)] {
        for case in cases(Loss::Mse, aux, rescale, center) {
            for input_scaling in [InputScaling::None, InputScaling::ExpectedNorm] {
                let what = format!("{case:?}, {input_scaling:?}");
                let mut trainer = case.trainer_with(TrainConfig { input_scaling, ..case.config() });
                let (x, own) = (case.input(), Case::matrix(case.batch, case.d_model, 1.0, 7));
                let scale = match input_scaling {
                    InputScaling::None => 1.0,
                    InputScaling::ExpectedNorm => {
                        let norms = values(square(x.clone()).sum_dim(1).sqrt());
                        (case.d_model as f64).sqrt() * case.batch as f64 / norms.into_iter().map(f64::from).sum::<f64>()
                    }
                };
                let mut output = Vec::new();
                let (gradients, _) = by_autodiff(case, &trainer, &x.clone().mul_scalar(scale), |scaled| {
                    let unscaled = scaled.div_scalar(scale);
                    output = values(unscaled.clone().inner());
                    (unscaled * own.clone().autodiff()).sum()
                });
                let before = parameters(&trainer);
                let forward = trainer.forward(x);
                assert_close(&what, &values(forward.reconstruction()), &output, 1e-5);
                trainer.step_on(forward, own);
                assert_descended(&what, &before, &trainer, &gradients);
            }
        }
    }
}

/// A case with nothing unusual about it.
const PLAIN: Case = Case {
    architecture: Architecture::topk,
    d_model: 24,
    d_sae: 60,
    k: 4,
    batch: 32,
    first_batch: 8,
    loss: Loss::Mse,
    aux: 1.0,
    rescale: false,
    center: true,
};

#[test]
fn unit_norm_decoders_move_along_the_sphere() {
    let case = PLAIN;
    let config = TrainConfig { decoder_norm: DecoderNorm::Unit, ..case.config() };
    // The first step leaves rows of norm 1.
    let free = case.trainer();
    let mut trainer = Trainer::from_weights(config, free.weights(), free.biases()).unwrap();
    trainer.step(Case::matrix(8, 24, 0.3, 5));
    let rows = values(trainer.weights()[1].clone());
    let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
    let wide = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    assert!(rows.chunks(24).all(|row| (norm(&wide(row)) - 1.0).abs() < 1e-6));

    let (gradients, _) = of_the_loss(case, &trainer, &case.input());
    trainer.step(case.input());
    let mut expected = Vec::new();
    for (row, gradient) in rows.chunks(24).zip(gradients[1].chunks(24)) {
        let (row, gradient) = (wide(row), wide(gradient));
        let along: f64 = row.iter().zip(&gradient).map(|(w, g)| w * g).sum();
        let moved: Vec<f64> = row.iter().zip(&gradient).map(|(w, g)| w - RATE * (g - along * w)).collect();
        expected.extend(moved.iter().map(|v| (v / norm(&moved)) as f32));
    }
    let after = values(trainer.weights()[1].clone());
    let step = |to: &[f32]| to.iter().zip(&rows).map(|(&a, &b)| a - b).collect::<Vec<f32>>();
    assert_close("W_dec", &step(&after), &step(&expected), 1e-3);
}

#[test]
fn the_gradient_is_clipped_as_a_whole() {
    let case = PLAIN;
    let free = case.trainer();
    let start = |clip_norm| {
        let config = TrainConfig { clip_norm, aux_coefficient: 0.0, ..case.config() };
        let mut trainer = Trainer::from_weights(config, free.weights(), free.biases()).unwrap();
        trainer.step(case.input());
        parameters(&trainer)
    };
    let before = parameters(&free);
    let moved = |after: &[Vec<f32>; 4]| -> Vec<f32> {
        before
            .iter()
            .flatten()
            .zip(after.iter().flatten())
            .map(|(&b, &a)| ((f64::from(b) - f64::from(a)) / RATE) as f32)
            .collect()
    };
    let whole = moved(&start(1e12));
    let norm = whole.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let clipped = moved(&start(norm / 2.0));
    let half: Vec<f32> = whole.iter().map(|v| v / 2.0).collect();
    assert_close("clipped", &clipped, &half, 1e-4);
}

/// The first step moves all but the decoder as it would otherwise; what is clipped is the norm of what moves.
#[test]
fn a_frozen_decoder_stays_as_it_was_drawn() {
    let case = PLAIN;
    let free = case.trainer();
    let start = |frozen_decoder, clip_norm| {
        let config = TrainConfig { frozen_decoder, clip_norm, aux_coefficient: 0.0, ..case.config() };
        let mut trainer = Trainer::from_weights(config, free.weights(), free.biases()).unwrap();
        trainer.step(case.input());
        parameters(&trainer)
    };
    let (before, learned, frozen) = (parameters(&free), start(false, 1e12), start(true, 1e12));
    assert_eq!(frozen[1], before[1]);
    assert_ne!(learned[1], before[1]);
    for other in [0, 2, 3] {
        assert_eq!(frozen[other], learned[other]);
        assert_ne!(frozen[other], before[other]);
    }
    let moved = |after: &[Vec<f32>; 4]| -> Vec<f32> {
        let pairs = before.iter().flatten().zip(after.iter().flatten());
        pairs.map(|(&b, &a)| ((f64::from(b) - f64::from(a)) / RATE) as f32).collect()
    };
    let whole = moved(&frozen);
    let norm = whole.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let half: Vec<f32> = whole.iter().map(|v| v / 2.0).collect();
    assert_close("clipped", &moved(&start(true, norm / 2.0)), &half, 1e-4);

    let batches = Text::open().batches(0);
    let config = TrainConfig { frozen_decoder: true, ..settings(8) };
    let mut trainer = Trainer::new(config, 0, &cpu()).unwrap();
    let drawn = parameters(&trainer);
    for x in batches {
        trainer.step(x);
    }
    let after = parameters(&trainer);
    assert!(after[1] == drawn[1] && after[0] != drawn[0]);
}
