//! Codes whose tokens have any number of entries, made in host memory: the reference, which every backend can run.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use crate::code::SparseCode;
use crate::readback::host;

/// Pre-activations, `[batch, d_sae]` in row-major order.
pub(super) struct Pre {
    values: Vec<f32>,
    d_sae: usize,
}

impl Pre {
    pub(super) fn read(pre: Tensor<2>) -> Self {
        let [_, d_sae] = pre.dims();
        Self { values: host(pre), d_sae }
    }

    pub(super) fn tokens(&self) -> usize {
        self.values.len() / self.d_sae
    }

    pub(super) fn of(&self, token: usize) -> &[f32] {
        &self.values[token * self.d_sae..(token + 1) * self.d_sae]
    }

    /// The entries for whose latent and pre-activation there is a value.
    pub(super) fn rows(&self, value: impl Fn(usize, f32) -> Option<f32> + Sync) -> Rows {
        let row = |pre: &[f32]| {
            let entry = |(latent, &pre): (usize, &f32)| value(latent, pre).map(|value| (latent as i32, value));
            pre.iter().enumerate().filter_map(entry).unzip()
        };
        Rows { tokens: self.values.par_chunks(self.d_sae).map(row).collect(), d_sae: self.d_sae }
    }
}

/// The entries of a code: of each token the latents, ascending, and their values.
pub(super) struct Rows {
    pub(super) tokens: Vec<(Vec<i32>, Vec<f32>)>,
    pub(super) d_sae: usize,
}

impl Rows {
    pub(super) fn code(&self, device: &Device) -> SparseCode {
        SparseCode::of_rows(&self.tokens, self.d_sae, device).expect("settings with 2³¹ latents in a batch are refused")
    }

    /// Token, latent and value of every entry, in the order of the code.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, usize, f32)> {
        self.tokens.iter().enumerate().flat_map(|(token, (latents, values))| {
            latents.iter().zip(values).map(move |(&latent, &value)| (token, latent as usize, value))
        })
    }
}

/// A sum over the batch's tokens as a tensor of one element.
pub(super) fn scalar(value: f64, device: &Device) -> Tensor<1> {
    // A sum of nothing is −0.
    Tensor::from_data([(value + 0.0) as f32], device)
}

/// Numbers of a host as a tensor.
pub(super) fn vector(values: impl IntoIterator<Item = f64>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    Tensor::from_data(values.as_slice(), device)
}
