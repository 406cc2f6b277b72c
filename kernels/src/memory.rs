//! How much memory a CUDA device has left.

use cudarc::driver::CudaContext;

/// Bytes that are free on the device of that number; `None` if the driver doesn't say.
pub fn free_bytes(index: usize) -> Option<u64> {
    let context = CudaContext::new(index).ok()?;
    context.mem_get_info().ok().map(|(free, _)| free as u64)
}
