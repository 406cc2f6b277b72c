//! The latents that an SAE finds active.

use burn::tensor::{Int, Tensor};

use crate::trainer::{host, host_int};

/// The active latents of some tokens: `[batch, k]` each, latents ascending; value 0 means not active.
#[derive(Clone, Debug)]
pub struct SparseCode {
    /// Activations of the chosen latents.
    pub values: Tensor<2>,
    /// Which latents they are.
    pub indices: Tensor<2, Int>,
}

/// A code, held as its architecture gives it; a latent is active where its value is not 0.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a batch")]
pub enum Code {
    /// A fixed number of candidates a token.
    Sparse(SparseCode),
    /// Every latent, `[batch, d_sae]`.
    Dense(Tensor<2>),
}

impl Code {
    /// Shows `see` every active latent: token, latent, value. Tokens ascend, and the latents of a token do.
    pub fn for_each_active(self, mut see: impl FnMut(usize, usize, f32)) {
        match self {
            Self::Sparse(code) => {
                let [_, k] = code.values.dims();
                let latents = host_int(code.indices);
                for (at, (value, latent)) in host(code.values).into_iter().zip(latents).enumerate() {
                    if value != 0.0 {
                        see(at / k, latent as usize, value);
                    }
                }
            }
            Self::Dense(values) => {
                let [_, d_sae] = values.dims();
                for (at, value) in host(values).into_iter().enumerate() {
                    if value != 0.0 {
                        see(at / d_sae, at % d_sae, value);
                    }
                }
            }
        }
    }
}
