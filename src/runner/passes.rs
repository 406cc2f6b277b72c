//! How large a group's passes are: as the spec asks, and halved where a device's memory was full.

use std::fmt::{self, Display};

use crate::record::RunKey;
use crate::spec::SweepSpec;

/// What is left to do where even the smallest passes don't fit.
pub const REMEDY: &str = "its passes can't be smaller; take fewer SAEs per group (with fewer `seeds` or `coders`), a smaller \
    train.buffer_tokens, train.batch_size or context_size, or a device with more memory";

/// The sizes of passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    /// Contexts of a pass that captures activations.
    contexts: usize,
    /// Sequences of a pass that evaluates.
    sequences: usize,
    /// How often both were halved.
    halved: u32,
}

impl Passes {
    /// Those that a spec asks for.
    pub fn of_spec(spec: &SweepSpec, vocab_size: usize) -> Self {
        Self { contexts: spec.train.contexts_per_pass, sequences: spec.eval.batch(vocab_size), halved: 0 }
    }

    /// Those by which a run is known.
    pub fn of_key(key: &RunKey) -> Self {
        Self { contexts: key.contexts_per_pass, sequences: key.eval_batch, halved: 0 }
    }

    /// Contexts of a pass that captures activations, at least 1.
    pub fn contexts(self) -> usize {
        half(self.contexts, self.halved)
    }

    /// Sequences of a pass that evaluates, at least 1.
    pub fn sequences(self) -> usize {
        half(self.sequences, self.halved)
    }

    /// How often they were halved.
    pub fn halved(self) -> u32 {
        self.halved
    }

    /// The same, halved so often in all.
    pub fn halved_times(self, halved: u32) -> Self {
        Self { halved, ..self }
    }

    /// Halved once more; `None` where neither can be.
    pub fn smaller(self) -> Option<Self> {
        (self.contexts() > 1 || self.sequences() > 1).then(|| self.halved_times(self.halved + 1))
    }
}

fn half(size: usize, times: u32) -> usize {
    size.checked_shr(times).unwrap_or(0).max(1)
}

impl Display for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "passes of {} contexts in training and {} sequences in evaluation", self.contexts(), self.sequences())
    }
}

/// A device's memory was too small for a group.
#[derive(Clone, Debug)]
pub struct MemoryFull {
    /// The group's name.
    pub group: String,
    /// The device's.
    pub device: String,
    /// What it was too small for.
    pub passes: Passes,
}

impl Display for MemoryFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} has too little memory for {}", self.group, self.device, self.passes)
    }
}

impl std::error::Error for MemoryFull {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_halved_until_both_are_of_one() {
        let mut passes = Passes { contexts: 6, sequences: 9, halved: 0 };
        let mut sizes = vec![(passes.contexts(), passes.sequences())];
        while let Some(smaller) = passes.smaller() {
            passes = smaller;
            sizes.push((passes.contexts(), passes.sequences()));
        }
        assert_eq!(sizes, [(6, 9), (3, 4), (1, 2), (1, 1)]);
        assert_eq!(passes.halved(), 3);
        assert_eq!(passes.halved_times(99).contexts(), 1);
    }
}
