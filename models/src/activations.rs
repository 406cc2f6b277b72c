//! The activation stream: a seeded shuffle buffer on the device, refilled at half, with all sites
//! of a model filled by the same forward passes.
//!
//! Which row of the stream lies where follows from integers alone ([`ShufflePlan`]); the activations
//! only follow the plan. So every model, site and SAE sees the same order, and the state of a
//! buffer can be rebuilt from the tokens without the training that came before.

use assay_kernels::Precision;
use burn::tensor::{Device, Int, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::decoder::Decoder;
use crate::device::side_by_side;
use crate::error::Result;
use crate::hooks::Site;
use crate::tokens::TokenSource;

/// What to stream. Sizes are in tokens.
#[derive(Clone, Copy, Debug)]
pub struct StreamConfig {
    /// First context to read.
    pub first_context: usize,
    /// Tokens to serve in all; a multiple of `batch_size`.
    pub tokens: usize,
    /// Tokens of one training batch.
    pub batch_size: usize,
    /// Tokens that the buffer holds.
    pub buffer_tokens: usize,
    /// Contexts of one forward pass.
    pub contexts_per_pass: usize,
    /// Seed of the buffer's order.
    pub seed: u64,
    /// Number format of the layers' products.
    pub precision: Precision,
}

/// The integers behind the stream: which row is in which place of the buffer, and which are served.
#[derive(Clone, Debug)]
pub struct ShufflePlan {
    half: usize,
    total: u64,
    seed: u64,
    round: u64,
    next_row: u64,
    /// Stream row in each place.
    places: Vec<u64>,
    /// Places served in the round before, which the next round replaces.
    served: Vec<u32>,
}

/// One round of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundPlan {
    /// Places of the old buffer that stay, in order; they come first in the new one.
    pub kept: Vec<u32>,
    /// Stream rows that are appended.
    pub fresh: std::ops::Range<u64>,
    /// Places of the new buffer that this round serves.
    pub served: Vec<u32>,
}

impl ShufflePlan {
    /// A plan that serves each of `total` rows once, from a buffer of about `capacity` rows of which
    /// half, a multiple of `batch`, is served before it is refilled.
    pub fn new(total: usize, capacity: usize, batch: usize, seed: u64) -> Self {
        let half = (capacity / 2 / batch).max(1) * batch;
        Self { half, total: total as u64, seed, round: 0, next_row: 0, places: Vec::new(), served: Vec::new() }
    }

    /// Rounds that have been given out.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The stream rows now in the buffer, by place.
    pub fn places(&self) -> &[u64] {
        &self.places
    }

    /// The places of the buffer whose rows have not been served, ascending.
    pub(crate) fn unserved(&self) -> impl Iterator<Item = usize> {
        let mut gone = vec![false; self.places.len()];
        for &place in &self.served {
            gone[place as usize] = true;
        }
        gone.into_iter().enumerate().filter(|(_, gone)| !gone).map(|(place, _)| place)
    }

    /// The next round, or `None` when every row has been served.
    pub fn next_round(&mut self) -> Option<RoundPlan> {
        let kept: Vec<u32> = self.unserved().map(|place| place as u32).collect();
        let room = (2 * self.half - kept.len()) as u64;
        let fresh = self.next_row..self.total.min(self.next_row + room);
        self.next_row = fresh.end;
        self.places = kept.iter().map(|&p| self.places[p as usize]).chain(fresh.clone()).collect();
        if self.places.is_empty() {
            return None;
        }
        let mut served: Vec<u32> = (0..self.places.len() as u32).collect();
        served.shuffle(&mut stream_rng(self.seed, self.round));
        if self.next_row < self.total {
            served.truncate(self.half);
        }
        self.round += 1;
        self.served.clone_from(&served);
        Some(RoundPlan { kept, fresh, served })
    }
}

/// One round of activations: a set of buffer places that every SAE visits once, in the order of its own seed.
pub struct Round {
    index: u64,
    served: Vec<u32>,
}

impl Round {
    pub(crate) fn new(index: u64, served: Vec<u32>) -> Self {
        Self { index, served }
    }

