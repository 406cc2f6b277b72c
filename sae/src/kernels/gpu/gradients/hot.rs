//! Several cubes a latent: the gradients of those that are active on so many tokens that one cube would keep all others waiting.

use cubecl::prelude::*;

use super::sums::{accumulate, finish};
use super::{HOT, PARTS};
use crate::kernels::gpu::reduce::smaller;

/// A stretch of a hot latent's tokens a cube, [`super::PARTS`] cubes a latent: cube h·PARTS + p of the h-th hot latent sums the words of
/// part p into row h·PARTS + p of `part_enc`, `part_dec` and `part_bias`.
#[cube(launch_unchecked)]
pub(super) fn hot_parts<F: Float, N: Size>(
    marks: &[u32],
    values: &[f32],
    value_grads: &[f32],
    indices: &[i32],
    starts: &[i32],
    ends: &[i32],
    output_grad: &[Vector<F, N>],
    aux_marks: &[u32],
    aux_values: &[f32],
    aux_value_grads: &[f32],
    aux_indices: &[i32],
    aux_starts: &[i32],
    aux_ends: &[i32],
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
    tokens: usize,
    #[comptime] per_unit: usize,
    #[comptime] ragged: bool,
    #[comptime] with_aux: bool,
    #[comptime] aux_ragged: bool,
    #[comptime] nested: bool,
    #[comptime] aux_nested: bool,
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
                starts,
                ends,
                input,
                output_grad,
                latent,
                first,
                last,
                k,
                words,
                columns,
                tokens,
                &mut enc,
                &mut dec,
                &mut list,
                &mut z,
                &mut dz,
                &mut of_planes,
                per_unit,
                ragged,
                nested,
            );
            if comptime!(with_aux) {
                bias += accumulate(
                    aux_marks,
                    aux_values,
                    aux_value_grads,
                    aux_indices,
                    aux_starts,
                    aux_ends,
                    input,
                    aux_output_grad,
                    latent,
                    first,
                    last,
                    k_aux,
                    words,
                    columns,
                    tokens,
                    &mut enc,
                    &mut dec,
                    &mut list,
                    &mut z,
                    &mut dz,
                    &mut of_planes,
                    per_unit,
                    aux_ragged,
                    aux_nested,
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
