//! What the cubes of one latent do: sum the rows of its tokens in order, then project, square and count.

use cubecl::prelude::*;

use crate::kernels::gpu::code::{first_row, row_start};
use crate::kernels::gpu::reduce::{cube_sum, cube_sum2, sum_of};

/// Adds to the sums what one set of sparse activations contributes to a latent in the tokens of words `first..last`, of which at
/// most [`super::HOT`] may be marked; returns the sum of their value gradients.
#[cube]
pub(super) fn accumulate<F: Float, N: Size>(
    marks: &[u32],
    values: &[f32],
    value_grads: &[f32],
    indices: &[i32],
    starts: &[i32],
    ends: &[i32],
    input: &[Vector<F, N>],
    output_grad: &[Vector<F, N>],
    latent: usize,
    first: usize,
    last: usize,
    k: usize,
    words: usize,
    columns: usize,
    tokens: usize,
    enc: &mut Array<Vector<f32, N>>,
    dec: &mut Array<Vector<f32, N>>,
    list: &mut Shared<[u32]>,
    z: &mut Shared<[f32]>,
    dz: &mut Shared<[f32]>,
    of_planes: &mut Shared<[u32]>,
    #[comptime] per_unit: usize,
    #[comptime] ragged: bool,
    #[comptime] nested: bool,
) -> f32 {
    let units = CUBE_DIM as usize;
    let unit = UNIT_POS as usize;
    let planes = (CUBE_DIM / PLANE_DIM) as usize;
    let plane = PLANE_POS as usize;

    // The marked tokens in order: every unit takes a word and finds its place by the counts of those before.
    let mut len = 0u32;
    let mut start = first;
    while start < last {
        let at = start + unit;
        let mut word = 0u32;
        if at < last {
            word = marks[latent * words + at];
        }
        let count = word.count_ones();
        let before = plane_exclusive_sum(count);
        if UNIT_POS_PLANE == PLANE_DIM - 1 {
            of_planes[plane] = before + count;
        }
        sync_cube();
        let mut rank = len + before;
        for p in 0..planes {
            let in_plane = of_planes[p];
            if p < plane {
                rank += in_plane;
            }
            len += in_plane;
        }
        while word != 0u32 {
            list[rank as usize] = at as u32 * 32u32 + word.trailing_zeros();
            word = word & (word - 1u32);
            rank += 1u32;
        }
        sync_cube();
        start += units;
    }
    let len = len as usize;

    let mut e = unit;
    while e < len {
        // The latent's place among the token's indices, which ascend.
        let token = list[e] as usize;
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
        z[e] = values[low];
        dz[e] = value_grads[low];
        e += units;
    }
    sync_cube();

    let mut bias = 0.0f32;
    let of_latent = first_row(ends, i32::cast_from(latent), tokens, nested) * columns;
    for e in 0..len {
        let row = list[e] as usize * columns;
        let ze = z[e];
        let dze = dz[e];
        #[unroll]
        for i in 0..per_unit {
            let c = i * units + unit;
            if c < columns {
                enc[i] += Vector::new(dze) * Vector::cast_from(input[row + c]);
                dec[i] += Vector::new(ze) * Vector::cast_from(output_grad[of_latent + row + c]);
            }
        }
        bias += dze;
    }
    sync_cube();
    bias
}

/// Projects, writes and squares a latent's gradients, and brings its counters forward. `active`: its tokens in the main path.
#[cube]
pub(super) fn finish<N: Size>(
    enc: &Array<Vector<f32, N>>,
    dec: &Array<Vector<f32, N>>,
    bias: f32,
    active: i32,
    latent: usize,
    w_dec: &[Vector<f32, N>],
    g_enc: &mut [Vector<f32, N>],
    g_bias: &mut [f32],
    g_dec: &mut [Vector<f32, N>],
    squares: &mut [f32],
    since_fired: &mut [i32],
    fires: &mut [i32],
    columns: usize,
    batch: i32,
    scratch: &mut Shared<[f32]>,
    #[comptime] per_unit: usize,
    #[comptime] project: bool,
) {
    let units = CUBE_DIM as usize;
    let unit = UNIT_POS as usize;
    let mut share = 0.0f32;
    if comptime!(project) {
        let mut along = 0.0f32;
        let mut norm = 0.0f32;
        #[unroll]
        for i in 0..per_unit {
            let c = i * units + unit;
            if c < columns {
                let w = w_dec[latent * columns + c];
                along += sum_of(dec[i] * w);
                norm += sum_of(w * w);
            }
        }
        let both = cube_sum2(along, norm, scratch);
        share = both.extract(0usize) / max(both.extract(1usize), f32::MIN_POSITIVE);
    }
    let mut square = 0.0f32;
    #[unroll]
    for i in 0..per_unit {
        let c = i * units + unit;
        if c < columns {
            let at = latent * columns + c;
            let mut d = dec[i];
            if comptime!(project) {
                d -= Vector::new(share) * w_dec[at];
            }
            g_enc[at] = enc[i];
            g_dec[at] = d;
            square += sum_of(enc[i] * enc[i]) + sum_of(d * d);
        }
    }
    let square = cube_sum(square, scratch);
    if unit == 0 {
        g_bias[latent] = bias;
        squares[latent] = square + bias * bias;
        let room = i32::MAX - fires[latent];
        fires[latent] += select(active < room, active, room);
        if active > 0 {
            since_fired[latent] = 0;
        } else {
            let room = i32::MAX - since_fired[latent];
            since_fired[latent] += select(batch < room, batch, room);
        }
    }
}
