//! Whether held-out text was trained on.
//!
//! The evaluation sequences are cut into n-grams that follow one another; a window of n tokens then slides over the training stream,
//! at every offset, with a rolling hash (Karp & Rabin 1987), and each hit is compared token by token. So whatever the offset, a
//! shared passage of 2n − 1 tokens holds a whole n-gram and is found; shorter ones may be missed. Memory is that of the evaluation
//! sequences, whatever the length of the training text.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use anyhow::{Result, ensure};
use ndarray::ArrayView2;

/// Tokens of an n-gram. Shorter ones would find phrases that unrelated texts share.
pub const N: usize = 32;

/// N-grams with fewer different tokens than one in so many, such as padding or a row of blanks, say nothing of where a text is from.
const REPEATS: usize = 4;

/// Share of a sequence's n-grams from which on it counts as trained on. Licences and boilerplate make up less of most sequences.
const SHARE: f64 = 0.5;

/// Large corpora repeat themselves now and then: of so many sequences one may be found again.
const ONE_IN: usize = 100;

/// Base of the hash: odd, so that no token's weight vanishes modulo 2⁶⁴.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

/// The n-grams of the evaluation sequences, and which of them the training text has so far.
pub struct Overlap {
    /// Tokens of an n-gram: [`N`], or a whole sequence where that is shorter.
    n: usize,
    grams: Vec<Gram>,
    /// The first n-gram with a hash; `Gram::next` leads to the others.
    by_hash: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    /// N-grams of each sequence.
    per_sequence: Vec<usize>,
    window: Window,
}

struct Gram {
    tokens: Vec<u32>,
    sequence: usize,
    /// Another n-gram of the same hash.
    next: Option<usize>,
    /// The training context in which it was found to end.
    found: Option<usize>,
}

