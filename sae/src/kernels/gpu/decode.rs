//! The sparse product with the decoder, and its gradient with respect to the values: a cube a token.

use assay_kernels::tensor::{contiguous, cubes, dims2, empty, len, slice, width_of};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::code::{Code, Levels, first_row, row_start};
use super::reduce::{cube_sum, sum_of};
use super::{UNITS, units_for};

/// See [`crate::kernels::decode`].
pub(super) fn decoded(code: &Code, w_dec: CubeTensor) -> CubeTensor {
    let w_dec = contiguous(w_dec);
    let (tokens, [_, d]) = (code.tokens, dims2(&w_dec));
    let width = width_of(d);
    let out = empty(&w_dec, [tokens, d], DType::F32);
    // SAFETY: the kernel checks its token and column; indices are below d_sae, and rows within the entries, by construction.
    #[allow(unsafe_code)]
    unsafe {
        launch_for!(w_dec, decode)(
            &out.client,
            cubes(tokens),
            CubeDim::new_1d(units_for(d / width)),
            width,
            slice(&code.values, 1),
            slice(&code.indices, 1),
            slice(code.starts(), 1),
            slice(&w_dec, width),
            slice(&out, width),
            code.k,
            d / width,
            tokens,
            code.ragged(),
        );
    }
    out
}

/// See [`crate::kernels::residual`]; a sum of squares for each token.
pub(super) fn residual_and_squares(
    code: &Code,
    w_dec: CubeTensor,
    b_dec: CubeTensor,
    x: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let (w_dec, b_dec, x) = (contiguous(w_dec), contiguous(b_dec), contiguous(x));
    let (tokens, [_, d]) = (code.tokens, dims2(&w_dec));
    let width = width_of(d);
    let out = empty(&w_dec, [tokens, d], DType::F32);
    let squares = empty(&w_dec, [tokens], DType::F32);
    // SAFETY: as in `decoded`.
    #[allow(unsafe_code)]
    unsafe {
        launch_for!(w_dec, residual)(
            &out.client,
            cubes(tokens),
            CubeDim::new_1d(units_for(d / width)),
            width,
            slice(&code.values, 1),
            slice(&code.indices, 1),
            slice(code.starts(), 1),
            slice(&w_dec, width),
            slice(&b_dec, width),
            slice(&x, width),
            slice(&out, width),
            slice(&squares, 1),
            code.k,
            d / width,
            tokens,
            code.ragged(),
        );
    }
    (out, squares)
}

/// See [`crate::kernels::value_gradients`].
pub(super) fn gradients_of_values(grad: CubeTensor, code: &Code, w_dec: CubeTensor, levels: &Levels) -> CubeTensor {
    let (grad, w_dec) = (contiguous(grad), contiguous(w_dec));
    let (tokens, [_, d]) = (code.tokens, dims2(&w_dec));
    let width = width_of(d);
    let out = empty(&w_dec, [len(&code.values)], DType::F32);
    // SAFETY: as in `decoded`.
    #[allow(unsafe_code)]
    unsafe {
        launch_for!(w_dec, value_gradients)(
            &out.client,
            cubes(tokens),
            CubeDim::new_1d(UNITS as u32),
            width,
            slice(&grad, width),
            slice(&code.values, 1),
            slice(&code.indices, 1),
            slice(code.starts(), 1),
            slice(levels.ends(code), 1),
            slice(&w_dec, width),
            slice(&out, 1),
            code.k,
            d / width,
            tokens,
            code.ragged(),
            levels.nested(),
        );
    }
    out
}

