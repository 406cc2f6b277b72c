//! The decoder's operations on a GPU: the pinned f32 product, and on Hopper whole blocks in bf16.

use assay_kernels::product::f32_product;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

#[cfg(feature = "cuda")]
use super::BlockShape;
use super::NeoxOps;

impl NeoxOps for CubeBackend {
    fn neox_product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        f32_product(lhs, rhs)
    }

    #[cfg(feature = "cuda")]
    fn neox_pack(weight: CubeTensor) -> CubeTensor {
        hopper::pack(weight)
    }

    #[cfg(feature = "cuda")]
    fn neox_block(
        x: CubeTensor,
        norm_attn: CubeTensor,
        norm_attn_bias: CubeTensor,
        norm_mlp: CubeTensor,
        norm_mlp_bias: CubeTensor,
        qkv: CubeTensor,
        qkv_bias: CubeTensor,
        attn_out: CubeTensor,
        attn_out_bias: CubeTensor,
        mlp_in: CubeTensor,
        mlp_in_bias: CubeTensor,
        mlp_out: CubeTensor,
        mlp_out_bias: CubeTensor,
        cos: CubeTensor,
        sin: CubeTensor,
        shape: BlockShape,
    ) -> CubeTensor {
        hopper::Block {
            norms: [[norm_attn, norm_attn_bias], [norm_mlp, norm_mlp_bias]],
            qkv: (qkv, qkv_bias),
            attn_out: (attn_out, attn_out_bias),
            mlp_in: (mlp_in, mlp_in_bias),
            mlp_out: (mlp_out, mlp_out_bias),
            tables: [cos, sin].map(assay_kernels::tensor::contiguous),
            shape,
        }
        .run(x)
    }
}

#[cfg(feature = "cuda")]
pub(super) use hopper::takes_blocks;

#[cfg(feature = "cuda")]
mod hopper {
    use assay_kernels::gemm::{self, Activation};
    use assay_kernels::packed::{Packed, TILE};
    use assay_kernels::source::{CudaSource, HOPPER};
    use assay_kernels::tensor::{contiguous, dims2};
    use burn_cubecl::tensor::CubeTensor;

    use crate::config::{Act, DecoderConfig, Family};
    use crate::kernels::BlockShape;

    /// Whether the kernels below are made for a device and a model's widths.
    pub fn takes_blocks(fingerprint: &str, config: &DecoderConfig) -> bool {
        let heads = [16, 32, 48, 64, 80, 96, 112, 128, 256];
        let (d_model, d_mlp) = (config.d_model, config.mlp.d_mlp);
        let widths = d_model <= 8192 && d_mlp <= 65_536 && d_model.is_multiple_of(16) && d_mlp.is_multiple_of(16);
        config.family == Family::Neox
            && config.mlp.act != Act::Silu
            && widths
            && heads.contains(&config.attention.d_head)
            && fingerprint == HOPPER
    }

    pub fn pack(weight: CubeTensor) -> CubeTensor {
        let weight = contiguous(weight);
        let [rows, columns] = dims2(&weight);
        Packed::from_f32(&weight, rows, columns).tensor
    }

    pub struct Block {
        /// Weight and bias of the norms before attention and MLP.
        pub norms: [[CubeTensor; 2]; 2],
        pub qkv: (CubeTensor, CubeTensor),
        pub attn_out: (CubeTensor, CubeTensor),
        pub mlp_in: (CubeTensor, CubeTensor),
        pub mlp_out: (CubeTensor, CubeTensor),
        pub tables: [CubeTensor; 2],
        pub shape: BlockShape,
    }

    impl Block {
        pub fn run(&self, x: CubeTensor) -> CubeTensor {
            let x = contiguous(x);
            let [rows, d_model] = dims2(&x);
            let weight = |(tensor, bias): &(CubeTensor, CubeTensor), columns: usize| {
                let rows = bias.meta.shape().num_elements();
                Packed { tensor: tensor.clone(), rows, columns }
            };
            let d_mlp = self.mlp_in.1.meta.shape().num_elements();
            let act = match self.shape.act {
                Act::Gelu => Activation::Gelu,
                Act::GeluTanh => Activation::GeluTanh,
                Act::Relu => Activation::Relu,
                Act::Silu => unreachable!("refused by takes_blocks"),
            };
            let (to_attn, to_mlp) = if self.shape.parallel_residual {
                let (a, b) = self.norm(&x, [0, 1]);
                (a, Some(b))
            } else {
                (self.norm(&x, [0, 0]).0, None)
            };
            let qkv = gemm::rows(&to_attn, &weight(&self.qkv, d_model), &self.qkv.1);
            let mixed = self.attention(&qkv, rows, d_model);
            let x = gemm::add_to(&x, &mixed, &weight(&self.attn_out, d_model), &self.attn_out.1);
            let to_mlp = to_mlp.unwrap_or_else(|| self.norm(&x, [1, 1]).0);
            let hidden = gemm::activated(&to_mlp, &weight(&self.mlp_in, d_model), &self.mlp_in.1, act);
            gemm::add_to(&x, &hidden, &weight(&self.mlp_out, d_mlp), &self.mlp_out.1)
        }

        /// x normalised with the affine maps of norms `which`, packed; the second is the first where they are the same.
        fn norm(&self, x: &CubeTensor, which: [usize; 2]) -> (Packed, Packed) {
            let [rows, d] = dims2(x);
            let both = which[0] != which[1];
            // As in layer_norm.cu: threads that share a row, and rows of a block.
            let lanes = match d {
                0..=1024 => 32,
                1025..=2048 => 64,
                2049..=4096 => 128,
                _ => 256,
            };
            let block_rows = if lanes <= 128 { 8 } else { 4 };
            let source = CudaSource {
                entry: "layer_norm",
                text: include_str!("layer_norm.cu"),
                defines: vec![("D", d.to_string()), ("OUTPUTS", if both { "2" } else { "1" }.to_owned())],
                threads: (block_rows * lanes) as u32,
            };
            let blocks = (rows.div_ceil(block_rows) as u32, 1, 1);
            let info = [rows as u64, d as u64, u64::from((self.shape.eps as f32).to_bits())];
            let [first, second] = which.map(|w| &self.norms[w]);
            let a = Packed::empty(x, rows, d);
            if both {
                let b = Packed::empty(x, rows, d);
                let tensors = [x, &first[0], &first[1], &second[0], &second[1], &a.tensor, &b.tensor];
                source.launch(&x.client, blocks, &tensors, &info);
                (a, b)
            } else {
                source.launch(&x.client, blocks, &[x, &first[0], &first[1], &a.tensor], &info);
                (a.clone(), a)
            }
        }

        fn attention(&self, qkv: &CubeTensor, rows: usize, d_model: usize) -> Packed {
            let BlockShape { batch, context, n_heads, rotary_dims, .. } = self.shape;
            let out = Packed::empty(qkv, rows, d_model);
            let warps = 4;
            let source = CudaSource {
                entry: "attention",
                text: include_str!("attention.cu"),
                defines: vec![("D_HEAD", (d_model / n_heads).to_string()), ("ROT", rotary_dims.to_string())],
                threads: 32 * warps as u32,
            };
            let blocks = (context.div_ceil(16 * warps) as u32, n_heads as u32, batch as u32);
            let chunks = out.columns / 8;
            debug_assert_eq!(out.tensor.meta.shape().dims::<4>()[2], TILE);
            let info = [context as u64, n_heads as u64, chunks as u64, batch as u64];
            source.launch(&qkv.client, blocks, &[qkv, &self.tables[0], &self.tables[1], &out.tensor], &info);
            out
        }
    }
}
