//! Splitting and absorption without labels: what latents do with a topic that everybody can name, the occurrences of one token id.
//!
//! A topic is split where several latents share it, and absorbed where the latents that stand for it are silent exactly on the occurrences on which a more
//! special one fires. SAEBench asks the same of first letters, with a probe that it trains (Chanin et al. 2024, "A is for Absorption"); here the token id is the
//! label, so that nothing is trained and no text is made up. Thresholds are SAEBench's where it has them.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::stats::mean;

/// Occurrences that a topic has at least.
pub const FEWEST: usize = 50;
/// Occurrences of a topic on which a latent fires at least, to be one of it.
const RARE: usize = 10;
/// Share of a latent's firings that are on a topic at least, for it to stand for it.
const OWN: f64 = 0.1;
/// One more latent belongs to a split if F1 rises by more than this (SAEBench).
const GAIN: f64 = 0.03;
/// Latents of a split at most (SAEBench).
const MOST: usize = 10;
/// A topic with F1 no larger is none that the SAE has (SAEBench drops such letters).
pub const LEARNED: f64 = 0.6;
/// Latents are silent where an absorber fires if they fire on no larger share of its occurrences.
const SILENT: f64 = 0.1;
/// And fire elsewhere if they do on no smaller share of the others.
const ELSEWHERE: f64 = 0.9;

/// What latents do with the occurrences of a token id.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// The id.
    pub token: u32,
    /// How often it occurs.
    pub occurrences: u64,
    /// The latents that stand for it: first the one whose firings are nearest to the occurrences by F1, then each that raises most the F1 of all firings
    /// together, as long as that is by more than 0.03; at most ten.
    pub latents: Vec<usize>,
    /// F1 of the first, and of all of them: 2·hits / (firings + occurrences).
    pub f1: [f64; 2],
    /// Other latents that absorb it: each fires on ten occurrences or more, the latents fire on no more than a tenth of those, its decoder row has
    /// a positive cosine with that of the first; and where none of them fires, the latents do on nine tenths or more.
    pub absorbers: Vec<usize>,
    /// Occurrences on which an absorber fires and none of the latents does.
    pub absorbed: u64,
}

impl Topic {
    /// Whether the SAE has it: F1 above 0.6.
    pub fn is_learned(&self) -> bool {
        self.f1[1] > LEARNED
    }

    /// The share of its occurrences that is absorbed.
    pub fn absorbed_share(&self) -> f64 {
        self.absorbed as f64 / self.occurrences as f64
    }
}

/// Means over the topics that an SAE has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicMeans {
    /// Token ids that are frequent enough.
    pub topics: usize,
    /// Those that the SAE has.
    pub learned: usize,
    /// The mean number of latents of a topic; `None` without any.
    pub split: Option<f64>,
    /// The mean share of occurrences that is absorbed.
    pub absorbed: Option<f64>,
}

impl TopicMeans {
    /// Of some topics.
    pub fn of(topics: &[Topic]) -> Self {
        let learned: Vec<&Topic> = topics.iter().filter(|topic| topic.is_learned()).collect();
        let mean_of = |of: fn(&Topic) -> f64| mean(&learned.iter().map(|topic| of(topic)).collect::<Vec<f64>>());
        Self {
            topics: topics.len(),
            learned: learned.len(),
            split: mean_of(|topic| topic.latents.len() as f64),
            absorbed: mean_of(Topic::absorbed_share),
        }
    }
}

/// Firings of a latent on a topic, by the number of the occurrence, ascending.
struct FiringsOnTopic {
    latent: usize,
    occurrences: Vec<u32>,
}

