//! Training of one SAE: the closed-form step.
//!
//! Several SAEs train in lockstep by taking steps in turn on batches of one stream; each holds all
//! of its own state, so company changes no bit of it.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::activation::Activation;
use crate::coder::Sae;
use crate::config::{DecoderBias, DecoderNorm, InputScaling, Loss, TrainConfig};
use crate::error::Result;
use crate::kernels::{self, AdamStep, Counters, Dead, Encoder, SparseGradient};

/// The four parameters of an SAE, or anything that exists once for each.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`
    pub b_enc: Tensor<1>,
    /// `[d_sae, d_model]`
    pub w_dec: Tensor<2>,
    /// `[d_model]`
    pub b_dec: Tensor<1>,
}

impl Params {
    fn zeros(config: &TrainConfig, device: &Device) -> Self {
        let TrainConfig { d_model, d_sae, .. } = *config;
        Self {
            w_enc: Tensor::zeros([d_sae, d_model], device),
            b_enc: Tensor::zeros([d_sae], device),
            w_dec: Tensor::zeros([d_sae, d_model], device),
            b_dec: Tensor::zeros([d_model], device),
        }
    }
}

/// The gradients of a step, and sums of the squares of all but b_dec's.
struct Gradients {
    gradients: Params,
    squares: Tensor<1>,
}

/// Steps between two looks at which latents are dead.
const LOOK_EVERY: u64 = 64;

/// What the squared error is multiplied by: 1/batch, or 1 over the batch's variance, which is on the device.
#[derive(Clone, Debug)]
enum Weight {
    Known(f32),
    Computed(Box<Tensor<1>>),
}

impl Weight {
    /// `x · weight · factor`
    fn scale(&self, x: Tensor<2>, factor: f64) -> Tensor<2> {
        match self {
            Self::Known(weight) => x.mul_scalar(f64::from(*weight) * factor),
            Self::Computed(weight) => x * weight.as_ref().clone().mul_scalar(factor).unsqueeze(),
        }
    }

    /// `x · weight`
    fn times(&self, x: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Known(weight) => x.mul_scalar(*weight),
            Self::Computed(weight) => x * weight.as_ref().clone(),
        }
    }

    fn value(&self) -> f32 {
        match self {
            Self::Known(weight) => *weight,
            Self::Computed(weight) => weight.as_ref().clone().into_scalar::<f32>(),
        }
    }
}

/// The losses of a step, still on the device: reading one waits for the step.
#[derive(Clone, Debug)]
pub struct StepLoss {
    squares: Tensor<1>,
    weight: Weight,
    auxiliary: Option<Tensor<1>>,
    watched: Option<Watched>,
}

/// What only a watched step counts.
#[derive(Clone, Debug)]
struct Watched {
    /// Σ‖x − x̄‖² over the batch.
    centred: Tensor<1>,
    /// Active entries of the batch's codes.
    active: Tensor<1>,
    /// Tokens of the batch.
    batch: usize,
}

impl StepLoss {
    /// The reconstruction loss: Σ over d_model of the squared error, mean over tokens, or its share of the variance.
    pub fn reconstruction(&self) -> f64 {
        f64::from(total(&self.squares) as f32 * self.weight.value())
    }

    /// The fraction of variance unexplained: the batch's squared error over its variance about its mean, Σ‖x̂ − x‖² / Σ‖x − x̄‖².
    /// `None` if the step was not watched, or the variance is 0.
    pub fn fvu(&self) -> Option<f64> {
        let variance = total(&self.watched.as_ref()?.centred);
        (variance > 0.0).then(|| total(&self.squares) / variance)
    }

    /// Active latents per token, mean over the batch. `None` if the step was not watched.
    pub fn l0(&self) -> Option<f64> {
        self.watched.as_ref().map(|w| total(&w.active) / w.batch as f64)
    }

    /// The auxiliary loss times its coefficient; 0 where it is off or no latent is dead.
    pub fn auxiliary(&self) -> f64 {
        self.auxiliary.as_ref().map_or(0.0, |x| f64::from(x.clone().into_scalar::<f32>()))
    }
}

/// An SAE in training.
pub struct Trainer {
    pub(crate) config: TrainConfig,
    pub(crate) params: Params,
    pub(crate) first: Params,
    pub(crate) second: Params,
    /// Tokens since each latent was active.
    pub(crate) since_fired: Tensor<1, Int>,
    /// No latent has been silent for longer, in tokens: known without asking the device.
    pub(crate) longest_silence: u64,
    /// Tokens on which each latent was active, in all.
    pub(crate) fires: Tensor<1, Int>,
    /// Steps done.
    pub(crate) step: u64,
    /// Factor on the inputs.
    pub(crate) input_scale: f64,
}

