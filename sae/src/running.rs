//! The threshold in inference of a class that chooses among a batch: the running mean of the least value that each step chose.

use burn::tensor::Tensor;

use crate::readback::host_of_all;

/// Steps whose least values stay on the device before they are read, which waits for it.
const PENDING: usize = 64;

/// θ ← (1 − rate)·θ + rate·least, in f64 as SAELens does it. A step in which nothing was chosen, of least value 0, leaves θ alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningThreshold {
    read: f64,
    pending: Vec<(f64, Tensor<1>)>,
}

impl RunningThreshold {
    /// One that is so large.
    pub(crate) fn of(read: f64) -> Self {
        Self { read, pending: Vec::new() }
    }

    /// Goes on by a step.
    pub(crate) fn add(&mut self, rate: f64, least: Tensor<1>) {
        self.pending.push((rate, least));
        if self.pending.len() >= PENDING {
            *self = Self::of(self.value());
        }
    }

    /// θ; reading it waits for the device.
    pub(crate) fn value(&self) -> f64 {
        if self.pending.is_empty() {
            return self.read;
        }
        let least = host_of_all(self.pending.iter().map(|(_, least)| least.clone()));
        let rates = self.pending.iter().map(|(rate, _)| *rate);
        let chosen = rates.zip(least).filter(|(_, least)| *least > 0.0);
        chosen.fold(self.read, |mean, (rate, least)| (1.0 - rate) * mean + rate * f64::from(least))
    }
}
