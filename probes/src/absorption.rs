//! Absorption and splitting on a concept that has labels: the first letters of words, SAEBench's task (0.6.0, `evals/absorption`; the paper is
//! Chanin et al. 2024, "A is for Absorption", arXiv:2409.14507).
//!
//! A linear probe on activations says which words have a letter, and along which direction. Latents that tell the letter are its main ones:
//! several are a split. Where the probe finds the letter in a word, and the main latents write less of it than is there, other latents
//! that write it have absorbed it.
//!
//! - [`LetterProbe`]: the probe of a letter.
//! - [`MainLatents`]: which latents tell it; `selection`: which are tried.
//! - [`Absorption`]: what is absorbed in one word: the formulas.
//!
//! Host arrays and f64 only; nothing is drawn.

mod formula;
mod letters;
mod selection;

pub use formula::{Absorption, absorption};
pub use letters::{GAIN, LEARNED, LETTERS, LetterProbe, MOST, MainLatents, Words};
pub use selection::{STEPS_AN_EPOCH, sparse_weights};
