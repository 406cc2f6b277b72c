//! Steers the coefficient of a sparsity penalty so that a token's active latents, mean over a batch, come to a target.
//!
//! Every [`LOOK_EVERY`] steps, with L0 the mean over the tokens since the look before:
//!
//! ```text
//! e = min(L0/target − 1, 1)
//! s ← s + INTEGRAL·e
//! coefficient = start·exp(s + PROPORTIONAL·e)
//! ```
//!
//! The sum is the ascent of a Lagrange multiplier in its logarithm, as in GECO (Rezende and Viola 2018, arXiv:1810.00597, algorithm 1). L0
//! follows a coefficient only after many steps, since Adam moves a threshold by no more than its learning rate however large the coefficient
//! is; the sum alone would overshoot by as long. The part that is proportional to the error damps that (a PI controller, as Sohrabi et al.
//! 2024, arXiv:2406.04558).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::loss::total;

/// Steps between two looks at L0: reading it waits for the device.
const LOOK_EVERY: u64 = 16;
/// What an error of 1 adds to the logarithm of the coefficient at each look.
const INTEGRAL: f64 = 0.1;
/// What it adds as long as it lasts.
const PROPORTIONAL: f64 = 2.0;

/// A coefficient on its way.
pub(crate) struct Steering {
    target_l0: f64,
    state: State,
    /// Active entries of the batches since the last look, not read yet.
    unread: Vec<Tensor<1>>,
}

/// What of it is saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// s
    sum: f64,
    /// e of the last look.
    error: f64,
    /// Steps since then.
    steps: u64,
    /// Their tokens.
    tokens: u64,
    /// The active entries of those that were read.
    active: f64,
}

impl Steering {
    pub(crate) fn new(target_l0: f64) -> Self {
        Self { target_l0, state: State::default(), unread: Vec::new() }
    }

    /// Goes on from what was saved.
    pub(crate) fn resume(&mut self, state: State) {
        self.state = state;
    }

    /// What is to be saved; reading it waits for the device.
    pub(crate) fn state(&self) -> State {
        let mut state = self.state.clone();
        // Counts are whole numbers, so that no order of adding them matters.
        state.active += self.unread.iter().map(total).sum::<f64>();
        state
    }

    /// What the start is multiplied by.
    pub(crate) fn factor(&self) -> f64 {
        (self.state.sum + PROPORTIONAL * self.state.error).exp()
    }

    /// Takes note of a batch.
    pub(crate) fn see(&mut self, active: Tensor<1>, tokens: usize) {
        self.unread.push(active);
        self.state.steps += 1;
        self.state.tokens += tokens as u64;
        if self.state.steps == LOOK_EVERY {
            let State { sum, tokens, active, .. } = self.state();
            self.unread.clear();
            let error = (active / tokens as f64 / self.target_l0 - 1.0).min(1.0);
            self.state = State { sum: sum + INTEGRAL * error, error, ..State::default() };
        }
    }
}
