//! A whole decoder block in bf16: its weights, packed once, and the call.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::{Device, Tensor};

use super::NeoxOps;
use crate::config::{Attention, DecoderConfig, LayerKind, Layout, Mlp, Norm};
use crate::rotary::Rotary;

/// Columns in which the tensor cores read a matrix: what a product sums over is a multiple of this.
const DEPTH: usize = 16;
/// Rows of gates, and of values, that alternate in the first matrix of a gated MLP.
const INTERLEAVED: usize = 8;

/// The sizes of a decoder block and of what goes through it, and what it computes beside products.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "read by the kernels of that feature"))]
pub struct BlockShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub context: usize,
    /// What all layers' attention does.
    pub attention: Attention,
    /// What this layer's does.
    pub kind: LayerKind,
    /// Leading dimensions of each head that are rotated.
    pub rotary_dims: usize,
    /// The norms of the residual stream.
    pub norm: Norm,
    /// Where they stand.
    pub layout: Layout,
    /// The MLP.
    pub mlp: Mlp,
}

/// A linear map: weight `[d_in, d_out]` and bias.
pub type Map = (Tensor<2>, Option<Tensor<1>>);

/// The weights of a decoder block, matrices in any float.
pub struct BlockWeights {
    /// Gain, and bias of a LayerNorm, of the norm that attention reads through.
    pub norm_attn: Option<(Tensor<1>, Option<Tensor<1>>)>,
    /// Of the norm that attention's output passes.
    pub post_attn: Option<(Tensor<1>, Option<Tensor<1>>)>,
    /// Of the norm that the MLP reads through.
    pub norm_mlp: Option<(Tensor<1>, Option<Tensor<1>>)>,
    /// Of the norm that the MLP's output passes.
    pub post_mlp: Option<(Tensor<1>, Option<Tensor<1>>)>,
    /// Gains of the norms of queries and of keys.
    pub qk_norm: Option<[Tensor<1>; 2]>,
    /// To all queries, then all keys, then all values.
    pub qkv: Map,
    /// W_O.
    pub attn_out: Map,
    /// Of a gated MLP.
    pub gate: Option<Map>,
    /// The MLP's first map.
    pub up: Map,
    /// Its last.
    pub down: Map,
}

/// The tensors of a [`PackedBlock`].
#[derive(Clone, ExtensionType)]
pub struct BlockOf<B: Backend> {
    #[extension_type]
    pub norm_attn: NormOf<B>,
    #[extension_type]
    pub post_attn: NormOf<B>,
    #[extension_type]
    pub norm_mlp: NormOf<B>,
    #[extension_type]
    pub post_mlp: NormOf<B>,
    #[extension_type]
    pub qk_norm: GainsOf<B>,
    #[extension_type]
    pub qkv: MapOf<B>,
    #[extension_type]
    pub attn_out: MapOf<B>,
    /// The MLP's first map; of a gated one 8 rows of the gate, 8 of the values, and so on.
    #[extension_type]
    pub up: MapOf<B>,
    #[extension_type]
    pub down: MapOf<B>,
}

/// A norm of the residual stream, or none.
#[derive(Clone, ExtensionType)]
pub enum NormOf<B: Backend> {
    None,
    /// Its gain.
    Rms(FloatTensor<B>),
    /// Its gain and bias.
    Layer(FloatTensor<B>, FloatTensor<B>),
}

/// Gains of the norms of queries and of keys.
#[derive(Clone, ExtensionType)]
pub enum GainsOf<B: Backend> {
    None,
    Some(FloatTensor<B>, FloatTensor<B>),
}

/// A packed weight with its bias, which is zeros where the model has none.
#[derive(Clone, ExtensionType)]
pub struct MapOf<B: Backend> {
    pub weight: FloatTensor<B>,
    pub bias: FloatTensor<B>,
}

/// The rotary tables cos and sin.
#[derive(ExtensionType)]
pub enum TablesOf<B: Backend> {
    None,
    Some(FloatTensor<B>, FloatTensor<B>),
}

/// The weights of a decoder block for [`block`]: matrices packed, vectors in f32.
pub struct PackedBlock(BlockOf<Dispatch>);

