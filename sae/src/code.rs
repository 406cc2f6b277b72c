//! The latents that an SAE finds active.

use burn::tensor::{Int, IntDType, Tensor};

use crate::error::{Result, SaeError};
use crate::trainer::{host, host_int};

/// The active latents of some tokens: `[batch, k]` each, latents ascending; value 0 means not active. Every index is below `d_sae`:
/// kernels read the decoder's rows without looking.
#[derive(Clone, Debug)]
pub struct SparseCode {
    values: Tensor<2>,
    indices: Tensor<2, Int>,
    d_sae: usize,
}

impl SparseCode {
    /// A code that was made elsewhere than by an SAE's `encode`. The indices are read back and checked.
    ///
    /// # Shapes
    /// - `values`: activations of the chosen latents; `indices`: which latents they are; `[batch, k]` each
    ///
    /// # Errors
    /// If the shapes differ, an index is not that of one of `d_sae` latents, or the latents of a token don't ascend.
    pub fn new(values: Tensor<2>, indices: Tensor<2, Int>, d_sae: usize) -> Result<Self> {
        let (shape, k) = (indices.dims(), indices.dims()[1]);
        let refuse = |why: String| Err(SaeError::Setting(format!("a sparse code: {why}")));
        if values.dims() != shape {
            return refuse(format!("values have shape {:?}, indices {shape:?}", values.dims()));
        }
        let latents = indices.to_data().convert::<i64>().try_into_vec::<i64>().expect("converted to i64");
        for (at, &latent) in latents.iter().enumerate() {
            if !usize::try_from(latent).is_ok_and(|latent| latent < d_sae) {
                return refuse(format!("token {} has latent {latent}; there are {d_sae}, from 0", at / k));
            }
            if at % k > 0 && latents[at - 1] >= latent {
                return refuse(format!(
                    "token {} has latent {latent} after {}; they must ascend",
                    at / k,
                    latents[at - 1]
                ));
            }
        }
        // Kernels take indices of 32 bits.
        Ok(Self::trusted(values, indices.cast(IntDType::I32), d_sae))
    }

    /// A code of kernels, whose indices are right by construction.
    pub(crate) fn trusted(values: Tensor<2>, indices: Tensor<2, Int>, d_sae: usize) -> Self {
        Self { values, indices, d_sae }
    }

    /// Activations of the chosen latents, `[batch, k]`.
    pub fn values(&self) -> Tensor<2> {
        self.values.clone()
    }

    /// Which latents they are, `[batch, k]`.
    pub fn indices(&self) -> Tensor<2, Int> {
        self.indices.clone()
    }

    /// How many latents there are to choose from.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// The same latents with other values.
    pub(crate) fn map_values(self, map: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        Self { values: map(self.values), ..self }
    }
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{Activation, Sae};

    fn code(indices: &[i64], k: usize, d_sae: usize) -> Result<SparseCode> {
        let device = Device::flex();
        let shape = [indices.len() / k, k];
        let indices: Tensor<2, Int> = Tensor::from_data(TensorData::new(indices.to_vec(), shape), &device);
        SparseCode::new(Tensor::ones(shape, &device), indices, d_sae)
    }

    #[test]
    fn indices_that_an_sae_does_not_have_make_no_code() {
        assert!(code(&[0, 3, 1, 2], 2, 4).is_ok());
        for (indices, part) in
            [([0, 4, 1, 2], "latent 4"), ([0, 3, -1, 2], "token 1 has latent -1"), ([0, 3, 2, 2], "ascend")]
        {
            let error = code(&indices, 2, 4).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let device = Device::flex();
        assert!(SparseCode::new(Tensor::ones([1, 2], &device), Tensor::zeros([2, 1], &device), 4).is_err());
    }

    #[test]
    #[should_panic(expected = "a code of another SAE")]
    fn a_code_of_a_larger_sae_is_not_decoded() {
        let device = Device::flex();
        let matrix = || Tensor::ones([4, 3], &device);
        let biases = [Tensor::zeros([4], &device), Tensor::zeros([3], &device)];
        let sae = Sae::new([matrix(), matrix()], biases, Activation::TopK { k: 2, by_decoder_norm: false }, true);
        sae.decode(Code::Sparse(code(&[0, 7], 2, 8).unwrap()));
    }
}
