//! The text around places of a latent.

use anyhow::Result;
use assay_probes::features::{HISTOGRAM_BINS, PickReason, Picked, Picks, STRATA, Scores, Spectrum, Stratum};

use super::firings::{Reader, Readers, Texts};

/// Tokens of a window before and after its place; fewer at the ends of a context.
pub const AROUND: u32 = 20;

/// A stretch of a context, and how active the latent is on each of its tokens.
#[derive(Clone, Debug)]
pub struct Window {
    /// Why it is shown.
    pub kind: PickReason,
    /// The context, and the first token's position in it.
    pub context: u32,
    /// See `context`.
    pub first: u32,
    /// The place for which it is shown, counted from the first token.
    pub focus: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Activations, 0 where it is silent.
    pub values: Vec<f32>,
}

/// What is shown of a latent's firings.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The windows, by kind.
    pub windows: Vec<Window>,
    /// How many firings each stratum stands for.
    pub strata: [Stratum; STRATA],
    /// How many have which magnitude.
    pub histogram: [u64; HISTOGRAM_BINS],
}

/// What is shown of some latents with these scores; `None` of one that never fires.
///
/// # Errors
/// If the store can't be read.
pub fn shown(
    readers: &Readers<'_>,
    texts: &Texts,
    latents: &[usize],
    scores: impl Fn(usize) -> Scores + Sync,
) -> Result<Vec<Option<Shown>>> {
    readers.map(latents, |reader, latent| show(reader, texts, latent, &scores(latent)))
}

fn show(reader: &mut Reader<'_>, texts: &Texts, latent: usize, scores: &Scores) -> Result<Option<Shown>> {
    let Some((max, top)) = scores.max_magnitude.zip(scores.top.first()) else { return Ok(None) };
    let Reader { events, tokens, .. } = reader;
    let context_size = tokens.context_size() as u32;
    let mut spectrum = Spectrum::default();
    events.each(latent, |_, value| {
        spectrum.push(value);
        Ok(())
    })?;
    let strata = spectrum.strata();
    let mut picks = Picks::new(latent, strata, max as f32, texts.candidates.of(top.id), AROUND);
    events.each(latent, |position, value| {
        picks.push(position, texts.cells.documents().of(position), value);
        Ok(())
    })?;
    let histogram = picks.histogram();
    let mut windows = Vec::new();
    for Picked { kind, position, .. } in picks.finish() {
        let (context, within) = (position / context_size, position % context_size);
        let (first, end) = (within.saturating_sub(AROUND), (within + AROUND + 1).min(context_size));
        let start = (context * context_size + first) as usize;
        let ids = tokens.read(start, (end - first) as usize)?;
        let values = vec![0.0; ids.len()];
        windows.push(Window { kind, context, first, focus: (within - first) as usize, ids, values });
    }
    fill(&mut windows, context_size, |see| {
        events.each(latent, |position, value| {
            see(position, value);
            Ok(())
        })
    })?;
    Ok(Some(Shown { windows, strata, histogram }))
}

/// Puts activations into windows, from one more look at all firings.
fn fill(
    windows: &mut [Window],
    context_size: u32,
    each: impl FnOnce(&mut dyn FnMut(u32, f32)) -> Result<()>,
) -> Result<()> {
    let start = |window: &Window| window.context * context_size + window.first;
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order.sort_by_key(|&at| start(&windows[at]));
    let starts: Vec<u32> = order.iter().map(|&at| start(&windows[at])).collect();
    each(&mut |position, value| {
        // A window has at most 2·AROUND + 1 tokens, so it begins no earlier than that.
        let from = starts.partition_point(|&start| start + 2 * AROUND < position);
        for (&start, &at) in starts[from..].iter().zip(&order[from..]).take_while(|(start, _)| **start <= position) {
            if let Some(slot) = windows[at].values.get_mut((position - start) as usize) {
                *slot = value;
            }
        }
    })
}
