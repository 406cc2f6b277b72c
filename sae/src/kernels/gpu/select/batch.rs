//! The largest positive numbers of a batch, exactly and without sorting: the bits of positive floats ascend as their values do, so the
//! numbers that have each digit are counted, from the highest digit on, and the digit in which the count is reached is that of the least
//! number chosen.
//!
//! The encoder leaves the largest of every 32 latents. As many of those as are wanted are a lower bound of what is chosen, so that only the
//! groups that reach it are read, once: what reaches it there is kept (`candidates.rs`). A plane does a token.

use assay_kernels::tensor::{cubes, cubes_for, dims2, empty, len, slice, zeros};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::Scores;
use super::candidates::{items_of, latent_of, room_of};
use super::digits::{COUNTS, MAXIMA, SHIFTS, bits_at, count_digits, count_maxima, place_of, positive_bits, reach};
use super::reaching::{AHEAD, BLOCK, PLANES};
use crate::kernels::gpu::scan::starts_with_ties;
use crate::kernels::gpu::{UNITS, plane_size};

impl Scores {
    /// See [`crate::kernels::Scores::largest`].
    pub(in crate::kernels::gpu) fn largest(&self, count: usize) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let ([tokens, n], [_, groups]) = (dims2(&self.pre), dims2(&self.maxima));
        let (pre, maxima) = (&self.pre, &self.maxima);
        let entries = count.min(tokens * n);
        let counts = zeros(pre, [COUNTS], DType::U32);
        let room = room_of(count, tokens, n);
        let candidates = empty(pre, [tokens, room], DType::U32);
        let found = empty(pre, [tokens], DType::U32);
        let planes = UNITS / plane_size(pre);
        debug_assert_eq!(planes, PLANES);
        let above = empty(pre, [tokens], DType::I32);
        let ties = empty(pre, [tokens], DType::I32);
        let values = empty(pre, [entries], DType::F32);
        let indices = empty(pre, [entries], DType::I32);
        let least = empty(pre, [1], DType::F32);
        // SAFETY: kernels check their positions; a digit is below the number of bins; rows lie within the entries, of which there are as
        // many as can be chosen.
        #[allow(unsafe_code)]
        unsafe {
            count_maxima::launch_unchecked(
                &pre.client,
                cubes_for(len(maxima), UNITS * MAXIMA),
                CubeDim::new_1d(UNITS as u32),
                slice(maxima, 1),
                slice(&counts, 1),
                len(maxima),
            );
            for pass in 0..SHIFTS.len() {
                count_digits::launch_unchecked(
                    &pre.client,
                    cubes_for(tokens, planes),
                    CubeDim::new_1d(UNITS as u32),
                    slice(pre, 1),
                    slice(&self.scale, 1),
                    slice(maxima, 1),
                    slice(&counts, 1),
                    slice(&counts, 1),
                    slice(&candidates, 1),
                    slice(&found, 1),
                    count as u32,
                    tokens,
                    n,
                    groups,
                    room,
                    pass,
                    self.scaled,
                );
            }
            let write = |write: bool, starts: &CubeTensor, taken: &CubeTensor| {
                write_chosen::launch_unchecked(
                    &pre.client,
                    cubes_for(tokens, planes),
                    CubeDim::new_1d(UNITS as u32),
                    slice(pre, 1),
                    slice(&self.scale, 1),
                    slice(maxima, 1),
                    slice(&counts, 1),
                    slice(&counts, 1),
                    slice(&candidates, 1),
                    slice(&found, 1),
                    slice(&above, 1),
                    slice(&ties, 1),
                    slice(starts, 1),
                    slice(taken, 1),
                    slice(&values, 1),
                    slice(&indices, 1),
                    tokens,
                    n,
                    groups,
                    room,
                    self.scaled,
                    write,
                );
            };
            write(false, &above, &above);
            let (starts, taken) = starts_with_ties(&above, &ties, &counts, place_of(SHIFTS.len()) + 1);
            write(true, &starts, &taken);
            finish_chosen::launch_unchecked(
                &pre.client,
                cubes(1),
                CubeDim::new_1d(1024),
                slice(&values, 1),
                slice(&indices, 1),
                slice(&self.scale, 1),
                slice(&counts, 1),
                slice(&starts, 1),
                slice(&least, 1),
                tokens,
                entries,
                self.scaled,
            );
            (values, indices, starts, least)
        }
    }
}

