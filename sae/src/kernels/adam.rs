//! Adam's arithmetic, in the order of operations that torch uses.

/// The scalars of one Adam update.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment, outside the root.
    pub eps: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

impl AdamStep {
    /// Updates a stretch of a parameter and its moments.
    pub(super) fn apply(&self, clip: f32, param: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        let bias1 = 1.0 - self.beta1.powi(exponent);
        let bias2 = 1.0 - self.beta2.powi(exponent);
        let step_size = (self.lr / bias1) as f32;
        let root_bias2 = bias2.sqrt() as f32;
        let (beta1, beta2, eps) = (self.beta1 as f32, self.beta2 as f32, self.eps as f32);
        let (rest1, rest2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        for (((p, &g), m), v) in param.iter_mut().zip(grad).zip(first).zip(second) {
            let g = g * clip;
            *m = *m * beta1 + rest1 * g;
            *v = *v * beta2 + rest2 * g * g;
            *p -= step_size * *m / (v.sqrt() / root_bias2 + eps);
        }
    }
}
