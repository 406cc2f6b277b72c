//! The operations of the decoder for which a backend may have a kernel of its own.
//!
//! Each has a portable body, written with Burn's operations, which also serves differentiation.

#![expect(clippy::too_many_arguments, reason = "tensors cross the dispatch boundary one by one")]

#[cfg(feature = "gpu")]
mod gpu;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use crate::config::{Act, DecoderConfig};

/// Backend operations of the GPT-NeoX decoder.
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

    /// A weight `[d_out, d_in]` in bf16, in the order of the tensor cores; only where [`has_bf16_blocks`].
    fn neox_pack(_weight: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("packed weights are for devices that say they take them")
    }

    /// See [`block`]; only where [`has_bf16_blocks`].
    fn neox_block(
        _x: FloatTensor<Self>,
        _norm_attn: FloatTensor<Self>,
        _norm_attn_bias: FloatTensor<Self>,
        _norm_mlp: FloatTensor<Self>,
        _norm_mlp_bias: FloatTensor<Self>,
        _qkv: FloatTensor<Self>,
        _qkv_bias: FloatTensor<Self>,
        _attn_out: FloatTensor<Self>,
        _attn_out_bias: FloatTensor<Self>,
        _mlp_in: FloatTensor<Self>,
        _mlp_in_bias: FloatTensor<Self>,
        _mlp_out: FloatTensor<Self>,
        _mlp_out_bias: FloatTensor<Self>,
        _cos: FloatTensor<Self>,
        _sin: FloatTensor<Self>,
        _shape: BlockShape,
    ) -> FloatTensor<Self> {
        unreachable!("packed blocks are for devices that say they take them")
    }
}

/// The sizes of a decoder block and of what goes through it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "read by the kernels of that feature"))]
pub struct BlockShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub context: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Leading dimensions of each head that are rotated.
    pub rotary_dims: usize,
    /// Added to the variance by layer norms.
    pub eps: f64,
    /// Whether attention and MLP read the same residual stream.
    pub parallel_residual: bool,
    /// What lies between the MLP's two products.
    pub act: Act,
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
/// - `lhs`: `[.., m, k]`; `rhs`: `[.., k, n]`, leading dimensions equal, or all 1 where no gradient is wanted
pub fn product<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::neox_product(lhs.into_dispatch(), rhs.into_dispatch()))
}

/// Whether `device` computes whole blocks of a model in bf16: on Hopper's tensor cores, in the widths that the kernels are made for.
pub fn has_bf16_blocks(device: &Device, config: &DecoderConfig) -> bool {
    #[cfg(feature = "cuda")]
    {
        device.identity().is_some_and(|identity| gpu::takes_blocks(&identity.fingerprint, config))
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (device, config);
        false
    }
}

/// The weights of a decoder block for [`block`]: matrices packed, vectors in f32.
pub struct PackedBlock {
    norm_attn: [Tensor<1>; 2],
    norm_mlp: [Tensor<1>; 2],
    qkv: (Tensor<4>, Tensor<1>),
    attn_out: (Tensor<4>, Tensor<1>),
    mlp_in: (Tensor<4>, Tensor<1>),
    mlp_out: (Tensor<4>, Tensor<1>),
}

impl PackedBlock {
    /// Of layer norms (weight, bias) and linear maps `[d_in, d_out]` with their biases, in the order of the block.
    pub fn new(norms: [[Tensor<1>; 2]; 2], maps: [(Tensor<2>, Option<Tensor<1>>); 4]) -> Self {
        let [norm_attn, norm_mlp] = norms;
        let pack = |(weight, bias): (Tensor<2>, Option<Tensor<1>>)| -> (Tensor<4>, Tensor<1>) {
            let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &weight.device()));
            (Tensor::from_dispatch(Dispatch::neox_pack(weight.transpose().into_dispatch())), bias)
        };
        let [qkv, attn_out, mlp_in, mlp_out] = maps.map(pack);
        Self { norm_attn, norm_mlp, qkv, attn_out, mlp_in, mlp_out }
    }
}

/// A whole decoder block: layer norms, attention with rotary embedding, MLP, residual sums. Products in bf16 with f32 sums; norms,
/// softmax and the residual stream in f32. No gradient.
///
/// # Shapes
/// - `x`: `[batch · context, d_model]`, returned alike; `tables`: cos and sin, `context · rotary_dims / 2` values each
pub fn block(x: Tensor<2>, weights: &PackedBlock, tables: (Tensor<4>, Tensor<4>), shape: BlockShape) -> Tensor<2> {
    let vector = |x: &Tensor<1>| x.clone().into_dispatch();
    let matrix = |x: &(Tensor<4>, Tensor<1>)| x.0.clone().into_dispatch();
    let w = weights;
    Tensor::from_dispatch(Dispatch::neox_block(
        x.into_dispatch(),
        vector(&w.norm_attn[0]),
        vector(&w.norm_attn[1]),
        vector(&w.norm_mlp[0]),
        vector(&w.norm_mlp[1]),
        matrix(&w.qkv),
        vector(&w.qkv.1),
        matrix(&w.attn_out),
        vector(&w.attn_out.1),
        matrix(&w.mlp_in),
        vector(&w.mlp_in.1),
        matrix(&w.mlp_out),
        vector(&w.mlp_out.1),
        tables.0.into_dispatch(),
        tables.1.into_dispatch(),
        shape,
    ))
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
