//! How far an end of a percentile interval would move with another seed of the bootstrap.

use super::bootstrap::{Interval, sorted};
use super::quantile::quantile;

/// The standard errors of both ends of [`Interval::percentile`] that come from the number of replicates alone.
///
/// The rank of a quantile p among B replicates has the standard deviation √(B p (1 − p)); half the distance between the quantiles
/// one such deviation below and above is the error of the end. `None` where the interval is, or an end is infinite.
pub fn end_errors(replicates: &[Option<f64>], level: f64) -> Option<[f64; 2]> {
    let sorted = sorted(replicates)?;
    let tail = (1.0 - level) / 2.0;
    let step = (tail * (1.0 - tail) / sorted.len() as f64).sqrt();
    let error = |p: f64| {
        let at = |p: f64| quantile(&sorted, p.clamp(0.0, 1.0));
        let error = (at(p + step)? - at(p - step)?) / 2.0;
        error.is_finite().then_some(error)
    };
    Some([error(tail)?, error(1.0 - tail)?])
}

/// Whether an interval excludes a value, where its ends are known only to within their errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excludes {
    /// It does.
    Yes,
    /// It contains the value.
    No,
    /// An end lies within two of its standard errors of the value: another seed of the bootstrap may say otherwise.
    Unsure,
}

impl Excludes {
    /// Of an interval with the errors of its ends; errors of 0 are never unsure.
    pub fn of(interval: Interval, errors: [f64; 2], value: f64) -> Self {
        let near = |end: f64, error: f64| (end - value).abs() < 2.0 * error;
        if near(interval.low, errors[0]) || near(interval.high, errors[1]) {
            Self::Unsure
        } else if interval.contains(value) {
            Self::No
        } else {
            Self::Yes
        }
    }

    /// Whether both do.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unsure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::crossed::tests::normal;
    use super::*;
    use crate::stats::{Resamples, mean, sample_sd};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// Two hundred seeds of the bootstrap: their ends spread as one of them says.
    #[test]
    fn the_error_is_the_spread_over_seeds_of_the_bootstrap() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        // Skewed, as losses of sequences are.
        let values: Vec<f64> = (0..64).map(|_| (0.6 * normal(&mut rng)).exp()).collect();
        let replicates = |seed| {
            let draw = Resamples::draw(64, 1000, seed);
            draw.map(|rows| Some(rows.iter().map(|&i| values[i as usize]).sum::<f64>() / 64.0))
        };
        let (mut ends, mut errors) = ([vec![], vec![]], [vec![], vec![]]);
        for seed in 0..200 {
            let replicates = replicates(seed);
            let interval = Interval::percentile(&replicates, 0.95).unwrap();
            let error = end_errors(&replicates, 0.95).unwrap();
            ends[0].push(interval.low);
            ends[1].push(interval.high);
            errors.iter_mut().zip(error).for_each(|(all, e)| all.push(e));
        }
        for (ends, errors) in ends.iter().zip(&errors) {
            let (spread, said) = (sample_sd(ends).unwrap(), mean(errors).unwrap());
            // The standard error of a standard deviation over 200 is 5 %.
            assert!((said / spread - 1.0).abs() < 0.15, "{said} {spread}");
        }
    }

    /// scipy 1.17.1, the Maritz-Jarrett error of a quantile of 2,000 numbers: `stats.mstats.mjci(x, [.025, .975])` with
    /// x = (1, 2, …, 2000)² / 10⁶.
    #[test]
    fn agrees_with_the_estimate_of_maritz_and_jarrett() {
        let squares: Vec<Option<f64>> = (1..=2000).map(|i| Some(f64::from(i * i) / 1e6)).collect();
        let found = end_errors(&squares, 0.95).unwrap();
        for (found, expected) in found.into_iter().zip([0.0007020290730779086, 0.02725363991213799]) {
            assert!((found / expected - 1.0).abs() < 0.03, "{found} {expected}");
        }
    }

    #[test]
    fn an_end_beside_zero_decides_nothing() {
        let of = |low, high| Excludes::of(Interval { low, high }, [0.0004; 2], 0.0);
        assert_eq!(of(-0.042, -0.0005), Excludes::Unsure);
        assert_eq!(of(-0.042, 0.0004), Excludes::Unsure);
        assert_eq!(of(-0.042, -0.001), Excludes::Yes);
        assert_eq!(of(-0.042, 0.001), Excludes::No);
        assert_eq!(Excludes::of(Interval { low: 0.0, high: 1.0 }, [0.0; 2], 0.0), Excludes::No);
        assert_eq!(Excludes::Yes.and(Excludes::Unsure), Excludes::Unsure);
        assert_eq!(Excludes::No.and(Excludes::Unsure), Excludes::No);
        assert_eq!(end_errors(&[None], 0.95), None);
        assert_eq!(end_errors(&[Some(f64::INFINITY); 9], 0.95), None);
    }
}
