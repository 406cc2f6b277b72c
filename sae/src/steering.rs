//! Steers the coefficient of a sparsity penalty so that a token's active latents, mean over a batch, come to a target.
//!
//! Every [`LOOK_EVERY`] steps, with L0 the mean over the tokens since the look before, and y = ln(L0/target):
//!
//! ```text
//! ln coefficient += gain·(y − y before + y·LOOK_EVERY/T),   T = steps/20
//! ```
//!
//! So a coefficient rises as long as ln L0 falls more slowly than as exp(−step/T), and is lowered where it falls faster: L0 approaches the
//! target over some twentieths of the training, and from above. That matters because Adam moves a parameter by no more than its learning rate
//! however large the coefficient is, so that L0 follows late, and because latents that a coefficient gone too high has silenced seldom come
//! back.
//!
//! It is never raised to where the penalty exceeds the batch's variance about its mean: that is what a reconstruction without any latent costs,
//! so no optimum has a larger penalty. Otherwise a coefficient would go on rising where L0 can't follow.
//!
//! The sum of errors in the logarithm is the ascent of a Lagrange multiplier (GECO, Rezende and Viola 2018, arXiv:1810.00597, algorithm 1); the
//! part in proportion to the error damps it (a PI controller, as Sohrabi et al. 2024, arXiv:2406.04558, have for multipliers).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::loss::total;

/// Steps between two looks at L0: reading it waits for the device.
const LOOK_EVERY: u64 = 16;
/// T is the training over this.
const APPROACHES: f64 = 20.0;
/// The least y: of an L0 of 0 there is no logarithm.
const LEAST: f64 = -2.0;

/// A coefficient on its way.
pub(crate) struct Steering {
    target_l0: f64,
    gain: f64,
    /// LOOK_EVERY/T
    share: f64,
    state: State,
    /// Active entries of the batches since the last look, not read yet.
    unread: Vec<Tensor<1>>,
}

/// What of it is saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Logarithm of what the coefficient at the start is multiplied by.
    log_factor: f64,
    /// y of the last look, if there was one.
    before: Option<f64>,
    /// Steps since then.
    steps: u64,
    /// Their tokens.
    tokens: u64,
    /// The active entries of those that were read.
    active: f64,
}

impl Steering {
    /// For a training of so many steps.
    pub(crate) fn new(target_l0: f64, gain: f64, steps: u64) -> Self {
        let share = LOOK_EVERY as f64 * APPROACHES / steps.max(1) as f64;
        Self { target_l0, gain, share: share.min(1.0), state: State::default(), unread: Vec::new() }
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

    /// What the coefficient at the start is multiplied by.
    pub(crate) fn factor(&self) -> f64 {
        self.state.log_factor.exp()
    }

    /// Takes note of a batch; gives whether it is time to [`look`](Self::look).
    pub(crate) fn see(&mut self, active: Tensor<1>, tokens: usize) -> bool {
        self.unread.push(active);
        self.state.steps += 1;
        self.state.tokens += tokens as u64;
        self.state.steps == LOOK_EVERY
    }

    /// Moves the coefficient. `penalty` and `variance` are those of the last batch, in units of the loss.
    pub(crate) fn look(&mut self, penalty: f64, variance: f64) {
        let State { log_factor, before, tokens, active, .. } = self.state();
        self.unread.clear();
        let missed = (active / tokens as f64 / self.target_l0).ln().max(LEAST);
        let change = self.gain * (missed - before.unwrap_or(missed) + missed * self.share);
        let room = if penalty > 0.0 { (variance / penalty).ln() } else { f64::INFINITY };
        self.state = State { log_factor: log_factor + change.min(room), before: Some(missed), ..State::default() };
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    const GAIN: f64 = 2.0;

    /// Looks at batches of 10 tokens with an L0 each, and gives ln of the factor after each look.
    fn factors(steering: &mut Steering, l0s: &[f32], variance: f64) -> Vec<f64> {
        let look = |l0: &f32| {
            for step in 1..=LOOK_EVERY {
                let is_due = steering.see(Tensor::from_data([10.0 * l0], &Device::flex()), 10);
                assert_eq!(is_due, step == LOOK_EVERY);
            }
            steering.look(1.0, variance);
            steering.factor().ln()
        };
        l0s.iter().map(look).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}, not {expected:?}");
    }

    #[test]
    fn a_coefficient_rises_where_l0_is_too_high_and_does_not_fall_fast_enough() {
        let share = LOOK_EVERY as f64 * APPROACHES / 3200.0;
        let (above, below) = (2.0_f64.ln(), 0.5_f64.ln());
        let rise = GAIN * share * above;
        let fall = GAIN * (below - above + share * below);
        let mut steering = Steering::new(4.0, GAIN, 3200);
        assert_near(&factors(&mut steering, &[8.0, 8.0, 2.0], 1e9), &[rise, 2.0 * rise, 2.0 * rise + fall]);
        // Without a latent it falls as at an eighth of the target, about.
        let mut steering = Steering::new(4.0, GAIN, 3200);
        assert_near(&factors(&mut steering, &[0.0], 1e9), &[GAIN * share * LEAST]);
        // The penalty may become as large as the variance.
        let mut steering = Steering::new(4.0, GAIN, 3200);
        let room = 1.05_f64.ln();
        assert!(rise > room);
        assert_near(&factors(&mut steering, &[8.0], 1.05), &[room]);
    }
}
