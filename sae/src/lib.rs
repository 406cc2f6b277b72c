//! Sparse autoencoders: the training stage of Assay's pipeline, and SAEs of other tools.
//!
//! ```
//! use assay_sae::{Activation, Sae};
//! use burn::tensor::{Device, Tensor};
//!
//! // Two latents, each of which reads and writes one coordinate. The larger one is kept.
//! let device = Device::flex();
//! let weights: Tensor<2> = Tensor::from_data([[1.0_f32, 0.0], [0.0, 1.0]], &device);
//! let biases: Tensor<1> = Tensor::zeros([2], &device);
//! let rule = Activation::TopK { k: 1, by_decoder_norm: false };
//! let sae = Sae::new([weights.clone(), weights], [biases.clone(), biases], rule, false);
//!
//! let x: Tensor<2> = Tensor::from_data([[3.0_f32, 1.0]], &device);
//! let (reconstruction, code) = sae.reconstruct(x);
//! assert_eq!(reconstruction.into_data().try_into_vec::<f32>().unwrap(), [3.0, 0.0]);
//! let mut active = Vec::new();
//! code.for_each_active(|token, latent, value| active.push((token, latent, value)));
//! assert_eq!(active, [(0, 0, 3.0)]);
//! ```
//!
//! - [`config`]: recipes and every setting of a training run.
//! - [`sae`]: an SAE for inference, `encode` and `decode`; [`activation`]: what its architecture decides; [`code`]: its latents.
//! - `kernels`: the operations that take most of the time, per backend; private, because they don't check indices.
//! - [`trainer`]: a training step: `coder` (forward and backward of each class), [`loss`], `objective` (whose gradient a reconstruction
//!   gets), `dead` (the auxiliary loss), `steering` (of a coefficient to a target L0), `skip` (of a transcoder), Adam. `trained`: what can be
//!   read from a trained SAE.
//! - [`formats`]: SAEs on disk, as SAELens, sparsify and dictionary_learning keep them.
//! - [`rows`]: activations in files.
//! - [`checkpoint`]: the state to resume from.
//!
//! This crate sees activations, `[tokens, d_model]`, and doesn't depend on where they come from.

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
