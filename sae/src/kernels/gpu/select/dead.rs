//! The largest among the dead latents alone.

use assay_kernels::tensor::{cubes, dims2, len, slice};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Scores, key_at};
use crate::kernels::gpu::UNITS;
use crate::kernels::gpu::lists::positions_above;
use crate::kernels::gpu::reduce::smaller;

impl Scores {
    /// Values and indices of the `k` largest among the latents silent for longer than `after`, of those from `first` on that
    /// `since_fired` tells of, `[tokens, k]`.
    pub(in crate::kernels::gpu) fn dead(
        &self,
        since_fired: &CubeTensor,
        after: i32,
        k: usize,
        first: usize,
    ) -> (CubeTensor, CubeTensor) {
        let [tokens, n] = dims2(&self.pre);
        let (values, indices) = self.room(k);
        let (dead, n_dead) = positions_above(since_fired, None, after);
        // SAFETY: the kernel checks its positions; `dead` holds latents only.
        #[allow(unsafe_code)]
        unsafe {
            select_dead::launch_unchecked(
                &self.pre.client,
                cubes(tokens),
                CubeDim::new_1d(UNITS as u32),
                slice(&self.pre, 1),
                slice(&self.scale, 1),
                slice(&dead, 1),
                slice(&n_dead, 1),
                slice(&values, 1),
                slice(&indices, 1),
                tokens,
                n,
                k,
                first,
                first + len(since_fired) - 1,
                self.scaled,
            );
        }
        (values, indices)
    }
}

/// values, indices `[tokens, k]`: the k latents of largest pre·scale among the dead ones, ascending, without the ReLU: a cube a token, eight bits of the key at a time. Where
/// fewer than `k` are dead, all are taken and the entries left over are 0.
#[cube(launch_unchecked)]
fn select_dead(
    pre: &[f32],
    scale: &[f32],
    dead: &[u32],
    n_dead: &[u32],
    values: &mut [f32],
    indices: &mut [i32],
    tokens: usize,
    n: usize,
    k: usize,
    first: usize,
    last: usize,
    #[comptime] scaled: bool,
) {
    let counts = Shared::<[Atomic<u32>]>::new_slice(256usize);
    let mut chosen = Shared::<[u32]>::new_slice(2usize);
    let mut of_planes = Shared::<[u32]>::new_slice(128usize);
    let token = CUBE_POS;
    if token < tokens {
        let row = token * n;
        let total = n_dead[0] as usize;
        let wanted = smaller(k, total);
        let units = CUBE_DIM as usize;
        let unit = UNIT_POS as usize;

        let mut kth = 0u32;
        let mut left = wanted as u32; // still to be taken among the keys that share the bits fixed so far
        if wanted < total {
            for pass in 0..4u32 {
                let shift = 24u32 - 8u32 * pass;
                let mut b = unit;
                while b < 256 {
                    counts[b].store(0u32);
                    b += units;
                }
                sync_cube();
                let mut i = unit;
                while i < total {
                    let key = key_at(pre, scale, row, first + dead[i] as usize, scaled);
                    let mut same = true;
                    if pass > 0u32 {
                        same = key >> (shift + 8u32) == kth >> (shift + 8u32);
                    }
                    if same {
                        counts[((key >> shift) & 255u32) as usize].fetch_add(1u32);
                    }
                    i += units;
                }
                sync_cube();
                if unit == 0 {
                    let mut bin = 255u32;
                    let mut rest = left;
                    let mut done = false;
                    while !done {
                        let count = counts[bin as usize].load();
                        if count >= rest || bin == 0u32 {
                            done = true;
                        } else {
                            rest -= count;
                            bin -= 1u32;
                        }
                    }
                    chosen[0] = bin;
                    chosen[1] = rest;
                }
                sync_cube();
                kth = kth | (chosen[0] << shift);
                left = chosen[1];
                sync_cube();
            }
        }

        // In order of index: all above the k-th key, and the first `left` equal to it.
        let mut seen = 0u32;
        let mut written = 0u32;
        let planes = (CUBE_DIM / PLANE_DIM) as usize;
        let plane = PLANE_POS as usize;
        let mut start = 0usize;
        while start < total {
            let i = start + unit;
            let mut key = 0u32;
            let mut latent = 0usize;
            if i < total {
                latent = first + dead[i] as usize;
                key = key_at(pre, scale, row, latent, scaled);
            }
            let all = wanted == total;
            let equal = u32::cast_from(i < total && !all && key == kth);
            let above = u32::cast_from(i < total && (all || key > kth));
            let equal_before = plane_exclusive_sum(equal);
            let equal_plane = plane_sum(equal);
            if UNIT_POS_PLANE == 0 {
                of_planes[plane] = equal_plane;
            }
            sync_cube();
            let mut rank = seen + equal_before;
            for p in 0..planes {
                let count = of_planes[p];
                if p < plane {
                    rank += count;
                }
                seen += count;
            }
            let keep = above + u32::cast_from(equal == 1u32 && rank < left);
            let keep_before = plane_exclusive_sum(keep);
            let keep_plane = plane_sum(keep);
            if UNIT_POS_PLANE == 0 {
                of_planes[64 + plane] = keep_plane;
            }
            sync_cube();
            let mut at = written + keep_before;
            for p in 0..planes {
                let count = of_planes[64 + p];
                if p < plane {
                    at += count;
                }
                written += count;
            }
            if keep == 1u32 {
                values[token * k + at as usize] = pre[row + latent];
                indices[token * k + at as usize] = i32::cast_from(latent);
            }
            sync_cube();
            start += units;
        }
        let mut i = wanted + unit;
        while i < k {
            // The last latent keeps the indices in ascending order.
            values[token * k + i] = 0.0f32;
            indices[token * k + i] = i32::cast_from(last);
            i += units;
        }
    }
}
