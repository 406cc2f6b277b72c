//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864): rotate-half on the first dimensions of each head, with the scalings of
//! frequencies that transformers has (`modeling_rope_utils.py`, 5.17).

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{Rope, RopeScaling};

/// cos and sin tables for every position of a context.
#[derive(Clone, Debug)]
pub struct Rotary {
    cos: Tensor<4>,
    sin: Tensor<4>,
    half: usize,
}

impl Rotary {
    /// Tables of shape `[1, 1, context_size, rotary_dims / 2]`; angles in f32, as transformers computes them, of frequencies that
    /// `rounded` has seen.
    pub fn new(rope: &Rope, context_size: usize, rounded: impl Fn(f32) -> f32, device: &Device) -> Self {
        let half = rope.dims / 2;
        let frequencies: Vec<f32> = frequencies(rope, context_size).into_iter().map(rounded).collect();
        let factor = match rope.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor as f32
            }
            RopeScaling::Default
            | RopeScaling::Linear { .. }
            | RopeScaling::Llama3 { .. }
            | RopeScaling::Divisors(_) => 1.0,
        };
        let mut cos = Vec::with_capacity(context_size * half);
        let mut sin = Vec::with_capacity(context_size * half);
        for position in 0..context_size {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos() * factor);
                sin.push(angle.sin() * factor);
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, [1, 1, context_size, half]), device);
        Self { cos: table(cos), sin: table(sin), half }
    }

    /// Dimensions of a head that are rotated.
    pub fn dims(&self) -> usize {
        2 * self.half
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

/// Radians by which a pair turns from one position to the next, a pair each.
fn frequencies(rope: &Rope, context_size: usize) -> Vec<f32> {
    let half = rope.dims / 2;
    let base = |i: usize| 1.0 / (rope.theta as f32).powf((2 * i) as f32 / rope.dims as f32);
    let divided = |divisors: &[f64]| (0..half).map(|i| base(i) / divisors[i] as f32).collect();
    match &rope.scaling {
        RopeScaling::Default => (0..half).map(base).collect(),
        RopeScaling::Linear { factor } => (0..half).map(|i| base(i) / *factor as f32).collect(),
        RopeScaling::Llama3 { factor, low, high, original } => {
            let (factor, low, high, original) = (*factor as f32, *low as f32, *high as f32, *original as f32);
            let scaled = |f: f32| {
                let wavelength = std::f32::consts::TAU / f;
                if wavelength < original / high {
                    f
                } else if wavelength > original / low {
                    f / factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            };
            (0..half).map(|i| scaled(base(i))).collect()
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original, truncate, .. } => {
            let dims = rope.dims as f64;
            // The dimension that turns so many times within the original context.
            let turning =
                |turns: f64| dims * (*original as f64 / (turns * std::f64::consts::TAU)).ln() / (2.0 * rope.theta.ln());
            let (low, high) = (turning(*beta_fast), turning(*beta_slow));
            let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
            let (low, mut high) = (low.max(0.0) as f32, high.min(dims - 1.0) as f32);
            if low == high {
                high += 0.001;
            }
            let mixed = |i: usize| {
                let ramp = ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
                base(i) / *factor as f32 * ramp + base(i) * (1.0 - ramp)
            };
            (0..half).map(mixed).collect()
        }
        RopeScaling::LongRope { short, long, original, .. } => {
            divided(if context_size > *original { long } else { short })
        }
        RopeScaling::Divisors(divisors) => (0..half).map(|i| base(i) / divisors[i]).collect(),
    }
}
