//! Sparse autoencoders: the training stage of Assay's pipeline, and SAEs of other tools.
//!
//! - [`config`]: recipes and every setting of a training run.
//! - [`sae`]: an SAE for inference, `encode` and `decode`; [`activation`]: what its architecture decides; [`code`]: its latents.
//! - `kernels`: the operations in which the time goes, per backend; private, for they don't check indices.
//! - [`trainer`]: a training step: `coder` (forward and backward of each class), [`loss`], `objective` (whose gradient a reconstruction
//!   gets), `dead` (the auxiliary loss), `steering` (of a coefficient to a target L0), `skip` (of a transcoder), Adam. `trained`: what is
//!   read of it.
//! - [`formats`]: SAEs on disk, as SAELens, sparsify and dictionary_learning keep them.
//! - [`rows`]: activations in files.
//! - [`checkpoint`]: the state to resume from.
//!
//! This crate knows activations, `[tokens, d_model]`, and nothing of where they come from.

pub mod activation;
mod average;
pub mod checkpoint;
pub mod code;
mod coder;
pub mod config;
mod dead;
pub mod error;
pub mod formats;
mod initial;
mod kernels;
pub mod loss;
mod moments;
mod objective;
mod profile;
mod pursuit;
mod readback;
pub mod rows;
mod running;
pub mod sae;
mod skip;
mod steering;
mod tensors;
mod trained;
pub mod trainer;

pub use activation::{Activation, Normalization, Pursuit};
pub use checkpoint::STATE_FILE;
pub use code::{Code, SparseCode};
pub use config::{
    Architecture, DecoderBias, DecoderNorm, InputScaling, Knob, Loss, Objective, Recipe, Task, TrainConfig,
};
pub use error::SaeError;
pub use formats::{Format, LoadedSae, Metadata};
pub use initial::Initial;
pub use kernels::{Precision, product};
pub use loss::{Fault, StepLoss, TermKind};
pub use moments::Moments;
pub use objective::Divergence;
pub use rows::Rows;
pub use sae::{Sae, Transcoding};
pub use tensors::NpyHeader;
pub use trainer::{Forward, Trainer};
