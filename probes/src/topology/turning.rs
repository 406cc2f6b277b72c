//! Turning activations within a plane, to see whether what a model says turns with them.

use std::f64::consts::TAU;

use ndarray::{Array1, ArrayView1, ArrayView2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::error::{Result, TopologyError};

/// A plane through a centre.
#[derive(Clone, Debug, PartialEq)]
pub struct Turning {
    centre: Array1<f64>,
    /// Two directions of norm 1, at right angles.
    axes: [Array1<f64>; 2],
}

impl Turning {
    /// The plane of the first Fourier harmonic of the rows of `means`, `[m, d]`, in their order, about their mean: where they are a regular
    /// polygon, a turn by 2π/m takes each to the next.
    ///
    /// # Errors
    /// If the harmonic has no plane, as of means that are all equal or on a line.
    pub fn of_order(means: ArrayView2<'_, f64>) -> Result<Self> {
        let m = means.nrows() as f64;
        let weighted = |of: fn(f64) -> f64| Self::combined(means, |class| of(TAU * class as f64 / m));
        Self::through(means, [weighted(f64::cos), weighted(f64::sin)])
    }

    /// A random plane among those that the rows of `means` span about their mean: a control.
    ///
    /// # Errors
    /// If they span no plane.
    pub fn random(means: ArrayView2<'_, f64>, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut drawn = || {
            let weights: Vec<f64> = (0..means.nrows()).map(|_| rng.sample(StandardNormal)).collect();
            Self::combined(means, |class| weights[class])
        };
        let axes = [drawn(), drawn()];
        Self::through(means, axes)
    }

    /// Σ weight(class) · (mean of the class − mean of all).
    fn combined(means: ArrayView2<'_, f64>, weight: impl Fn(usize) -> f64) -> Array1<f64> {
        let centre = means.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(means.ncols()));
        let weights = Array1::from_shape_fn(means.nrows(), weight);
        (&means - &centre).t().dot(&weights)
    }

    fn through(means: ArrayView2<'_, f64>, [first, second]: [Array1<f64>; 2]) -> Result<Self> {
        let points = means.nrows();
        let none = TopologyError::TooFew { points, needed: 3, what: "a plane of different means" };
        let Some(centre) = means.mean_axis(Axis(0)) else { return Err(none) };
        let (length, before) = (first.dot(&first).sqrt(), second.dot(&second).sqrt());
        let first = first / length;
        let second = &second - &first * first.dot(&second);
        let left = second.dot(&second).sqrt();
        // NaN, too, is no length.
        if !(length > 0.0 && left > 1e-9 * before) {
            return Err(none);
        }
        Ok(Self { centre, axes: [first, second / left] })
    }

    /// A point turned by an angle, in radians: what is outside of the plane stays.
    pub fn turned(&self, point: ArrayView1<'_, f64>, angle: f64) -> Array1<f64> {
        let [x, y] = self.coordinates(point);
        let (sin, cos) = angle.sin_cos();
        let [u, v] = &self.axes;
        &point + &(u * (x * cos - y * sin - x)) + &(v * (x * sin + y * cos - y))
    }

    /// A point's coordinates in the plane.
    pub fn coordinates(&self, point: ArrayView1<'_, f64>) -> [f64; 2] {
        let centred = &point - &self.centre;
        [0, 1].map(|axis| centred.dot(&self.axes[axis]))
    }
}
