//! Sums in a fixed order: of a vector's elements, of a cube's units, of a tensor, of rows.
//!
//! Sizes are passed to kernels as numbers: a slice's own length is that of its buffer, which is rounded up.

use cubecl::prelude::*;

/// The smaller of two sizes.
#[cube]
pub(super) fn smaller(a: usize, b: usize) -> usize {
    select(a < b, a, b)
}

/// The sum of a vector's elements.
#[cube]
pub(super) fn sum_of<N: Size>(x: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..N::value() {
        sum += x.extract(i);
    }
    sum
}

/// The sum over all units of the cube, for every unit; every unit must come here. `scratch` has room for a float a plane.
#[cube]
pub(super) fn cube_sum(x: f32, scratch: &mut Shared<[f32]>) -> f32 {
    let of_plane = plane_sum(x);
    sync_cube();
    if UNIT_POS_PLANE == 0 {
        scratch[PLANE_POS as usize] = of_plane;
    }
    sync_cube();
    let mut total = 0.0f32;
    for p in 0..(CUBE_DIM / PLANE_DIM) as usize {
        total += scratch[p];
    }
    total
}

/// Two of [`cube_sum`] at the price of one; `scratch` has room for two floats a plane.
#[cube]
pub(super) fn cube_sum2(x: f32, y: f32, scratch: &mut Shared<[f32]>) -> Vector<f32, Const<2>> {
    let of_plane_x = plane_sum(x);
    let of_plane_y = plane_sum(y);
    sync_cube();
    if UNIT_POS_PLANE == 0 {
        scratch[PLANE_POS as usize * 2] = of_plane_x;
        scratch[PLANE_POS as usize * 2 + 1] = of_plane_y;
    }
    sync_cube();
    let mut total_x = 0.0f32;
    let mut total_y = 0.0f32;
    for p in 0..(CUBE_DIM / PLANE_DIM) as usize {
        total_x += scratch[p * 2];
        total_y += scratch[p * 2 + 1];
    }
    let mut out = Vector::<f32, Const<2>>::empty();
    out.insert(0usize, total_x);
    out.insert(1usize, total_y);
    out
}

/// Of each cube's share of `x`, the sum of x², or of x where not `squared`.
#[cube(launch_unchecked)]
pub(super) fn sum_parts(x: &[f32], parts: &mut [f32], len: usize, #[comptime] squared: bool) {
    let mut scratch = Shared::<[f32]>::new_slice(64usize);
    let mut sum = 0.0f32;
    let mut at = ABSOLUTE_POS;
    while at < len {
        let v = x[at];
        if comptime!(squared) {
            sum += v * v;
        } else {
            sum += v;
        }
        at += CUBE_COUNT * CUBE_DIM as usize;
    }
    let total = cube_sum(sum, &mut scratch);
    if UNIT_POS == 0 {
        parts[CUBE_POS] = total;
    }
}

/// min(1, limit/(‖g‖ + 1e-6)) from the sums of squares of some gradients, `[len]`, and others themselves, `[extra_len]` and `[vectors_len]`:
/// one cube.
#[cube(launch_unchecked)]
pub(super) fn clip_factor(
    squares: &[f32],
    extra: &[f32],
    vectors: &[f32],
    out: &mut [f32],
    limit: f32,
    len: usize,
    extra_len: usize,
    vectors_len: usize,
) {
    let mut scratch = Shared::<[f32]>::new_slice(64usize);
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < len {
        sum += squares[at];
        at += CUBE_DIM as usize;
    }
    let mut at = UNIT_POS as usize;
    while at < extra_len {
        sum += extra[at] * extra[at];
        at += CUBE_DIM as usize;
    }
    let mut at = UNIT_POS as usize;
    while at < vectors_len {
        sum += vectors[at] * vectors[at];
        at += CUBE_DIM as usize;
    }
    let norm = cube_sum(sum, &mut scratch).sqrt();
    if UNIT_POS == 0 {
        let factor = limit / (norm + 1e-6f32);
        out[0] = select(factor < 1.0f32, factor, select(factor >= 1.0f32, 1.0f32, factor));
    }
}

/// Euclidean norm of each row: a plane a row.
#[cube(launch_unchecked)]
pub(super) fn row_norms<N: Size>(x: &[Vector<f32, N>], norms: &mut [f32], columns: usize, rows: usize) {
    let row = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if row < rows {
        let mut sums = Vector::<f32, N>::new(0.0f32);
        let mut c = UNIT_POS_PLANE as usize;
        while c < columns {
            let v = x[row * columns + c];
            sums += v * v;
            c += PLANE_DIM as usize;
        }
        let total = plane_sum(sum_of(sums));
        if UNIT_POS_PLANE == 0 {
            norms[row] = total.sqrt();
        }
    }
}

/// out[r] = x[r]·factors[r].
#[cube(launch_unchecked)]
pub(super) fn scale_rows(x: &[f32], factors: &[f32], out: &mut [f32], columns: usize, len: usize) {
    if ABSOLUTE_POS < len {
        out[ABSOLUTE_POS] = x[ABSOLUTE_POS] * factors[ABSOLUTE_POS / columns];
    }
}

/// Of each cube's `each` rows, Σ weights[i]·rows[i], or Σ rows[i] where not `weighted`, in the order of i.
#[cube(launch_unchecked)]
pub(super) fn sum_rows<N: Size>(
    weights: &[f32],
    rows: &[Vector<f32, N>],
    out: &mut [Vector<f32, N>],
    columns: usize,
    count: usize,
    each: usize,
    #[comptime] weighted: bool,
) {
    let start = CUBE_POS * each;
    if start < count {
        let end = smaller(start + each, count);
        let mut c = UNIT_POS as usize;
        while c < columns {
            let mut sum = Vector::<f32, N>::new(0.0f32);
            for i in start..end {
                if comptime!(weighted) {
                    sum += Vector::new(weights[i]) * rows[i * columns + c];
                } else {
                    sum += rows[i * columns + c];
                }
            }
            out[CUBE_POS * columns + c] = sum;
            c += CUBE_DIM as usize;
        }
    }
}
