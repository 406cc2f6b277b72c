//! Two SAEs by R² and by behaviour: alike, opposite, or a difference that R² does not see.

use assay_probes::stats::hypotheses::CE_REC_MARGIN;

use super::{Best, Tally, apart, both_apart};
use crate::analysis::Score;

/// The smallest difference of R² or CE_rec between two SAEs that somebody would choose one of them by: a hundredth of the variance, and of the
/// model's own loss, which is what CE_rec is in units of. It is the margin within which the hypotheses' rules, fixed before any data were seen,
/// call two values of CE_rec equal.
pub const LEAST: f64 = CE_REC_MARGIN;

/// Whether a difference is one that somebody would act on.
fn matters(score: &Score) -> bool {
    score.value.is_some_and(|value| value.abs() >= LEAST)
}

/// Whether a difference is surely none: its whole interval lies within ±[`LEAST`].
fn is_small(score: &Score) -> bool {
    score.interval.is_some_and(|interval| -LEAST < interval.low && interval.high < LEAST)
}

/// The strongest of the ways in which R² and behaviour may compare two SAEs.
pub(super) struct Compared<T> {
    alike: Best<T>,
    opposite: Best<T>,
    unseen: Best<T>,
}

impl<T> Compared<T> {
    pub(super) const fn new() -> Self {
        Self { alike: Best(None), opposite: Best(None), unseen: Best(None) }
    }

    /// Counts a pair of differences, and offers what it is an example of.
    pub(super) fn add(&mut self, tally: &mut Tally, r2: &Score, behaves: &Score, what: T) {
        match (apart(behaves), both_apart(r2, behaves)) {
            (_, Some((same, strength))) if matters(r2) && matters(behaves) => {
                let (count, best) =
                    if same { (&mut tally.above, &mut self.alike) } else { (&mut tally.below, &mut self.opposite) };
                *count += 1;
                best.offer(strength, what);
            }
            (Some((_, strength)), _) if matters(behaves) && is_small(r2) => {
                tally.equal += 1;
                tally.unseen += 1;
                self.unseen.offer(strength, what);
            }
            _ => tally.equal += usize::from(is_small(behaves)),
        }
    }

    /// What is shown: what speaks against R² before what speaks for it.
    pub(super) fn shown(self) -> Option<(f64, T)> {
        self.opposite.0.or(self.unseen.0).or(self.alike.0)
    }
}
