//! The encoder on the CPU: matrix product and selection together.

use assay_kernels::cpu::{Matrix, product};
use burn::backend::Flex;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::select::Select;
use super::{ROWS, contiguous, dims2, float_tensor, floats, int_tensor};
use crate::kernels::{EncoderOf, Precision, Selection, VectorOf};

/// The encoder's product and the selection, a block of tokens at a time: a block's pre-activations stay in the cache and are
/// never written to memory of their own.
pub(super) struct Encoder {
    input: FlexTensor,
    w_enc: FlexTensor,
    b_enc: FlexTensor,
    /// Factors in the selection; `None`: all 1.
    scale: Option<FlexTensor>,
}

/// Bytes of pre-activations that one task holds.
const BLOCK_BYTES: usize = 1 << 20;

impl Encoder {
    pub(super) fn new(input: FlexTensor, encoder: EncoderOf<Flex>) -> Self {
        // bf16 is a format of GPUs: whoever chooses the device checks that.
        assert_eq!(encoder.precision, Precision::F32, "the CPU computes in f32");
        let scale = match encoder.scale {
            VectorOf::None => None,
            VectorOf::Latents(scale) => Some(contiguous(scale)),
        };
        Self { input: contiguous(input), w_enc: contiguous(encoder.w_enc), b_enc: contiguous(encoder.b_enc), scale }
    }

    /// The latents that `selection` chooses of all, with ReLU, and the `k_aux` largest of `dead` without.
    pub(super) fn run(&self, selection: Selection, k_aux: usize, dead: &[u32]) -> [(FlexTensor, FlexTensor); 2] {
        let ([batch, d], [n, _]) = (dims2(&self.input), dims2(&self.w_enc));
        let (input, w_enc) = (floats(&self.input), floats(&self.w_enc));
        let latents = Matrix::rows(w_enc, [n, d], d).transposed();
        let b_enc = floats(&self.b_enc);
        let ones = if self.scale.is_none() { vec![1.0; n] } else { Vec::new() };
        let scale = self.scale.as_ref().map_or(ones.as_slice(), floats);
        let k = selection.k().min(n);
        // Fixed by the shape alone, so that no result depends on the number of threads.
        let rows = (BLOCK_BYTES / (4 * n)).clamp(ROWS, 256);
        let mut values = vec![0.0_f32; batch * k];
        let mut indices = vec![0_i32; batch * k];
        let mut aux_values = vec![0.0_f32; batch * k_aux];
        let mut aux_indices = vec![0_i32; batch * k_aux];
        values
            .par_chunks_mut(k * rows)
            .zip(indices.par_chunks_mut(k * rows))
            .zip(input.par_chunks(d * rows))
            .zip(chunks_or_none(&mut aux_values, k_aux * rows, batch.div_ceil(rows)))
            .zip(chunks_or_none(&mut aux_indices, k_aux * rows, batch.div_ceil(rows)))
            .for_each_init(
                || (vec![0.0_f32; rows * n], vec![0.0_f32; n], Select::new(k), Select::new(k_aux.max(1))),
                |(pre, scores, select, select_dead), ((((values, indices), input), aux_values), aux_indices)| {
                    let tokens = input.len() / d;
                    product(Matrix::rows(input, [tokens, d], d), latents, &mut pre[..tokens * n], n);
                    let mut aux = aux_values.chunks_mut(k_aux.max(1)).zip(aux_indices.chunks_mut(k_aux.max(1)));
                    for ((values, indices), pre) in
                        values.chunks_mut(k).zip(indices.chunks_mut(k)).zip(pre.chunks_mut(n))
                    {
                        for (((pre, score), &bias), &scale) in pre.iter_mut().zip(&mut *scores).zip(b_enc).zip(scale) {
                            *pre += bias;
                            *score = *pre * scale;
                        }
                        let chosen = match selection {
                            Selection::TopK { .. } => select.largest(scores),
                            Selection::GroupMax { .. } => select.largest_of_groups(scores),
                        };
                        for ((value, index), &i) in values.iter_mut().zip(indices).zip(chosen) {
                            *value = pre[i as usize].max(0.0);
                            *index = i as i32;
                        }
                        if let Some((values, indices)) = aux.next().filter(|_| !dead.is_empty()) {
                            let dead_scores: Vec<f32> = dead.iter().map(|&i| scores[i as usize]).collect();
                            for ((value, index), &at) in
                                values.iter_mut().zip(indices).zip(select_dead.largest(&dead_scores))
                            {
                                let i = dead[at as usize];
                                *value = pre[i as usize];
                                *index = i as i32;
                            }
                        }
                    }
                },
            );
        [
            (float_tensor(values, [batch, k]), int_tensor(indices, [batch, k])),
            (float_tensor(aux_values, [batch, k_aux]), int_tensor(aux_indices, [batch, k_aux])),
        ]
    }
}

/// Chunks of a fixed size; empty ones, `count` of them, where the size is 0.
fn chunks_or_none<T: Send>(
    values: &mut [T],
    size: usize,
    count: usize,
) -> impl IndexedParallelIterator<Item = &mut [T]> {
    let mut chunks: Vec<&mut [T]> = if size == 0 { Vec::new() } else { values.chunks_mut(size).collect() };
    chunks.resize_with(count, Default::default);
    chunks.into_par_iter()
}
