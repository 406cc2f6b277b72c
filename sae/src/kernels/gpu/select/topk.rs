//! The k largest of a row, without sorting: the k-th largest key is built bit by bit from the top: a bit stays set if at least k keys
//! are not below the number so far.
//!
//! The encoder leaves the largest value of every 32 latents. The k-th largest of those is a lower bound of the k-th largest of all,
//! so only the groups that reach it are read: about k of them. A plane does a token.

use assay_kernels::packed::GROUP;
use assay_kernels::tensor::{cubes_for, dims2, slice};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Scores, float_of, key_at, key_of};
use crate::kernels::gpu::plane_size;

/// Strips of groups that are read before the first of them is looked at.
const AHEAD: usize = 8;

impl Scores {
    pub(super) fn topk(&self, k: usize) -> (CubeTensor, CubeTensor) {
        let ([tokens, n], [_, groups]) = (dims2(&self.pre), dims2(&self.maxima));
        let (values, indices) = self.room(k);
        let plane = plane_size(&self.pre);
        let planes = 4;
        // About k candidates reach the bound; some room, but not so much that few cubes fit on a processor. Two sizes, so that a grid
        // of k needs two kernels and not one each.
        // A device with little shared memory gets less: what does not fit is found in the row itself.
        let free = self.pre.client.properties().hardware.max_shared_memory_size / (4 * planes);
        let room = free.saturating_sub(groups.next_multiple_of(plane)) / 2;
        let wanted = if k <= 64 { 256 } else { 1024 };
        let capacity = wanted.min(room.max(32));
        // SAFETY: the kernel checks its token, groups, latents and candidates.
        #[allow(unsafe_code)]
        unsafe {
            select_topk::launch_unchecked(
                &self.pre.client,
                cubes_for(tokens, planes),
                CubeDim::new_1d((planes * plane) as u32),
                slice(&self.pre, 1),
                slice(&self.scale, 1),
                slice(&self.maxima, 1),
                slice(&values, 1),
                slice(&indices, 1),
                tokens,
                n,
                groups,
                k,
                groups.div_ceil(plane),
                capacity,
                planes,
                plane,
                self.scaled,
            );
        }
        (values, indices)
    }
}

/// How many units of the plane before this one have `flag` set, and in all.
#[cube]
fn rank_and_count(flag: bool) -> Vector<u32, Const<2>> {
    let ballot = plane_ballot(flag);
    let mut before = 0u32;
    let mut all = 0u32;
    #[unroll]
    for w in 0..2u32 {
        // A plane has at most 64 units; of this word those before the unit are its low bits.
        let word = ballot.extract(w as usize);
        let from = w * 32u32;
        let mut low = 0u32;
        if UNIT_POS_PLANE >= from + 32u32 {
            low = word;
        } else if UNIT_POS_PLANE > from {
            low = word & ((1u32 << (UNIT_POS_PLANE - from)) - 1u32);
        }
        before += low.count_ones();
        all += word.count_ones();
    }
    let mut out = Vector::<u32, Const<2>>::empty();
    out.insert(0usize, before);
    out.insert(1usize, all);
    out
}

/// How many of the plane's `keys` in shared memory are not below `bound`.
#[cube]
fn count_from(keys: &Shared<[u32]>, from: usize, len: usize, bound: u32) -> u32 {
    let mut count = 0u32;
    let mut i = UNIT_POS_PLANE as usize;
    while i < len {
        count += u32::cast_from(keys[from + i] >= bound);
        i += PLANE_DIM as usize;
    }
    plane_sum(count)
}

