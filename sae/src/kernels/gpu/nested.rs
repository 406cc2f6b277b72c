//! Codes decoded at several nested widths in one pass, and numbers beside the entries of a code.

use assay_kernels::tensor::{contiguous, cubes, cubes_for, dims2, empty, len, slice, width_of};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::code::{Code, row_start, token_of};
use super::reduce::{cube_sum, sum_of};
use super::{UNITS, plane_size, units_for};

/// See [`crate::kernels::nested_residuals`].
pub(super) fn residuals(
    code: &Code,
    ends: CubeTensor,
    w_dec: CubeTensor,
    b_dec: CubeTensor,
    x: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let (ends, w_dec, b_dec, x) = (contiguous(ends), contiguous(w_dec), contiguous(b_dec), contiguous(x));
    let ([tokens, d], levels) = (dims2(&x), len(&ends));
    let width = width_of(d);
    let out = empty(&x, [levels * tokens, d], DType::F32);
    let squares = empty(&x, [levels * tokens], DType::F32);
    let units = units_for(d / width);
    // SAFETY: the kernel checks its token and column; indices are below d_sae, and rows within the entries, by construction.
    #[allow(unsafe_code)]
    unsafe {
        launch_for!(w_dec, nested_residuals)(
            &out.client,
            cubes(tokens),
            CubeDim::new_1d(units),
            width,
            slice(&code.values, 1),
            slice(&code.indices, 1),
            slice(code.starts(), 1),
            slice(&ends, 1),
            slice(&w_dec, width),
            slice(&b_dec, width),
            slice(&x, width),
            slice(&out, width),
            slice(&squares, 1),
            code.k,
            d / width,
            tokens,
            levels,
            (d / width).div_ceil(units as usize),
            code.ragged(),
        );
    }
    (out, squares)
}

/// See [`crate::kernels::nested_gradients`].
pub(super) fn gradients(residuals: CubeTensor, output_grad: CubeTensor, factor: CubeTensor) -> CubeTensor {
    let (residuals, output_grad, factor) = (contiguous(residuals), contiguous(output_grad), contiguous(factor));
    let (size, [rows, d]) = (len(&output_grad), dims2(&residuals));
    let out = empty(&residuals, [rows, d], DType::F32);
    let width = width_of(d);
    // SAFETY: the kernel checks its position.
    #[allow(unsafe_code)]
    unsafe {
        nested_gradients::launch_unchecked(
            &out.client,
            cubes_for(size / width, UNITS),
            CubeDim::new_1d(UNITS as u32),
            width,
            slice(&residuals, width),
            slice(&output_grad, width),
            slice(&factor, 1),
            slice(&out, width),
            size / width,
            rows * d / size,
        );
    }
    out
}

/// See [`crate::kernels::latent_sums`].
pub(super) fn sums(code: &Code, first: CubeTensor, second: CubeTensor, n: usize) -> (CubeTensor, CubeTensor) {
    let (first, second) = (contiguous(first), contiguous(second));
    let marks = code.marks(n);
    let out = [0; 2].map(|_| empty(&first, [n], DType::F32));
    let planes = UNITS / plane_size(&first);
    // SAFETY: the kernel checks its latent; marks name tokens that have it.
    #[allow(unsafe_code)]
    unsafe {
        latent_sums::launch_unchecked(
            &first.client,
            cubes_for(n, planes),
            CubeDim::new_1d(UNITS as u32),
            slice(&marks.bits, 1),
            slice(&marks.counts, 1),
            slice(&code.indices, 1),
            slice(code.starts(), 1),
            slice(&first, 1),
            slice(&second, 1),
            slice(&out[0], 1),
            slice(&out[1], 1),
            code.k,
            code.tokens.div_ceil(32),
            n,
            code.ragged(),
        );
    }
    out.into()
}

/// See [`crate::kernels::spread`].
pub(super) fn spread(code: &Code, numbers: CubeTensor) -> CubeTensor {
    let numbers = contiguous(numbers);
    let entries = len(&code.values);
    let out = empty(&numbers, [entries], DType::F32);
    // SAFETY: the kernel checks its position.
    #[allow(unsafe_code)]
    unsafe {
        spread_numbers::launch_unchecked(
            &out.client,
            cubes_for(entries, UNITS),
            CubeDim::new_1d(UNITS as u32),
            slice(&numbers, 1),
            slice(code.starts(), 1),
            slice(&out, 1),
            code.k,
            code.tokens,
            entries,
            code.ragged(),
        );
    }
    out
}

