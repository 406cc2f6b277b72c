//! Training a critic on one part of the pairs and reading mutual information off another.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{ArrayView2, s};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::bound::{Bound, Objective};
use super::critic::{Critic, Network};
use serde::Serialize;

use crate::error::{ProbeError, Result};

/// A critic and how it is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CriticConfig {
    /// How x and y meet.
    pub critic: Critic,
    /// What it is trained for, and what is read off it.
    pub bound: Bound,
    /// Dimensions that x is first mapped to, linearly; `None` for none of it.
    pub width: Option<usize>,
    /// Width of both hidden layers.
    pub hidden: usize,
    /// Dimensions of f(x) and g(y) in a separable critic.
    pub embed: usize,
    /// Pairs of a training step, each of whose x is scored against each y.
    pub batch: usize,
    /// As `batch`, where the estimate is read off; its logarithm is the cap of InfoNCE. Costs no gradient, so it may be larger.
    pub eval_batch: usize,
    /// Training steps.
    pub steps: usize,
    /// Adam's learning rate at the first step; falls linearly to 0 at the last.
    pub lr: f64,
    /// Sets initialisation and the order of batches.
    pub seed: u64,
    /// Share of the pairs that is not trained on, the last rows: half of it chooses the step, the other gives the estimate.
    pub held_out: f64,
}

impl CriticConfig {
    /// Settings to start from, with which a separable critic finds 2 nats between Gaussians of 10 dimensions to within 10 %.
    /// 10⁵ pairs are not too many: what a critic learns by heart from fewer, the estimate falls short by. A concatenated critic
    /// takes `batch` times the work; 64 pairs with a learning rate of 6e-3 do as well.
    pub fn new(critic: Critic, bound: Bound) -> Self {
        Self {
            critic,
            bound,
            width: None,
            hidden: 128,
            embed: 32,
            batch: 128,
            eval_batch: 1024,
            steps: 2000,
            lr: 2e-3,
            seed: 0,
            held_out: 0.25,
        }
    }

    /// Fails on settings that can't be meant.
    fn check(&self) -> Result<()> {
        let bad = |problem: &'static str| Err(ProbeError::Critic { problem });
        if self.width == Some(0) || self.hidden == 0 || self.embed == 0 {
            return bad("`width`, `hidden` and `embed` must be at least 1");
        }
        if self.batch < 2 || self.eval_batch < 2 || self.steps == 0 {
            return bad("`batch` and `eval_batch` must be at least 2, `steps` at least 1");
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return bad("`lr` must be positive");
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return bad("`held_out` must lie between 0 and 1");
        }
        match self.bound {
            Bound::Smile { clip } if !(clip > 0.0 && clip.is_finite()) => bad("`clip` must be positive"),
            _ => Ok(()),
        }
    }
}

/// An estimate of mutual information, on pairs that the critic was not trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MutualInformation {
    /// Mean over the batches of held-out pairs, in nats.
    pub nats: f64,
    /// Standard error of that mean: from batch to batch, as if rows were independent, and without what another training
    /// would change. `None` for one batch.
    pub standard_error: Option<f64>,
    /// The largest value that the bound can take (see [`Bound::cap`]), in nats.
    pub cap: Option<f64>,
    /// Steps after which the held-out objective was best; the estimate is that of the critic at that point.
    pub steps: usize,
    /// Pairs that the estimate was read off.
    pub pairs: usize,
}

/// How often in a training the held-out objective is looked at.
const CHECKS: usize = 20;

/// Elements of a hidden layer that are held at once where no gradient is wanted.
const CHUNK: usize = 1 << 24;

