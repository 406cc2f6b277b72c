//! A sparse autoencoder for inference.

use burn::tensor::activation::relu;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

use crate::activation::{Activation, Normalization};
use crate::code::{Code, SparseCode};
use crate::kernels::{self, Encoder, Precision, Selection};
use crate::pursuit::matching_pursuit;
use crate::skip::skipped;

/// A sparse autoencoder:
///
/// ```text
/// pre = (x − b_dec) W_enc + b_enc
/// z   = activation(pre)
/// x̂   = z W_dec + b_dec
/// ```
///
/// Both weight matrices are stored with one row per latent: the encoder `[d_sae, d_in]`, the decoder `[d_sae, d_out]`. The widths are equal but
/// for transcoders, which may read activations of one width and predict those of another. Whether b_dec is subtracted, and whether x is
/// normalised first, is the SAE's own.
#[derive(Clone, Debug)]
pub struct Sae {
    pub(crate) w_enc: Tensor<2>,
    pub(crate) b_enc: Tensor<1>,
    pub(crate) w_dec: Tensor<2>,
    pub(crate) b_dec: Tensor<1>,
    pub(crate) activation: Activation,
    pub(crate) normalization: Normalization,
    pub(crate) apply_b_dec_to_input: bool,
    /// Of a transcoder.
    pub(crate) transcoding: Option<Transcoding>,
    /// Norms of the decoder rows, if latents are chosen by them.
    scale: Option<Tensor<1>>,
}

/// What a transcoder has beside an SAE: its reconstruction is a prediction of another activation than the one that it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcoding<T = Tensor<2>> {
    /// The map that adds x·W_skipᵀ to the prediction, `[d_out, d_in]`, of a skip transcoder.
    pub skip: Option<T>,
}

impl Sae {
    /// An SAE from its weights.
    ///
    /// # Shapes
    /// - `w_enc`: `[d_sae, d_in]`; `w_dec`: `[d_sae, d_out]`; `b_enc`: `[d_sae]`; `b_dec`: `[d_out]`
    pub fn new(
        [w_enc, w_dec]: [Tensor<2>; 2],
        [b_enc, b_dec]: [Tensor<1>; 2],
        activation: Activation,
        apply_b_dec_to_input: bool,
    ) -> Self {
        let scale = activation.by_decoder_norm().then(|| kernels::row_norms(w_dec.clone()));
        Self {
            w_enc,
            b_enc,
            w_dec,
            b_dec,
            activation,
            normalization: Normalization::None,
            apply_b_dec_to_input,
            transcoding: None,
            scale,
        }
    }

    /// The same SAE on inputs that are normalised first.
    #[must_use]
    pub fn normalizing(self, normalization: Normalization) -> Self {
        Self { normalization, ..self }
    }

    /// The same as a transcoder.
    #[must_use]
    pub fn transcoding(self, transcoding: Transcoding) -> Self {
        Self { transcoding: Some(transcoding), ..self }
    }

    /// The same with its decoder's rows in another order: what is encoded stays as it is, also where latents are chosen by the norms of
    /// the rows that they had, and what is decoded is of other latents.
    ///
    /// # Panics
    /// If the encoder is the decoder ([`Activation::is_tied`]), or there are not as many places as latents.
    #[must_use]
    pub fn with_decoder_order(self, order: &[usize]) -> Self {
        assert!(!self.activation.is_tied() && order.len() == self.d_sae(), "an order of the rows of a decoder");
        let order: Vec<i64> = order.iter().map(|&row| row as i64).collect();
        let order: Tensor<1, Int> = Tensor::from_data(order.as_slice(), &self.device());
        Self { w_dec: self.w_dec.select(0, order), ..self }
    }

    /// Whether it is a transcoder.
    pub fn is_transcoder(&self) -> bool {
        self.transcoding.is_some()
    }

