//! Where the rows of a code start, from how many entries each has.

use assay_kernels::tensor::{cubes, empty, slice};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::reduce::smaller;

/// Entries of rows that share a number of ties among them: each takes what is left when those before it have theirs.
pub(super) struct Ties<'a> {
    /// Ties of each row.
    pub of_rows: &'a CubeTensor,
    /// At `[1]` how many are taken in all.
    pub state: &'a CubeTensor,
}

/// The starts of rows of so many entries, `[rows + 1]`; with ties, also how many of its own each row takes, `[rows]`.
pub(super) fn starts(counts: &CubeTensor, rows: usize, ties: Option<Ties<'_>>) -> (CubeTensor, Option<CubeTensor>) {
    let starts = empty(counts, [rows + 1], DType::I32);
    let taken = ties.as_ref().map(|_| empty(counts, [rows], DType::I32));
    let (of_rows, state) = ties.as_ref().map_or((counts, counts), |ties| (ties.of_rows, ties.state));
    // SAFETY: the kernel checks its positions.
    #[allow(unsafe_code)]
    unsafe {
        scan::launch_unchecked(
            &counts.client,
            cubes(1),
            CubeDim::new_1d(1024),
            slice(counts, 1),
            slice(of_rows, 1),
            slice(state, 1),
            slice(&starts, 1),
            slice(taken.as_ref().unwrap_or(&starts), 1),
            rows,
            ties.is_some(),
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

/// Exclusive sums of `counts`, or with ties of counts + what a row takes of them, by one cube: each unit does a stretch of rows.
#[cube(launch_unchecked)]
fn scan(
    counts: &[i32],
    ties: &[i32],
    state: &[i32],
    starts: &mut [i32],
    taken: &mut [i32],
    rows: usize,
    #[comptime] with_ties: bool,
) {
    let mut of_planes = Shared::<[i32]>::new_slice(64usize);
    let units = CUBE_DIM as usize;
    let each = (rows + units - 1) / units;
    let from = smaller(UNIT_POS as usize * each, rows);
    let to = smaller(from + each, rows);
    let mut own = 0i32;
    if comptime!(with_ties) {
        let mut own_ties = 0i32;
        for row in from..to {
            own_ties += ties[row];
        }
        let sums = before_and_all(own_ties, &mut of_planes);
        let mut left = state[1] - sums.extract(0usize);
        for row in from..to {
            let mut of_row = 0i32;
            if left > 0 {
                of_row = select(ties[row] < left, ties[row], left);
            }
            left -= of_row;
            taken[row] = of_row;
            own += counts[row] + of_row;
        }
    } else {
        for row in from..to {
            own += counts[row];
        }
    }
    let sums = before_and_all(own, &mut of_planes);
    let mut start = sums.extract(0usize);
    for row in from..to {
        starts[row] = start;
        start += counts[row];
        if comptime!(with_ties) {
            start += taken[row];
        }
    }
    if UNIT_POS == 0 {
        starts[rows] = sums.extract(1usize);
    }
}