/// out[t] = Σ_j values[t, j]·w_dec[indices[t, j]]; each unit owns some columns, the sum runs in the order of j.
#[cube(launch_unchecked)]
fn decode<F: Float, N: Size>(
    values: &[f32],
    indices: &[i32],
    starts: &[i32],
    w_dec: &[Vector<F, N>],
    out: &mut [Vector<f32, N>],
    k: usize,
    columns: usize,
    tokens: usize,
    #[comptime] ragged: bool,
) {
    let token = CUBE_POS;
    if token < tokens {
        let from = row_start(starts, token, k, ragged);
        let to = row_start(starts, token + 1, k, ragged);
        let mut c = UNIT_POS as usize;
        while c < columns {
            out[token * columns + c] = decode_at(values, indices, w_dec, from, to, c, columns);
            c += CUBE_DIM as usize;
        }
    }
}

/// out[t] = decode[t] + b_dec − x[t], and squares[t] = ‖out[t]‖².
#[cube(launch_unchecked)]
fn residual<F: Float, N: Size>(
    values: &[f32],
    indices: &[i32],
    starts: &[i32],
    w_dec: &[Vector<F, N>],
    b_dec: &[Vector<f32, N>],
    x: &[Vector<f32, N>],
    out: &mut [Vector<f32, N>],
    squares: &mut [f32],
    k: usize,
    columns: usize,
    tokens: usize,
    #[comptime] ragged: bool,
) {
    let mut scratch = Shared::<[f32]>::new_slice(64usize);
    let token = CUBE_POS;
    if token < tokens {
        let from = row_start(starts, token, k, ragged);
        let to = row_start(starts, token + 1, k, ragged);
        let mut square = 0.0f32;
        let mut c = UNIT_POS as usize;
        while c < columns {
            let at = token * columns + c;
            let r = decode_at(values, indices, w_dec, from, to, c, columns) + b_dec[c] - x[at];
            out[at] = r;
            square += sum_of(r * r);
            c += CUBE_DIM as usize;
        }
        let total = cube_sum(square, &mut scratch);
        if UNIT_POS == 0 {
            squares[token] = total;
        }
    }
}

/// Column c of the sum over the entries `from..to`.
#[cube]
fn decode_at<F: Float, N: Size>(
    values: &[f32],
    indices: &[i32],
    w_dec: &[Vector<F, N>],
    from: usize,
    to: usize,
    c: usize,
    columns: usize,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for at in from..to {
        let value = values[at];
        if value != 0.0f32 {
            let row = usize::cast_from(indices[at]);
            sum += Vector::new(value) * Vector::cast_from(w_dec[row * columns + c]);
        }
    }
    sum
}

/// out[t, j] = grad[t]·w_dec[indices[t, j]] where values[t, j] ≠ 0, else 0: a plane takes one j at a time. With levels the gradient is
/// that of the latent's.
#[cube(launch_unchecked)]
fn value_gradients<F: Float, N: Size>(
    grad: &[Vector<f32, N>],
    values: &[f32],
    indices: &[i32],
    starts: &[i32],
    ends: &[i32],
    w_dec: &[Vector<F, N>],
    out: &mut [f32],
    k: usize,
    columns: usize,
    tokens: usize,
    #[comptime] ragged: bool,
    #[comptime] nested: bool,
) {
    let token = CUBE_POS;
    if token < tokens {
        let planes = (CUBE_DIM / PLANE_DIM) as usize;
        let to = row_start(starts, token + 1, k, ragged);
        let mut at = row_start(starts, token, k, ragged) + PLANE_POS as usize;
        while at < to {
            let mut total = 0.0f32;
            if values[at] != 0.0f32 {
                let row = usize::cast_from(indices[at]);
                let of_latent = first_row(ends, indices[at], tokens, nested) + token;
                let mut sums = Vector::<f32, N>::new(0.0f32);
                let mut c = UNIT_POS_PLANE as usize;
                while c < columns {
                    sums += grad[of_latent * columns + c] * Vector::cast_from(w_dec[row * columns + c]);
                    c += PLANE_DIM as usize;
                }
                total = plane_sum(sum_of(sums));
            }
            if UNIT_POS_PLANE == 0 {
                out[at] = total;
            }
            at += planes;
        }
    }
}
