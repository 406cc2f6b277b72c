//! Which groups of a token's latents can hold what is asked for, by the largest of each: the others are not read. A plane does a token, a
//! block of groups at a time, so that many reads are under way at once.

use cubecl::prelude::*;

use crate::kernels::gpu::UNITS;

/// Planes of a cube.
pub(super) const PLANES: usize = UNITS / 32;
/// Strips of groups, a group a unit, that are looked at together.
const STRIPS: usize = 8;
/// Groups of a block.
pub(super) const BLOCK: usize = 32 * STRIPS;
/// Groups whose latents are read before the first of them is looked at.
pub(super) const AHEAD: usize = 8;

/// Lists the groups of the block from `start` on whose largest is above `floors` of the group, or not below the bits of a positive
/// `bound`, in order, from `own` on; returns how many there are.
#[cube]
pub(super) fn list_reaching(
    maxima: &[f32],
    floors: &[f32],
    bound: u32,
    list: &mut Shared<[u32]>,
    own: usize,
    token: usize,
    start: usize,
    groups: usize,
    #[comptime] by_floors: bool,
) -> usize {
    let before_unit = (1u32 << UNIT_POS_PLANE) - 1u32;
    let mut largest = Array::<f32>::new(STRIPS);
    let mut least = Array::<f32>::new(STRIPS);
    #[unroll]
    for s in 0..STRIPS {
        let group = start + s * 32usize + UNIT_POS_PLANE as usize;
        largest[s] = -f32::INFINITY;
        least[s] = 0.0f32;
        if group < groups {
            largest[s] = maxima[token * groups + group];
            if comptime!(by_floors) {
                least[s] = floors[group];
            }
        }
    }
    let mut found = 0u32;
    #[unroll]
    for s in 0..STRIPS {
        let group = start + s * 32usize + UNIT_POS_PLANE as usize;
        let mut reaches = largest[s] > least[s] && group < groups;
        if comptime!(!by_floors) {
            reaches = reaches && u32::reinterpret(largest[s]) >= bound;
        }
        let all = plane_ballot(reaches).extract(0usize);
        if reaches {
            list[own + (found + (all & before_unit).count_ones()) as usize] = group as u32;
        }
        found += all.count_ones();
    }
    sync_plane();
    found as usize
}
