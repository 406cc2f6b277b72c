//! Causal attention on the CPU, some queries at a time, of queries, keys and values where the product left them: nothing is copied but what
//! is rotated, and of the scores only those before the diagonal are computed.
//!
//! Scores, softmax and sums have the bits of Burn's attention that holds all scores of a head: what is left out there adds exact zeros.

use std::ops::Range;

use assay_kernels::cpu::{Matrix, product};
use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use super::super::block::TablesOf;
use super::{after_start, stride};
use crate::config::{Attention, LayerKind};

/// Queries of a task, about: the keys up to the last are multiplied with all of them.
const QUERIES: usize = 64;

/// See [`super::super::attention()`].
pub(super) fn run(
    [q, k, v]: [FlexTensor; 3],
    tables: TablesOf<Flex>,
    attention: &Attention,
    kind: &LayerKind,
) -> FlexTensor {
    let [batch, context, d_q] = q.layout().shape().dims::<3>();
    let Attention { n_kv_heads, d_head, .. } = *attention;
    let tables = match tables {
        TablesOf::None => None,
        TablesOf::Some(cos, sin) => Some([cos, sin].map(|table| table.to_contiguous())),
    };
    let rotation = Rotation::new(tables.as_ref());
    let [q, k, v] = [q, k, v].map(with_rows);
    let [queries, keys, values] = [&q, &k, &v].map(Rows::new);

    // Rotated once, not once for every head that reads them: [batch, n_kv_heads, context, d_head].
    let mut rotated = vec![0.0; batch * n_kv_heads * context * d_head];
    if !rotated.is_empty() {
        rotated.par_chunks_mut(context * d_head).enumerate().for_each(|(at, head)| {
            let columns = d_head * (at % n_kv_heads)..d_head * (at % n_kv_heads + 1);
            for (position, key) in head.chunks_mut(d_head).enumerate() {
                rotation.apply(position, &keys.at(at / n_kv_heads, position)[columns.clone()], key);
            }
        });
    }

    let heads = Heads { queries, keys: &rotated, values, rotation, attention, kind, context };
    let mut mixed = vec![0.0; batch * context * d_q];
    let mut tasks = Vec::new();
    let mut rest = mixed.as_mut_slice();
    for sequence in 0..batch {
        for positions in blocks(context) {
            let (block, after) = rest.split_at_mut(positions.len() * d_q);
            tasks.push((sequence, positions, block));
            rest = after;
        }
    }
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (sequence, positions, out)| {
        heads.mix(sequence, positions, out, scratch);
    });
    FlexTensor::new(Bytes::from_elems(mixed), Layout::contiguous(Shape::from([batch, context, d_q])), DType::F32)
}

/// The positions of a context in blocks of about the same size, none of which is small: a product of a few rows goes another way, with
/// other bits.
fn blocks(context: usize) -> impl Iterator<Item = Range<usize>> {
    let count = context.div_ceil(QUERIES);
    (0..count).map(move |block| block * context / count..(block + 1) * context / count)
}

/// A tensor of floats whose rows are contiguous.
fn with_rows(x: FlexTensor) -> FlexTensor {
    assert_eq!(x.dtype(), DType::F32, "the CPU computes in f32");
    if x.layout().strides()[2] == 1 { x } else { x.to_contiguous() }
}

/// The rows of a tensor `[batch, context, width]`, which may lie between those of others.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    width: usize,
    strides: [usize; 2],
}

impl<'a> Rows<'a> {
    fn new(x: &'a FlexTensor) -> Self {
        Self { values: after_start(x), width: x.layout().shape()[2], strides: [stride(x, 0), stride(x, 1)] }
    }

    fn at(&self, sequence: usize, position: usize) -> &'a [f32] {
        &self.from(sequence, position)[..self.width]
    }

    /// That row and what comes after it.
    fn from(&self, sequence: usize, position: usize) -> &'a [f32] {
        &self.values[sequence * self.strides[0] + position * self.strides[1]..]
    }
}

/// The rotation of the first dimensions of a head: see [`crate::rotary::Rotary::apply`].
#[derive(Clone, Copy)]
struct Rotation<'a> {
    /// `[context, half]` each.
    cos: &'a [f32],
    sin: &'a [f32],
    half: usize,
}

impl<'a> Rotation<'a> {
    fn new(tables: Option<&'a [FlexTensor; 2]>) -> Self {
        let Some([cos, sin]) = tables else { return Self { cos: &[], sin: &[], half: 0 } };
        Self { cos: after_start(cos), sin: after_start(sin), half: cos.layout().shape()[3] }
    }

