//! The launches of `said.cu`.

use assay_kernels::source::CudaSource;
use assay_kernels::tensor::{contiguous, dims2, empty};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::said::SaidOps;

impl SaidOps for CubeBackend {
    fn said_measure(logits: CubeTensor, labels: CubeTensor) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let (logits, labels) = (contiguous(logits), contiguous(labels));
        let [rows, _] = dims2(&logits);
        let [max, sum, losses] = [0; 3].map(|_| empty(&logits, [rows], DType::F32));
        let largest = empty(&logits, [rows], DType::I32);
        launch("MEASURE", &logits, &[&logits, &labels, &max, &sum, &losses, &largest]);
        (max, sum, losses, largest)
    }

    fn said_divergence(
        logits: CubeTensor,
        max: CubeTensor,
        sum: CubeTensor,
        other: CubeTensor,
        other_max: CubeTensor,
        other_sum: CubeTensor,
    ) -> CubeTensor {
        let (logits, other) = (contiguous(logits), contiguous(other));
        let kl = empty(&logits, [dims2(&logits)[0]], DType::F32);
        launch("DIVERGENCE", &logits, &[&logits, &max, &sum, &other, &other_max, &other_sum, &kl]);
        kl
    }

    fn said_gradient(logits: CubeTensor, labels: CubeTensor, max: CubeTensor, sum: CubeTensor) -> CubeTensor {
        let (logits, labels) = (contiguous(logits), contiguous(labels));
        let out = empty(&logits, dims2(&logits), DType::F32);
        launch("GRADIENT", &logits, &[&logits, &labels, &max, &sum, &out]);
        out
    }
}

/// A block a row.
fn launch(what: &'static str, logits: &CubeTensor, tensors: &[&CubeTensor]) {
    let [rows, vocab] = dims2(logits);
    let width = if vocab.is_multiple_of(4) { 4 } else { 1 };
    let source = CudaSource {
        entry: "said",
        text: include_str!("../said.cu"),
        defines: vec![(what, "1".to_owned()), ("WIDTH", width.to_string())],
        threads: 512,
    };
    source.launch(&logits.client, (rows as u32, 1, 1), tensors, &[vocab as u64]);
}
