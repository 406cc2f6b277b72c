//! The launches of `moments.cu`.

use assay_kernels::source::CudaSource;
use assay_kernels::tensor::{contiguous, dims2};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::ProbeOps;

/// Columns of a block, as in the kernel.
const TILE: usize = 64;

impl ProbeOps for CubeBackend {
    fn probe_moments(rows: CubeTensor, about: CubeTensor, moments: CubeTensor) -> CubeTensor {
        let rows = contiguous(rows);
        let [tokens, d] = dims2(&rows);
        let stretches = d.div_ceil(TILE);
        let source =
            CudaSource { entry: "moments", text: include_str!("moments.cu"), defines: Vec::new(), threads: 256 };
        let blocks = (stretches * (stretches + 1) / 2) as u32;
        source.launch(&rows.client, (blocks, 1, 1), &[&rows, &about, &moments], &[tokens as u64, d as u64]);
        moments
    }
}