/// Estimates the mutual information of x and y, in nats.
///
/// The last `held_out` of the pairs are kept from training, in two halves: the first chooses among the critics of the
/// training (a critic of many dimensions learns its pairs by heart), the second gives the estimate. Rows are
/// split in the order given, so neighbours, such as tokens of one sequence, should be neighbours here, and rows sorted by
/// anything else should be shuffled first. Dimensions are standardised by mean and SD of the training part.
/// Batches hold disjoint random pairs; rows that do not fill a batch are left out. `progress` is told of every step.
///
/// On the CPU, the same input and settings give the same bits.
///
/// # Shapes
/// - `x`: `[pairs, d_x]`; `y`: `[pairs, d_y]`
///
/// # Errors
/// If the views differ in length, have no dimensions or are too short for the batches, a value is NaN or infinite, a
/// setting is out of range, or training diverges.
pub fn estimate(
    x: ArrayView2<'_, f32>,
    y: ArrayView2<'_, f32>,
    config: &CriticConfig,
    device: &Device,
    progress: impl FnMut(usize),
) -> Result<MutualInformation> {
    config.check()?;
    if x.nrows() != y.nrows() {
        return Err(ProbeError::Unpaired { x: x.nrows(), y: y.nrows() });
    }
    let split = Split::new(x.nrows(), config)?;
    let data = [("x", x), ("y", y)].map(|(view, values)| standardised(view, values, split.train, device));
    let [x, y] = data.into_iter().collect::<Result<Vec<_>>>()?.try_into().expect("two views");
    let pairs = Pairs { x, y };
    let (network, steps) = train(&pairs, &split, config, progress)?;

    let eval = |rows: &[i32]| {
        let (x, y) = pairs.select(rows);
        let scores = network.scores_in_chunks(x, y, CHUNK).into_data().try_into_vec::<f32>().expect("f32 scores");
        let scores = ArrayView2::from_shape((rows.len(), rows.len()), &scores).expect("all pairs");
        config.bound.estimate(scores)
    };
    let mut order: Vec<i32> = (split.test as i32..split.end as i32).collect();
    order.shuffle(&mut rng(config.seed, TEST));
    let estimates: Vec<f64> = order.chunks_exact(config.eval_batch).map(eval).collect();
    let n = estimates.len() as f64;
    let nats = estimates.iter().sum::<f64>() / n;
    if !nats.is_finite() {
        return Err(ProbeError::CriticDiverged { step: steps });
    }
    let squares: f64 = estimates.iter().map(|e| (e - nats).powi(2)).sum();
    Ok(MutualInformation {
        nats,
        standard_error: (estimates.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()),
        cap: config.bound.cap(config.eval_batch),
        steps,
        pairs: estimates.len() * config.eval_batch,
    })
}

// Streams of random numbers; the initialisation has stream 0.
const TRAIN: u64 = 1;
const TEST: u64 = 2;

fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Rows `0..train` are trained on, `train..test` choose the step, `test..end` give the estimate.
struct Split {
    train: usize,
    test: usize,
    end: usize,
}

impl Split {
    fn new(pairs: usize, config: &CriticConfig) -> Result<Self> {
        let held_out = (pairs as f64 * config.held_out).round() as usize;
        let train = pairs - held_out;
        let split = Self { train, test: train + held_out / 2, end: pairs };
        let short = train < config.batch
            || split.test - train < config.batch
            || split.end - split.test < config.eval_batch.max(config.batch);
        if short {
            // Half of what is held out must fill a batch of either kind.
            let half = config.batch.max(config.eval_batch) as f64;
            let needed = f64::max(2.0 * half / config.held_out, config.batch as f64 / (1.0 - config.held_out));
            return Err(ProbeError::TooFewPairs { pairs, needed: needed.ceil() as usize });
        }
        Ok(split)
    }
}

/// Both views on the device, `[pairs, d]` each.
struct Pairs {
    x: Tensor<2>,
    y: Tensor<2>,
}

impl Pairs {
    fn select(&self, rows: &[i32]) -> (Tensor<2>, Tensor<2>) {
        let index: Tensor<1, Int> = Tensor::from_data(rows, &self.x.device());
        (self.x.clone().select(0, index.clone()), self.y.clone().select(0, index))
    }
}

