//! The operations of the decoder for which a backend may have a kernel of its own.
//!
//! Each has a portable body, written with Burn's operations, which also serves differentiation.

mod block;
#[cfg(feature = "gpu")]
mod gpu;
mod said;
pub(crate) mod wide;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use block::{BlockOf, TablesOf};
pub use block::{BlockShape, BlockWeights, PackedBlock, block, why_no_bf16_blocks};
pub(crate) use said::Measured;

/// Backend operations of the decoder.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "gpu"))]
pub trait NeoxOps: Backend {
    /// Exact GELU, elementwise.
    fn gelu_exact(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }

    /// See [`product`].
    fn neox_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(lhs, rhs)
    }

    /// A weight `[d_out, d_in]` of any float in bf16, in the order of the tensor cores; only where [`why_no_bf16_blocks`] has no
    /// answer.
    fn neox_pack(_weight: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("packed weights are for devices that say they take them")
    }

    /// See [`block()`]; only where [`why_no_bf16_blocks`] has no answer.
    fn neox_block(
        _x: FloatTensor<Self>,
        #[extension_type] _weights: BlockOf<Self>,
        #[extension_type] _tables: TablesOf<Self>,
        _shape: BlockShape,
    ) -> FloatTensor<Self> {
        unreachable!("packed blocks are for devices that say they take them")
    }
}

impl<B: NeoxOps, C: CheckpointStrategy> NeoxOps for Autodiff<B, C> {
    fn neox_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        match Product.prepare::<C>([lhs.node(), rhs.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                // Each side is kept for the other's gradient, if that one is wanted.
                let left = rhs.is_tracked().then(|| lhs.primitive().clone());
                let right = lhs.is_tracked().then(|| rhs.primitive().clone());
                prep.finish((left, right), B::neox_product(lhs.into_primitive(), rhs.into_primitive()))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::neox_product(lhs.into_primitive(), rhs.into_primitive())),
        }
    }
}

/// The gradient of [`product`]: G·Rᵀ on the left, Lᵀ·G on the right, whose leading dimensions must be those of the result.
#[derive(Debug)]
struct Product;

impl<B: NeoxOps> Backward<B, 2> for Product {
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (left, right) = ops.state;
        let transposed = |x: FloatTensor<B>| B::float_transpose(x);
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |grad| B::neox_product(grad, transposed(right.expect("kept for the left side"))),
            |grad| B::neox_product(transposed(left.expect("kept for the right side")), grad),
        );
    }
}

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

/// `lhs · rhs` in f32, on every device and in every process by the same kernel; TF32 is never used.
///
/// # Shapes
/// - `lhs`: `[.., m, k]`, f32; `rhs`: `[.., k, n]`, on a GPU of any float, which is widened; leading dimensions equal, or all 1 where no
///   gradient is wanted
pub fn product<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::neox_product(lhs.into_dispatch(), rhs.into_dispatch()))
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
    use burn::tensor::Device;

    use super::*;

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
