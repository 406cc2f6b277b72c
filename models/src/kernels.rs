//! The operations of the decoder for which a backend may have a kernel of its own.
//!
//! Each has a portable body, written with Burn's operations, which also serves differentiation.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Backend operations of the GPT-NeoX decoder.
#[backend_extension(Autodiff, Flex)]
pub trait NeoxOps: Backend {
    /// Exact GELU, elementwise.
    fn gelu_exact(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }
}

impl<B: NeoxOps, C: CheckpointStrategy> NeoxOps for Autodiff<B, C> {}

impl NeoxOps for Flex {
    fn gelu_exact(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut x = if x.is_contiguous() { x } else { x.to_contiguous() };
        x.storage_mut::<f32>().par_chunks_mut(1 << 14).for_each(|chunk| {
            for v in chunk {
                *v = gelu(*v);
            }
        });
        x
    }
}

/// `0.5·x·(1 + erf(x/√2))` (Hendrycks and Gimpel 2016, arXiv:1606.08415), on the CPU with a branch-free erf.
pub fn gelu_exact<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::gelu_exact(x.into_dispatch()))
}

#[inline]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// erf by the rational minimax approximation that Eigen and XLA use for f32 (odd polynomial over
/// even polynomial on |x| ≤ 4, where it saturates). No branch and no call, so that it vectorises.
#[inline]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10_f32;
    for c in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2] {
        p = p * s + c;
    }
    let mut q = -1.456_607_2e-5_f32;
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2] {
        q = q * s + c;
    }
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_fast_gelu_equals_the_portable_one() {
        let values: Vec<f32> = (-6000..6000).map(|i| i as f32 * 1e-3).collect();
        let x: Tensor<1> = Tensor::from_data(values.as_slice(), &Device::flex());
        let fast = gelu_exact(x.clone()).into_data().try_into_vec::<f32>().unwrap();
        let slow = burn::tensor::activation::gelu(x).into_data().try_into_vec::<f32>().unwrap();
        for ((x, f), s) in values.iter().zip(fast).zip(slow) {
            assert!((f - s).abs() <= 3e-7 * x.abs().max(1.0), "gelu({x}): {f} and {s}");
        }
    }
}
