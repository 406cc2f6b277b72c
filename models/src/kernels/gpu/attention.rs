//! The launch of `attention.cu`.

use assay_kernels::packed::{Packed, TILE};
use assay_kernels::source::CudaSource;
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::block::BlockShape;

/// The widest head that a thread's registers hold.
pub const WIDEST_HEAD: usize = 256;

/// What the heads mix of `qkv`, queries and keys rotated by the tables if there are any.
pub fn attention(qkv: &CubeTensor, tables: Option<&[CubeTensor; 2]>, shape: &BlockShape) -> Packed {
    const WARPS: usize = 4;
    let BlockShape { batch, context, attention, kind, .. } = *shape;
    let out = Packed::empty(qkv, batch * context, attention.d_q());
    let rotary_dims = if tables.is_some() { shape.rotary_dims } else { 0 };
    // A window that reaches back to the start hides nothing.
    let window = kind.window.filter(|&window| window < context);
    let flag = |on: bool| u8::from(on).to_string();
    let source = CudaSource {
        entry: "attention",
        text: include_str!("../attention.cu"),
        defines: vec![
            ("D_HEAD", attention.d_head.to_string()),
            ("ROT", rotary_dims.to_string()),
            ("WINDOWED", flag(window.is_some())),
            ("CAPPED", flag(attention.score_cap.is_some())),
        ],
        threads: 32 * WARPS as u32,
    };
    let blocks = (context.div_ceil(16 * WARPS) as u32, attention.n_heads as u32, batch as u32);
    debug_assert_eq!(out.tensor.meta.shape().dims::<4>()[2], TILE);
    let bits = |x: f32| u64::from(x.to_bits());
    let log2_e = std::f32::consts::LOG2_E;
    let info = [
        context as u64,
        attention.n_heads as u64,
        attention.n_kv_heads as u64,
        (out.columns / 8) as u64,
        window.unwrap_or(0) as u64,
        bits(log2_e / (1.0 / kind.score_scale) as f32),
        bits(log2_e * attention.score_cap.unwrap_or(1.0) as f32),
    ];
    // Without a rotation the tables are not read.
    let [cos, sin] = tables.map_or([qkv, qkv], |[cos, sin]| [cos, sin]);
    source.launch(&qkv.client, blocks, &[qkv, cos, sin, &out.tensor], &info);
    out
}
