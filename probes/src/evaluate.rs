//! Patching: the model is run on with something else in place of an activation, and what it then says is
//! compared with what it would have said.
//!
//! SAEs at any sites of a model are evaluated in one pass over the tokens, after a [`Survey`] of them: each batch is run through the
//! model once; what it says unpatched is shared by all, gradients and ablations by the SAEs of a site.

mod batch;
mod site;

use std::ops::{ControlFlow, Range};

use assay_models::memory::free;
use assay_models::{Site, runs_on_cpu, side_by_side};
use assay_sae::{Code, Sae};
use burn::tensor::Tensor;
use ndarray::ArrayView2;

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
    /// forward and one back per site.
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
        self.d_in()
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
    /// Activations at the site, `[sequences · context, d_model]`, row-major.
    pub activations: &'a [f32],
    /// Their reconstructions, likewise.
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

/// An SAE to evaluate.
pub struct Subject<'a> {
    /// Where it is patched in, one of the survey's sites.
    pub site: Site,
    /// The SAE.
    pub codec: &'a dyn Codec,
    /// Who looks on.
    pub observers: Vec<&'a mut dyn Observer>,
}

impl<'a> Subject<'a> {
    /// An SAE that nobody else looks at.
    pub fn new(site: impl Into<Site>, codec: &'a dyn Codec) -> Self {
        Self { site: site.into(), codec, observers: Vec::new() }
    }
}

/// What an evaluation of one SAE found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Sums of each sequence, for each subset (see [`Subset::index`]).
    pub sequences: Vec<[Sums; 3]>,
    /// Firings over all tokens.
    pub firing: Firing,
    /// Spectrum of the activations at the site; the same for every SAE there.
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
/// If an SAE's site was not surveyed or it has another width than the activation there, the logits of a pass don't fit
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
    for Subject { site, codec, .. } in subjects.iter() {
        let (d_in, width) = (codec.d_model(), site.hook.width(survey.model().config()));
        if d_in != width {
            return Err(ProbeError::WidthMismatch { d_in, hook: site.hook, width });
        }
        found.push(Evaluation::new(codec.d_sae(), survey.at(*site)?.spectrum.clone()));
        if !sites.contains(site) {
            sites.push(*site);
        }
    }
    check_memory(survey, subjects)?;
    advance(&mut progress, 0)?;
    for (start, tokens) in survey.batches() {
        let batch = Batch { survey, config, start, tokens };
        for cuts in passes(survey.model().cut(tokens, &sites)?) {
            let pass = batch.run(&cuts)?;
            for cut in &cuts {
                let at_site = AtSite::new(&batch, &pass, cut)?;
                let here = subjects.iter_mut().zip(&mut found).filter(|(subject, _)| subject.site == cut.site());
                // Much of a forward pass on the CPU runs on one thread. Each SAE works on its own.
                side_by_side(survey.model().device(), here.collect(), |(subject, found)| {
                    at_site.evaluate(subject, found)
                })?;
            }
        }
        advance(&mut progress, tokens.nrows())?;
    }
    Ok(found)
}