/// values, indices `[tokens, k]`: the k latents of largest pre·scale, ascending, values ReLU(pre).
///
/// `capacity` candidates fit in shared memory; where more reach the bound (many ties, or fewer groups than k), the whole row is
/// searched instead.
#[cube(launch_unchecked)]
fn select_topk(
    pre: &[f32],
    scale: &[f32],
    maxima: &[f32],
    values: &mut [f32],
    indices: &mut [i32],
    tokens: usize,
    n: usize,
    groups: usize,
    k: usize,
    #[comptime] per_unit: usize,
    #[comptime] capacity: usize,
    #[comptime] planes: usize,
    #[comptime] plane: usize,
    #[comptime] scaled: bool,
) {
    // Strips of a group that a plane reads at a time.
    let subs = comptime!(if plane < GROUP { GROUP / plane } else { 1usize });
    let mut reaching = Shared::<[u32]>::new_slice(per_unit * plane * planes);
    let own_groups = PLANE_POS as usize * (per_unit * plane);
    let mut keys = Shared::<[u32]>::new_slice(capacity * planes);
    let mut latents = Shared::<[u32]>::new_slice(capacity * planes);
    let token = CUBE_POS * planes + PLANE_POS as usize;
    let own = PLANE_POS as usize * capacity;
    if token < tokens {
        let row = token * n;
        let wanted = k as u32;

        // Each unit holds the maxima of some groups: unit u those of groups u, u + PLANE_DIM, …
        let mut of_groups = Array::<u32>::new(per_unit);
        #[unroll]
        for i in 0..per_unit {
            let group = i * PLANE_DIM as usize + UNIT_POS_PLANE as usize;
            of_groups[i] = 0u32;
            if group < groups {
                of_groups[i] = key_of(maxima[token * groups + group]);
            }
        }
        let mut bound = 0u32;
        if groups >= k {
            for bit in 0..32u32 {
                let candidate = bound | (1u32 << (31u32 - bit));
                let mut count = 0u32;
                #[unroll]
                for i in 0..per_unit {
                    count += u32::cast_from(of_groups[i] >= candidate);
                }
                if plane_sum(count) >= wanted {
                    bound = candidate;
                }
            }
            // A group's maximum of −∞ may stand for NaN, which maxima pass over: then no bound is known, and everything counts.
            if bound <= 0x007F_FFFFu32 {
                bound = 0u32;
            }
        }

        // The groups that reach the bound, in order.
        let mut n_reaching = 0u32;
        #[unroll]
        for i in 0..per_unit {
            let reaches = of_groups[i] >= select(bound == 0u32, 1u32, bound);
            let rank = rank_and_count(reaches);
            if reaches {
                reaching[own_groups + (n_reaching + rank.extract(0usize)) as usize] =
                    (i * PLANE_DIM as usize) as u32 + UNIT_POS_PLANE;
            }
            n_reaching += rank.extract(1usize);
        }
        sync_plane();

        // Their latents that reach it, in order: several groups are read before the first is looked at.
        let mut found = 0u32;
        let items = n_reaching as usize * subs;
        let mut item = 0usize;
        while item < items {
            let mut held = Array::<u32>::new(AHEAD);
            let mut which = Array::<u32>::new(AHEAD);
            #[unroll]
            for u in 0..AHEAD {
                held[u] = 0u32;
                which[u] = 0u32;
                if item + u < items {
                    let within = (item + u) % subs * plane + UNIT_POS_PLANE as usize;
                    let latent = reaching[own_groups + (item + u) / subs] as usize * GROUP + within;
                    if within < GROUP && latent < n {
                        held[u] = key_at(pre, scale, row, latent, scaled);
                        which[u] = latent as u32;
                    }
                }
            }
            #[unroll]
            for u in 0..AHEAD {
                // A held key is 0 where there is none, and the bound may be 0 where every key counts.
                let keep = held[u] >= select(bound == 0u32, 1u32, bound);
                let rank = rank_and_count(keep);
                let at = (found + rank.extract(0usize)) as usize;
                if keep && at < capacity {
                    keys[own + at] = held[u];
                    latents[own + at] = which[u];
                }
                found += rank.extract(1usize);
            }
            item += AHEAD;
        }
        sync_plane();

        let listed = found as usize <= capacity;
        let len = select(listed, found as usize, n);
        let mut kth = 0u32;
        for bit in 0..32u32 {
            let candidate = kth | (1u32 << (31u32 - bit));
            let mut count = 0u32;
            if listed {
                count = count_from(&keys, own, len, candidate);
            } else {
                let mut latent = UNIT_POS_PLANE as usize;
                while latent < n {
                    count += u32::cast_from(key_at(pre, scale, row, latent, scaled) >= candidate);
                    latent += PLANE_DIM as usize;
                }
                count = plane_sum(count);
            }
            if count >= wanted {
                kth = candidate;
            }
        }
        let mut above = 0u32;
        if kth != 0xFFFF_FFFFu32 {
            if listed {
                above = count_from(&keys, own, len, kth + 1u32);
            } else {
                let mut latent = UNIT_POS_PLANE as usize;
                while latent < n {
                    above += u32::cast_from(key_at(pre, scale, row, latent, scaled) > kth);
                    latent += PLANE_DIM as usize;
                }
                above = plane_sum(above);
            }
        }

        // All above the k-th, and the first of those equal to it.
        let ties = wanted - above;
        let mut seen = 0u32;
        let mut written = 0u32;
        let mut start = 0usize;
        while start < len {
            let i = start + UNIT_POS_PLANE as usize;
            let mut key = 0u32;
            let mut latent = 0u32;
            if i < len {
                if listed {
                    key = keys[own + i];
                    latent = latents[own + i];
                } else {
                    key = key_at(pre, scale, row, i, scaled);
                    latent = i as u32;
                }
            }
            let equal = rank_and_count(i < len && key == kth);
            let rank = seen + equal.extract(0usize);
            seen += equal.extract(1usize);
            let keep = i < len && (key > kth || (key == kth && rank < ties));
            let kept = rank_and_count(keep);
            let at = written + kept.extract(0usize);
            written += kept.extract(1usize);
            if keep {
                let mut value = float_of(key);
                if comptime!(scaled) {
                    value = pre[row + latent as usize];
                }
                values[token * k + at as usize] = max(value, 0.0f32);
                indices[token * k + at as usize] = i32::cast_from(latent);
            }
            start += PLANE_DIM as usize;
        }
    }
}
