//! The values of tensors in host memory. Reading them waits for the device.

use burn::tensor::{Device, Int, Tensor, Transaction};

/// The values of a float tensor.
pub(crate) fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().expect("SAE tensors are f32")
}

/// The values of an int tensor.
pub(crate) fn host_int<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32")
}

/// The values of many small float tensors, one after the other, for which the device is waited for once.
pub(crate) fn host_of_all<const D: usize>(tensors: impl Iterator<Item = Tensor<D>>) -> Vec<f32> {
    let read = tensors.fold(Transaction::default(), Transaction::register).execute();
    read.into_iter().flat_map(|data| data.try_into_vec::<f32>().expect("SAE tensors are f32")).collect()
}

/// Puts host copies in the places of many tensors; the device is waited for once.
pub(crate) fn on_host<const D: usize>(places: Vec<&mut Tensor<D>>) {
    if places.is_empty() {
        return;
    }
    let read =
        places.iter().map(|place| (**place).clone()).fold(Transaction::default(), Transaction::register).execute();
    for (place, data) in places.into_iter().zip(read) {
        *place = Tensor::from_data(data, &Device::flex());
    }
}
