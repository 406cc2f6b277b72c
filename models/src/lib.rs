//! From text to activations: the first stages of Assay's pipeline.
//!
//! ```
//! use std::path::Path;
//!
//! use assay_models::tokens::{Reading, read_sequences};
//! use assay_models::{Decoder, HookPoint, Site};
//! use burn::tensor::Device;
//!
//! let model = Decoder::load(Path::new("bundled/small"), &Device::flex())?;
//! let (tokens, _) = read_sequences(Path::new("bundled/eval.parquet"), &Reading::tokens(), Some(2), Some(64))?;
//! let hook: HookPoint = "blocks.3.hook_resid_post".parse()?;
//! let activations = model.capture(tokens.view(), &[Site::from(hook)])?;
//! assert_eq!(activations[0].dims(), [2, 64, 128]); // sequences, tokens, d_model
//! # Ok::<(), assay_models::ModelError>(())
//! ```
//!
//! 1. `corpus`: documents from text, JSON and parquet.
//! 2. [`tokens`]: documents and pre-tokenised datasets as fixed contexts of token ids.
//! 3. [`decoder`] and [`hooks`]: a language model, of one of the families of `families`, whose activations can be captured at a hook
//!    point, replaced there, and differentiated against ([`loss`]).
//! 4. [`activations`]: the shuffled stream of activations that an SAE is trained on. [`ContextStream`] has the same tokens in whole contexts,
//!    for SAEs that are trained on the model's predictions ([`CleanPass`]).

pub mod activations;
pub mod config;
mod contexts;
mod corpus;
pub mod decoder;
pub mod device;
mod divergence;
pub mod error;
mod families;
mod files;
mod fingerprint;
mod finite;
pub mod gguf;
pub mod hooks;
mod inventory;
mod kernels;
mod keys;
pub mod loss;
pub mod memory;
mod model_files;
mod parquet;
pub mod place;
mod reading;
mod rotary;
mod said;
pub mod summary;
pub mod tokens;
pub mod vocabulary;
pub mod weights;

pub use activations::{ActivationStream, Round, StreamConfig};
pub use assay_kernels::Precision;
pub use config::{DecoderConfig, Family};
pub use contexts::ContextStream;
pub use corpus::objects::{objects, whole_text};
pub use decoder::{Decoder, LoadedWeights};
pub use device::{runs_on_cpu, runs_on_cuda, side_by_side};
pub use divergence::{CleanPass, clean_pass_bytes, kl_divergence};
pub use error::ModelError;
pub use files::{open_regular, read_text};
pub use finite::first_not_finite;
pub use hooks::{HookKind, HookPoint, Site};
pub use model_files::ModelFiles;
pub use parquet::FloatLists;
pub use said::Said;
pub use tokens::{Reading, RowUse, TokenSource};
