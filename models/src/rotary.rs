//! Rotary position embedding as GPT-NeoX has it: rotate-half on the first dimensions of each head.

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::NeoxConfig;

/// cos and sin tables for every position of a context.
#[derive(Clone, Debug)]
pub struct Rotary {
    cos: Tensor<4>,
    sin: Tensor<4>,
    half: usize,
}

impl Rotary {
    /// Tables of shape `[1, 1, context_size, rotary_dims / 2]`; angles in f32, as transformers computes them.
    pub fn new(config: &NeoxConfig, context_size: usize, device: &Device) -> Self {
        let half = config.rotary_dims / 2;
        let mut cos = Vec::with_capacity(context_size * half);
        let mut sin = Vec::with_capacity(context_size * half);
        for position in 0..context_size {
            for i in 0..half {
                let exponent = (2 * i) as f32 / config.rotary_dims as f32;
                let inv_freq = 1.0 / (config.rotary_base as f32).powf(exponent);
                let angle = position as f32 * inv_freq;
                cos.push(angle.cos());
                sin.push(angle.sin());
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, [1, 1, context_size, half]), device);
        Self { cos: table(cos), sin: table(sin), half }
    }

    /// cos and sin, `[1, 1, context_size, rotary_dims / 2]` each.
    pub fn tables(&self) -> (Tensor<4>, Tensor<4>) {
        (self.cos.clone(), self.sin.clone())
    }

    /// Rotates the first `rotary_dims` of each head and leaves the rest.
    ///
    /// # Shapes
    /// - `x`: `[batch, n_heads, context_size, d_head]`, returned alike.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        if self.half == 0 {
            return x;
        }
        let [batch, heads, len, d_head] = x.dims();
        let part = |from: usize, to: usize| x.clone().slice([0..batch, 0..heads, 0..len, from..to]);
        let (first, second) = (part(0, self.half), part(self.half, 2 * self.half));
        let mut parts = vec![
            first.clone() * self.cos.clone() - second.clone() * self.sin.clone(),
            second * self.cos.clone() + first * self.sin.clone(),
        ];
        if 2 * self.half < d_head {
            parts.push(part(2 * self.half, d_head));
        }
        Tensor::cat(parts, 3)
    }
}
