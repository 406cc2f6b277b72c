//! Lists of latents in ascending order: the dead ones, and those that are active so often that their gradients are shared out.

use assay_kernels::tensor::{cubes, empty, len, slice};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The positions where `values`, or `aux`, exceed a limit, in ascending order, and how many there are.
pub(super) fn positions_above(values: &CubeTensor, aux: Option<&CubeTensor>, limit: i32) -> (CubeTensor, CubeTensor) {
    let n = len(values);
    let (list, count) = (empty(values, [n], DType::U32), empty(values, [1], DType::U32));
    // SAFETY: the kernel checks its positions.
    #[allow(unsafe_code)]
    unsafe {
        list_above::launch_unchecked(
            &values.client,
            cubes(1),
            CubeDim::new_1d(1024),
            slice(values, 1),
            slice(aux.unwrap_or(values), 1),
            slice(&list, 1),
            slice(&count, 1),
            limit,
            n,
            aux.is_some(),
        );
    }
    (list, count)
}

/// Writes the positions of `values` that exceed `limit`, or with `aux` those where either does, in ascending order, and their number to
/// `count[0]`. One cube: each unit counts and then writes its own stretch.
#[cube(launch_unchecked)]
fn list_above(
    values: &[i32],
    aux: &[i32],
    list: &mut [u32],
    count: &mut [u32],
    limit: i32,
    len: usize,
    #[comptime] with_aux: bool,
) {
    let mut of_planes = Shared::<[u32]>::new_slice(64usize);
    let units = CUBE_DIM as usize;
    let each = (len + units - 1) / units;
    let from = UNIT_POS as usize * each;
    let mut own = 0u32;
    for i in 0..each {
        let at = from + i;
        if at < len {
            let mut above = values[at] > limit;
            if comptime!(with_aux) {
                above = above || aux[at] > limit;
            }
            own += u32::cast_from(above);
        }
    }
    let before = plane_exclusive_sum(own);
    if UNIT_POS_PLANE == PLANE_DIM - 1 {
        of_planes[PLANE_POS as usize] = before + own;
    }
    sync_cube();
    let mut rank = before;
    let mut total = 0u32;
    for p in 0..(CUBE_DIM / PLANE_DIM) as usize {
        let in_plane = of_planes[p];
        if p < PLANE_POS as usize {
            rank += in_plane;
        }
        total += in_plane;
    }
    for i in 0..each {
        let at = from + i;
        if at < len {
            let mut above = values[at] > limit;
            if comptime!(with_aux) {
                above = above || aux[at] > limit;
            }
            if above {
                list[rank as usize] = at as u32;
                rank += 1u32;
            }
        }
    }
    if UNIT_POS == 0 {
        count[0] = total;
    }
}
