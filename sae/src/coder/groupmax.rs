//! The largest pre-activation of each of k groups of d_sae/k neighbours, as sparsify's `groupmax`.

use burn::tensor::Tensor;

use super::sparse::Chosen;
use super::{Coder, Params, Pass};
use crate::activation::Activation;
use crate::config::{GroupMax, TrainConfig};
use crate::kernels::{Dead, Selection};

impl Coder for GroupMax {
    fn forward(&self, config: &TrainConfig, params: &Params, x: Tensor<2>, dead: Option<Dead>) -> Box<dyn Pass> {
        Box::new(Chosen::encode(config, params, x, Selection::GroupMax { k: self.k }, dead))
    }

    fn activation(&self, _vectors: &[Tensor<1>], _threshold: Tensor<1>) -> Activation {
        Activation::GroupMax { k: self.k }
    }
}
