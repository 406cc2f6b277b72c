//! Descriptions of which it is known where they fit.

use anyhow::{Result, ensure};
use assay_probes::stats::{Interval, clopper_pearson};
use serde::Serialize;

use super::detected;
use super::endpoint::Endpoint;
use super::prompts::MOST_WINDOWS;
use crate::progress::Stage;

/// Descriptions, each with five sentences that it fits; it fits no sentence of another.
const KNOWN: [(&str, [&str; 5]); 6] = [
    (
        "a year of the 19th or 20th century, written in digits",
        [
            "The bridge was finished in 1894 and painted grey.",
            "She moved to the coast in the spring of 1952.",
            "Since 1911 the house has belonged to the town.",
            "A second edition of the map came out in 1876.",
            "They rebuilt the old mill after the flood of 1938.",
        ],
    ),
    (
        "the name of a colour",
        [
            "A red door leads into the garden.",
            "The sky turned yellow before the storm.",
            "He wore a green coat and carried a stick.",
            "Her bicycle is blue like that of her brother.",
            "Purple flowers grow along the wall.",
        ],
    ),
    (
        "a question",
        [
            "Where did you leave the keys of the boat?",
            "Who will water the plants while we are away?",
            "How long does the ferry take to the island?",
            "Why is the library closed today?",
            "What do you think of the new teacher?",
        ],
    ),
    (
        "source code of a computer program",
        [
            "for (int i = 0; i < n; i++) { sum += x[i]; }",
            "def area(r): return math.pi * r ** 2",
            "if (ptr == NULL) { free(buf); return -1; }",
            "let total = items.iter().map(|i| i.price).sum();",
            "SELECT name FROM users WHERE id = 7;",
        ],
    ),
    (
        "an amount of money in dollars",
        [
            "The ticket costs $12 for adults.",
            "He owed the baker forty dollars and paid at once.",
            "Rents here rose to $900 a month.",
            "She sold the painting for two thousand dollars.",
            "A cup of tea is $3 at the station.",
        ],
    ),
    (
        "text in French",
        [
            "Le chat dort devant la porte de la cuisine.",
            "Nous avons mangé du pain et du fromage.",
            "La gare se trouve derrière la mairie.",
            "Elle habite une petite maison près de la mer.",
            "Il pleut depuis ce matin dans la vallée.",
        ],
    ),
];

/// How sure it must be that the judge is better than chance: the level of the interval that has to lie above ½.
const LEVEL: f64 = 0.98;

/// How a judge does on what is known.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// Sentences that it decided rightly by their own descriptions, half of which fit.
    pub right: usize,
    /// Of so many.
    pub of: usize,
    /// The share behind that, at 98 % (Clopper and Pearson).
    pub interval: Option<Interval>,
    /// The same for descriptions that fit none of the sentences, where the answer 1 is expected of the same ones.
    pub shuffled: usize,
    /// Answers that could not be read, which are wrong.
    pub unread: usize,
}

/// Requests that a calibration takes.
pub(super) const fn requests() -> usize {
    2 * KNOWN.len() * (2 * KNOWN[0].1.len()).div_ceil(MOST_WINDOWS)
}

impl Calibration {
    /// Asks for each description about its own five sentences and five others, and about the same with the description after the next in its place.
    pub(super) fn of(endpoint: &Endpoint, stage: &mut Stage, saved: &str) -> Result<Self> {
        let mut found = Self { right: 0, of: 0, interval: None, shuffled: 0, unread: 0 };
        for (at, (own, fitting)) in KNOWN.iter().enumerate() {
            let known = |ahead: usize| &KNOWN[(at + ahead) % KNOWN.len()];
            // In turns, so that their order says nothing.
            let others = known(1).1;
            let texts: Vec<String> =
                fitting.iter().zip(others).flat_map(|(a, b)| [(*a).to_owned(), b.to_owned()]).collect();
            for (description, is_own) in [(*own, true), (known(2).0, false)] {
                let answers = detected(endpoint, description, &texts, stage, saved)?;
                let right = answers.iter().enumerate().filter(|(at, said)| **said == Some(at % 2 == 0)).count();
                found.unread += answers.iter().filter(|said| said.is_none()).count();
                if is_own {
                    found.right += right;
                    found.of += texts.len();
                } else {
                    found.shuffled += right;
                }
            }
        }
        found.interval = clopper_pearson(found.right, found.of, LEVEL);
        Ok(found)
    }

    /// # Errors
    /// If a judge did not do better than chance.
    pub(super) fn check(&self, judge: &str) -> Result<()> {
        ensure!(
            self.interval.is_some_and(|interval| interval.low > 0.5) && self.right > self.shuffled,
            "the judge {judge} decides {} of {} sentences rightly by descriptions of which it is known where they fit, and {} by others (answers that could \
             not be read: {}): that is no better than chance, and what it says of latents would mean nothing; give another model",
            self.right,
            self.of,
            self.shuffled,
            self.unread
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(right: usize, shuffled: usize) -> Calibration {
        Calibration { right, of: 60, interval: clopper_pearson(right, 60, LEVEL), shuffled, unread: 0 }
    }

    #[test]
    fn a_judge_has_to_be_better_than_chance() {
        assert!(of(55, 30).check("j").is_ok() && of(41, 30).check("j").is_ok());
        // scipy 1.17.1: binomtest(39, 60).proportion_ci(.98).low = 0.4930; of 40 it is 0.5100, of 41 0.5272.
        assert!(of(39, 30).check("j").is_err() && of(30, 30).check("j").is_err() && of(0, 30).check("j").is_err());
        assert!(of(55, 55).check("j").is_err(), "a judge that does not read descriptions");
    }

    #[test]
    fn sentences_are_all_different() {
        let mut all: Vec<&str> = KNOWN.iter().flat_map(|(_, fitting)| *fitting).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), requests()), (30, 24));
    }
}
