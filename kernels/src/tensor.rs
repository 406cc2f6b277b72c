//! Contiguous device tensors, and how kernels see them.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeCount;
use cubecl::prelude::BufferArg;

/// The tensor in row-major order without gaps.
pub fn contiguous(x: CubeTensor) -> CubeTensor {
    into_contiguous(x)
}

/// The tensor in f32, which for the floats of weights is exact. A cast may lay the rows of a matrix apart.
pub fn in_f32(x: CubeTensor) -> CubeTensor {
    if x.dtype == DType::F32 { x } else { CubeBackend::float_cast(x, FloatDType::F32) }
}

/// A new tensor on the device of `like`, in row-major order, not initialised: its maker's kernel writes every element.
pub fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let handle = like.client.empty(bytes);
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), Shape::from(shape), handle, dtype)
}

/// A new tensor of zeros, without gaps between its rows.
pub fn zeros<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    // In one dimension: of a matrix CubeCL may lay the rows apart.
    let flat = Shape::from([shape.iter().product::<usize>()]);
    let zeros = burn_cubecl::ops::numeric::zeros_client(like.client.clone(), like.device.clone(), flat, dtype);
    reshaped(zeros, Shape::from(shape))
}

/// A tensor without gaps in another shape of as many elements.
pub fn reshaped(x: CubeTensor, shape: Shape) -> CubeTensor {
    debug_assert_eq!(len(&x), shape.num_elements());
    CubeTensor::new_contiguous(x.client, x.device, shape, x.handle, x.dtype)
}

/// The shape of a matrix.
pub fn dims2(x: &CubeTensor) -> [usize; 2] {
    x.meta.shape().dims::<2>()
}

/// Elements of a tensor.
pub fn len(x: &CubeTensor) -> usize {
    x.meta.shape().num_elements()
}

/// A contiguous tensor as a kernel's slice, in vectors of `width` elements.
pub fn slice(x: &CubeTensor, width: usize) -> BufferArg {
    debug_assert_eq!(len(x) % width, 0);
    // SAFETY: the length is that of the tensor's own buffer, which has no gaps.
    #[allow(unsafe_code)]
    unsafe {
        BufferArg::from_raw_parts(x.handle.clone(), len(x) / width)
    }
}

/// The widest vector, up to four elements, into which rows of `columns` can be cut.
pub fn width_of(columns: usize) -> usize {
    [4, 2, 1].into_iter().find(|&w| columns.is_multiple_of(w)).unwrap_or(1)
}

/// Enough cubes of `units` for `work` items, folded into two dimensions where one is too short.
pub fn cubes_for(work: usize, units: usize) -> CubeCount {
    cubes(work.div_ceil(units))
}

/// `count` cubes, or a few more, folded into two dimensions where one is too short: kernels check their position.
pub fn cubes(count: usize) -> CubeCount {
    const MOST: usize = 65_535;
    if count <= MOST {
        CubeCount::Static(count.max(1) as u32, 1, 1)
    } else {
        let rows = count.div_ceil(MOST);
        CubeCount::Static(count.div_ceil(rows) as u32, rows as u32, 1)
    }
}
