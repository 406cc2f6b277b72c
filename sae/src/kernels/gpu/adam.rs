//! Adam in place, in the arithmetic of [`AdamStep`]; for a decoder of unit rows with the renormalisation.

use assay_kernels::tensor::{contiguous, cubes, cubes_for, dims2, len, slice, width_of};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::reduce::{cube_sum, sum_of};
use super::{UNITS, owned, units_for};
use crate::kernels::AdamStep;

/// See [`crate::kernels::adam()`].
pub(super) fn updated(
    param: CubeTensor,
    grad: CubeTensor,
    first: CubeTensor,
    second: CubeTensor,
    clip: CubeTensor,
    step: AdamStep,
    unit_rows: bool,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let (param, grad) = (owned(param), contiguous(grad));
    let (first, second, clip) = (owned(first), owned(second), contiguous(clip));
    let s = step.scalars();
    let scalars = || ScalarsLaunch::new(s.step_size, s.beta1, s.beta2, s.rest1, s.rest2, s.root_bias2, s.eps);
    // SAFETY: the kernels check their positions; the three tensors written to are nobody else's.
    #[allow(unsafe_code)]
    unsafe {
        if unit_rows {
            let [n, d] = dims2(&param);
            let width = width_of(d);
            let units = units_for(d / width);
            adam_unit_rows::launch_unchecked(
                &param.client,
                cubes(n),
                CubeDim::new_1d(units),
                width,
                slice(&param, width),
                slice(&grad, width),
                slice(&first, width),
                slice(&second, width),
                slice(&clip, 1),
                scalars(),
                d / width,
                n,
                (d / width).div_ceil(units as usize),
            );
        } else {
            let width = width_of(len(&param));
            adam::launch_unchecked(
                &param.client,
                cubes_for(len(&param) / width, UNITS),
                CubeDim::new_1d(UNITS as u32),
                width,
                slice(&param, width),
                slice(&grad, width),
                slice(&first, width),
                slice(&second, width),
                slice(&clip, 1),
                scalars(),
                len(&param) / width,
            );
        }
    }
    (param, first, second)
}

/// The scalars of a step, as the kernels want them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Scalars {
    step_size: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    root_bias2: f32,
    eps: f32,
}

#[cube]
fn update<N: Size>(
    param: Vector<f32, N>,
    grad: Vector<f32, N>,
    first: &mut Vector<f32, N>,
    second: &mut Vector<f32, N>,
    s: &Scalars,
) -> Vector<f32, N> {
    *first = *first * Vector::new(s.beta1) + Vector::new(s.rest1) * grad;
    *second = *second * Vector::new(s.beta2) + Vector::new(s.rest2) * grad * grad;
    param - Vector::new(s.step_size) * *first / (second.sqrt() / Vector::new(s.root_bias2) + Vector::new(s.eps))
}

/// Element by element.
#[cube(launch_unchecked)]
fn adam<N: Size>(
    param: &mut [Vector<f32, N>],
    grad: &[Vector<f32, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    clip: &[f32],
    s: Scalars,
    len: usize,
) {
    let at = ABSOLUTE_POS;
    if at < len {
        let mut m = first[at];
        let mut v = second[at];
        param[at] = update(param[at], grad[at] * Vector::new(clip[0]), &mut m, &mut v, &s);
        first[at] = m;
        second[at] = v;
    }
}

/// A cube a row: the new row stays in registers until its norm is known.
#[cube(launch_unchecked)]
fn adam_unit_rows<N: Size>(
    param: &mut [Vector<f32, N>],
    grad: &[Vector<f32, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    clip: &[f32],
    s: Scalars,
    columns: usize,
    rows: usize,
    #[comptime] per_unit: usize,
) {
    let mut scratch = Shared::<[f32]>::new_slice(64usize);
    let row = CUBE_POS;
    if row < rows {
        let mut held = Array::<Vector<f32, N>>::new(per_unit);
        let mut square = 0.0f32;
        #[unroll]
        for i in 0..per_unit {
            let c = i * CUBE_DIM as usize + UNIT_POS as usize;
            held[i] = Vector::new(0.0f32);
            if c < columns {
                let at = row * columns + c;
                let mut m = first[at];
                let mut v = second[at];
                let new = update(param[at], grad[at] * Vector::new(clip[0]), &mut m, &mut v, &s);
                first[at] = m;
                second[at] = v;
                held[i] = new;
                square += sum_of(new * new);
            }
        }
        let norm = cube_sum(square, &mut scratch).sqrt();
        let factor = 1.0f32 / max(norm, f32::MIN_POSITIVE);
        #[unroll]
        for i in 0..per_unit {
            let c = i * CUBE_DIM as usize + UNIT_POS as usize;
            if c < columns {
                param[row * columns + c] = held[i] * Vector::new(factor);
            }
        }
    }
}
