//! The matrix products that models and SAEs share, one idea per file.
//!
//! ```
//! use assay_kernels::cpu::{Matrix, product};
//!
//! let a = [1.0_f32, 2.0, 3.0, 4.0]; // two rows of two
//! let b = [1.0_f32, 0.0, 1.0, 1.0];
//! let mut out = [0.0_f32; 4];
//! product(Matrix::rows(&a, [2, 2], 2), Matrix::rows(&b, [2, 2], 2), &mut out, 2);
//! assert_eq!(out, [3.0, 2.0, 7.0, 4.0]);
//! ```
//!
//! On the CPU:
//!
//! - `cpu`: the f32 product on one thread
//!
//! On the GPU:
//!
//! - `tensor`: contiguous device buffers, and how kernels are launched on them
//! - `source`: kernels written in CUDA C++, compiled and queued by CubeCL like its own
//! - `packed`: matrices in the order in which Hopper's tensor cores read them
//! - `gemm`: the bf16 product of packed matrices
//! - `memory`: how much of a card's memory is free
//! - `product`: the f32 product, one pinned kernel, never TF32
//!
//! All but `cpu` and [`Precision`] exist with a GPU feature only.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod gemm;
#[cfg(feature = "cuda")]
pub mod memory;
#[cfg(feature = "gpu")]
pub mod packed;
#[cfg(feature = "gpu")]
pub mod product;
#[cfg(feature = "cuda")]
pub mod source;
#[cfg(feature = "gpu")]
pub mod tensor;

use serde::{Deserialize, Serialize};

/// Number format of the matrix products in which nearly all of the arithmetic lies: an SAE's encoder in training, and the model's
/// layers where activations are captured for it. Weights, sums and everything else are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 factors, products and sums, never TF32; on Hopper by six bf16 products of numbers in three parts.
    #[default]
    F32,
    /// Factors rounded to bf16, sums in f32 (a GPU's tensor cores).
    Bf16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
