//! Mutual information behind bottlenecks: a bottleneck is widened until it costs nothing.

use burn::tensor::Device;
use ndarray::ArrayView2;

use super::estimate::{CriticConfig, MutualInformation, estimate};
use crate::error::Result;

/// Mutual information behind bottlenecks of several widths, each with a critic of its own; everything but the width is as
/// configured. `progress` is told of every training step.
///
/// # Shapes
/// - `x`: `[pairs, d_x]`; `y`: `[pairs, d_y]`
///
/// # Errors
/// As [`estimate`].
pub fn information_curve(
    x: ArrayView2<'_, f32>,
    y: ArrayView2<'_, f32>,
    widths: &[usize],
    config: &CriticConfig,
    device: &Device,
    mut progress: impl FnMut(usize),
) -> Result<Vec<(usize, MutualInformation)>> {
    let at = |&width: &usize| {
        let config = CriticConfig { width: Some(width), ..*config };
        Ok((width, estimate(x, y, &config, device, &mut progress)?))
    };
    widths.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::super::estimate::tests::normal;
    use super::super::{Bound, Critic, PLATEAU_SHARE, inferred_dimensionality};
    use super::*;

    /// y is a nonlinear function of three directions of the twelve of x, none of them along an axis, and of noise.
    #[test]
    fn three_of_twelve_dimensions_are_found() {
        let pairs = 12_000;
        let (x, noise) = (normal(pairs, 12, 1), normal(pairs, 3, 2));
        // Square waves of periods 2, 4 and 12 that are orthogonal to each other, of length 1.
        let directions = Array2::from_shape_fn((12, 3), |(i, k)| {
            let sign = if (i / [1, 2, 6][k]) % 2 == 0 { 1.0 } else { -1.0 };
            sign / 12.0_f32.sqrt()
        });
        let y = (x.dot(&directions) * 1.5).mapv(f32::tanh) + noise * 0.3;
        let config = CriticConfig {
            batch: 128,
            eval_batch: 512,
            hidden: 64,
            steps: 600,
            lr: 3e-3,
            ..CriticConfig::new(Critic::Separable, Bound::InfoNce)
        };
        let curve =
            information_curve(x.view(), y.view(), &[1, 2, 3, 4, 8, 12], &config, &Device::flex(), |_| ()).unwrap();
        let curve: Vec<(usize, f64)> = curve.into_iter().map(|(width, found)| (width, found.nats)).collect();
        let found = inferred_dimensionality(&curve, PLATEAU_SHARE).unwrap();
        assert!((found - 3.0).abs() < 0.5, "{found}: {curve:?}");
    }
}
