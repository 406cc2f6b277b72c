//! Sums over many activations that a CUDA device makes in f64, where they are; elsewhere the host makes them.

#[cfg(feature = "cuda")]
mod cuda;

use assay_models::runs_on_cuda;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, Int, Tensor};
use ndarray::Array2;
use rayon::prelude::*;

/// Backend operations of the probes.
#[backend_extension(Flex, Cube: cfg(feature = "cuda"))]
pub trait ProbeOps: Backend {
    /// See [`Moments::add`].
    fn probe_moments(_rows: FloatTensor<Self>, _about: IntTensor<Self>, _moments: IntTensor<Self>) -> IntTensor<Self> {
        unreachable!("only devices are asked that say they can")
    }
}

impl ProbeOps for Flex {}

/// Second moments `[d, d]` on a device, in f64. Burn has no f64 there: a number is two integers that hold its bits.
pub(crate) struct Moments {
    d: usize,
    /// The point that they are taken about, once it is known; `[2·d]`.
    about: Option<Tensor<1, Int>>,
    /// `[2·d²]`; of those below the diagonal not all are kept.
    sums: Tensor<1, Int>,
}

impl Moments {
    /// Zeros; `None` where the device can't.
    pub(crate) fn new(d: usize, device: &Device) -> Option<Self> {
        runs_on_cuda(device).then(|| Self { d, about: None, sums: Tensor::zeros([2 * d * d], device) })
    }

    /// Adds Σ_t (x_t − s)(x_t − s)ᵀ, row after row: no bit depends on how rows are cut into batches.
    ///
    /// # Shapes
    /// - `rows`: `[tokens, d]`; `about`: s, `[d]`, always the same
    pub(crate) fn add(&mut self, rows: Tensor<2>, about: &[f64]) {
        let device = rows.device();
        let about = self.about.get_or_insert_with(|| {
            let bits: Vec<i32> = about.iter().flat_map(|value| halves(value.to_bits())).collect();
            Tensor::from_data(bits.as_slice(), &device)
        });
        let about = about.clone().into_dispatch();
        // The kernel writes where it reads.
        let sums = std::mem::replace(&mut self.sums, Tensor::empty([0], &device));
        self.sums = Tensor::from_dispatch(Dispatch::probe_moments(rows.into_dispatch(), about, sums.into_dispatch()));
    }

    /// The sums; waits for the device.
    pub(crate) fn read(self) -> Array2<f64> {
        let d = self.d;
        let bits = self.sums.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32");
        let value = |i: usize, j: usize| {
            let at = 2 * (i.min(j) * d + i.max(j));
            f64::from_bits(u64::from(bits[at] as u32) | u64::from(bits[at + 1] as u32) << 32)
        };
        let mut sums = Array2::zeros((d, d));
        let rows = sums.as_slice_mut().expect("it was just made").par_chunks_mut(d.max(1)).enumerate();
        rows.for_each(|(i, row)| row.iter_mut().enumerate().for_each(|(j, sum)| *sum = value(i, j)));
        sums
    }
}

/// The bits of a number as a little-endian device holds them.
fn halves(bits: u64) -> [i32; 2] {
    [bits as u32 as i32, (bits >> 32) as u32 as i32]
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor};
    use ndarray::ArrayView2;

    use crate::geometry::Covariance;

    /// Widths on both sides of a block's columns, batches of any size, and a common offset.
    #[test]
    fn a_cuda_device_sums_what_the_host_does() {
        let device = Device::cuda(0);
        for d in [1, 5, 64, 65, 200] {
            let (mut here, mut there) = (Covariance::new(d), Covariance::on(&device, d));
            for (seed, tokens) in [(1, 33), (2, 1), (3, 16), (4, 250)] {
                Device::flex().seed(seed);
                let rows: Tensor<2> = Tensor::random([tokens, d], Distribution::Normal(100.0, 3.0), &Device::flex());
                let values = rows.clone().into_data().try_into_vec::<f32>().expect("it was made so");
                let view = ArrayView2::from_shape((tokens, d), &values).expect("it was made so");
                here.add(view);
                there.add(view);
                there.add_on_device(Tensor::from_data(rows.to_data(), &device));
            }
            there.read_device();
            let (here, there) = (here.matrix(), there.matrix());
            for (found, expected) in there.iter().zip(&here) {
                assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{d}: {found}, not {expected}");
            }
            assert_eq!(there, there.t(), "both halves are filled");
        }
    }
}
