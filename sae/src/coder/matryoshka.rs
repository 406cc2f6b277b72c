//! The selection of BatchTopK, reconstructed at several nested widths (Bussmann et al. 2025, arXiv:2503.17547).

use burn::tensor::Tensor;

use super::nested::{Nested, Nesting};
use super::{Batch, Coder, Params, Pass};
use crate::activation::Activation;
use crate::config::{Matryoshka, TrainConfig};

impl Coder for Matryoshka {
    fn forward(&self, config: &TrainConfig, params: &Params, batch: Batch) -> Box<dyn Pass> {
        let nesting = Nesting { k: self.k, widths: &self.widths, aux_by_level: self.aux_by_level };
        Box::new(Nested::encode(config, params, batch, nesting))
    }

    fn threshold_lr(&self) -> Option<f64> {
        Some(self.threshold_lr)
    }

    fn activation(&self, _vectors: &[Tensor<1>], threshold: Tensor<1>) -> Activation {
        Activation::JumpRelu { threshold }
    }
}
