//! The weights that training begins with.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::config::TrainConfig;
use crate::error::Result;

/// Random rows on the host, `[d_sae, d_model]`.
pub struct Initial {
    pub(crate) w_dec: Vec<f32>,
    /// `None`: those of the decoder.
    pub(crate) w_enc: Option<Vec<f32>>,
    /// `[d_sae, d_model]`
    pub(crate) shape: [usize; 2],
}

impl Initial {
    /// Decoder rows are random directions of `decoder_init_norm`, encoder rows the same ones; a transcoder's encoder, which reads something
    /// else, has random directions of its own, of norm 1.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn draw(config: &TrainConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let &TrainConfig { d_model, d_sae, decoder_init_norm, .. } = config;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut directions = |norm: f64| {
            let mut rows = vec![0.0_f32; d_sae * d_model];
            rows.fill_with(|| StandardNormal.sample(&mut rng));
            rows.par_chunks_mut(d_model).for_each(|row| {
                let length = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
                for v in row {
                    *v = (f64::from(*v) * norm / length) as f32;
                }
            });
            rows
        };
        let w_dec = directions(decoder_init_norm);
        let w_enc = (!config.task.is_autoencoder()).then(|| directions(1.0));
        Ok(Self { w_dec, w_enc, shape: [d_sae, d_model] })
    }

    /// Whether a seed's weights are the same for both settings.
    pub fn is_same(one: &TrainConfig, other: &TrainConfig) -> bool {
        let of = |config: &TrainConfig| {
            let &TrainConfig { d_model, d_sae, decoder_init_norm, task, .. } = config;
            (d_model, d_sae, decoder_init_norm.to_bits(), task.is_autoencoder())
        };
        of(one) == of(other)
    }
}
