//! How work is spread on a device.

use burn::tensor::Device;
use rayon::prelude::*;

/// Whether a device is the CPU, where work on tensors is spread over threads. A GPU is only ever used from one thread: each would
/// get a queue of its own, whose work waits for that of the others and for no good.
pub fn runs_on_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// Whether a device is a GPU that CUDA drives, for which there are kernels that others do not have.
pub fn runs_on_cuda(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    if let burn::backend::DispatchDevice::Cube(burn_cubecl::CubeDevice::Cuda(_)) = device.as_dispatch() {
        return true;
    }
    let _ = device;
    false
}

/// Does something with each item, side by side on the CPU and one after the other on a GPU (see [`runs_on_cpu`]); the results are
/// in the order of the items.
///
/// # Errors
/// The first that comes up; what has not been begun is left.
pub fn side_by_side<T: Send, R: Send, E: Send>(
    device: &Device,
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, E> + Sync + Send,
) -> Result<Vec<R>, E> {
    if runs_on_cpu(device) { items.into_par_iter().map(work).collect() } else { items.into_iter().map(work).collect() }
}
