//! A norm with its weights.

use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;

use crate::config::{Norm, NormKind};
use crate::kernels::wide;

/// Normalisation over the last dimension.
pub(super) struct NormWeights {
    pub(super) norm: Norm,
    pub(super) gain: Tensor<1>,
    /// Of a LayerNorm.
    pub(super) bias: Option<Tensor<1>>,
}

impl NormWeights {
    /// See [`NormKind`] for the formulas.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if wide::takes_norms(&x) {
            return wide::norm(x, self.norm, &self.gain, self.bias.as_ref());
        }
        match self.norm.kind {
            NormKind::Layer => layer_norm(x, self.gain.clone(), self.bias.clone(), self.norm.eps),
            NormKind::Rms => {
                let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
                x / (mean_square + self.norm.eps).sqrt() * self.gain.clone().unsqueeze()
            }
        }
    }

    /// The same without gain and bias.
    pub(super) fn normalized<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        Self { norm: self.norm, gain: self.gain.ones_like(), bias: None }.forward(x)
    }

    /// What the norm gives, of what it gives without gain and bias when that is changed from `normalized` to `value`:
    /// output + gain·(value − normalized). An unchanged value gives `output` bit for bit, which gain·value + bias need not: a LayerNorm may
    /// be computed in another order.
    pub(super) fn changed<const D: usize>(
        &self,
        output: Tensor<D>,
        normalized: Tensor<D>,
        value: Tensor<D>,
    ) -> Tensor<D> {
        output + (value - normalized) * self.gain.clone().unsqueeze()
    }
}
