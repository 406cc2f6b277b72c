//! Training of one SAE: forward, loss, backward, Adam.
//!
//! Several SAEs train in lockstep by taking steps in turn on batches of one stream; each holds all
//! of its own state, so company changes no bit of it.

use burn::tensor::{Device, Tensor, TensorData};

use crate::average::Average;
use crate::coder::{self, Batch, Gradients, Params, Pass};
use crate::config::{DecoderBias, DecoderNorm, InputScaling, Task, TrainConfig};
use crate::dead::Firing;
use crate::error::{Result, SaeError};
use crate::initial::Initial;
use crate::kernels::{self, AdamStep};
use crate::loss::{StepLoss, Term, TermKind, Watched, Weight, centred_squares, total};
use crate::moments::Moments;
use crate::objective::{Descent, Divergence, Reconstruction};
use crate::running::RunningThreshold;
use crate::skip::Skip;
use crate::steering::Steering;

/// An SAE in training.
pub struct Trainer {
    pub(crate) config: TrainConfig,
    pub(crate) params: Params,
    pub(crate) first: Params,
    pub(crate) second: Params,
    pub(crate) firing: Firing,
    /// Steps done.
    pub(crate) step: u64,
    /// How many entries the codes of the last batch had, where that guides the next: see [`Batch`].
    pub(crate) entries_before: Option<[usize; 2]>,
    /// Factor on the inputs.
    pub(crate) input_scale: f64,
    /// For the classes whose threshold in inference that is.
    pub(crate) threshold: RunningThreshold,
    /// Of the sparsity penalty's coefficient, where a target is set.
    pub(crate) steering: Option<Steering>,
    /// Of a skip transcoder.
    pub(crate) skip: Option<Skip>,
    /// Of the weights, where the SAE is given it.
    pub(crate) average: Option<Average>,
}

/// A batch on its way through the SAE as it is: what [`Trainer::step_on`] needs. The weights can't be changed in place as long as it lives.
pub struct Forward {
    pass: Box<dyn Pass>,
    /// Times the input's scale, `[batch, d_model]`.
    x: Tensor<2>,
    /// What is to be reconstructed, in the same units.
    target: Tensor<2>,
    /// What a skip transcoder's map makes of x.
    skipped: Option<Tensor<2>>,
    input_scale: f64,
}

impl Forward {
    /// x̂ in the units of the input, `[batch, d_model]`.
    pub fn reconstruction(&self) -> Tensor<2> {
        let mut reconstruction = self.pass.reconstruction();
        if let Some(skipped) = &self.skipped {
            reconstruction = reconstruction + skipped.clone();
        }
        if self.input_scale == 1.0 { reconstruction } else { reconstruction.div_scalar(self.input_scale) }
    }

    /// The same with the activations that a transcoder is to predict, instead of those that it reads.
    ///
    /// # Shapes
    /// - `target`: `[batch, d_model]`
    #[must_use]
    pub fn towards(self, target: Tensor<2>) -> Self {
        Self { target, ..self }
    }
}

