//! What the SAEs of a group learn from, round by round: activations from the shuffle buffer, and for those that ask the model, whole
//! contexts with the same tokens.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use assay_models::memory::free;
use assay_models::{
    ActivationStream, CleanPass, ContextStream, Decoder, Round, Site, StreamConfig, TokenSource, clean_pass_bytes,
    runs_on_cpu,
};
use assay_probes::metrics::{Subset, outlier_limit};
use burn::tensor::{Int, Tensor};

use super::job::TrainingJob;
use crate::plan::Run;

/// The two streams of a group. They go through the same rounds.
pub(super) struct Feed<'a> {
    decoder: &'a Decoder,
    batch_size: usize,
    context_size: usize,
    activations: ActivationStream<'a>,
    /// Where some SAE asks the model at some step.
    contexts: Option<ContextStream<'a>>,
}

/// One round of both.
pub(super) struct Fresh {
    round: Round,
    contexts: Option<Round>,
}

impl Fresh {
    /// Tokens that every SAE visits.
    pub fn tokens(&self) -> usize {
        self.round.tokens()
    }
}

/// How an SAE visits the tokens of a round: in the order of its seed, and of some it is not trained on, those of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Visit {
    seed: u64,
    /// `None`: it is trained on all tokens.
    kept: Option<(Site, Subset)>,
}

impl Visit {
    /// Which tokens it is trained on; `None`: all.
    pub fn kept(self) -> Option<(Site, Subset)> {
        self.kept
    }

    pub fn of(run: &Run) -> Self {
        let tokens = run.key.loss_tokens;
        Self { seed: run.key.seed, kept: (tokens != Subset::All).then_some((run.site, tokens)) }
    }
}

/// A round as SAEs visit it.
pub(super) struct Orders {
    /// Places of the buffer, on the device.
    places: Vec<(Visit, Tensor<1, Int>)>,
    /// Places of contexts.
    contexts: Vec<(u64, Vec<u32>)>,
}

fn order_of<T, K: PartialEq>(orders: &[(K, T)], of: K) -> &T {
    &orders.iter().find(|(known, _)| *known == of).expect("every SAE has an order").1
}

/// Distinct values, ascending.
pub(crate) fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// An order in which each place that is left out is taken by the next that is not, from the end on by the first.
///
/// # Errors
/// If all are left out.
fn without(order: &[u32], left_out: &HashSet<u32>) -> Result<Vec<u32>> {
    let first = order.iter().find(|place| !left_out.contains(place));
    let mut next = *first
        .context("loss_tokens leaves out every token of a round: contexts of one token have none but the first")?;
    let mut order = order.to_vec();
    for place in order.iter_mut().rev() {
        if left_out.contains(place) {
            *place = next;
        } else {
            next = *place;
        }
    }
    Ok(order)
}

/// Checks that a pass with so many SAEs fits into memory, where that is known: a GPU's pool holds what was used before.
fn check_memory(decoder: &Decoder, batch_size: usize, together: usize) -> Result<()> {
    if !runs_on_cpu(decoder.device()) {
        return Ok(());
    }
    let vocab_size = decoder.config().vocab_size;
    let needed = clean_pass_bytes(batch_size, vocab_size, together.min(rayon::current_num_threads()));
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    match free(decoder.device()) {
        Some(free) if needed > free => bail!(
            "an objective with the KL: the model's predictions for a step's {batch_size} tokens, {vocab_size} logits each, take about {:.1} GB, \
             and {:.1} GB are free; take a smaller [train] batch_size, or fewer threads",
            gigabytes(needed),
            gigabytes(free)
        ),
        _ => Ok(()),
    }
}

