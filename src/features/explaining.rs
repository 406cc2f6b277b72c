//! Explanations of latents from windows of a store, and how well they detect where the latents fire.

use anyhow::Result;
use assay_probes::features::explanation::{Classes, Detection, Example, Explanation, Method, detect, explain, written};
use assay_probes::features::{ContextSample, sample};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Feature;
use super::firings::{GROUP, Reader, Readers, Texts};
use crate::interrupt::{self, Interrupted};
use crate::progress::Stage;

/// Tokens of a window.
pub const WINDOW: usize = 32;
/// Windows in which a latent fires, and as many in which it does not, to explain by, and again as many held out.
pub const WINDOWS: usize = 50;
/// So many of those in which it does not fire have a token on which it fires elsewhere, if there are as many.
const HARD: usize = 25;
/// Of fewer windows of a kind nothing is said.
const FEWEST: usize = 5;
/// Draws for each silent window that is wanted.
const TRIES: usize = 20;

/// An explanation with its scores.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its kind.
    pub method: Method,
    /// What it says.
    pub explanation: Explanation,
    /// How well it detects the latent in held-out windows.
    pub own: Detection,
    /// How well the explanation of another latent, drawn at random, does.
    pub other: Detection,
}

/// Windows of a latent, to explain by and held out: of documents of even and of odd numbers, so that no text is in both.
#[derive(Default)]
struct Windows {
    by: Vec<Example>,
    held_out: Vec<Example>,
}

/// Explains those of some latents that fire often enough, in the order given. `features` are those of all latents.
///
/// # Errors
/// If the store can't be read, or the work is interrupted.
pub fn described(
    readers: &Readers<'_>,
    texts: &Texts,
    classes: &Classes,
    features: &[Feature],
    latents: &[usize],
    stage: &mut Stage,
    saved: &str,
) -> Result<Vec<(usize, Vec<Described>)>> {
    // In random order, so that the next one is any other.
    let mut order = latents.to_vec();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    let mut found = Vec::new();
    for group in order.chunks(GROUP) {
        if interrupt::requested() {
            return Err(Interrupted { saved: saved.to_owned() }.into());
        }
        let windows = readers.map(group, |reader, latent| windows(reader, texts, &features[latent]))?;
        let enough: Vec<(usize, Windows)> =
            group.iter().copied().zip(windows).filter_map(|(latent, windows)| Some((latent, windows?))).collect();
        let explained = |(latent, windows): &(usize, Windows)| -> Vec<(Method, Explanation)> {
            let mut all = explain(&windows.by, classes);
            all.insert(3, written(&features[*latent].written));
            Method::ALL.into_iter().zip(all).collect()
        };
        let explanations: Vec<Vec<(Method, Explanation)>> = enough.iter().map(explained).collect();
        for (at, (latent, windows)) in enough.iter().enumerate() {
            let others = &explanations[(at + 1) % explanations.len()];
            let one = |((method, own), (_, other)): (&(Method, Explanation), &(Method, Explanation))| {
                let detected = |explanation| detect(explanation, &windows.by, &windows.held_out, classes);
                let is_other = explanations.len() > 1;
                let other = if is_other { detected(other) } else { Detection::default() };
                Described { method: *method, explanation: own.clone(), own: detected(own), other }
            };
            found.push((*latent, explanations[at].iter().zip(others).map(one).collect()));
        }
        stage.advance(group.len() as u64, String::new);
    }
    found.sort_by_key(|(latent, _)| *latent);
    Ok(found)
}

/// The windows of a latent; `None` if there are too few of a kind.
fn windows(reader: &mut Reader<'_>, texts: &Texts, feature: &Feature) -> Result<Option<Windows>> {
    let latent = feature.latent;
    let context_size = reader.tokens.context_size();
    let in_context = context_size.div_ceil(WINDOW);
    let window_of = |position: usize| position / context_size * in_context + position % context_size / WINDOW;
    let start_of = |window: usize| window / in_context * context_size + window % in_context * WINDOW;
    let side_of = |window: usize| texts.cells.documents().of(start_of(window) as u32) % 2;
    let all = reader.tokens.len() / context_size * in_context;
    let mut active: Vec<usize> = Vec::new();
    let mut drawn = [0, 1].map(|_| ContextSample::new(latent, WINDOWS));
    reader.events.each(latent, |position, _| {
        let window = window_of(position as usize);
        if active.last() != Some(&window) {
            active.push(window);
            drawn[side_of(window)].push(window);
        }
        Ok(())
    })?;
    let is_silent = |window: &usize| active.binary_search(window).is_err();
    let hard = feature.scores.top.iter().flat_map(|token| texts.candidates.of(token.id));
    let mut hard: Vec<usize> = hard.map(|position| window_of(position as usize)).filter(is_silent).collect();
    hard.sort_unstable();
    hard.dedup();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    rng.set_stream(latent as u64);
    let mut found = Windows::default();
    for (side, draw) in drawn.into_iter().enumerate() {
        let firing = draw.finish();
        let of_side = hard.iter().copied().filter(|window| side_of(*window) == side);
        let mut chosen = sample(of_side.collect(), HARD.min(firing.len()));
        for _ in 0..TRIES * WINDOWS {
            let window = rng.random_range(0..all);
            if chosen.len() < firing.len() && side_of(window) == side && is_silent(&window) && !chosen.contains(&window)
            {
                chosen.push(window);
            }
        }
        if firing.len() < FEWEST || chosen.len() < FEWEST {
            return Ok(None);
        }
        chosen.extend(firing);
        chosen.sort_unstable();
        let examples = examples(reader, latent, &chosen, window_of, start_of)?;
        if side == 0 { found.by = examples } else { found.held_out = examples }
    }
    Ok(Some(found))
}

/// The tokens of windows, and where a latent fires in them. `chosen` ascend.
fn examples(
    reader: &mut Reader<'_>,
    latent: usize,
    chosen: &[usize],
    window_of: impl Fn(usize) -> usize,
    start_of: impl Fn(usize) -> usize,
) -> Result<Vec<Example>> {
    let context_size = reader.tokens.context_size();
    let mut examples = Vec::with_capacity(chosen.len());
    for &window in chosen {
        let start = start_of(window);
        let first = start % context_size;
        let before = usize::from(first > 0);
        let mut tokens = reader.tokens.read(start - before, before + WINDOW.min(context_size - first))?;
        let before = (before > 0).then(|| tokens.remove(0));
        examples.push(Example { fires: vec![false; tokens.len()], tokens, before, first: first as u32 });
    }
    reader.events.each(latent, |position, _| {
        if let Ok(at) = chosen.binary_search(&window_of(position as usize)) {
            examples[at].fires[position as usize - start_of(chosen[at])] = true;
        }
        Ok(())
    })?;
    Ok(examples)
}
