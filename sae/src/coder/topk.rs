//! The k largest pre-activations of a token (Gao et al. 2024, arXiv:2406.04093).

use burn::tensor::Tensor;

use super::sparse::Chosen;
use super::{Coder, Params, Pass};
use crate::config::TrainConfig;
use crate::kernels::{Dead, Selection};

pub(super) struct TopK;

impl Coder for TopK {
    fn forward(&self, config: &TrainConfig, params: &Params, x: Tensor<2>, dead: Option<Dead>) -> Box<dyn Pass> {
        Box::new(Chosen::encode(config, params, x, Selection::TopK { k: config.k }, dead))
    }
}
