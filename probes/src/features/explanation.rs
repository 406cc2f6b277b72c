//! Explanations of a latent without a language model: what can be said of its windows from tokens alone, and how well that tells windows
//! in which it fires from others.
//!
//! - `learning.rs`: each kind of explanation from windows to explain by.
//! - `rule.rs`: single rules, from the plainest on.
//! - `detection.rs`: the score on windows that no explanation has seen (Paulo et al. 2024, "Automatically Interpreting Millions of Features in
//!   Large Language Models", `detection`).

mod detection;
mod learning;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

pub use detection::{Detection, detect};
pub use learning::{LOOKS_BACK, explain, written};
pub use rule::{Class, Classes, Rule};

/// A stretch of a context, and where a latent fires in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The ids of the tokens before the first, of the same context, in their order: as far as explanations look back ([`LOOKS_BACK`]).
    pub before: Vec<u32>,
    /// The position of the first in its context.
    pub first: u32,
    /// Whether the latent fires on each.
    pub fires: Vec<bool>,
}

impl Example {
    /// Whether the latent fires anywhere.
    pub fn is_active(&self) -> bool {
        self.fires.contains(&true)
    }

    /// The id so many tokens before a place, which may be before the window.
    fn back(&self, at: usize, steps: usize) -> Option<u32> {
        match at.checked_sub(steps) {
            Some(place) => self.tokens.get(place).copied(),
            None => self.before.len().checked_sub(steps - at).and_then(|place| self.before.get(place).copied()),
        }
    }

    /// Whether these tokens end at a place.
    fn ends_with(&self, at: usize, ngram: &[u32]) -> bool {
        ngram.iter().rev().enumerate().all(|(steps, &id)| self.back(at, steps) == Some(id))
    }
}

/// A kind of explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The tokens that it fires on.
    Tokens,
    /// Sequences of up to three tokens that it fires at the end of.
    Ngrams,
    /// Tokens that are in its windows more often than in others.
    Keywords,
    /// Tokens that it writes by the logit lens.
    Written,
    /// One plain rule.
    Rule,
}

impl Method {
    /// All, in the order of tables.
    pub const ALL: [Self; 5] = [Self::Tokens, Self::Ngrams, Self::Keywords, Self::Written, Self::Rule];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Ngrams => "ngrams",
            Self::Keywords => "keywords",
            Self::Written => "written",
            Self::Rule => "rule",
        }
    }
}

/// What is said of a latent, and what decides by it.
#[derive(Clone, Debug, PartialEq)]
pub enum Explanation {
    /// It fires on these; the surest first. Each has the share of its occurrences in the windows to explain by on which it does: half of those
    /// windows were chosen because it fires in them, so that shares order what is said and are not those of any text.
    Tokens(Vec<(u32, f64)>),
    /// It fires at the end of these, likewise.
    Ngrams(Vec<(Vec<u32>, f64)>),
    /// Its windows have these, each with the logarithm of how much more often; the surest first.
    Keywords(Vec<(u32, f64)>),
    /// It writes these, each with its logit; the largest first.
    Written(Vec<(u32, f64)>),
    /// It fires where a rule holds; `None` where no rule does better than none.
    Rule(Option<Rule>),
}

impl Explanation {
    /// How much a window looks as if the latent fires in it, 0 where nothing that is said of it holds: the largest of what its places say, and
    /// of keywords the sum over the different ones.
    pub fn score(&self, window: &Example, classes: &Classes) -> f64 {
        let largest = |of: &dyn Fn(usize) -> f64| (0..window.tokens.len()).map(of).fold(0.0, f64::max);
        match self {
            Self::Tokens(of) | Self::Written(of) => {
                let of: BTreeMap<u32, f64> = of.iter().copied().collect();
                largest(&|at| of.get(&window.tokens[at]).copied().unwrap_or(0.0))
            }
            Self::Ngrams(of) => largest(&|at| {
                let ends = |(ngram, _): &&(Vec<u32>, f64)| window.ends_with(at, ngram);
                of.iter().filter(ends).map(|(_, share)| *share).fold(0.0, f64::max)
            }),
            Self::Keywords(of) => {
                let there: BTreeSet<u32> = window.tokens.iter().copied().collect();
                of.iter().filter(|(id, _)| there.contains(id)).map(|(_, weight)| weight).sum()
            }
            Self::Rule(rule) => {
                rule.as_ref().map_or(0.0, |rule| largest(&|at| f64::from(u8::from(rule.holds(window, at, classes)))))
            }
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Tokens(of) | Self::Keywords(of) | Self::Written(of) => of.is_empty(),
            Self::Ngrams(of) => of.is_empty(),
            Self::Rule(rule) => rule.is_none(),
        }
    }

