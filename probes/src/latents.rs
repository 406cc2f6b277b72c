//! What an SAE's weights alone say of each latent: norms, biases, and how alike directions are (SAEBench's feature-wise metrics).

use std::ops::Range;

use assay_sae::{Sae, product};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

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
    let bias = sae.encoder_bias().into_data().try_into_vec::<f32>().expect("weights are f32");
    LatentWeights {
        encoder_bias: bias.into_iter().map(f64::from).collect(),
        encoder_norm: encoder.chunks(d_in).map(norm).collect(),
        encoder_decoder_cosine: cosines_of_pairs([&encoder, &decoder], [d_in, d_out]),
        max_encoder_cosine: max_cosines(&encoder, d_in, sae),
        max_decoder_cosine: max_cosines(&decoder, d_out, sae),
    }
}

/// [`LatentWeights::encoder_decoder_cosine`] alone.
pub fn encoder_decoder_cosines(sae: &Sae) -> Vec<Option<f64>> {
    let [encoder, decoder] = sae.weights().map(|x| x.into_data().try_into_vec::<f32>().expect("weights are f32"));
    cosines_of_pairs([&encoder, &decoder], [sae.d_in(), sae.d_out()])
}

/// Of each latent the cosine of its two rows, where they are as wide.
fn cosines_of_pairs([encoder, decoder]: [&[f32]; 2], [d_in, d_out]: [usize; 2]) -> Vec<Option<f64>> {
    let both = encoder.chunks(d_in).zip(decoder.chunks(d_out));
    both.map(|(a, b)| if d_in == d_out { cosine(a, b) } else { None }).collect()
}

/// Of each decoder row the rows with the largest cosines with it, `count` of them, the largest first, ties to the lowest latent. A row of
/// norm 0 is near none.
pub fn nearest_decoder_rows(sae: &Sae, count: usize) -> Vec<Vec<(usize, f64)>> {
    nearest_of(sae, 0..sae.d_sae(), count)
}

/// The same of one latent, without looking for those of the others.
///
/// # Panics
/// If there is no such latent.
pub fn nearest_to(sae: &Sae, latent: usize, count: usize) -> Vec<(usize, f64)> {
    nearest_of(sae, latent..latent + 1, count).remove(0)
}

fn nearest_of(sae: &Sae, latents: Range<usize>, count: usize) -> Vec<Vec<(usize, f64)>> {
    let [_, decoder] = sae.weights();
    let (decoder, d_sae) = (decoder.into_data().try_into_vec::<f32>().expect("weights are f32"), sae.d_sae());
    let mut found: Vec<Vec<(usize, f64)>> = Vec::with_capacity(latents.len());
    let first = latents.start;
    let norms = for_cosines(&decoder, sae.d_out(), sae, latents, |cosines| {
        let cosines = cosines.into_data().try_into_vec::<f32>().expect("cosines are f32");
        let of_row = |row: &[f32]| {
            let mut best: Vec<(usize, f64)> = Vec::with_capacity(count + 1);
            // The latent itself is at −3.
            for (latent, &cosine) in row.iter().enumerate().filter(|(_, cosine)| **cosine > -2.0) {
                let cosine = f64::from(cosine);
                let at = best.partition_point(|(_, before)| *before >= cosine);
                if at < count {
                    best.insert(at, (latent, cosine));
                    best.truncate(count);
                }
            }
            best
        };
        found.par_extend(cosines.par_chunks(d_sae).map(of_row));
    });
    for (nearest, norm) in found.iter_mut().zip(&norms[first..]) {
        nearest.retain(|(latent, _)| *norm > 0.0 && norms[*latent] > 0.0);
    }
    found
}

/// The cosine of two latents' decoder rows, 0 where one has norm 0.
pub fn decoder_cosine(sae: &Sae) -> impl Fn(usize, usize) -> f64 + Sync {
    let [_, decoder] = sae.weights();
    let (rows, width) = (decoder.into_data().try_into_vec::<f32>().expect("weights are f32"), sae.d_out());
    move |a, b| {
        let row = |latent: usize| &rows[latent * width..(latent + 1) * width];
        cosine(row(a), row(b)).unwrap_or(0.0)
    }
}

/// Of each row the largest cosine with another row.
fn max_cosines(rows: &[f32], width: usize, sae: &Sae) -> Vec<Option<f64>> {
    let d_sae = sae.d_sae();
    if d_sae < 2 {
        return vec![None; d_sae];
    }
    let mut found = Vec::with_capacity(d_sae);
    let norms = for_cosines(rows, width, sae, 0..d_sae, |cosines| {
        found.extend(cosines.max_dim(1).into_data().try_into_vec::<f32>().expect("cosines are f32"));
    });
    found.into_iter().zip(norms).map(|(cosine, norm)| (norm > 0.0).then_some(f64::from(cosine))).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    ratio(dot, norm(a) * norm(b))
}

/// Gives `see` the cosines of [`ROWS`] of some latents' rows with all, `[≤ ROWS, d_sae]`, then of the next; a row's own with itself is −3, so that it is no
/// candidate. The result are the rows' norms.
fn for_cosines(
    rows: &[f32],
    width: usize,
    sae: &Sae,
    latents: Range<usize>,
    mut see: impl FnMut(Tensor<2>),
) -> Vec<f64> {
    let (d_sae, device) = (sae.d_sae(), sae.device());
    let norms: Vec<f64> = rows.chunks(width).map(norm).collect();
    let unit = |(row, &norm): (&[f32], &f64)| -> Vec<f32> {
        row.iter().map(|&v| if norm > 0.0 { (f64::from(v) / norm) as f32 } else { 0.0 }).collect()
    };
    let units: Vec<f32> = rows.chunks(width).zip(&norms).flat_map(unit).collect();
    let units: Tensor<2> = Tensor::from_data(TensorData::new(units, [d_sae, width]), &device);
    for start in latents.clone().step_by(ROWS) {
        let end = (start + ROWS).min(latents.end);
        let cosines = product(units.clone().slice([start..end, 0..width]), units.clone().transpose());
        let own = [0..end - start, start..end];
        let without = cosines.clone().slice(own.clone()) - Tensor::<2>::eye(end - start, &device) * 4.0;
        see(cosines.slice_assign(own, without));
    }
    norms
}
