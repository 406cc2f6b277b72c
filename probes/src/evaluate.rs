//! Patching: the model is run on with something else in place of an activation, and what it then says is
//! compared with what it would have said.
//!
//! SAEs at any sites of a model are evaluated in one pass over the tokens, after a [`Survey`] of them: each batch is run through the
//! model once; what it says unpatched and the passes that give gradients are shared by all, ablations by the SAEs of a site.

mod batch;
mod site;

use std::ops::{ControlFlow, Range};

use assay_models::memory::free;
use assay_models::{DecoderConfig, Site, runs_on_cpu};
use assay_sae::{Code, Sae};
use burn::tensor::Tensor;
use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::error::{ProbeError, Result, advance};
use crate::geometry::Spectrum;
use crate::metrics::{Subset, Sums, total};
use crate::profile::{NormBin, NormBins};
use crate::rate::Firing;
use crate::saebench::CoreSums;
use crate::survey::Survey;
use batch::{Batch, passes};
use site::AtSite;

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct EvalConfig {
    /// Draws of labels from the model's own output, for `fwd` and `kl_pred`, which are undefined without any. Each costs a pass
    /// back to the lowest site; on the CPU one forward and one back for every site.
    pub fisher_samples: usize,
    /// Seed of those draws. A sequence's draws depend on it and on the sequence's number, not on the batch.
    pub fisher_seed: u64,
    /// Also measure the KL divergence of zero ablation, for [`CoreSums::kl_zero`].
    pub kl_zero: bool,
}

/// Anything that takes activations apart and puts them together again, or of a transcoder, others in their place.
pub trait Codec: Sync {
    /// Width of the activations that it reads.
    fn d_in(&self) -> usize;
    /// Width of those that it reconstructs or predicts.
    fn d_out(&self) -> usize {
        self.d_in()
    }
    /// Number of latents.
    fn d_sae(&self) -> usize;
    /// What it makes of `x`, `[tokens, d_in]`: the reconstruction `[tokens, d_out]`, and the code that it comes from.
    fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, Code);
}

impl Codec for Sae {
    fn d_in(&self) -> usize {
        Self::d_in(self)
    }
    fn d_out(&self) -> usize {
        Self::d_out(self)
    }
    fn d_sae(&self) -> usize {
        Self::d_sae(self)
    }
    fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, Code) {
        Self::reconstruct(self, x)
    }
}

/// What an SAE makes of a batch of sequences.
pub struct Observed<'a> {
    /// The sequences' numbers.
    pub at: Range<usize>,
    /// `[sequences, context]`.
    pub tokens: ArrayView2<'a, u32>,
    /// Activations at the site where it is patched in, `[sequences · context, d_out]`, row-major.
    pub activations: &'a [f32],
    /// Their reconstructions, likewise; a transcoder's are predictions from activations at another site.
    pub reconstructions: &'a [f32],
    /// The code that those come from.
    pub code: &'a Code,
}

/// Looks on while an SAE is evaluated.
pub trait Observer: Send {
    /// Told of every batch, in the order of the sequences.
    ///
    /// # Errors
    /// If what it sees can't be kept; the evaluation ends with it ([`ProbeError::Observer`]).
    fn batch(&mut self, observed: &Observed<'_>) -> std::io::Result<()>;
}

/// An SAE or transcoder to evaluate.
///
/// All that is defined by activations is defined by those at the site where it is patched in, which it reconstructs or predicts: R² and the
/// other errors of reconstruction, the subsets of tokens, bins of ‖a‖, the spectrum, gradients, and both ablations.
pub struct Subject<'a> {
    /// Where it is patched in, one of the survey's sites.
    pub site: Site,
    /// Where it reads; of an SAE the same.
    pub reads: Site,
    /// The SAE.
    pub codec: &'a dyn Codec,
    /// Who looks on.
    pub observers: Vec<&'a mut dyn Observer>,
}

impl<'a> Subject<'a> {
    /// An SAE that nobody else looks at.
    pub fn new(site: impl Into<Site>, codec: &'a dyn Codec) -> Self {
        let site = site.into();
        Self { site, reads: site, codec, observers: Vec::new() }
    }

    /// A transcoder, which reads at another site.
    #[must_use]
    pub fn reading(self, reads: impl Into<Site>) -> Self {
        Self { reads: reads.into(), ..self }
    }

    /// Checks that it fits a model.
    ///
    /// # Errors
    /// If it has another width than the activations where it reads or is patched in, or reads what depends on what is patched.
    pub fn check(&self, config: &DecoderConfig) -> Result<()> {
        let Self { site, reads, codec, .. } = self;
        for (key, width, hook) in [("d_in", codec.d_in(), reads.hook), ("d_out", codec.d_out(), site.hook)] {
            let expected = hook.width(config);
            if width != expected {
                return Err(ProbeError::WidthMismatch { key, width, hook, expected });
            }
        }
        if reads.hook > site.hook {
            return Err(ProbeError::ReadsAhead { reads: reads.hook, hook: site.hook });
        }
        Ok(())
    }
}

