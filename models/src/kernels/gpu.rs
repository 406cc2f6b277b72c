//! The decoder's operations on a GPU: the pinned f32 product, and on Hopper whole blocks in bf16.

#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
mod block;
#[cfg(feature = "cuda")]
mod norms;
#[cfg(feature = "cuda")]
mod said;
#[cfg(feature = "cuda")]
mod wide;

use assay_kernels::product::f32_product;
#[cfg(feature = "cuda")]
use burn::backend::ops::ActivationOps;
#[cfg(feature = "cuda")]
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::NeoxOps;
#[cfg(feature = "cuda")]
use super::block::{BlockOf, BlockShape, TablesOf};

#[cfg(feature = "cuda")]
pub(super) use block::refusal;

impl NeoxOps for CubeBackend {
    #[cfg(feature = "cuda")]
    fn gelu_exact(x: CubeTensor) -> CubeTensor {
        let is_cuda = x.client.properties().identity.fingerprint.starts_with(assay_kernels::source::CUDA);
        if is_cuda && x.dtype == DType::F32 { wide::gelu(x) } else { Self::gelu(x) }
    }

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
