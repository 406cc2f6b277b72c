//! The decoder, with hook points.
//!
//! All weights are plain tensors: a gradient with respect to an activation builds no weight gradients.

mod attention;
mod back;
mod block;
mod buffers;
mod capture;
mod cut;
mod linear;
mod load;
mod mlp;
mod norm;
mod occurrences;
mod parts;
mod positions;
mod redrawn;
mod unembed;

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::ArrayView2;

use crate::config::{DecoderConfig, Layout};
use crate::device::runs_on_cpu;
use crate::error::{ModelError, Result};
use crate::hooks::{HookKind, HookPoint};
use crate::kernels::{self, PackedBlock};
use crate::model_files::ModelFiles;
use block::Block;
pub use buffers::Buffers;
pub use cut::Cut;
use linear::widened;
use load::Loader;
use norm::NormWeights;
use occurrences::Occurrences;
use positions::Positions;
use redrawn::Normal;

/// A language model.
pub struct Decoder {
    config: DecoderConfig,
    device: Device,
    /// `[vocab_size, d_model]`, like all matrices perhaps of two bytes per number.
    embed: Tensor<2>,
    /// What is read in the place of its rows, if they are not.
    occurrences: Option<Occurrences>,
    /// `[max_positions, d_model]`, if positions are embedded.
    position_embed: Option<Tensor<2>>,
    layers: Vec<Block>,
    final_norm: NormWeights,
    /// `[d_model, vocab_size]`
    unembed: Tensor<2>,
    buffers: Buffers,
    positions: Mutex<Option<Positions>>,
    /// Whether products go through `kernels::product`, which pins a GPU's choice of kernel; the CPU's own are fixed and fused.
    pinned: bool,
    /// Why the device doesn't compute this model's layers in bf16, if it doesn't.
    no_bf16: Option<String>,
    /// The layers for passes in bf16, packed when the first is made.
    packed: OnceLock<Vec<PackedBlock>>,
}

/// Which weights a model is loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadedWeights {
    /// Those of its files.
    OfFiles,
    /// Every matrix drawn anew with this seed, embeddings too: independent normal numbers with that matrix' mean and standard deviation.
    /// Vectors, which are gains and biases, stay. It is the control of Heap et al. (2025, "Automated interpretability metrics do not
    /// distinguish trained and random transformers"): what a score has here, it does not have from training.
    Redrawn(u64),
    /// As [`Self::Redrawn`], and each occurrence of a token is given a vector of its own, of normal numbers with the mean and standard
    /// deviation of the embedding, in the place of that token's row. No latent can be of a token then: what a score has here it
    /// has neither from training nor from text (Heap et al. 2025, their control).
    GaussianInputs(u64),
}

impl LoadedWeights {
    /// The seed of matrices that are drawn anew.
    fn redrawn(self) -> Option<u64> {
        match self {
            Self::OfFiles => None,
            Self::Redrawn(seed) | Self::GaussianInputs(seed) => Some(seed),
        }
    }
}

