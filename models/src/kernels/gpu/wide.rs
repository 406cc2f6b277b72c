//! The launches of `wide.cu` and `wide_attention.cu`.

use assay_kernels::source::CudaSource;
use assay_kernels::tensor::{contiguous, dims2, empty, len};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::wide::{WideOps, WideShape};

/// Queries of a block, as in the kernel.
const QUERIES: usize = 64;
const THREADS: usize = 256;

impl WideOps for CubeBackend {
    fn wide_attention(qkv: CubeTensor, cos: CubeTensor, sin: CubeTensor, shape: WideShape) -> CubeTensor {
        let [qkv, cos, sin] = [qkv, cos, sin].map(contiguous);
        let WideShape { batch, context, n_heads, n_kv_heads, d_head, rotary_dims, window, scale, cap } = shape;
        let out = empty(&qkv, [batch * context, n_heads * d_head], DType::F32);
        let flag = |on: bool| u8::from(on).to_string();
        let source = CudaSource {
            entry: "wide_attention",
            text: include_str!("../wide_attention.cu"),
            defines: vec![
                ("D_HEAD", d_head.to_string()),
                ("ROT", rotary_dims.to_string()),
                ("WINDOWED", flag(window.is_some())),
                ("CAPPED", flag(cap.is_some())),
            ],
            threads: THREADS as u32,
        };
        let blocks = (context.div_ceil(QUERIES) as u32, n_heads as u32, batch as u32);
        let numbers = [context, n_heads, n_kv_heads, window.unwrap_or(context)].map(|number| number as u64);
        let bits = [scale, cap.unwrap_or(0.0)].map(|number| u64::from((number as f32).to_bits()));
        source.launch(&qkv.client, blocks, &[&qkv, &cos, &sin, &out], &[numbers.as_slice(), &bits].concat());
        out
    }

    fn wide_norm(x: CubeTensor, gain: CubeTensor, bias: CubeTensor, biased: bool, layer: bool, eps: f64) -> CubeTensor {
        let [x, gain, bias] = [x, gain, bias].map(contiguous);
        let [rows, d] = dims2(&x);
        let out = empty(&x, [rows, d], DType::F32);
        let flag = |on: bool| u8::from(on).to_string();
        let defines = vec![("NORM", flag(true)), ("LAYER", flag(layer)), ("BIASED", flag(biased))];
        launch(defines, rows.div_ceil(8), &[&x, &gain, &bias, &out], [rows, d], eps);
        out
    }
}

/// Exact GELU of every element.
pub(super) fn gelu(x: CubeTensor) -> CubeTensor {
    let x = contiguous(x);
    let out = CubeTensor::new_contiguous(
        x.client.clone(),
        x.device.clone(),
        x.meta.shape().clone(),
        x.client.empty(4 * len(&x)),
        DType::F32,
    );
    launch(vec![("GELU", "1".to_owned())], len(&x).div_ceil(THREADS), &[&x, &out], [len(&x), 1], 0.0);
    out
}

fn launch(
    defines: Vec<(&'static str, String)>,
    blocks: usize,
    tensors: &[&CubeTensor],
    [rows, d]: [usize; 2],
    eps: f64,
) {
    let source = CudaSource { entry: "wide", text: include_str!("../wide.cu"), defines, threads: THREADS as u32 };
    let info = [rows as u64, d as u64, u64::from((eps as f32).to_bits())];
    source.launch(&tensors[0].client, (blocks as u32, 1, 1), tensors, &info);
}
