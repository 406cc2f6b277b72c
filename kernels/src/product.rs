//! The f32 product. Left to itself, CubeCL's choice for f32 on a card with tensor cores is TF32, with ten bits of mantissa; and its
//! tuner may choose differently in every process. Here the kernel is pinned: on Hopper six bf16 products of three-part numbers,
//! which keep 24 bits of each factor and add up in f32; elsewhere a kernel that multiplies and adds in f32.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::{ElemType, FloatKind};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

use crate::tensor::empty;
#[cfg(feature = "cuda")]
use {crate::tensor::contiguous, burn::backend::ops::FloatTensorOps, burn_cubecl::CubeBackend};

/// `a · bᵀ` on Hopper's tensor cores: `a` `[m, k]`, `b` `[n, k]`, contiguous.
#[cfg(feature = "cuda")]
fn on_tensor_cores(a: &CubeTensor, b: &CubeTensor, [m, n, k]: [usize; 3]) -> CubeTensor {
    use crate::{gemm, packed::Packed};
    gemm::plain(&Packed::split(a, m, k, true), &Packed::split(b, n, k, false))
}

/// `lhs · rhs` over the last two dimensions; strides are free, so that a transposed view costs nothing.
///
/// # Shapes
/// - `lhs`: `[.., m, k]`; `rhs`: `[.., k, n]`, leading dimensions equal or 1
pub fn f32_product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
    assert_eq!((lhs.dtype, rhs.dtype), (DType::F32, DType::F32), "a product in f32");
    let (left, right) = (lhs.meta.shape().to_vec(), rhs.meta.shape().to_vec());
    let rank = left.len();
    let mut shape: Vec<usize> = left.iter().zip(&right).map(|(&a, &b)| a.max(b)).collect();
    shape[rank - 2] = left[rank - 2];
    shape[rank - 1] = right[rank - 1];
    #[cfg(feature = "cuda")]
    if right[..rank - 2].iter().all(|&d| d == 1) {
        let (k, n) = (right[rank - 2], right[rank - 1]);
        let m = left.iter().product::<usize>() / k;
        if k.is_multiple_of(16) && n.is_multiple_of(8) && crate::source::is_hopper(&lhs.client) {
            let b = contiguous(CubeBackend::float_swap_dims(rhs, rank - 2, rank - 1));
            let out = on_tensor_cores(&contiguous(lhs), &b, [m, n, k]);
            return CubeTensor::new_contiguous(out.client, out.device, Shape::from(shape), out.handle, DType::F32);
        }
    }
    let mut out = empty(&lhs, [shape.iter().product::<usize>()], DType::F32);
    out = CubeTensor::new_contiguous(out.client, out.device, Shape::from(shape), out.handle, DType::F32);
    let float = ElemType::Float(FloatKind::F32);
    let strategy = Strategy::MultiLevel(multi_level::Strategy::DoubleUnit(Default::default()));
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems { lhs: float, rhs: float, out: float });
    let client = out.client.clone();
    launch_ref(
        &strategy,
        &client,
        InputBinding::new(lhs.binding(), float),
        InputBinding::new(rhs.binding(), float),
        out.clone().binding(),
        &mut types,
    )
    .expect("the product of f32 matrices needs no special hardware");
    out
}
