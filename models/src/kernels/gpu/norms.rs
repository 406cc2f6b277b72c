//! The launches of `norm.cu` and `qk_norm.cu`.

use assay_kernels::packed::Packed;
use assay_kernels::source::CudaSource;
use assay_kernels::tensor::{dims2, empty};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::config::QkNorm;
use crate::kernels::block::{BlockShape, NormOf};

/// The widest residual stream that a block's registers hold.
pub const WIDEST_STREAM: usize = 8192;
/// The widest vector of all heads that fits into shared memory.
pub const WIDEST_FLAT: usize = 12_032;

/// The norms of the residual stream.
pub struct StreamNorm {
    /// Added to the variance, or to the mean square.
    pub eps: f64,
}

type Norm = NormOf<CubeBackend>;

impl StreamNorm {
    /// x through a norm, or as it is, packed.
    pub fn one(&self, x: &CubeTensor, norm: &Norm) -> Packed {
        let [rows, d] = dims2(x);
        let packed = Packed::empty(x, rows, d);
        self.launch(x, None, &[(norm, &packed)]);
        packed
    }

    /// x through two norms.
    pub fn both(&self, x: &CubeTensor, first: &Norm, second: &Norm) -> [Packed; 2] {
        let [rows, d] = dims2(x);
        let [a, b] = [Packed::empty(x, rows, d), Packed::empty(x, rows, d)];
        self.launch(x, None, &[(first, &a), (second, &b)]);
        [a, b]
    }

    /// x + post(y), and that through the next norm, or as it is, packed.
    pub fn added(&self, x: &CubeTensor, y: &CubeTensor, post: &Norm, next: &Norm) -> (CubeTensor, Packed) {
        let [rows, d] = dims2(x);
        let (sum, packed) = (empty(x, [rows, d], DType::F32), Packed::empty(x, rows, d));
        self.launch(x, Some((y, post, &sum)), &[(next, &packed)]);
        (sum, packed)
    }

    /// x + post(y).
    pub fn sum(&self, x: &CubeTensor, y: &CubeTensor, post: &Norm) -> CubeTensor {
        let sum = empty(x, dims2(x), DType::F32);
        self.launch(x, Some((y, post, &sum)), &[]);
        sum
    }

    fn launch(&self, x: &CubeTensor, add: Option<(&CubeTensor, &Norm, &CubeTensor)>, outputs: &[(&Norm, &Packed)]) {
        let [rows, d] = dims2(x);
        // As in norm.cu: threads that share a row, and rows of a block.
        let lanes = match d {
            0..=1024 => 32,
            1025..=2048 => 64,
            2049..=4096 => 128,
            _ => 256,
        };
        let block_rows = if lanes <= 128 { 8 } else { 4 };
        let norms = || add.iter().map(|(_, post, _)| *post).chain(outputs.iter().map(|(norm, _)| *norm));
        let flag = |on: bool| u8::from(on).to_string();
        let source = CudaSource {
            entry: "stream_norm",
            text: include_str!("../norm.cu"),
            defines: vec![
                ("D", d.to_string()),
                ("RMS", flag(norms().any(|norm| matches!(norm, NormOf::Rms(_))))),
                ("ADD", flag(add.is_some())),
                ("RAW", flag(outputs.iter().any(|(norm, _)| matches!(norm, NormOf::None)))),
                ("OUTPUTS", outputs.len().to_string()),
            ],
            threads: (block_rows * lanes) as u32,
        };
        // What is not used may be any buffer.
        let affine = |norm: Option<&'_ Norm>| -> [CubeTensor; 2] {
            match norm {
                Some(NormOf::Layer(gain, bias)) => [gain.clone(), bias.clone()],
                Some(NormOf::Rms(gain)) => [gain.clone(), gain.clone()],
                Some(NormOf::None) | None => [x.clone(), x.clone()],
            }
        };
        let [w0, b0] = affine(add.map(|(_, post, _)| post));
        let [w1, b1] = affine(outputs.first().map(|(norm, _)| *norm));
        let [w2, b2] = affine(outputs.get(1).map(|(norm, _)| *norm));
        let (y, sum) = add.map_or((x, x), |(y, _, sum)| (y, sum));
        let packed = |index: usize| outputs.get(index).map_or(x, |(_, packed)| &packed.tensor);
        let tensors = [x, y, &w0, &b0, &w1, &b1, &w2, &b2, sum, packed(0), packed(1)];
        let info = [rows as u64, u64::from((self.eps as f32).to_bits())];
        source.launch(&x.client, (rows.div_ceil(block_rows) as u32, 1, 1), &tensors, &info);
    }
}

/// Norms the queries and keys of `qkv` and rotates them by the tables if there are any, in place.
pub fn qk_norm(qkv: &CubeTensor, gains: [&CubeTensor; 2], tables: Option<&[CubeTensor; 2]>, shape: &BlockShape) {
    const THREADS: usize = 256;
    let BlockShape { attention, context, .. } = *shape;
    let rows = dims2(qkv)[0];
    // As in qk_norm.cu: vectors of a row that are normed, and threads that share one.
    let (vectors, lanes) = match attention.qk_norm {
        QkNorm::Flat => (2, THREADS),
        QkNorm::PerHead | QkNorm::None => (attention.n_heads + attention.n_kv_heads, 32),
    };
    let source = CudaSource {
        entry: "qk_norm",
        text: include_str!("../qk_norm.cu"),
        defines: vec![
            ("D_HEAD", attention.d_head.to_string()),
            ("HEADS", attention.n_heads.to_string()),
            ("KV_HEADS", attention.n_kv_heads.to_string()),
            ("ROT", if tables.is_some() { shape.rotary_dims } else { 0 }.to_string()),
            ("FLAT", u8::from(attention.qk_norm == QkNorm::Flat).to_string()),
        ],
        threads: THREADS as u32,
    };
    let blocks = ((rows * vectors).div_ceil(THREADS / lanes) as u32, 1, 1);
    let info = [rows as u64, context as u64, u64::from((shape.norm.eps as f32).to_bits())];
    let [cos, sin] = tables.map_or([qkv, qkv], |[cos, sin]| [cos, sin]);
    source.launch(&qkv.client, blocks, &[qkv, gains[0], gains[1], cos, sin], &info);
}
