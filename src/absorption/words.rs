//! Words of a vocabulary, and contexts in which each stands behind examples.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use assay_models::vocabulary::Vocabulary;
use assay_probes::absorption::LETTERS;
use assay_probes::probing::{Split, stratified};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What follows a word (SAEBench, `VERBOSE_FIRST_LETTER_TEMPLATE`).
const AFTER: &str = " has the first letter:";
/// The share of words to fit on (SAEBench).
const TRAIN: f64 = 0.8;

/// Which words are asked for, and how they are shown.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Words of a letter, at most.
    pub most: usize,
    /// Words, with their letters, before each word.
    pub examples: usize,
    /// Tokens of a context, at most.
    pub context: usize,
    /// Seed of all draws.
    pub seed: u64,
}

/// Words, each of one token, and contexts in which they stand.
#[derive(Debug)]
pub struct Spelled {
    /// The words, with the space before them if they have one.
    pub words: Vec<String>,
    /// The letter of each, from 0.
    pub letters: Vec<usize>,
    /// Which are fitted on and which tested.
    pub split: Split,
    /// Tokens of each context.
    pub contexts: Vec<Vec<u32>>,
    /// Where in each context words are read.
    pub places: Vec<Vec<usize>>,
    /// The word at each place, context by context.
    pub read: Vec<usize>,
}

fn line(word: &str, letter: usize) -> String {
    format!("\n{word}{AFTER} {}", char::from(b'A' + letter as u8))
}

impl Spelled {
    /// Draws words and shows them to the model as SAEBench does (0.6.0, `create_icl_prompt`): lines ` word has the first letter: W`, those before
    /// a word being of other words of the same side, drawn at random; the word's own letter follows it, and is not seen. What differs: words are
    /// those with a space before them, where the tokenizer has such, and `most` of a letter at most; and a context has as many words as it has
    /// room for, each read behind `examples` lines or more, not exactly so many.
    ///
    /// # Errors
    /// If the vocabulary has too few words, or a context has no room for a word and its examples.
    pub fn draw(vocabulary: &Vocabulary, asked: Asked) -> Result<Self> {
        let (words, letters, ids) = chosen(vocabulary, asked)?;
        let split = stratified(&letters, &(0..words.len()).collect::<Vec<_>>(), TRAIN, asked.seed);
        let mut this = Self { words, letters, split, contexts: Vec::new(), places: Vec::new(), read: Vec::new() };
        let mut longest = 0;
        for (word, &letter) in this.words.iter().zip(&this.letters) {
            longest = longest.max(vocabulary.encode(&line(word, letter))?.len());
        }
        let room = asked.context.saturating_sub(usize::from(vocabulary.bos().is_some())) / longest.max(1);
        ensure!(
            room > asked.examples,
            "--context-size {}: a word and {} examples take {} lines of up to {longest} tokens; give a longer context or fewer --examples",
            asked.context,
            asked.examples,
            asked.examples + 1
        );
        let mut rng = ChaCha8Rng::seed_from_u64(asked.seed);
        rng.set_stream(1);
        for side in [this.split.train.clone(), this.split.test.clone()] {
            ensure!(
                side.len() > asked.examples,
                "the vocabulary has {} English words of one token, too few for {} examples; lower --examples",
                this.words.len(),
                asked.examples
            );
            for read in side.chunks((room - asked.examples).min(side.len() - asked.examples)) {
                let mut others: Vec<usize> = side.iter().copied().filter(|word| !read.contains(word)).collect();
                let (examples, _) = others.partial_shuffle(&mut rng, asked.examples);
                this.show(vocabulary, examples, read, &ids)?;
            }
        }
        Ok(this)
    }

    /// Adds a context: examples, and words that are read.
    fn show(&mut self, vocabulary: &Vocabulary, examples: &[usize], read: &[usize], ids: &[u32]) -> Result<()> {
        let mut text: String = examples.iter().map(|&word| line(&self.words[word], self.letters[word])).collect();
        let mut ends = Vec::new();
        for &word in read {
            ends.push(text.len() + 1 + self.words[word].len());
            text.push_str(&line(&self.words[word], self.letters[word]));
        }
        let encoded = vocabulary.encode_with_ends(&text)?;
        let bos = vocabulary.bos();
        let mut places = Vec::new();
        for (&word, end) in read.iter().zip(ends) {
            let place = encoded.iter().position(|&token| token == (ids[word], end));
            let place =
                place.with_context(|| format!("the tokenizer joins `{}` with what is beside it", self.words[word]))?;
            places.push(place + usize::from(bos.is_some()));
        }
        // Nothing behind the last word is needed.
        let length = places.last().map_or(0, |last| last + 1);
        self.contexts.push(bos.into_iter().chain(encoded.into_iter().map(|(id, _)| id)).take(length).collect());
        self.places.push(places);
        self.read.extend(read);
        Ok(())
    }