impl PackedBlock {
    /// Packs the weights, one matrix after the other. The MLP's width is filled up with zeros to what a product can sum over: they
    /// change nothing, as every activation function maps 0 to 0.
    pub fn new(weights: BlockWeights) -> Self {
        let BlockWeights { norm_attn, post_attn, norm_mlp, post_mlp, qk_norm, qkv, attn_out, gate, up, down } = weights;
        let (up, down) = (Rows::of(up).filled(), Rows::of(down).deepened());
        let up = match gate {
            Some(gate) => Rows::of(gate).filled().interleaved(up),
            None => up,
        };
        Self(BlockOf {
            norm_attn: norm(norm_attn),
            post_attn: norm(post_attn),
            norm_mlp: norm(norm_mlp),
            post_mlp: norm(post_mlp),
            qk_norm: match qk_norm {
                Some([q, k]) => GainsOf::Some(q.into_dispatch(), k.into_dispatch()),
                None => GainsOf::None,
            },
            qkv: Rows::of(qkv).packed(),
            attn_out: Rows::of(attn_out).packed(),
            up: up.packed(),
            down: down.packed(),
        })
    }
}

fn norm(norm: Option<(Tensor<1>, Option<Tensor<1>>)>) -> NormOf<Dispatch> {
    match norm {
        None => NormOf::None,
        Some((gain, None)) => NormOf::Rms(gain.into_dispatch()),
        Some((gain, Some(bias))) => NormOf::Layer(gain.into_dispatch(), bias.into_dispatch()),
    }
}

/// A linear map by the rows of its weight, `[d_out, d_in]`.
struct Rows {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Rows {
    fn of((weight, bias): Map) -> Self {
        let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &weight.device()));
        Self { weight: weight.transpose(), bias }
    }

    /// With rows of zeros up to a multiple of [`DEPTH`].
    fn filled(self) -> Self {
        let [d_out, d_in] = self.weight.dims();
        let more = d_out.next_multiple_of(DEPTH) - d_out;
        if more == 0 {
            return self;
        }
        let zeros: Tensor<2> = Tensor::zeros([more, d_in], (&self.weight.device(), self.weight.dtype()));
        let none: Tensor<1> = Tensor::zeros([more], &self.bias.device());
        Self { weight: Tensor::cat(vec![self.weight, zeros], 0), bias: Tensor::cat(vec![self.bias, none], 0) }
    }

    /// With columns of zeros up to a multiple of [`DEPTH`].
    fn deepened(self) -> Self {
        let [d_out, d_in] = self.weight.dims();
        let more = d_in.next_multiple_of(DEPTH) - d_in;
        if more == 0 {
            return self;
        }
        let zeros: Tensor<2> = Tensor::zeros([d_out, more], (&self.weight.device(), self.weight.dtype()));
        Self { weight: Tensor::cat(vec![self.weight, zeros], 1), bias: self.bias }
    }

    /// Eight of these rows, eight of the others, and so on.
    fn interleaved(self, other: Self) -> Self {
        let [d_out, d_in] = self.weight.dims();
        let groups = d_out / INTERLEAVED;
        let weights = [self.weight, other.weight].map(|w| w.reshape([groups, 1, INTERLEAVED, d_in]));
        let biases = [self.bias, other.bias].map(|b| b.reshape([groups, 1, INTERLEAVED]));
        Self {
            weight: Tensor::cat(weights.to_vec(), 1).reshape([2 * d_out, d_in]),
            bias: Tensor::cat(biases.to_vec(), 1).reshape([2 * d_out]),
        }
    }

    fn packed(self) -> MapOf<Dispatch> {
        MapOf { weight: Dispatch::neox_pack(self.weight.into_dispatch()), bias: self.bias.into_dispatch() }
    }
}

/// A whole decoder block: norms, attention, MLP, residual sums. Products in bf16 with f32 sums; norms, softmax and the residual stream
/// in f32. No gradient.
///
/// # Shapes
/// - `x`: `[batch · context, d_model]`, returned alike
/// - `rotary`: the tables for the context, where the layer's queries and keys are rotated
pub fn block(x: Tensor<2>, weights: &PackedBlock, rotary: Option<&Rotary>, shape: BlockShape) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::neox_block(x.into_dispatch(), weights.0.clone(), tables(rotary), shape))
}

/// What kernels get of a rotation.
pub(super) fn tables(rotary: Option<&Rotary>) -> TablesOf<Dispatch> {
    match rotary.map(Rotary::tables) {
        Some((cos, sin)) => TablesOf::Some(cos.into_dispatch(), sin.into_dispatch()),
        None => TablesOf::None,
    }
}

/// Why `device` does not compute whole blocks of a model in bf16, in words for the user; `None` where it does: on Hopper's tensor
/// cores, in the widths that the kernels are made for.
pub fn why_no_bf16_blocks(device: &Device, config: &DecoderConfig) -> Option<String> {
    #[cfg(feature = "cuda")]
    {
        let fingerprint = device.identity().map(|identity| identity.fingerprint);
        super::gpu::refusal(fingerprint.as_deref(), config)
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (device, config);
        Some("layers in bf16 need a Hopper GPU and a program built for CUDA".to_owned())
    }
}
