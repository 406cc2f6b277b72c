//! Counts of digits, from which it follows where a given number of largest ones ends. See `batch.rs`.

use cubecl::prelude::*;

use super::candidates::{items_of, latent_of};
use super::reaching::{AHEAD, BLOCK, PLANES};
use crate::kernels::gpu::UNITS;

/// Digits of a positive float's 31 bits: the place of the lowest bit.
pub(super) const SHIFTS: [usize; 3] = [20, 9, 0];
/// Numbers that a digit can be.
const BINS: usize = 2048;
/// Counts that a cube keeps of each number, so that fewer units wait for each other where few numbers occur.
const COPIES: usize = 4;
/// Maxima that a unit reads.
pub(super) const MAXIMA: usize = 16;
/// How often each digit occurs, of the maxima and then in every pass; and of every pass where it ends: see [`reach`].
pub(super) const COUNTS: usize = (SHIFTS.len() + 1) * (BINS + 2);

/// Where pass `pass` leaves what it reached; the first has that of the maxima.
pub(super) const fn place_of(pass: usize) -> usize {
    (SHIFTS.len() + 1) * BINS + 2 * pass
}

/// Bits of a positive number; 0 of everything else.
#[cube]
pub(super) fn positive_bits(x: f32) -> u32 {
    select(x > 0.0f32, u32::reinterpret(x), 0u32)
}

/// Bits of the number by which a latent is compared.
#[cube]
pub(super) fn bits_at(
    pre: &[f32],
    scale: &[f32],
    row: usize,
    latent: usize,
    n: usize,
    #[comptime] scaled: bool,
) -> u32 {
    let mut bits = 0u32;
    if latent < n {
        let mut v = pre[row + latent];
        if comptime!(scaled) {
            v *= scale[latent];
        }
        bits = positive_bits(v);
    }
    bits
}

/// Counts the highest digit of every positive maximum.
#[cube(launch_unchecked)]
pub(super) fn count_maxima(maxima: &[f32], counts: &[Atomic<u32>], len: usize) {
    let shift = comptime!(SHIFTS[0]);
    let own = Shared::<[Atomic<u32>]>::new_slice(BINS * COPIES);
    let mut bin = UNIT_POS as usize;
    while bin < BINS * COPIES {
        own[bin].store(0u32);
        bin += CUBE_DIM as usize;
    }
    sync_cube();
    let copy = UNIT_POS as usize % COPIES;
    let first = CUBE_POS * (CUBE_DIM as usize * MAXIMA) + UNIT_POS as usize;
    let mut held = Array::<u32>::new(MAXIMA);
    #[unroll]
    for i in 0..MAXIMA {
        let at = first + i * CUBE_DIM as usize;
        held[i] = 0u32;
        if at < len {
            held[i] = positive_bits(maxima[at]);
        }
    }
    #[unroll]
    for i in 0..MAXIMA {
        if held[i] > 0u32 {
            own[(held[i] >> shift as u32) as usize * COPIES + copy].fetch_add(1u32);
        }
    }
    sync_cube();
    bin = UNIT_POS as usize;
    while bin < BINS {
        let mut count = 0u32;
        #[unroll]
        for i in 0..COPIES {
            count += own[bin * COPIES + i].load();
        }
        if count > 0u32 {
            counts[bin].fetch_add(count);
        }
        bin += CUBE_DIM as usize;
    }
}