/// Every token id that occurs often enough, ascending, but for those `left_out`. `firings` has the places in `tokens` on which each latent fires, ascending;
/// `cosine` is that of two latents' decoder rows.
///
/// # Panics
/// If a firing is at no token.
pub fn topics(
    firings: &[Vec<u32>],
    tokens: &[u32],
    left_out: &[u32],
    cosine: impl Fn(usize, usize) -> f64 + Sync,
) -> Vec<Topic> {
    let mut places: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    // Of each token which occurrence of its id it is.
    let mut numbers = vec![0_u32; tokens.len()];
    for (at, id) in tokens.iter().enumerate().filter(|(_, id)| !left_out.contains(id)) {
        let of = places.entry(*id).or_default();
        numbers[at] = of.len() as u32;
        of.push(at as u32);
    }
    places.retain(|_, of| of.len() >= FEWEST);
    let on_topics = |(latent, of): (usize, &Vec<u32>)| {
        let mut by_topic: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &at in of {
            let id = tokens[at as usize];
            if places.contains_key(&id) {
                by_topic.entry(id).or_default().push(numbers[at as usize]);
            }
        }
        by_topic.retain(|_, occurrences| occurrences.len() >= RARE);
        by_topic.into_iter().map(|(id, occurrences)| (id, FiringsOnTopic { latent, occurrences })).collect::<Vec<_>>()
    };
    let mut by_topic: BTreeMap<u32, Vec<FiringsOnTopic>> = BTreeMap::new();
    let found: Vec<Vec<(u32, FiringsOnTopic)>> = firings.par_iter().enumerate().map(on_topics).collect();
    for (id, on) in found.into_iter().flatten() {
        by_topic.entry(id).or_default().push(on);
    }
    let one = |(&token, places): (&u32, &Vec<u32>)| {
        let latents = by_topic.get(&token).map_or(&[][..], Vec::as_slice);
        topic(token, places, latents, firings, tokens.len(), &cosine)
    };
    places.par_iter().map(one).collect()
}

/// A set of numbers below a limit.
struct Set(Vec<u64>);

impl Set {
    fn below(limit: usize) -> Self {
        Self(vec![0; limit.div_ceil(64)])
    }

    fn has(&self, number: u32) -> bool {
        self.0[number as usize / 64] >> (number % 64) & 1 == 1
    }

    fn extend(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|&number| self.0[number as usize / 64] |= 1 << (number % 64));
    }

    /// How many of some numbers are not in it.
    fn lacks(&self, numbers: &[u32]) -> usize {
        numbers.iter().filter(|&&number| !self.has(number)).count()
    }
}