    /// The places of this round in the order of one SAE's seed.
    pub fn order(&self, seed: u64) -> Vec<u32> {
        let mut order = self.served.clone();
        // The buffer's own order uses the even streams of its seed; an SAE of the same seed must not repeat it.
        order.shuffle(&mut stream_rng(seed ^ 0x5AE0_0DE2, self.index));
        order
    }

    /// The places of this round.
    pub fn places(&self) -> &[u32] {
        &self.served
    }

    /// Places of this round: tokens, or contexts of a [`ContextStream`](crate::ContextStream).
    pub fn tokens(&self) -> usize {
        self.served.len()
    }
}

fn stream_rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Activations of a model at some sites, shuffled.
pub struct ActivationStream<'a> {
    model: &'a Decoder,
    source: &'a TokenSource,
    sites: Vec<Site>,
    config: StreamConfig,
    plan: ShufflePlan,
    /// One `[places, width of the site]` per site.
    buffers: Vec<Tensor<2>>,
}

impl<'a> ActivationStream<'a> {
    /// A stream from the start.
    ///
    /// # Errors
    /// If a site does not exist in the model, or the source is too short for the budget.
    pub fn new(model: &'a Decoder, source: &'a TokenSource, sites: &[Site], config: StreamConfig) -> Result<Self> {
        for site in sites {
            site.check(model.config())?;
        }
        source.check_range(config.first_context, config.tokens.div_ceil(source.context_size()))?;
        let plan = ShufflePlan::new(config.tokens, config.buffer_tokens, config.batch_size, config.seed);
        let empty = |site: &Site| Tensor::zeros([0, site.hook.width(model.config())], model.device());
        Ok(Self { model, source, sites: sites.to_vec(), config, plan, buffers: sites.iter().map(empty).collect() })
    }

