//! Explanations of latents from windows of a store, and how well they detect where the latents fire.

use anyhow::Result;
use assay_models::Decoder;
use assay_models::vocabulary::Vocabulary;
use assay_probes::features::explanation::{
    Classes, Detection, Example, Explanation, LOOKS_BACK, Method, detect, explain, written,
};
use assay_probes::features::{ContextSample, Documents, sample};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Feature;
use super::firings::{GROUP, Reader, Readers, Texts};
use super::judge::Judgeable;
use crate::interrupt::{self, Interrupted};
use crate::progress::Stage;

/// Tokens of a window, at most.
pub const WINDOW: usize = 32;
/// Windows in which a latent fires, and as many in which it does not, to explain by, and again as many held out.
pub const WINDOWS: usize = 50;
/// Blocks of documents that follow one another, of which every other one is held out.
const BLOCKS: usize = 8;
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

/// Windows of a latent, to explain by and held out, of different [`BLOCKS`] of documents.
#[derive(Default)]
struct Windows {
    by: Vec<Example>,
    held_out: Vec<Example>,
}

/// Windows that contexts are cut into: as few as hold at most [`WINDOW`] tokens each, as equal as they can be.
#[derive(Clone, Copy)]
struct Cut {
    context_size: usize,
    in_context: usize,
}

impl Cut {
    fn new(context_size: usize) -> Self {
        Self { context_size, in_context: context_size.div_ceil(WINDOW) }
    }

    /// The window of a position.
    fn of(self, position: usize) -> usize {
        let within = ((position % self.context_size + 1) * self.in_context - 1) / self.context_size;
        position / self.context_size * self.in_context + within
    }

    /// The first position of a window.
    fn start(self, window: usize) -> usize {
        let within = window % self.in_context * self.context_size / self.in_context;
        window / self.in_context * self.context_size + within
    }

    /// The side of a window: 0 to explain by, 1 held out; `None` if it is on both. Where rows of packed texts end, a document counts as two. These
    /// follow one another, and are on different sides at the ends of blocks alone.
    fn side(self, documents: &Documents, window: usize) -> Option<usize> {
        let blocks = documents.count().min(BLOCKS);
        let side = |position: usize| documents.of(position as u32) * blocks / documents.count() % 2;
        let first = side(self.start(window));
        (first == side(self.start(window + 1) - 1)).then_some(first)
    }
}

/// The texts of a model's tokens, as explanations know them.
pub fn classes(model: &Decoder, vocabulary: &Vocabulary) -> Classes {
    Classes::new((0..model.config().vocab_size as u32).map(|id| vocabulary.text(id)))
}

/// Why no latent is explained, if documents are too few for that.
pub fn unexplained(documents: &Documents) -> Option<String> {
    (documents.count() < 2).then(|| {
        "no latent is explained: an explanation is made from some documents and scored on others, and these tokens are one document; give tokens of \
         more documents"
            .to_owned()
    })
}

/// All latents in random order, so that the next one is any other.
fn shuffled(mut latents: Vec<usize>) -> Vec<usize> {
    latents.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    latents
}

/// The latents whose explanations may stand beside one's where all are explained: the first with windows enough is the one that does.
pub fn others(latent: usize, latents: usize) -> Vec<usize> {
    let order = shuffled((0..latents).collect());
    let at = order.iter().position(|&of| of == latent).unwrap_or(0);
    let first = at / GROUP * GROUP;
    let group = &order[first..latents.min(first + GROUP)];
    let (before, from) = group.split_at(at - first);
    from.iter().skip(1).chain(before).chain(order[..first].iter().rev()).copied().collect()
}

