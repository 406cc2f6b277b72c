//! The largest pre-activation of each of k groups of d_sae/k neighbours, as sparsify's `groupmax`.

use burn::tensor::Tensor;

use super::sparse::Chosen;
use super::{Batch, Coder, Params, Pass};
use crate::activation::Activation;
use crate::config::{GroupMax, TrainConfig};
use crate::kernels::Selection;

impl Coder for GroupMax {
    fn forward(&self, config: &TrainConfig, params: &Params, batch: Batch) -> Box<dyn Pass> {
        Box::new(Chosen::encode(config, params, batch, Selection::GroupMax { k: self.k }))
    }

    fn activation(&self, _vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::GroupMax { k: self.k }
    }
}
