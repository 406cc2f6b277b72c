//! What an SAE's weights alone say of each latent: norms, biases, and how alike directions are (SAEBench's feature-wise metrics).

use assay_sae::{Sae, product};
use burn::tensor::{Tensor, TensorData};

use crate::metrics::{norm, ratio};

/// Values of each latent, `[d_sae]`. A cosine with a vector of norm 0 is undefined.
#[derive(Clone, Debug, Default)]
pub struct LatentWeights {
    /// The bias of its magnitude: b_enc, or b_mag of a gated SAE.
    pub encoder_bias: Vec<f64>,
    /// ‖W_enc's column‖.
    pub encoder_norm: Vec<f64>,
    /// Cosine of its encoder and decoder directions; null of a transcoder that reads one width and writes another.
    pub encoder_decoder_cosine: Vec<Option<f64>>,
    /// Largest cosine of its encoder direction with another latent's.
    pub max_encoder_cosine: Vec<Option<f64>>,
    /// Largest cosine of its decoder direction with another latent's.
    pub max_decoder_cosine: Vec<Option<f64>>,
}

/// Latents compared with all others at a time.
const ROWS: usize = 1024;

/// Measures an SAE's weights.
pub fn latent_weights(sae: &Sae) -> LatentWeights {
    let (d_in, d_out) = (sae.d_in(), sae.d_out());
    let [encoder, decoder] = sae.weights();
    let rows = |x: &Tensor<2>| x.to_data().try_into_vec::<f32>().expect("weights are f32");
    let (encoder, decoder) = (rows(&encoder), rows(&decoder));
    let cosine = |(a, b): (&[f32], &[f32])| {
        if d_in != d_out {
            return None;
        }
        let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        ratio(dot, norm(a) * norm(b))
    };
    let bias = sae.encoder_bias().into_data().try_into_vec::<f32>().expect("weights are f32");
    LatentWeights {
        encoder_bias: bias.into_iter().map(f64::from).collect(),
        encoder_norm: encoder.chunks(d_in).map(norm).collect(),
        encoder_decoder_cosine: encoder.chunks(d_in).zip(decoder.chunks(d_out)).map(cosine).collect(),
        max_encoder_cosine: max_cosines(&encoder, d_in, sae),
        max_decoder_cosine: max_cosines(&decoder, d_out, sae),
    }
}

/// Of each row the largest cosine with another row.
fn max_cosines(rows: &[f32], width: usize, sae: &Sae) -> Vec<Option<f64>> {
    let (d_sae, device) = (sae.d_sae(), sae.device());
    if d_sae < 2 {
        return vec![None; d_sae];
    }
    let norms: Vec<f64> = rows.chunks(width).map(norm).collect();
    let unit = |(row, &norm): (&[f32], &f64)| -> Vec<f32> {
        row.iter().map(|&v| if norm > 0.0 { (f64::from(v) / norm) as f32 } else { 0.0 }).collect()
    };
    let units: Vec<f32> = rows.chunks(width).zip(&norms).flat_map(unit).collect();
    let units: Tensor<2> = Tensor::from_data(TensorData::new(units, [d_sae, width]), &device);
    let mut found = Vec::with_capacity(d_sae);
    for start in (0..d_sae).step_by(ROWS) {
        let end = (start + ROWS).min(d_sae);
        let cosines = product(units.clone().slice([start..end, 0..width]), units.clone().transpose());
        // A latent's cosine with itself is no candidate: −3 is below any other.
        let own = [0..end - start, start..end];
        let without = cosines.clone().slice(own.clone()) - Tensor::<2>::eye(end - start, &device) * 4.0;
        let largest = cosines.slice_assign(own, without).max_dim(1);
        found.extend(largest.into_data().try_into_vec::<f32>().expect("cosines are f32"));
    }
    found.into_iter().zip(norms).map(|(cosine, norm)| (norm > 0.0).then_some(f64::from(cosine))).collect()
}
