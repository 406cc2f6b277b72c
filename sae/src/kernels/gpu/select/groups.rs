//! The largest of each of k groups of neighbours: a plane a group.

use assay_kernels::tensor::{cubes_for, dims2, slice};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Scores, key_at};
use crate::kernels::gpu::{UNITS, plane_size};

impl Scores {
    pub(super) fn largest_of_groups(&self, k: usize) -> (CubeTensor, CubeTensor) {
        let [tokens, n] = dims2(&self.pre);
        let (values, indices) = self.room(k);
        let planes = UNITS / plane_size(&self.pre);
        // SAFETY: the kernel checks its group; groups lie within the latents.
        #[allow(unsafe_code)]
        unsafe {
            select_of_groups::launch_unchecked(
                &self.pre.client,
                cubes_for(tokens * k, planes),
                CubeDim::new_1d(UNITS as u32),
                slice(&self.pre, 1),
                slice(&self.scale, 1),
                slice(&values, 1),
                slice(&indices, 1),
                n,
                k,
                n / k,
                tokens * k,
                self.scaled,
            );
        }
        (values, indices)
    }
}

/// values, indices `[tokens, k]`: of each group of `size` latents the one of largest pre·scale, values ReLU(pre).
#[cube(launch_unchecked)]
fn select_of_groups(
    pre: &[f32],
    scale: &[f32],
    values: &mut [f32],
    indices: &mut [i32],
    n: usize,
    k: usize,
    size: usize,
    len: usize,
    #[comptime] scaled: bool,
) {
    let at = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if at < len {
        let row = at / k * n;
        let first = at % k * size;
        // No key is 0, so a unit without a latent has no say.
        let mut best = 0u32;
        let mut which = 0u32;
        let mut i = UNIT_POS_PLANE as usize;
        while i < size {
            let key = key_at(pre, scale, row, first + i, scaled);
            if key > best {
                best = key;
                which = (first + i) as u32;
            }
            i += PLANE_DIM as usize;
        }
        let largest = plane_max(best);
        let latent = plane_min(select(best == largest, which, 0xFFFF_FFFFu32));
        if UNIT_POS_PLANE == 0 {
            values[at] = max(pre[row + latent as usize], 0.0f32);
            indices[at] = i32::cast_from(latent);
        }
    }
}
