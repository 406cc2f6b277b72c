//! A TopK SAE for inference.

use burn::tensor::{Device, Int, Tensor};

use crate::kernels::{self, Encoder, Precision};

/// The active latents of some tokens: `[batch, k]` each, latents ascending; value 0 means not active.
#[derive(Clone, Debug)]
pub struct SparseCode {
    /// Activations of the chosen latents.
    pub values: Tensor<2>,
    /// Which latents they are.
    pub indices: Tensor<2, Int>,
}

/// A TopK sparse autoencoder (Gao et al. 2024, arXiv:2406.04093):
///
/// ```text
/// pre = (x − b_dec) W_enc + b_enc
/// z   = ReLU(TopK(pre, k))          ties to the lowest index; negatives become 0, so L0 ≤ k
/// x̂   = z W_dec + b_dec
/// ```
///
/// Both weight matrices are stored with a row a latent, `[d_sae, d_model]`.
#[derive(Clone, Debug)]
pub struct Sae {
    pub(crate) w_enc: Tensor<2>,
    pub(crate) b_enc: Tensor<1>,
    pub(crate) w_dec: Tensor<2>,
    pub(crate) b_dec: Tensor<1>,
    pub(crate) k: usize,
    pub(crate) apply_b_dec_to_input: bool,
    /// Norms of the decoder rows, if pre-activations are rescaled by them.
    scale: Option<Tensor<1>>,
}

impl Sae {
    /// An SAE from its weights.
    ///
    /// With `rescale_acts_by_decoder_norm`, pre-activations are multiplied by the norm of their
    /// decoder row before the selection, and z is divided by it in decoding, as in SAELens.
    ///
    /// # Shapes
    /// - `w_enc`, `w_dec`: `[d_sae, d_model]`; `b_enc`: `[d_sae]`; `b_dec`: `[d_model]`
    pub fn new(
        [w_enc, w_dec]: [Tensor<2>; 2],
        [b_enc, b_dec]: [Tensor<1>; 2],
        k: usize,
        apply_b_dec_to_input: bool,
        rescale_acts_by_decoder_norm: bool,
    ) -> Self {
        let scale = rescale_acts_by_decoder_norm.then(|| kernels::row_norms(w_dec.clone()));
        Self { w_enc, b_enc, w_dec, b_dec, k, apply_b_dec_to_input, scale }
    }

    /// Width of the activations.
    pub fn d_model(&self) -> usize {
        self.w_dec.dims()[1]
    }

    /// Number of latents.
    pub fn d_sae(&self) -> usize {
        self.w_dec.dims()[0]
    }

    /// Latents chosen a token.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.w_dec.device()
    }

    /// The active latents of each token.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`; result `[batch, k]`
    pub fn encode(&self, x: Tensor<2>) -> SparseCode {
        let code = self.encode_unscaled(x);
        match self.scale_of(&code) {
            Some(scale) => SparseCode { values: code.values * scale, indices: code.indices },
            None => code,
        }
    }

    /// The reconstruction from a code of [`Self::encode`].
    ///
    /// # Shapes
    /// - result `[batch, d_model]`
    pub fn decode(&self, code: SparseCode) -> Tensor<2> {
        match self.scale_of(&code) {
            Some(scale) => self.decode_unscaled(SparseCode { values: code.values / scale, indices: code.indices }),
            None => self.decode_unscaled(code),
        }
    }

    /// x̂ and the code that it is made from.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`, the reconstruction alike
    pub fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, SparseCode) {
        let code = self.encode_unscaled(x);
        (self.decode_unscaled(code.clone()), code)
    }

    /// The factor of every chosen latent, `[batch, k]`.
    fn scale_of(&self, code: &SparseCode) -> Option<Tensor<2>> {
        let scale = self.scale.clone()?;
        Some(scale.select(0, code.indices.clone().flatten(0, 1)).reshape(code.values.dims()))
    }

    /// The code in units of the decoder rows as stored: the factors of SAELens' rescaling cancel.
    fn encode_unscaled(&self, x: Tensor<2>) -> SparseCode {
        let x = if self.apply_b_dec_to_input { x - self.b_dec.clone().unsqueeze() } else { x };
        let encoder = Encoder {
            w_enc: self.w_enc.clone(),
            b_enc: self.b_enc.clone(),
            scale: self.scale.clone(),
            precision: Precision::F32,
        };
        let (values, indices) = kernels::encode_topk(x, encoder, self.k);
        SparseCode { values, indices }
    }

    fn decode_unscaled(&self, code: SparseCode) -> Tensor<2> {
        kernels::decode(code.values, code.indices, self.w_dec.clone()) + self.b_dec.clone().unsqueeze()
    }
}
