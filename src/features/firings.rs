//! Scores of each latent, from its firings.

use std::fmt;
use std::sync::Mutex;

use anyhow::Result;
use assay_probes::features::topics::{Topic, topics};
use assay_probes::features::{Candidates, Cells, Partner, Scores, Tally, partners};
use rayon::prelude::*;

use crate::events::{Contents, Events, Tokens};
use crate::interrupt::{self, Interrupted};
use crate::markdown::percent;
use crate::progress::Stage;

/// Latents between two looks at whether to stop.
pub const GROUP: usize = 256;
/// Places of each token that are kept, to find some where a latent is silent.
const CANDIDATES: usize = 24;
/// Firings that are compared with one another for partners, about; of more, those in evenly spaced contexts. 8 bytes each, and 4 for each of
/// their tokens: what memory grows with, up to there.
pub const COMPARED: u64 = 8 << 20;

/// The contexts on whose tokens latents were compared for partners.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Every n-th, beginning with the first; all where n is 1.
    pub every: usize,
    /// Their share of all contexts.
    pub share: f64,
}

/// All latents' firings on the tokens of some contexts, in memory.
pub struct ComparedFirings {
    /// Of each latent the places in `tokens`, ascending.
    firings: Vec<Vec<u32>>,
    /// The contexts, one after the other.
    tokens: Vec<u32>,
    /// Which those are.
    pub compared: Compared,
}

impl ComparedFirings {
    /// The latent that fires most where each does.
    pub fn partners(&self) -> Vec<Option<Partner>> {
        partners(&self.firings, self.tokens.len())
    }

    /// What latents do with each frequent token id but those left out; `cosine` is that of two decoder rows.
    pub fn topics(&self, left_out: &[u32], cosine: impl Fn(usize, usize) -> f64 + Sync) -> Vec<Topic> {
        topics(&self.firings, &self.tokens, left_out, cosine)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every {
            1 => f.write_str("all contexts"),
            every => write!(f, "one of {every} contexts, {} of all", percent(Some(self.share))),
        }
    }
}

/// What one pass over the contexts of a store says.
pub struct Texts {
    /// How often what occurs.
    pub cells: Cells,
    /// Places of each token.
    pub candidates: Candidates,
}

impl Texts {
    /// Reads the contexts of a store once.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn read(events: &Events, vocab_size: usize) -> Result<Self> {
        let (contents, mut tokens) = (events.contents(), events.tokens()?);
        let mut cells = Cells::new(vocab_size, contents.context_size);
        let mut candidates = Candidates::new(vocab_size, CANDIDATES);
        let mut previous = None;
        for position in 0..tokens.len() {
            let (token, within) = (tokens.at(position)?, position % contents.context_size);
            cells.push(token, previous.filter(|_| within > 0), begins(contents, token, within));
            candidates.push(position as u32, token);
            previous = Some(token);
        }
        Ok(Self { cells, candidates })
    }
}

/// Whether a document begins with a token.
fn begins(contents: &Contents, token: u32, within: usize) -> bool {
    let separates = contents.separators.contains(&token);
    match (contents.is_text, within) {
        // BOS begins every context of such text, whatever it is cut from.
        (true, 0) => separates && contents.bos.is_none(),
        (false, 0) => true,
        _ => separates,
    }
}

/// Who reads a store: a thread at a time.
pub(super) struct Reader<'a> {
    pub events: Events,
    pub tokens: Tokens,
    tally: Tally<'a>,
}

/// The scores of a latent.
fn score(reader: &mut Reader<'_>, latent: usize) -> Result<Scores> {
    let Reader { events, tokens, tally } = reader;
    let context_size = tokens.context_size();
    events.each(latent, |position, value| {
        let at = position as usize;
        let previous = if at.is_multiple_of(context_size) { None } else { Some(tokens.at(at - 1)?) };
        tally.push(position, tokens.at(at)?, previous, value);
        Ok(())
    })?;
    Ok(tally.finish())
}

/// Readers of a store, one for each thread.
pub struct Readers<'a>(Vec<Mutex<Reader<'a>>>);

impl<'a> Readers<'a> {
    /// Opens a store once for each thread.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn open(events: &Events, texts: &'a Texts) -> Result<Self> {
        let tokens = events.tokens()?;
        let reader = |_| {
            let tally = Tally::new(&texts.cells);
            Ok(Mutex::new(Reader { events: events.again()?, tokens: tokens.again()?, tally }))
        };
        // One more for whoever is no thread of the pool.
        (0..=rayon::current_num_threads()).map(reader).collect::<Result<_>>().map(Self)
    }

    /// What `of` finds of each of some latents, in their order.
    ///
    /// # Errors
    /// Those of `of`.
    pub(super) fn map<T: Send>(
        &self,
        latents: &[usize],
        of: impl Fn(&mut Reader<'_>, usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let one = |&latent: &usize| {
            let own = rayon::current_thread_index().unwrap_or(self.0.len() - 1);
            let mut reader = self.0[own].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            of(&mut reader, latent)
        };
        latents.par_iter().map(one).collect()
    }

    /// Scores of some latents.
    ///
    /// # Errors
    /// If the store can't be read, or the work is interrupted.
    pub fn scores(&self, latents: &[usize], stage: &mut Stage, saved: &str) -> Result<Vec<Scores>> {
        let mut scores = Vec::with_capacity(latents.len());
        for group in latents.chunks(GROUP) {
            if interrupt::requested() {
                return Err(Interrupted { saved: saved.to_owned() }.into());
            }
            scores.extend(self.map(group, score)?);
            stage.advance(group.len() as u64, String::new);
        }
        Ok(scores)
    }

    /// Where each latent fires in all contexts or, of more firings than `most`, in evenly spaced ones.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn together(&self, events: &Events, most: u64) -> Result<ComparedFirings> {
        let contents = events.contents();
        let (context_size, every) = (contents.context_size, events.total().div_ceil(most).max(1) as usize);
        let latents: Vec<usize> = (0..contents.d_sae).collect();
        let firings = self.map(&latents, |reader, latent| {
            let mut found = Vec::with_capacity(reader.events.firings(latent) as usize / every);
            reader.events.each(latent, |position, _| {
                let (context, within) = (position as usize / context_size, position as usize % context_size);
                if context.is_multiple_of(every) {
                    found.push((context / every * context_size + within) as u32);
                }
                Ok(())
            })?;
            Ok(found)
        })?;
        let mut read = events.tokens()?;
        let places = (0..contents.sequences)
            .step_by(every)
            .flat_map(|context| context * context_size..(context + 1) * context_size);
        let tokens = places.map(|place| read.at(place)).collect::<Result<Vec<u32>>>()?;
        let share = tokens.len() as f64 / (contents.sequences * context_size).max(1) as f64;
        Ok(ComparedFirings { firings, tokens, compared: Compared { every, share } })
    }
}
