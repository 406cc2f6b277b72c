//! The k largest of a row, without sorting. Floats are compared as integers of the same order ("keys"), and the k-th largest key is
//! built bit by bit from the top: a bit stays set if at least k keys are not below the number so far. Ties go to the lowest index.
//!
//! The encoder leaves the largest value of every 32 latents. The k-th largest of those is a lower bound of the k-th largest of all,
//! so only the groups that reach it are read: about k of them. A plane does a token.

use assay_kernels::packed::GROUP;
use cubecl::prelude::*;

use super::reduce::smaller;

/// Strips of groups that are read before the first of them is looked at.
const AHEAD: usize = 8;

/// An integer with the order of the float: negative floats reversed, then positive ones; −0 is made +0 first. NaN is below all.
#[cube]
fn key_of(x: f32) -> u32 {
    let bits = u32::reinterpret(x + 0.0f32);
    let key = select(bits >> 31 == 1u32, !bits, bits | 0x8000_0000u32);
    select(bits & 0x7FFF_FFFFu32 > 0x7F80_0000u32, 1u32, key)
}

/// The float that a key was made from.
#[cube]
fn float_of(key: u32) -> f32 {
    f32::reinterpret(select(key >> 31 == 1u32, key & 0x7FFF_FFFFu32, !key))
}

/// Adds the bias to every pre-activation and takes the largest pre·scale of every group: what Hopper's product does on the way.
#[cube(launch_unchecked)]
pub(super) fn finish_scores(
    pre: &mut [f32],
    bias: &[f32],
    scale: &[f32],
    maxima: &mut [f32],
    n: usize,
    groups: usize,
    len: usize,
    #[comptime] scaled: bool,
) {
    if ABSOLUTE_POS < len {
        let token = ABSOLUTE_POS / groups;
        let group = ABSOLUTE_POS % groups;
        let mut best = f32::new(-f32::INFINITY);
        for i in 0..GROUP {
            let latent = group * GROUP + i;
            if latent < n {
                let v = pre[token * n + latent] + bias[latent];
                pre[token * n + latent] = v;
                let mut score = v;
                if comptime!(scaled) {
                    score *= scale[latent];
                }
                best = max(best, score);
            }
        }
        maxima[ABSOLUTE_POS] = best;
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

/// Key of a latent's pre-activation, scaled.
#[cube]
fn key_at(pre: &[f32], scale: &[f32], row: usize, latent: usize, #[comptime] scaled: bool) -> u32 {
    let mut v = pre[row + latent];
    if comptime!(scaled) {
        v *= scale[latent];
    }
    key_of(v)
}

/// values, indices `[tokens, k]`: the k latents of largest pre·scale, ascending, values ReLU(pre).
///
/// `capacity` candidates fit in shared memory; where more reach the bound (many ties, or fewer groups than k), the whole row is
/// searched instead.
#[cube(launch_unchecked)]
pub(super) fn select_topk(
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

/// As [`select_topk`] among the dead latents alone, without the ReLU: a cube a token, eight bits of the key at a time. Where
/// fewer than `k` are dead, all are taken and the entries left over are 0.
#[cube(launch_unchecked)]
pub(super) fn select_dead(
    pre: &[f32],
    scale: &[f32],
    dead: &[u32],
    n_dead: &[u32],
    values: &mut [f32],
    indices: &mut [i32],
    tokens: usize,
    n: usize,
    k: usize,
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
                    let key = key_at(pre, scale, row, dead[i] as usize, scaled);
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
                latent = dead[i] as usize;
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
            indices[token * k + i] = i32::cast_from(n - 1);
            i += units;
        }
    }
}