    fn apply(&self, position: usize, head: &[f32], out: &mut [f32]) {
        let half = self.half;
        let table = position * half..(position + 1) * half;
        let (cos, sin) = (&self.cos[table.clone()], &self.sin[table]);
        let (rotated, kept) = head.split_at(2 * half);
        let (first, second) = rotated.split_at(half);
        let (out_rotated, out_kept) = out.split_at_mut(2 * half);
        let (out_first, out_second) = out_rotated.split_at_mut(half);
        for i in 0..half {
            out_first[i] = first[i] * cos[i] - second[i] * sin[i];
            out_second[i] = second[i] * cos[i] + first[i] * sin[i];
        }
        out_kept.copy_from_slice(kept);
    }
}

/// What the heads of a layer read.
struct Heads<'a> {
    queries: Rows<'a>,
    /// `[batch, n_kv_heads, context, d_head]`, rotated.
    keys: &'a [f32],
    values: Rows<'a>,
    rotation: Rotation<'a>,
    attention: &'a Attention,
    kind: &'a LayerKind,
    context: usize,
}

/// Memory of a task.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
}

impl Heads<'_> {
    /// What all heads mix for some queries of a sequence, `[positions, n_heads · d_head]`.
    fn mix(&self, sequence: usize, positions: Range<usize>, out: &mut [f32], scratch: &mut Scratch) {
        let Attention { n_heads, n_kv_heads, d_head, .. } = *self.attention;
        let (rows, d_q) = (positions.len(), n_heads * d_head);
        // The keys that any of the queries sees.
        let seen = self.first_seen(positions.start)..positions.end;
        scratch.queries.resize(rows * d_head, 0.0);
        scratch.scores.resize(rows * seen.len(), 0.0);
        for head in 0..n_heads {
            let kv_head = head * n_kv_heads / n_heads;
            let columns = d_head * head..d_head * (head + 1);
            for (query, position) in scratch.queries.chunks_mut(d_head).zip(positions.clone()) {
                self.rotation.apply(position, &self.queries.at(sequence, position)[columns.clone()], query);
            }
            let keys = &self.keys[(sequence * n_kv_heads + kv_head) * self.context * d_head..];
            let keys = Matrix::rows(&keys[seen.start * d_head..], [seen.len(), d_head], d_head);
            let queries = Matrix::rows(&scratch.queries, [rows, d_head], d_head);
            product(queries, keys.transposed(), &mut scratch.scores, seen.len());
            for (scores, position) in scratch.scores.chunks_mut(seen.len()).zip(positions.clone()) {
                let from = self.first_seen(position) - seen.start;
                let (visible, after) = scores.split_at_mut(position + 1 - seen.start);
                let (before, visible) = visible.split_at_mut(from);
                before.fill(0.0);
                after.fill(0.0);
                self.softmax(visible);
            }
            let values = &self.values.from(sequence, seen.start)[d_head * kv_head..];
            let values = Matrix::rows(values, [seen.len(), d_head], self.values.strides[1]);
            let weights = Matrix::rows(&scratch.scores, [rows, seen.len()], seen.len());
            product(weights, values, &mut out[columns.start..], d_q);
        }
    }

    /// The first position that a query sees.
    fn first_seen(&self, query: usize) -> usize {
        self.kind.window.map_or(0, |window| (query + 1).saturating_sub(window))
    }

    /// The weights of the keys that a query sees, of its products with them, in place.
    fn softmax(&self, scores: &mut [f32]) {
        let scale = self.kind.score_scale as f32;
        match self.attention.score_cap.map(|cap| cap as f32) {
            None => scores.iter_mut().for_each(|score| *score *= scale),
            Some(cap) => scores.iter_mut().for_each(|score| *score = cap * (*score * scale / cap).tanh()),
        }
        let max = largest(scores);
        if max == f32::NEG_INFINITY {
            scores.fill(0.0);
            return;
        }
        let mut sum = 0.0;
        for score in &mut *scores {
            *score = (*score - max).exp();
            sum += *score;
        }
        let inverse = 1.0 / sum;
        scores.iter_mut().for_each(|score| *score *= inverse);
    }
}

