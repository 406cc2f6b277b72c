//! A linear map.

use burn::tensor::module::linear;
use burn::tensor::{DType, Tensor};

use crate::kernels::{self, gelu_exact, product};

/// `x W + b`.
pub(super) struct Linear {
    /// `[d_in, d_out]`; on a GPU in the number format of the checkpoint, if that is a float of two bytes.
    pub(super) weight: Tensor<2>,
    pub(super) bias: Option<Tensor<1>>,
}

impl Linear {
    pub(super) fn forward(&self, x: Tensor<3>, pinned: bool) -> Tensor<3> {
        if !pinned {
            let bias = self.bias.as_ref();
            return kernels::linear(&x, &self.weight, bias, false)
                .unwrap_or_else(|| linear(x, self.weight.clone(), self.bias.clone()));
        }
        let out = product(x, self.weight.clone().unsqueeze());
        match &self.bias {
            Some(bias) => out + bias.clone().unsqueeze(),
            None => out,
        }
    }

    /// Exact GELU of the map; not pinned.
    pub(super) fn gelu(&self, x: Tensor<3>) -> Tensor<3> {
        kernels::linear(&x, &self.weight, self.bias.as_ref(), true)
            .unwrap_or_else(|| gelu_exact(self.forward(x, false)))
    }
}

/// A matrix of weights in f32. On a GPU it lies there transposed, and stays so.
pub(super) fn in_f32(weight: Tensor<2>) -> Tensor<2> {
    if weight.dtype() == DType::F32 { weight } else { widened(weight.transpose()).transpose() }
}

/// Numbers of two bytes as f32, which is exact.
pub(super) fn widened<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) }
}
