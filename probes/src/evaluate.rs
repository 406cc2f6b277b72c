//! Patching: the model is run on with something else in place of an activation, and what it then says is
//! compared with what it would have said.
//!
//! Several SAEs of one hook are evaluated in one sweep over the tokens: the unpatched pass, its gradient and the
//! ablations are shared.

use assay_models::hooks::HookPoint;
use assay_models::loss::{loss_gradient, sample_labels, scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, decoder::center_residual, side_by_side};
use assay_sae::{Code, Sae};
use burn::tensor::{Int, Tensor, TensorData};
use ndarray::{ArrayView2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::{ProbeError, Result, check_finite};
use crate::geometry::{Covariance, Spectrum};
use crate::metrics::{Directions, Subset, Subsets, Sums, drawn_sums, norm_squared, token_sums, total};
use crate::profile::{NormBin, NormBins};
use crate::rate::Firing;
use crate::saebench::CoreSums;

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct EvalConfig {
    /// Sequences of one forward pass.
    pub batch: usize,
    /// Subtract the mean over d_model from every activation at the hook.
    pub center_residual: bool,
    /// Draws of labels from the model's own output, for `fwd` and `kl_pred`, which are undefined without any. Each costs a pass
    /// forward and one back, shared by all SAEs of the hook.
    pub fisher_samples: usize,
    /// Seed of those draws. A sequence's draws depend on it and on the sequence's number, not on the batch.
    pub fisher_seed: u64,
    /// Also measure the KL divergence of zero ablation, for [`CoreSums::kl_zero`].
    pub kl_zero: bool,
}

/// Anything that takes activations apart and puts them together again.
pub trait Codec: Sync {
    /// Width of the activations.
    fn d_model(&self) -> usize;
    /// Number of latents.
    fn d_sae(&self) -> usize;
    /// The reconstruction of `x`, `[tokens, d_model]`, and the code that it comes from.
    fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, Code);
}

impl Codec for Sae {
    fn d_model(&self) -> usize {
        Self::d_model(self)
    }
    fn d_sae(&self) -> usize {
        Self::d_sae(self)
    }
    fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, Code) {
        Self::reconstruct(self, x)
    }
}

/// What an evaluation of one SAE found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Sums of each sequence, for each subset (see [`Subset::index`]).
    pub sequences: Vec<[Sums; 3]>,
    /// Firings over all tokens.
    pub firing: Firing,
    /// Spectrum of the activations at the hook; the same for every SAE of it.
    pub spectrum: Spectrum,
    /// Errors by ‖a‖, smallest first.
    pub by_norm: Vec<NormBin>,
    /// What SAEBench reports beside [`METRICS`](crate::METRICS), over all tokens.
    pub core: CoreSums,
}

impl Evaluation {
    /// The sums over all sequences.
    pub fn total(&self, subset: Subset) -> Sums {
        total(&self.sequences)[subset.index()]
    }
}