/// The largest number, in eight lanes; −∞ if there is none.
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &value| if value > max { value } else { max })
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::AttentionModuleOptions;
    use burn::tensor::{Device, Tensor, TensorData};
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::config::{QkNorm, Rope, RopeScaling};
    use crate::kernels;
    use crate::rotary::Rotary;

    /// Queries, keys and values side by side, as one product leaves them.
    fn qkv(batch: usize, context: usize, attention: &Attention) -> [Tensor<3>; 3] {
        let widths = [attention.d_q(), attention.d_kv(), attention.d_kv()];
        let width = widths.iter().sum::<usize>();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64((batch * context * width) as u64);
        let values: Vec<f32> = (0..batch * context * width).map(|_| rng.random_range(-3.0..3.0)).collect();
        let all: Tensor<3> = Tensor::from_data(TensorData::new(values, [batch, context, width]), &Device::flex());
        let mut from = 0;
        widths.map(|width| {
            from += width;
            all.clone().narrow(2, from - width, width)
        })
    }

    /// Burn's attention, which holds all scores of a head.
    fn whole([q, k, v]: [Tensor<3>; 3], rotary: Option<&Rotary>, attention: &Attention, kind: &LayerKind) -> Tensor<3> {
        let [batch, context, d_q] = q.dims();
        let heads = |x: Tensor<3>, count| x.reshape([batch, context, count, attention.d_head]).swap_dims(1, 2);
        let (q, k) = (heads(q, attention.n_heads), heads(k, attention.n_kv_heads));
        let [q, k] = [q, k].map(|x| rotary.map_or(x.clone(), |rotary| rotary.apply(x)));
        let hidden = kind.window.map(|window| {
            let hidden = (0..context * context).map(|at| at % context + window <= at / context).collect::<Vec<_>>();
            Tensor::from_data(TensorData::new(hidden, [1, 1, context, context]), &Device::flex())
        });
        let options =
            AttentionModuleOptions { scale: Some(kind.score_scale), softcap: attention.score_cap, is_causal: true };
        let mixed = burn::tensor::module::attention(q, k, heads(v, attention.n_kv_heads), hidden, None, options);
        mixed.swap_dims(1, 2).reshape([batch, context, d_q])
    }

    #[test]
    fn attention_has_the_bits_of_that_which_holds_all_scores() {
        let bits = |x: Tensor<3>| -> Vec<u32> {
            x.into_data().try_into_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        let device = Device::flex();
        for (context, heads, kv_heads, d_head, dims, window, score_cap) in [
            (1, 2, 2, 8, 4, None, None),
            (2, 2, 1, 8, 8, None, None),
            (7, 4, 4, 32, 8, Some(3), None),
            (16, 4, 2, 16, 16, None, Some(5.0)),
            (17, 4, 4, 32, 8, None, None),
            (64, 3, 1, 64, 0, Some(1), None),
            (65, 3, 3, 64, 16, None, None),
            (100, 4, 2, 32, 8, Some(40), Some(2.0)),
            (128, 4, 4, 32, 8, None, None),
            (128, 4, 4, 64, 16, Some(100), None),
            (129, 2, 1, 40, 10, Some(200), None),
            (256, 2, 2, 64, 64, None, None),
            (300, 2, 1, 256, 256, Some(70), None),
            (512, 2, 2, 32, 8, None, None),
        ] {
            let (qk_norm, batch) = (QkNorm::None, 3);
            let (n_heads, n_kv_heads) = (heads, kv_heads);
            let attention =
                Attention { n_heads, n_kv_heads, d_head, qkv_bias: true, out_bias: true, qk_norm, score_cap };
            let kind = LayerKind { window, rope: None, score_scale: (d_head as f64).powf(-0.5) };
            let rope = Rope { dims, theta: 1e4, scaling: RopeScaling::Default };
            let rotary = (dims > 0).then(|| Rotary::new(&rope, context, |f| f, &device));
            let [q, k, v] = qkv(batch, context, &attention);
            let mixed = kernels::attention([&q, &k, &v], rotary.as_ref(), &attention, &kind).unwrap();
            let burns = whole([q, k, v], rotary.as_ref(), &attention, &kind);
            assert!(bits(mixed) == bits(burns), "{context} × {heads}/{kv_heads} × {d_head}, window {window:?}");
        }
    }

    #[test]
    fn gradients_and_long_contexts_go_another_way() {
        let (qk_norm, score_cap) = (QkNorm::None, None);
        let attention =
            Attention { n_heads: 1, n_kv_heads: 1, d_head: 8, qkv_bias: true, out_bias: true, qk_norm, score_cap };
        let kind = LayerKind { window: None, rope: None, score_scale: 1.0 };
        let [q, k, v] = qkv(1, 513, &attention);
        assert!(kernels::attention([&q, &k, &v], None, &attention, &kind).is_none());
        let [q, k, v] = qkv(1, 5, &attention).map(Tensor::autodiff);
        assert!(kernels::attention([&q, &k, &v], None, &attention, &kind).is_none());
    }
}
