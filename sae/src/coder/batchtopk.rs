//! The ⌊k·batch⌋ largest pre-activations of a batch (Bussmann et al. 2024, arXiv:2412.06410).

use burn::tensor::Tensor;

use super::nested::{Nested, Nesting};
use super::{Batch, Coder, Params, Pass};
use crate::activation::Activation;
use crate::config::{BatchTopK, TrainConfig};

impl Coder for BatchTopK {
    fn forward(&self, config: &TrainConfig, params: &Params, batch: Batch) -> Box<dyn Pass> {
        let nesting = Nesting { k: self.k, widths: &[config.d_sae], aux_by_level: false };
        Box::new(Nested::encode(config, params, batch, nesting))
    }

    fn threshold_lr(&self) -> Option<f64> {
        Some(self.threshold_lr)
    }

    fn activation(&self, _vectors: &[Tensor<1>], threshold: Tensor<1>) -> Activation {
        Activation::JumpRelu { threshold }
    }
}
