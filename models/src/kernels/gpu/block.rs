//! A decoder block on Hopper, kernel by kernel.

use assay_kernels::gemm::{self, Nonlinearity};
use assay_kernels::packed::Packed;
use assay_kernels::source::HOPPER;
use assay_kernels::tensor::{contiguous, dims2, in_f32, len};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::attention::{WIDEST_HEAD, attention};
use super::norms::{StreamNorm, WIDEST_FLAT, WIDEST_STREAM, qk_norm};
use crate::config::{Act, DecoderConfig, Layout, QkNorm};
use crate::kernels::block::{BlockOf, BlockShape, GainsOf, MapOf, NormOf, TablesOf};

/// What the kernels are not made for, if a device or a model is that.
pub fn refusal(fingerprint: Option<&str>, config: &DecoderConfig) -> Option<String> {
    if fingerprint != Some(HOPPER) {
        return Some("layers in bf16 need a Hopper GPU (compute capability 9.0)".to_owned());
    }
    let attention = &config.attention;
    let widths = [("d_model", config.d_model, WIDEST_STREAM), ("d_head", attention.d_head, WIDEST_HEAD)];
    for (name, width, most) in widths {
        if !width.is_multiple_of(16) || width > most {
            return Some(format!("{name} is {width}, and layers in bf16 need a multiple of 16 up to {most}"));
        }
    }
    let normed = attention.d_q().max(attention.d_kv());
    if attention.qk_norm == QkNorm::Flat && normed > WIDEST_FLAT {
        return Some(format!(
            "queries of {normed} dimensions are normed as a whole, and layers in bf16 take up to {WIDEST_FLAT}"
        ));
    }
    None
}

pub fn pack(weight: CubeTensor) -> CubeTensor {
    let weight = contiguous(in_f32(weight));
    let [rows, columns] = dims2(&weight);
    Packed::from_f32(&weight, rows, columns).tensor
}

pub fn run(
    x: CubeTensor,
    weights: &BlockOf<CubeBackend>,
    tables: TablesOf<CubeBackend>,
    shape: &BlockShape,
) -> CubeTensor {
    let x = contiguous(x);
    let tables = match tables {
        TablesOf::None => None,
        TablesOf::Some(cos, sin) => Some([cos, sin].map(contiguous)),
    };
    let block = Block { weights, tables, shape };
    let norm = StreamNorm { eps: shape.norm.eps };
    if shape.layout == Layout::Parallel {
        let [to_attn, to_mlp] = norm.both(&x, &weights.norm_attn, &weights.norm_mlp);
        let x = add_to(&x, &block.mix(&to_attn), &weights.attn_out);
        return add_to(&x, &block.hidden(&to_mlp), &weights.down);
    }
    let to_attn = norm.one(&x, &weights.norm_attn);
    let mixed = block.mix(&to_attn);
    let (x, to_mlp) = match &weights.post_attn {
        NormOf::None => {
            let x = add_to(&x, &mixed, &weights.attn_out);
            let to_mlp = norm.one(&x, &weights.norm_mlp);
            (x, to_mlp)
        }
        post => {
            let out = gemm::wide_rows(&mixed, &packed(&weights.attn_out, &mixed), &weights.attn_out.bias);
            norm.added(&x, &out, post, &weights.norm_mlp)
        }
    };
    let hidden = block.hidden(&to_mlp);
    match &weights.post_mlp {
        NormOf::None => add_to(&x, &hidden, &weights.down),
        post => norm.sum(&x, &gemm::wide_rows(&hidden, &packed(&weights.down, &hidden), &weights.down.bias), post),
    }
}

struct Block<'a> {
    weights: &'a BlockOf<CubeBackend>,
    tables: Option<[CubeTensor; 2]>,
    shape: &'a BlockShape,
}

impl Block<'_> {
    /// What the heads mix.
    fn mix(&self, input: &Packed) -> Packed {
        let map = &self.weights.qkv;
        let qkv = gemm::rows(input, &packed(map, input), &map.bias);
        match &self.weights.qk_norm {
            GainsOf::None => attention(&qkv, self.tables.as_ref(), self.shape),
            GainsOf::Some(q, k) => {
                // Rotates as well.
                qk_norm(&qkv, [q, k], self.tables.as_ref(), self.shape);
                attention(&qkv, None, self.shape)
            }
        }
    }

    /// What the MLP's last map reads.
    fn hidden(&self, input: &Packed) -> Packed {
        let map = &self.weights.up;
        let act = match self.shape.mlp.act {
            Act::Gelu => Nonlinearity::Gelu,
            Act::GeluTanh => Nonlinearity::GeluTanh,
            Act::Relu => Nonlinearity::Relu,
            Act::Silu => Nonlinearity::Silu,
        };
        let product = if self.shape.mlp.gated { gemm::gated } else { gemm::activated };
        product(input, &packed(map, input), &map.bias, act)
    }
}

/// A weight as the product with `factor` sees it.
fn packed(map: &MapOf<CubeBackend>, factor: &Packed) -> Packed {
    Packed { tensor: map.weight.clone(), rows: len(&map.bias), columns: factor.columns }
}

fn add_to(x: &CubeTensor, factor: &Packed, map: &MapOf<CubeBackend>) -> CubeTensor {
    gemm::add_to(x, factor, &packed(map, factor), &map.bias)
}
