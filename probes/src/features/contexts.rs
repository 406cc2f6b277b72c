//! Which firings of a latent are shown: chosen from the stream of them, which is read twice, in memory that does not grow with it.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Shares of a latent's mass of which each is shown.
pub const STRATA: usize = 5;
/// Bars of the histogram of activations.
pub const HISTOGRAM_BINS: usize = 40;
/// Of documents, of a stratum, of the least firings, and of silent places, so many are shown.
const LARGEST: usize = 20;
const OF_STRATUM: usize = 5;
const LEAST: usize = 5;
const SILENT: usize = 5;

/// Why a place is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PickReason {
    /// The largest activation of its document, among the largest of all documents.
    Largest,
    /// Drawn from a share of the mass, 0 the one of the largest activations.
    Stratum(u8),
    /// Among the least activations: near misses.
    Least,
    /// The token on which the latent fires most, and it is silent in the whole window.
    Silent,
}

/// A place that is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picked {
    /// Why.
    pub kind: PickReason,
    /// Its position, counted through all contexts.
    pub position: u32,
    /// The activation there.
    pub value: f32,
}

/// How many firings there are of each magnitude, to 1 part in 256: those that share the exponent and the first 8 bits of the mantissa.
#[derive(Clone, Debug, Default)]
pub struct Spectrum(BTreeMap<u32, (u64, f64)>);

/// A share of the mass: the firings whose magnitudes lie between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stratum {
    /// The least magnitude in it, rounded down.
    pub low: f32,
    /// Firings in it.
    pub events: u64,
    /// Their share of the mass.
    pub mass: f64,
}

fn key(value: f32) -> u32 {
    value.abs().to_bits() >> 15
}

impl Spectrum {
    /// Takes a firing.
    pub fn push(&mut self, value: f32) {
        let (count, mass) = self.0.entry(key(value)).or_default();
        *count += 1;
        *mass += f64::from(value.abs());
    }

    /// [`STRATA`] of about equal mass, that of the largest activations first. Firings of one magnitude are in one stratum, so that a
    /// stratum may have more than its share, and others fewer or none.
    pub fn strata(&self) -> [Stratum; STRATA] {
        let total: f64 = self.0.values().map(|(_, mass)| mass).sum();
        let mut strata = [Stratum { low: f32::INFINITY, events: 0, mass: 0.0 }; STRATA];
        let mut before = 0.0;
        for (&key, &(count, mass)) in self.0.iter().rev() {
            // By the middle of what they hold.
            let at = ((before + mass / 2.0) / total * STRATA as f64) as usize;
            let stratum = &mut strata[at.min(STRATA - 1)];
            stratum.low = f32::from_bits(key << 15);
            stratum.events += count;
            stratum.mass += mass / total;
            before += mass;
        }
        strata
    }
}

/// Places of each token, drawn at random, among which silent ones are looked for.
#[derive(Clone, Debug)]
pub struct Candidates {
    each: usize,
    seen: Vec<u32>,
    places: Vec<u32>,
    rng: ChaCha8Rng,
}

impl Candidates {
    /// None yet; `each` for each token of a vocabulary.
    pub fn new(vocab_size: usize, each: usize) -> Self {
        Self { each, seen: vec![0; vocab_size], places: vec![0; vocab_size * each], rng: ChaCha8Rng::seed_from_u64(0) }
    }

    /// Takes the next token.
    pub fn push(&mut self, position: u32, token: u32) {
        let seen = &mut self.seen[token as usize];
        *seen += 1;
        let place =
            if (*seen as usize) <= self.each { *seen as usize - 1 } else { self.rng.random_range(0..*seen) as usize };
        if place < self.each {
            self.places[token as usize * self.each + place] = position;
        }
    }

    /// The places of a token, ascending.
    pub fn of(&self, token: u32) -> Vec<u32> {
        let count = (self.seen[token as usize] as usize).min(self.each);
        let mut places = self.places[token as usize * self.each..][..count].to_vec();
        places.sort_unstable();
        places
    }
}

