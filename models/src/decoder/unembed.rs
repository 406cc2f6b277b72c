//! The end of the forward pass: from the residual stream to logits, and what that map does to directions.

use burn::tensor::Tensor;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::Decoder;
use super::linear::{Linear, in_f32};
use crate::config::{DecoderConfig, NormKind};

impl Decoder {
    /// The final norm's output u, of which the logits are W_Uᵀu, before a soft cap if the model has one.
    ///
    /// # Shapes
    /// - `h`: `[batch, context, d_model]`, the residual stream after the last layer; returned alike.
    pub fn final_norm_output(&self, h: Tensor<3>) -> Tensor<3> {
        self.final_norm.forward(h)
    }

    /// The logit lens of directions v in the residual stream (nostalgebraist 2020, "interpreting GPT: the logit lens"):
    /// W_Uᵀ(γ ⊙ (v − mean v)), what adding v after the last layer adds to the logits, times the standard deviation by which the
    /// final LayerNorm divides; γ is that norm's gain. An RMSNorm divides by the root mean square and takes no mean out, so there it is
    /// W_Uᵀ(γ ⊙ v). What layers in between do with v is left out, and so is a soft cap.
    ///
    /// # Shapes
    /// - `directions`: `[count, d_model]`; the result is `[count, vocab_size]`.
    pub fn logit_lens(&self, directions: Tensor<2>) -> Tensor<2> {
        let seen = match self.config.norm.kind {
            NormKind::Layer => directions.clone() - directions.mean_dim(1),
            NormKind::Rms => directions,
        };
        let scaled = seen * self.final_norm.gain.clone().unsqueeze();
        let unembed = Linear { weight: self.unembed.clone(), bias: None };
        unembed.forward(scaled.unsqueeze::<3>(), self.pinned).squeeze_dim(0)
    }

    /// G = W_U·W_Uᵀ, `[d_model, d_model]`, in f64: uᵀGv is the inner product of the logits of u and v, before a soft cap. If `centered`, of the
    /// logits less their mean over the vocabulary, which no softmax sees.
    pub fn unembed_gram(&self, centered: bool) -> Array2<f64> {
        // Partial sums of this many tokens each are added in order, whatever the number of threads.
        const TOKENS: usize = 8192;
        let DecoderConfig { d_model, vocab_size, .. } = self.config;
        let values = in_f32(self.unembed.clone()).into_data().try_into_vec::<f32>().expect("weights are f32");
        let unembed = ArrayView2::from_shape((d_model, vocab_size), &values).expect("checked when loaded");
        let mean: Array1<f64> = unembed
            .rows()
            .into_iter()
            .map(|row| if centered { row.iter().map(|&w| f64::from(w)).sum::<f64>() / vocab_size as f64 } else { 0.0 })
            .collect();
        let starts: Vec<usize> = (0..vocab_size).step_by(TOKENS).collect();
        let parts: Vec<Array2<f64>> = starts
            .into_par_iter()
            .map(|start| {
                let part = unembed.slice(s![.., start..(start + TOKENS).min(vocab_size)]).mapv(f64::from);
                let part = part - mean.view().insert_axis(Axis(1));
                part.dot(&part.t())
            })
            .collect();
        parts.into_iter().fold(Array2::zeros((d_model, d_model)), |sum, part| sum + part)
    }

    /// Logits of the residual stream after the last layer.
    pub(super) fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        let unembed = Linear { weight: self.unembed.clone(), bias: None };
        let logits = unembed.forward(self.final_norm.forward(x), self.pinned);
        match self.config.ends.logit_cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}
