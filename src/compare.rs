//! Published numbers beside those of a results directory.
//!
//! [`published`] reads the numbers, [`Numbers`] finds what answers to one, in a results directory (`measured`) or in
//! another file of published numbers, and [`show`] prints both. No number is computed here but differences: what a results
//! directory says comes from [`crate::analysis`].

mod measured;
mod numbers;
pub mod published;
pub mod show;
mod stand_ins;

use assay_probes::stats::Interval;

pub use numbers::{Counterpart, Missing, Numbers};
use published::{End, Published};
pub use stand_ins::StandIns;

/// A published number and what answers to it.
pub struct Compared<'a> {
    /// The published number.
    pub published: &'a Published,
    /// Its interval, if the text gives one.
    pub interval: Option<Interval>,
    /// Ours, or why there is none.
    pub ours: Result<Counterpart, Missing>,
}

/// Looks for every published number's counterpart.
pub fn compare<'a>(reference: &'a [Published], numbers: &dyn Numbers) -> Vec<Compared<'a>> {
    let compared = |published: &'a Published| Compared {
        published,
        interval: published.interval(reference),
        ours: numbers.find(published),
    };
    reference.iter().map(compared).collect()
}

impl Compared<'_> {
    /// Our number, if there is one.
    pub fn found(&self) -> Option<&Counterpart> {
        self.ours.as_ref().ok()
    }

    /// Ours minus published.
    pub fn difference(&self) -> Option<f64> {
        self.found().map(|found| found.value - self.published.value)
    }

    /// Whether a measured number stands beside a claim that it is no larger than the published one.
    fn is_against_a_bound(&self) -> bool {
        self.published.is_bound() && self.found().is_some_and(|found| !found.is_bound)
    }

    /// Whether ours is the published number as far as that is printed; a bound, whether it holds.
    pub fn agrees(&self) -> Option<bool> {
        // Rounded values that are equal may differ in their last bit.
        let slack = 1e-9 * self.published.value.abs().max(1.0);
        let half_unit = self.published.printed().map_or(0.0, published::Printed::half_unit);
        let tolerance = if self.is_against_a_bound() { slack } else { half_unit + slack };
        Some(!self.differs_by_more_than(tolerance)).filter(|_| self.found().is_some())
    }

    /// Whether ours is further than that from the published number; a bound, whether ours is beyond it by more than that.
    pub fn differs_by_more_than(&self, tolerance: f64) -> bool {
        let beyond = |difference: f64| if self.is_against_a_bound() { difference } else { difference.abs() };
        self.difference().is_some_and(|difference| beyond(difference) > tolerance)
    }

    /// Whether the two intervals overlap; `None` where one side has none.
    pub fn overlap(&self) -> Option<bool> {
        Some(self.interval?.overlaps(&self.found()?.interval?))
    }

    /// How the values lie to the intervals, in words; `None` for a row that is the end of one, or has no counterpart.
    pub fn relation(&self) -> Option<&'static str> {
        let found = self.found()?;
        if self.is_against_a_bound() {
            return Some(if self.agrees()? { "within the bound" } else { "beyond the bound" });
        }
        if self.published.end != End::Value {
            return None;
        }
        Some(match (self.interval, found.interval) {
            (Some(theirs), _) if theirs.contains(found.value) => "within the published interval",
            (Some(theirs), Some(ours)) if theirs.overlaps(&ours) => "intervals overlap",
            (Some(_), Some(_)) => "intervals do not overlap",
            (Some(_), None) => "outside the published interval",
            (None, Some(ours)) if ours.contains(self.published.value) => "published value within our interval",
            (None, Some(_)) => "published value outside our interval",
            (None, None) => "no interval",
        })
    }
}