impl Decoder {
    /// Loads a Hugging Face checkpoint directory.
    ///
    /// # Errors
    /// If `config.json` or a tensor is missing, unsupported, misshapen or not finite, or if the
    /// files hold tensors that the architecture does not have.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        ModelFiles::open(dir)?.load(device)
    }

    pub(crate) fn from_files(files: &ModelFiles, device: &Device, weights: LoadedWeights) -> Result<Self> {
        let ModelFiles { config, checkpoint, inventory } = files;
        let redrawn = weights.redrawn();
        let load = Loader { checkpoint, config, names: &inventory.names, device, redrawn };
        let embed = load.rows(&inventory.embed)?;
        let unembed = if inventory.is_tied() { embed.clone().transpose() } else { load.unembed(&inventory.unembed)? };
        let occurrences = match weights {
            LoadedWeights::GaussianInputs(seed) => {
                Some(Occurrences { normal: Normal::of(&checkpoint.read(&inventory.embed)?), seed })
            }
            _ => None,
        };
        let position_embed = inventory.names.positions.as_ref().map(|name| load.rows(name)).transpose()?;
        let layers = (0..config.n_layers()).map(|index| load.block(index)).collect::<Result<_>>()?;
        let final_norm = load.norm(&inventory.names.final_norm)?;
        let no_bf16 = kernels::why_no_bf16_blocks(device, config);
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            embed,
            occurrences,
            position_embed,
            layers,
            final_norm,
            unembed,
            buffers: Buffers::F32,
            positions: Mutex::new(None),
            pinned: !runs_on_cpu(device),
            no_bf16,
            packed: OnceLock::new(),
        })
    }

    /// Lets products, attention and GELU go the way that they go on a GPU, on any device: for comparing the two ways.
    #[must_use]
    pub fn with_pinned_products(mut self) -> Self {
        self.pinned = true;
        self.positions = Mutex::new(None);
        self
    }

    /// Computes as a model of transformers that was cast as a whole: see [`Buffers`].
    #[must_use]
    pub fn with_buffers(mut self, buffers: Buffers) -> Self {
        self.buffers = buffers;
        self.positions = Mutex::new(None);
        self
    }

    /// The model's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Next-token logits.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, context]`; the result is `[batch, context, vocab_size]`.
    ///
    /// # Errors
    /// If a token is not in the vocabulary, or the context is longer than the model allows.
    pub fn forward(&self, tokens: ArrayView2<'_, u32>) -> Result<Tensor<3>> {
        let x = self.embed(tokens)?;
        Ok(self.unembed(self.run_unseen(x, 0..self.layers.len())))
    }

    /// Next-token logits of a pass in which `visit` is shown the activation at every hook point, in the order of [`HookKind::ALL`] in
    /// each layer, and gives back what is to stand in its place.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_with(
        &self,
        tokens: ArrayView2<'_, u32>,
        visit: impl FnMut(HookPoint, Tensor<3>) -> Tensor<3>,
    ) -> Result<Tensor<3>> {
        let x = self.embed(tokens)?;
        Ok(self.unembed(self.run_layers(x, 0..self.layers.len(), &mut Everywhere(visit))))
    }

    /// Whether the device computes this model's layers in bf16.
    pub fn has_bf16(&self) -> bool {
        self.no_bf16.is_none()
    }

    /// Why it doesn't, in words for the user; `None` where it does.
    pub fn why_no_bf16(&self) -> Option<&str> {
        self.no_bf16.as_deref()
    }

    fn embed(&self, tokens: ArrayView2<'_, u32>) -> Result<Tensor<3>> {
        check_tokens(tokens, self.config.vocab_size)?;
        let (batch, context) = tokens.dim();
        check_context(context, &self.config)?;
        let mut x = match &self.occurrences {
            Some(occurrences) => {
                let d_model = self.config.d_model;
                let rows = TensorData::new(occurrences.rows(tokens, d_model), [batch, context, d_model]);
                Tensor::from_data(rows, &self.device)
            }
            None => {
                let ids: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
                let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [batch, context]), &self.device);
                widened(embedding(self.embed.clone(), ids))
            }
        };
        if self.config.ends.embed_scale != 1.0 {
            x = x * self.buffers.round(self.config.ends.embed_scale as f32);
        }
        if let Some(positions) = &self.position_embed {
            let rows: Tensor<2> = positions.clone().slice([0..context, 0..self.config.d_model]);
            x = x + widened(rows).unsqueeze();
        }
        Ok(x)
    }

    fn is_parallel(&self) -> bool {
        self.config.layout == Layout::Parallel
    }

    /// Runs some layers, the first of which reads `x`. What `visitor` gives back takes the place of the activation that it is shown.
    fn run_layers(&self, mut x: Tensor<3>, layers: Range<usize>, visitor: &mut dyn Visitor) -> Tensor<3> {
        let positions = self.positions(x.dims()[1]);
        for index in layers {
            let layer = &self.layers[index];
            let hook = |kind: HookKind| HookPoint { layer: index, kind };
            x = visitor.at(hook(HookKind::ResidPre), x);
            let z = visitor.at(hook(HookKind::Z), layer.mix(&self.config, &positions, x.clone(), self.pinned));
            let attn = visitor.at(hook(HookKind::AttnOut), layer.attn_out(z, self.pinned));
            let sum = if self.is_parallel() {
                self.mlp_out(index, x.clone(), visitor) + attn + x
            } else {
                x = visitor.at(hook(HookKind::ResidMid), x + attn);
                self.mlp_out(index, x.clone(), visitor) + x
            };
            x = visitor.at(hook(HookKind::ResidPost), sum);
        }
        x
    }

    /// [`Self::run_layers`] where nobody looks.
    fn run_unseen(&self, x: Tensor<3>, layers: Range<usize>) -> Tensor<3> {
        self.in_parts(x, |x| vec![self.run_layers(x, layers.clone(), &mut Nobody)]).remove(0)
    }

    /// What a layer's MLP adds to the residual stream `x`.
    fn mlp_out(&self, index: usize, x: Tensor<3>, visitor: &mut dyn Visitor) -> Tensor<3> {
        let layer = &self.layers[index];
        let hook = |kind: HookKind| HookPoint { layer: index, kind };
        let mut input = layer.mlp_in(x.clone());
        let normalized = hook(HookKind::MlpNormalized);
        if let Some(norm) = layer.norm_mlp.as_ref().filter(|_| visitor.wants(normalized)) {
            let before = norm.normalized(x);
            input = norm.changed(input, before.clone(), visitor.at(normalized, before));
        }
        let input = visitor.at(hook(HookKind::MlpIn), input);
        visitor.at(hook(HookKind::MlpOut), layer.mlp_out(&self.config, input, self.pinned))
    }

    /// The tables for a context length, made once.
    fn positions(&self, context: usize) -> Positions {
        let mut cached = self.positions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*cached {
            Some(positions) if positions.context() == context => positions.clone(),
            _ => cached.insert(Positions::new(&self.config, context, self.buffers, self.pinned, &self.device)).clone(),
        }
    }
}

