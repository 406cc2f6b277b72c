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

use crate::tensor::{empty, in_f32, reshaped};
#[cfg(feature = "cuda")]
use {
    crate::gemm,
    crate::packed::{Packed, Side},
    crate::tensor::contiguous,
    burn::backend::ops::FloatTensorOps,
    burn_cubecl::CubeBackend,
};

/// `lhs · rhs` over the last two dimensions. Strides are free; on Hopper the right side is read by columns, so there it is a transposed
/// view of a matrix that costs nothing, and any other a copy. A right side in bf16 or f16, as weights may be, is widened for the
/// product; on Hopper one in bf16 takes three bf16 products instead of six.
///
/// # Shapes
/// - `lhs`: `[.., m, k]`; `rhs`: `[.., k, n]`, leading dimensions equal or 1
pub fn f32_product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
    assert_eq!(lhs.dtype, DType::F32, "a product in f32");
    let (left, right) = (lhs.meta.shape().to_vec(), rhs.meta.shape().to_vec());
    let rank = left.len();
    let mut shape: Vec<usize> = left.iter().zip(&right).map(|(&a, &b)| a.max(b)).collect();
    shape[rank - 2] = left[rank - 2];
    shape[rank - 1] = right[rank - 1];
    #[cfg(feature = "cuda")]
    if right[..rank - 2].iter().all(|&d| d == 1) {
        let (k, n) = (right[rank - 2], right[rank - 1]);
        let m = left.iter().product::<usize>() / k;
        if gemm::suits(&lhs.client, n, k) {
            let is_bf16 = rhs.dtype == DType::BF16;
            let transposed = contiguous(in_f32(CubeBackend::float_swap_dims(rhs, rank - 2, rank - 1)));
            let a = Packed::split(&contiguous(lhs), m, k, Side::Left, is_bf16);
            let b = Packed::split(&transposed, n, k, Side::Right, is_bf16);
            return reshaped(gemm::plain(&a, &b), Shape::from(shape));
        }
    }
    let rhs = in_f32(rhs);
    let out = reshaped(empty(&lhs, [shape.iter().product::<usize>()], DType::F32), Shape::from(shape));
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
