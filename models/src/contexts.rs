//! The stream of whole contexts that is read side by side with one of activations: the same tokens, round by round.

use std::ops::Range;

use ndarray::{Array2, Axis, concatenate};

use crate::activations::{Round, ShufflePlan, StreamConfig};
use crate::error::Result;
use crate::tokens::TokenSource;

/// Contexts, shuffled as the rows of an [`ActivationStream`](crate::ActivationStream) of the same settings are: its places are contexts
/// where those are tokens, and a round serves as many tokens. So an SAE that reads contexts sees, at about the same time, the tokens
/// that the others see.
pub struct ContextStream<'a> {
    source: &'a TokenSource,
    first_context: usize,
    plan: ShufflePlan,
    /// The tokens in each place, `[places, context]`.
    places: Array2<u32>,
}

impl<'a> ContextStream<'a> {
    /// A stream from the start. `config.batch_size` is a multiple of the source's context size, or a batch has tokens of half a context.
    pub fn new(source: &'a TokenSource, config: StreamConfig) -> Self {
        let StreamConfig { first_context, tokens, batch_size, buffer_tokens, seed, .. } = config;
        let context = source.context_size();
        let plan = ShufflePlan::new(tokens / context, buffer_tokens / context, (batch_size / context).max(1), seed);
        Self { source, first_context, plan, places: Array2::zeros((0, context)) }
    }

    /// Goes to where a stream is after `rounds` rounds.
    ///
    /// # Errors
    /// If the tokens can't be read.
    pub fn skip_rounds(&mut self, rounds: u64) -> Result<()> {
        while self.plan.round() < rounds && self.plan.next_round().is_some() {}
        self.places = Array2::zeros((self.plan.places().len(), self.source.context_size()));
        let mut left: Vec<(u64, usize)> =
            self.plan.unserved().map(|place| (self.plan.places()[place], place)).collect();
        left.sort_unstable();
        for run in left.chunk_by(|(a, _), (b, _)| *b == a + 1) {
            let tokens = self.read(run[0].0..run[0].0 + run.len() as u64)?;
            for (row, (_, place)) in tokens.rows().into_iter().zip(run) {
                self.places.row_mut(*place).assign(&row);
            }
        }
        Ok(())
    }

    /// Refills the buffer and gives the next round, whose places are contexts; `None` at the end of the budget.
    ///
    /// # Errors
    /// If the tokens can't be read.
    pub fn next_round(&mut self) -> Result<Option<Round>> {
        let index = self.plan.round();
        let Some(round) = self.plan.next_round() else { return Ok(None) };
        let kept: Vec<usize> = round.kept.iter().map(|&place| place as usize).collect();
        let kept = self.places.select(Axis(0), &kept);
        let fresh = self.read(round.fresh)?;
        self.places = concatenate(Axis(0), &[kept.view(), fresh.view()]).expect("contexts of one size");
        Ok(Some(Round::new(index, round.served)))
    }

    /// The contexts at some places, `[places.len(), context]`.
    pub fn at(&self, places: &[u32]) -> Array2<u32> {
        let places: Vec<usize> = places.iter().map(|&place| place as usize).collect();
        self.places.select(Axis(0), &places)
    }

    fn read(&self, contexts: Range<u64>) -> Result<Array2<u32>> {
        let count = (contexts.end - contexts.start) as usize;
        if count == 0 {
            return Ok(Array2::zeros((0, self.source.context_size())));
        }
        self.source.read(self.first_context + contexts.start as usize, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_of_contexts_has_the_tokens_of_a_round_of_activations() {
        for (total, capacity, batch, context) in
            [(5120, 2048, 128, 64), (960, 250, 32, 32), (6400, 1000, 64, 16), (640, 64, 32, 8), (32, 8, 32, 16)]
        {
            let mut tokens = ShufflePlan::new(total, capacity, batch, 0);
            let mut contexts = ShufflePlan::new(total / context, capacity / context, batch / context, 0);
            while let Some(of_tokens) = tokens.next_round() {
                let of_contexts = contexts.next_round().unwrap();
                assert_eq!(of_tokens.served.len(), of_contexts.served.len() * context);
                assert_eq!(of_tokens.fresh.end, of_contexts.fresh.end * context as u64);
            }
            assert!(contexts.next_round().is_none());
        }
    }
}