/// Explains those of some latents that fire often enough, in the order given. `features` are those of all latents. Beside each is the next one in
/// random order of its group, or if it is alone the last of the groups before.
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
    let order = shuffled(latents.to_vec());
    let mut found = Vec::new();
    let mut before: Option<Vec<(Method, Explanation)>> = None;
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
            let all = Method::ALL.into_iter().zip(all);
            // Where nothing is written, in hooks without a logit lens, nothing can be said by it.
            all.filter(|(method, of)| *method != Method::Written || !of.is_empty()).collect()
        };
        let mut explanations: Vec<Vec<(Method, Explanation)>> = enough.par_iter().map(explained).collect();
        let scored = enough.par_iter().enumerate().map(|(at, (latent, windows))| {
            let is_alone = explanations.len() == 1;
            let others = if is_alone { before.as_ref() } else { Some(&explanations[(at + 1) % explanations.len()]) };
            let one = |(method, own): &(Method, Explanation)| {
                let detected = |explanation| detect(explanation, &windows.by, &windows.held_out, classes);
                let other = others.and_then(|others| others.iter().find(|(of, _)| of == method));
                let other = other.map_or_else(Detection::default, |(_, other)| detected(other));
                Described { method: *method, explanation: own.clone(), own: detected(own), other }
            };
            (*latent, explanations[at].iter().map(one).collect())
        });
        found.par_extend(scored);
        before = explanations.pop().or(before);
        stage.advance(group.len() as u64, String::new);
    }
    found.sort_by_key(|(latent, _)| *latent);
    Ok(found)
}

/// The windows of some latents that have been explained, for a judge.
///
/// # Errors
/// If the store can't be read.
pub fn judgeable(
    readers: &Readers<'_>,
    texts: &Texts,
    features: &[Feature],
    latents: &[usize],
) -> Result<Vec<Judgeable>> {
    let of = |(latent, windows): (&usize, Option<Windows>)| {
        let Windows { by, held_out } = windows?;
        let tokens = features[*latent].detection(Method::Tokens).map(|described| described.explanation.clone());
        Some(Judgeable { latent: *latent, by, held_out, tokens })
    };
    let windows = readers.map(latents, |reader, latent| windows(reader, texts, &features[latent]))?;
    Ok(latents.iter().zip(windows).filter_map(of).collect())
}

/// The windows of a latent; `None` if there are too few of a kind.
fn windows(reader: &mut Reader<'_>, texts: &Texts, feature: &Feature) -> Result<Option<Windows>> {
    let latent = feature.latent;
    let cut = Cut::new(reader.tokens.context_size());
    let side_of = |window: usize| cut.side(texts.cells.documents(), window);
    let all = reader.tokens.len() / cut.context_size * cut.in_context;
    let mut active: Vec<usize> = Vec::new();
    let mut drawn = [0, 1].map(|_| ContextSample::new(latent, WINDOWS));
    reader.events.each(latent, |position, _| {
        let window = cut.of(position as usize);
        if active.last() != Some(&window) {
            active.push(window);
            if let Some(side) = side_of(window) {
                drawn[side].push(window);
            }
        }
        Ok(())
    })?;
    let is_silent = |window: &usize| active.binary_search(window).is_err();
    let hard = feature.scores.top.iter().flat_map(|token| texts.candidates.of(token.id));
    let mut hard: Vec<usize> = hard.map(|position| cut.of(position as usize)).filter(is_silent).collect();
    hard.sort_unstable();
    hard.dedup();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    rng.set_stream(latent as u64);
    let mut found = Windows::default();
    for (side, draw) in drawn.into_iter().enumerate() {
        let firing = draw.finish();
        let of_side = hard.iter().copied().filter(|window| side_of(*window) == Some(side));
        // Half at most, so that what is told apart does not hang on how often it fires.
        let mut chosen = sample(of_side.collect(), firing.len() / 2);
        for _ in 0..TRIES * WINDOWS {
            let window = rng.random_range(0..all);
            if chosen.len() < firing.len()
                && side_of(window) == Some(side)
                && is_silent(&window)
                && !chosen.contains(&window)
            {
                chosen.push(window);
            }
        }
        if firing.len() < FEWEST || chosen.len() < FEWEST {
            return Ok(None);
        }
        chosen.extend(firing);
        chosen.sort_unstable();
        let examples = examples(reader, latent, &chosen, cut)?;
        if side == 0 { found.by = examples } else { found.held_out = examples }
    }
    Ok(Some(found))
}

