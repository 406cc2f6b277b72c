//! Gradients of the encoder, its bias and the decoder as sums over each latent's tokens, in token order: no float atomics, nothing
//! of size [B, k, d].
//!
//! First every active entry sets a bit in a table [d_sae, B/32]: a set of tokens per latent, in order by construction, whatever
//! order the bits were set in. Then a cube takes a latent: it lists the set's tokens, looks up each one's place among the token's
//! ascending indices, and sums the rows. The cube holds the latent's whole gradient then, so the part parallel to its decoder row,
//! the sum of squares and the latent's counters cost no further pass.
//!
//! A latent with more than [`HOT`] active tokens would keep one processor busy long after all others are done. Such latents are
//! listed, [`PARTS`] cubes each sum a stretch of tokens, and one adds the stretches up in order.

use cubecl::prelude::*;

use super::reduce::{cube_sum, cube_sum2, smaller, sum_of};

/// Active tokens above which a latent is shared out; also what the list of a cube holds.
pub(super) const HOT: usize = 512;
/// Cubes that share a hot latent.
pub(super) const PARTS: usize = 8;

/// Sets bit `token` in the row of every latent that is active on it, and counts the latent's tokens.
#[cube(launch_unchecked)]
pub(super) fn mark(
    values: &[f32],
    indices: &[i32],
    marks: &[Atomic<u32>],
    counts: &[Atomic<i32>],
    k: usize,
    words: usize,
    len: usize,
) {
    if ABSOLUTE_POS < len && values[ABSOLUTE_POS] != 0.0f32 {
        let token = ABSOLUTE_POS / k;
        let latent = usize::cast_from(indices[ABSOLUTE_POS]);
        marks[latent * words + token / 32].fetch_or(1u32 << (token % 32) as u32);
        counts[latent].fetch_add(1i32);
    }
}