impl Trainer {
    /// An untrained SAE with the weights that [`Initial::draw`] gives its seed.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn new(config: TrainConfig, seed: u64, device: &Device) -> Result<Self> {
        let initial = Initial::draw(&config, seed)?;
        Ok(Self::begin([config], initial, device).remove(0))
    }

    /// Untrained SAEs with weights that were drawn before, for all of these settings ([`Initial::is_same`]): they reach the device once.
    pub fn begin(configs: impl IntoIterator<Item = TrainConfig>, initial: Initial, device: &Device) -> Vec<Self> {
        let Initial { w_dec, w_enc, shape } = initial;
        let matrix = |rows: Vec<f32>| Tensor::<2>::from_data(TensorData::new(rows, shape), device);
        let w_dec = matrix(w_dec);
        let w_enc = w_enc.map_or_else(|| w_dec.clone(), matrix);
        // Copies: what is one SAE's is written in place, by a stream of its own.
        let copied = |matrix: &Tensor<2>| matrix.clone().mul_scalar(1.0);
        let untrained = |config: TrainConfig| {
            let params = Params {
                w_enc: copied(&w_enc),
                w_dec: copied(&w_dec),
                vectors: initial_vectors(&config, device),
                ..Params::zeros(&config, device)
            };
            Self::with_params(config, params, device)
        };
        configs.into_iter().map(untrained).collect()
    }

    /// A trainer that starts from given weights; the vectors that a class has beside them start as they always do.
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
        let vectors = initial_vectors(&config, &device);
        Ok(Self::with_params(config, Params { w_enc, b_enc, w_dec, b_dec, vectors }, &device))
    }

    /// The same trainer with other values of a vector `[d_sae]` that its class has: `threshold` of a JumpReLU SAE, `r_mag` or `b_mag` of a
    /// gated one.
    ///
    /// # Errors
    /// If the class has no such vector, or it is not as long.
    pub fn with_vector(mut self, name: &str, values: Tensor<1>) -> Result<Self> {
        let named = self.config.architecture.coder().vectors();
        let at = named.iter().position(|(known, _)| *known == name).filter(|_| values.dims() == [self.config.d_sae]);
        let at = at.ok_or_else(|| {
            let architecture = &self.config.architecture;
            SaeError::Setting(format!("{architecture} has no vector `{name}` of length {}", values.dims()[0]))
        })?;
        self.params.vectors[at] = values;
        Ok(self)
    }

    pub(crate) fn with_params(config: TrainConfig, params: Params, device: &Device) -> Self {
        let skip = (config.task == Task::SkipTranscoder).then(|| Skip::new(config.d_model, device));
        Self {
            first: Params::zeros(&config, device),
            second: Params::zeros(&config, device),
            firing: Firing::new(config.d_sae, device),
            step: 0,
            entries_before: None,
            input_scale: 1.0,
            threshold: RunningThreshold::default(),
            steering: config
                .architecture
                .coefficient()
                .and_then(|of| Some(Steering::new(of.target_l0?, of.gain, config.steps))),
            average: (config.ema_decay > 0.0)
                .then(|| Average::new(&config, skip.as_ref().map(|skip| &skip.weights), device)),
            skip,
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

    /// Whether the recipe takes anything from the data before the first step.
    pub fn wants_moments(&self) -> bool {
        self.config.input_scaling != InputScaling::None || self.config.decoder_bias != DecoderBias::Zero
    }

    /// Sets what a recipe takes from the data: the input's scale and the decoder's bias, from some
    /// of the first activations. To be called once, before the first step.
    ///
    /// # Shapes
    /// - `sample`: `[tokens, d_model]`; of a transcoder, those that it is to predict
    pub fn calibrate(&mut self, sample: &Tensor<2>) {
        if self.wants_moments() {
            self.calibrate_by(&Moments::of(sample));
        }
    }

    /// The same by what was summed up of the activations before, where several SAEs learn from them.
    pub fn calibrate_by(&mut self, moments: &Moments) {
        let &Moments { tokens, ref sum, norms } = moments;
        if tokens == 0 {
            return;
        }
        if self.config.input_scaling == InputScaling::ExpectedNorm && norms > 0.0 {
            self.input_scale = (sum.len() as f64).sqrt() * tokens as f64 / norms;
        }
        if self.config.decoder_bias == DecoderBias::Mean {
            let mean: Vec<f32> = sum.iter().map(|m| (m / tokens as f64 * self.input_scale) as f32).collect();
            self.params.b_dec = Tensor::from_data(mean.as_slice(), &self.params.w_dec.device());
        }
    }

    /// One step on a batch, down the gradient of the reconstruction loss and the class's terms. A step that is to ask a model
    /// ([`TrainConfig::asks_model`]) goes through [`Self::forward`] and [`Self::step_patched`] instead.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`
    pub fn step(&mut self, x: Tensor<2>) -> StepLoss {
        let forward = self.encode(x, self.entries_before);
        self.learn(forward, Descent::Reconstruction, false)
    }

    /// The same step, of which [`StepLoss::fvu`] and [`StepLoss::l0`] are known too.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`
    pub fn step_watched(&mut self, x: Tensor<2>) -> StepLoss {
        let forward = self.encode(x, self.entries_before);
        self.learn(forward, Descent::Reconstruction, true)
    }

    /// A transcoder's step: as [`Self::step`], where what is read is not what is reconstructed.
    ///
    /// # Shapes
    /// - `x`, `target`: `[batch, d_model]`
    pub fn step_towards(&mut self, x: Tensor<2>, target: Tensor<2>) -> StepLoss {
        let forward = self.encode(x, self.entries_before).towards(target);
        self.learn(forward, Descent::Reconstruction, false)
    }

    /// The same step, of which [`StepLoss::fvu`] and [`StepLoss::l0`] are known too.
    ///
    /// # Shapes
    /// - `x`, `target`: `[batch, d_model]`
    pub fn step_towards_watched(&mut self, x: Tensor<2>, target: Tensor<2>) -> StepLoss {
        let forward = self.encode(x, self.entries_before).towards(target);
        self.learn(forward, Descent::Reconstruction, true)
    }

    /// Encodes and decodes a batch, for an objective that is computed elsewhere: [`Self::step_patched`] takes what a model says of it,
    /// [`Self::step_on`] the gradient of any other.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`
    pub fn forward(&mut self, x: Tensor<2>) -> Forward {
        // What is made of the reconstruction can't be made again if it was a guess.
        self.encode(x, None)
    }

    fn encode(&mut self, x: Tensor<2>, entries_before: Option<[usize; 2]>) -> Forward {
        let dead = self.firing.dead(&self.config, self.step);
        let x = if self.input_scale == 1.0 { x } else { x.mul_scalar(self.input_scale) };
        let coder = self.config.architecture.coder();
        coder.project(&mut self.params);
        let pass = coder.forward(&self.config, &self.params, Batch { x: x.clone(), dead, entries_before });
        let skipped = self.skip.as_ref().map(|skip| skip.of(x.clone()));
        Forward { pass, target: x.clone(), x, skipped, input_scale: self.input_scale }
    }

    /// One step down the gradient of any objective, and of the auxiliary loss. The losses that it returns are those of the reconstruction
    /// all the same.
    ///
    /// # Shapes
    /// - `output_grad`: the objective's gradient with respect to [`Forward::reconstruction`], `[batch, d_model]`
    pub fn step_on(&mut self, forward: Forward, output_grad: Tensor<2>) -> StepLoss {
        self.learn(forward, Descent::Given(Box::new(output_grad)), false)
    }

    /// One step of an objective with a KL divergence in it: down its gradient and that of the class's terms. `watch` asks for what
    /// [`Self::step_watched`] tells.
    pub fn step_patched(&mut self, forward: Forward, divergence: Divergence, watch: bool) -> StepLoss {
        self.learn(forward, Descent::Divergence(Box::new(divergence)), watch)
    }

    /// A step down the gradient of x̂ that `descent` gives, and that of the class's terms.
    fn learn(
        &mut self,
        Forward { mut pass, x, target, skipped, input_scale }: Forward,
        descent: Descent,
        watch: bool,
    ) -> StepLoss {
        let batch = x.dims()[0];
        let weight = self.config.loss.weight(&target);
        let coefficient = self.coefficient().unwrap_or(0.0);
        let left = skipped.map_or(target.clone(), |skipped| target.clone() - skipped);
        let (residual, squares) = pass.residual(left);
        self.entries_before = pass.entries();
        let watched = watch.then(|| Watched { centred: centred_squares(&target), active: pass.active(), batch });
        let kl = descent.kl();
        let reconstruction = Reconstruction { residual: &residual, squares: &squares, weight: &weight };
        let output_grad = descent.output_grad(self.config.objective, reconstruction, input_scale);
        let terms = pass.terms(coder::Objective {
            config: &self.config,
            firing: &self.firing,
            coefficient,
            residual,
            weight: &weight,
        });
        self.steer(pass.as_ref(), &terms, &target, &weight);
        if let (Some(rate), Some(least)) = (self.config.architecture.coder().threshold_lr(), pass.least()) {
            self.threshold.add(rate, least);
        }
        let share = pass.share();
        let skip_grad = self.skip.as_ref().map(|_| Skip::gradient(output_grad.clone(), x));
        let (gradients, counters) = pass.backward(output_grad, self.firing.take(batch));
        self.firing.counters = counters;
        let clip = self.update(gradients, skip_grad);
        StepLoss { squares, weight, share, terms, watched, kl, clip }
    }

    /// Has the coefficient follow what a batch's latents are, once it is warmed up.
    fn steer(&mut self, pass: &dyn Pass, terms: &[Term], target: &Tensor<2>, weight: &Weight) {
        let is_warm = self.config.architecture.coefficient().is_some_and(|of| self.step >= of.warmup_steps);
        let Some(steering) = self.steering.as_mut().filter(|_| is_warm) else { return };
        if steering.see(pass.active(), target.dims()[0]) {
            let penalty = terms.iter().filter(|term| matches!(term.kind, TermKind::L0 | TermKind::L1));
            let penalty = penalty.map(Term::value).sum();
            steering.look(penalty, total(&weight.times(centred_squares(target))));
        }
    }

    /// Clipping, Adam, renormalisation; gives what the gradient was multiplied by.
    fn update(
        &mut self,
        Gradients { gradients: grad, mut squares }: Gradients,
        skip_grad: Option<Tensor<2>>,
    ) -> Tensor<1> {
        let config = &self.config;
        if config.frozen_decoder {
            let encoder = [kernels::sum_squares(grad.w_enc.clone()), kernels::sum_squares(grad.b_enc.clone())];
            squares = Tensor::cat(encoder.to_vec(), 0);
        }
        if let Some(grad) = &skip_grad {
            squares = Tensor::cat(vec![squares, kernels::sum_squares(grad.clone())], 0);
        }
        let vectors = match grad.vectors.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(Tensor::cat(several.to_vec(), 0)),
        };
        let clip = kernels::clip_factor(squares, grad.b_dec.clone(), vectors, config.clip_norm);
        let unit_rows = config.decoder_norm == DecoderNorm::Unit;
        let adam = AdamStep {
            lr: config.lr_at(self.step),
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            eps: config.adam_eps,
            step: self.step + 1,
        };
        let Params { w_enc, b_enc, w_dec, b_dec, vectors } = &mut self.params;
        let (m, v) = (&mut self.first, &mut self.second);
        adam_in_place(w_enc, grad.w_enc, &mut m.w_enc, &mut v.w_enc, &clip, adam, false);
        adam_in_place(b_enc, grad.b_enc, &mut m.b_enc, &mut v.b_enc, &clip, adam, false);
        if !config.frozen_decoder {
            adam_in_place(w_dec, grad.w_dec, &mut m.w_dec, &mut v.w_dec, &clip, adam, unit_rows);
        }
        adam_in_place(b_dec, grad.b_dec, &mut m.b_dec, &mut v.b_dec, &clip, adam, false);
        let moments = m.vectors.iter_mut().zip(&mut v.vectors);
        for ((vector, grad), (m, v)) in vectors.iter_mut().zip(grad.vectors).zip(moments) {
            adam_in_place(vector, grad, m, v, &clip, adam, false);
        }
        if let Some((skip, grad)) = self.skip.as_mut().zip(skip_grad) {
            adam_in_place(&mut skip.weights, grad, &mut skip.first, &mut skip.second, &clip, adam, false);
        }
        self.step += 1;
        if let Some(average) = &mut self.average {
            let skip = self.skip.as_ref().map(|skip| &skip.weights);
            average.add(self.config.ema_decay, self.step, &self.params, skip);
        }
        clip
    }
}

/// A class's vectors, before the first step.
fn initial_vectors(config: &TrainConfig, device: &Device) -> Vec<Tensor<1>> {
    let vectors = config.architecture.coder().vectors();
    vectors.into_iter().map(|(_, start)| Tensor::full([config.d_sae], start, device)).collect()
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
    // Out of their places, so that the kernel may write into their memory; the gradient stands there meanwhile, as an empty tensor would be
    // an allocation, of which a step of a small SAE had a dozen.
    let taken = |place: &mut Tensor<D>| std::mem::replace(place, grad.clone());
    let (old, moments) = (taken(param), (taken(first), taken(second)));
    (*param, (*first, *second)) = kernels::adam(old, grad, moments, clip.clone(), step, unit_rows);
}
