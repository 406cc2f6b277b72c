//! A value with all that is known of its uncertainty.

use assay_probes::stats::hypotheses::Difference;
use assay_probes::stats::{Excludes, Interval, StandardError, equivalence_margin, minimum_detectable, values_needed};

/// The level of the tests whose power is told.
const LEVEL: f64 = 0.05;
/// The power that is usually asked of a test.
const POWER: f64 = 0.8;

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
    /// The sequences' part of it.
    pub of_sequences: Option<StandardError>,
    /// The seeds' part of it: the standard error of the mean over seeds, each on all sequences. `None` for one.
    pub of_seeds: Option<StandardError>,
    /// Monte-Carlo standard errors of the ends of [`Self::interval`]: 0 where it is no bootstrap's, `None` where they are unknown.
    pub end_errors: Option<[f64; 2]>,
}

/// What a [`Score`] is made of.
pub(super) struct Sources {
    pub value: f64,
    pub bootstrap: Option<Interval>,
    pub end_errors: Option<[f64; 2]>,
    pub over_seeds: Option<Interval>,
    /// The variance of the mean that comes from sequences, and its degrees of freedom.
    pub of_sequences: Option<(f64, f64)>,
    /// Likewise from seeds.
    pub of_seeds: Option<(f64, f64)>,
    pub seeds: usize,
    pub level: f64,
}

impl Score {
    pub(super) fn new(from: Sources) -> Self {
        let alone = |part: Option<(f64, f64)>| StandardError::satterthwaite(&[part?]);
        let error = match from.seeds {
            1 => alone(from.of_sequences),
            _ => from.of_seeds.zip(from.of_sequences).and_then(|(a, b)| StandardError::satterthwaite(&[a, b])),
        };
        let crossed = error.filter(|_| from.seeds > 1).and_then(|error| error.interval(from.value, from.level));
        Self {
            value: Some(from.value),
            interval: crossed.or(from.bootstrap),
            bootstrap: from.bootstrap,
            over_seeds: from.over_seeds,
            error,
            of_sequences: alone(from.of_sequences),
            of_seeds: alone(from.of_seeds),
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

    /// The smallest true value that a two-sided test at 5 % tells from 0 with a power of 80 %: the minimum detectable effect.
    pub fn smallest_difference(&self) -> Option<f64> {
        minimum_detectable(self.error?, LEVEL, POWER)
    }

    /// The smallest margin around 0 within which two one-sided tests at 5 % place a value that is truly 0, with a power of 80 %.
    pub fn smallest_margin(&self) -> Option<f64> {
        equivalence_margin(self.error?, LEVEL, POWER)
    }

    /// The smallest margin that such tests can show at all: of an estimate of exactly 0.
    pub fn smallest_margin_at_best(&self) -> Option<f64> {
        equivalence_margin(self.error?, LEVEL, 0.0)
    }

    /// [`Self::smallest_margin`] if sequences were unlimited, so that only seeds differ. `None` for one seed.
    pub fn smallest_margin_of_seeds(&self) -> Option<f64> {
        equivalence_margin(self.of_seeds?, LEVEL, POWER)
    }

    /// The number of sequences with whose error alone [`Self::smallest_margin`] is `margin`.
    pub fn sequences_needed(&self, margin: f64) -> Option<u64> {
        values_needed(self.of_sequences?, margin, LEVEL, POWER)
    }

    /// The same value as it is, or with a `sign` of −1 turned about 0.
    #[must_use]
    pub fn turned(self, sign: f64) -> Self {
        if sign > 0.0 {
            return self;
        }
        let turn = |i: Interval| Interval { low: -i.high, high: -i.low };
        Self {
            value: self.value.map(|value| -value),
            interval: self.interval.map(turn),
            bootstrap: self.bootstrap.map(turn),
            over_seeds: self.over_seeds.map(turn),
            end_errors: self.end_errors.map(|[low, high]| [high, low]),
            ..self
        }
    }

    /// After an increasing map of values, such as exp after a logarithm. Standard errors have no image.
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        let both = |i: Interval| Interval { low: increasing(i.low), high: increasing(i.high) };
        Self {
            value: self.value.map(&increasing),
            interval: self.interval.map(both),
            bootstrap: self.bootstrap.map(both),
            over_seeds: self.over_seeds.map(both),
            error: None,
            of_sequences: None,
            of_seeds: None,
            end_errors: None,
        }
    }
}