/// A view on the device, each dimension with mean 0 and SD 1 over the first `train` rows. Constant dimensions become 0.
fn standardised(view: &'static str, values: ArrayView2<'_, f32>, train: usize, device: &Device) -> Result<Tensor<2>> {
    if values.ncols() == 0 {
        return Err(ProbeError::Critic { problem: "both views need at least one dimension" });
    }
    if let Some(((row, column), _)) = values.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(ProbeError::PairNotFinite { view, row, column });
    }
    let mut out = values.to_owned();
    let n = train as f64;
    for (mut to, from) in out.columns_mut().into_iter().zip(values.columns()) {
        let part = from.slice(s![..train]);
        let mean = part.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let sd = (part.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
        let scale = if sd > 0.0 { 1.0 / sd } else { 0.0 };
        to.mapv_inplace(|v| ((f64::from(v) - mean) * scale) as f32);
    }
    let shape = [out.nrows(), out.ncols()];
    let values = out.as_standard_layout().iter().copied().collect();
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

/// Trains a critic. Returns it as it was when the held-out objective was best, and after how many steps that was.
fn train(
    pairs: &Pairs,
    split: &Split,
    config: &CriticConfig,
    mut progress: impl FnMut(usize),
) -> Result<(Network, usize)> {
    let device = pairs.x.device();
    let mut network = Network::new(config, pairs.x.dims()[1], pairs.y.dims()[1], &device);
    let objective = Objective::new(config.bound, config.batch, &device);
    let mut adam = Adam::new(&network.parameters);
    let mut rng = rng(config.seed, TRAIN);
    let mut order: Vec<i32> = (0..split.train as i32).collect();
    let mut at = order.len();
    let mut check: Vec<i32> = (split.train as i32..split.test as i32).collect();
    check.shuffle(&mut rng);
    let every = config.steps.div_ceil(CHECKS);
    let mut best: Option<(f64, Network, usize)> = None;
    for step in 0..config.steps {
        if at + config.batch > order.len() {
            order.shuffle(&mut rng);
            at = 0;
        }
        let (x, y) = pairs.select(&order[at..at + config.batch]);
        at += config.batch;
        let tracked: Vec<Tensor<2>> = network.parameters.iter().map(|p| p.clone().autodiff().require_grad()).collect();
        let loss = objective.of(network.with(tracked.clone()).scores(x, y)).neg();
        let gradients = loss.backward();
        let gradients = tracked.iter().map(|p| p.grad(&gradients).expect("the loss depends on every parameter"));
        let lr = config.lr * (1.0 - step as f64 / config.steps as f64);
        adam.step(&mut network.parameters, gradients, lr);

        let done = step + 1;
        if done % every == 0 || done == config.steps {
            let batches = check.chunks_exact(config.batch);
            let n = batches.len() as f64;
            let value = |rows: &[i32]| {
                let (x, y) = pairs.select(rows);
                f64::from(objective.of(network.scores_in_chunks(x, y, CHUNK)).into_scalar::<f32>())
            };
            let value = batches.map(value).sum::<f64>() / n;
            if !value.is_finite() {
                return Err(ProbeError::CriticDiverged { step: done });
            }
            if best.as_ref().is_none_or(|(best, ..)| value > *best) {
                best = Some((value, network.clone(), done));
            }
        }
        progress(1);
    }
    let (_, network, steps) = best.expect("the last step is looked at");
    Ok((network, steps))
}

/// Adam (Kingma and Ba 2015, arXiv:1412.6980) with β = (0.9, 0.999) and ε = 1e-8.
struct Adam {
    moments: Vec<(Tensor<2>, Tensor<2>)>,
    steps: i32,
}

impl Adam {
    fn new(parameters: &[Tensor<2>]) -> Self {
        Self { moments: parameters.iter().map(|p| (p.zeros_like(), p.zeros_like())).collect(), steps: 0 }
    }

    fn step(&mut self, parameters: &mut [Tensor<2>], gradients: impl Iterator<Item = Tensor<2>>, lr: f64) {
        const BETA: (f64, f64) = (0.9, 0.999);
        self.steps += 1;
        let correction = (1.0 - BETA.0.powi(self.steps), 1.0 - BETA.1.powi(self.steps));
        for ((p, (m, v)), g) in parameters.iter_mut().zip(&mut self.moments).zip(gradients) {
            *m = m.clone() * BETA.0 + g.clone() * (1.0 - BETA.0);
            *v = v.clone() * BETA.1 + g.square() * (1.0 - BETA.1);
            let scale = (v.clone() / correction.1).sqrt() + 1e-8;
            *p = p.clone() - m.clone() / scale * (lr / correction.0);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ndarray::Array2;
    use rand::Rng;

    use super::*;

    /// Standard normal numbers by Box and Muller.
    pub(in super::super) fn normal(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, cols), || {
            let (u, v): (f64, f64) = (rng.random(), rng.random());
            ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        })
    }

    /// Pairs with correlation ρ in each of `d` dimensions, of which I = −d/2·ln(1 − ρ²).
    fn gaussians(pairs: usize, d: usize, nats: f64, seed: u64) -> (Array2<f32>, Array2<f32>) {
        let rho = (1.0 - (-2.0 * nats / d as f64).exp()).sqrt() as f32;
        let (x, noise) = (normal(pairs, d, seed), normal(pairs, d, seed + 1));
        let y = &x * rho + noise * (1.0 - rho * rho).sqrt();
        (x, y)
    }

    fn on_cpu(x: &Array2<f32>, y: &Array2<f32>, config: &CriticConfig) -> Result<MutualInformation> {
        estimate(x.view(), y.view(), config, &Device::flex(), |_| ())
    }

    /// Smaller than the defaults, so that tests are quick.
    fn small(critic: Critic, bound: Bound) -> CriticConfig {
        let config = CriticConfig { eval_batch: 512, steps: 1500, ..CriticConfig::new(critic, bound) };
        match critic {
            Critic::Separable => config,
            Critic::Concatenated => CriticConfig { batch: 48, hidden: 64, steps: 1200, lr: 6e-3, ..config },
        }
    }

    fn finds_two_nats(critic: Critic, bound: Bound) {
        let (x, y) = gaussians(100_000, 10, 2.0, 7);
        let found = on_cpu(&x, &y, &small(critic, bound)).unwrap();
        println!("{critic:?}, {bound:?}: {found:?}");
        assert!((found.nats - 2.0).abs() < 0.2, "{critic:?}, {bound:?}: {found:?}");
        assert!(found.standard_error.unwrap() < 0.03, "{found:?}");
    }

    #[test]
    fn a_separable_critic_finds_two_nats_by_info_nce() {
        finds_two_nats(Critic::Separable, Bound::InfoNce);
    }

    #[test]
    fn a_separable_critic_finds_two_nats_by_smile() {
        finds_two_nats(Critic::Separable, Bound::SMILE);
    }

    #[test]
    fn a_concatenated_critic_finds_two_nats_by_info_nce() {
        finds_two_nats(Critic::Concatenated, Bound::InfoNce);
    }

    #[test]
    fn a_concatenated_critic_finds_two_nats_by_smile() {
        finds_two_nats(Critic::Concatenated, Bound::SMILE);
    }

    #[test]
    fn info_nce_saturates_at_its_cap() {
        let (x, y) = gaussians(6_000, 10, 12.0, 3);
        let config = CriticConfig {
            batch: 64,
            eval_batch: 16,
            steps: 600,
            lr: 3e-3,
            ..small(Critic::Separable, Bound::InfoNce)
        };
        let found = on_cpu(&x, &y, &config).unwrap();
        let cap = found.cap.unwrap();
        assert_eq!(cap, 16.0_f64.ln());
        assert!(found.nats <= cap && found.nats > 0.95 * cap, "{found:?}");
    }

    #[test]
    fn independent_views_have_no_information() {
        let (x, y) = gaussians(6_000, 10, 0.0, 5);
        for bound in [Bound::InfoNce, Bound::SMILE] {
            let found = on_cpu(&x, &y, &CriticConfig { steps: 200, ..small(Critic::Separable, bound) }).unwrap();
            assert!(found.nats.abs() < 0.05, "{bound:?}: {found:?}");
        }
    }

    #[test]
    fn one_seed_gives_one_result() {
        let (x, y) = gaussians(3_000, 6, 1.0, 5);
        for critic in [Critic::Separable, Critic::Concatenated] {
            let config = CriticConfig { steps: 40, width: Some(3), eval_batch: 128, ..small(critic, Bound::SMILE) };
            let found = on_cpu(&x, &y, &config).unwrap();
            assert_eq!(found, on_cpu(&x, &y, &config).unwrap());
            assert_ne!(found, on_cpu(&x, &y, &CriticConfig { seed: 1, ..config }).unwrap());
        }
    }

    /// Units and offsets of the input are of no account.
    #[test]
    fn views_are_standardised() {
        let (mut x, y) = gaussians(3_000, 6, 1.0, 5);
        let config = CriticConfig { steps: 40, eval_batch: 128, ..small(Critic::Separable, Bound::InfoNce) };
        let before = on_cpu(&x, &y, &config).unwrap();
        x.mapv_inplace(|v| v * 1024.0 + 64.0);
        let after = on_cpu(&x, &y, &config).unwrap();
        assert!((before.nats - after.nats).abs() < 1e-2, "{before:?}, {after:?}");
    }

    #[test]
    fn what_cannot_be_estimated_is_refused() {
        let config = small(Critic::Separable, Bound::InfoNce);
        let refused = |x: &Array2<f32>, y: &Array2<f32>, config: &CriticConfig, part: &str| {
            let message = on_cpu(x, y, config).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        let (mut x, y) = gaussians(4096, 3, 1.0, 5);
        assert!(on_cpu(&x, &y, &CriticConfig { steps: 2, ..config }).is_ok(), "just enough");
        let (short, of_it) = gaussians(4000, 3, 1.0, 5);
        refused(&short, &of_it, &config, "4000 pairs are too few, at least 4096 are needed");
        refused(&short, &y, &config, "x has 4000 rows and y 4096");
        for bad in [
            CriticConfig { width: Some(0), ..config },
            CriticConfig { batch: 1, ..config },
            CriticConfig { lr: f64::NAN, ..config },
            CriticConfig { held_out: 1.0, ..config },
            CriticConfig { bound: Bound::Smile { clip: 0.0 }, ..config },
        ] {
            refused(&x, &y, &bad, "must");
        }
        x[[4000, 2]] = f32::INFINITY;
        refused(&x, &y, &config, "x is not finite at row 4000, column 2");
        refused(&y, &x, &config, "y is not finite");
    }

    #[test]
    fn a_constant_dimension_does_no_harm() {
        let (mut x, y) = gaussians(4096, 3, 1.0, 5);
        x.column_mut(1).fill(7.0);
        let config = CriticConfig { steps: 5, ..small(Critic::Concatenated, Bound::SMILE) };
        assert!(on_cpu(&x, &y, &config).unwrap().nats.is_finite());
    }
}
