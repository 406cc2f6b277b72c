//! Explanations from windows: what the tokens of windows in which a latent fires have that others have not.

use std::collections::BTreeMap;

use super::rule::{Class, Classes, Rule, octave};
use super::{Example, Explanation};

/// Entries of an explanation, at most.
const MOST: usize = 10;
/// Tokens of a sequence.
const LONGEST: usize = 3;
/// Tokens before a window that explanations know: those of the longest sequence that ends at its first token.
pub const LOOKS_BACK: usize = LONGEST - 1;
/// A sequence has been seen to fire so often.
const FEWEST: u32 = 2;
/// A rule that stands earlier on the ladder is taken where it is so close to the best F1.
const CLOSE: f64 = 0.02;
/// z above which a word is a keyword: the 97.5th percentile of a standard normal distribution.
const SURE: f64 = 1.96;

/// How often something was seen, and how often with the latent firing.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    all: u32,
    fires: u32,
}

impl Seen {
    fn push(&mut self, fires: bool) {
        self.all += 1;
        self.fires += u32::from(fires);
    }

    /// The share with firings, as if it had been seen once more without: what was seen once is not sure.
    fn share(self) -> f64 {
        f64::from(self.fires) / f64::from(self.all + 1)
    }
}

/// What windows say of a latent, by every method but that of what it writes: some in which it fires and some in which it does not.
pub fn explain(windows: &[Example], classes: &Classes) -> Vec<Explanation> {
    vec![tokens(windows), ngrams(windows), keywords(windows), Explanation::Rule(ladder(windows, classes))]
}

/// What it writes, as an explanation of where it fires: ids and logits of which the positive ones count, the largest first.
pub fn written(written: &[(u32, f32)]) -> Explanation {
    let positive = written.iter().filter(|(_, logit)| *logit > 0.0);
    Explanation::Written(positive.take(MOST).map(|&(id, logit)| (id, f64::from(logit))).collect())
}

/// Of each token of all windows: the window, the place, whether it fires there.
fn places(windows: &[Example]) -> impl Iterator<Item = (&Example, usize, bool)> {
    windows.iter().flat_map(|window| window.fires.iter().enumerate().map(move |(at, &fires)| (window, at, fires)))
}

/// The surest first; ties to more firings, then in the order of keys.
fn surest<K: Ord>(seen: BTreeMap<K, Seen>, fewest: u32) -> Vec<(K, Seen)> {
    let mut found: Vec<(K, Seen)> = seen.into_iter().filter(|(_, seen)| seen.fires >= fewest).collect();
    found.sort_by(|a, b| b.1.share().total_cmp(&a.1.share()).then(b.1.fires.cmp(&a.1.fires)));
    found
}

/// Tokens on which it fires more often than on tokens at large: those that hold most of its firings, then the surest first.
fn tokens(windows: &[Example]) -> Explanation {
    let (mut seen, mut overall) = (BTreeMap::<u32, Seen>::new(), Seen::default());
    for (window, at, fires) in places(windows) {
        seen.entry(window.tokens[at]).or_default().push(fires);
        overall.push(fires);
    }
    seen.retain(|_, seen| seen.share() > overall.share());
    let mut found = surest(seen, 1);
    // Rare tokens that always fire say little; the most firings are what is to be explained.
    found.sort_by(|a, b| (f64::from(b.1.fires) * b.1.share()).total_cmp(&(f64::from(a.1.fires) * a.1.share())));
    found.truncate(MOST);
    found.sort_by(|a, b| b.1.share().total_cmp(&a.1.share()));
    Explanation::Tokens(found.into_iter().map(|(id, seen)| (id, seen.share())).collect())
}

/// Sequences after which it fires surely, each as short as it may be (a plain relative of N2G: Foote et al. 2023, "Neuron to Graph", which
/// prunes contexts by the model's activation, where this counts): the surest, the shorter of equals, that explains a firing that none before
/// it does, and so on.
fn ngrams(windows: &[Example]) -> Explanation {
    // By length, then by ids; what is behind the end of a shorter one is 0.
    let mut seen = BTreeMap::<(usize, [u32; LONGEST]), Seen>::new();
    for (window, at, fires) in places(windows) {
        for n in 1..=LONGEST {
            let mut ngram = [0; LONGEST];
            let known = (0..n).all(|place| {
                window.back(at, n - 1 - place).is_some_and(|id| {
                    ngram[place] = id;
                    true
                })
            });
            if known {
                seen.entry((n, ngram)).or_default().push(fires);
            }
        }
    }
    let mut left: Vec<(&Example, usize)> =
        places(windows).filter(|(_, _, fires)| *fires).map(|(window, at, _)| (window, at)).collect();
    let mut chosen = Vec::new();
    // `surest` keeps the order of keys among equals: the shorter first.
    for ((n, ngram), seen) in surest(seen, FEWEST) {
        let before = left.len();
        left.retain(|(window, at)| !window.ends_with(*at, &ngram[..n]));
        if left.len() < before {
            chosen.push((ngram[..n].to_vec(), seen.share()));
        }
        if chosen.len() == MOST || left.is_empty() {
            break;
        }
    }
    Explanation::Ngrams(chosen)
}

