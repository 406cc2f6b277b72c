//! A value with all that is known of its uncertainty.

use assay_probes::stats::hypotheses::Difference;
use assay_probes::stats::{Excludes, Interval, StandardError};

/// A value and its intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// The value; over several seeds their mean.
    pub value: Option<f64>,
    /// What tables print and rules read. With one seed the percentile bootstrap over sequences; with several value ± t·error over seeds
    /// and sequences (Satterthwaite), or the two-level bootstrap where that is undefined, as for a k* that is never reached.
    pub interval: Option<Interval>,
    /// Percentile bootstrap over sequences, and over seeds where there are several (two-level). `None` where a replicate is
    /// undefined.
    pub bootstrap: Option<Interval>,
    /// Student's t over seeds alone; `None` for one.
    pub over_seeds: Option<Interval>,
    /// Of sequences by the jackknife, with that of seeds where there are several.
    pub error: Option<StandardError>,
    /// Monte-Carlo standard errors of the ends of [`Self::interval`]: 0 where it is no bootstrap's, `None` where they are unknown.
    pub end_errors: Option<[f64; 2]>,
}

/// What a [`Score`] is made of.
pub(super) struct Sources {
    pub value: f64,
    pub bootstrap: Option<Interval>,
    pub end_errors: Option<[f64; 2]>,
    pub over_seeds: Option<Interval>,
    pub error: Option<StandardError>,
    pub seeds: usize,
    pub level: f64,
}

impl Score {
    pub(super) fn new(from: Sources) -> Self {
        let crossed = from.error.filter(|_| from.seeds > 1).and_then(|error| error.interval(from.value, from.level));
        Self {
            value: Some(from.value),
            interval: crossed.or(from.bootstrap),
            bootstrap: from.bootstrap,
            over_seeds: from.over_seeds,
            error: from.error,
            end_errors: if crossed.is_some() { Some([0.0; 2]) } else { from.end_errors },
        }
    }

    /// Of a value that no interval is known of.
    pub fn bare(value: Option<f64>) -> Self {
        Self { value, ..Self::default() }
    }

    /// Whether the interval excludes 0; `None` without one, or where the errors of its ends are unknown.
    pub fn excludes_zero(&self) -> Option<Excludes> {
        Some(Excludes::of(self.interval?, self.end_errors?, 0.0))
    }

    /// The sign of a difference whose interval surely excludes 0.
    pub fn certain_sign(&self) -> Option<f64> {
        (self.excludes_zero()? == Excludes::Yes).then_some(self.value?.signum())
    }

    /// The interval of another level, from the standard error.
    pub fn at_level(&self, level: f64) -> Option<Interval> {
        self.error?.interval(self.value?, level)
    }

    /// What rules read of a difference: both intervals from the same standard error.
    pub fn difference(&self) -> Option<Difference> {
        Some(Difference { test: self.at_level(0.95)?, equivalence: self.at_level(0.90)? })
    }

    /// After an increasing map of values, such as exp after a logarithm. The standard error has no image.
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        let both = |i: Interval| Interval { low: increasing(i.low), high: increasing(i.high) };
        Self {
            value: self.value.map(&increasing),
            interval: self.interval.map(both),
            bootstrap: self.bootstrap.map(both),
            over_seeds: self.over_seeds.map(both),
            error: None,
            end_errors: None,
        }
    }
}