    /// The least and the largest number of words of a letter, among letters with a word.
    pub fn range(&self) -> [usize; 2] {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        self.letters.iter().for_each(|&letter| *counts.entry(letter).or_default() += 1);
        [counts.values().min(), counts.values().max()].map(|count| count.copied().unwrap_or(0))
    }
}

/// Words by letter, in a random order, `asked.most` of a letter at most; their letters and ids.
fn chosen(vocabulary: &Vocabulary, asked: Asked) -> Result<(Vec<String>, Vec<usize>, Vec<u32>)> {
    let mut all = vocabulary.alphabetic();
    let spaced = |word: &(u32, String)| word.1.starts_with(' ');
    if all.iter().any(spaced) {
        all.retain(spaced);
    }
    all.shuffle(&mut ChaCha8Rng::seed_from_u64(asked.seed));
    let (mut words, mut letters, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut counts = [0; LETTERS];
    for (id, word) in all {
        let first = word.trim_start().as_bytes()[0].to_ascii_lowercase();
        let letter = usize::from(first - b'a');
        // A word that the tokenizer writes otherwise in a line has no place to be read at.
        let before = " A\n";
        let is_kept = |word: &str| -> Result<bool> {
            let encoded = vocabulary.encode_with_ends(&format!("{before}{word}{AFTER}"))?;
            Ok(encoded.contains(&(id, before.len() + word.len())))
        };
        if counts[letter] < asked.most && is_kept(&word)? {
            counts[letter] += 1;
            words.push(word);
            letters.push(letter);
            ids.push(id);
        }
    }
    ensure!(
        counts.iter().filter(|count| **count > 1).count() > 1,
        "the tokenizer has no English words of one token, so first letters can't be asked for; another model is needed"
    );
    Ok((words, letters, ids))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn words_stand_behind_examples_of_their_own_side() {
        let vocabulary = Vocabulary::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bundled/small")).unwrap();
        let asked = Asked { most: 20, examples: 4, context: 100, seed: 1 };
        let found = Spelled::draw(&vocabulary, asked).unwrap();
        let mut read = found.read.clone();
        read.sort_unstable();
        assert_eq!(read, (0..found.words.len()).collect::<Vec<_>>(), "each word is read once");
        assert!(found.range()[1] == 20 && found.words.len() > 300, "{:?} {}", found.range(), found.words.len());
        let mut at = 0;
        for (context, places) in found.contexts.iter().zip(&found.places) {
            assert!(context.len() <= 100 && *places.last().unwrap() == context.len() - 1);
            let text = |tokens: &[u32]| tokens.iter().map(|&id| vocabulary.text(id)).collect::<String>();
            for &place in places {
                let word = &found.words[found.read[at]];
                assert_eq!(vocabulary.text(context[place]), *word);
                let before = text(&context[..place]);
                assert!(before.ends_with('\n') && before.matches(AFTER).count() >= 4, "{before}");
                assert!(!before.contains(&format!("\n{word}{AFTER}")), "{before}");
                at += 1;
            }
            // All words of a context are of one side.
            let word_of = |line: &str| {
                let (own, _) = line.split_once(AFTER)?;
                found.words.iter().position(|word| word == own)
            };
            let all = text(context);
            let sides: Vec<bool> =
                all.lines().filter_map(word_of).map(|word| found.split.test.contains(&word)).collect();
            assert!(sides.len() >= 4 && sides.iter().all(|test| *test == sides[0]), "{}", text(context));
        }
        assert_eq!(found.contexts, Spelled::draw(&vocabulary, asked).unwrap().contexts);
        assert_ne!(found.contexts, Spelled::draw(&vocabulary, Asked { seed: 2, ..asked }).unwrap().contexts);
        let short = Spelled::draw(&vocabulary, Asked { context: 30, ..asked }).unwrap_err().to_string();
        assert!(short.contains("--context-size 30") && short.contains("fewer --examples"), "{short}");
    }
}