/// out[l·tokens + t] = Σ of the entries of t below ends[l] + b_dec − x[t], and its squares; a cube a token, each unit owns some columns.
#[cube(launch_unchecked)]
fn nested_residuals<F: Float, N: Size>(
    values: &[f32],
    indices: &[i32],
    starts: &[i32],
    ends: &[i32],
    w_dec: &[Vector<F, N>],
    b_dec: &[Vector<f32, N>],
    x: &[Vector<f32, N>],
    out: &mut [Vector<f32, N>],
    squares: &mut [f32],
    k: usize,
    columns: usize,
    tokens: usize,
    levels: usize,
    #[comptime] per_unit: usize,
    #[comptime] ragged: bool,
) {
    let mut scratch = Shared::<[f32]>::new_slice(64usize);
    let token = CUBE_POS;
    if token < tokens {
        let mut at = row_start(starts, token, k, ragged);
        let to = row_start(starts, token + 1, k, ragged);
        let mut sums = Array::<Vector<f32, N>>::new(per_unit);
        #[unroll]
        for i in 0..per_unit {
            sums[i] = Vector::new(0.0f32);
        }
        for level in 0..levels {
            let end = ends[level];
            let mut inside = at < to;
            while inside {
                let latent = indices[at];
                inside = latent < end;
                if inside {
                    let value = values[at];
                    let row = usize::cast_from(latent) * columns;
                    #[unroll]
                    for i in 0..per_unit {
                        let c = i * CUBE_DIM as usize + UNIT_POS as usize;
                        if c < columns {
                            sums[i] += Vector::new(value) * Vector::cast_from(w_dec[row + c]);
                        }
                    }
                    at += 1usize;
                    inside = at < to;
                }
            }
            let mut square = 0.0f32;
            #[unroll]
            for i in 0..per_unit {
                let c = i * CUBE_DIM as usize + UNIT_POS as usize;
                if c < columns {
                    let r = sums[i] + b_dec[c] - x[token * columns + c];
                    out[(level * tokens + token) * columns + c] = r;
                    square += sum_of(r * r);
                }
            }
            let total = cube_sum(square, &mut scratch);
            if UNIT_POS == 0 {
                squares[level * tokens + token] = total;
            }
        }
    }
}

/// out[l] = output_grad + factor·Σ_{l ≤ i < last} residuals[i].
#[cube(launch_unchecked)]
fn nested_gradients<N: Size>(
    residuals: &[Vector<f32, N>],
    output_grad: &[Vector<f32, N>],
    factor: &[f32],
    out: &mut [Vector<f32, N>],
    size: usize,
    levels: usize,
) {
    if ABSOLUTE_POS < size {
        let last = output_grad[ABSOLUTE_POS];
        let by = Vector::new(factor[0]);
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let mut level = levels - 1;
        out[level * size + ABSOLUTE_POS] = last;
        while level > 0 {
            level -= 1usize;
            sum += residuals[level * size + ABSOLUTE_POS];
            out[level * size + ABSOLUTE_POS] = last + by * sum;
        }
    }
}

/// Sums over each latent's entries: a plane a latent, each unit a part of its tokens, which are added up in a fixed order.
#[cube(launch_unchecked)]
fn latent_sums(
    marks: &[u32],
    counts: &[i32],
    indices: &[i32],
    starts: &[i32],
    first: &[f32],
    second: &[f32],
    first_out: &mut [f32],
    second_out: &mut [f32],
    k: usize,
    words: usize,
    latents: usize,
    #[comptime] ragged: bool,
) {
    let latent = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if latent < latents {
        let mut a = 0.0f32;
        let mut b = 0.0f32;
        if counts[latent] > 0 {
            let mut at = UNIT_POS_PLANE as usize;
            while at < words {
                let mut word = marks[latent * words + at];
                while word != 0u32 {
                    let token = at * 32usize + word.trailing_zeros() as usize;
                    word = word & (word - 1u32);
                    // The latent's place among the token's indices, which ascend.
                    let mut low = row_start(starts, token, k, ragged);
                    let mut high = row_start(starts, token + 1, k, ragged) - 1;
                    while low < high {
                        let middle = (low + high) / 2;
                        if usize::cast_from(indices[middle]) < latent {
                            low = middle + 1;
                        } else {
                            high = middle;
                        }
                    }
                    a += first[low];
                    b += second[low];
                }
                at += PLANE_DIM as usize;
            }
        }
        let a = plane_sum(a);
        let b = plane_sum(b);
        if UNIT_POS_PLANE == 0 {
            first_out[latent] = a;
            second_out[latent] = b;
        }
    }
}

/// out[e] = numbers[token of e].
#[cube(launch_unchecked)]
fn spread_numbers(
    numbers: &[f32],
    starts: &[i32],
    out: &mut [f32],
    k: usize,
    tokens: usize,
    len: usize,
    #[comptime] ragged: bool,
) {
    if ABSOLUTE_POS < len {
        out[ABSOLUTE_POS] = numbers[token_of(starts, ABSOLUTE_POS, k, tokens, ragged)];
    }
}
