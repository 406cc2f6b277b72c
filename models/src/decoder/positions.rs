//! What follows from positions alone, for one context length: rotations, and what a query may see.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::Buffers;
use crate::config::DecoderConfig;
use crate::rotary::Rotary;

/// Tables for one context length.
#[derive(Clone)]
pub(super) struct Positions {
    context: usize,
    rotaries: Vec<Rotary>,
    masks: Vec<Mask>,
}

/// What a query may see: itself and what came before, or what of that is in a window.
#[derive(Clone)]
struct Mask {
    window: Option<usize>,
    /// What is added to scores, `[context, context]`, where they are held whole.
    bias: Option<Tensor<2>>,
    /// Where a query doesn't see a key, `[1, 1, context, context]`, where they are not.
    hidden: Option<Tensor<4, Bool>>,
}

impl Positions {
    /// `pinned`: see [`super::Decoder::with_pinned_products`].
    pub(super) fn new(config: &DecoderConfig, context: usize, buffers: Buffers, pinned: bool, device: &Device) -> Self {
        let mut windows: Vec<Option<usize>> =
            config.layers.iter().map(|layer| layer.window.filter(|&window| window < context)).collect();
        windows.sort_unstable();
        windows.dedup();
        // Attention that doesn't hold scores needs no mask to be causal.
        windows.retain(|window| pinned || window.is_some());
        Self {
            context,
            rotaries: config
                .ropes
                .iter()
                .map(|rope| Rotary::new(rope, context, |f| buffers.round(f), device))
                .collect(),
            masks: windows.into_iter().map(|window| Mask::new(window, context, pinned, device)).collect(),
        }
    }

    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// The rotation of a rotary embedding of the configuration.
    pub(super) fn rotary(&self, index: usize) -> &Rotary {
        &self.rotaries[index]
    }

    /// What is added to scores, `[context, context]`: −∞ where a query doesn't see a key.
    pub(super) fn bias(&self, window: Option<usize>) -> Tensor<2> {
        self.found(window).and_then(|mask| mask.bias.clone()).expect("every layer's window has its mask")
    }

    /// Where a query doesn't see a key, beyond what causality hides, `[1, 1, context, context]`; `None` without a window.
    pub(super) fn hidden(&self, window: Option<usize>) -> Option<Tensor<4, Bool>> {
        self.found(window).and_then(|mask| mask.hidden.clone())
    }

    fn found(&self, window: Option<usize>) -> Option<&Mask> {
        let window = window.filter(|&window| window < self.context);
        self.masks.iter().find(|mask| mask.window == window)
    }
}

impl Mask {
    fn new(window: Option<usize>, context: usize, pinned: bool, device: &Device) -> Self {
        let hidden: Vec<bool> = (0..context * context)
            .map(|at| {
                let (query, key) = (at / context, at % context);
                key > query || window.is_some_and(|window| key + window <= query)
            })
            .collect();
        if pinned {
            let bias: Vec<f32> = hidden.iter().map(|&hidden| if hidden { f32::NEG_INFINITY } else { 0.0 }).collect();
            let bias = Tensor::from_data(TensorData::new(bias, [context, context]), device);
            Self { window, bias: Some(bias), hidden: None }
        } else {
            let hidden = Tensor::from_data(TensorData::new(hidden, [1, 1, context, context]), device);
            Self { window, bias: None, hidden: Some(hidden) }
        }
    }
}