/// Evaluates SAEs at `hook` on `tokens`, `[S, T]`. `progress` is told how many sequences each batch had, and 0 when the activations are
/// captured and the batches begin, so that their pace can be measured.
///
/// # Errors
/// If the hook can't be patched, an SAE has another width than the model, a token is not in the
/// vocabulary, or an activation, reconstruction or loss is not finite.
pub fn evaluate(
    model: &Decoder,
    hook: HookPoint,
    tokens: ArrayView2<'_, u32>,
    saes: &[&dyn Codec],
    config: EvalConfig,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Evaluation>> {
    let d_model = model.config().d_model;
    for sae in saes {
        if sae.d_model() != d_model {
            return Err(ProbeError::WidthMismatch { d_in: sae.d_model(), d_model });
        }
    }
    let context = tokens.ncols();
    let batches: Vec<(usize, usize)> = (0..tokens.nrows())
        .step_by(config.batch.max(1))
        .map(|start| (start, (start + config.batch.max(1)).min(tokens.nrows())))
        .collect();

    // First pass: the activations themselves, whose mean and median norm the second needs.
    let mut activations: Vec<f32> = Vec::with_capacity(tokens.len() * d_model);
    let mut covariance = Covariance::new(d_model);
    for &(start, end) in &batches {
        let h = model.capture(tokens.slice(s![start..end, ..]), &[hook])?.remove(0);
        let h = if config.center_residual { center_residual(h) } else { h };
        let values = host(h);
        covariance.add(ArrayView2::from_shape((values.len() / d_model, d_model), &values).expect("whole rows"));
        activations.extend(values);
    }
    check_finite("the activation", &activations, d_model, 0, context)?;
    let (spectrum, directions) = covariance.eigen()?;
    let subsets = Subsets::new(&activations, d_model, context, &directions);
    let shared = Shared { model, hook, config, bins: NormBins::new(subsets.norms()), subsets, directions };

    let mut found: Vec<Evaluation> = saes
        .iter()
        .map(|sae| Evaluation {
            sequences: Vec::with_capacity(tokens.nrows()),
            firing: Firing { fires: vec![0; sae.d_sae()], sequences: vec![0; sae.d_sae()], tokens: 0 },
            spectrum: spectrum.clone(),
            by_norm: vec![NormBin::default(); NormBins::COUNT],
            core: CoreSums::default(),
        })
        .collect();
    progress(0);
    for &(start, end) in &batches {
        let part = tokens.slice(s![start..end, ..]);
        let a = &activations[start * context * d_model..end * context * d_model];
        let batch = Batch::new(&shared, part, a, start)?;
        // Much of a forward pass on the CPU runs on one thread. Each SAE works on its own.
        side_by_side(model.device(), saes.iter().zip(&mut found).collect(), |(sae, found)| {
            batch.evaluate(*sae, found)
        })?;
        progress(end - start);
    }
    Ok(found)
}

/// What all batches of an evaluation share.
struct Shared<'a> {
    model: &'a Decoder,
    hook: HookPoint,
    config: EvalConfig,
    subsets: Subsets,
    directions: Directions,
    bins: NormBins,
}

/// A batch of sequences and what all SAEs share about it.
struct Batch<'a> {
    shared: &'a Shared<'a>,
    tokens: ArrayView2<'a, u32>,
    /// First sequence of the batch.
    start: usize,
    a: &'a [f32],
    h: Tensor<3>,
    gradient: Vec<f32>,
    /// The same for each draw of labels.
    drawn_gradients: Vec<Vec<f32>>,
    log_probs: Tensor<3>,
    probs: Tensor<3>,
    argmax: Vec<i32>,
    ce_orig: Vec<f32>,
    ce_zero: Vec<f32>,
    ce_mean: Vec<f32>,
    /// KL divergence of zero ablation, where it is asked for.
    kl_zero: Option<Vec<f32>>,
}