    /// The map that a skip transcoder adds to what its latents make, `[d_out, d_in]`.
    pub fn skip(&self) -> Option<Tensor<2>> {
        self.transcoding.as_ref()?.skip.clone()
    }

    /// Width of the activations that it reads.
    pub fn d_in(&self) -> usize {
        self.w_enc.dims()[1]
    }

    /// Width of what it reconstructs, or of a transcoder predicts.
    pub fn d_out(&self) -> usize {
        self.w_dec.dims()[1]
    }

    /// Number of latents.
    pub fn d_sae(&self) -> usize {
        self.w_dec.dims()[0]
    }

    /// Latents chosen per token, where the architecture fixes that.
    pub fn k(&self) -> Option<usize> {
        self.activation.k()
    }

    /// The rule that makes latents of pre-activations.
    pub fn activation(&self) -> &Activation {
        &self.activation
    }

    /// What is done to the input first.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// Whether b_dec is subtracted from the input.
    pub fn applies_b_dec_to_input(&self) -> bool {
        self.apply_b_dec_to_input
    }

    /// Encoder and decoder, `[d_sae, d_in]` and `[d_sae, d_out]`.
    pub fn weights(&self) -> [Tensor<2>; 2] {
        [self.w_enc.clone(), self.w_dec.clone()]
    }

    /// The bias that a latent's magnitude has, `[d_sae]`: b_enc, or b_mag of a gated SAE.
    pub fn encoder_bias(&self) -> Tensor<1> {
        match &self.activation {
            Activation::Gated { b_mag, .. } => b_mag.clone(),
            _ => self.b_enc.clone(),
        }
    }

    /// The bias before the activation, `[d_sae]`; of a gated SAE, the gate's.
    pub fn gate_bias(&self) -> Tensor<1> {
        self.b_enc.clone()
    }

    /// b_dec, `[d_out]`.
    pub fn decoder_bias(&self) -> Tensor<1> {
        self.b_dec.clone()
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.w_dec.device()
    }

    /// The active latents of each token.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_in]`
    pub fn encode(&self, x: Tensor<2>) -> Code {
        let (x, _) = self.normalization.apply(x);
        self.in_decoder_norms(self.encode_unscaled(x))
    }

    /// The reconstruction from a code of [`Self::encode`]; of an SAE that normalises its input, in normalised units. What a skip
    /// transcoder's map adds to it, no code knows.
    ///
    /// # Shapes
    /// - result `[batch, d_out]`
    ///
    /// # Panics
    /// If the code is that of an SAE with another number of latents.
    pub fn decode(&self, code: Code) -> Tensor<2> {
        if let Code::Sparse(code) = &code {
            assert_eq!(code.d_sae(), self.d_sae(), "a code of another SAE");
        }
        let code = match &self.scale {
            None => code,
            Some(scale) => match code {
                Code::Sparse(code) => {
                    let factors = factors(scale, &code);
                    Code::Sparse(code.map_values(|values| values / factors))
                }
                Code::Dense(values) => Code::Dense(values / scale.clone().unsqueeze()),
            },
        };
        self.decode_unscaled(code)
    }

    /// x̂ and the code that it is made from; of a transcoder, the activation that it predicts, in the units of what it predicts: a
    /// normalisation of its input is not undone there.
    ///
    /// # Shapes
    /// - `x`: `[batch, d_in]`; result `[batch, d_out]`
    pub fn reconstruct(&self, x: Tensor<2>) -> (Tensor<2>, Code) {
        let skipped = self.skip().map(|skip| skipped(x.clone(), &skip));
        let (x, undo) = self.normalization.apply(x);
        let code = self.encode_unscaled(x);
        let reconstruction = self.decode_unscaled(code.clone());
        let reconstruction = match undo {
            Some(undo) if !self.is_transcoder() => undo.apply(reconstruction),
            _ => reconstruction,
        };
        let reconstruction = match skipped {
            Some(skipped) => reconstruction + skipped,
            None => reconstruction,
        };
        (reconstruction, self.in_decoder_norms(code))
    }