/// The tokens of windows, and where a latent fires in them. `chosen` ascend.
fn examples(reader: &mut Reader<'_>, latent: usize, chosen: &[usize], cut: Cut) -> Result<Vec<Example>> {
    let mut examples = Vec::with_capacity(chosen.len());
    for &window in chosen {
        let start = cut.start(window);
        let first = start % cut.context_size;
        let back = first.min(LOOKS_BACK);
        let mut before = reader.tokens.read(start - back, back + cut.start(window + 1) - start)?;
        let tokens = before.split_off(back);
        examples.push(Example { fires: vec![false; tokens.len()], tokens, before, first: first as u32 });
    }
    reader.events.each(latent, |position, _| {
        if let Ok(at) = chosen.binary_search(&cut.of(position as usize)) {
            examples[at].fires[position as usize - cut.start(chosen[at])] = true;
        }
        Ok(())
    })?;
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_a_context_are_as_equal_as_they_can_be() {
        for (context_size, sizes) in
            [(7, vec![7]), (32, vec![32]), (33, vec![16, 17]), (100, vec![25; 4]), (70, vec![23, 23, 24])]
        {
            let cut = Cut::new(context_size);
            let mut found = vec![0; 3 * sizes.len()];
            for position in 0..3 * context_size {
                found[cut.of(position)] += 1;
                assert!((cut.start(cut.of(position))..cut.start(cut.of(position) + 1)).contains(&position));
            }
            assert_eq!(found, sizes.repeat(3), "contexts of {context_size}");
        }
    }

    /// Texts of 50 tokens packed into rows of 64, where a row's end cuts a text in two.
    #[test]
    fn a_text_is_on_one_side_but_at_the_ends_of_blocks() {
        let (texts, context_size, of_text) = (64, 64, 50);
        let mut documents = Documents::default();
        (0..texts * of_text).for_each(|at| documents.push(at % of_text == 0 || at % context_size == 0));
        let cut = Cut::new(context_size);
        let mut sides = vec![[false; 2]; texts];
        let mut windows = [0, 0];
        for window in 0..texts * of_text / context_size * cut.in_context {
            let Some(side) = cut.side(&documents, window) else { continue };
            windows[side] += 1;
            (cut.start(window)..cut.start(window + 1)).for_each(|at| sides[at / of_text][side] = true);
        }
        assert!(sides.iter().filter(|sides| **sides == [true; 2]).count() < BLOCKS);
        // 100 windows, of which seven at most are on both sides.
        assert!(windows.iter().all(|n| (43..=57).contains(n)) && windows[0] + windows[1] >= 93, "{windows:?}");
        let mut one = Documents::default();
        (0..64).for_each(|_| one.push(false));
        assert_eq!((cut.side(&one, 0), cut.side(&one, 1)), (Some(0), Some(0)));
        assert!(unexplained(&one).is_some() && unexplained(&documents).is_none());
    }

    /// The next one in the table's order is the first to be tried, and every other one is tried once.
    #[test]
    fn others_are_all_that_may_stand_beside() {
        let order = shuffled((0..600).collect());
        for at in [0, 255, 256, 599] {
            let others = others(order[at], 600);
            let next = if at + 1 == 600 {
                512
            } else if (at + 1) % GROUP == 0 {
                at + 1 - GROUP
            } else {
                at + 1
            };
            assert_eq!(others[0], order[next]);
            let mut different = others.clone();
            different.sort_unstable();
            different.dedup();
            assert!(different.len() == others.len() && !others.contains(&order[at]));
            assert_eq!(others.len(), 600.min((at / GROUP + 1) * GROUP) - 1);
        }
    }
}