impl<'a> Batch<'a> {
    fn new(shared: &'a Shared<'a>, tokens: ArrayView2<'a, u32>, a: &'a [f32], start: usize) -> Result<Self> {
        let Shared { model, hook, config, ref subsets, .. } = *shared;
        let (batch, context) = tokens.dim();
        let d_model = model.config().d_model;
        let device = model.device();
        let h: Tensor<3> = Tensor::from_data(TensorData::new(a.to_vec(), [batch, context, d_model]), device);
        let cross_entropy = |h: Tensor<3>| -> Result<(Tensor<3>, Vec<f32>)> {
            let log_probs = scored_log_probs(model.forward_from(hook, h)?);
            let ce = host(token_cross_entropy(log_probs.clone(), tokens, device));
            Ok((log_probs, ce))
        };
        let (log_probs, ce_orig) = cross_entropy(h.clone())?;
        check_finite("the loss", &ce_orig, 1, start, context - 1)?;
        let (zero_log_probs, ce_zero) = cross_entropy(h.zeros_like())?;
        let mean: Vec<f32> = subsets.mean(Subset::All).iter().map(|&m| m as f32).collect();
        let mean: Tensor<1> = Tensor::from_data(mean.as_slice(), device);
        let ce_mean = cross_entropy(mean.unsqueeze::<3>().expand([batch, context, d_model]))?.1;
        let gradient = host(loss_gradient(model, hook, h.clone(), tokens)?);
        for (what, values, width, scored) in [
            ("the zero-ablated loss", &ce_zero, 1, context - 1),
            ("the mean-ablated loss", &ce_mean, 1, context - 1),
            ("the gradient", &gradient, d_model, context),
        ] {
            check_finite(what, values, width, start, scored)?;
        }
        let probs = log_probs.clone().exp();
        let kl_zero = config.kl_zero.then(|| divergence(&probs, &log_probs, zero_log_probs));
        check_finite("the zero-ablated KL divergence", kl_zero.as_deref().unwrap_or(&[]), 1, start, context - 1)?;
        let mut draws: Vec<ChaCha8Rng> = (start..start + batch)
            .map(|sequence| {
                let mut rng = ChaCha8Rng::seed_from_u64(config.fisher_seed);
                rng.set_stream(sequence as u64);
                rng
            })
            .collect();
        let mut drawn_gradients = Vec::with_capacity(config.fisher_samples);
        for _ in 0..config.fisher_samples {
            let uniforms: Vec<f32> =
                draws.iter_mut().flat_map(|rng| (1..context).map(|_| rng.random()).collect::<Vec<f32>>()).collect();
            let labels = sample_labels(probs.clone(), &uniforms);
            let gradient = host(loss_gradient(model, hook, h.clone(), labels.view())?);
            check_finite("the gradient for drawn labels", &gradient, d_model, start, context)?;
            drawn_gradients.push(gradient);
        }
        let argmax = host_int(log_probs.clone().argmax(2));
        Ok(Self {
            shared,
            tokens,
            start,
            a,
            h,
            gradient,
            drawn_gradients,
            log_probs,
            probs,
            argmax,
            ce_orig,
            ce_zero,
            ce_mean,
            kl_zero,
        })
    }

