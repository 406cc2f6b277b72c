//! A batch at one site, and what each SAE there makes of it.

use assay_models::decoder::Cut;
use assay_models::side_by_side;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::batch::{Batch, Pass};
use super::{Evaluation, Observed, Subject};
use crate::error::{ProbeError, Result, check_finite};
use crate::metrics::{FromMean, Subset, Sums, drawn_sums, norm_squared, token_sums};
use crate::profile::{NormBin, NormBins};
use crate::readback::host;
use crate::saebench::CoreSums;
use crate::survey::Surveyed;

/// A batch at one site, and what all SAEs there share.
pub(super) struct AtSite<'a, 's> {
    batch: &'a Batch<'a, 's>,
    pass: &'a Pass,
    known: &'a Surveyed,
    cut: &'a Cut,
    a: Vec<f32>,
    gradient: Vec<f32>,
    /// The same for each draw of labels.
    drawn_gradients: Vec<Vec<f32>>,
    /// Of each subset and token of the batch.
    from_mean: [Vec<FromMean>; 3],
    ce_zero: Vec<f32>,
    ce_mean: Vec<f32>,
    /// KL divergence of zero ablation, where it is asked for.
    kl_zero: Option<Vec<f32>>,
}

/// What is seen of a subject in a batch, by token, or by position that has a next token.
pub(super) struct Seen {
    recon: Vec<f32>,
    ce_recon: Vec<f32>,
    kl: Vec<f32>,
    likeliest: Vec<i32>,
    l0: Vec<f64>,
    l1: Vec<f64>,
}

impl<'a, 's> AtSite<'a, 's> {
    /// That of the pass's cut of a number.
    pub fn new(batch: &'a Batch<'a, 's>, pass: &'a Pass, number: usize, cut: &'a Cut) -> Result<Self> {
        let model = batch.survey.model();
        let known = batch.survey.at(cut.site())?;
        let value = cut.value();
        let shape = value.dims();
        let mean: Vec<f32> = known.subsets.mean(Subset::All).iter().map(|&m| m as f32).collect();
        let mean: Tensor<1> = Tensor::from_data(mean.as_slice(), model.device());
        let ablations = vec![value.zeros_like(), mean.unsqueeze::<3>().expand(shape)];
        let mut ablated = side_by_side(model.device(), ablations, |value| Ok::<_, ProbeError>(batch.said(cut, value)))?;
        let (mean, zero) = (ablated.remove(1), ablated.remove(0));
        let (ce_zero, ce_mean) = (zero.losses(), mean.losses());
        batch.check("the zero-ablated loss", &ce_zero)?;
        batch.check("the mean-ablated loss", &ce_mean)?;
        let kl_zero = batch.config.kl_zero.then(|| pass.said.divergence(&zero));
        batch.check("the zero-ablated KL divergence", kl_zero.as_deref().unwrap_or(&[]))?;
        let gradient = |what, of_cuts: &[Tensor<3>]| -> Result<Vec<f32>> {
            let gradient = host(of_cuts[number].clone());
            check_finite(what, &gradient, shape[2], batch.start, shape[1])?;
            Ok(gradient)
        };
        let drawn = pass.drawn_gradients.iter().map(|of_cuts| gradient("the gradient for drawn labels", of_cuts));
        let drawn_gradients = drawn.collect::<Result<_>>()?;
        let gradient = gradient("the gradient", &pass.gradients)?;
        let a = host(value);
        let from_mean = Subset::ALL.map(|subset| {
            let of_token = |a: &[f32]| known.subsets.from_mean(subset, a, &known.directions);
            a.par_chunks(shape[2]).map(of_token).collect()
        });
        Ok(Self { batch, pass, known, cut, a, gradient, drawn_gradients, from_mean, ce_zero, ce_mean, kl_zero })
    }