/// Counts of each token the numbers above the least chosen, and those equal to it; or with `write`, writes their pre-activations and
/// latents in ascending order, of the equal ones as many as are taken.
#[cube(launch_unchecked)]
fn write_chosen(
    pre: &[f32],
    scale: &[f32],
    maxima: &[f32],
    seen: &[u32],
    counts: &[Atomic<u32>],
    candidates: &mut [u32],
    found: &[u32],
    above: &mut [i32],
    ties: &mut [i32],
    starts: &[i32],
    taken: &[i32],
    values: &mut [f32],
    indices: &mut [i32],
    tokens: usize,
    n: usize,
    groups: usize,
    room: usize,
    #[comptime] scaled: bool,
    #[comptime] write: bool,
) {
    let mut least = seen[comptime!(place_of(SHIFTS.len()))];
    if comptime!(!write) {
        // The number wanted is known from the passes before.
        least = reach(seen, counts, 0u32, comptime!(SHIFTS.len())).extract(0usize);
    }
    let mut list = Shared::<[u32]>::new_slice(BLOCK * PLANES);
    let own_list = PLANE_POS as usize * BLOCK;
    let token = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if token < tokens {
        let row = token * n;
        let before_unit = (1u32 << UNIT_POS_PLANE) - 1u32;
        let mut n_above = 0u32;
        let mut n_ties = 0u32;
        let mut written = 0u32;
        let mut from = 0u32;
        let mut left_ties = 0u32;
        if comptime!(write) {
            from = u32::cast_from(starts[token]);
            left_ties = u32::cast_from(taken[token]);
        }
        let n_found = found[token];
        let kept = n_found as usize <= room;
        let end = select(kept, 1usize, groups);
        let mut start = 0usize;
        while start < end {
            let items = items_of(maxima, least, &mut list, own_list, token, start, groups, n_found, kept);
            let mut item = 0usize;
            while item < items {
                let mut held = Array::<u32>::new(AHEAD);
                let mut which = Array::<u32>::new(AHEAD);
                #[unroll]
                for u in 0..AHEAD {
                    which[u] = latent_of(candidates, &list, own_list, token * room, item + u, items, n_found, n, kept);
                    held[u] = bits_at(pre, scale, row, which[u] as usize, n, scaled);
                }
                #[unroll]
                for u in 0..AHEAD {
                    let is_above = held[u] > least;
                    let is_tie = held[u] == least && held[u] > 0u32;
                    let tied = plane_ballot(is_tie).extract(0usize);
                    if comptime!(write) {
                        let rank = n_ties + (tied & before_unit).count_ones();
                        let keep = is_above || (is_tie && rank < left_ties);
                        let kept = plane_ballot(keep).extract(0usize);
                        if keep {
                            let at = (from + written + (kept & before_unit).count_ones()) as usize;
                            values[at] = pre[row + which[u] as usize];
                            indices[at] = i32::cast_from(which[u]);
                        }
                        written += kept.count_ones();
                    } else {
                        n_above += plane_ballot(is_above).extract(0usize).count_ones();
                    }
                    n_ties += tied.count_ones();
                }
                item += AHEAD;
            }
            sync_plane();
            start += BLOCK;
        }
        if comptime!(!write) {
            if UNIT_POS_PLANE == 0 {
                above[token] = i32::cast_from(n_above);
                ties[token] = i32::cast_from(n_ties);
            }
        }
    }
}

/// The least number chosen, which is the one reached, or where all positive ones were chosen, the least of them. Then entries are left
/// over, which are no token's.
#[cube(launch_unchecked)]
fn finish_chosen(
    values: &mut [f32],
    indices: &mut [i32],
    scale: &[f32],
    counts: &[u32],
    starts: &[i32],
    least: &mut [f32],
    tokens: usize,
    entries: usize,
    #[comptime] scaled: bool,
) {
    let mut of_planes = Shared::<[u32]>::new_slice(64usize);
    let reached = counts[comptime!(place_of(SHIFTS.len()))];
    let mut own = 0xFFFF_FFFFu32;
    if reached == 0u32 {
        let end = usize::cast_from(starts[tokens]);
        let mut at = UNIT_POS as usize;
        while at < entries {
            if at < end {
                let mut v = values[at];
                if comptime!(scaled) {
                    v *= scale[usize::cast_from(indices[at])];
                }
                let bits = positive_bits(v);
                if bits > 0u32 && bits < own {
                    own = bits;
                }
            } else {
                values[at] = 0.0f32;
                indices[at] = 0i32;
            }
            at += CUBE_DIM as usize;
        }
    }
    let of_plane = plane_min(own);
    if UNIT_POS_PLANE == 0 {
        of_planes[PLANE_POS as usize] = of_plane;
    }
    sync_cube();
    if UNIT_POS == 0 {
        let mut bits = reached;
        if reached == 0u32 {
            bits = 0xFFFF_FFFFu32;
            for p in 0..(CUBE_DIM / PLANE_DIM) as usize {
                bits = select(of_planes[p] < bits, of_planes[p], bits);
            }
            if bits == 0xFFFF_FFFFu32 {
                bits = 0u32;
            }
        }
        least[0] = f32::reinterpret(bits);
    }
}