    fn evaluate(&self, sae: &dyn Codec, found: &mut Evaluation) -> Result<()> {
        let Shared { model, hook, ref subsets, ref directions, ref bins, .. } = *self.shared;
        let [batch, context, d_model] = self.h.dims();
        let (recon, code) = sae.reconstruct(self.h.clone().reshape([batch * context, d_model]));
        let patched = recon.clone().reshape([batch, context, d_model]);
        let recon = host(recon);
        check_finite("the reconstruction", &recon, d_model, self.start, context)?;
        let log_probs = scored_log_probs(model.forward_from(hook, patched)?);
        let ce_recon = host(token_cross_entropy(log_probs.clone(), self.tokens, model.device()));
        check_finite("the patched loss", &ce_recon, 1, self.start, context - 1)?;
        let kl = divergence(&self.probs, &self.log_probs, log_probs.clone());
        check_finite("the KL divergence", &kl, 1, self.start, context - 1)?;
        let argmax = host_int(log_probs.argmax(2));

        let (mut l0, mut l1) = (vec![0.0; batch * context], vec![0.0; batch * context]);
        // The sequence in which each latent was seen last.
        let mut seen = vec![usize::MAX; sae.d_sae()];
        code.for_each_active(|token, latent, value| {
            l0[token] += 1.0;
            l1[token] += f64::from(value.abs());
            found.firing.fires[latent] += 1;
            let before = std::mem::replace(&mut seen[latent], token / context);
            found.firing.sequences[latent] += u64::from(before != token / context);
        });
        found.firing.tokens += (batch * context) as u64;

        // One token's sums, all but what depends on a subset's mean, and gᵀδ for each draw of labels.
        let token = |row: usize, position: usize| -> (Sums, Vec<f64>) {
            let token = row * context + position;
            let at = token * d_model..(token + 1) * d_model;
            let (a, r) = (&self.a[at.clone()], &recon[at.clone()]);
            let mut sums = token_sums(a, r, directions);
            sums.l0 = l0[token];
            if position + 1 == context {
                return (sums, Vec::new());
            }
            let scored = row * (context - 1) + position;
            let gdelta = directional(&self.gradient[at.clone()], a, r);
            let drawn: Vec<f64> = self.drawn_gradients.iter().map(|g| directional(&g[at.clone()], a, r)).collect();
            sums.scored = 1.0;
            sums.ce_orig = f64::from(self.ce_orig[scored]);
            sums.ce_recon = f64::from(ce_recon[scored]);
            sums.ce_zero = f64::from(self.ce_zero[scored]);
            sums.ce_mean = f64::from(self.ce_mean[scored]);
            sums.kl = f64::from(kl[scored]);
            sums.top1_agreement = f64::from(self.argmax[scored] == argmax[scored]);
            sums.swd = gdelta * gdelta;
            sums.abs_gdelta = gdelta.abs();
            sums.gdelta = gdelta;
            if !drawn.is_empty() {
                let norms = self.drawn_gradients.iter().map(|g| norm_squared(&g[at.clone()]));
                drawn_sums(&mut sums, &drawn.iter().copied().zip(norms).collect::<Vec<_>>());
            }
            (sums, drawn)
        };
        let sequence = |row: usize| -> ([Sums; 3], Vec<NormBin>, CoreSums) {
            let mut sums = [Sums::default(); 3];
            let mut core = CoreSums::default();
            let mut by_norm = vec![NormBin::default(); NormBins::COUNT];
            let mut joint = vec![0.0; self.drawn_gradients.len()];
            for position in 0..context {
                let (of_token, drawn) = token(row, position);
                let number = (self.start + row) * context + position;
                joint.iter_mut().zip(drawn).for_each(|(joint, g)| *joint += g);
                for subset in Subset::ALL.into_iter().filter(|&s| subsets.contains(s, number)) {
                    sums[subset.index()] += &subsets.centred(subset, number, of_token);
                }
                let of_token = subsets.centred(Subset::All, number, of_token);
                by_norm[bins.of(number)].add(subsets.norms()[number], &of_token);
                let scored = (position + 1 < context).then_some(row * (context - 1) + position);
                let kl_zero = self.kl_zero.as_ref().zip(scored).map(|(kl, scored)| f64::from(kl[scored]));
                core += &CoreSums::of_token(&of_token, l1[row * context + position], kl_zero);
            }
            if !joint.is_empty() {
                let whole = &mut sums[Subset::All.index()];
                whole.kl_pred = 0.5 * joint.iter().map(|g| g * g).sum::<f64>() / joint.len() as f64;
                whole.drawn_whole = whole.scored;
            }
            for sums in &mut sums {
                if sums.ce_orig > 0.0 {
                    sums.sequences = 1.0;
                    sums.ce_rec = 2.0 - sums.ce_recon / sums.ce_orig;
                }
            }
            (sums, by_norm, core)
        };
        let sequences: Vec<_> = (0..batch).into_par_iter().map(sequence).collect();
        for (sums, by_norm, core) in sequences {
            found.sequences.push(sums);
            found.core += &core;
            found.by_norm.iter_mut().zip(&by_norm).for_each(|(total, bin)| *total += bin);
        }
        Ok(())
    }
}

/// KL(p ‖ q) at every scored position, of p's probabilities and both logarithms, `[batch, T − 1, vocab]`.
fn divergence(probs: &Tensor<3>, log_probs: &Tensor<3>, other: Tensor<3>) -> Vec<f32> {
    host((probs.clone() * (log_probs.clone() - other)).sum_dim(2))
}

/// gᵀδ with δ = â − a.
fn directional(gradient: &[f32], a: &[f32], recon: &[f32]) -> f64 {
    gradient.iter().zip(a).zip(recon).map(|((&g, &a), &r)| f64::from(g) * (f64::from(r) - f64::from(a))).sum()
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().expect("activations are f32")
}

fn host_int<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32")
}
