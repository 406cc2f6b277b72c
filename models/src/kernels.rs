//! The operations of the decoder for which a backend may have a kernel of its own.
//!
//! Each has a portable body, written with Burn's operations, which also serves differentiation.

mod block;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod said;
pub(crate) mod wide;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::Tensor;

use crate::config::{Attention, LayerKind};
use crate::device::runs_on_cpu;
use crate::rotary::Rotary;
use block::{BlockOf, TablesOf, tables};
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

    /// See [`linear`]; only on the CPU.
    fn neox_linear(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        #[extension_type] _bias: BiasOf<Self>,
        _gelu: bool,
    ) -> FloatTensor<Self> {
        unreachable!("maps without gradients are for the CPU")
    }

    /// See [`attention()`]; only on the CPU.
    fn neox_attention(
        _q: FloatTensor<Self>,
        _k: FloatTensor<Self>,
        _v: FloatTensor<Self>,
        #[extension_type] _tables: TablesOf<Self>,
        _attention: Attention,
        _kind: LayerKind,
    ) -> FloatTensor<Self> {
        unreachable!("attention without gradients is for the CPU")
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

/// `0.5·x·(1 + erf(x/√2))` (Hendrycks and Gimpel 2016, arXiv:1606.08415), on the CPU with a branch-free erf.
pub fn gelu_exact<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::gelu_exact(x.into_dispatch()))
}

/// The bias of a linear map, or none.
#[derive(ExtensionType)]
pub enum BiasOf<B: Backend> {
    None,
    Some(FloatTensor<B>),
}

/// `x W + b` on the CPU, and exact GELU of it if `gelu`, without gradients and with the bits of Burn's product, sum and [`gelu_exact`]; `None`
/// where a tensor asks for gradients, or is elsewhere.
///
/// # Shapes
/// - `x`: `[batch, context, d_in]`; `weight`: `[d_in, d_out]`; `bias`: `[d_out]`; the result is `[batch, context, d_out]`.
pub fn linear(x: &Tensor<3>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, gelu: bool) -> Option<Tensor<3>> {
    if !is_plain(x) {
        return None;
    }
    let bias = match bias {
        Some(bias) => BiasOf::Some(bias.clone().into_dispatch()),
        None => BiasOf::None,
    };
    let (x, weight) = (x.clone().into_dispatch(), weight.clone().into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::neox_linear(x, weight, bias, gelu)))
}

/// Whether a tensor is on the CPU and nobody wants its gradient.
fn is_plain(x: &Tensor<3>) -> bool {
    runs_on_cpu(&x.device()) && !x.is_autodiff()
}

/// Causal attention of the CPU, without gradients; `None` where a tensor asks for them, or the context is longer than Burn's own attention
/// holds the scores of, whose bits these are.
///
/// # Shapes
/// - `q`: `[batch, context, n_heads · d_head]`, to be rotated, returned alike; `k` and `v`: `[batch, context, n_kv_heads · d_head]`
/// - `rotary`: the tables for the context, where the layer's queries and keys are rotated
pub fn attention(
    [q, k, v]: [&Tensor<3>; 3],
    rotary: Option<&Rotary>,
    attention: &Attention,
    kind: &LayerKind,
) -> Option<Tensor<3>> {
    /// The side of a head's largest matrix of scores that Burn holds.
    const LONGEST: usize = 512;
    if !is_plain(q) || q.dims()[1] > LONGEST {
        return None;
    }
    let [q, k, v] = [q, k, v].map(|x| x.clone().into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::neox_attention(q, k, v, tables(rotary), *attention, *kind)))
}

/// `lhs · rhs` in f32, on every device and in every process by the same kernel; TF32 is never used.
///
/// # Shapes
/// - `lhs`: `[.., m, k]`, f32; `rhs`: `[.., k, n]`, on a GPU of any float, which is widened; leading dimensions equal, or all 1 where no
///   gradient is wanted
pub fn product<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::neox_product(lhs.into_dispatch(), rhs.into_dispatch()))
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
