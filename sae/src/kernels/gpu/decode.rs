//! The k-sparse product with the decoder, and its gradient with respect to the values: a cube a token.

use cubecl::prelude::*;

use super::reduce::{cube_sum, sum_of};

/// out[t] = Σ_j values[t, j]·w_dec[indices[t, j]]; each unit owns some columns, the sum runs in the order of j.
#[cube(launch_unchecked)]
pub(super) fn decode<F: Float, N: Size>(
    values: &[f32],
    indices: &[i32],
    w_dec: &[Vector<F, N>],
    out: &mut [Vector<f32, N>],
    k: usize,
    columns: usize,
    tokens: usize,
) {
    let token = CUBE_POS;
    if token < tokens {
        let mut c = UNIT_POS as usize;
        while c < columns {
            out[token * columns + c] = decode_at(values, indices, w_dec, token, c, k, columns);
            c += CUBE_DIM as usize;
        }
    }
}

/// out[t] = decode[t] + b_dec − x[t], and squares[t] = ‖out[t]‖².
#[cube(launch_unchecked)]
pub(super) fn residual<F: Float, N: Size>(
    values: &[f32],
    indices: &[i32],
    w_dec: &[Vector<F, N>],
    b_dec: &[Vector<f32, N>],
    x: &[Vector<f32, N>],
    out: &mut [Vector<f32, N>],
    squares: &mut [f32],
    k: usize,
    columns: usize,
    tokens: usize,
) {
    let mut scratch = Shared::<[f32]>::new_slice(64usize);
    let token = CUBE_POS;
    if token < tokens {
        let mut square = 0.0f32;
        let mut c = UNIT_POS as usize;
        while c < columns {
            let at = token * columns + c;
            let r = decode_at(values, indices, w_dec, token, c, k, columns) + b_dec[c] - x[at];
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

#[cube]
fn decode_at<F: Float, N: Size>(
    values: &[f32],
    indices: &[i32],
    w_dec: &[Vector<F, N>],
    token: usize,
    c: usize,
    k: usize,
    columns: usize,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for j in 0..k {
        let value = values[token * k + j];
        if value != 0.0f32 {
            let row = usize::cast_from(indices[token * k + j]);
            sum += Vector::new(value) * Vector::cast_from(w_dec[row * columns + c]);
        }
    }
    sum
}

/// out[t, j] = grad[t]·w_dec[indices[t, j]] where values[t, j] ≠ 0, else 0: a plane takes one j at a time.
#[cube(launch_unchecked)]
pub(super) fn value_gradients<F: Float, N: Size>(
    grad: &[Vector<f32, N>],
    values: &[f32],
    indices: &[i32],
    w_dec: &[Vector<F, N>],
    out: &mut [f32],
    k: usize,
    columns: usize,
    tokens: usize,
) {
    let token = CUBE_POS;
    if token < tokens {
        let planes = (CUBE_DIM / PLANE_DIM) as usize;
        let mut j = PLANE_POS as usize;
        while j < k {
            let mut total = 0.0f32;
            if values[token * k + j] != 0.0f32 {
                let row = usize::cast_from(indices[token * k + j]);
                let mut sums = Vector::<f32, N>::new(0.0f32);
                let mut c = UNIT_POS_PLANE as usize;
                while c < columns {
                    sums += grad[token * columns + c] * Vector::cast_from(w_dec[row * columns + c]);
                    c += PLANE_DIM as usize;
                }
                total = plane_sum(sum_of(sums));
            }
            if UNIT_POS_PLANE == 0 {
                out[token * k + j] = total;
            }
            j += planes;
        }
    }
}
