//! The decoder's operations on a GPU: the pinned f32 product, and on Hopper whole blocks in bf16.

#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
mod block;
#[cfg(feature = "cuda")]
mod norms;
#[cfg(feature = "cuda")]
mod said;

use assay_kernels::product::f32_product;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::NeoxOps;
#[cfg(feature = "cuda")]
use super::block::{BlockOf, BlockShape, TablesOf};

#[cfg(feature = "cuda")]
pub(super) use block::refusal;

impl NeoxOps for CubeBackend {
    fn neox_product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        f32_product(lhs, rhs)
    }

    #[cfg(feature = "cuda")]
    fn neox_pack(weight: CubeTensor) -> CubeTensor {
        block::pack(weight)
    }

    #[cfg(feature = "cuda")]
    fn neox_block(x: CubeTensor, weights: BlockOf<Self>, tables: TablesOf<Self>, shape: BlockShape) -> CubeTensor {
        block::run(x, &weights, tables, &shape)
    }
}
