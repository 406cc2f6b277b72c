//! Controls: what a score has without what it is to measure. Each is made without training, from a seed.
//!
//! - [`random_dictionary`]: directions by chance instead of learned ones, as sparse as the SAE.
//! - [`permuted_decoder`]: every latent writes what another one should. What depends on the encoder alone does not move; what depends on the
//!   reconstruction is lost.
//! - A random model is [`assay_models::LoadedWeights::Redrawn`]: the same SAE on a model that has learned nothing.
//!
//! Which of the usual scores tell trained from random is not known beforehand (Heap et al. 2025; Korznikov et al. 2025), so a score stands
//! beside that of its control.

use anyhow::{Result, anyhow, ensure};
use assay_probes::probing::permutation;
use assay_sae::{Activation, Sae, Transcoding};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Control {
    /// The SAE on the model with each matrix drawn anew, of the same mean and standard deviation
    RandomModel,
    /// The SAE with the rows of its decoder permuted
    PermutedDecoder,
    /// Random directions with the norms of the SAE's rows, and thresholds that make as many active
    RandomDictionary,
}

impl Control {
    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::RandomModel => "random-model",
            Self::PermutedDecoder => "permuted-decoder",
            Self::RandomDictionary => "random-dictionary",
        }
    }
}

/// Activations from which thresholds are taken, at most.
pub const SAMPLE: usize = 2048;
/// Latents in memory at a time.
const LATENTS: usize = 1 << 24;

fn host(values: Tensor<2>) -> Result<Vec<f32>> {
    values.into_data().convert::<f32>().try_into_vec::<f32>().map_err(|e| anyhow!("weights: {e:?}"))
}

/// The SAE with the rows of its decoder in a random order, no row in its place.
///
/// # Errors
/// If its encoder is its decoder, or it has one latent.
pub fn permuted_decoder(sae: &Sae, seed: u64) -> Result<Sae> {
    ensure!(
        !sae.activation().is_tied(),
        "the encoder of a matching pursuit is its decoder, which can't be permuted alone"
    );
    ensure!(sae.d_sae() > 1, "an SAE of one latent has one order of its decoder's rows");
    let cycle = permutation(sae.d_sae(), seed);
    // Each place takes the row of the next one in a random cycle through all of them.
    let mut order = vec![0; cycle.len()];
    for (at, &place) in cycle.iter().enumerate() {
        order[place] = cycle[(at + 1) % cycle.len()];
    }
    Ok(sae.clone().with_decoder_order(&order))
}

/// An SAE of random directions with the shape of another: encoder rows uniform on the sphere with that SAE's norms, decoder rows along
/// them with its norms (of a transcoder, directions of their own), and for each latent the threshold above which it is active on L0/d_sae of
/// `sample`, L0 being that SAE's there. It reads and writes about the mean of the sample, or about 0 where that SAE normalises
/// or is a transcoder.
///
/// # Shapes
/// - `sample`: `[rows, d_in]`, activations where the SAE reads
///
/// # Errors
/// If the sample is empty.
pub fn random_dictionary(sae: &Sae, sample: &Tensor<2>, seed: u64) -> Result<Sae> {
    let ([rows, d_in], d_sae, device) = (sample.dims(), sae.d_sae(), sae.device());
    ensure!(rows > 0, "thresholds need activations");
    let at_once = (LATENTS / d_sae).max(1);
    let mut active = 0_u64;
    for first in (0..rows).step_by(at_once) {
        let part = sample.clone().narrow(0, first, at_once.min(rows - first));
        sae.encode(part).for_each_active(|_, _, _| active += 1);
    }
    let share = active as f64 / (rows * d_sae) as f64;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let [encoder, decoder] = sae.weights();
    let (encoder_norms, decoder_norms) = (norms(encoder)?, norms(decoder)?);
    let directions = directions(d_sae, d_in, &mut rng);
    let w_enc = scaled(&directions, &encoder_norms, d_in);
    let d_out = sae.d_out();
    let out = if d_out == d_in && !sae.is_transcoder() { directions } else { self::directions(d_sae, d_out, &mut rng) };
    let w_dec = scaled(&out, &decoder_norms, d_out);
    let matrix = |values: Vec<f32>, width: usize| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [d_sae, width]), &device)
    };
    let (w_enc, w_dec) = (matrix(w_enc, d_in), matrix(w_dec, d_out));
    // What a normalising SAE reads has another mean than the sample.
    let plain = sae.normalization() == assay_sae::Normalization::None;
    let mean = if plain { sample.clone().mean_dim(0) } else { Tensor::zeros([1, d_in], &device) };
    let bias: Tensor<1> = mean.clone().matmul(w_enc.clone().transpose()).squeeze_dim::<1>(0).neg();
    let b_dec: Tensor<1> =
        if sae.is_transcoder() || d_out != d_in { Tensor::zeros([d_out], &device) } else { mean.squeeze_dim(0) };
    let with = |activation| {
        let made = Sae::new([w_enc.clone(), w_dec.clone()], [bias.clone(), b_dec.clone()], activation, false);
        let made = made.normalizing(sae.normalization());
        if sae.is_transcoder() { made.transcoding(Transcoding { skip: sae.skip() }) } else { made }
    };
    let thresholds = thresholds(&with(Activation::Relu), sample, share, &mut rng)?;
    Ok(with(Activation::JumpRelu { threshold: Tensor::from_data(thresholds.as_slice(), &device) }))
}

