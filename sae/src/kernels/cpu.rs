//! The operations on the CPU: rayon over rows or latents, plain slices within.

use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use super::SaeOps;
use super::adam::AdamStep;
use super::encode::Encoder;

/// Floats that one task sums or updates: fixed, so that no result depends on the number of threads.
const CHUNK: usize = 1 << 14;
/// Tokens or latents that one task handles.
pub(super) const ROWS: usize = 16;

impl SaeOps for Flex {
    fn sae_encode_topk(
        input: FlexTensor,
        w_enc: FlexTensor,
        b_enc: FlexTensor,
        scale: FlexTensor,
        k: usize,
    ) -> (FlexTensor, FlexTensor) {
        let encoder = Encoder::new(&input, &w_enc, &b_enc, &scale);
        let [chosen, _] = encoder.run([k, 0], &[]);
        chosen
    }

    fn sae_encode_topk_and_dead(
        input: FlexTensor,
        w_enc: FlexTensor,
        b_enc: FlexTensor,
        scale: FlexTensor,
        since_fired: FlexTensor,
        k: usize,
        dead_after: i32,
        k_aux: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let since_fired = contiguous(since_fired);
        let dead: Vec<u32> =
            ints(&since_fired).iter().zip(0..).filter(|&(&since, _)| since > dead_after).map(|(_, i)| i).collect();
        let encoder = Encoder::new(&input, &w_enc, &b_enc, &scale);
        let [(values, indices), (dead_values, dead_indices)] = encoder.run([k, k_aux], &dead);
        (values, indices, dead_values, dead_indices)
    }

    fn sae_decode(values: FlexTensor, indices: FlexTensor, w_dec: FlexTensor) -> FlexTensor {
        let (values, indices, w_dec) = (contiguous(values), contiguous(indices), contiguous(w_dec));
        let ([batch, k], [_, d]) = (dims2(&values), dims2(&w_dec));
        let (values, indices, w_dec) = (floats(&values), ints(&indices), floats(&w_dec));
        let mut out = vec![0.0_f32; batch * d];
        out.par_chunks_mut(d * ROWS).enumerate().for_each(|(task, out)| {
            for (row, out) in out.chunks_mut(d).enumerate() {
                let at = (task * ROWS + row) * k..(task * ROWS + row + 1) * k;
                for (&value, &i) in values[at.clone()].iter().zip(&indices[at]) {
                    if value != 0.0 {
                        add_scaled(out, value, row_of(w_dec, i as usize, d));
                    }
                }
            }
        });
        float_tensor(out, [batch, d])
    }

    fn sae_value_gradients(grad: FlexTensor, values: FlexTensor, indices: FlexTensor, w_dec: FlexTensor) -> FlexTensor {
        let (grad, values) = (contiguous(grad), contiguous(values));
        let (indices, w_dec) = (contiguous(indices), contiguous(w_dec));
        let ([batch, k], [_, d]) = (dims2(&values), dims2(&w_dec));
        let (grad, values, indices, w_dec) = (floats(&grad), floats(&values), ints(&indices), floats(&w_dec));
        let mut out = vec![0.0_f32; batch * k];
        out.par_chunks_mut(k * ROWS).enumerate().for_each(|(task, out)| {
            for (row, out) in out.chunks_mut(k).enumerate() {
                let token = task * ROWS + row;
                let grad = row_of(grad, token, d);
                let at = token * k..(token + 1) * k;
                for ((out, &value), &i) in out.iter_mut().zip(&values[at.clone()]).zip(&indices[at]) {
                    if value != 0.0 {
                        *out = dot(grad, row_of(w_dec, i as usize, d));
                    }
                }
            }
        });
        float_tensor(out, [batch, k])
    }

    fn sae_latent_gradients(
        values: FlexTensor,
        value_grads: FlexTensor,
        indices: FlexTensor,
        input: FlexTensor,
        output_grad: FlexTensor,
        d_sae: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [_, d] = dims2(&input);
        let matrix = || float_tensor(vec![0.0; d_sae * d], [d_sae, d]);
        let vector = float_tensor(vec![0.0; d_sae], [d_sae]);
        Self::sae_accumulate_gradients(matrix(), vector, matrix(), values, value_grads, indices, input, output_grad)
    }

    fn sae_accumulate_gradients(
        w_enc: FlexTensor,
        b_enc: FlexTensor,
        w_dec: FlexTensor,
        values: FlexTensor,
        value_grads: FlexTensor,
        indices: FlexTensor,
        input: FlexTensor,
        output_grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (mut w_enc, mut b_enc, mut w_dec) = (contiguous(w_enc), contiguous(b_enc), contiguous(w_dec));
        let (values, value_grads, indices) = (contiguous(values), contiguous(value_grads), contiguous(indices));
        let (input, output_grad) = (contiguous(input), contiguous(output_grad));
        let ([_, k], [n, d]) = (dims2(&values), dims2(&w_dec));
        let uses = Uses::new(floats(&values), ints(&indices), n);
        let (values, value_grads) = (floats(&values), floats(&value_grads));
        let (input, output_grad) = (floats(&input), floats(&output_grad));
        floats_mut(&mut w_enc)
            .par_chunks_mut(d * ROWS)
            .zip(floats_mut(&mut w_dec).par_chunks_mut(d * ROWS))
            .zip(floats_mut(&mut b_enc).par_chunks_mut(ROWS))
            .enumerate()
            .for_each(|(task, ((w_enc, w_dec), b_enc))| {
                for (row, ((w_enc, w_dec), b_enc)) in
                    w_enc.chunks_mut(d).zip(w_dec.chunks_mut(d)).zip(b_enc).enumerate()
                {
                    for &at in uses.of(task * ROWS + row) {
                        let at = at as usize;
                        add_scaled(w_enc, value_grads[at], row_of(input, at / k, d));
                        add_scaled(w_dec, values[at], row_of(output_grad, at / k, d));
                        *b_enc += value_grads[at];
                    }
                }
            });
        (w_enc, b_enc, w_dec)
    }