    /// A code in units of the decoder rows as stored, brought to the SAE's own units.
    fn in_decoder_norms(&self, code: Code) -> Code {
        let Some(scale) = &self.scale else { return code };
        match code {
            Code::Sparse(code) => {
                let factors = factors(scale, &code);
                Code::Sparse(code.map_values(|values| values * factors))
            }
            Code::Dense(values) => Code::Dense(values * scale.clone().unsqueeze()),
        }
    }

    /// The code in units of the decoder rows as stored: the factors of SAELens' rescaling cancel.
    fn encode_unscaled(&self, x: Tensor<2>) -> Code {
        let x = if self.apply_b_dec_to_input { x - self.b_dec.clone().unsqueeze() } else { x };
        match &self.activation {
            Activation::TopK { k, .. } => Code::Sparse(self.select(x, Selection::TopK { k: *k })),
            Activation::AbsTopK { k, .. } => Code::Dense(self.select_by_magnitude(x, *k)),
            Activation::GroupMax { k } => Code::Sparse(self.select(x, Selection::GroupMax { k: *k })),
            Activation::Relu => Code::Dense(relu(self.pre(x))),
            Activation::JumpRelu { threshold } => {
                let pre = self.pre(x);
                let fires = pre.clone().greater(threshold.clone().unsqueeze::<2>().expand(pre.dims())).float();
                Code::Dense(relu(pre) * fires)
            }
            Activation::Gated { r_mag, b_mag } => {
                let product = self.product(x);
                let fires = (product.clone() + self.b_enc.clone().unsqueeze()).greater_elem(0.0).float();
                let magnitude = product * r_mag.clone().exp().unsqueeze() + b_mag.clone().unsqueeze();
                Code::Dense(relu(magnitude) * fires)
            }
            Activation::MatchingPursuit(pursuit) => Code::Dense(matching_pursuit(x, &self.w_dec, *pursuit)),
        }
    }

    fn select(&self, x: Tensor<2>, selection: Selection) -> SparseCode {
        let encoder = Encoder {
            w_enc: self.w_enc.clone(),
            b_enc: self.b_enc.clone(),
            scale: self.scale.clone(),
            precision: Precision::F32,
        };
        kernels::encode(x, encoder, selection)
    }

    /// The latents of largest magnitude with their signs, `[batch, d_sae]`. They are the k largest of twice as many, of which each latent has
    /// two: its pre-activation, and what that would be with the opposite sign.
    fn select_by_magnitude(&self, x: Tensor<2>, k: usize) -> Tensor<2> {
        let ([batch, _], d_sae) = (x.dims(), self.d_sae());
        let encoder = Encoder {
            w_enc: Tensor::cat(vec![self.w_enc.clone(), self.w_enc.clone().neg()], 0),
            b_enc: Tensor::cat(vec![self.b_enc.clone(), self.b_enc.clone().neg()], 0),
            scale: self.scale.clone().map(|scale| Tensor::cat(vec![scale.clone(), scale], 0)),
            precision: Precision::F32,
        };
        let code = kernels::encode(x, encoder, Selection::TopK { k });
        let (values, latents) = (code.values().reshape([batch, k]), code.indices().reshape([batch, k]));
        let both = Tensor::zeros([batch, 2 * d_sae], &self.device());
        let both = both.scatter(1, latents, values, IndexingUpdateOp::Add);
        both.clone().slice([0..batch, 0..d_sae]) - both.slice([0..batch, d_sae..2 * d_sae])
    }

