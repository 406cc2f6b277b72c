//! The number format of what a model computes with beside its weights.

use half::{bf16, f16};

/// How exact the rotary frequencies and the embedding's scale are. `from_pretrained` of transformers keeps them in f32 whatever the
/// weights are, and so does this decoder. A whole model that was cast afterwards (`model.to(torch.bfloat16)`) has them rounded, which
/// moves its logits by about a thousandth, also when it is cast back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffers {
    /// As the formulas give them.
    #[default]
    F32,
    /// Rounded to bf16.
    Bf16,
    /// Rounded to f16.
    F16,
}

impl Buffers {
    pub(super) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::Bf16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }
}