/// Who is shown the activations of a pass.
trait Visitor {
    /// Whether a hook's activation is wanted that the pass computes for nobody else: that of `ln2.hook_normalized`.
    fn wants(&self, hook: HookPoint) -> bool;
    /// What is to stand in an activation's place.
    fn at(&mut self, hook: HookPoint, value: Tensor<3>) -> Tensor<3>;
}

/// Nobody.
struct Nobody;

impl Visitor for Nobody {
    fn wants(&self, _: HookPoint) -> bool {
        false
    }
    fn at(&mut self, _: HookPoint, value: Tensor<3>) -> Tensor<3> {
        value
    }
}

/// A function that is shown every activation.
struct Everywhere<F>(F);

impl<F: FnMut(HookPoint, Tensor<3>) -> Tensor<3>> Visitor for Everywhere<F> {
    fn wants(&self, _: HookPoint) -> bool {
        true
    }
    fn at(&mut self, hook: HookPoint, value: Tensor<3>) -> Tensor<3> {
        self.0(hook, value)
    }
}

/// Checks that a context is not longer than the model was made for.
///
/// # Errors
/// [`ModelError::ContextTooLong`] if it is.
pub fn check_context(context_size: usize, config: &DecoderConfig) -> Result<()> {
    if context_size > config.max_positions {
        return Err(ModelError::ContextTooLong { context_size, max_positions: config.max_positions });
    }
    Ok(())
}

/// Checks that every token is in the vocabulary.
///
/// # Errors
/// Names the first token that is not.
pub fn check_tokens(tokens: ArrayView2<'_, u32>, vocab_size: usize) -> Result<()> {
    match tokens.indexed_iter().find(|&(_, &id)| id as usize >= vocab_size) {
        None => Ok(()),
        Some(((sequence, position), &id)) => Err(ModelError::TokenOutOfRange { id, sequence, position, vocab_size }),
    }
}
