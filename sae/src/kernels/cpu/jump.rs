//! What becomes of the gradient of a JumpReLU's code.

use burn::backend::Flex;
use burn_flex::FlexTensor;

use super::sparse::Code;
use super::{contiguous, float_tensor, floats, ints};
use crate::kernels::{JumpBy, JumpOf, L0GradOf, VectorOf};

/// See [`crate::kernels::jump_gradients`]; in f64.
pub(super) fn gradients(code: &Code, z_grads: &FlexTensor, jump: JumpOf<Flex>, active: bool) -> [FlexTensor; 3] {
    let JumpBy { bandwidth, ste_to_input, tanh, pre_act } = jump.by;
    let [threshold, norms] = [jump.threshold, jump.norms].map(contiguous);
    let (l0_grads, same) = match jump.l0_grad {
        L0GradOf::Same(of_all) => (None, of_all),
        L0GradOf::Each(of_tokens) => (Some(contiguous(of_tokens)), 0.0),
    };
    let dead = match jump.dead {
        VectorOf::None => None,
        VectorOf::Latents(dead) => Some(contiguous(dead)),
    };
    let (pre, latents, z_grads) = (floats(&code.values), ints(&code.indices), floats(z_grads));
    let [mut to_pre, mut to_threshold, mut to_norms] = [0; 3].map(|_| vec![0.0_f32; pre.len()]);
    for token in 0..code.rows().tokens() {
        let l0_grad = f64::from(l0_grads.as_ref().map_or(same, |grads| floats(grads)[token]));
        for entry in code.rows().of(token) {
            let latent = latents[entry] as usize;
            let (pre, threshold) = (pre[entry], floats(&threshold)[latent]);
            let (wide_pre, wide_threshold) = (f64::from(pre), f64::from(threshold));
            let norm = f64::from(floats(&norms)[latent]);
            let (mut z_grad, mut norm_grad) = (f64::from(z_grads[entry]), 0.0);
            if let Some((factor, scale)) = tanh {
                let z = if active { wide_pre } else { 0.0 };
                let slope = factor * scale * (1.0 - (scale * z * norm).tanh().powi(2));
                z_grad += slope * norm;
                norm_grad = slope * z;
            }
            let (mut pre_grad, mut threshold_grad) = (if active { z_grad } else { 0.0 }, 0.0);
            if ((pre - threshold) / bandwidth as f32).abs() < 0.5 {
                let smeared = (wide_threshold * z_grad + l0_grad) / bandwidth;
                threshold_grad -= smeared;
                if ste_to_input {
                    pre_grad += smeared;
                }
            }
            if !active && pre < threshold && dead.as_ref().is_some_and(|dead| floats(dead)[latent] != 0.0) {
                pre_grad -= pre_act * norm;
                threshold_grad += pre_act * norm;
                norm_grad += pre_act * (wide_threshold - wide_pre);
            }
            to_pre[entry] = pre_grad as f32;
            to_threshold[entry] = threshold_grad as f32;
            to_norms[entry] = norm_grad as f32;
        }
    }
    let entries = pre.len();
    [to_pre, to_threshold, to_norms].map(|grads| float_tensor(grads, [entries]))
}
