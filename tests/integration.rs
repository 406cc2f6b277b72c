//! All integration tests, in one binary: one link step.
//!
//! - `common`: paths of fixtures, relative errors, safetensors in and out.
//! - `parity_models`: the decoder against transformers.
//! - `parity_sae`: encode, decode and the training step against SAELens.

mod common;
mod parity_models;
mod parity_sae;