/// The values above which latents are active on a share of the rows: of each latent so many rows, one more by chance for what is left over.
fn thresholds(relu: &Sae, sample: &Tensor<2>, share: f64, rng: &mut ChaCha8Rng) -> Result<Vec<f32>> {
    let [rows, _] = sample.dims();
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); relu.d_sae()];
    let at_once = (LATENTS / relu.d_sae()).max(1);
    for first in (0..rows).step_by(at_once) {
        let part = sample.clone().narrow(0, first, at_once.min(rows - first));
        relu.encode(part).for_each_active(|_, latent, value| values[latent].push(value));
    }
    let threshold = |mut values: Vec<f32>| {
        let wanted = (share * rows as f64 + rng.random::<f64>()).floor() as usize;
        values.sort_by(|a, b| b.total_cmp(a));
        // The largest that is not to be active; none of those that are positive: 0.
        values.get(wanted).copied().unwrap_or(0.0)
    };
    Ok(values.into_iter().map(threshold).collect())
}

/// Directions uniform on the sphere, by a seed, `[count, width]`.
pub fn random_rows(count: usize, width: usize, seed: u64) -> Vec<f32> {
    directions(count, width, &mut ChaCha8Rng::seed_from_u64(seed))
}

/// Directions uniform on the sphere, `[count, width]`.
fn directions(count: usize, width: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut rows = Vec::with_capacity(count * width);
    for _ in 0..count {
        let mut row: Vec<f64> = Vec::with_capacity(width + 1);
        while row.len() < width {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let angle = rng.random::<f64>() * std::f64::consts::TAU;
            row.extend([radius * angle.cos(), radius * angle.sin()]);
        }
        row.truncate(width);
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        rows.extend(row.into_iter().map(|v| (v / norm) as f32));
    }
    rows
}

fn norms(matrix: Tensor<2>) -> Result<Vec<f32>> {
    let [_, width] = matrix.dims();
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt() as f32;
    Ok(host(matrix)?.chunks_exact(width.max(1)).map(norm).collect())
}

fn scaled(directions: &[f32], norms: &[f32], width: usize) -> Vec<f32> {
    let rows = directions.chunks_exact(width).zip(norms);
    rows.flat_map(|(row, norm)| row.iter().map(move |v| v * norm)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    fn sae(device: &Device) -> (Sae, Tensor<2>) {
        device.seed(1);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device);
        let (w_enc, w_dec) = (random([64, 8]), random([64, 8]));
        let zeros = |n| Tensor::zeros([n], device);
        let sae =
            Sae::new([w_enc, w_dec], [zeros(64), zeros(8)], Activation::TopK { k: 4, by_decoder_norm: false }, true);
        (sae, random([500, 8]) + 3.0)
    }

    fn active(sae: &Sae, x: &Tensor<2>) -> Vec<(usize, usize, f32)> {
        let mut active = Vec::new();
        sae.encode(x.clone()).for_each_active(|token, latent, value| active.push((token, latent, value)));
        active
    }

    #[test]
    fn a_random_dictionary_is_as_sparse_and_has_the_norms() {
        let device = Device::flex();
        let (sae, sample) = sae(&device);
        let found = random_dictionary(&sae, &sample, 7).unwrap();
        let l0 = |sae: &Sae| active(sae, &sample).len() as f64 / 500.0;
        // Each latent is active on 31 or 32 of the 500 rows.
        assert!((l0(&found) - l0(&sae)).abs() < 0.15 * l0(&sae), "{} {}", l0(&found), l0(&sae));
        for (own, other) in found.weights().into_iter().zip(sae.weights()) {
            for (a, b) in norms(own).unwrap().into_iter().zip(norms(other).unwrap()) {
                assert!((a / b - 1.0).abs() < 1e-5, "{a} {b}");
            }
        }
        assert_eq!(active(&found, &sample), active(&random_dictionary(&sae, &sample, 7).unwrap(), &sample));
        assert_ne!(active(&found, &sample), active(&random_dictionary(&sae, &sample, 8).unwrap(), &sample));
    }

    #[test]
    fn a_permuted_decoder_encodes_the_same_and_writes_otherwise() {
        let device = Device::flex();
        let (sae, sample) = sae(&device);
        let found = permuted_decoder(&sae, 3).unwrap();
        assert_eq!(active(&found, &sample), active(&sae, &sample));
        let [[_, before], [_, after]] = [sae.weights(), found.weights()];
        let (before, after) = (host(before).unwrap(), host(after).unwrap());
        let rows = |of: &[f32]| of.chunks(8).map(<[f32]>::to_vec).collect::<Vec<_>>();
        assert!(rows(&before).iter().zip(rows(&after)).all(|(a, b)| *a != b), "no row is in its place");
        let sorted = |of: &[f32]| {
            let mut rows = rows(of);
            rows.sort_by(|a, b| a[0].total_cmp(&b[0]));
            rows
        };
        assert_eq!(sorted(&before), sorted(&after));
    }
}