    fn sae_count_fires(
        since_fired: FlexTensor,
        fires: FlexTensor,
        values: FlexTensor,
        indices: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let (mut since_fired, mut fires) = (contiguous(since_fired), contiguous(fires));
        let (values, indices) = (contiguous(values), contiguous(indices));
        let [batch, _] = dims2(&values);
        let since = since_fired.storage_mut::<i32>();
        let count = fires.storage_mut::<i32>();
        for since in since.iter_mut() {
            *since = since.saturating_add(batch as i32);
        }
        for (&value, &i) in floats(&values).iter().zip(ints(&indices)) {
            if value != 0.0 {
                since[i as usize] = 0;
                count[i as usize] = count[i as usize].saturating_add(1);
            }
        }
        (since_fired, fires)
    }

    fn sae_sum_squares(x: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        let parts: Vec<f64> = floats(&x)
            .par_chunks(CHUNK)
            .map(|chunk| chunk.iter().map(|&v| f64::from(v) * f64::from(v)).sum())
            .collect();
        float_tensor(vec![parts.iter().sum::<f64>() as f32], [1])
    }

    fn sae_row_norms(x: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        let [n, d] = dims2(&x);
        let norms: Vec<f32> = floats(&x).par_chunks(d).with_min_len(ROWS).map(|row| dot(row, row).sqrt()).collect();
        float_tensor(norms, [n])
    }

    fn sae_remove_parallel(grad: FlexTensor, rows: FlexTensor) -> FlexTensor {
        let (mut grad, rows) = (contiguous(grad), contiguous(rows));
        let [_, d] = dims2(&rows);
        let rows = floats(&rows);
        floats_mut(&mut grad).par_chunks_mut(d).with_min_len(ROWS).zip(rows.par_chunks(d)).for_each(|(g, w)| {
            let share = dot(g, w) / dot(w, w).max(f32::MIN_POSITIVE);
            add_scaled(g, -share, w);
        });
        grad
    }

    fn sae_scale_rows(x: FlexTensor, factors: FlexTensor) -> FlexTensor {
        let (mut x, factors) = (contiguous(x), contiguous(factors));
        let [_, d] = dims2(&x);
        let factors = floats(&factors);
        floats_mut(&mut x).par_chunks_mut(d).with_min_len(ROWS).zip(factors).for_each(|(row, &factor)| {
            for v in row {
                *v *= factor;
            }
        });
        x
    }

    fn sae_adam(
        param: FlexTensor,
        grad: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        clip: FlexTensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        step: u64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (mut param, grad) = (contiguous(param), contiguous(grad));
        let (mut first, mut second) = (contiguous(first), contiguous(second));
        let clip = floats(&contiguous(clip))[0];
        let step = AdamStep { lr, beta1, beta2, eps, step };
        floats_mut(&mut param)
            .par_chunks_mut(CHUNK)
            .zip(floats(&grad).par_chunks(CHUNK))
            .zip(floats_mut(&mut first).par_chunks_mut(CHUNK))
            .zip(floats_mut(&mut second).par_chunks_mut(CHUNK))
            .for_each(|(((p, g), m), v)| step.apply(clip, p, g, m, v));
        (param, first, second)
    }
}

/// Where each latent is active, in token order: the entries of a sparse `[batch, k]` sorted by latent.
struct Uses {
    starts: Vec<u32>,
    entries: Vec<u32>,
}

impl Uses {
    fn new(values: &[f32], indices: &[i32], n: usize) -> Self {
        let mut starts = vec![0_u32; n + 1];
        for (&value, &i) in values.iter().zip(indices) {
            starts[i as usize + 1] += u32::from(value != 0.0);
        }
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut entries = vec![0_u32; starts[n] as usize];
        for (at, (&value, &i)) in values.iter().zip(indices).enumerate() {
            if value != 0.0 {
                let slot = &mut next[i as usize];
                entries[*slot as usize] = at as u32;
                *slot += 1;
            }
        }
        Self { starts, entries }
    }

    fn of(&self, latent: usize) -> &[u32] {
        &self.entries[self.starts[latent] as usize..self.starts[latent + 1] as usize]
    }
}

fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    for (t, &f) in to.iter_mut().zip(from) {
        *t += factor * f;
    }
}

/// A dot product in eight interleaved sums, so that it vectorises and its order is fixed.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(&x, &y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// The tensor in row-major order; moved, not copied, if it is in that order already.
pub(super) fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

fn row_of(values: &[f32], row: usize, d: usize) -> &[f32] {
    &values[row * d..(row + 1) * d]
}

pub(super) fn dims2(x: &FlexTensor) -> [usize; 2] {
    x.layout().shape().dims::<2>()
}

fn len(x: &FlexTensor) -> usize {
    x.layout().num_elements()
}

/// The values of a [`contiguous`] tensor.
pub(super) fn floats(x: &FlexTensor) -> &[f32] {
    let start = x.layout().start_offset();
    &x.storage::<f32>()[start..start + len(x)]
}

fn floats_mut(x: &mut FlexTensor) -> &mut [f32] {
    let (start, len) = (x.layout().start_offset(), len(x));
    &mut x.storage_mut::<f32>()[start..start + len]
}

fn ints(x: &FlexTensor) -> &[i32] {
    let start = x.layout().start_offset();
    &x.storage::<i32>()[start..start + len(x)]
}

pub(super) fn float_tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::F32)
}

pub(super) fn int_tensor<const D: usize>(values: Vec<i32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::I32)
}
