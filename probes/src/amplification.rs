//! What a model says where one latent of an SAE is made much more active: the output score.

use assay_models::decoder::Cut;
use assay_models::{Decoder, Site};
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use ndarray::Array2;

use crate::error::Result;

/// The text at whose end latents are amplified (Arad et al. 2025).
pub const PROMPT: &str = "From my experience,";
/// A latent is raised by so many times the largest activation there.
const FACTOR: f32 = 10.0;
/// Prompts in a pass.
const AT_ONCE: usize = 64;

/// The output score of each latent (Arad et al. 2025, "SAEs Are Good for Steering -- If You Select the Right Features"): (1 − r/V)·p. With
/// the latent raised at the last token of a prompt and the SAE's error left as it is, p is the probability of the likeliest of the tokens
/// that the latent writes by the logit lens, V the size of the vocabulary, and r how many tokens are likelier than that one. It is raised by
/// ten times `largest`, the largest activation of any latent at that token. `None` of a latent that writes nothing, and of all where `largest`
/// is not above 0: no latent fires there, and nothing says by how much to raise one.
///
/// # Shapes
/// - `tokens`: the prompt, `[context]`; `rows`: of [`crate::ablation::written`], `[latents, d_out]`; `written`: the ids that each writes
///
/// # Errors
/// As [`Decoder::cut`].
///
/// # Panics
/// Of an empty prompt.
pub fn output_scores(
    model: &Decoder,
    site: Site,
    tokens: &[u32],
    rows: &Tensor<2>,
    largest: f32,
    written: &[Vec<u32>],
) -> Result<Vec<Option<f64>>> {
    let ([latents, width], context) = (rows.dims(), tokens.len());
    if largest <= 0.0 {
        return Ok(vec![None; latents]);
    }
    let mut scores = Vec::with_capacity(latents);
    let mut cut: Option<(usize, Cut)> = None;
    for first in (0..latents).step_by(AT_ONCE) {
        let count = AT_ONCE.min(latents - first);
        if cut.as_ref().is_none_or(|(of, _)| *of != count) {
            let prompts = Array2::from_shape_fn((count, context), |(_, at)| tokens[at]);
            cut = Some((count, model.cut(prompts.view(), &[site])?.remove(0)));
        }
        let (_, cut) = cut.as_ref().expect("it was just made");
        let raised =
            rows.clone().slice([first..first + count, 0..width]).reshape([count, 1, width]) * (FACTOR * largest);
        let mut last = vec![0.0_f32; context];
        last[context - 1] = 1.0;
        let last: Tensor<3> = Tensor::from_data(TensorData::new(last, [1, context, 1]), &rows.device());
        let logits = model.forward_from(cut, cut.value() + raised * last);
        let [_, _, vocab] = logits.dims();
        let probs = softmax(logits.slice([0..count, context - 1..context, 0..vocab]), 2);
        let probs = probs.into_data().convert::<f32>().try_into_vec::<f32>().expect("probabilities are f32");
        scores.extend(probs.chunks_exact(vocab).zip(&written[first..]).map(|(probs, written)| score(probs, written)));
    }
    Ok(scores)
}

fn score(probs: &[f32], written: &[u32]) -> Option<f64> {
    let likeliest = written.iter().map(|&id| probs[id as usize]).max_by(f32::total_cmp).filter(|p| p.is_finite())?;
    let above = probs.iter().filter(|p| **p > likeliest).count();
    Some((1.0 - above as f64 / probs.len() as f64) * f64::from(likeliest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_that_of_the_likeliest_token_that_is_written() {
        let probs = [0.1, 0.5, 0.25, 0.15];
        assert_eq!(score(&probs, &[1, 3]), Some(0.5));
        assert_eq!(score(&probs, &[0, 2]), Some(0.75 * 0.25));
        assert_eq!(score(&probs, &[]), None);
        assert_eq!(score(&[f32::NAN, 1.0], &[0]), None);
    }
}
