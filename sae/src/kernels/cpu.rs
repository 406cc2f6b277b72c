//! The operations on the CPU: rayon over rows or latents, plain slices within. `encode.rs` has the encoder, `select.rs` its selections,
//! `scores.rs` and `largest.rs` those among a whole batch; `sparse.rs`, `nested.rs` and `jump.rs` what is done with sparse codes.

mod encode;
mod jump;
mod largest;
mod nested;
mod scores;
mod select;
mod sparse;

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use self::encode::Encoder;
use self::scores::Scores;
use self::sparse::{Code, Gradient, Levels};
use super::adam::AdamStep;
use super::{
    AuxiliaryOf, CodeOf, Coming, EncoderOf, GradientOf, JumpOf, LevelsOf, Precision, SaeOps, ScoresOf, Selection,
    VectorOf,
};

/// Floats that one task sums or updates: fixed, so that no result depends on the number of threads.
const CHUNK: usize = 1 << 14;
/// Tokens or latents that one task handles.
const ROWS: usize = 16;

impl SaeOps for Flex {
    fn sae_product(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        Self::float_matmul(lhs, rhs)
    }

    fn sae_encode(input: FlexTensor, encoder: EncoderOf<Self>, selection: Selection) -> (FlexTensor, FlexTensor) {
        let [chosen, _] = Encoder::new(input, encoder).run(selection, 0, &[]);
        chosen
    }

    fn sae_encode_with_dead(
        input: FlexTensor,
        encoder: EncoderOf<Self>,
        selection: Selection,
        since_fired: FlexTensor,
        dead_after: i32,
        k_aux: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let since_fired = contiguous(since_fired);
        let dead: Vec<u32> =
            ints(&since_fired).iter().zip(0..).filter(|&(&since, _)| since > dead_after).map(|(_, i)| i).collect();
        let [(values, indices), (dead_values, dead_indices)] =
            Encoder::new(input, encoder).run(selection, k_aux, &dead);
        (values, indices, dead_values, dead_indices)
    }

    fn sae_scores(input: FlexTensor, encoder: EncoderOf<Self>) -> (FlexTensor, FlexTensor) {
        // bf16 is a format of GPUs: whoever chooses the device checks that.
        assert_eq!(encoder.precision, Precision::F32, "the CPU computes in f32");
        let [n, _] = dims2(&encoder.w_enc);
        let product = Self::float_matmul(input, Self::float_transpose(encoder.w_enc));
        let pre = Self::float_add(product, Self::float_reshape(encoder.b_enc, Shape::from([1, n])));
        (pre, float_tensor(Vec::new(), [0, 0]))
    }

