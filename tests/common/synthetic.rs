//! Activations that are sparse sums of known directions, as those that SAEs are made for.

use burn::tensor::{Device, Tensor, TensorData};
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Directions, and a source of tokens each of which is the sum of a few of them.
pub struct Synthetic {
    rng: ChaCha8Rng,
    /// `[directions, d]`, of norm 1 about.
    directions: Vec<Vec<f32>>,
    /// Directions in a token.
    active: usize,
    /// Length of each in a token, about.
    size: f32,
}

impl Synthetic {
    pub fn new(d: usize, directions: usize, active: usize, size: f32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Uniform of variance 1/d.
        let bound = (3.0 / d as f32).sqrt();
        let mut direction = || -> Vec<f32> { (0..d).map(|_| rng.random_range(-bound..bound)).collect() };
        let directions = (0..directions).map(|_| direction()).collect();
        Self { rng, directions, active, size }
    }

    /// The next tokens, `[tokens, d]`.
    pub fn batch(&mut self, tokens: usize, device: &Device) -> Tensor<2> {
        let d = self.directions[0].len();
        let mut values = vec![0.0_f32; tokens * d];
        for token in values.chunks_mut(d) {
            for at in sample(&mut self.rng, self.directions.len(), self.active) {
                let size = self.size * self.rng.random_range(0.5_f32..1.5);
                token.iter_mut().zip(&self.directions[at]).for_each(|(v, w)| *v += size * w);
            }
            token.iter_mut().for_each(|v| *v += self.size * self.rng.random_range(-0.05_f32..0.05));
        }
        Tensor::from_data(TensorData::new(values, [tokens, d]), device)
    }
}