/// Adds to the sums what one set of sparse activations contributes to a latent in the tokens of words `first..last`, of which at
/// most [`HOT`] may be marked; returns the sum of their value gradients.
#[cube]
fn accumulate<F: Float, N: Size>(
    marks: &[u32],
    values: &[f32],
    value_grads: &[f32],
    indices: &[i32],
    input: &[Vector<F, N>],
    output_grad: &[Vector<F, N>],
    latent: usize,
    first: usize,
    last: usize,
    k: usize,
    words: usize,
    columns: usize,
    enc: &mut Array<Vector<f32, N>>,
    dec: &mut Array<Vector<f32, N>>,
    list: &mut Shared<[u32]>,
    z: &mut Shared<[f32]>,
    dz: &mut Shared<[f32]>,
    of_planes: &mut Shared<[u32]>,
    #[comptime] per_unit: usize,
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
        let from = list[e] as usize * k;
        let mut low = 0usize;
        let mut high = k - 1;
        while low < high {
            let middle = (low + high) / 2;
            if usize::cast_from(indices[from + middle]) < latent {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        z[e] = values[from + low];
        dz[e] = value_grads[from + low];
        e += units;
    }
    sync_cube();

    let mut bias = 0.0f32;
    for e in 0..len {
        let row = list[e] as usize * columns;
        let ze = z[e];
        let dze = dz[e];
        #[unroll]
        for i in 0..per_unit {
            let c = i * units + unit;
            if c < columns {
                enc[i] += Vector::new(dze) * Vector::cast_from(input[row + c]);
                dec[i] += Vector::new(ze) * Vector::cast_from(output_grad[row + c]);
            }
        }
        bias += dze;
    }
    sync_cube();
    bias
}

/// Projects, writes and squares a latent's gradients, and brings its counters forward. `active`: its tokens in the main path.
#[cube]
fn finish<N: Size>(
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

/// One latent a cube, of those that are not hot.
#[cube(launch_unchecked)]
pub(super) fn latent_gradients<F: Float, N: Size>(
    marks: &[u32],
    values: &[f32],
    value_grads: &[f32],
    indices: &[i32],
    output_grad: &[Vector<F, N>],
    aux_marks: &[u32],
    aux_values: &[f32],
    aux_value_grads: &[f32],
    aux_indices: &[i32],
    aux_output_grad: &[Vector<F, N>],
    counts: &[i32],
    aux_counts: &[i32],
    input: &[Vector<F, N>],
    w_dec: &[Vector<f32, N>],
    g_enc: &mut [Vector<f32, N>],
    g_bias: &mut [f32],
    g_dec: &mut [Vector<f32, N>],
    squares: &mut [f32],
    since_fired: &mut [i32],
    fires: &mut [i32],
    k: usize,
    k_aux: usize,
    words: usize,
    columns: usize,
    latents: usize,
    batch: i32,
    #[comptime] per_unit: usize,
    #[comptime] with_aux: bool,
    #[comptime] project: bool,
) {
    let mut list = Shared::<[u32]>::new_slice(HOT);
    let mut z = Shared::<[f32]>::new_slice(HOT);
    let mut dz = Shared::<[f32]>::new_slice(HOT);
    let mut of_planes = Shared::<[u32]>::new_slice(64usize);
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let latent = CUBE_POS;
    if latent < latents {
        let active = counts[latent];
        let mut hot = active > HOT as i32;
        if comptime!(with_aux) {
            hot = hot || aux_counts[latent] > HOT as i32;
        }
        if !hot {
            let mut enc = Array::<Vector<f32, N>>::new(per_unit);
            let mut dec = Array::<Vector<f32, N>>::new(per_unit);
            #[unroll]
            for i in 0..per_unit {
                enc[i] = Vector::new(0.0f32);
                dec[i] = Vector::new(0.0f32);
            }
            let mut bias = 0.0f32;
            if active > 0 {
                bias = accumulate(
                    marks,
                    values,
                    value_grads,
                    indices,
                    input,
                    output_grad,
                    latent,
                    0usize,
                    words,
                    k,
                    words,
                    columns,
                    &mut enc,
                    &mut dec,
                    &mut list,
                    &mut z,
                    &mut dz,
                    &mut of_planes,
                    per_unit,
                );
            }
            if comptime!(with_aux) {
                if aux_counts[latent] > 0 {
                    bias += accumulate(
                        aux_marks,
                        aux_values,
                        aux_value_grads,
                        aux_indices,
                        input,
                        aux_output_grad,
                        latent,
                        0usize,
                        words,
                        k_aux,
                        words,
                        columns,
                        &mut enc,
                        &mut dec,
                        &mut list,
                        &mut z,
                        &mut dz,
                        &mut of_planes,
                        per_unit,
                    );
                }
            }
            finish(
                &enc,
                &dec,
                bias,
                active,
                latent,
                w_dec,
                g_enc,
                g_bias,
                g_dec,
                squares,
                since_fired,
                fires,
                columns,
                batch,
                &mut scratch,
                per_unit,
                project,
            );
        }
    }
}

/// A stretch of a hot latent's tokens a cube, [`PARTS`] cubes a latent: cube h·PARTS + p of the h-th hot latent sums the words of
/// part p into row h·PARTS + p of `part_enc`, `part_dec` and `part_bias`.
#[cube(launch_unchecked)]
pub(super) fn hot_parts<F: Float, N: Size>(
    marks: &[u32],
    values: &[f32],
    value_grads: &[f32],
    indices: &[i32],
    output_grad: &[Vector<F, N>],
    aux_marks: &[u32],
    aux_values: &[f32],
    aux_value_grads: &[f32],
    aux_indices: &[i32],
    aux_output_grad: &[Vector<F, N>],
    input: &[Vector<F, N>],
    hot: &[u32],
    n_hot: &[u32],
    part_enc: &mut [Vector<f32, N>],
    part_dec: &mut [Vector<f32, N>],
    part_bias: &mut [f32],
    k: usize,
    k_aux: usize,
    words: usize,
    columns: usize,
    #[comptime] per_unit: usize,
    #[comptime] with_aux: bool,
) {
    let mut list = Shared::<[u32]>::new_slice(HOT);
    let mut z = Shared::<[f32]>::new_slice(HOT);
    let mut dz = Shared::<[f32]>::new_slice(HOT);
    let mut of_planes = Shared::<[u32]>::new_slice(64usize);
    let which = CUBE_POS / PARTS;
    if which < n_hot[0] as usize {
        let latent = hot[which] as usize;
        let mut enc = Array::<Vector<f32, N>>::new(per_unit);
        let mut dec = Array::<Vector<f32, N>>::new(per_unit);
        #[unroll]
        for i in 0..per_unit {
            enc[i] = Vector::new(0.0f32);
            dec[i] = Vector::new(0.0f32);
        }
        let mut bias = 0.0f32;
        // Stretches of as many tokens as a list holds, every PARTS-th of them.
        let stretch = HOT / 32;
        let mut first = (CUBE_POS % PARTS) * stretch;
        while first < words {
            let last = smaller(first + stretch, words);
            bias += accumulate(
                marks,
                values,
                value_grads,
                indices,
                input,
                output_grad,
                latent,
                first,
                last,
                k,
                words,
                columns,
                &mut enc,
                &mut dec,
                &mut list,
                &mut z,
                &mut dz,
                &mut of_planes,
                per_unit,
            );
            if comptime!(with_aux) {
                bias += accumulate(
                    aux_marks,
                    aux_values,
                    aux_value_grads,
                    aux_indices,
                    input,
                    aux_output_grad,
                    latent,
                    first,
                    last,
                    k_aux,
                    words,
                    columns,
                    &mut enc,
                    &mut dec,
                    &mut list,
                    &mut z,
                    &mut dz,
                    &mut of_planes,
                    per_unit,
                );
            }
            first += PARTS * stretch;
        }
        #[unroll]
        for i in 0..per_unit {
            let c = i * CUBE_DIM as usize + UNIT_POS as usize;
            if c < columns {
                part_enc[CUBE_POS * columns + c] = enc[i];
                part_dec[CUBE_POS * columns + c] = dec[i];
            }
        }
        if UNIT_POS == 0 {
            part_bias[CUBE_POS] = bias;
        }
    }
}

/// Adds up the parts of a hot latent a cube.
#[cube(launch_unchecked)]
pub(super) fn hot_gradients<N: Size>(
    part_enc: &[Vector<f32, N>],
    part_dec: &[Vector<f32, N>],
    part_bias: &[f32],
    hot: &[u32],
    n_hot: &[u32],
    counts: &[i32],
    w_dec: &[Vector<f32, N>],
    g_enc: &mut [Vector<f32, N>],
    g_bias: &mut [f32],
    g_dec: &mut [Vector<f32, N>],
    squares: &mut [f32],
    since_fired: &mut [i32],
    fires: &mut [i32],
    columns: usize,
    batch: i32,
    #[comptime] per_unit: usize,
    #[comptime] project: bool,
) {
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    if CUBE_POS < n_hot[0] as usize {
        let latent = hot[CUBE_POS] as usize;
        let mut enc = Array::<Vector<f32, N>>::new(per_unit);
        let mut dec = Array::<Vector<f32, N>>::new(per_unit);
        let mut bias = 0.0f32;
        #[unroll]
        for i in 0..per_unit {
            enc[i] = Vector::new(0.0f32);
            dec[i] = Vector::new(0.0f32);
        }
        for p in 0..PARTS {
            let row = CUBE_POS * PARTS + p;
            #[unroll]
            for i in 0..per_unit {
                let c = i * CUBE_DIM as usize + UNIT_POS as usize;
                if c < columns {
                    enc[i] += part_enc[row * columns + c];
                    dec[i] += part_dec[row * columns + c];
                }
            }
            bias += part_bias[row];
        }
        finish(
            &enc,
            &dec,
            bias,
            counts[latent],
            latent,
            w_dec,
            g_enc,
            g_bias,
            g_dec,
            squares,
            since_fired,
            fires,
            columns,
            batch,
            &mut scratch,
            per_unit,
            project,
        );
    }
}