    fn sae_largest(scores: ScoresOf<Self>, count: usize) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        Scores::new(scores).largest(count)
    }

    fn sae_dead(
        scores: ScoresOf<Self>,
        since_fired: FlexTensor,
        dead_after: i32,
        k: usize,
        first: usize,
    ) -> (FlexTensor, FlexTensor) {
        Scores::new(scores).dead(&contiguous(since_fired), dead_after, k, first)
    }

    fn sae_split(
        scores: ScoresOf<Self>,
        threshold: FlexTensor,
        low: FlexTensor,
        both: bool,
        // There is room for all.
        _room: Option<([usize; 2], Coming)>,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let [above, between] = Scores::new(scores).split(&contiguous(threshold), &contiguous(low), both);
        let entries = *ints(&above.2).last().expect("a row starts somewhere");
        let active = float_tensor(vec![entries as f32], [1]);
        (above.0, above.1, above.2, between.0, between.1, between.2, active)
    }

    fn sae_mark(_code: CodeOf<Self>, _d_sae: usize) -> (FlexTensor, FlexTensor) {
        // Nobody asks for them.
        (int_tensor(Vec::new(), [0]), int_tensor(Vec::new(), [0]))
    }

    fn sae_nested_residuals(
        code: CodeOf<Self>,
        ends: FlexTensor,
        w_dec: FlexTensor,
        b_dec: FlexTensor,
        x: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let (ends, [w_dec, b_dec, x]) = (contiguous(ends), [w_dec, b_dec, x].map(contiguous));
        nested::residuals(&Code::new(code), &ends, [&w_dec, &b_dec, &x])
    }

    fn sae_nested_gradients(residuals: FlexTensor, output_grad: FlexTensor, factor: FlexTensor) -> FlexTensor {
        let factor = floats(&contiguous(factor))[0];
        nested::gradients(&contiguous(residuals), &contiguous(output_grad), factor)
    }

    fn sae_latent_sums(
        code: CodeOf<Self>,
        first: FlexTensor,
        second: FlexTensor,
        d_sae: usize,
    ) -> (FlexTensor, FlexTensor) {
        let [first, second] = [first, second].map(contiguous);
        nested::sums(&Code::new(code), [&first, &second], d_sae).into()
    }

    fn sae_jump_gradients(
        code: CodeOf<Self>,
        z_grads: FlexTensor,
        jump: JumpOf<Self>,
        active: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        jump::gradients(&Code::new(code), &contiguous(z_grads), jump, active).into()
    }

    fn sae_spread(code: CodeOf<Self>, numbers: FlexTensor) -> FlexTensor {
        nested::spread(&Code::new(code), &contiguous(numbers))
    }

    fn sae_decode(code: CodeOf<Self>, w_dec: FlexTensor) -> FlexTensor {
        sparse::decode(&Code::new(code), &contiguous(w_dec))
    }

    fn sae_residual(
        code: CodeOf<Self>,
        w_dec: FlexTensor,
        b_dec: FlexTensor,
        x: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let [_, d] = dims2(&w_dec);
        let decoded = Self::sae_decode(code, w_dec);
        let reconstruction = Self::float_add(decoded, Self::float_reshape(b_dec, Shape::from([1, d])));
        let residual = contiguous(Self::float_sub(reconstruction, x));
        let squares = float_tensor(vec![sum_squares(&residual)], [1]);
        (residual, squares)
    }

    fn sae_value_gradients(
        grad: FlexTensor,
        code: CodeOf<Self>,
        w_dec: FlexTensor,
        levels: LevelsOf<Self>,
    ) -> FlexTensor {
        sparse::value_gradients(&contiguous(grad), &Code::new(code), &contiguous(w_dec), &Levels::new(levels))
    }

    fn sae_latent_gradients(
        main: GradientOf<Self>,
        auxiliary: AuxiliaryOf<Self>,
        input: FlexTensor,
        w_dec: FlexTensor,
        since_fired: FlexTensor,
        fires: FlexTensor,
        project: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let [n, d] = dims2(&w_dec);
        let matrix = || float_tensor(vec![0.0; n * d], [n, d]);
        let (input, main) = (contiguous(input), Gradient::new(main));
        let (since_fired, fires) = main.code.count_fires(since_fired, fires);
        let mut gradients = [matrix(), float_tensor(vec![0.0; n], [n]), matrix()];
        main.add_to(&mut gradients, &input);
        if let AuxiliaryOf::Path(path) = auxiliary {
            Gradient::new(path).add_to(&mut gradients, &input);
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

    fn sae_clip_factor(squares: FlexTensor, extra: FlexTensor, vectors: VectorOf<Self>, limit: f64) -> FlexTensor {
        let squares: f32 = floats(&contiguous(squares)).iter().sum();
        let of_vectors = match vectors {
            VectorOf::None => 0.0,
            VectorOf::Latents(vectors) => sum_squares(&contiguous(vectors)),
        };
        let norm = (squares + of_vectors + sum_squares(&contiguous(extra))).sqrt();
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
fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

fn row_of(values: &[f32], row: usize, d: usize) -> &[f32] {
    &values[row * d..(row + 1) * d]
}

fn dims2(x: &FlexTensor) -> [usize; 2] {
    x.layout().shape().dims::<2>()
}

fn len(x: &FlexTensor) -> usize {
    x.layout().num_elements()
}

/// The values of a [`contiguous`] tensor.
fn floats(x: &FlexTensor) -> &[f32] {
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

fn ints_mut(x: &mut FlexTensor) -> &mut [i32] {
    let (start, len) = (x.layout().start_offset(), len(x));
    &mut x.storage_mut::<i32>()[start..start + len]
}

fn float_tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::F32)
}

fn int_tensor<const D: usize>(values: Vec<i32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::I32)
}
