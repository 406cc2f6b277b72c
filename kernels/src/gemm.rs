//! The bf16 product of packed matrices on Hopper; the kernel and its arithmetic are in `gemm.cu`.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;

use crate::packed::{GROUP, Packed, TILE};
use crate::source::{CudaSource, HOPPER};
use crate::tensor::empty;

/// Whether a product of `n` columns and depth `k` can be computed here: on a Hopper GPU, in these shapes.
pub fn suits(client: &Client, n: usize, k: usize) -> bool {
    n.is_multiple_of(8) && k.is_multiple_of(16) && client.properties().identity.fingerprint == HOPPER
}

/// pre = A·Bᵀ + bias in f32, `[m, n]`, and the largest pre·scale of every [`GROUP`] columns, `[m, ceil(n / GROUP)]`.
pub fn scores(a: &Packed, b: &Packed, bias: &CubeTensor, scale: Option<&CubeTensor>) -> (CubeTensor, CubeTensor) {
    let (m, n) = (a.rows, b.rows);
    let out = empty(bias, [m, n], DType::F32);
    let maxima = empty(bias, [m, n.div_ceil(GROUP)], DType::F32);
    let scaled = if scale.is_some() { "1" } else { "0" };
    launch(("SCORES", scaled), a, b, [bias, scale.unwrap_or(bias), &out, &maxima]);
    (out, maxima)
}

/// A·Bᵀ + bias in bf16, `[m, n]`.
pub fn rows(a: &Packed, b: &Packed, bias: &CubeTensor) -> CubeTensor {
    let out = empty(bias, [a.rows, b.rows], DType::BF16);
    launch(("ROWS", "0"), a, b, [bias, bias, &out, bias]);
    out
}

/// An activation function on the way out of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x) with the error function.
    Gelu,
    /// The same by tanh.
    GeluTanh,
    /// max(x, 0)
    Relu,
}

/// activation(A·Bᵀ + bias), packed.
pub fn activated(a: &Packed, b: &Packed, bias: &CubeTensor, activation: Activation) -> Packed {
    let out = Packed::empty(bias, a.rows, b.rows);
    let epilogue = match activation {
        Activation::Gelu => "GELU",
        Activation::GeluTanh => "GELU_TANH",
        Activation::Relu => "RELU",
    };
    launch((epilogue, "0"), a, b, [bias, bias, &out.tensor, bias]);
    out
}

/// A·Bᵀ in f32, `[m, n]`.
pub fn plain(a: &Packed, b: &Packed) -> CubeTensor {
    let out = empty(&a.tensor, [a.rows, b.rows], DType::F32);
    launch(("PLAIN", "0"), a, b, [&a.tensor, &a.tensor, &out, &a.tensor]);
    out
}

/// A·Bᵀ + bias + residual in f32, `[m, n]`.
pub fn add_to(residual: &CubeTensor, a: &Packed, b: &Packed, bias: &CubeTensor) -> CubeTensor {
    let out = empty(bias, [a.rows, b.rows], DType::F32);
    launch(("RESIDUAL", "0"), a, b, [bias, residual, &out, bias]);
    out
}

fn launch(
    (epilogue, scaled): (&'static str, &str),
    a: &Packed,
    b: &Packed,
    [bias, extra, out, maxima]: [&CubeTensor; 4],
) {
    assert_eq!(a.columns, b.columns, "the factors of a product share their depth");
    assert_eq!(b.rows % 8, 0, "the product has a multiple of 8 columns");
    let source = CudaSource {
        entry: "gemm",
        text: include_str!("gemm.cu"),
        defines: vec![("EPILOGUE", epilogue.to_owned()), ("SCALED", scaled.to_owned())],
        threads: 128,
    };
    let blocks = (a.rows.div_ceil(TILE) as u32, b.rows.div_ceil(TILE) as u32, 1);
    let info = [a.rows as u64, b.rows as u64, a.columns as u64];
    source.launch(&bias.client, blocks, &[&a.tensor, &b.tensor, bias, extra, out, maxima], &info);
}