/// The hash of what is a hash already. Every token of the training text is looked up, and few are there.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("an n-gram's hash is a u64")
    }

    fn write_u64(&mut self, hash: u64) {
        // The lower bits of products know only the lower bits of their factors, and a map takes its place by them.
        self.0 = hash ^ (hash >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The last n tokens of the training stream, and their hash.
struct Window {
    /// A ring.
    tokens: Vec<u32>,
    seen: usize,
    hash: u64,
    /// BASE to the power of n: what the token that leaves weighs.
    leaving: u64,
}

impl Overlap {
    /// Takes the n-grams of some sequences, `[S, T]`.
    pub fn of(sequences: ArrayView2<'_, u32>) -> Self {
        let n = N.min(sequences.ncols()).max(1);
        let mut overlap = Self {
            n,
            grams: Vec::new(),
            by_hash: HashMap::default(),
            per_sequence: vec![0; sequences.nrows()],
            window: Window { tokens: vec![0; n], seen: 0, hash: 0, leaving: BASE.wrapping_pow(n as u32) },
        };
        for (sequence, row) in sequences.rows().into_iter().enumerate() {
            for tokens in row.to_vec().chunks_exact(n).filter(|gram| says_something(gram)) {
                let hash = tokens.iter().fold(0, |hash, &token| push(hash, token));
                let next = overlap.by_hash.insert(hash, overlap.grams.len());
                overlap.grams.push(Gram { tokens: tokens.to_vec(), sequence, next, found: None });
                overlap.per_sequence[sequence] += 1;
            }
        }
        overlap
    }

    /// Takes the next tokens of the training stream, those of one context.
    pub fn add(&mut self, context: usize, tokens: impl IntoIterator<Item = u32>) {
        let n = self.n;
        for token in tokens {
            let window = &mut self.window;
            let place = window.seen % n;
            let leaving = std::mem::replace(&mut window.tokens[place], token);
            window.hash = push(window.hash, token);
            if window.seen >= n {
                window.hash = window.hash.wrapping_sub(weight(leaving).wrapping_mul(window.leaving));
            }
            window.seen += 1;
            if window.seen < n {
                continue;
            }
            let mut at = self.by_hash.get(&window.hash).copied();
            while let Some(gram) = at.map(|at| &mut self.grams[at]) {
                at = gram.next;
                let oldest = window.seen % n;
                let stream = window.tokens[oldest..].iter().chain(&window.tokens[..oldest]);
                if gram.found.is_none() && gram.tokens.iter().eq(stream) {
                    gram.found = Some(context);
                }
            }
        }
    }

    /// The sequences of which at least half is in the training text, each with a context that holds some of it.
    fn trained_on(&self) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = vec![(0, 0); self.per_sequence.len()];
        for gram in &self.grams {
            if let Some(context) = gram.found {
                let (count, first) = &mut found[gram.sequence];
                *first = if *count == 0 { context } else { (*first).min(context) };
                *count += 1;
            }
        }
        let trained_on = |(sequence, (count, context)): (usize, (usize, usize))| {
            let share = count as f64 / self.per_sequence[sequence].max(1) as f64;
            (share >= SHARE).then_some((sequence, context))
        };
        found.into_iter().enumerate().filter_map(trained_on).collect()
    }

    /// Refuses text of which more than one sequence in a hundred was trained on.
    ///
    /// # Errors
    /// If there are more.
    pub fn check(&self) -> Result<()> {
        let found = self.trained_on();
        let Some((sequence, context)) = found.first() else { return Ok(()) };
        ensure!(
            ONE_IN * found.len() <= self.per_sequence.len(),
            "train and eval text overlap: {} of {} evaluation sequences are to at least half in the training text as well (sequence \
             {sequence}, for one, in training context {context}); give tokens.eval of other documents (passages of {} tokens or more are \
             found wherever they begin, shorter ones may not be)",
            found.len(),
            self.per_sequence.len(),
            2 * self.n - 1
        );
        Ok(())
    }
}

fn says_something(gram: &[u32]) -> bool {
    let mut different = gram.to_vec();
    different.sort_unstable();
    different.dedup();
    REPEATS * different.len() >= gram.len()
}

fn push(hash: u64, token: u32) -> u64 {
    hash.wrapping_mul(BASE).wrapping_add(weight(token))
}

/// Token 0 weighs something too, or rows of it would all be one.
fn weight(token: u32) -> u64 {
    u64::from(token) + 1
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn text(seed: u64, len: usize) -> Vec<u32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..len).map(|_| rng.random_range(0..4096)).collect()
    }

    fn sequences(count: usize, len: usize) -> Array2<u32> {
        Array2::from_shape_vec((count, len), text(1, count * len)).unwrap()
    }

    /// Training contexts of 50 tokens.
    fn train(overlap: &mut Overlap, tokens: &[u32]) {
        for (context, part) in tokens.chunks(50).enumerate() {
            overlap.add(context, part.iter().copied());
        }
    }

    #[test]
    fn held_out_text_is_found_at_every_offset() {
        let eval = sequences(4, 128);
        for offset in 0..70 {
            let mut stream = text(2, 300 + offset);
            stream.extend(eval.row(2));
            stream.extend(text(3, 100));
            let mut overlap = Overlap::of(eval.view());
            train(&mut overlap, &stream);
            assert_eq!(overlap.trained_on().iter().map(|f| f.0).collect::<Vec<_>>(), [2], "offset {offset}");
            let error = format!("{:#}", overlap.check().unwrap_err());
            assert!(error.contains("1 of 4 evaluation sequences") && error.contains("sequence 2,"), "{error}");
        }
    }

    #[test]
    fn half_of_a_sequence_is_enough_and_a_phrase_is_not() {
        let eval = sequences(4, 128);
        for (from, len, found) in [(0, 64, true), (32, 96, true), (1, 127, true), (0, 32, false), (5, 60, false)] {
            let mut stream = text(2, 17);
            stream.extend(eval.row(0).iter().skip(from).take(len));
            let mut overlap = Overlap::of(eval.view());
            train(&mut overlap, &stream);
            assert_eq!(!overlap.trained_on().is_empty(), found, "{len} tokens from {from}");
        }
    }

    #[test]
    fn other_text_and_padding_are_no_overlap() {
        let mut eval = sequences(4, 128);
        eval.row_mut(3).fill(0);
        let mut overlap = Overlap::of(eval.view());
        let mut stream = text(4, 100_000);
        stream.extend([0; 500]);
        train(&mut overlap, &stream);
        assert!(overlap.trained_on().is_empty() && overlap.check().is_ok());
    }

    #[test]
    fn one_sequence_in_a_hundred_may_be_found_again() {
        let eval = sequences(200, 32);
        let mut stream: Vec<u32> = eval.rows().into_iter().take(2).flatten().copied().collect();
        let mut overlap = Overlap::of(eval.view());
        train(&mut overlap, &stream);
        assert!(overlap.trained_on().len() == 2 && overlap.check().is_ok());
        stream.extend(eval.row(7));
        let mut overlap = Overlap::of(eval.view());
        train(&mut overlap, &stream);
        assert!(overlap.check().is_err());
    }

    #[test]
    fn one_passage_in_two_sequences_counts_for_both() {
        let mut eval = sequences(2, 64);
        let row = eval.row(0).to_owned();
        eval.row_mut(1).assign(&row);
        let mut overlap = Overlap::of(eval.view());
        train(&mut overlap, &row.to_vec());
        assert_eq!(overlap.trained_on().len(), 2);
    }
}