fn topic(
    token: u32,
    places: &[u32],
    on: &[FiringsOnTopic],
    firings: &[Vec<u32>],
    tokens: usize,
    cosine: &impl Fn(usize, usize) -> f64,
) -> Topic {
    let occurrences = places.len();
    let f1 = |hits: usize, fired: usize| 2.0 * hits as f64 / (fired + occurrences) as f64;
    let own = |on: &&FiringsOnTopic| on.occurrences.len() as f64 >= OWN * firings[on.latent].len() as f64;
    let mut left: Vec<&FiringsOnTopic> = on.iter().filter(own).collect();
    let (mut hit, mut fired) = (Set::below(occurrences), Set::below(tokens));
    let (mut counts, mut latents, mut reached) = ([0, 0], Vec::new(), Vec::new());
    while latents.len() < MOST {
        let with = |on: &FiringsOnTopic| {
            let counts = [counts[0] + hit.lacks(&on.occurrences), counts[1] + fired.lacks(&firings[on.latent])];
            (f1(counts[0], counts[1]), counts)
        };
        let mut best: Option<(usize, f64, [usize; 2])> = None;
        for (at, on) in left.iter().enumerate() {
            let (value, counts) = with(on);
            if best.is_none_or(|(_, before, _)| value > before) {
                best = Some((at, value, counts));
            }
        }
        let Some((at, value, after)) = best else { break };
        if reached.last().is_some_and(|before| value - before <= GAIN) {
            break;
        }
        let chosen = left.remove(at);
        hit.extend(&chosen.occurrences);
        fired.extend(&firings[chosen.latent]);
        counts = after;
        reached.push(value);
        latents.push(chosen.latent);
    }
    let (absorbers, absorbed) = latents.first().map_or_else(Default::default, |&first| {
        let is_absorber = |on: &&FiringsOnTopic| {
            let count = on.occurrences.len();
            !latents.contains(&on.latent)
                && (count - hit.lacks(&on.occurrences)) as f64 <= SILENT * count as f64
                && cosine(on.latent, first) > 0.0
        };
        let found: Vec<&FiringsOnTopic> = on.iter().filter(is_absorber).collect();
        let mut theirs = Set::below(occurrences);
        found.iter().for_each(|on| theirs.extend(&on.occurrences));
        let all = 0..occurrences as u32;
        let elsewhere: Vec<u32> = all.clone().filter(|&at| !theirs.has(at)).collect();
        let is_one =
            !found.is_empty() && (elsewhere.len() - hit.lacks(&elsewhere)) as f64 >= ELSEWHERE * elsewhere.len() as f64;
        if !is_one {
            return (Vec::new(), 0);
        }
        let absorbed = all.filter(|&at| theirs.has(at) && !hit.has(at)).count() as u64;
        (found.iter().map(|on| on.latent).collect(), absorbed)
    });
    let [first, all] = [reached.first(), reached.last()].map(|value| value.copied().unwrap_or(0.0));
    Topic { token, occurrences: occurrences as u64, latents, f1: [first, all], absorbers, absorbed }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 400 tokens of four ids in turns. Id 1 has a detector; id 2 is shared by two latents; id 3 has one that is silent on every fifth occurrence, on which
    /// another fires.
    fn made() -> (Vec<u32>, Vec<Vec<u32>>) {
        let tokens: Vec<u32> = (0..400).map(|at| at % 4).collect();
        let of = |id: u32| (0..400).filter(move |at| at % 4 == id);
        let turn = |at: u32, every: u32| at / 4 % every;
        let firings = vec![
            of(1).collect(),
            of(2).filter(|&at| turn(at, 2) == 0).collect(),
            of(2).filter(|&at| turn(at, 2) == 1).collect(),
            of(3).filter(|&at| turn(at, 5) > 0).collect(),
            // Elsewhere as well, so that it is no latent of the topic's own.
            of(3)
                .filter(|&at| turn(at, 5) == 0)
                .chain(of(0).chain(of(1)))
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
            Vec::new(),
        ];
        (tokens, firings)
    }

    fn found(sign: f64, left_out: &[u32]) -> Vec<Topic> {
        let (tokens, firings) = made();
        topics(&firings, &tokens, left_out, |_, _| sign)
    }

    #[test]
    fn detectors_splits_and_absorbers_are_told_apart() {
        let all = found(0.5, &[]);
        assert_eq!(all.iter().map(|topic| topic.token).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let [_, detected, split, absorbed] = &all[..] else { panic!("{all:?}") };
        assert_eq!((&detected.latents[..], detected.f1, detected.absorbed), (&[0][..], [1.0, 1.0], 0));
        assert_eq!((&split.latents[..], split.f1), (&[1, 2][..], [2.0 / 3.0, 1.0]));
        assert_eq!((&absorbed.latents[..], &absorbed.absorbers[..], absorbed.absorbed), (&[3][..], &[4][..], 20));
        assert!((absorbed.absorbed_share() - 0.2).abs() < 1e-12 && (absorbed.f1[1] - 160.0 / 180.0).abs() < 1e-12);
        let together = TopicMeans::of(&all[1..]);
        assert_eq!((together.learned, together.split), (3, Some(4.0 / 3.0)));
        assert!((together.absorbed.unwrap() - 0.2 / 3.0).abs() < 1e-12);
    }

    /// A decoder that writes elsewhere absorbs nothing, and splits as before: that is of the encoder alone.
    #[test]
    fn the_decoder_decides_what_is_absorbed_and_nothing_of_what_is_split() {
        let (along, against) = (found(0.5, &[]), found(-0.5, &[]));
        assert!(against.iter().all(|topic| topic.absorbed == 0 && topic.absorbers.is_empty()));
        for (a, b) in along.iter().zip(&against) {
            assert_eq!((&a.latents, a.f1), (&b.latents, b.f1));
        }
    }

    #[test]
    fn rare_ids_and_those_left_out_are_no_topics() {
        assert_eq!(found(0.5, &[0, 3]).iter().map(|topic| topic.token).collect::<Vec<_>>(), [1, 2]);
        assert!(topics(&[vec![0, 1]], &[7; FEWEST - 1], &[], |_, _| 1.0).is_empty());
        let silent = topics(&[Vec::new()], &[7; FEWEST], &[], |_, _| 1.0);
        assert_eq!((silent.len(), silent[0].f1, TopicMeans::of(&silent).split), (1, [0.0, 0.0], None));
    }
}
