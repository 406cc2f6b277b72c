//! The file cache of compiled kernels, whose code and tests are those of the vendored crate: a GPU is not needed for them.

#[allow(dead_code, reason = "a build without a GPU has no other use for it")]
#[path = "../vendor/cubecl-cuda/src/compute/kernel_cache.rs"]
mod cache;
