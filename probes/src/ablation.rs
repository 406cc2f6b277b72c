//! What a model says without one latent of an SAE.

use assay_models::decoder::Cut;
use assay_models::{Decoder, Said};
use assay_sae::Sae;
use burn::tensor::{Tensor, TensorData};
use ndarray::ArrayView2;

use crate::error::Result;

/// What one unit of each latent adds to the activation that an SAE reconstructs or predicts, `[d_sae, d_out]`: its decoder row, of unit
/// norm where latents are measured in units of the rows' norms.
pub fn written(sae: &Sae) -> Tensor<2> {
    let [_, rows] = sae.weights();
    if sae.activation().by_decoder_norm() {
        let norms = (rows.clone() * rows.clone()).sum_dim(1).sqrt();
        return rows / norms;
    }
    rows
}

/// Takes z times a latent's `row` (`[1, d_out]`, of [`written`]) from what was cut, and leaves everything else, the SAE's error included.
///
/// # Shapes
/// - `z`: `[batch · context]`, the latent's activations, 0 where it is silent; the result is as [`Cut::value`].
pub fn without(cut: &Cut, row: Tensor<2>, z: &[f32]) -> Tensor<3> {
    let value = cut.value();
    let [batch, context, width] = value.dims();
    let z: Tensor<2> = Tensor::from_data(TensorData::new(z.to_vec(), [batch * context, 1]), &value.device());
    value - z.matmul(row).reshape([batch, context, width])
}

/// Contexts of a model, as it is: what latents' ablations are compared with.
pub struct Intact<'a> {
    model: &'a Decoder,
    tokens: ArrayView2<'a, u32>,
    cut: Cut,
    said: Said,
    losses: Vec<f32>,
}

/// What ablating a latent did, summed over contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Effect {
    /// Σ of the cross-entropy without it minus that with it, over all tokens that are predicted, in nats.
    pub ce: f64,
    /// Σ KL(p ‖ p without it) there, in nats.
    pub kl: f64,
    /// Firings that were ablated on tokens after which one is predicted: all but the last of each context, whose logits say nothing here.
    pub firings: u64,
}

impl<'a> Intact<'a> {
    /// Runs the model on contexts, `[batch, context]`, up to a site and from there.
    ///
    /// # Errors
    /// As [`Decoder::cut`].
    pub fn new(model: &'a Decoder, tokens: ArrayView2<'a, u32>, site: assay_models::Site) -> Result<Self> {
        let cut = model.cut(tokens, &[site])?.remove(0);
        let said = Said::new(model.forward_from(&cut, cut.value()), tokens).as_reference();
        let losses = said.losses();
        Ok(Self { model, tokens, cut, said, losses })
    }

    /// The effect of a latent that writes `row` and is active `z`, `[batch · context]`.
    pub fn without(&self, row: Tensor<2>, z: &[f32]) -> Effect {
        let changed = Said::new(self.model.forward_from(&self.cut, without(&self.cut, row, z)), self.tokens);
        let ce = changed.losses().iter().zip(&self.losses).map(|(&a, &b)| f64::from(a) - f64::from(b)).sum();
        let kl = self.said.divergence(&changed).into_iter().map(f64::from).sum();
        let predicts = |at: usize| !(at + 1).is_multiple_of(self.tokens.ncols());
        let firings = z.iter().enumerate().filter(|(at, z)| **z != 0.0 && predicts(*at)).count();
        Effect { ce, kl, firings: firings as u64 }
    }
}
