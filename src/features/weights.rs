//! What latents write, by the logit lens.

use assay_models::{Decoder, HookKind, Site};
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Tokens of a latent that are kept; the first 10 are shown, all count in the input score.
pub const WRITTEN: usize = 20;
/// Rows that go through the lens at once.
const ROWS: usize = 64;

/// Whether what is reconstructed at a site is, or is added to, the residual stream, so that a direction there has a logit lens.
pub fn has_lens(site: Site) -> bool {
    site.hook.kind.is_residual() || matches!(site.hook.kind, HookKind::AttnOut | HookKind::MlpOut)
}

/// The token ids that each of some directions raises most and by how much, by [`Decoder::logit_lens`]; the largest first, ties to the
/// lowest id.
///
/// # Shapes
/// - `rows`: `[latents, d_model]`
pub fn written(model: &Decoder, rows: &Tensor<2>) -> Vec<Vec<(u32, f32)>> {
    by_lens(model, rows, written_by)
}

/// The same of directions at a site; none where what is there is not in the residual stream.
pub fn written_at(model: &Decoder, site: Site, rows: &Tensor<2>) -> Vec<Vec<(u32, f32)>> {
    if has_lens(site) { written(model, rows) } else { vec![Vec::new(); rows.dims()[0]] }
}

/// What `of` makes of the logits of each direction.
fn by_lens(
    model: &Decoder,
    rows: &Tensor<2>,
    of: impl Fn(&[f32]) -> Vec<(u32, f32)> + Sync + Send,
) -> Vec<Vec<(u32, f32)>> {
    let ([latents, width], vocab_size) = (rows.dims(), model.config().vocab_size);
    let mut found = Vec::with_capacity(latents);
    for start in (0..latents).step_by(ROWS) {
        let end = (start + ROWS).min(latents);
        let logits = model.logit_lens(rows.clone().slice([start..end, 0..width]));
        let logits = logits.into_data().try_into_vec::<f32>().expect("logits are f32");
        found.par_extend(logits.par_chunks(vocab_size).map(&of));
    }
    found
}

/// The token ids that each of some directions lowers most, and their logits, the least first, likewise.
pub fn suppressed(model: &Decoder, rows: &Tensor<2>) -> Vec<Vec<(u32, f32)>> {
    by_lens(model, rows, |logits| {
        let negated: Vec<f32> = logits.iter().map(|logit| -logit).collect();
        written_by(&negated).into_iter().map(|(id, logit)| (id, -logit)).collect()
    })
}

/// The tokens that logits favour most; none of a latent that writes nothing, or nothing finite.
fn written_by(logits: &[f32]) -> Vec<(u32, f32)> {
    let says_nothing = logits.iter().all(|logit| *logit == 0.0) || logits.iter().any(|logit| !logit.is_finite());
    if says_nothing { Vec::new() } else { largest(logits, WRITTEN) }
}

/// The largest of some numbers with their places; ties to the first.
pub fn largest(values: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (at, &value) in values.iter().enumerate() {
        if best.len() == count && best[count - 1].1 >= value {
            continue;
        }
        let place = best.partition_point(|(_, before)| *before >= value);
        best.insert(place, (at as u32, value));
        best.truncate(count);
    }
    best
}
