//! The values of tensors in host memory. Reading them waits for the device.

use assay_models::runs_on_cpu;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// The values of a float tensor, row-major.
pub(crate) fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    let mut values = Vec::new();
    read_into(&mut values, x);
    values
}

/// Puts the values of a float tensor, row-major, in the place of others: of as many, in the same memory.
pub(crate) fn read_into<const D: usize>(values: &mut Vec<f32>, x: Tensor<D>) {
    /// Values that a thread copies at a time.
    const PART: usize = 1 << 15;
    let on_cpu = runs_on_cpu(&x.device());
    let data = x.into_data();
    if on_cpu {
        *values = data.try_into_vec::<f32>().expect("activations are f32");
        return;
    }
    // A copy at once. A version that kept what the device had written to, of these and of second moments, gave a few layers other sums in two of
    // three runs, and why was not found. The page faults of new memory take longer than the copy: threads share both.
    let there = data.as_slice::<f32>().expect("activations are f32");
    if values.len() != there.len() {
        *values = vec![0.0; there.len()];
    }
    values.par_chunks_mut(PART).zip(there.par_chunks(PART)).for_each(|(here, there)| here.copy_from_slice(there));
}
