//! Where the rows of a code start, from how many entries each has.

use assay_kernels::tensor::{cubes, empty, len, slice};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::reduce::smaller;

/// The starts of the rows of two codes of so many entries per row, `[rows + 1]` each, and how many entries there are of both, `[2]`; of the
/// first also as a float. No row starts behind the room of its code.
pub(super) fn starts_of_both(counts: &[CubeTensor; 2], room: [usize; 2]) -> ([CubeTensor; 2], CubeTensor, CubeTensor) {
    let rows = len(&counts[0]);
    let starts = [0; 2].map(|_| empty(&counts[0], [rows + 1], DType::I32));
    let (totals, first) = (empty(&counts[0], [2], DType::I32), empty(&counts[0], [1], DType::F32));
    let room = room.map(|room| i32::try_from(room).unwrap_or(i32::MAX));
    // SAFETY: the kernel checks its positions.
    #[allow(unsafe_code)]
    unsafe {
        scan_both::launch_unchecked(
            &counts[0].client,
            cubes(2),
            CubeDim::new_1d(1024),
            slice(&counts[0], 1),
            slice(&counts[1], 1),
            slice(&starts[0], 1),
            slice(&starts[1], 1),
            slice(&totals, 1),
            slice(&first, 1),
            room[0],
            room[1],
            rows,
        );
    }
    (starts, totals, first)
}

/// The starts of rows of so many entries and as many of their ties as are left when the rows before have theirs, `[rows + 1]`; and how
/// many of its own each row takes, `[rows]`. How many are taken in all is the number at `place` of `state`.
pub(super) fn starts_with_ties(
    counts: &CubeTensor,
    ties: &CubeTensor,
    state: &CubeTensor,
    place: usize,
) -> (CubeTensor, CubeTensor) {
    let rows = len(counts);
    let starts = empty(counts, [rows + 1], DType::I32);
    let taken = empty(counts, [rows], DType::I32);
    // SAFETY: the kernel checks its positions.
    #[allow(unsafe_code)]
    unsafe {
        scan_with_ties::launch_unchecked(
            &counts.client,
            cubes(1),
            CubeDim::new_1d(1024),
            slice(counts, 1),
            slice(ties, 1),
            slice(state, 1),
            slice(&starts, 1),
            slice(&taken, 1),
            rows,
            place,
        );
    }
    (starts, taken)
}

/// The sum of `own` over the units before this one, and over all of the cube.
#[cube]
fn before_and_all(own: i32, of_planes: &mut Shared<[i32]>) -> Vector<i32, Const<2>> {
    let before = plane_exclusive_sum(own);
    if UNIT_POS_PLANE == PLANE_DIM - 1 {
        of_planes[PLANE_POS as usize] = before + own;
    }
    sync_cube();
    let mut rank = before;
    let mut all = 0i32;
    for p in 0..(CUBE_DIM / PLANE_DIM) as usize {
        let in_plane = of_planes[p];
        if p < PLANE_POS as usize {
            rank += in_plane;
        }
        all += in_plane;
    }
    sync_cube();
    let mut out = Vector::<i32, Const<2>>::empty();
    out.insert(0usize, rank);
    out.insert(1usize, all);
    out
}

/// Exclusive sums of `counts`, none above `room`, by one cube: each unit does a stretch of rows. Returns the sum of all.
#[cube]
fn sums_of(counts: &[i32], starts: &mut [i32], room: i32, rows: usize, of_planes: &mut Shared<[i32]>) -> i32 {
    let units = CUBE_DIM as usize;
    let each = (rows + units - 1) / units;
    let from = smaller(UNIT_POS as usize * each, rows);
    let to = smaller(from + each, rows);
    let mut own = 0i32;
    for row in from..to {
        own += counts[row];
    }
    let sums = before_and_all(own, of_planes);
    let mut start = sums.extract(0usize);
    for row in from..to {
        starts[row] = min(start, room);
        start += counts[row];
    }
    let total = sums.extract(1usize);
    if UNIT_POS == 0 {
        starts[rows] = min(total, room);
    }
    total
}

#[cube(launch_unchecked)]
fn scan_both(
    counts: &[i32],
    low_counts: &[i32],
    starts: &mut [i32],
    low_starts: &mut [i32],
    totals: &mut [i32],
    first: &mut [f32],
    room: i32,
    low_room: i32,
    rows: usize,
) {
    let mut of_planes = Shared::<[i32]>::new_slice(64usize);
    if CUBE_POS == 0 {
        let total = sums_of(counts, starts, room, rows, &mut of_planes);
        if UNIT_POS == 0 {
            totals[0] = total;
            first[0] = f32::cast_from(total);
        }
    } else {
        let total = sums_of(low_counts, low_starts, low_room, rows, &mut of_planes);
        if UNIT_POS == 0 {
            totals[1] = total;
        }
    }
}

/// First every row takes its ties, then as above.
#[cube(launch_unchecked)]
fn scan_with_ties(
    counts: &[i32],
    ties: &[i32],
    state: &[i32],
    starts: &mut [i32],
    taken: &mut [i32],
    rows: usize,
    place: usize,
) {
    let mut of_planes = Shared::<[i32]>::new_slice(64usize);
    let units = CUBE_DIM as usize;
    let each = (rows + units - 1) / units;
    let from = smaller(UNIT_POS as usize * each, rows);
    let to = smaller(from + each, rows);
    let mut own = 0i32;
    for row in from..to {
        own += ties[row];
    }
    let sums = before_and_all(own, &mut of_planes);
    let mut left = state[place] - sums.extract(0usize);
    own = 0i32;
    for row in from..to {
        let mut of_row = 0i32;
        if left > 0 {
            of_row = select(ties[row] < left, ties[row], left);
        }
        left -= of_row;
        taken[row] = of_row;
        own += counts[row] + of_row;
    }
    let sums = before_and_all(own, &mut of_planes);
    let mut start = sums.extract(0usize);
    for row in from..to {
        starts[row] = start;
        // Each unit reads what it wrote itself.
        start += counts[row] + taken[row];
    }
    if UNIT_POS == 0 {
        starts[rows] = sums.extract(1usize);
    }
}
