//! An SAE in host memory, and the folding of what a format has no word for.

use burn::tensor::{Device, Tensor, TensorData};

use crate::activation::{Activation, Normalization};
use crate::readback::host;
use crate::sae::{Sae, Transcoding};

/// An SAE's values, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HostSae {
    pub d_in: usize,
    pub d_out: usize,
    pub d_sae: usize,
    /// `[d_sae, d_in]`; empty where the decoder is the encoder.
    pub w_enc: Vec<f32>,
    /// `[d_sae]`
    pub b_enc: Vec<f32>,
    /// `[d_sae, d_out]`
    pub w_dec: Vec<f32>,
    /// `[d_out]`
    pub b_dec: Vec<f32>,
    pub activation: Activation<Vec<f32>>,
    pub normalization: Normalization,
    pub apply_b_dec_to_input: bool,
    pub transcoding: Option<Transcoding<Vec<f32>>>,
}

impl HostSae {
    pub fn of(sae: &Sae) -> Self {
        Self {
            d_in: sae.d_in(),
            d_out: sae.d_out(),
            d_sae: sae.d_sae(),
            w_enc: if sae.activation.is_tied() { Vec::new() } else { host(sae.w_enc.clone()) },
            b_enc: host(sae.b_enc.clone()),
            w_dec: host(sae.w_dec.clone()),
            b_dec: host(sae.b_dec.clone()),
            activation: sae.activation.map(|v| host(v.clone())),
            normalization: sae.normalization,
            apply_b_dec_to_input: sae.apply_b_dec_to_input,
            transcoding: sae.transcoding.clone().map(|of| Transcoding { skip: of.skip.map(host) }),
        }
    }

    /// The SAE on a device.
    pub fn on(self, device: &Device) -> Sae {
        let matrix =
            |values: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), device);
        let vector = |values: &[f32]| Tensor::<1>::from_data(values, device);
        let activation = self.activation.map(|v| vector(v));
        let biases = [vector(&self.b_enc), vector(&self.b_dec)];
        let w_dec = matrix(self.w_dec, [self.d_sae, self.d_out]);
        let w_enc = if activation.is_tied() { w_dec.clone() } else { matrix(self.w_enc, [self.d_sae, self.d_in]) };
        let sae =
            Sae::new([w_enc, w_dec], biases, activation, self.apply_b_dec_to_input).normalizing(self.normalization);
        match self.transcoding {
            None => sae,
            Some(Transcoding { skip }) => {
                sae.transcoding(Transcoding { skip: skip.map(|skip| matrix(skip, [self.d_out, self.d_in])) })
            }
        }
    }

    /// The same SAE with b_dec subtracted from the input or not: the difference goes into the encoder's biases. Only where it reads and
    /// writes one width.
    #[must_use]
    pub fn applying_b_dec(mut self, wanted: bool) -> Self {
        if self.apply_b_dec_to_input == wanted {
            return self;
        }
        debug_assert_eq!(self.d_in, self.d_out, "b_dec has the width of the input");
        let sign = if wanted { 1.0 } else { -1.0 };
        for (latent, row) in self.w_enc.chunks(self.d_in).enumerate() {
            let along: f64 = row.iter().zip(&self.b_dec).map(|(&w, &b)| f64::from(w) * f64::from(b)).sum();
            add(&mut self.b_enc[latent], sign * along);
            if let Activation::Gated { r_mag, b_mag } = &mut self.activation {
                add(&mut b_mag[latent], sign * along * f64::from(r_mag[latent]).exp());
            }
        }
        self.apply_b_dec_to_input = wanted;
        self
    }

    /// The same SAE with latents in units of their decoder rows' norms, where they are chosen by these: the norms go into the
    /// encoder, and the rows become unit vectors.
    #[must_use]
    pub fn folding_decoder_norms(mut self) -> Self {
        let (Activation::TopK { by_decoder_norm, .. } | Activation::AbsTopK { by_decoder_norm, .. }) =
            &mut self.activation
        else {
            return self;
        };
        if std::mem::replace(by_decoder_norm, false) {
            self.bring_decoder_to_unit_norm();
        }
        self
    }

    /// Puts the norms of the decoder's rows into the encoder, so that the rows become unit vectors.
    pub fn bring_decoder_to_unit_norm(&mut self) {
        let rows = self.w_enc.chunks_mut(self.d_in).zip(self.w_dec.chunks_mut(self.d_out));
        for ((encoder, decoder), bias) in rows.zip(&mut self.b_enc) {
            let norm = decoder.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
            encoder.iter_mut().chain([bias]).for_each(|w| scale(w, norm));
            // A row of zeros stays one: its latent is never active.
            if norm > 0.0 {
                decoder.iter_mut().for_each(|w| scale(w, 1.0 / norm));
            }
        }
    }

    /// The same SAE for inputs that were multiplied by `factor` when it was trained, as what it reconstructs.
    #[must_use]
    pub fn folding_input_scale(self, factor: f64) -> Self {
        self.folding_scales(factor, factor)
    }

    /// The same for inputs that were multiplied by `input`, and what it reconstructs by `output`; latents stay as they are.
    #[must_use]
    pub fn folding_scales(mut self, input: f64, output: f64) -> Self {
        self.w_enc.iter_mut().for_each(|w| scale(w, input));
        self.w_dec.iter_mut().chain(&mut self.b_dec).for_each(|w| scale(w, 1.0 / output));
        self
    }

    /// Brings an SAE that was trained on inputs times `input`, to reconstruct what it reconstructs times `output`, to the activations as they
    /// are; its latents to the input's units: b_enc/input, W_dec·input/output, b_dec/output.
    pub fn fold_norms(&mut self, input: f64, output: f64) {
        self.b_enc.iter_mut().for_each(|w| scale(w, 1.0 / input));
        self.w_dec.iter_mut().for_each(|w| scale(w, input / output));
        self.b_dec.iter_mut().for_each(|w| scale(w, 1.0 / output));
    }
}