/// Picks places of one latent while its firings go by again.
#[derive(Clone, Debug)]
pub struct Picks {
    strata: [Stratum; STRATA],
    max: f32,
    /// Tokens of a window before and after its place.
    around: u32,
    rng: ChaCha8Rng,
    /// The document of the last firing and the largest there, and those of the documents before.
    of_document: Option<(usize, Picked)>,
    largest: Vec<Picked>,
    drawn: [Vec<Picked>; STRATA],
    seen: [u64; STRATA],
    least: Vec<Picked>,
    /// Places where it might be silent, ascending, and whether it is.
    silent: Vec<(u32, bool)>,
    histogram: [u64; HISTOGRAM_BINS],
}

impl Picks {
    /// For a latent with these strata, whose largest magnitude is `max`; `silent` are places where it might be silent, ascending.
    pub fn new(latent: usize, strata: [Stratum; STRATA], max: f32, silent: Vec<u32>, around: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        rng.set_stream(latent as u64);
        Self {
            strata,
            max,
            around,
            rng,
            of_document: None,
            largest: Vec::new(),
            drawn: Default::default(),
            seen: [0; STRATA],
            least: Vec::new(),
            silent: silent.into_iter().map(|place| (place, true)).collect(),
            histogram: [0; HISTOGRAM_BINS],
        }
    }

    /// Takes a firing and its document. Positions ascend.
    pub fn push(&mut self, position: u32, document: usize, value: f32) {
        let picked = |kind| Picked { kind, position, value };
        match &mut self.of_document {
            Some((same, largest)) if *same == document => {
                if value.abs() > largest.value.abs() {
                    *largest = picked(PickReason::Largest);
                }
            }
            _ => {
                self.end_document();
                self.of_document = Some((document, picked(PickReason::Largest)));
            }
        }
        let stratum = self.strata.iter().position(|stratum| value.abs() >= stratum.low).unwrap_or(STRATA - 1);
        self.seen[stratum] += 1;
        let (drawn, kind) = (&mut self.drawn[stratum], PickReason::Stratum(stratum as u8));
        if drawn.len() < OF_STRATUM {
            drawn.push(picked(kind));
        } else {
            let place = self.rng.random_range(0..self.seen[stratum]) as usize;
            if let Some(slot) = drawn.get_mut(place) {
                *slot = picked(kind);
            }
        }
        let at = self.least.partition_point(|least| least.value.abs() <= value.abs());
        if at < LEAST {
            self.least.insert(at, picked(PickReason::Least));
            self.least.truncate(LEAST);
        }
        let bin = (f64::from(value.abs()) / f64::from(self.max) * HISTOGRAM_BINS as f64) as usize;
        self.histogram[bin.min(HISTOGRAM_BINS - 1)] += 1;
        // Windows that this firing is in: their places lie within `around` of it.
        let first = self.silent.partition_point(|(place, _)| place + self.around < position);
        for (_, is_silent) in self.silent[first..].iter_mut().take_while(|(place, _)| *place <= position + self.around)
        {
            *is_silent = false;
        }
    }

    fn end_document(&mut self) {
        if let Some((_, largest)) = self.of_document.take() {
            let at = self.largest.partition_point(|before| before.value.abs() >= largest.value.abs());
            if at < LARGEST {
                self.largest.insert(at, largest);
                self.largest.truncate(LARGEST);
            }
        }
    }

    /// How many firings have each of [`HISTOGRAM_BINS`] magnitudes, from 0 to the largest in equal steps.
    pub fn histogram(&self) -> [u64; HISTOGRAM_BINS] {
        self.histogram
    }