/// What an evaluation of one SAE found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Sums of each sequence, for each subset (see [`Subset::index`]).
    pub sequences: Vec<[Sums; 3]>,
    /// Firings over all tokens.
    pub firing: Firing,
    /// Spectrum of the activations at the site where it is patched in; the same for every SAE there.
    pub spectrum: Spectrum,
    /// Errors by ‖a‖, smallest first.
    pub by_norm: Vec<NormBin>,
    /// What SAEBench reports beside [`METRICS`](crate::METRICS), over all tokens.
    pub core: CoreSums,
}

impl Evaluation {
    fn new(d_sae: usize, spectrum: Spectrum) -> Self {
        Self {
            sequences: Vec::new(),
            firing: Firing { fires: vec![0; d_sae], sequences: vec![0; d_sae], tokens: 0 },
            spectrum,
            by_norm: vec![NormBin::default(); NormBins::COUNT],
            core: CoreSums::default(),
        }
    }

    /// The sums over all sequences.
    pub fn total(&self, subset: Subset) -> Sums {
        total(&self.sequences)[subset.index()]
    }
}

/// Bytes that an evaluation needs beside the model, about: log-probabilities and probabilities of one pass, which all SAEs share, and four
/// tensors as large for each SAE that is evaluated at the time (one SAE of Gemma 3 270M took 6.1 of them in all).
pub fn evaluation_bytes(batch: usize, context: usize, vocab_size: usize, at_once: usize) -> u64 {
    [batch, context, vocab_size, 2 + 4 * at_once].iter().fold(4, |product, &n| product.saturating_mul(n as u64))
}

/// Checks that the logits of a pass fit into memory: a process that takes more is killed without a word.
fn check_memory(survey: &Survey<'_>, subjects: &[Subject<'_>]) -> Result<()> {
    let (model, (batch, context)) = (survey.model(), survey.pass());
    // What a GPU has free is not known: a pool holds what was used before.
    if !runs_on_cpu(model.device()) {
        return Ok(());
    }
    let at = |site: Site| subjects.iter().filter(|subject| subject.site == site).count();
    let together = subjects.iter().map(|subject| at(subject.site)).max().unwrap_or(0);
    let vocab_size = model.config().vocab_size;
    let needed = evaluation_bytes(batch, context, vocab_size, together.min(rayon::current_num_threads()));
    match free(model.device()) {
        Some(free) if needed > free => Err(ProbeError::Memory { batch, context, vocab_size, needed, free }),
        _ => Ok(()),
    }
}

/// Evaluates SAEs on the tokens of a survey; the results are in the order of `subjects`. `progress` is told 0 when the batches begin, so
/// that their pace can be measured, and then how many sequences each had; it may stop the work.
///
/// # Errors
/// If the site where an SAE is patched in was not surveyed, it does not fit the model ([`Subject::check`]), the logits of a pass don't fit
/// into memory, an activation, reconstruction or loss is not finite, an
/// observer fails, or `progress` breaks off ([`ProbeError::Stopped`]).
pub fn evaluate(
    survey: &Survey<'_>,
    subjects: &mut [Subject<'_>],
    config: EvalConfig,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Evaluation>> {
    let mut sites: Vec<Site> = Vec::new();
    let mut found = Vec::with_capacity(subjects.len());
    for subject in subjects.iter() {
        subject.check(survey.model().config())?;
        found.push(Evaluation::new(subject.codec.d_sae(), survey.at(subject.site)?.spectrum.clone()));
        if !sites.contains(&subject.site) {
            sites.push(subject.site);
        }
    }
    let patched = sites.len();
    for reads in subjects.iter().map(|subject| subject.reads) {
        if !sites.contains(&reads) {
            sites.push(reads);
        }
    }
    check_memory(survey, subjects)?;
    advance(&mut progress, 0)?;
    for (start, tokens) in survey.batches() {
        let batch = Batch { survey, config, start, tokens };
        let all = survey.model().cut(tokens, &sites)?;
        for cuts in passes(&all[..patched]) {
            let pass = batch.run(&cuts)?;
            for (number, cut) in cuts.into_iter().enumerate() {
                let at_site = AtSite::new(&batch, &pass, number, cut)?;
                let all_subjects = subjects.iter_mut().zip(&mut found).enumerate();
                let here = all_subjects.filter(|(_, (subject, _))| subject.site == cut.site());
                let look = |at: usize, subject: &mut Subject<'_>, found: &mut Evaluation| {
                    let read = all.iter().find(|read| read.site() == subject.reads).expect("the pass is cut there");
                    at_site.look(subject, read.value(), found).map_err(|error| error.of_subject(at))
                };
                if runs_on_cpu(survey.model().device()) {
                    // Much of a forward pass on the CPU runs on one thread. Each SAE works on its own.
                    here.collect::<Vec<_>>().into_par_iter().try_for_each(|(at, (subject, found))| {
                        at_site.count(&look(at, subject, found)?, found);
                        Ok::<_, ProbeError>(())
                    })?;
                } else {
                    // The sums of one are added up while the device works for the next.
                    rayon::in_place_scope(|scope| {
                        for (at, (subject, found)) in here {
                            let seen = look(at, subject, found)?;
                            let at_site = &at_site;
                            scope.spawn(move |_| at_site.count(&seen, found));
                        }
                        Ok::<_, ProbeError>(())
                    })?;
                }
            }
        }
        advance(&mut progress, tokens.nrows())?;
    }
    Ok(found)
}
