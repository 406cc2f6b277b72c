//! Clouds of which it is known what must be said (Obiohagwu's audit, extended), of as many points as one likes.

use std::f64::consts::{PI, TAU};

use ndarray::{Array1, Array2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal, StudentT};

/// A cloud of so many points.
pub type Made = fn(usize, &mut ChaCha8Rng) -> Array2<f64>;

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn gaussian(n: usize, d: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    Array2::from_shape_fn((n, d), |_| rng.sample(StandardNormal))
}

/// Points of unit circles about the given centres, in turn, with noise.
pub fn circles(n: usize, centres: &[f64], noise: f64, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let mut cloud = gaussian(n, 2, rng) * noise;
    for (i, mut row) in cloud.rows_mut().into_iter().enumerate() {
        let angle = rng.random::<f64>() * TAU;
        row[0] += angle.cos() + centres[i % centres.len()];
        row[1] += angle.sin();
    }
    cloud
}

pub fn clusters(n: usize, d: usize, count: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let centres = gaussian(count, d, rng) * 4.0;
    let mut cloud = gaussian(n, d, rng) * 0.3;
    for (i, mut row) in cloud.rows_mut().into_iter().enumerate() {
        row += &centres.row(i % count);
    }
    cloud
}

fn of_rows<const D: usize>(n: usize, mut row: impl FnMut() -> [f64; D]) -> Array2<f64> {
    Array2::from((0..n).map(|_| row()).collect::<Vec<_>>())
}

/// Radii 2 and 1, uniform in area.
pub fn torus(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows(n, || {
        loop {
            let (around, across) = (rng.random::<f64>() * TAU, rng.random::<f64>() * TAU);
            let radius = 2.0 + across.cos();
            if rng.random::<f64>() * 3.0 < radius {
                return [radius * around.cos(), radius * around.sin(), across.sin()];
            }
        }
    })
}

/// Uniform in area, of radius 1.
pub fn sphere(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows(n, || {
        let at: [f64; 3] = std::array::from_fn(|_| rng.sample(StandardNormal));
        let norm = at.iter().map(|v| v * v).sum::<f64>().sqrt();
        at.map(|v| v / norm)
    })
}

pub fn swiss_roll(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows(n, || {
        let turn = 1.5 * PI * (1.0 + 2.0 * rng.random::<f64>());
        [turn * turn.cos(), 10.0 * rng.random::<f64>(), turn * turn.sin()]
    })
}

/// Standard deviations j^−0.75 along 64 axes.
pub fn power_law(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    gaussian(n, 64, rng) * &Array1::from_shape_fn(64, |j| (j as f64 + 1.0).powf(-0.75))
}

/// Student's t of 3 degrees of freedom, in 16 dimensions.
pub fn heavy_tails(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let tails = StudentT::new(3.0).unwrap();
    Array2::from_shape_fn((n, 16), |_| tails.sample(rng))
}

/// A Gaussian in 32 dimensions, every fiftieth point ten times as far out.
pub fn outliers(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let mut cloud = gaussian(n, 32, rng);
    for row in 0..n / 50 {
        cloud.row_mut(row * 50).mapv_inplace(|v| v * 10.0);
    }
    cloud
}

/// What of Gaussians in 64 dimensions is above 1: one value of six, as a code of few latents.
pub fn relu_code(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    gaussian(n, 64, rng).mapv(|v| (v - 1.0).max(0.0))
}

pub fn cube(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows::<3>(n, || std::array::from_fn(|_| rng.random()))
}

/// Uniform in area, of radius 1.
pub fn disc(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows(n, || {
        let (radius, angle) = (rng.random::<f64>().sqrt(), rng.random::<f64>() * TAU);
        [radius * angle.cos(), radius * angle.sin()]
    })
}

/// Two fifths of the points on a circle, the others in six clusters, in 16 dimensions.
pub fn circle_beside_clusters(n: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let mut cloud = Array2::zeros((n, 16));
    let on = n * 2 / 5;
    cloud.slice_mut(s![..on, ..2]).assign(&circles(on, &[0.0], 0.03, rng));
    cloud.slice_mut(s![on.., ..]).assign(&clusters(n - on, 16, 6, rng));
    cloud
}