impl<'a> Feed<'a> {
    /// Streams from the start, of the sites of all `jobs`.
    ///
    /// # Errors
    /// If there are too few tokens, or what the model says of a batch does not fit into memory: a process that takes more is killed without
    /// a word.
    pub fn new(
        decoder: &'a Decoder,
        source: &'a TokenSource,
        jobs: &[TrainingJob<'_>],
        config: StreamConfig,
    ) -> Result<Self> {
        let sites = distinct(jobs.iter().flat_map(|job| job.run().sites()));
        let asking = jobs.iter().filter(|job| job.trainer.config().first_asking().is_some());
        let seeds: Vec<u64> = asking.map(|job| job.run().key.seed).collect();
        let together = seeds.iter().map(|seed| seeds.iter().filter(|other| *other == seed).count()).max();
        if let Some(together) = together {
            check_memory(decoder, config.batch_size, together)?;
        }
        Ok(Self {
            decoder,
            batch_size: config.batch_size,
            context_size: source.context_size(),
            activations: ActivationStream::new(decoder, source, &sites, config)?,
            contexts: together.map(|_| ContextStream::new(source, config)),
        })
    }

    /// Goes to where the streams are after `rounds` rounds; `jobs` are as they are then.
    pub fn skip_rounds(&mut self, rounds: u64, jobs: &[TrainingJob<'_>]) -> Result<()> {
        self.forget_what_nobody_reads(jobs);
        self.activations.skip_rounds(rounds)?;
        self.contexts.as_mut().map_or(Ok(()), |contexts| Ok(contexts.skip_rounds(rounds)?))
    }

    /// An SAE that asks the model once reads activations no more.
    pub fn forget_what_nobody_reads(&mut self, jobs: &[TrainingJob<'_>]) {
        let reads = |site: &Site| jobs.iter().any(|job| job.run().sites().contains(site) && !job.asks_model());
        self.activations.retain(reads);
    }

    /// The next round, or `None` at the end of the budget.
    pub fn next_round(&mut self) -> Result<Option<Fresh>> {
        let Some(round) = self.activations.next_round()? else { return Ok(None) };
        let contexts = self.contexts.as_mut().map_or(Ok(None), ContextStream::next_round)?;
        Ok(Some(Fresh { round, contexts }))
    }

    /// The orders in which SAEs visit a round.
    ///
    /// # Errors
    /// If an SAE is to be trained on tokens of which there are none.
    pub fn orders(&self, fresh: &Fresh, visits: &[Visit]) -> Result<Orders> {
        let left_out = distinct(visits.iter().filter_map(|visit| visit.kept));
        let left_out: Vec<((Site, Subset), HashSet<u32>)> = left_out
            .into_iter()
            .map(|(site, tokens)| Ok(((site, tokens), self.left_out(fresh.round.places(), site, tokens)?)))
            .collect::<Result<_>>()?;
        let order = |visit: &Visit| -> Result<Vec<u32>> {
            let order = fresh.round.order(visit.seed);
            visit.kept.map_or(Ok(order.clone()), |kept| without(&order, order_of(&left_out, kept)))
        };
        let places = |visit: &Visit| Ok((*visit, self.activations.upload(&order(visit)?)));
        let seeds = distinct(visits.iter().map(|visit| visit.seed));
        let contexts = |round: &Round| seeds.iter().map(|&seed| (seed, round.order(seed))).collect();
        Ok(Orders {
            places: visits.iter().map(places).collect::<Result<_>>()?,
            contexts: fresh.contexts.as_ref().map_or_else(Vec::new, contexts),
        })
    }

    /// Of some places, those that an SAE of `site` is not trained on. Those of a round are looked at alone: others of the buffer are not there
    /// when a training resumes.
    fn left_out(&self, places: &[u32], site: Site, tokens: Subset) -> Result<HashSet<u32>> {
        let is_out: Vec<bool> = match tokens {
            Subset::All => return Ok(HashSet::new()),
            Subset::NoFirst => self.activations.is_first(places),
            Subset::NoOutlier => {
                let squares = self.activations.batch(self.number(site), places).square().sum_dim(1);
                let squares = squares.into_data().try_to_vec::<f32>().context("squared norms are f32")?;
                let norms: Vec<f64> = squares.into_iter().map(|square| f64::from(square).sqrt()).collect();
                let limit = outlier_limit(&norms);
                norms.iter().map(|&norm| norm > limit).collect()
            }
        };
        Ok(places.iter().zip(is_out).filter_map(|(&place, is_out)| is_out.then_some(place)).collect())
    }

    /// Activations of the first places of the buffer, as they were captured, `[tokens, width]`; what an SAE is not trained on is left out
    /// likewise.
    ///
    /// # Errors
    /// As [`Self::orders`].
    pub fn first(&self, site: Site, visit: Visit, tokens: usize) -> Result<Tensor<2>> {
        let mut places: Vec<u32> = (0..tokens as u32).collect();
        if let Some((of, subset)) = visit.kept {
            places = without(&places, &self.left_out(&places, of, subset)?)?;
        }
        Ok(self.activations.batch(self.number(site), &places))
    }

    /// A batch of activations from token `at` of a round on, `[len, width]`.
    pub fn batch(&self, site: Site, visit: Visit, orders: &Orders, at: usize, len: usize) -> Tensor<2> {
        self.activations.batch_at(self.number(site), order_of(&orders.places, visit).clone().narrow(0, at, len))
    }

    /// A pass over the contexts of the batch from token `at` of a round on, cut at `sites`.
    pub fn pass(&self, sites: &[Site], seed: u64, orders: &Orders, at: usize) -> Result<CleanPass<'a>> {
        let contexts = self.contexts.as_ref().expect("some SAE asks the model");
        let (first, count) = (at / self.context_size, self.batch_size / self.context_size);
        let tokens = contexts.at(&order_of(&orders.contexts, seed)[first..first + count]);
        Ok(CleanPass::new(self.decoder, tokens.view(), sites)?)
    }

    fn number(&self, site: Site) -> usize {
        self.activations.sites().iter().position(|known| *known == site).expect("somebody reads the site")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_taken_by_what_comes_next() {
        let left_out = |places: &[u32]| places.iter().copied().collect::<HashSet<u32>>();
        assert_eq!(without(&[4, 2, 7, 1, 3], &left_out(&[2, 7, 3])).unwrap(), [4, 1, 1, 1, 4]);
        assert_eq!(without(&[4, 2], &left_out(&[])).unwrap(), [4, 2]);
        assert!(without(&[4, 2], &left_out(&[2, 4])).is_err());
    }
}
