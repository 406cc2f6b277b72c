//! TopK sparse autoencoders: the training stage of Assay's pipeline.
//!
//! - [`config`]: recipes and every setting of a training run.
//! - [`coder`]: an SAE for inference, `encode` and `decode`.
//! - [`kernels`]: the operations in which the time goes, per backend.
//! - [`trainer`]: the closed-form training step: losses, gradients, Adam.
//! - [`checkpoint`]: SAELens directories, and the state to resume from.
//!
//! This crate knows activations, `[tokens, d_model]`, and nothing of where they come from.

pub mod checkpoint;
pub mod coder;
pub mod config;
pub mod error;
pub mod kernels;
pub mod trainer;

pub use coder::{Sae, SparseCode};
pub use config::{DecoderBias, DecoderNorm, InputScaling, Loss, Recipe, TrainConfig};
pub use error::SaeError;
pub use kernels::Precision;
pub use trainer::{StepLoss, Trainer};
