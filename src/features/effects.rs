//! What ablating latents does, each in some contexts where it fires.

use anyhow::Result;
use assay_models::{Decoder, Site};
use assay_probes::ablation::{Effect, Intact};
use assay_probes::features::ContextSample;
use burn::tensor::Tensor;
use ndarray::Array2;

use super::firings::Readers;
use crate::interrupt::{self, Interrupted};
use crate::progress::Stage;

/// Contexts of a latent, drawn at random among those where it fires: 4, or as many as have this many tokens, but one at least.
const CONTEXTS: usize = 4;
const TOKENS: usize = 512;

/// What a latent does in the contexts that were drawn.
struct Drawn {
    /// `[contexts, T]`
    tokens: Array2<u32>,
    /// `[contexts · T]`
    z: Vec<f32>,
}

/// Measures what ablating each of some latents does, in up to 4 contexts where it fires on a token after which one is predicted.
///
/// `rows` are what latents write ([`assay_probes::ablation::written`]), `site` where that is added.
///
/// # Errors
/// If the store can't be read, the model refuses its tokens, or the work is interrupted.
pub fn effects(
    model: &Decoder,
    site: Site,
    rows: &Tensor<2>,
    readers: &Readers<'_>,
    latents: &[usize],
    stage: &mut Stage,
    saved: &str,
) -> Result<Vec<Effect>> {
    let mut effects = Vec::with_capacity(latents.len());
    for group in latents.chunks(64) {
        let drawn = readers.map(group, |reader, latent| {
            let context_size = reader.tokens.context_size();
            let mut draw = ContextSample::new(latent, (TOKENS / context_size).clamp(1, CONTEXTS));
            reader.events.each(latent, |position, _| {
                let (context, within) = (position as usize / context_size, position as usize % context_size);
                // Nothing is predicted after the last token.
                if within + 1 < context_size {
                    draw.push(context);
                }
                Ok(())
            })?;
            let contexts = draw.finish();
            let mut z = vec![0.0; contexts.len() * context_size];
            reader.events.each(latent, |position, value| {
                let position = position as usize;
                if let Ok(row) = contexts.binary_search(&(position / context_size)) {
                    z[row * context_size + position % context_size] = value;
                }
                Ok(())
            })?;
            let mut tokens = Array2::zeros((contexts.len(), context_size));
            for ((row, within), token) in tokens.indexed_iter_mut() {
                *token = reader.tokens.at(contexts[row] * context_size + within)?;
            }
            Ok(Drawn { tokens, z })
        })?;
        for (&latent, Drawn { tokens, z }) in group.iter().zip(&drawn) {
            if interrupt::requested() {
                return Err(Interrupted { saved: saved.to_owned() }.into());
            }
            effects.push(match tokens.nrows() {
                0 => Effect::default(),
                _ => Intact::new(model, tokens.view(), site)?.without(rows.clone().narrow(0, latent, 1), z),
            });
            stage.advance(1, String::new);
        }
    }
    Ok(effects)
}