impl Trainer {
    /// An untrained SAE: decoder rows random directions of `decoder_init_norm`, encoder its transpose, biases 0.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn new(config: TrainConfig, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let TrainConfig { d_model, d_sae, decoder_init_norm, .. } = config;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = vec![0.0_f32; d_sae * d_model];
        for row in rows.chunks_mut(d_model) {
            for v in row.iter_mut() {
                *v = StandardNormal.sample(&mut rng);
            }
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            for v in row {
                *v = (f64::from(*v) * decoder_init_norm / norm) as f32;
            }
        }
        let matrix = || Tensor::from_data(TensorData::new(rows.clone(), [d_sae, d_model]), device);
        let params = Params { w_enc: matrix(), w_dec: matrix(), ..Params::zeros(&config, device) };
        Ok(Self::with_params(config, params, device))
    }

    /// A trainer that starts from given weights.
    ///
    /// # Shapes
    /// - `w_enc`, `w_dec`: `[d_sae, d_model]`; `b_enc`: `[d_sae]`; `b_dec`: `[d_model]`
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn from_weights(
        config: TrainConfig,
        [w_enc, w_dec]: [Tensor<2>; 2],
        [b_enc, b_dec]: [Tensor<1>; 2],
    ) -> Result<Self> {
        config.check()?;
        let device = w_dec.device();
        Ok(Self::with_params(config, Params { w_enc, b_enc, w_dec, b_dec }, &device))
    }

    pub(crate) fn with_params(config: TrainConfig, params: Params, device: &Device) -> Self {
        let zeros = || Tensor::from_data(vec![0_i32; config.d_sae].as_slice(), device);
        Self {
            first: Params::zeros(&config, device),
            second: Params::zeros(&config, device),
            since_fired: zeros(),
            longest_silence: 0,
            fires: zeros(),
            step: 0,
            input_scale: 1.0,
            params,
            config,
        }
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Sets what a recipe takes from the data: the input's scale and the decoder's bias, from some
    /// of the first activations. To be called once, before the first step.
    ///
    /// # Shapes
    /// - `sample`: `[tokens, d_model]`
    pub fn calibrate(&mut self, sample: &Tensor<2>) {
        let [tokens, d_model] = sample.dims();
        let needed = self.config.input_scaling != InputScaling::None || self.config.decoder_bias != DecoderBias::Zero;
        if !needed || tokens == 0 {
            return;
        }
        let values: Vec<f32> = host(sample.clone());
        let mut mean = vec![0.0_f64; d_model];
        let mut norms = 0.0;
        for row in values.chunks(d_model) {
            let mut square = 0.0;
            for (m, &v) in mean.iter_mut().zip(row) {
                *m += f64::from(v);
                square += f64::from(v) * f64::from(v);
            }
            norms += square.sqrt();
        }
        if self.config.input_scaling == InputScaling::ExpectedNorm && norms > 0.0 {
            self.input_scale = (d_model as f64).sqrt() * tokens as f64 / norms;
        }
        if self.config.decoder_bias == DecoderBias::Mean {
            let mean: Vec<f32> = mean.iter().map(|m| (m / tokens as f64 * self.input_scale) as f32).collect();
            self.params.b_dec = Tensor::from_data(mean.as_slice(), &sample.device());
        }
    }

    /// One step on a batch.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`
    pub fn step(&mut self, x: Tensor<2>) -> StepLoss {
        self.step_with(x, false)
    }

    /// The same step, of which [`StepLoss::fvu`] and [`StepLoss::l0`] are known too.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`
    pub fn step_watched(&mut self, x: Tensor<2>) -> StepLoss {
        self.step_with(x, true)
    }

    fn step_with(&mut self, x: Tensor<2>, watch: bool) -> StepLoss {
        let (loss, gradients) = self.gradients(x, watch);
        self.update(gradients);
        loss
    }

    /// Losses and gradients of the parameters as they are; counts dead latents.
    ///
    /// With r = x̂ − x, the main path gives dx̂ = 2r/batch; a value z_j > 0 has gradient dx̂·W_dec[j],
    /// which goes to W_enc[j] times the input and to b_enc[j]; W_dec[j] receives z_j·dx̂. The auxiliary
    /// path does the same for its own latents with dê = 2(ê − e)·coefficient·scale/batch, where ê
    /// reconstructs the detached error e = x − x̂ without b_dec. b_dec receives Σ_t dx̂ from the decoder and
    /// −Σ_j db_enc[j]·W_enc[j] through the encoder's input. Under `rescale_acts_by_decoder_norm` the norm
    /// multiplies before the selection and divides after it, so that only the selection sees it.
    fn gradients(&mut self, x: Tensor<2>, watch: bool) -> (StepLoss, Gradients) {
        let with_aux = self.config.aux_coefficient > 0.0 && self.some_may_be_dead();
        self.longest_silence = self.longest_silence.saturating_add(x.dims()[0] as u64);
        let config = &self.config;
        let p = &self.params;
        let batch = x.dims()[0] as f64;
        let x = if self.input_scale == 1.0 { x } else { x.mul_scalar(self.input_scale) };
        let input = if config.apply_b_dec_to_input { x.clone() - p.b_dec.clone().unsqueeze() } else { x.clone() };
        let encoder = Encoder {
            w_enc: p.w_enc.clone(),
            b_enc: p.b_enc.clone(),
            scale: config.rescale_acts_by_decoder_norm.then(|| kernels::row_norms(p.w_dec.clone())),
            precision: config.precision,
        };
        let weight = match config.loss {
            Loss::Mse => Weight::Known(1.0 / batch as f32),
            Loss::Fvu => Weight::Computed(Box::new(centred_squares(&x).clamp_min(1e-30).recip())),
        };

        let ((values, indices), dead) = if with_aux {
            let dead = Dead { since_fired: self.since_fired.clone(), after: self.dead_after(), k: config.k_aux() };
            let [chosen, dead] = kernels::encode_topk_and_dead(input.clone(), encoder, config.k, dead);
            (chosen, Some(dead))
        } else {
            (kernels::encode_topk(input.clone(), encoder, config.k), None)
        };
        let watched = watch.then(|| Watched {
            centred: centred_squares(&x),
            // Squares of ones: a count, in the order and width of the other sums.
            active: kernels::sum_squares(values.clone().greater_elem(0.0).float()),
            batch: x.dims()[0],
        });
        let rounded = config.gathers_bf16(x.dims()[0]);
        let gathered = |rows: Tensor<2>| if rounded { rows.cast(FloatDType::BF16) } else { rows };
        let rows = gathered(p.w_dec.clone());
        let (residual, squares) = kernels::residual(values.clone(), indices.clone(), rows.clone(), p.b_dec.clone(), x);
        let output_grad = weight.scale(residual.clone(), 2.0);
        let sparse_gradient = |values: Tensor<2>, indices: Tensor<2, Int>, output_grad: Tensor<2>| SparseGradient {
            value_grads: kernels::value_gradients(output_grad.clone(), values.clone(), indices.clone(), rows.clone()),
            values,
            indices,
            output_grad: gathered(output_grad),
        };

        let mut auxiliary = None;
        let aux = dead.map(|(values, indices)| {
            let n_dead = self.since_fired.clone().greater_elem(self.dead_after()).float().sum();
            // min(n_dead / k_aux, 1) scales the loss; it is 0 when nothing is dead, and so is the gradient.
            let factor =
                weight.times((n_dead / config.k_aux() as f64).clamp_max(1.0)).mul_scalar(config.aux_coefficient);
            let error = kernels::decode(values.clone(), indices.clone(), rows.clone()) + residual;
            auxiliary = Some(kernels::sum_squares(error.clone()) * factor.clone());
            sparse_gradient(values, indices, error * factor.mul_scalar(2.0).unsqueeze())
        });
        let mut b_dec = kernels::column_sums(output_grad.clone());
        let project = config.decoder_norm == DecoderNorm::Unit;
        let main = sparse_gradient(values, indices, output_grad);
        let counters = Counters { since_fired: take_int(&mut self.since_fired), fires: take_int(&mut self.fires) };
        let (to, counters) = kernels::latent_gradients(main, aux, gathered(input), p.w_dec.clone(), counters, project);
        if config.apply_b_dec_to_input {
            b_dec = b_dec - kernels::weighted_rows(to.b_enc.clone(), p.w_enc.clone());
        }
        Counters { since_fired: self.since_fired, fires: self.fires } = counters;
        let gradients = Params { w_enc: to.w_enc, b_enc: to.b_enc, w_dec: to.w_dec, b_dec };
        (StepLoss { squares, weight, auxiliary, watched }, Gradients { gradients, squares: to.squares })
    }

    /// Whether a latent may have been silent for longer than the window. Where none has, the auxiliary path adds nothing, and is left
    /// out. The counters themselves are looked at now and then only, since that waits for the device.
    fn some_may_be_dead(&mut self) -> bool {
        if self.longest_silence > self.config.dead_after && self.step.is_multiple_of(LOOK_EVERY) {
            self.look_at_silence();
        }
        self.longest_silence > self.config.dead_after
    }

    /// Asks the device how long the longest silence is.
    pub(crate) fn look_at_silence(&mut self) {
        let longest = host_int(self.since_fired.clone()).into_iter().max().unwrap_or(0);
        self.longest_silence = u64::try_from(longest).unwrap_or(0);
    }

    /// Clipping, Adam, renormalisation.
    fn update(&mut self, Gradients { gradients: grad, squares }: Gradients) {
        let config = &self.config;
        let clip = kernels::clip_factor(squares, grad.b_dec.clone(), config.clip_norm);
        let unit_rows = config.decoder_norm == DecoderNorm::Unit;
        let adam = AdamStep {
            lr: config.lr_at(self.step),
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            eps: config.adam_eps,
            step: self.step + 1,
        };
        let Params { w_enc, b_enc, w_dec, b_dec } = &mut self.params;
        let (m, v) = (&mut self.first, &mut self.second);
        adam_in_place(w_enc, grad.w_enc, &mut m.w_enc, &mut v.w_enc, &clip, adam, false);
        adam_in_place(b_enc, grad.b_enc, &mut m.b_enc, &mut v.b_enc, &clip, adam, false);
        adam_in_place(w_dec, grad.w_dec, &mut m.w_dec, &mut v.w_dec, &clip, adam, unit_rows);
        adam_in_place(b_dec, grad.b_dec, &mut m.b_dec, &mut v.b_dec, &clip, adam, false);
        self.step += 1;
    }

    /// Seconds of each part of a step, the median of `times` runs, each waited for: for benchmarks. The trainer does not change.
    #[doc(hidden)]
    pub fn profile(&self, x: &Tensor<2>, times: usize) -> Vec<(&'static str, f64)> {
        let (config, p, device) = (&self.config, &self.params, x.device());
        let input = x.clone() - p.b_dec.clone().unsqueeze();
        let encoder =
            Encoder { w_enc: p.w_enc.clone(), b_enc: p.b_enc.clone(), scale: None, precision: config.precision };
        let (values, indices) = kernels::encode_topk(input.clone(), encoder.clone(), config.k);
        let grad = || input.clone();
        let value_grads = kernels::value_gradients(grad(), values.clone(), indices.clone(), p.w_dec.clone());
        let term =
            SparseGradient { values: values.clone(), value_grads, indices: indices.clone(), output_grad: grad() };
        let clip: Tensor<1> = Tensor::ones([1], &device);
        let adam = AdamStep { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 1 };
        let dead = || Dead { since_fired: self.since_fired.clone(), after: i32::MAX, k: config.k_aux() };
        let time = |run: &mut dyn FnMut()| {
            let mut seconds: Vec<f64> = (0..times + 2)
                .map(|_| {
                    let started = std::time::Instant::now();
                    run();
                    device.sync().expect("the device works");
                    started.elapsed().as_secs_f64()
                })
                .skip(2)
                .collect();
            seconds.sort_by(f64::total_cmp);
            seconds[times / 2]
        };
        let adam_of = |unit_rows: bool| {
            let mut held = Some((p.w_dec.clone() * 1.0, (p.w_dec.clone() * 1.0, p.w_dec.clone().abs())));
            time(&mut || {
                let (param, moments) = held.take().expect("put back below");
                held = Some(kernels::adam(param, p.w_dec.clone(), moments, clip.clone(), adam, unit_rows));
            })
        };
        vec![
            ("waiting for nothing", time(&mut || {})),
            ("elementwise on the batch", time(&mut || drop(x.clone() - p.b_dec.clone().unsqueeze()))),
            ("encode and select", time(&mut || drop(kernels::encode_topk(input.clone(), encoder.clone(), config.k)))),
            (
                "the same with dead",
                time(&mut || drop(kernels::encode_topk_and_dead(input.clone(), encoder.clone(), config.k, dead()))),
            ),
            (
                "residual",
                time(&mut || {
                    let (b_dec, x) = (p.b_dec.clone(), x.clone());
                    drop(kernels::residual(values.clone(), indices.clone(), p.w_dec.clone(), b_dec, x));
                }),
            ),
            ("decode", time(&mut || drop(kernels::decode(values.clone(), indices.clone(), p.w_dec.clone())))),
            (
                "value gradients",
                time(&mut || {
                    drop(kernels::value_gradients(grad(), values.clone(), indices.clone(), p.w_dec.clone()));
                }),
            ),
            (
                "latent gradients",
                time(&mut || {
                    let counters = Counters { since_fired: self.since_fired.clone(), fires: self.fires.clone() };
                    drop(kernels::latent_gradients(term.clone(), None, input.clone(), p.w_dec.clone(), counters, true));
                }),
            ),
            ("weighted rows", time(&mut || drop(kernels::weighted_rows(p.b_enc.clone(), p.w_enc.clone())))),
            ("sum of squares of the batch", time(&mut || drop(kernels::sum_squares(input.clone())))),
            ("sum over the batch", time(&mut || drop(kernels::column_sums(input.clone())))),
            ("adam of a matrix", adam_of(false)),
            ("adam of unit rows", adam_of(true)),
        ]
    }

    /// The SAE as it is for inference: the input's scale and, where pre-activations are rescaled, the decoder's norms
    /// are folded into the weights. It encodes and decodes raw activations.
    pub fn sae(&self) -> Sae {
        let p = self.params.clone();
        let (mut w_enc, mut b_enc, mut w_dec, mut b_dec) = (p.w_enc, p.b_enc, p.w_dec, p.b_dec);
        if self.config.rescale_acts_by_decoder_norm {
            let norms = kernels::row_norms(w_dec.clone());
            w_enc = kernels::scale_rows(w_enc, norms.clone());
            b_enc = b_enc * norms.clone();
            w_dec = kernels::scale_rows(w_dec, norms.clamp_min(f32::MIN_POSITIVE).recip());
        }
        if self.input_scale != 1.0 {
            w_enc = w_enc.mul_scalar(self.input_scale);
            w_dec = w_dec.div_scalar(self.input_scale);
            b_dec = b_dec.div_scalar(self.input_scale);
        }
        let activation = Activation::TopK { k: self.config.k, by_decoder_norm: false };
        Sae::new([w_enc, w_dec], [b_enc, b_dec], activation, self.config.apply_b_dec_to_input)
    }

    /// The weights as they are in training, not folded: encoder and decoder, `[d_sae, d_model]` each.
    pub fn weights(&self) -> [Tensor<2>; 2] {
        [self.params.w_enc.clone(), self.params.w_dec.clone()]
    }

    /// The biases in training: `[d_sae]` and `[d_model]`.
    pub fn biases(&self) -> [Tensor<1>; 2] {
        [self.params.b_enc.clone(), self.params.b_dec.clone()]
    }

    /// Tokens on which each latent was active in training, `[d_sae]`.
    pub fn fires(&self) -> Vec<i32> {
        host_int(self.fires.clone())
    }

    /// Latents that have not been active for more than `dead_after` tokens.
    pub fn n_dead(&self) -> usize {
        let limit = self.dead_after();
        host_int(self.since_fired.clone()).into_iter().filter(|&s| s > limit).count()
    }

    /// The window in the width of the counters, which stop at `i32::MAX`: a longer window means never.
    fn dead_after(&self) -> i32 {
        i32::try_from(self.config.dead_after).unwrap_or(i32::MAX)
    }
}