    /// The places, by kind; those of one kind the largest first, the least first of near misses.
    pub fn finish(mut self) -> Vec<Picked> {
        self.end_document();
        let mut all = self.largest;
        for mut drawn in self.drawn {
            drawn.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()).then(a.position.cmp(&b.position)));
            all.append(&mut drawn);
        }
        all.append(&mut self.least);
        let silent = self.silent.into_iter().filter(|(_, is_silent)| *is_silent).map(|(place, _)| place);
        all.extend(silent.take(SILENT).map(|position| Picked { kind: PickReason::Silent, position, value: 0.0 }));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_have_equal_mass_not_equal_width() {
        // Values 1/8, 2/8, … 1000/8: most of the mass is at the top, most of the events below.
        let values: Vec<f32> = (1..=1000).map(|i| i as f32 / 8.0).collect();
        let mut spectrum = Spectrum::default();
        values.iter().for_each(|&value| spectrum.push(value));
        let strata = spectrum.strata();
        assert_eq!(strata.iter().map(|stratum| stratum.events).sum::<u64>(), 1000);
        assert!(strata.iter().all(|stratum| (stratum.mass - 0.2).abs() < 0.01), "{strata:?}");
        // The top fifth of the mass are those above √0.8 of the largest.
        assert!((strata[0].events as f64 - 1000.0 * (1.0 - 0.8_f64.sqrt())).abs() < 10.0, "{strata:?}");
        assert!(strata.windows(2).all(|pair| pair[0].low > pair[1].low && pair[0].events < pair[1].events));
        let mut same = Spectrum::default();
        (0..10).for_each(|_| same.push(3.0));
        assert_eq!(same.strata().map(|stratum| stratum.events), [0, 0, 10, 0, 0]);
    }

    #[test]
    fn picks_are_what_they_say() {
        let firing = |i: u32| (10 * i, i as usize / 4, ((i * 7) % 400 + 1) as f32);
        let mut spectrum = Spectrum::default();
        (0..400).for_each(|i| spectrum.push(firing(i).2));
        let silent = vec![3, 15, 4100, 5000, 6000];
        let mut picks = Picks::new(3, spectrum.strata(), 400.0, silent, 5);
        (0..400).for_each(|i| {
            let (position, document, value) = firing(i);
            picks.push(position, document, value);
        });
        assert_eq!(picks.histogram().iter().sum::<u64>(), 400);
        let strata = spectrum.strata();
        let all = picks.clone().finish();
        let of = |kind: PickReason| all.iter().filter(|picked| picked.kind == kind).copied().collect::<Vec<_>>();
        let largest = of(PickReason::Largest);
        assert_eq!((largest.len(), largest[0].value), (20, 400.0));
        let mut documents: Vec<u32> = largest.iter().map(|picked| picked.position / 40).collect();
        documents.sort_unstable();
        documents.dedup();
        assert_eq!(documents.len(), 20, "each is of another document");
        for (at, stratum) in strata.iter().enumerate() {
            let drawn = of(PickReason::Stratum(at as u8));
            let high = if at == 0 { f32::INFINITY } else { strata[at - 1].low };
            assert_eq!(drawn.len(), 5);
            assert!(drawn.iter().all(|picked| picked.value >= stratum.low && picked.value < high));
        }
        assert_eq!(
            of(PickReason::Least).iter().map(|picked| picked.value).collect::<Vec<_>>(),
            [1.0, 2.0, 3.0, 4.0, 5.0]
        );
        // 3 and 15 are within 5 of a firing.
        assert_eq!(of(PickReason::Silent).iter().map(|picked| picked.position).collect::<Vec<_>>(), [4100, 5000, 6000]);
        assert_eq!(all, picks.finish(), "the same every time");
    }

    #[test]
    fn candidates_are_places_of_their_token() {
        let mut candidates = Candidates::new(3, 4);
        (0..300).for_each(|position| candidates.push(position, position % 2));
        for token in 0..2 {
            let places = candidates.of(token);
            assert!(places.len() == 4 && places.is_sorted() && places.iter().all(|place| place % 2 == token));
        }
        assert!(candidates.of(0)[3] > 8, "not the first ones");
        assert!(candidates.of(2).is_empty());
    }
}