/// Tokens by the log-odds of being in windows where it fires, with a Dirichlet prior of all windows' counts (Monroe, Colaresi and Quinn 2008,
/// "Fightin' Words"); those that are sure, the surest first.
fn keywords(windows: &[Example]) -> Explanation {
    let mut counts = BTreeMap::<u32, [f64; 2]>::new();
    let mut totals = [0.0_f64; 2];
    for window in windows {
        let side = usize::from(window.is_active());
        for &id in &window.tokens {
            counts.entry(id).or_default()[side] += 1.0;
            totals[side] += 1.0;
        }
    }
    // A prior as large as the number of different words, of the words' overall shares.
    let prior = counts.len() as f64 / (totals[0] + totals[1]).max(1.0);
    let mass = counts.len() as f64;
    let of_word = |(id, [silent, active]): (u32, [f64; 2])| {
        let alpha = prior * (silent + active);
        let odds = |count: f64, total: f64| ((count + alpha) / (total + mass - count - alpha)).ln();
        let difference = odds(active, totals[1]) - odds(silent, totals[0]);
        let error = (1.0 / (active + alpha) + 1.0 / (silent + alpha)).sqrt();
        (id, difference, difference / error)
    };
    let mut found: Vec<(u32, f64, f64)> = counts.into_iter().map(of_word).filter(|(.., z)| *z > SURE).collect();
    found.sort_by(|a, b| b.2.total_cmp(&a.2));
    found.truncate(MOST);
    Explanation::Keywords(found.into_iter().map(|(id, weight, _)| (id, weight)).collect())
}

/// The first rule whose F1 over all tokens is within [`CLOSE`] of the best one's: its token, the one before, what kind of token, brackets,
/// position; `None` where none is better than firing everywhere.
fn ladder(windows: &[Example], classes: &Classes) -> Option<Rule> {
    let most = |of: &dyn Fn(&Example, usize) -> Option<u32>| {
        let mut counts = BTreeMap::<Option<u32>, u32>::new();
        places(windows)
            .filter(|(_, _, fires)| *fires)
            .for_each(|(window, at, _)| *counts.entry(of(window, at)).or_default() += 1);
        counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|(key, _)| key)
    };
    let position = |window: &Example, at: usize| Some(window.first + at as u32);
    let octaves = |window: &Example, at: usize| Some(octave(window.first + at as u32));
    let mut rules: Vec<Rule> = Vec::new();
    rules.extend(most(&|window, at| Some(window.tokens[at])).flatten().map(Rule::Token));
    rules.extend(most(&|window, at| window.back(at, 1)).map(Rule::Previous));
    rules.extend(Class::ALL.map(Rule::Of));
    rules.push(Rule::Bracket);
    rules.extend(most(&position).flatten().map(Rule::Position));
    rules.extend(most(&octaves).flatten().map(Rule::Octave));
    let f1 = |holds: &dyn Fn(&Example, usize) -> bool| {
        let [mut both, mut said, mut fired] = [0.0; 3];
        for (window, at, fires) in places(windows) {
            let holds = holds(window, at);
            both += f64::from(u8::from(holds && fires));
            said += f64::from(u8::from(holds));
            fired += f64::from(u8::from(fires));
        }
        if both > 0.0 { 2.0 * both / (said + fired) } else { 0.0 }
    };
    let everywhere = f1(&|_, _| true);
    let scored: Vec<(Rule, f64)> =
        rules.into_iter().map(|rule| (rule, f1(&|window, at| rule.holds(window, at, classes)))).collect();
    let best = scored.iter().map(|(_, f1)| *f1).fold(0.0, f64::max);
    scored.into_iter().find(|(_, f1)| *f1 > everywhere && *f1 >= best - CLOSE).map(|(rule, _)| rule)
}
