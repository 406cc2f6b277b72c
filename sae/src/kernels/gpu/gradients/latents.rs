//! A cube a latent: the gradients of all but the hot ones.

use cubecl::prelude::*;

use super::HOT;
use super::sums::{accumulate, finish};

/// One latent a cube, of those that are not hot.
#[cube(launch_unchecked)]
pub(super) fn latent_gradients<F: Float, N: Size>(
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
    #[comptime] ragged: bool,
    #[comptime] with_aux: bool,
    #[comptime] aux_ragged: bool,
    #[comptime] nested: bool,
    #[comptime] aux_nested: bool,
    #[comptime] project: bool,
) {
    let mut list = Shared::<[u32]>::new_slice(HOT);
    let mut z = Shared::<[f32]>::new_slice(HOT);
    let mut dz = Shared::<[f32]>::new_slice(HOT);
    let mut of_planes = Shared::<[u32]>::new_slice(64usize);
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let latent = CUBE_POS;
    let tokens = usize::cast_from(batch);
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
                    starts,
                    ends,
                    input,
                    output_grad,
                    latent,
                    0usize,
                    words,
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
            }
            if comptime!(with_aux) {
                if aux_counts[latent] > 0 {
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
                        0usize,
                        words,
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