    /// Goes to where a stream is after `rounds` rounds, reading only the contexts whose rows are
    /// still in the buffer then.
    ///
    /// # Errors
    /// If the tokens can't be read.
    pub fn skip_rounds(&mut self, rounds: u64) -> Result<()> {
        while self.plan.round() < rounds && self.plan.next_round().is_some() {}
        let places = self.plan.places().to_vec();
        let mut left: Vec<u64> = self.plan.unserved().map(|place| places[place]).collect();
        left.sort_unstable();
        let context = self.source.context_size() as u64;
        let mut parts: Vec<Vec<Tensor<2>>> = self.sites.iter().map(|_| Vec::new()).collect();
        // Rows of contexts that follow each other are captured together, and only the rows that are left are kept.
        for run in left.chunk_by(|a, b| b / context <= a / context + 1) {
            let rows = run[0] / context * context..(run[run.len() - 1] / context + 1) * context;
            let index: Vec<i32> = run.iter().map(|row| (row - rows.start) as i32).collect();
            let index = int_tensor(&index, self.model.device());
            for (part, captured) in parts.iter_mut().zip(self.capture(rows)?) {
                part.push(captured.select(0, index.clone()));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        // A place that has been served is never read again; it only keeps its number until the next round.
        let index: Vec<i32> = places.iter().map(|row| left.binary_search(row).unwrap_or(0) as i32).collect();
        let index = int_tensor(&index, self.model.device());
        self.buffers = parts.into_iter().map(|part| Tensor::cat(part, 0).select(0, index.clone())).collect();
        Ok(())
    }

    /// Refills the buffer and gives the next round, or `None` at the end of the budget.
    ///
    /// # Errors
    /// If the tokens can't be read.
    pub fn next_round(&mut self) -> Result<Option<Round>> {
        let index = self.plan.round();
        let Some(round) = self.plan.next_round() else {
            return Ok(None);
        };
        let kept: Vec<i32> = round.kept.iter().map(|&p| p as i32).collect();
        let kept = (!kept.is_empty()).then(|| int_tensor(&kept, self.model.device()));
        let fresh = if round.fresh.is_empty() { None } else { Some(self.capture(round.fresh)?) };
        for (site, buffer) in self.buffers.iter_mut().enumerate() {
            let old = kept.as_ref().map(|index| buffer.clone().select(0, index.clone()));
            let parts: Vec<Tensor<2>> = old.into_iter().chain(fresh.as_ref().map(|f| f[site].clone())).collect();
            *buffer = Tensor::cat(parts, 0);
        }
        Ok(Some(Round::new(index, round.served)))
    }

    /// The sites that are captured, in the order of their numbers.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Goes on with the sites of which `keep` holds; their numbers are anew.
    pub fn retain(&mut self, keep: impl Fn(&Site) -> bool) {
        let kept: Vec<bool> = self.sites.iter().map(&keep).collect();
        let mut at = kept.iter();
        self.buffers.retain(|_| at.next().is_some_and(|&kept| kept));
        self.sites.retain(keep);
    }

    /// Rounds that have been given out.
    pub fn rounds_done(&self) -> u64 {
        self.plan.round()
    }

    /// For each of some places of the buffer, whether its token is the first of its context.
    pub fn is_first(&self, places: &[u32]) -> Vec<bool> {
        let context = self.source.context_size() as u64;
        places.iter().map(|&place| self.plan.places()[place as usize].is_multiple_of(context)).collect()
    }

    /// The activations at some places, `[places.len(), width]`, of site number `site`.
    pub fn batch(&self, site: usize, places: &[u32]) -> Tensor<2> {
        self.batch_at(site, self.upload(places))
    }

    /// Places of the buffer on the device: an order is uploaded once a round, not batch by batch.
    pub fn upload(&self, places: &[u32]) -> Tensor<1, Int> {
        let index: Vec<i32> = places.iter().map(|&p| p as i32).collect();
        int_tensor(&index, self.model.device())
    }

    /// As [`Self::batch`], at places that are on the device already.
    pub fn batch_at(&self, site: usize, places: Tensor<1, Int>) -> Tensor<2> {
        self.buffers[site].clone().select(0, places)
    }

    /// Rows of the stream, by site, `[rows, width of the site]` each.
    fn capture(&self, rows: std::ops::Range<u64>) -> Result<Vec<Tensor<2>>> {
        let context = self.source.context_size();
        let (first, last) = (rows.start as usize / context, (rows.end as usize).div_ceil(context));
        let passes: Vec<usize> = (first..last).step_by(self.config.contexts_per_pass.max(1)).collect();
        let pass = |at: usize| -> Result<Vec<Tensor<2>>> {
            let count = self.config.contexts_per_pass.min(last - at);
            let tokens = self.source.read(self.config.first_context + at, count)?;
            let flat = |h: Tensor<3>| h.flatten(0, 1);
            let captured = self.model.capture_in(self.config.precision, tokens.view(), &self.sites)?;
            Ok(captured.into_iter().map(flat).collect())
        };
        // Passes side by side: much of a forward pass on the CPU runs on one thread.
        let captured: Vec<Vec<Tensor<2>>> = side_by_side(self.model.device(), passes, pass)?;
        let skip = rows.start as usize - first * context;
        let len = (rows.end - rows.start) as usize;
        let of_site = |site: usize| captured.iter().map(|pass| pass[site].clone()).collect::<Vec<_>>();
        Ok((0..self.sites.len()).map(|site| Tensor::cat(of_site(site), 0).narrow(0, skip, len)).collect())
    }
}

fn int_tensor(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(values, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_served_once_and_the_order_is_mixed() {
        for (total, capacity, batch) in [(960, 256, 32), (96, 1024, 32), (640, 64, 32), (32, 8, 32)] {
            let mut plan = ShufflePlan::new(total, capacity, batch, 7);
            let mut seen = Vec::new();
            let mut rounds = 0;
            while let Some(round) = plan.next_round() {
                assert_eq!(round.served.len() % batch, 0);
                seen.extend(round.served.iter().map(|&p| plan.places()[p as usize]));
                rounds += 1;
            }
            assert_eq!(rounds as u64, plan.round());
            assert_ne!(seen, (0..total as u64).collect::<Vec<_>>());
            seen.sort_unstable();
            assert_eq!(seen, (0..total as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn seeds_share_the_rows_of_a_round_but_not_their_order() {
        let round = Round { index: 3, served: (0..64).collect() };
        let (a, b) = (round.order(1), round.order(2));
        assert_ne!(a, b);
        assert_eq!(a, round.order(1));
        let mut sorted = b;
        sorted.sort_unstable();
        assert_eq!(sorted, round.served);
    }
}
