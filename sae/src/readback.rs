//! The values of tensors in host memory. Reading them waits for the device.

use burn::tensor::{Int, Tensor};

/// The values of a float tensor.
pub(crate) fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().expect("SAE tensors are f32")
}

/// The values of an int tensor.
pub(crate) fn host_int<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32")
}