/// Counts the digit of this pass of the numbers that share the digits before it with what the passes before reached. The first pass looks
/// at the groups that reach the bound, and keeps candidates (`candidates.rs`).
#[cube(launch_unchecked)]
pub(super) fn count_digits(
    pre: &[f32],
    scale: &[f32],
    maxima: &[f32],
    seen: &[u32],
    counts: &[Atomic<u32>],
    candidates: &mut [u32],
    found: &mut [u32],
    count: u32,
    tokens: usize,
    n: usize,
    groups: usize,
    room: usize,
    #[comptime] pass: usize,
    #[comptime] scaled: bool,
) {
    let shift = comptime!(SHIFTS[pass]);
    let above = comptime!(if pass == 0 { 31usize } else { SHIFTS[pass - 1] });
    let reached = reach(seen, counts, count, pass);
    let own = Shared::<[Atomic<u32>]>::new_slice(BINS);
    let mut list = Shared::<[u32]>::new_slice(BLOCK * PLANES);
    let own_list = PLANE_POS as usize * BLOCK;
    let mut bin = UNIT_POS as usize;
    while bin < BINS {
        own[bin].store(0u32);
        bin += CUBE_DIM as usize;
    }
    sync_cube();
    let token = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if token < tokens {
        let row = token * n;
        // What the maxima reach is a bound, not a number to share digits with.
        let floor = reached.extract(0usize);
        let prefix = floor >> above as u32;
        let before_unit = (1u32 << UNIT_POS_PLANE) - 1u32;
        let mut n_found = 0u32;
        let mut kept = false;
        if comptime!(pass > 0) {
            n_found = found[token];
            kept = n_found as usize <= room;
        }
        let end = select(kept, 1usize, groups);
        let mut start = 0usize;
        while start < end {
            let items = items_of(maxima, floor, &mut list, own_list, token, start, groups, n_found, kept);
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
                    let bits = held[u];
                    let mut counted = bits > 0u32;
                    if comptime!(pass == 0) {
                        counted = counted && bits >= floor;
                        let all = plane_ballot(counted).extract(0usize);
                        let at = (n_found + (all & before_unit).count_ones()) as usize;
                        if counted && at < room {
                            candidates[token * room + at] = which[u];
                        }
                        n_found += all.count_ones();
                    } else {
                        counted = counted && bits >> above as u32 == prefix;
                    }
                    if counted {
                        own[((bits >> shift as u32) & (BINS as u32 - 1u32)) as usize].fetch_add(1u32);
                    }
                }
                item += AHEAD;
            }
            sync_plane();
            start += BLOCK;
        }
        if comptime!(pass == 0) {
            if UNIT_POS_PLANE == 0 {
                found[token] = n_found;
            }
        }
    }
    sync_cube();
    bin = UNIT_POS as usize;
    while bin < BINS {
        let count = own[bin].load();
        if count > 0u32 {
            counts[(pass + 1) * BINS + bin].fetch_add(count);
        }
        bin += CUBE_DIM as usize;
    }
}

/// What the counts of the maxima, for pass 0, or of the pass before this one reach: the digits so far of the least number chosen, and how
/// many of those that share them are wanted. If there are fewer in all, both are 0, and stay so. Every cube finds it, the first leaves it
/// for the passes to come. `seen` is the same buffer as `counts`: of other passes, so that it can be read as it is.
#[cube]
pub(super) fn reach(
    seen: &[u32],
    counts: &[Atomic<u32>],
    count: u32,
    #[comptime] pass: usize,
) -> Vector<u32, Const<2>> {
    let mut of_planes = Shared::<[u32]>::new_slice(64usize);
    let mut found = Shared::<[u32]>::new_slice(2usize);
    let shift = comptime!(if pass == 0 { SHIFTS[0] } else { SHIFTS[pass - 1] });
    let mut wanted = count;
    let mut prefix = 0u32;
    if comptime!(pass > 1) {
        let before = comptime!(place_of(pass - 1));
        prefix = seen[before];
        wanted = seen[before + 1];
    }
    // Unit u has the bins that come u-th from the top.
    let each = BINS / UNITS;
    let top = BINS - 1 - each * UNIT_POS as usize;
    let mut own = 0u32;
    #[unroll]
    for i in 0..each {
        own += seen[pass * BINS + top - i];
    }
    let within = plane_exclusive_sum(own);
    if UNIT_POS_PLANE == PLANE_DIM - 1 {
        of_planes[PLANE_POS as usize] = within + own;
    }
    if UNIT_POS < 2u32 {
        found[UNIT_POS as usize] = 0u32;
    }
    sync_cube();
    let mut before = within;
    for p in 0..PLANES {
        if p < PLANE_POS as usize {
            before += of_planes[p];
        }
    }
    if wanted > before && wanted <= before + own {
        let mut left = wanted - before;
        let mut done = false;
        #[unroll]
        for i in 0..each {
            let here = seen[pass * BINS + top - i];
            if !done {
                if left <= here {
                    found[0] = prefix | (((top - i) as u32) << shift as u32);
                    found[1] = left;
                    done = true;
                } else {
                    left -= here;
                }
            }
        }
    }
    sync_cube();
    let mut out = Vector::<u32, Const<2>>::empty();
    out.insert(0usize, found[0]);
    out.insert(1usize, found[1]);
    if CUBE_POS == 0 && UNIT_POS < 2u32 {
        counts[comptime!(place_of(pass)) + UNIT_POS as usize].store(found[UNIT_POS as usize]);
    }
    out
}