/// Takes a tensor out of its place, so that an operation may write into its memory.
fn take<const D: usize>(place: &mut Tensor<D>) -> Tensor<D> {
    let empty = Tensor::empty([0; D], &place.device());
    std::mem::replace(place, empty)
}

fn take_int(place: &mut Tensor<1, Int>) -> Tensor<1, Int> {
    let empty = Tensor::empty([0], &place.device());
    std::mem::replace(place, empty)
}

fn adam_in_place<const D: usize>(
    param: &mut Tensor<D>,
    grad: Tensor<D>,
    first: &mut Tensor<D>,
    second: &mut Tensor<D>,
    clip: &Tensor<1>,
    step: AdamStep,
    unit_rows: bool,
) {
    let moments = (take(first), take(second));
    (*param, (*first, *second)) = kernels::adam(take(param), grad, moments, clip.clone(), step, unit_rows);
}

/// Σ‖x − x̄‖² of a batch about its mean x̄: what a fraction of variance is a fraction of.
fn centred_squares(x: &Tensor<2>) -> Tensor<1> {
    kernels::sum_squares(x.clone() - x.clone().mean_dim(0))
}

/// The sum of a tensor's values; reading it waits for the device.
fn total(parts: &Tensor<1>) -> f64 {
    host(parts.clone()).into_iter().map(f64::from).sum()
}

/// The values of a float tensor.
pub(crate) fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().expect("SAE tensors are f32")
}

/// The values of an int tensor.
pub(crate) fn host_int<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32")
}
