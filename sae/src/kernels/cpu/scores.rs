//! Codes that are chosen from the pre-activations of a whole batch.

use burn::backend::Flex;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::largest::Cut;
use super::select::Select;
use super::{contiguous, dims2, float_tensor, floats, int_tensor, ints};
use crate::kernels::{ScoresOf, VectorOf};

/// Pre-activations `[batch, d_sae]`, and those that are compared: times the scale, if there is one.
pub(super) struct Scores {
    pre: FlexTensor,
    scaled: Option<Vec<f32>>,
}

/// The entries of a code: of each token the latents, ascending, and their values.
type Entries = Vec<(Vec<i32>, Vec<f32>)>;

impl Scores {
    pub(super) fn new(scores: ScoresOf<Flex>) -> Self {
        let pre = contiguous(scores.pre);
        let scaled = match scores.scale {
            VectorOf::None => None,
            VectorOf::Latents(scale) => Some(scaled(&pre, &contiguous(scale))),
        };
        Self { pre, scaled }
    }

    fn compared(&self) -> &[f32] {
        self.scaled.as_deref().unwrap_or_else(|| floats(&self.pre))
    }

    /// See [`crate::kernels::Scores::largest`].
    pub(super) fn largest(&self, count: usize) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let ([_, n], scores, pre) = (dims2(&self.pre), self.compared(), floats(&self.pre));
        let chosen = Cut::of(scores, count).rows(scores, n);
        let row = |(token, latents): (usize, &Vec<usize>)| {
            latents.iter().map(|&latent| (latent as i32, pre[token * n + latent])).unzip()
        };
        let score = |(token, latents): (usize, &Vec<usize>)| {
            latents.iter().map(|latent| scores[token * n + latent]).reduce(f32::min)
        };
        let least = chosen.iter().enumerate().filter_map(score).reduce(f32::min).unwrap_or(0.0);
        let (values, indices, starts) = code(chosen.par_iter().enumerate().map(row).collect());
        (values, indices, starts, float_tensor(vec![least], [1]))
    }

    /// See [`crate::kernels::Scores::dead`]: among the latents from `first` on for which there is a number in `since_fired`.
    pub(super) fn dead(
        &self,
        since_fired: &FlexTensor,
        after: i32,
        k: usize,
        first: usize,
    ) -> (FlexTensor, FlexTensor) {
        let ([batch, n], since_fired) = (dims2(&self.pre), ints(since_fired));
        let last = first + since_fired.len() - 1;
        let dead: Vec<usize> =
            since_fired.iter().zip(first..).filter(|&(&since, _)| since > after).map(|(_, latent)| latent).collect();
        let mut values = vec![0.0_f32; batch * k];
        // The last latent keeps the indices in ascending order.
        let mut indices = vec![last as i32; batch * k];
        values
            .par_chunks_mut(k)
            .zip(indices.par_chunks_mut(k))
            .zip(self.compared().par_chunks(n).zip(floats(&self.pre).par_chunks(n)))
            .for_each_init(
                || (Select::new(k), Vec::new()),
                |(select, own), ((values, indices), (scores, pre))| {
                    own.clear();
                    own.extend(dead.iter().map(|&latent| scores[latent]));
                    for ((value, index), &at) in values.iter_mut().zip(indices).zip(select.largest(own)) {
                        let latent = dead[at as usize];
                        *value = pre[latent];
                        *index = latent as i32;
                    }
                },
            );
        (float_tensor(values, [batch, k]), int_tensor(indices, [batch, k]))
    }

    /// The latents for which `is_chosen`, given latent and pre-activation.
    fn where_chosen(&self, is_chosen: impl Fn(usize, f32) -> bool + Sync) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [_, n] = dims2(&self.pre);
        let row = |pre: &[f32]| {
            let chosen = pre.iter().enumerate().filter(|&(latent, &pre)| is_chosen(latent, pre));
            chosen.map(|(latent, &pre)| (latent as i32, pre)).unzip()
        };
        code(floats(&self.pre).par_chunks(n).map(row).collect())
    }

    /// See [`crate::kernels::Scores::split`].
    pub(super) fn split(
        &self,
        threshold: &FlexTensor,
        low: &FlexTensor,
        both: bool,
    ) -> [(FlexTensor, FlexTensor, FlexTensor); 2] {
        let (threshold, low) = (floats(threshold), floats(low));
        let above = self.where_chosen(|latent, pre| pre > threshold[latent]);
        let between = self.where_chosen(|latent, pre| both && pre > low[latent] && pre <= threshold[latent]);
        [above, between]
    }
}

fn scaled(pre: &FlexTensor, scale: &FlexTensor) -> Vec<f32> {
    let ([_, n], scale) = (dims2(pre), floats(scale));
    let times = |pre: &[f32]| pre.iter().zip(scale).map(|(pre, scale)| pre * scale).collect::<Vec<f32>>();
    floats(pre).par_chunks(n).flat_map_iter(times).collect()
}

/// Values, indices and starts of the rows. There is an entry at least, if only one that is no token's: not all operations know tensors
/// without elements.
fn code(tokens: Entries) -> (FlexTensor, FlexTensor, FlexTensor) {
    let mut starts = vec![0_i32];
    let (mut values, mut indices) = (Vec::new(), Vec::new());
    for (latents, of_token) in tokens {
        indices.extend(latents);
        values.extend(of_token);
        starts.push(i32::try_from(values.len()).expect("settings with 2³¹ latents in a batch are refused"));
    }
    if values.is_empty() {
        values.push(0.0);
        indices.push(0);
    }
    let (entries, rows) = (values.len(), starts.len());
    (float_tensor(values, [entries]), int_tensor(indices, [entries]), int_tensor(starts, [rows]))
}
