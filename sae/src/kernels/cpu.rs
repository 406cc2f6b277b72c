//! The operations on the CPU: rayon over rows or latents, plain slices within.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use super::adam::AdamStep;
use super::encode::Encoder;
use super::{Precision, SaeOps};

/// Floats that one task sums or updates: fixed, so that no result depends on the number of threads.
const CHUNK: usize = 1 << 14;
/// Tokens or latents that one task handles.
pub(super) const ROWS: usize = 16;

impl SaeOps for Flex {
    fn sae_product(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        Self::float_matmul(lhs, rhs)
    }

    fn sae_encode_topk(
        input: FlexTensor,
        w_enc: FlexTensor,
        b_enc: FlexTensor,
        scale: FlexTensor,
        k: usize,
        scaled: bool,
        precision: Precision,
    ) -> (FlexTensor, FlexTensor) {
        f32_only(precision);
        let encoder = Encoder::new(&input, &w_enc, &b_enc, scaled.then_some(&scale));
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
        scaled: bool,
        precision: Precision,
        dead_after: i32,
        k_aux: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let since_fired = contiguous(since_fired);
        let dead: Vec<u32> =
            ints(&since_fired).iter().zip(0..).filter(|&(&since, _)| since > dead_after).map(|(_, i)| i).collect();
        f32_only(precision);
        let encoder = Encoder::new(&input, &w_enc, &b_enc, scaled.then_some(&scale));
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

    fn sae_residual(
        values: FlexTensor,
        indices: FlexTensor,
        w_dec: FlexTensor,
        b_dec: FlexTensor,
        x: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let [_, d] = dims2(&w_dec);
        let decoded = Self::sae_decode(values, indices, w_dec);
        let reconstruction = Self::float_add(decoded, Self::float_reshape(b_dec, Shape::from([1, d])));
        let residual = contiguous(Self::float_sub(reconstruction, x));
        let squares = float_tensor(vec![sum_squares(&residual)], [1]);
        (residual, squares)
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
        output_grad: FlexTensor,
        aux_values: FlexTensor,
        aux_value_grads: FlexTensor,
        aux_indices: FlexTensor,
        aux_output_grad: FlexTensor,
        input: FlexTensor,
        w_dec: FlexTensor,
        since_fired: FlexTensor,
        fires: FlexTensor,
        with_aux: bool,
        project: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let [n, d] = dims2(&w_dec);
        let matrix = || float_tensor(vec![0.0; n * d], [n, d]);
        let (since_fired, fires) = count_fires(since_fired, fires, &values, &indices);
        let mut gradients = [matrix(), float_tensor(vec![0.0; n], [n]), matrix()];
        accumulate(&mut gradients, values, value_grads, indices, &input, output_grad);
        if with_aux {
            accumulate(&mut gradients, aux_values, aux_value_grads, aux_indices, &input, aux_output_grad);
        }
        let [w_enc, b_enc, mut g_dec] = gradients;
        if project {
            remove_parallel(&mut g_dec, &contiguous(w_dec));
        }
        let squares = sum_squares(&w_enc) + sum_squares(&b_enc) + sum_squares(&g_dec);
        (w_enc, b_enc, g_dec, float_tensor(vec![squares], [1]), since_fired, fires)
    }

    fn sae_sum_squares(x: FlexTensor) -> FlexTensor {
        float_tensor(vec![sum_squares(&contiguous(x))], [1])
    }

    fn sae_row_norms(x: FlexTensor) -> FlexTensor {
        let norms = row_norms(&contiguous(x));
        let n = norms.len();
        float_tensor(norms, [n])
    }

    fn sae_scale_rows(x: FlexTensor, factors: FlexTensor) -> FlexTensor {
        let (mut x, factors) = (contiguous(x), contiguous(factors));
        scale_rows(&mut x, floats(&factors));
        x
    }

    fn sae_clip_factor(squares: FlexTensor, extra: FlexTensor, limit: f64) -> FlexTensor {
        let squares: f32 = floats(&contiguous(squares)).iter().sum();
        let norm = (squares + sum_squares(&contiguous(extra))).sqrt();
        let factor = (norm + 1e-6).recip() * limit as f32;
        // Not `min`: a gradient that is not a number stays visible.
        float_tensor(vec![if factor >= 1.0 { 1.0 } else { factor }], [1])
    }

    fn sae_column_sums(rows: FlexTensor) -> FlexTensor {
        let [_, d] = dims2(&rows);
        Self::float_reshape(Self::float_sum_dim(rows, 0), Shape::from([d]))
    }

    fn sae_weighted_rows(weights: FlexTensor, rows: FlexTensor) -> FlexTensor {
        let [n, d] = dims2(&rows);
        let row = Self::float_matmul(Self::float_reshape(weights, Shape::from([1, n])), rows);
        Self::float_reshape(row, Shape::from([d]))
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
        unit_rows: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (mut param, grad) = (contiguous(param), contiguous(grad));
        let (mut first, mut second) = (contiguous(first), contiguous(second));
        let clip = floats(&contiguous(clip))[0];
        let scalars = AdamStep { lr, beta1, beta2, eps, step }.scalars();
        floats_mut(&mut param)
            .par_chunks_mut(CHUNK)
            .zip(floats(&grad).par_chunks(CHUNK))
            .zip(floats_mut(&mut first).par_chunks_mut(CHUNK))
            .zip(floats_mut(&mut second).par_chunks_mut(CHUNK))
            .for_each(|(((p, g), m), v)| scalars.apply(clip, p, g, m, v));
        if unit_rows {
            let factors: Vec<f32> =
                row_norms(&param).into_iter().map(|norm| norm.max(f32::MIN_POSITIVE).recip()).collect();
            scale_rows(&mut param, &factors);
        }
        (param, first, second)
    }
}

/// bf16 is a format of GPUs: whoever chooses the device checks that.
fn f32_only(precision: Precision) {
    assert_eq!(precision, Precision::F32, "the CPU computes in f32");
}

/// Adds what one set of sparse activations contributes to the gradients of encoder, bias and decoder.
fn accumulate(
    [w_enc, b_enc, w_dec]: &mut [FlexTensor; 3],
    values: FlexTensor,
    value_grads: FlexTensor,
    indices: FlexTensor,
    input: &FlexTensor,
    output_grad: FlexTensor,
) {
    let (values, value_grads, indices) = (contiguous(values), contiguous(value_grads), contiguous(indices));
    let (input, output_grad) = (contiguous(input.clone()), contiguous(output_grad));
    let ([_, k], [n, d]) = (dims2(&values), dims2(w_dec));
    let uses = Uses::new(floats(&values), ints(&indices), n);
    let (values, value_grads) = (floats(&values), floats(&value_grads));
    let (input, output_grad) = (floats(&input), floats(&output_grad));
    floats_mut(w_enc)
        .par_chunks_mut(d * ROWS)
        .zip(floats_mut(w_dec).par_chunks_mut(d * ROWS))
        .zip(floats_mut(b_enc).par_chunks_mut(ROWS))
        .enumerate()
        .for_each(|(task, ((w_enc, w_dec), b_enc))| {
            for (row, ((w_enc, w_dec), b_enc)) in w_enc.chunks_mut(d).zip(w_dec.chunks_mut(d)).zip(b_enc).enumerate() {
                for &at in uses.of(task * ROWS + row) {
                    let at = at as usize;
                    add_scaled(w_enc, value_grads[at], row_of(input, at / k, d));
                    add_scaled(w_dec, values[at], row_of(output_grad, at / k, d));
                    *b_enc += value_grads[at];
                }
            }
        });
}

fn count_fires(
    since_fired: FlexTensor,
    fires: FlexTensor,
    values: &FlexTensor,
    indices: &FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let (mut since_fired, mut fires) = (contiguous(since_fired), contiguous(fires));
    let (values, indices) = (contiguous(values.clone()), contiguous(indices.clone()));
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

/// Takes from each row of `grad` its part along the same row of `rows`.
fn remove_parallel(grad: &mut FlexTensor, rows: &FlexTensor) {
    let [_, d] = dims2(rows);
    let rows = floats(rows);
    floats_mut(grad).par_chunks_mut(d).with_min_len(ROWS).zip(rows.par_chunks(d)).for_each(|(g, w)| {
        let share = dot(g, w) / dot(w, w).max(f32::MIN_POSITIVE);
        add_scaled(g, -share, w);
    });
}

/// Σ x², accumulated in f64.
fn sum_squares(x: &FlexTensor) -> f32 {
    let square = |chunk: &[f32]| chunk.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let parts: Vec<f64> = floats(x).par_chunks(CHUNK).map(square).collect();
    parts.iter().sum::<f64>() as f32
}

fn row_norms(x: &FlexTensor) -> Vec<f32> {
    let [_, d] = dims2(x);
    floats(x).par_chunks(d).with_min_len(ROWS).map(|row| dot(row, row).sqrt()).collect()
}

fn scale_rows(x: &mut FlexTensor, factors: &[f32]) {
    let [_, d] = dims2(x);
    floats_mut(x).par_chunks_mut(d).with_min_len(ROWS).zip(factors).for_each(|(row, &factor)| {
        for v in row {
            *v *= factor;
        }
    });
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
