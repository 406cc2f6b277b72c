//! The GPT-NeoX decoder, with hook points.
//!
//! All weights are plain tensors: a gradient with respect to an activation builds no weight gradients.

mod layer;
mod load;

use std::path::Path;
use std::sync::{Mutex, OnceLock};

use assay_kernels::Precision;
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use crate::config::NeoxConfig;
use crate::device::runs_on_cpu;
use crate::error::{ModelError, Result};
use crate::hooks::{HookKind, HookPoint};
use crate::kernels::{self, BlockShape, PackedBlock};
use crate::model_files::ModelFiles;
use crate::rotary::Rotary;
use layer::{Layer, LayerNorm, Linear};
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
        let x = self.embed(tokens)?;
        Ok(self.unembed(self.run_layers(x, 0, self.layers.len(), &[], &mut [])))
    }

    /// Activations at `hooks`, from one pass that stops after the highest of them.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, context]`; the result has one `[batch, context, d_model]` a hook, in the order of `hooks`.
    ///
    /// # Errors
    /// If a hook does not exist in this model, a token is not in the vocabulary, or the context is longer than the model allows.
    pub fn capture(&self, tokens: ArrayView2<'_, u32>, hooks: &[HookPoint]) -> Result<Vec<Tensor<3>>> {
        for hook in hooks {
            hook.check(&self.config)?;
        }
        let Some(last) = hooks.iter().map(|h| h.layer).max() else {
            return Ok(Vec::new());
        };
        let x = self.embed(tokens)?;
        let mut captured = vec![None; hooks.len()];
        self.run_layers(x, 0, last + 1, hooks, &mut captured);
        Ok(captured.into_iter().map(|h| h.expect("every checked hook lies on the path")).collect())
    }

    /// As [`Self::capture`], with the layers' products in a format of choice. In bf16 where [`Self::has_bf16`] and only the residual
    /// stream before and after layers is asked for; else in f32.
    ///
    /// # Errors
    /// As [`Self::capture`].
    pub fn capture_in(
        &self,
        precision: Precision,
        tokens: ArrayView2<'_, u32>,
        hooks: &[HookPoint],
    ) -> Result<Vec<Tensor<3>>> {
        // How many blocks come before each hook, if it lies between blocks.
        let depths: Option<Vec<usize>> = hooks
            .iter()
            .map(|hook| match hook.kind {
                HookKind::ResidPre => Some(hook.layer),
                HookKind::ResidPost => Some(hook.layer + 1),
                HookKind::Z | HookKind::ResidMid | HookKind::AttnOut | HookKind::MlpOut => None,
            })
            .collect();
        let depths = depths.filter(|_| precision == Precision::Bf16 && self.has_bf16);
        let Some((depths, last)) = depths.and_then(|d| d.iter().copied().max().map(|last| (d, last))) else {
            return self.capture(tokens, hooks);
        };
        for hook in hooks {
            hook.check(&self.config)?;
        }
        let (batch, context) = tokens.dim();
        let NeoxConfig { d_model, n_heads, rotary_dims, layer_norm_eps, parallel_residual, hidden_act, .. } =
            self.config;
        let shape = BlockShape {
            batch,
            context,
            n_heads,
            rotary_dims,
            eps: layer_norm_eps,
            parallel_residual,
            act: hidden_act,
        };
        let rotary = self.rotary(context);
        let packed = self.packed.get_or_init(|| self.layers.iter().map(Layer::packed).collect());
        let mut x = self.embed(tokens)?.reshape([batch * context, d_model]);
        let mut captured = vec![None; hooks.len()];
        let mut keep = |depth: usize, x: &Tensor<2>| {
            for (slot, &wanted) in captured.iter_mut().zip(&depths) {
                if wanted == depth {
                    *slot = Some(x.clone().reshape([batch, context, d_model]));
                }
            }
        };
        keep(0, &x);
        for (layer, block) in packed.iter().enumerate().take(last) {
            x = kernels::block(x, block, rotary.tables(), shape);
            keep(layer + 1, &x);
        }
        Ok(captured.into_iter().map(|h| h.expect("every checked hook lies on the path")).collect())
    }

    /// Whether the device computes this model's layers in bf16.
    pub fn has_bf16(&self) -> bool {
        self.has_bf16
    }

    /// Logits from the activation `h` put in place of what the model computes at `hook`; costs only
    /// the layers above, and is differentiable with respect to `h`.
    ///
    /// # Shapes
    /// - `h`: `[batch, context, d_model]`; the result is `[batch, context, vocab_size]`.
    ///
    /// # Errors
    /// If the hook does not exist or holds only one component of the residual stream.
    pub fn forward_from(&self, hook: HookPoint, h: Tensor<3>) -> Result<Tensor<3>> {
        hook.check(&self.config)?;
        let (x, next) = match hook.kind {
            HookKind::ResidPre => (h, hook.layer),
            HookKind::ResidPost => (h, hook.layer + 1),
            HookKind::ResidMid => {
                let mlp = self.layers[hook.layer].mlp(&self.config, h.clone(), self.pinned);
                (h + mlp, hook.layer + 1)
            }
            HookKind::Z | HookKind::AttnOut | HookKind::MlpOut => return Err(ModelError::NotPatchable { hook }),
        };
        Ok(self.unembed(self.run_layers(x, next, self.layers.len(), &[], &mut [])))
    }

    /// The final LayerNorm's output u, of which the logits are W_Uᵀu.
    ///
    /// # Shapes
    /// - `h`: `[batch, context, d_model]`, the residual stream after the last layer; returned alike.
    pub fn final_norm_output(&self, h: Tensor<3>) -> Tensor<3> {
        self.final_norm.forward(h)
    }

    /// The logit lens of directions v in the residual stream (nostalgebraist 2020, "interpreting GPT: the logit lens"):
    /// W_Uᵀ(γ ⊙ (v − mean v)), what adding v after the last layer adds to the logits, times the standard deviation by which the
    /// final LayerNorm divides; γ is that norm's gain. What layers in between do with v is left out.
    ///
    /// # Shapes
    /// - `directions`: `[count, d_model]`; the result is `[count, vocab_size]`.
    pub fn logit_lens(&self, directions: Tensor<2>) -> Tensor<2> {
        let mean = directions.clone().mean_dim(1);
        let scaled = (directions - mean) * self.final_norm.weight.clone().unsqueeze();
        let unembed = Linear { weight: self.unembed.clone(), bias: None };
        unembed.forward(scaled.unsqueeze::<3>(), self.pinned).squeeze_dim(0)
    }

    /// G = W_U·W_Uᵀ, `[d_model, d_model]`, in f64: uᵀGv is the inner product of the logits of u and v. If `centered`, of the
    /// logits less their mean over the vocabulary, which no softmax sees.
    pub fn unembed_gram(&self, centered: bool) -> Array2<f64> {
        // Partial sums of this many tokens each are added in order, whatever the number of threads.
        const TOKENS: usize = 8192;
        let NeoxConfig { d_model, vocab_size, .. } = self.config;
        let values = self.unembed.clone().into_data().try_into_vec::<f32>().expect("weights are f32");
        let unembed = ArrayView2::from_shape((d_model, vocab_size), &values).expect("checked when loaded");
        let mean: Array1<f64> = unembed
            .rows()
            .into_iter()
            .map(|row| if centered { row.iter().map(|&w| f64::from(w)).sum::<f64>() / vocab_size as f64 } else { 0.0 })
            .collect();
        let starts: Vec<usize> = (0..vocab_size).step_by(TOKENS).collect();
        let parts: Vec<Array2<f64>> = starts
            .into_par_iter()
            .map(|start| {
                let part = unembed.slice(s![.., start..(start + TOKENS).min(vocab_size)]).mapv(f64::from);
                let part = part - mean.view().insert_axis(Axis(1));
                part.dot(&part.t())
            })
            .collect();
        parts.into_iter().fold(Array2::zeros((d_model, d_model)), |sum, part| sum + part)
    }

    fn embed(&self, tokens: ArrayView2<'_, u32>) -> Result<Tensor<3>> {
        check_tokens(tokens, self.config.vocab_size)?;
        let (batch, context) = tokens.dim();
        check_context(context, &self.config)?;
        let ids: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
        let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [batch, context]), &self.device);
        Ok(embedding(self.embed.clone(), ids))
    }

    fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        Linear { weight: self.unembed.clone(), bias: None }.forward(self.final_norm.forward(x), self.pinned)
    }

    /// Runs layers `from..to`, filing what `hooks` name in `captured`.
    fn run_layers(
        &self,
        mut x: Tensor<3>,
        from: usize,
        to: usize,
        hooks: &[HookPoint],
        captured: &mut [Option<Tensor<3>>],
    ) -> Tensor<3> {
        let rotary = self.rotary(x.dims()[1]);
        for (index, layer) in self.layers.iter().enumerate().take(to).skip(from) {
            let mut keep = |kind: HookKind, value: &Tensor<3>| {
                for (slot, hook) in captured.iter_mut().zip(hooks) {
                    if hook.layer == index && hook.kind == kind {
                        *slot = Some(value.clone());
                    }
                }
            };
            keep(HookKind::ResidPre, &x);
            let attn = layer.attention(&self.config, &rotary, x.clone(), self.pinned);
            keep(HookKind::AttnOut, &attn);
            let mlp_input = if self.config.parallel_residual {
                x.clone()
            } else {
                x = x + attn.clone();
                keep(HookKind::ResidMid, &x);
                x.clone()
            };
            let mlp = layer.mlp(&self.config, mlp_input, self.pinned);
            keep(HookKind::MlpOut, &mlp);
            x = if self.config.parallel_residual { mlp + attn + x } else { mlp + x };
            keep(HookKind::ResidPost, &x);
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

/// Subtracts the mean over d_model, which is what TransformerLens' `center_writing_weights` does to
/// the residual stream. The model's output does not change: every reader starts with a LayerNorm.
pub fn center_residual(h: Tensor<3>) -> Tensor<3> {
    h.clone() - h.mean_dim(2)
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
