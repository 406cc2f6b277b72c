//! What recipes take from the data before the first step.

use burn::tensor::Tensor;

use crate::readback::host;

/// Sums over some activations: the mean and the mean norm follow.
#[derive(Clone, Debug)]
pub struct Moments {
    pub(crate) tokens: usize,
    /// Of the activations, by coordinate.
    pub(crate) sum: Vec<f64>,
    /// Of their norms.
    pub(crate) norms: f64,
}

impl Moments {
    /// Adds up; waits for the device.
    ///
    /// # Shapes
    /// - `sample`: `[tokens, d_model]`
    pub fn of(sample: &Tensor<2>) -> Self {
        let [tokens, d_model] = sample.dims();
        let values: Vec<f32> = host(sample.clone());
        let mut sum = vec![0.0_f64; d_model];
        let mut norms = 0.0;
        for row in values.chunks(d_model.max(1)) {
            let mut square = 0.0;
            for (s, &v) in sum.iter_mut().zip(row) {
                *s += f64::from(v);
                square += f64::from(v) * f64::from(v);
            }
            norms += square.sqrt();
        }
        Self { tokens, sum, norms }
    }
}