    /// In words, without the numbers, which mean little beyond the windows; `token` says how a token reads.
    pub fn text(&self, token: impl Fn(u32) -> String) -> String {
        let said: Vec<String> = match self {
            Self::Tokens(of) | Self::Keywords(of) | Self::Written(of) => of.iter().map(|&(id, _)| token(id)).collect(),
            Self::Ngrams(of) => of.iter().map(|(ngram, _)| ngram.iter().map(|&id| token(id)).collect()).collect(),
            Self::Rule(rule) => rule.iter().map(|rule| rule.text(&token)).collect(),
        };
        if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of four tokens; the latent fires on those places.
    fn windows(of: &[([u32; 4], &[usize])]) -> Vec<Example> {
        let window = |(at, (tokens, fires)): (usize, &([u32; 4], &[usize]))| Example {
            tokens: tokens.to_vec(),
            before: if at % 2 == 1 { vec![7, 9] } else { Vec::new() },
            first: 4 * (at as u32 % 2),
            fires: (0..4).map(|place| fires.contains(&place)).collect(),
        };
        of.iter().enumerate().map(window).collect()
    }

    fn classes() -> Classes {
        let texts = ["<s>", " the", " 12", "Dog", "\n", "(", ")", "...", "a", "b"];
        Classes::new(texts.into_iter().map(str::to_owned))
    }

    #[test]
    fn every_kind_finds_what_it_looks_for() {
        // It fires on 3 after 1, and on no other 3.
        let of = windows(&[
            ([1, 3, 8, 8], &[1]),
            ([8, 3, 8, 1], &[]),
            ([8, 1, 3, 9], &[2]),
            ([3, 9, 8, 8], &[]),
            ([9, 1, 3, 1], &[2]),
            ([9, 8, 1, 8], &[]),
        ]);
        let [tokens, ngrams, keywords, rule] = explain(&of, &classes()).try_into().unwrap();
        assert_eq!(tokens, Explanation::Tokens(vec![(3, 0.5)]));
        assert_eq!(ngrams, Explanation::Ngrams(vec![(vec![1, 3], 0.75)]));
        assert!(matches!(keywords, Explanation::Keywords(_)));
        // "After 1" is wrong at (8, 1) of the last one's end alone, and the token 3 twice.
        assert_eq!(rule, Explanation::Rule(Some(Rule::Previous(Some(1)))));
        let score = |of: &Explanation, tokens: [u32; 4]| of.score(&windows(&[(tokens, &[])])[0], &classes());
        assert_eq!([score(&ngrams, [0, 1, 3, 0]), score(&ngrams, [1, 0, 3, 0])], [0.75, 0.0]);
        assert_eq!([score(&tokens, [0, 1, 3, 0]), score(&tokens, [1, 0, 0, 0])], [0.5, 0.0]);
        assert_eq!([score(&rule, [0, 1, 0, 0]), score(&rule, [0, 0, 0, 1])], [1.0, 0.0]);
        // What stands before the window counts, as far as it is known.
        let two = &windows(&[([0; 4], &[]), ([3, 0, 0, 0], &[])]);
        let ends = |ngram: &[u32], window: &Example| {
            Explanation::Ngrams(vec![(ngram.to_vec(), 0.5)]).score(window, &classes())
        };
        assert_eq!([&[9, 3][..], &[7, 9, 3], &[7, 3], &[3]].map(|ngram| ends(ngram, &two[1])), [0.5, 0.5, 0.0, 0.5]);
        assert_eq!([&[9, 0][..], &[0, 0]].map(|ngram| ends(ngram, &two[0])), [0.0, 0.5]);
        let word = |id: u32| format!("<{id}>");
        assert_eq!(ngrams.text(word), "<1><3>");
        assert_eq!(
            (Explanation::Rule(None).text(word), Explanation::Rule(None).is_empty()),
            ("nothing".to_owned(), true)
        );
        assert_eq!(rule.text(word), "what follows <1>");
        assert_eq!(written(&[(4, 2.0), (5, 0.5), (6, -1.0)]), Explanation::Written(vec![(4, 2.0), (5, 0.5)]));
    }

    #[test]
    fn rules_hold_where_they_say() {
        let window = &windows(&[([5, 2, 6, 3], &[]), ([4, 3, 7, 8], &[])]);
        let holds = |rule: Rule, window: &Example| {
            (0..4).filter(|&at| rule.holds(window, at, &classes())).collect::<Vec<usize>>()
        };
        assert_eq!(holds(Rule::Bracket, &window[0]), [1, 2]);
        assert_eq!(holds(Rule::Of(Class::Digit), &window[0]), [1]);
        assert_eq!(holds(Rule::Of(Class::Space), &window[0]), [1]);
        assert_eq!(holds(Rule::Of(Class::Capital), &window[1]), [1]);
        assert_eq!(holds(Rule::Of(Class::LineEnd), &window[1]), [0]);
        assert_eq!(holds(Rule::Of(Class::Punctuation), &window[1]), [2]);
        assert_eq!(
            (holds(Rule::Previous(None), &window[0]), holds(Rule::Previous(None), &window[1])),
            (vec![0], vec![])
        );
        assert_eq!(holds(Rule::Previous(Some(9)), &window[1]), [0]);
        assert_eq!(holds(Rule::Position(6), &window[1]), [2]);
        assert_eq!((holds(Rule::Octave(1), &window[0]), holds(Rule::Octave(2), &window[0])), (vec![1, 2], vec![3]));
    }
}
