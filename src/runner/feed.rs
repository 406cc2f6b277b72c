//! What the SAEs of a group learn from, round by round: activations from the shuffle buffer, and for those that ask the model, whole
//! contexts with the same tokens.

use anyhow::{Result, bail};
use assay_models::memory::free;
use assay_models::{
    ActivationStream, CleanPass, ContextStream, Decoder, Round, Site, StreamConfig, TokenSource, clean_pass_bytes,
    runs_on_cpu,
};
use burn::tensor::{Int, Tensor};

use super::pupil::Pupil;

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

/// A round as SAEs visit it: in the order of their seeds.
pub(super) struct Orders {
    /// Places of the buffer, on the device.
    places: Vec<(u64, Tensor<1, Int>)>,
    /// Places of contexts.
    contexts: Vec<(u64, Vec<u32>)>,
}

fn of_seed<T>(orders: &[(u64, T)], seed: u64) -> &T {
    &orders.iter().find(|(known, _)| *known == seed).expect("every seed has an order").1
}

/// Distinct values, ascending.
pub(crate) fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
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
            "an objective with the KL: what the model says of a step's {batch_size} tokens, {vocab_size} logits each, takes about {:.1} GB, \
             and {:.1} GB are free; take a smaller [train] batch_size, or fewer threads",
            gigabytes(needed),
            gigabytes(free)
        ),
        _ => Ok(()),
    }
}

impl<'a> Feed<'a> {
    /// Streams from the start, of the sites of all `pupils`.
    ///
    /// # Errors
    /// If there are too few tokens, or what the model says of a batch does not fit into memory: a process that takes more is killed without
    /// a word.
    pub fn new(
        decoder: &'a Decoder,
        source: &'a TokenSource,
        pupils: &[Pupil<'_>],
        config: StreamConfig,
    ) -> Result<Self> {
        let sites = distinct(pupils.iter().flat_map(|pupil| pupil.run().sites()));
        let asking = pupils.iter().filter(|pupil| pupil.trainer.config().first_asking().is_some());
        let seeds: Vec<u64> = asking.map(|pupil| pupil.run().key.seed).collect();
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

    /// Goes to where the streams are after `rounds` rounds; `pupils` are as they are then.
    pub fn skip_rounds(&mut self, rounds: u64, pupils: &[Pupil<'_>]) -> Result<()> {
        self.forget_what_nobody_reads(pupils);
        self.activations.skip_rounds(rounds)?;
        self.contexts.as_mut().map_or(Ok(()), |contexts| Ok(contexts.skip_rounds(rounds)?))
    }

    /// An SAE that asks the model once reads activations no more.
    pub fn forget_what_nobody_reads(&mut self, pupils: &[Pupil<'_>]) {
        let reads = |site: &Site| pupils.iter().any(|pupil| pupil.run().sites().contains(site) && !pupil.asks_model());
        self.activations.retain(reads);
    }

    /// The next round, or `None` at the end of the budget.
    pub fn next_round(&mut self) -> Result<Option<Fresh>> {
        let Some(round) = self.activations.next_round()? else { return Ok(None) };
        let contexts = self.contexts.as_mut().map_or(Ok(None), ContextStream::next_round)?;
        Ok(Some(Fresh { round, contexts }))
    }

    /// The orders in which SAEs of some seeds visit a round.
    pub fn orders(&self, fresh: &Fresh, seeds: &[u64]) -> Orders {
        let places = |seed: u64| (seed, self.activations.upload(&fresh.round.order(seed)));
        let contexts = |round: &Round| seeds.iter().map(|&seed| (seed, round.order(seed))).collect();
        Orders {
            places: seeds.iter().map(|&seed| places(seed)).collect(),
            contexts: fresh.contexts.as_ref().map_or_else(Vec::new, contexts),
        }
    }

    /// Activations of the first places of the buffer, as they were captured, `[tokens, width]`.
    pub fn first(&self, site: Site, tokens: usize) -> Tensor<2> {
        self.activations.batch(self.number(site), &(0..tokens as u32).collect::<Vec<u32>>())
    }

    /// A batch of activations from token `at` of a round on, `[len, width]`.
    pub fn batch(&self, site: Site, seed: u64, orders: &Orders, at: usize, len: usize) -> Tensor<2> {
        self.activations.batch_at(self.number(site), of_seed(&orders.places, seed).clone().narrow(0, at, len))
    }

    /// A pass over the contexts of the batch from token `at` of a round on, cut at `sites`.
    pub fn pass(&self, sites: &[Site], seed: u64, orders: &Orders, at: usize) -> Result<CleanPass<'a>> {
        let contexts = self.contexts.as_ref().expect("some SAE asks the model");
        let (first, count) = (at / self.context_size, self.batch_size / self.context_size);
        let tokens = contexts.at(&of_seed(&orders.contexts, seed)[first..first + count]);
        Ok(CleanPass::new(self.decoder, tokens.view(), sites)?)
    }

    fn number(&self, site: Site) -> usize {
        self.activations.sites().iter().position(|known| *known == site).expect("somebody reads the site")
    }
}
