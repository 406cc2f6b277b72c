//! The GPT-NeoX decoder, with hook points.
//!
//! All weights are plain tensors: a gradient with respect to an activation builds no weight gradients.

mod capture;
mod cut;
mod layer;
mod load;
mod unembed;

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::ArrayView2;

use crate::config::NeoxConfig;
use crate::device::runs_on_cpu;
use crate::error::{ModelError, Result};
use crate::hooks::{HookKind, HookPoint};
use crate::kernels::{self, PackedBlock};
use crate::model_files::ModelFiles;
use crate::rotary::Rotary;
pub use cut::Cut;
use layer::{Layer, LayerNorm};
use load::Loader;

/// A GPT-NeoX language model.
pub struct Decoder {
    config: NeoxConfig,
    device: Device,
    embed: Tensor<2>,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    unembed: Tensor<2>,
    rotary: Mutex<Option<(usize, Rotary)>>,
    /// Whether products go through `kernels::product`, which pins a GPU's choice of kernel; the CPU's own are fixed and fused.
    pinned: bool,
    /// Whether the device computes this model's layers in bf16.
    has_bf16: bool,
    /// The layers for passes in bf16, packed when the first is made.
    packed: OnceLock<Vec<PackedBlock>>,
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

    pub(crate) fn from_files(files: &ModelFiles, device: &Device) -> Result<Self> {
        let ModelFiles { config, checkpoint, layout } = files;
        let load = Loader { checkpoint, config, device };
        let embed = load.matrix(layout.embed, [config.vocab_size, config.d_model])?;
        let layers = (0..config.n_layers).map(|i| load.layer(i)).collect::<Result<_>>()?;
        let final_norm = load.norm("gpt_neox.final_layer_norm")?;
        let unembed = if layout.is_tied() {
            embed.clone().transpose()
        } else {
            load.linear_weight(layout.unembed, config.d_model, config.vocab_size)?
        };
        let has_bf16 = kernels::has_bf16_blocks(device, config);
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            embed,
            layers,
            final_norm,
            unembed,
            rotary: Mutex::new(None),
            pinned: !runs_on_cpu(device),
            has_bf16,
            packed: OnceLock::new(),
        })
    }

    /// Lets products, attention and GELU go the way that they go on a GPU, on any device: for comparing the two ways.
    #[must_use]
    pub fn with_pinned_products(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// The model's shape.
    pub fn config(&self) -> &NeoxConfig {
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
        self.forward_with(tokens, |_, value| value)
    }

    /// Next-token logits of a pass in which `visit` is shown the activation at every hook point, in the order of [`HookKind::ALL`] in
    /// each layer, and gives back what is to stand in its place.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_with(
        &self,
        tokens: ArrayView2<'_, u32>,
        mut visit: impl FnMut(HookPoint, Tensor<3>) -> Tensor<3>,
    ) -> Result<Tensor<3>> {
        let x = self.embed(tokens)?;
        Ok(self.unembed(self.run_layers(x, 0..self.layers.len(), &mut visit)))
    }

    /// Whether the device computes this model's layers in bf16.
    pub fn has_bf16(&self) -> bool {
        self.has_bf16
    }

    fn embed(&self, tokens: ArrayView2<'_, u32>) -> Result<Tensor<3>> {
        check_tokens(tokens, self.config.vocab_size)?;
        let (batch, context) = tokens.dim();
        check_context(context, &self.config)?;
        let ids: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
        let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [batch, context]), &self.device);
        Ok(embedding(self.embed.clone(), ids))
    }

    /// Runs some layers, the first of which reads `x`. What `visit` gives back takes the place of the activation that it is shown.
    fn run_layers(
        &self,
        mut x: Tensor<3>,
        layers: Range<usize>,
        visit: &mut dyn FnMut(HookPoint, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let rotary = self.rotary(x.dims()[1]);
        for index in layers {
            let layer = &self.layers[index];
            let mut at = |kind: HookKind, value: Tensor<3>| visit(HookPoint { layer: index, kind }, value);
            x = at(HookKind::ResidPre, x);
            let z = at(HookKind::Z, layer.mix(&self.config, &rotary, x.clone(), self.pinned));
            let attn = at(HookKind::AttnOut, layer.attn_out.forward(z, self.pinned));
            let sum = if self.config.parallel_residual {
                at(HookKind::MlpOut, layer.mlp(&self.config, x.clone(), self.pinned)) + attn + x
            } else {
                x = at(HookKind::ResidMid, x + attn);
                at(HookKind::MlpOut, layer.mlp(&self.config, x.clone(), self.pinned)) + x
            };
            x = at(HookKind::ResidPost, sum);
        }
        x
    }

    /// The tables for a context length, made once.
    fn rotary(&self, context_size: usize) -> Rotary {
        let mut cached = self.rotary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*cached {
            Some((size, rotary)) if *size == context_size => rotary.clone(),
            _ => {
                let rotary = Rotary::new(&self.config, context_size, &self.device);
                *cached = Some((context_size, rotary.clone()));
                rotary
            }
        }
    }
}

/// Checks that a context is not longer than the model was made for.
///
/// # Errors
/// [`ModelError::ContextTooLong`] if it is.
pub fn check_context(context_size: usize, config: &NeoxConfig) -> Result<()> {
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
