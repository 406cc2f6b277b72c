//! Sums of tensors and rows, and what is made of them, as the kernels of `reduce.rs` are launched.

use assay_kernels::tensor::{contiguous, cubes, cubes_for, dims2, empty, len, reshaped, slice, width_of};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::reduce::{clip_factor, row_norms, scale_rows, sum_parts, sum_rows};
use super::{UNITS, plane_size, units_for};
use crate::kernels::VectorOf;

/// See [`crate::kernels::row_norms`].
pub(super) fn norms_of_rows(x: CubeTensor) -> CubeTensor {
    let x = contiguous(x);
    let [n, d] = dims2(&x);
    let width = width_of(d);
    let norms = empty(&x, [n], DType::F32);
    let rows = UNITS / plane_size(&x);
    // SAFETY: the kernel checks its row and columns.
    #[allow(unsafe_code)]
    unsafe {
        row_norms::launch_unchecked(
            &x.client,
            cubes_for(n, rows),
            CubeDim::new_1d(UNITS as u32),
            width,
            slice(&x, width),
            slice(&norms, 1),
            d / width,
            n,
        );
    }
    norms
}

/// See [`crate::kernels::scale_rows`].
pub(super) fn scaled_rows(x: CubeTensor, factors: CubeTensor) -> CubeTensor {
    let (x, factors) = (contiguous(x), contiguous(factors));
    let [n, d] = dims2(&x);
    let out = empty(&x, [n, d], DType::F32);
    // SAFETY: the kernel checks its position.
    #[allow(unsafe_code)]
    unsafe {
        scale_rows::launch_unchecked(
            &x.client,
            cubes_for(n * d, UNITS),
            CubeDim::new_1d(UNITS as u32),
            slice(&x, 1),
            slice(&factors, 1),
            slice(&out, 1),
            d,
            n * d,
        );
    }
    out
}

/// See [`crate::kernels::clip_factor`].
pub(super) fn factor_of_clipping(
    squares: CubeTensor,
    extra: CubeTensor,
    vectors: VectorOf<CubeBackend>,
    limit: f64,
) -> CubeTensor {
    let (squares, extra) = (contiguous(squares), contiguous(extra));
    let vectors = match vectors {
        VectorOf::None => None,
        VectorOf::Latents(vectors) => Some(contiguous(vectors)),
    };
    let out = empty(&squares, [1], DType::F32);
    // SAFETY: the kernel checks its positions.
    #[allow(unsafe_code)]
    unsafe {
        clip_factor::launch_unchecked(
            &out.client,
            cubes(1),
            CubeDim::new_1d(1024),
            slice(&squares, 1),
            slice(&extra, 1),
            slice(vectors.as_ref().unwrap_or(&extra), 1),
            slice(&out, 1),
            limit as f32,
            len(&squares),
            len(&extra),
            vectors.as_ref().map_or(0, len),
        );
    }
    out
}

/// Σ weights[i]·rows[i], or Σ rows[i], in steps that each sum up to 32 rows: enough cubes to fill the device, few rows for each.
pub(super) fn summed_rows(weights: Option<CubeTensor>, rows: CubeTensor) -> CubeTensor {
    const EACH: usize = 32;
    let [n, d] = dims2(&rows);
    let width = width_of(d);
    let (mut weights, mut rows, mut left) = (weights, rows, n);
    loop {
        let parts = left.div_ceil(EACH);
        let out = empty(&rows, [parts, d], DType::F32);
        // SAFETY: the kernel checks its rows and columns.
        #[allow(unsafe_code)]
        unsafe {
            sum_rows::launch_unchecked(
                &rows.client,
                cubes(parts),
                CubeDim::new_1d(units_for(d / width)),
                width,
                slice(weights.as_ref().unwrap_or(&rows), 1),
                slice(&rows, width),
                slice(&out, width),
                d / width,
                left,
                EACH,
                weights.is_some(),
            );
        }
        if parts <= 1 {
            return reshaped(out, Shape::from([d]));
        }
        (weights, rows, left) = (None, out, parts);
    }
}

/// The sum of a contiguous tensor, or of its squares, in two steps of fixed order.
pub(super) fn sum(x: &CubeTensor, squared: bool) -> CubeTensor {
    let n = len(x);
    let parts = empty(x, [n.div_ceil(UNITS * 8).clamp(1, 512)], DType::F32);
    let out = empty(x, [1], DType::F32);
    for (from, to, squared) in [(x, &parts, squared), (&parts, &out, false)] {
        // SAFETY: the kernel checks its position.
        #[allow(unsafe_code)]
        unsafe {
            sum_parts::launch_unchecked(
                &x.client,
                cubes(len(to)),
                CubeDim::new_1d(UNITS as u32),
                slice(from, 1),
                slice(to, 1),
                len(from),
                squared,
            );
        }
    }
    out
}
