//! What groups of latents write together, over many tokens.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use assay_models::TokenSource;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ModelWithSae;

/// A group of latents, and the tokens on which any of them fires.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its latents.
    pub latents: Vec<usize>,
    /// How many tokens there are, the first of each context left out.
    pub tokens: usize,
    /// What the latents write together, Σ z·w, on some of these tokens, chosen at random, `[rows, width of the site]`.
    pub points: Array2<f64>,
    /// The tokens on which it fires most often, as text, and how often.
    pub often: Vec<(String, usize)>,
}

/// Which tokens are read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Contexts.
    pub sequences: usize,
    /// Contexts of a pass.
    pub batch: usize,
    /// Points of a group at most.
    pub rows: usize,
    /// Tokens of [`Group::often`] at most.
    pub often: usize,
    /// Of the choice of points.
    pub seed: u64,
}

/// A group while tokens are read.
struct Gathered {
    tokens: usize,
    points: Vec<Vec<f64>>,
    counts: BTreeMap<u32, usize>,
    rng: ChaCha8Rng,
}

impl ModelWithSae {
    /// Reads tokens and gathers what each group writes. A latent is in one group at most. `advance` is told of contexts that are done.
    ///
    /// # Errors
    /// If tokens can't be read, the model refuses them, or `advance` stops it.
    pub fn groups(
        &self,
        groups: &[Vec<usize>],
        source: &TokenSource,
        read: Read,
        mut advance: impl FnMut(u64) -> Result<()>,
    ) -> Result<Vec<Group>> {
        let mut group_of = vec![None; self.latents()];
        for (group, latents) in groups.iter().enumerate() {
            for &latent in latents {
                ensure!(group_of[latent].is_none(), "latent {latent} is in two groups");
                group_of[latent] = Some(group);
            }
        }
        let [_, width] = self.writes.dims();
        let writes = self.writes.clone().into_data().convert::<f32>().try_into_vec::<f32>()?;
        let begun = |group: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(read.seed);
            rng.set_stream(group as u64);
            Gathered { tokens: 0, points: Vec::new(), counts: BTreeMap::new(), rng }
        };
        let mut gathered: Vec<Gathered> = (0..groups.len()).map(begun).collect();
        let length = source.context_size();
        for first in (0..read.sequences).step_by(read.batch.max(1)) {
            let count = read.batch.max(1).min(read.sequences - first);
            let tokens = source.read(first, count)?;
            let x = self.model.capture(tokens.view(), &[self.site])?.remove(0).flatten(0, 1);
            let mut fired: BTreeMap<(usize, usize), Vec<(usize, f32)>> = BTreeMap::new();
            self.sae.encode(x).for_each_active(|row, latent, z| {
                if let Some(group) = group_of[latent].filter(|_| row % length > 0) {
                    fired.entry((row, group)).or_default().push((latent, z));
                }
            });
            for ((row, group), active) in fired {
                let of = &mut gathered[group];
                *of.counts.entry(tokens[[row / length, row % length]]).or_default() += 1;
                of.tokens += 1;
                // Each of the tokens so far is kept with the same chance (Vitter 1985, algorithm R).
                let place = if of.tokens <= read.rows { of.points.len() } else { of.rng.random_range(0..of.tokens) };
                if place < read.rows {
                    let point = together(&active, &writes, width);
                    if place == of.points.len() { of.points.push(point) } else { of.points[place] = point }
                }
            }
            advance(count as u64)?;
        }
        let finished = |(latents, of): (&Vec<usize>, Gathered)| {
            let mut counts: Vec<(u32, usize)> = of.counts.into_iter().collect();
            // Of equals the lower id.
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let text = |(id, count): &(u32, usize)| (self.vocabulary.text(*id), *count);
            Ok(Group {
                latents: latents.clone(),
                tokens: of.tokens,
                points: Array2::from_shape_vec((of.points.len(), width), of.points.concat())?,
                often: counts.iter().take(read.often).map(text).collect(),
            })
        };
        groups.iter().zip(gathered).map(finished).collect()
    }

    /// The mean cosine of all pairs of a group's decoder rows; `None` of fewer than two.
    ///
    /// # Errors
    /// If the rows can't be read.
    pub fn mean_cosine(&self, latents: &[usize]) -> Result<Option<f64>> {
        let [_, width] = self.writes.dims();
        let mut sum = vec![0.0; width];
        for &latent in latents {
            let row = self.writes.clone().slice([latent..latent + 1, 0..width]);
            let row: Vec<f64> =
                row.into_data().convert::<f32>().try_into_vec::<f32>()?.into_iter().map(f64::from).collect();
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v / norm);
        }
        // ‖Σ u‖² = n + Σ over ordered pairs of cosines.
        let n = latents.len() as f64;
        let all = sum.iter().map(|v| v * v).sum::<f64>();
        Ok((latents.len() > 1).then(|| (all - n) / (n * (n - 1.0))))
    }
}

/// What some latents write together, Σ z·w of (latent, z); `writes` is `[latents, width]`, row by row.
pub fn together(active: &[(usize, f32)], writes: &[f32], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for &(latent, z) in active {
        let row = &writes[latent * width..(latent + 1) * width];
        sum.iter_mut().zip(row).for_each(|(sum, &w)| *sum += f64::from(z) * f64::from(w));
    }
    sum
}
