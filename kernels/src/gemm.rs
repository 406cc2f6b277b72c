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
    launch(
        Epilogue { scaled: scale.is_some(), ..Epilogue::new("SCORES") },
        a,
        b,
        [bias, scale.unwrap_or(bias), &out, &maxima],
    );
    (out, maxima)
}

/// A·Bᵀ + bias in bf16, `[m, n]`.
pub fn rows(a: &Packed, b: &Packed, bias: &CubeTensor) -> CubeTensor {
    let out = empty(bias, [a.rows, b.rows], DType::BF16);
    launch(Epilogue::new("ROWS"), a, b, [bias, bias, &out, bias]);
    out
}

/// The same in f32.
pub fn wide_rows(a: &Packed, b: &Packed, bias: &CubeTensor) -> CubeTensor {
    let out = empty(bias, [a.rows, b.rows], DType::F32);
    launch(Epilogue::new("WIDE_ROWS"), a, b, [bias, bias, &out, bias]);
    out
}

/// An activation function on the way out of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonlinearity {
    /// x·Φ(x) with the error function.
    Gelu,
    /// The same by tanh.
    GeluTanh,
    /// max(x, 0)
    Relu,
    /// x·σ(x)
    Silu,
}

impl Nonlinearity {
    fn epilogue(self) -> &'static str {
        match self {
            Self::Gelu => "GELU",
            Self::GeluTanh => "GELU_TANH",
            Self::Relu => "RELU",
            Self::Silu => "SILU",
        }
    }
}

/// activation(A·Bᵀ + bias), packed.
pub fn activated(a: &Packed, b: &Packed, bias: &CubeTensor, activation: Nonlinearity) -> Packed {
    let out = Packed::empty(bias, a.rows, b.rows);
    launch(Epilogue::new(activation.epilogue()), a, b, [bias, bias, &out.tensor, bias]);
    out
}

/// activation(G)·V, packed, of A·Bᵀ + bias where of every 16 columns the first 8 are G's and the others V's: half as wide as that.
pub fn gated(a: &Packed, b: &Packed, bias: &CubeTensor, activation: Nonlinearity) -> Packed {
    let out = Packed::empty(bias, a.rows, b.rows / 2);
    launch(Epilogue { gated: true, ..Epilogue::new(activation.epilogue()) }, a, b, [bias, bias, &out.tensor, bias]);
    out
}

/// A·Bᵀ in f32, `[m, n]`.
pub fn plain(a: &Packed, b: &Packed) -> CubeTensor {
    let out = empty(&a.tensor, [a.rows, b.rows], DType::F32);
    launch(Epilogue::new("PLAIN"), a, b, [&a.tensor, &a.tensor, &out, &a.tensor]);
    out
}

/// A·Bᵀ + bias + residual in f32, `[m, n]`.
pub fn add_to(residual: &CubeTensor, a: &Packed, b: &Packed, bias: &CubeTensor) -> CubeTensor {
    let out = empty(bias, [a.rows, b.rows], DType::F32);
    launch(Epilogue::new("RESIDUAL"), a, b, [bias, residual, &out, bias]);
    out
}

/// What is done with a product: definitions of `gemm.cu`.
struct Epilogue {
    name: &'static str,
    scaled: bool,
    gated: bool,
}

impl Epilogue {
    fn new(name: &'static str) -> Self {
        Self { name, scaled: false, gated: false }
    }
}

fn launch(epilogue: Epilogue, a: &Packed, b: &Packed, [bias, extra, out, maxima]: [&CubeTensor; 4]) {
    assert_eq!(a.columns, b.columns, "the factors of a product share their depth");
    assert_eq!(b.rows % if epilogue.gated { 16 } else { 8 }, 0, "the product has a multiple of 8 columns");
    let flag = |on: bool| u8::from(on).to_string();
    let source = CudaSource {
        entry: "gemm",
        text: include_str!("gemm.cu"),
        defines: vec![
            ("EPILOGUE", epilogue.name.to_owned()),
            ("SCALED", flag(epilogue.scaled)),
            ("GATED", flag(epilogue.gated)),
        ],
        threads: 384,
    };
    // A block fills an SM and takes one tile after another.
    let tiles = (a.rows.div_ceil(TILE) * b.rows.div_ceil(TILE)) as u32;
    let blocks = tiles.min(bias.client.properties().hardware.num_streaming_multiprocessors.unwrap_or(tiles));
    let info = [a.rows as u64, b.rows as u64, a.columns as u64];
    source.launch(&bias.client, (blocks, 1, 1), &[&a.tensor, &b.tensor, bias, extra, out, maxima], &info);
}
