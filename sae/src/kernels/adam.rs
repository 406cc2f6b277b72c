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

/// A step in the width in which it is computed.
pub(super) struct AdamScalars {
    pub step_size: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub rest1: f32,
    pub rest2: f32,
    pub root_bias2: f32,
    pub eps: f32,
}

impl AdamStep {
    pub(super) fn scalars(&self) -> AdamScalars {
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        AdamScalars {
            step_size: (self.lr / (1.0 - self.beta1.powi(exponent))) as f32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rest1: (1.0 - self.beta1) as f32,
            rest2: (1.0 - self.beta2) as f32,
            root_bias2: (1.0 - self.beta2.powi(exponent)).sqrt() as f32,
            eps: self.eps as f32,
        }
    }
}

impl AdamScalars {
    /// Updates a stretch of a parameter and its moments.
    pub(super) fn apply(&self, clip: f32, param: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
        for (((p, &g), m), v) in param.iter_mut().zip(grad).zip(first).zip(second) {
            let g = g * clip;
            *m = *m * self.beta1 + self.rest1 * g;
            *v = *v * self.beta2 + self.rest2 * g * g;
            *p -= self.step_size * *m / (v.sqrt() / self.root_bias2 + self.eps);
        }
    }
}
