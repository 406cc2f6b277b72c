//! A running mean of the weights, which an SAE may be given in place of the last ones (Polyak averaging; Gao et al. 2024,
//! arXiv:2406.04093, train so):
//!
//! ```text
//! m_t = decay·m_{t−1} + (1 − decay)·w_t,   w̄_t = m_t / (1 − decay^t)
//! ```
//!
//! so that the first steps count for no more than their share. Training itself does not look at it.

use burn::tensor::{Device, Tensor};

use crate::coder::Params;
use crate::config::{DecoderNorm, TrainConfig};
use crate::kernels;

/// w̄ of every parameter.
pub(crate) struct Average {
    pub params: Params,
    /// Of a skip transcoder's map, `[d_out, d_in]`.
    pub skip: Option<Tensor<2>>,
}

impl Average {
    /// Of no step yet.
    pub(crate) fn new(config: &TrainConfig, skip: Option<&Tensor<2>>, device: &Device) -> Self {
        Self { params: Params::zeros(config, device), skip: skip.map(Tensor::zeros_like) }
    }

    /// Goes on by step `step`, from 1, to weights as they are after it.
    pub(crate) fn add(&mut self, decay: f64, step: u64, params: &Params, skip: Option<&Tensor<2>>) {
        // w̄_t − w̄_{t−1} = share·(w_t − w̄_{t−1}), of which step 1 takes all.
        let share = (1.0 - decay) / (1.0 - decay.powf(step as f64));
        let mean = &mut self.params;
        towards(&mut mean.w_enc, &params.w_enc, share);
        towards(&mut mean.b_enc, &params.b_enc, share);
        towards(&mut mean.w_dec, &params.w_dec, share);
        towards(&mut mean.b_dec, &params.b_dec, share);
        for (mean, vector) in mean.vectors.iter_mut().zip(&params.vectors) {
            towards(mean, vector, share);
        }
        if let Some((mean, skip)) = self.skip.as_mut().zip(skip) {
            towards(mean, skip, share);
        }
    }

    /// The parameters of the SAE. Where decoder rows have norm 1 in training, their means are shorter and are given it again.
    pub(crate) fn params(&self, config: &TrainConfig) -> Params {
        let mut params = self.params.clone();
        if config.decoder_norm == DecoderNorm::Unit {
            let norms = kernels::row_norms(params.w_dec.clone());
            params.w_dec = kernels::scale_rows(params.w_dec, norms.clamp_min(f32::MIN_POSITIVE).recip());
        }
        params
    }
}

/// Moves a mean the share of the way to what is new.
fn towards<const D: usize>(mean: &mut Tensor<D>, new: &Tensor<D>, share: f64) {
    let old = std::mem::replace(mean, new.clone());
    *mean = old.mul_scalar(1.0 - share) + new.clone().mul_scalar(share);
}
