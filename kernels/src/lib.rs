//! What models and SAEs share on the GPU, one idea a file:
//!
//! - [`tensor`]: contiguous device buffers, and how kernels are launched on them
//! - [`source`]: kernels written in CUDA C++, compiled and queued by CubeCL like its own
//! - [`packed`]: matrices in the order in which Hopper's tensor cores read them
//! - [`gemm`]: the bf16 product of packed matrices
//! - [`product`]: the f32 product, one pinned kernel, never TF32
//!
//! Everything here exists with a GPU feature only; the CPU has its own product.

#[cfg(feature = "cuda")]
pub mod gemm;
#[cfg(feature = "gpu")]
pub mod packed;
#[cfg(feature = "gpu")]
pub mod product;
#[cfg(feature = "cuda")]
pub mod source;
#[cfg(feature = "gpu")]
pub mod tensor;
