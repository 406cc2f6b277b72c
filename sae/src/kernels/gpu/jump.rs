//! What becomes of the gradient of a JumpReLU's code: a unit an entry.

use assay_kernels::tensor::{contiguous, cubes_for, empty, len, slice};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::UNITS;
use super::code::{Code, token_of};
use crate::kernels::{JumpBy, JumpOf, L0GradOf, VectorOf};

/// See [`crate::kernels::jump_gradients`].
pub(super) fn gradients(
    code: &Code,
    z_grads: CubeTensor,
    jump: JumpOf<CubeBackend>,
    active: bool,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let JumpBy { bandwidth, ste_to_input, tanh, pre_act } = jump.by;
    let (threshold, norms) = (contiguous(jump.threshold), contiguous(jump.norms));
    let (l0_grads, same) = match jump.l0_grad {
        L0GradOf::Same(of_all) => (None, of_all),
        L0GradOf::Each(of_tokens) => (Some(contiguous(of_tokens)), 0.0),
    };
    let dead = match jump.dead {
        VectorOf::None => None,
        VectorOf::Latents(dead) => Some(contiguous(dead)),
    };
    let (z_grads, entries) = (contiguous(z_grads), len(&code.values));
    let out = [0; 3].map(|_| empty(&z_grads, [entries], DType::F32));
    let (factor, scale) = tanh.unwrap_or_default();
    // SAFETY: the kernel checks its entry; indices are below d_sae by construction.
    #[allow(unsafe_code)]
    unsafe {
        jump_gradients::launch_unchecked(
            &z_grads.client,
            cubes_for(entries, UNITS),
            CubeDim::new_1d(UNITS as u32),
            slice(&code.values, 1),
            slice(&code.indices, 1),
            slice(code.starts(), 1),
            slice(&z_grads, 1),
            slice(&threshold, 1),
            slice(&norms, 1),
            slice(dead.as_ref().unwrap_or(&norms), 1),
            slice(l0_grads.as_ref().unwrap_or(&norms), 1),
            slice(&out[0], 1),
            slice(&out[1], 1),
            slice(&out[2], 1),
            same,
            bandwidth as f32,
            factor as f32,
            scale as f32,
            pre_act as f32,
            code.k,
            code.tokens,
            entries,
            code.ragged(),
            active,
            ste_to_input,
            tanh.is_some(),
            dead.is_some(),
            l0_grads.is_some(),
        );
    }
    out.into()
}

#[cube(launch_unchecked)]
fn jump_gradients(
    pre: &[f32],
    latents: &[i32],
    starts: &[i32],
    z_grads: &[f32],
    threshold: &[f32],
    norms: &[f32],
    dead: &[f32],
    l0_grads: &[f32],
    to_pre: &mut [f32],
    to_threshold: &mut [f32],
    to_norms: &mut [f32],
    same: f32,
    bandwidth: f32,
    factor: f32,
    scale: f32,
    pre_act: f32,
    k: usize,
    tokens: usize,
    len: usize,
    #[comptime] ragged: bool,
    #[comptime] active: bool,
    #[comptime] ste_to_input: bool,
    #[comptime] with_tanh: bool,
    #[comptime] with_dead: bool,
    #[comptime] each: bool,
) {
    if ABSOLUTE_POS < len {
        let latent = usize::cast_from(latents[ABSOLUTE_POS]);
        let of_pre = pre[ABSOLUTE_POS];
        let theta = threshold[latent];
        let norm = norms[latent];
        let mut z_grad = z_grads[ABSOLUTE_POS];
        let mut norm_grad = 0.0f32;
        if comptime!(with_tanh) {
            let mut z = 0.0f32;
            if comptime!(active) {
                z = of_pre;
            }
            let t = f32::tanh(scale * z * norm);
            let slope = factor * scale * (1.0f32 - t * t);
            z_grad += slope * norm;
            norm_grad = slope * z;
        }
        let mut pre_grad = 0.0f32;
        if comptime!(active) {
            pre_grad = z_grad;
        }
        let mut threshold_grad = 0.0f32;
        if f32::abs((of_pre - theta) / bandwidth) < 0.5f32 {
            let mut g = same;
            if comptime!(each) {
                g = l0_grads[token_of(starts, ABSOLUTE_POS, k, tokens, ragged)];
            }
            let smeared = (theta * z_grad + g) / bandwidth;
            threshold_grad -= smeared;
            if comptime!(ste_to_input) {
                pre_grad += smeared;
            }
        }
        if comptime!(with_dead && !active) {
            if dead[latent] != 0.0f32 && of_pre < theta {
                pre_grad -= pre_act * norm;
                threshold_grad += pre_act * norm;
                norm_grad += pre_act * (theta - of_pre);
            }
        }
        to_pre[ABSOLUTE_POS] = pre_grad;
        to_threshold[ABSOLUTE_POS] = threshold_grad;
        to_norms[ABSOLUTE_POS] = norm_grad;
    }
}
