//! The largest positive numbers of a batch, exactly and without sorting: the bits of positive floats ascend as their values do, so the
//! numbers that have each digit are counted, from the highest digit on, and the digit in which the count is reached is that of the least
//! number chosen.
//!
//! The encoder leaves the largest of every 32 latents. As many of those as are wanted are a lower bound of what is chosen, so that only the
//! groups that reach it are read: about as many as latents are chosen. A plane does a token.

use assay_kernels::packed::GROUP;
use assay_kernels::tensor::{cubes, cubes_for, dims2, empty, len, slice, zeros};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::Scores;
use super::reaching::{AHEAD, BLOCK, list_reaching};
use crate::kernels::gpu::scan::starts_with_ties;
use crate::kernels::gpu::{UNITS, plane_size};

/// Digits of a positive float's 31 bits: the place of the lowest bit.
const SHIFTS: [usize; 3] = [20, 9, 0];
/// Numbers that a digit can be.
const BINS: usize = 2048;
/// Planes of a cube.
const PLANES: usize = UNITS / 32;

impl Scores {
    /// See [`crate::kernels::Scores::largest`].
    pub(in crate::kernels::gpu) fn largest(&self, count: usize) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let ([tokens, n], [_, groups]) = (dims2(&self.pre), dims2(&self.maxima));
        let (pre, maxima) = (&self.pre, &self.maxima);
        let entries = count.min(tokens * n);
        // How often each digit occurs, of the maxima and then in every pass; and of every pass where it ends: see `reach`.
        let counts = zeros(pre, [(SHIFTS.len() + 1) * BINS + 2 * (SHIFTS.len() + 1)], DType::U32);
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
                cubes_for(len(maxima), UNITS * 16),
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
                    count as u32,
                    tokens,
                    n,
                    groups,
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
                    slice(&above, 1),
                    slice(&ties, 1),
                    slice(starts, 1),
                    slice(taken, 1),
                    slice(&values, 1),
                    slice(&indices, 1),
                    tokens,
                    n,
                    groups,
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

/// Where pass `pass` leaves what it reached; the first has that of the maxima.
const fn place_of(pass: usize) -> usize {
    (SHIFTS.len() + 1) * BINS + 2 * pass
}

/// Bits of a positive number; 0 of everything else.
#[cube]
fn positive_bits(x: f32) -> u32 {
    select(x > 0.0f32, u32::reinterpret(x), 0u32)
}

/// Bits of the number by which a latent is compared.
#[cube]
fn bits_at(pre: &[f32], scale: &[f32], row: usize, latent: usize, n: usize, #[comptime] scaled: bool) -> u32 {
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
fn count_maxima(maxima: &[f32], counts: &[Atomic<u32>], len: usize) {
    let shift = comptime!(SHIFTS[0]);
    let own = Shared::<[Atomic<u32>]>::new_slice(BINS);
    let mut bin = UNIT_POS as usize;
    while bin < BINS {
        own[bin].store(0u32);
        bin += CUBE_DIM as usize;
    }
    sync_cube();
    let first = CUBE_POS * (CUBE_DIM as usize * 16) + UNIT_POS as usize;
    for i in 0..16usize {
        let at = first + i * CUBE_DIM as usize;
        let mut bits = 0u32;
        if at < len {
            bits = positive_bits(maxima[at]);
        }
        // Few digits occur, so that units would wait for each other: of each digit one counts for all.
        let digit = bits >> shift as u32;
        let mut left = plane_ballot(bits > 0u32).extract(0usize);
        while left != 0u32 {
            let of_first = plane_shuffle(digit, left.trailing_zeros());
            let same = plane_ballot(bits > 0u32 && digit == of_first).extract(0usize);
            if UNIT_POS_PLANE == left.trailing_zeros() {
                own[of_first as usize].fetch_add(same.count_ones());
            }
            left = left & !same;
        }
    }
    sync_cube();
    bin = UNIT_POS as usize;
    while bin < BINS {
        let count = own[bin].load();
        if count > 0u32 {
            counts[bin].fetch_add(count);
        }
        bin += CUBE_DIM as usize;
    }
}

/// Counts the digit of this pass of the numbers that share the digits before it with what the passes before reached, in the groups
/// that can hold them.
#[cube(launch_unchecked)]
fn count_digits(
    pre: &[f32],
    scale: &[f32],
    maxima: &[f32],
    seen: &[u32],
    counts: &[Atomic<u32>],
    count: u32,
    tokens: usize,
    n: usize,
    groups: usize,
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
        let mut start = 0usize;
        while start < groups {
            let reaching = list_reaching(maxima, maxima, floor, &mut list, own_list, token, start, groups, false);
            let mut item = 0usize;
            while item < reaching {
                let mut held = Array::<u32>::new(AHEAD);
                #[unroll]
                for u in 0..AHEAD {
                    held[u] = 0u32;
                    if item + u < reaching {
                        let latent = list[own_list + item + u] as usize * GROUP + UNIT_POS_PLANE as usize;
                        held[u] = bits_at(pre, scale, row, latent, n, scaled);
                    }
                }
                #[unroll]
                for u in 0..AHEAD {
                    let bits = held[u];
                    if bits > 0u32 && bits >> above as u32 == prefix {
                        own[((bits >> shift as u32) & (BINS as u32 - 1u32)) as usize].fetch_add(1u32);
                    }
                }
                item += AHEAD;
            }
            sync_plane();
            start += BLOCK;
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
fn reach(seen: &[u32], counts: &[Atomic<u32>], count: u32, #[comptime] pass: usize) -> Vector<u32, Const<2>> {
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

/// Counts of each token the numbers above the least chosen, and those equal to it; or with `write`, writes their pre-activations and
/// latents in ascending order, of the equal ones as many as are taken.
#[cube(launch_unchecked)]
fn write_chosen(
    pre: &[f32],
    scale: &[f32],
    maxima: &[f32],
    seen: &[u32],
    counts: &[Atomic<u32>],
    above: &mut [i32],
    ties: &mut [i32],
    starts: &[i32],
    taken: &[i32],
    values: &mut [f32],
    indices: &mut [i32],
    tokens: usize,
    n: usize,
    groups: usize,
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
        let mut start = 0usize;
        while start < groups {
            let reaching = list_reaching(maxima, maxima, least, &mut list, own_list, token, start, groups, false);
            let mut item = 0usize;
            while item < reaching {
                let mut held = Array::<u32>::new(AHEAD);
                let mut which = Array::<u32>::new(AHEAD);
                #[unroll]
                for u in 0..AHEAD {
                    held[u] = 0u32;
                    which[u] = 0u32;
                    if item + u < reaching {
                        which[u] = list[own_list + item + u] * GROUP as u32 + UNIT_POS_PLANE;
                        held[u] = bits_at(pre, scale, row, which[u] as usize, n, scaled);
                    }
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
