//! A matrix drawn anew, with the mean and the spread that it had.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Independent normal numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normal {
    mean: f64,
    deviation: f64,
}

impl Normal {
    /// With the mean and the standard deviation of `values`.
    pub(super) fn of(values: &[f32]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        Self { mean, deviation: variance.sqrt() }
    }

    /// Two normal numbers of two uniform ones (Box and Muller 1958).
    pub(super) fn fill(&self, values: &mut [f32], rng: &mut ChaCha8Rng) {
        for pair in values.chunks_mut(2) {
            // 1 − u is never 0.
            let (radius, angle) =
                ((-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt(), rng.random::<f64>() * std::f64::consts::TAU);
            for (value, normal) in pair.iter_mut().zip([radius * angle.cos(), radius * angle.sin()]) {
                *value = (self.mean + self.deviation * normal) as f32;
            }
        }
    }
}

/// Replaces the values of the tensor `name` by independent normal numbers with their mean and standard deviation. The seed and the name say which.
pub(super) fn redraw(values: &mut [f32], name: &str, seed: u64) {
    let normal = Normal::of(values);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    normal.fill(values, &mut ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_stay_and_nothing_else_does() {
        let values: Vec<f32> = (0..40_000).map(|at| 3.0 + (at % 5) as f32).collect();
        let drawn = |name: &str, seed| {
            let mut drawn = values.clone();
            redraw(&mut drawn, name, seed);
            drawn
        };
        let found = drawn("a", 1);
        let mean = found.iter().map(|&v| f64::from(v)).sum::<f64>() / 4e4;
        let variance = found.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 4e4;
        // Standard errors: 0.007 and 0.014.
        assert!((mean - 5.0).abs() < 0.04 && (variance - 2.0).abs() < 0.08, "{mean} {variance}");
        let products: f64 = found.iter().zip(&values).map(|(a, b)| (f64::from(*a) - 5.0) * (f64::from(*b) - 5.0)).sum();
        assert!((products / 4e4).abs() < 0.06, "{products}");
        assert_eq!(found, drawn("a", 1));
        assert_ne!(found, drawn("b", 1));
        assert_ne!(found, drawn("a", 2));
    }
}
