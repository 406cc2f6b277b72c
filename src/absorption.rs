//! First letters of words in a model and its SAEs: who can spell, which latents do, and what they absorb.
//!
//! - [`Spelled`], `words.rs`: words of the vocabulary, and contexts in which each stands behind examples.
//! - [`SaeReport`], `measured.rs`: what was found of an SAE, by letter and in the mean, with intervals.
//! - `table.rs`: what is printed.
//!
//! The mathematics is [`assay_probes::absorption`]'s.

mod measured;
mod table;
mod words;

pub use measured::{Bootstrap, LetterReport, Quantity, SaeReport, Summary};
pub use table::{json, text};
pub use words::{Asked, Spelled};

use assay_probes::absorption::{LetterProbe, Words};

/// Letters that probes tell at least, for a result (SAEBench, `min_feats_for_eval`).
pub const ENOUGH: usize = 20;

/// The words and their probes, which all SAEs share.
pub struct Spelling<'a> {
    /// The words.
    pub words: Words<'a>,
    /// A probe of each letter that has words to fit on and to test.
    pub probes: Vec<LetterProbe>,
}

impl Spelling<'_> {
    /// The probes that tell their letters.
    pub fn learned(&self) -> impl Iterator<Item = &LetterProbe> {
        self.probes.iter().filter(|probe| probe.is_learned())
    }

    /// Whether the model can spell: its activations tell 20 letters.
    pub fn can_spell(&self) -> bool {
        self.learned().count() >= ENOUGH
    }
}

/// A letter by its number.
fn name(letter: usize) -> char {
    char::from(b'a' + letter as u8)
}
