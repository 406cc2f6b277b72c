//! The k largest pre-activations of a token (Gao et al. 2024, arXiv:2406.04093).

use burn::tensor::Tensor;

use super::sparse::Chosen;
use super::{Batch, Coder, Params, Pass};
use crate::activation::Activation;
use crate::config::{TopK, TrainConfig};
use crate::kernels::Selection;

impl Coder for TopK {
    fn forward(&self, config: &TrainConfig, params: &Params, batch: Batch) -> Box<dyn Pass> {
        Box::new(Chosen::encode(config, params, batch, Selection::TopK { k: self.k }))
    }

    fn activation(&self, _vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::TopK { k: self.k, by_decoder_norm: false }
    }
}