fn add(value: &mut f32, summand: f64) {
    *value = (f64::from(*value) + summand) as f32;
}

fn scale(value: &mut f32, factor: f64) {
    *value = (f64::from(*value) * factor) as f32;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const D: usize = 5;
    const N: usize = 12;

    fn sae(values: &[f32], activation: Activation<Vec<f32>>, apply_b_dec_to_input: bool) -> HostSae {
        let (w_enc, rest) = values.split_at(D * N);
        let (w_dec, rest) = rest.split_at(D * N);
        HostSae {
            d_in: D,
            d_out: D,
            d_sae: N,
            w_enc: w_enc.to_vec(),
            b_enc: rest[..N].to_vec(),
            w_dec: w_dec.to_vec(),
            b_dec: rest[N..N + D].to_vec(),
            activation,
            normalization: Normalization::None,
            apply_b_dec_to_input,
            transcoding: None,
        }
    }

    fn reconstruct(sae: HostSae, x: &[f32]) -> Vec<f32> {
        let device = Device::flex();
        let x: Tensor<2> = Tensor::from_data(TensorData::new(x.to_vec(), [x.len() / D, D]), &device);
        host(sae.on(&device).reconstruct(x).0)
    }

    #[test]
    fn a_transcoder_may_write_another_width_than_it_reads() {
        let host_sae = HostSae {
            d_in: 2,
            d_out: 3,
            d_sae: 1,
            w_enc: vec![1.0, -1.0],
            b_enc: vec![0.5],
            w_dec: vec![1.0, 2.0, 3.0],
            b_dec: vec![0.0, 0.0, 10.0],
            activation: Activation::Relu,
            normalization: Normalization::None,
            apply_b_dec_to_input: false,
            transcoding: Some(Transcoding { skip: Some(vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0]) }),
        };
        let sae = host_sae.clone().on(&Device::flex());
        assert_eq!((sae.d_in(), sae.d_out(), HostSae::of(&sae)), (2, 3, host_sae));
        let x = Tensor::from_data(TensorData::new(vec![3.0_f32, 1.0], [1, 2]), &Device::flex());
        // z = 3 − 1 + 0.5
        assert_eq!(host(sae.reconstruct(x).0), [2.5 + 3.0, 5.0 + 1.0, 7.5 + 10.0 + 4.0]);
    }

    proptest! {
        #[test]
        fn folding_changes_no_reconstruction(
            values in prop::collection::vec(-1.0_f32..1.0, 2 * D * N + N + D),
            r_mag in prop::collection::vec(-1.0_f32..1.0, N),
            x in prop::collection::vec(-3.0_f32..3.0, 4 * D),
            apply in any::<bool>(),
        ) {
            // Rules without jumps, so that no near tie is decided otherwise: all latents chosen, magnitudes 0 where gates open.
            let b_mag = values[2 * D * N..].iter().zip(&r_mag).map(|(b, r)| b * r.exp()).collect();
            for activation in [
                Activation::TopK { k: N, by_decoder_norm: true },
                Activation::Relu,
                Activation::Gated { r_mag: r_mag.clone(), b_mag },
            ] {
                let sae = sae(&values, activation, apply);
                let before = reconstruct(sae.clone(), &x);
                let after = reconstruct(sae.folding_decoder_norms().applying_b_dec(!apply), &x);
                for (before, after) in before.iter().zip(&after) {
                    prop_assert!((before - after).abs() < 1e-4, "{before} {after}");
                }
            }
        }

        #[test]
        fn an_input_scale_goes_into_the_weights(
            values in prop::collection::vec(-1.0_f32..1.0, 2 * D * N + N + D),
            x in prop::collection::vec(-3.0_f32..3.0, 4 * D),
            factor in 0.1_f64..10.0,
        ) {
            let sae = sae(&values, Activation::Relu, true);
            let scaled: Vec<f32> = x.iter().map(|&v| (f64::from(v) * factor) as f32).collect();
            let expected = reconstruct(sae.clone(), &scaled);
            let found = reconstruct(sae.folding_input_scale(factor), &x);
            for (found, expected) in found.iter().zip(expected) {
                prop_assert!((f64::from(*found) * factor - f64::from(expected)).abs() < 1e-4 * (1.0 + f64::from(expected.abs())));
            }
        }
    }
}