    /// What the subject makes of `read`, the activations where it reads, `[sequences, context, d_in]`, and what the model says then. The part
    /// of an evaluation that waits for the device; what it gives is for [`Self::count`].
    pub fn look(&self, subject: &mut Subject<'_>, read: Tensor<3>, found: &mut Evaluation) -> Result<Seen> {
        let Self { batch: &Batch { start, tokens, .. }, pass, cut, .. } = *self;
        let [batch, context, d_model] = cut.value().dims();
        let (recon, code) = subject.codec.reconstruct(read.flatten(0, 1));
        // Before the reconstruction is read: the device works on while the host looks at it.
        let said = self.batch.said(cut, recon.clone().reshape([batch, context, d_model]));
        let recon = host(recon);
        check_finite("the reconstruction", &recon, d_model, start, context)?;
        let ce_recon = said.losses();
        self.batch.check("the patched loss", &ce_recon)?;
        let kl = pass.said.divergence(&said);
        self.batch.check("the KL divergence", &kl)?;
        let likeliest = said.likeliest();
        let observed =
            Observed { at: start..start + batch, tokens, activations: &self.a, reconstructions: &recon, code: &code };
        for observer in &mut subject.observers {
            observer.batch(&observed).map_err(ProbeError::Observer)?;
        }

        let (mut l0, mut l1) = (vec![0.0; batch * context], vec![0.0; batch * context]);
        // The sequence in which each latent was seen last.
        let mut seen = vec![usize::MAX; subject.codec.d_sae()];
        code.for_each_active(|token, latent, value| {
            l0[token] += 1.0;
            l1[token] += f64::from(value.abs());
            found.firing.fires[latent] += 1;
            let before = std::mem::replace(&mut seen[latent], token / context);
            found.firing.sequences[latent] += u64::from(before != token / context);
        });
        found.firing.tokens += (batch * context) as u64;
        Ok(Seen { recon, ce_recon, kl, likeliest, l0, l1 })
    }

    /// Adds up what was seen of a subject.
    pub fn count(&self, seen: &Seen, found: &mut Evaluation) {
        let Self { batch: &Batch { start, .. }, pass, known, cut, .. } = *self;
        let Surveyed { subsets, directions, bins, .. } = known;
        let [batch, context, d_model] = cut.value().dims();
        let Seen { recon, ce_recon, kl, likeliest, l0, l1 } = seen;
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
            sums.ce_orig = f64::from(pass.ce_orig[scored]);
            sums.ce_recon = f64::from(ce_recon[scored]);
            sums.ce_zero = f64::from(self.ce_zero[scored]);
            sums.ce_mean = f64::from(self.ce_mean[scored]);
            sums.kl = f64::from(kl[scored]);
            sums.top1_agreement = f64::from(pass.likeliest[scored] == likeliest[scored]);
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
                let at = row * context + position;
                let number = start * context + at;
                joint.iter_mut().zip(drawn).for_each(|(joint, g)| *joint += g);
                for subset in Subset::ALL.into_iter().filter(|&s| subsets.contains(s, number)) {
                    sums[subset.index()] += &self.from_mean[subset.index()][at].complete(of_token);
                }
                let of_token = self.from_mean[Subset::All.index()][at].complete(of_token);
                let norm = subsets.norms()[number];
                by_norm[bins.of(norm)].add(norm, &of_token);
                let scored = (position + 1 < context).then_some(row * (context - 1) + position);
                let kl_zero = self.kl_zero.as_ref().zip(scored).map(|(kl, scored)| f64::from(kl[scored]));
                core += &CoreSums::of_token(&of_token, l1[at], kl_zero);
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
    }
}

/// gᵀδ with δ = â − a.
fn directional(gradient: &[f32], a: &[f32], recon: &[f32]) -> f64 {
    gradient.iter().zip(a).zip(recon).map(|((&g, &a), &r)| f64::from(g) * (f64::from(r) - f64::from(a))).sum()
}