    /// x·W_enc, `[batch, d_sae]`.
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::product(x, self.w_enc.clone().transpose())
    }

    /// x·W_enc + b_enc, `[batch, d_sae]`.
    fn pre(&self, x: Tensor<2>) -> Tensor<2> {
        self.product(x) + self.b_enc.clone().unsqueeze()
    }

    fn decode_unscaled(&self, code: Code) -> Tensor<2> {
        let sum = match code {
            Code::Sparse(code) => kernels::decode(code, self.w_dec.clone()),
            Code::Dense(values) => kernels::product(values, self.w_dec.clone()),
        };
        sum + self.b_dec.clone().unsqueeze()
    }
}

/// The factor of every chosen latent.
fn factors(scale: &Tensor<1>, code: &SparseCode) -> Tensor<1> {
    scale.clone().select(0, code.indices())
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::readback::host;

    #[test]
    fn another_order_of_the_decoder_s_rows_moves_no_latent() {
        let device = Device::flex();
        let matrix =
            |values: [f32; 6]| -> Tensor<2> { Tensor::from_data(TensorData::new(values.to_vec(), [3, 2]), &device) };
        let zeros = |n| Tensor::zeros([n], &device);
        let sae = Sae::new(
            [matrix([1.0, 0.0, 0.0, 1.0, 0.6, 0.6]), matrix([1.0, 0.0, 0.0, 5.0, 0.0, 1.0])],
            [zeros(3), zeros(2)],
            Activation::TopK { k: 1, by_decoder_norm: true },
            false,
        );
        let moved = sae.clone().with_decoder_order(&[1, 0, 2]);
        let x: Tensor<2> = Tensor::from_data([[3.0, 1.0]], &device);
        let active = |sae: &Sae| {
            let mut active = Vec::new();
            sae.encode(x.clone()).for_each_active(|_, latent, value| active.push((latent, value)));
            active
        };
        assert_eq!((active(&sae), active(&moved)), (vec![(1, 5.0)], vec![(1, 5.0)]));
        assert_eq!(host(sae.reconstruct(x.clone()).0), [0.0, 5.0]);
        assert_eq!(host(moved.reconstruct(x.clone()).0), [1.0, 0.0]);
    }

    #[test]
    fn latents_of_largest_magnitude_keep_their_signs_in_either_units() {
        let device = Device::flex();
        let matrix = |values: &[f32]| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / 2, 2]), &device)
        };
        let vector = |values: &[f32]| -> Tensor<1> { Tensor::from_data(values, &device) };
        let w_enc = matrix(&[1.0, 0.0, 0.0, 1.0, -1.0, -1.0, 0.5, 0.0]);
        // Of norms 1, 5, 1 and 10.
        let w_dec = matrix(&[1.0, 0.0, 3.0, 4.0, 0.0, 1.0, 6.0, 8.0]);
        let biases = [vector(&[0.0, 0.0, 0.5, -0.25]), vector(&[0.0, 0.0])];
        let x = matrix(&[2.0, -1.0]);
        // pre is (2, −1, −0.5, 0.75), times the norms (2, −5, −0.5, 7.5).
        for (by_decoder_norm, expected) in [(false, [2.0, -1.0, 0.0, 0.0]), (true, [0.0, -5.0, 0.0, 7.5])] {
            let activation = Activation::AbsTopK { k: 2, by_decoder_norm };
            let sae = Sae::new([w_enc.clone(), w_dec.clone()], biases.clone(), activation, false);
            let Code::Dense(latents) = sae.encode(x.clone()) else { panic!("a dense code") };
            assert_eq!(host(latents.clone()), expected);
            let (reconstruction, code) = sae.reconstruct(x.clone());
            let Code::Dense(same) = code else { panic!("a dense code") };
            assert_eq!(host(same), expected);
            let of_code = host(sae.decode(Code::Dense(latents)));
            assert_eq!(host(reconstruction), of_code);
            let in_rows = if by_decoder_norm { [-3.0 + 4.5, -4.0 + 6.0] } else { [2.0 - 3.0, -4.0] };
            assert_eq!(of_code, in_rows);
        }
    }
}
