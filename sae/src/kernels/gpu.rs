//! The operations on any GPU that CubeCL reaches. What each kernel does is in the file of its name under `gpu/`.

#![allow(
    clippy::assign_op_pattern,
    clippy::collapsible_if,
    clippy::manual_div_ceil,
    reason = "kernels are written in the operators that CubeCL translates"
)]

mod adam;
mod decode;
mod gradients;
mod lists;
mod reduce;
mod select;
#[cfg(test)]
mod tests;

use assay_kernels::packed::GROUP;
use assay_kernels::product::f32_product;
use assay_kernels::tensor::{contiguous, cubes, cubes_for, dims2, empty, len, reshaped, slice, width_of, zeros};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::adam::AdamStep;
use super::{Precision, SaeOps};

/// A kernel for the element type of the rows that it gathers: f32, or bf16 where half the bytes matter more than the last digits.
macro_rules! launch_for {
    ($rows:expr, $kernel:ident :: $name:ident) => {
        match $rows.dtype {
            DType::BF16 => $kernel::$name::launch_unchecked::<half::bf16>,
            _ => $kernel::$name::launch_unchecked::<f32>,
        }
    };
}

/// Units of a cube for work that is element by element.
const UNITS: usize = 256;

impl SaeOps for CubeBackend {
    fn sae_product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        f32_product(lhs, rhs)
    }

    fn sae_encode_topk(
        input: CubeTensor,
        w_enc: CubeTensor,
        b_enc: CubeTensor,
        scale: CubeTensor,
        k: usize,
        scaled: bool,
        precision: Precision,
    ) -> (CubeTensor, CubeTensor) {
        Scores::new(input, w_enc, b_enc, scale, scaled, precision).topk(k)
    }

    fn sae_encode_topk_and_dead(
        input: CubeTensor,
        w_enc: CubeTensor,
        b_enc: CubeTensor,
        scale: CubeTensor,
        since_fired: CubeTensor,
        k: usize,
        scaled: bool,
        precision: Precision,
        dead_after: i32,
        k_aux: usize,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let scores = Scores::new(input, w_enc, b_enc, scale, scaled, precision);
        let (values, indices) = scores.topk(k);
        let (dead_values, dead_indices) = scores.dead(&contiguous(since_fired), dead_after, k_aux);
        (values, indices, dead_values, dead_indices)
    }

    fn sae_decode(values: CubeTensor, indices: CubeTensor, w_dec: CubeTensor) -> CubeTensor {
        let (values, indices, w_dec) = (contiguous(values), contiguous(indices), contiguous(w_dec));
        let ([tokens, k], [_, d]) = (dims2(&values), dims2(&w_dec));
        let width = width_of(d);
        let out = empty(&values, [tokens, d], DType::F32);
        // SAFETY: the kernel checks its token and column; indices are below d_sae by construction.
        #[allow(unsafe_code)]
        unsafe {
            launch_for!(w_dec, decode::decode)(
                &out.client,
                cubes(tokens),
                CubeDim::new_1d(units_for(d / width)),
                width,
                slice(&values, 1),
                slice(&indices, 1),
                slice(&w_dec, width),
                slice(&out, width),
                k,
                d / width,
                tokens,
            );
        }
        out
    }

    fn sae_residual(
        values: CubeTensor,
        indices: CubeTensor,
        w_dec: CubeTensor,
        b_dec: CubeTensor,
        x: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        let (values, indices, w_dec) = (contiguous(values), contiguous(indices), contiguous(w_dec));
        let (b_dec, x) = (contiguous(b_dec), contiguous(x));
        let ([tokens, k], [_, d]) = (dims2(&values), dims2(&w_dec));
        let width = width_of(d);
        let out = empty(&values, [tokens, d], DType::F32);
        let squares = empty(&values, [tokens], DType::F32);
        // SAFETY: as in `sae_decode`.
        #[allow(unsafe_code)]
        unsafe {
            launch_for!(w_dec, decode::residual)(
                &out.client,
                cubes(tokens),
                CubeDim::new_1d(units_for(d / width)),
                width,
                slice(&values, 1),
                slice(&indices, 1),
                slice(&w_dec, width),
                slice(&b_dec, width),
                slice(&x, width),
                slice(&out, width),
                slice(&squares, 1),
                k,
                d / width,
                tokens,
            );
        }
        (out, squares)
    }

    fn sae_value_gradients(grad: CubeTensor, values: CubeTensor, indices: CubeTensor, w_dec: CubeTensor) -> CubeTensor {
        let (grad, values) = (contiguous(grad), contiguous(values));
        let (indices, w_dec) = (contiguous(indices), contiguous(w_dec));
        let ([tokens, k], [_, d]) = (dims2(&values), dims2(&w_dec));
        let width = width_of(d);
        let out = empty(&values, [tokens, k], DType::F32);
        // SAFETY: as in `sae_decode`.
        #[allow(unsafe_code)]
        unsafe {
            launch_for!(w_dec, decode::value_gradients)(
                &out.client,
                cubes(tokens),
                CubeDim::new_1d(UNITS as u32),
                width,
                slice(&grad, width),
                slice(&values, 1),
                slice(&indices, 1),
                slice(&w_dec, width),
                slice(&out, 1),
                k,
                d / width,
                tokens,
            );
        }
        out
    }

    fn sae_latent_gradients(
        values: CubeTensor,
        value_grads: CubeTensor,
        indices: CubeTensor,
        output_grad: CubeTensor,
        aux_values: CubeTensor,
        aux_value_grads: CubeTensor,
        aux_indices: CubeTensor,
        aux_output_grad: CubeTensor,
        input: CubeTensor,
        w_dec: CubeTensor,
        since_fired: CubeTensor,
        fires: CubeTensor,
        with_aux: bool,
        project: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let (input, w_dec) = (contiguous(input), contiguous(w_dec));
        let ([tokens, d], [n, _]) = (dims2(&input), dims2(&w_dec));
        let (since_fired, fires) = (owned(since_fired), owned(fires));
        let main = Sparse::new(values, value_grads, indices, output_grad, n);
        let aux = if with_aux {
            Sparse::new(aux_values, aux_value_grads, aux_indices, aux_output_grad, n)
        } else {
            main.clone()
        };
        let width = width_of(d);
        let columns = d / width;
        let units = units_for(columns);
        let per_unit = columns.div_ceil(units as usize);
        let words = tokens.div_ceil(32);
        let g_enc = empty(&input, [n, d], DType::F32);
        let g_bias = empty(&input, [n], DType::F32);
        let g_dec = empty(&input, [n, d], DType::F32);
        let squares = empty(&input, [n], DType::F32);
        // SAFETY: the kernel checks its latent and columns; marks name tokens below `tokens` only, and a list has room for those of
        // a latent that is not hot.
        #[allow(unsafe_code)]
        unsafe {
            launch_for!(input, gradients::latent_gradients)(
                &input.client,
                cubes(n),
                CubeDim::new_1d(units),
                width,
                slice(&main.marks, 1),
                slice(&main.values, 1),
                slice(&main.value_grads, 1),
                slice(&main.indices, 1),
                slice(&main.output_grad, width),
                slice(&aux.marks, 1),
                slice(&aux.values, 1),
                slice(&aux.value_grads, 1),
                slice(&aux.indices, 1),
                slice(&aux.output_grad, width),
                slice(&main.counts, 1),
                slice(&aux.counts, 1),
                slice(&input, width),
                slice(&w_dec, width),
                slice(&g_enc, width),
                slice(&g_bias, 1),
                slice(&g_dec, width),
                slice(&squares, 1),
                slice(&since_fired, 1),
                slice(&fires, 1),
                main.k,
                aux.k,
                words,
                columns,
                n,
                tokens as i32,
                per_unit,
                with_aux,
                project,
            );
        }
        // A latent can only be hot if there are more tokens than that; a batch has room for so many of them.
        let entries = tokens * (main.k + if with_aux { aux.k } else { 0 });
        let most = (entries / (gradients::HOT + 1)).min(n);
        if tokens > gradients::HOT && most > 0 {
            let (hot, n_hot) = list_above(&main.counts, with_aux.then_some(&aux.counts), gradients::HOT as i32);
            let part_enc = empty(&input, [most * gradients::PARTS, d], DType::F32);
            let part_dec = empty(&input, [most * gradients::PARTS, d], DType::F32);
            let part_bias = empty(&input, [most * gradients::PARTS], DType::F32);
            // SAFETY: as above; cubes beyond the number of hot latents leave at once.
            #[allow(unsafe_code)]
            unsafe {
                launch_for!(input, gradients::hot_parts)(
                    &input.client,
                    cubes(most * gradients::PARTS),
                    CubeDim::new_1d(units),
                    width,
                    slice(&main.marks, 1),
                    slice(&main.values, 1),
                    slice(&main.value_grads, 1),
                    slice(&main.indices, 1),
                    slice(&main.output_grad, width),
                    slice(&aux.marks, 1),
                    slice(&aux.values, 1),
                    slice(&aux.value_grads, 1),
                    slice(&aux.indices, 1),
                    slice(&aux.output_grad, width),
                    slice(&input, width),
                    slice(&hot, 1),
                    slice(&n_hot, 1),
                    slice(&part_enc, width),
                    slice(&part_dec, width),
                    slice(&part_bias, 1),
                    main.k,
                    aux.k,
                    words,
                    columns,
                    per_unit,
                    with_aux,
                );
                gradients::hot_gradients::launch_unchecked(
                    &input.client,
                    cubes(most),
                    CubeDim::new_1d(units),
                    width,
                    slice(&part_enc, width),
                    slice(&part_dec, width),
                    slice(&part_bias, 1),
                    slice(&hot, 1),
                    slice(&n_hot, 1),
                    slice(&main.counts, 1),
                    slice(&w_dec, width),
                    slice(&g_enc, width),
                    slice(&g_bias, 1),
                    slice(&g_dec, width),
                    slice(&squares, 1),
                    slice(&since_fired, 1),
                    slice(&fires, 1),
                    columns,
                    tokens as i32,
                    per_unit,
                    project,
                );
            }
        }
        (g_enc, g_bias, g_dec, squares, since_fired, fires)
    }

    fn sae_sum_squares(x: CubeTensor) -> CubeTensor {
        sum(&contiguous(x), true)
    }

    fn sae_row_norms(x: CubeTensor) -> CubeTensor {
        let x = contiguous(x);
        let [n, d] = dims2(&x);
        let width = width_of(d);
        let norms = empty(&x, [n], DType::F32);
        let rows = UNITS / plane_size(&x);
        // SAFETY: the kernel checks its row and columns.
        #[allow(unsafe_code)]
        unsafe {
            reduce::row_norms::launch_unchecked(
                &x.client,
                cubes_for(n, rows),
                CubeDim::new_1d(UNITS as u32),
                width,
                slice(&x, width),
                slice(&norms, 1),
                d / width,
                n,
            );
        }
        norms
    }

    fn sae_scale_rows(x: CubeTensor, factors: CubeTensor) -> CubeTensor {
        let (x, factors) = (contiguous(x), contiguous(factors));
        let [n, d] = dims2(&x);
        let out = empty(&x, [n, d], DType::F32);
        // SAFETY: the kernel checks its position.
        #[allow(unsafe_code)]
        unsafe {
            reduce::scale_rows::launch_unchecked(
                &x.client,
                cubes_for(n * d, UNITS),
                CubeDim::new_1d(UNITS as u32),
                slice(&x, 1),
                slice(&factors, 1),
                slice(&out, 1),
                d,
                n * d,
            );
        }
        out
    }

    fn sae_clip_factor(squares: CubeTensor, extra: CubeTensor, limit: f64) -> CubeTensor {
        let (squares, extra) = (contiguous(squares), contiguous(extra));
        let out = empty(&squares, [1], DType::F32);
        // SAFETY: the kernel checks its positions.
        #[allow(unsafe_code)]
        unsafe {
            reduce::clip_factor::launch_unchecked(
                &out.client,
                cubes(1),
                CubeDim::new_1d(1024),
                slice(&squares, 1),
                slice(&extra, 1),
                slice(&out, 1),
                limit as f32,
                len(&squares),
                len(&extra),
            );
        }
        out
    }

    fn sae_column_sums(rows: CubeTensor) -> CubeTensor {
        sum_rows(None, contiguous(rows))
    }

    fn sae_weighted_rows(weights: CubeTensor, rows: CubeTensor) -> CubeTensor {
        sum_rows(Some(contiguous(weights)), contiguous(rows))
    }

    fn sae_adam(
        param: CubeTensor,
        grad: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        clip: CubeTensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        step: u64,
        unit_rows: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (param, grad) = (owned(param), contiguous(grad));
        let (first, second, clip) = (owned(first), owned(second), contiguous(clip));
        let s = AdamStep { lr, beta1, beta2, eps, step }.scalars();
        let scalars = || adam::ScalarsLaunch::new(s.step_size, s.beta1, s.beta2, s.rest1, s.rest2, s.root_bias2, s.eps);
        // SAFETY: the kernels check their positions; the three tensors written to are nobody else's.
        #[allow(unsafe_code)]
        unsafe {
            if unit_rows {
                let [n, d] = dims2(&param);
                let width = width_of(d);
                let units = units_for(d / width);
                adam::adam_unit_rows::launch_unchecked(
                    &param.client,
                    cubes(n),
                    CubeDim::new_1d(units),
                    width,
                    slice(&param, width),
                    slice(&grad, width),
                    slice(&first, width),
                    slice(&second, width),
                    slice(&clip, 1),
                    scalars(),
                    d / width,
                    n,
                    (d / width).div_ceil(units as usize),
                );
            } else {
                let width = width_of(len(&param));
                adam::adam::launch_unchecked(
                    &param.client,
                    cubes_for(len(&param) / width, UNITS),
                    CubeDim::new_1d(UNITS as u32),
                    width,
                    slice(&param, width),
                    slice(&grad, width),
                    slice(&first, width),
                    slice(&second, width),
                    slice(&clip, 1),
                    scalars(),
                    len(&param) / width,
                );
            }
        }
        (param, first, second)
    }
}

/// Pre-activations with their bias, `[tokens, n]`, and the largest scaled one of every group of latents.
struct Scores {
    pre: CubeTensor,
    maxima: CubeTensor,
    scale: CubeTensor,
    scaled: bool,
}

impl Scores {
    fn new(
        input: CubeTensor,
        w_enc: CubeTensor,
        b_enc: CubeTensor,
        scale: CubeTensor,
        scaled: bool,
        precision: Precision,
    ) -> Self {
        let (input, w_enc) = (contiguous(input), contiguous(w_enc));
        let (b_enc, scale) = (contiguous(b_enc), contiguous(scale));
        let ([tokens, _], [n, _]) = (dims2(&input), dims2(&w_enc));
        let entries = tokens.saturating_mul(n);
        assert!(
            entries <= u32::MAX as usize,
            "{entries} pre-activations at once: kernels count to 2³²; take fewer tokens a step"
        );
        #[cfg(feature = "cuda")]
        if assay_kernels::gemm::suits(&input.client, n, dims2(&w_enc)[1]) {
            use assay_kernels::{gemm, packed::Packed};
            let [_, d] = dims2(&w_enc);
            let (a, b) = match precision {
                Precision::F32 => (Packed::split(&input, tokens, d, true), Packed::split(&w_enc, n, d, false)),
                Precision::Bf16 => (Packed::from_f32(&input, tokens, d), Packed::from_f32(&w_enc, n, d)),
            };
            let (pre, maxima) = gemm::scores(&a, &b, &b_enc, scaled.then_some(&scale));
            return Self { pre, maxima, scale, scaled };
        }
        let pre = match precision {
            Precision::F32 => f32_product(input, transposed(w_enc)),
            Precision::Bf16 => {
                let round = |x| burn_cubecl::kernel::cast(x, DType::BF16);
                matmul(round(input), transposed(round(w_enc)), None, MatmulStrategy::Cube, DType::F32)
                    .expect("a product of matrices whose shapes agree")
            }
        };
        let pre = contiguous(pre);
        let groups = n.div_ceil(GROUP);
        let maxima = empty(&pre, [tokens, groups], DType::F32);
        // SAFETY: the kernel checks its position and its latents.
        #[allow(unsafe_code)]
        unsafe {
            select::finish_scores::launch_unchecked(
                &pre.client,
                cubes_for(tokens * groups, UNITS),
                CubeDim::new_1d(UNITS as u32),
                slice(&pre, 1),
                slice(&b_enc, 1),
                slice(&scale, 1),
                slice(&maxima, 1),
                n,
                groups,
                tokens * groups,
                scaled,
            );
        }
        Self { pre, maxima, scale, scaled }
    }

    fn topk(&self, k: usize) -> (CubeTensor, CubeTensor) {
        let ([tokens, n], [_, groups]) = (dims2(&self.pre), dims2(&self.maxima));
        let (values, indices) = (empty(&self.pre, [tokens, k], DType::F32), empty(&self.pre, [tokens, k], DType::I32));
        let plane = plane_size(&self.pre);
        let planes = 4;
        // About k candidates reach the bound; some room, but not so much that few cubes fit on a processor. Two sizes, so that a grid
        // of k needs two kernels and not one each.
        // A device with little shared memory gets less: what does not fit is found in the row itself.
        let free = self.pre.client.properties().hardware.max_shared_memory_size / (4 * planes);
        let room = free.saturating_sub(groups.next_multiple_of(plane)) / 2;
        let wanted = if k <= 64 { 256 } else { 1024 };
        let capacity = wanted.min(room.max(32));
        // SAFETY: the kernel checks its token, groups, latents and candidates.
        #[allow(unsafe_code)]
        unsafe {
            select::select_topk::launch_unchecked(
                &self.pre.client,
                cubes_for(tokens, planes),
                CubeDim::new_1d((planes * plane) as u32),
                slice(&self.pre, 1),
                slice(&self.scale, 1),
                slice(&self.maxima, 1),
                slice(&values, 1),
                slice(&indices, 1),
                tokens,
                n,
                groups,
                k,
                groups.div_ceil(plane),
                capacity,
                planes,
                plane,
                self.scaled,
            );
        }
        (values, indices)
    }

    fn dead(&self, since_fired: &CubeTensor, after: i32, k: usize) -> (CubeTensor, CubeTensor) {
        let [tokens, n] = dims2(&self.pre);
        let (values, indices) = (empty(&self.pre, [tokens, k], DType::F32), empty(&self.pre, [tokens, k], DType::I32));
        let (dead, n_dead) = list_above(since_fired, None, after);
        // SAFETY: the kernel checks its positions; `dead` holds latents only.
        #[allow(unsafe_code)]
        unsafe {
            select::select_dead::launch_unchecked(
                &self.pre.client,
                cubes(tokens),
                CubeDim::new_1d(UNITS as u32),
                slice(&self.pre, 1),
                slice(&self.scale, 1),
                slice(&dead, 1),
                slice(&n_dead, 1),
                slice(&values, 1),
                slice(&indices, 1),
                tokens,
                n,
                k,
                self.scaled,
            );
        }
        (values, indices)
    }
}

/// Sparse activations with the gradients of their values and of what they decode to, and the tokens of each latent.
#[derive(Clone)]
struct Sparse {
    values: CubeTensor,
    value_grads: CubeTensor,
    indices: CubeTensor,
    output_grad: CubeTensor,
    k: usize,
    /// A bit a token, `[n, tokens / 32]`.
    marks: CubeTensor,
    /// Marked tokens of each latent, `[n]`.
    counts: CubeTensor,
}

impl Sparse {
    fn new(
        values: CubeTensor,
        value_grads: CubeTensor,
        indices: CubeTensor,
        output_grad: CubeTensor,
        n: usize,
    ) -> Self {
        let [tokens, k] = dims2(&values);
        let (values, value_grads) = (contiguous(values), contiguous(value_grads));
        let (indices, output_grad) = (contiguous(indices), contiguous(output_grad));
        let words = tokens.div_ceil(32);
        let marks = zeros(&values, [n, words], DType::U32);
        let counts = zeros(&values, [n], DType::I32);
        // SAFETY: the kernel checks its position; indices are below d_sae by construction.
        #[allow(unsafe_code)]
        unsafe {
            gradients::mark::launch_unchecked(
                &marks.client,
                cubes_for(len(&values), UNITS),
                CubeDim::new_1d(UNITS as u32),
                slice(&values, 1),
                slice(&indices, 1),
                slice(&marks, 1),
                slice(&counts, 1),
                k,
                words,
                len(&values),
            );
        }
        Self { values, value_grads, indices, output_grad, k, marks, counts }
    }
}

/// The positions where `values`, or `aux`, exceed a limit, in ascending order, and how many there are.
fn list_above(values: &CubeTensor, aux: Option<&CubeTensor>, limit: i32) -> (CubeTensor, CubeTensor) {
    let n = len(values);
    let (list, count) = (empty(values, [n], DType::U32), empty(values, [1], DType::U32));
    // SAFETY: the kernel checks its positions.
    #[allow(unsafe_code)]
    unsafe {
        lists::list_above::launch_unchecked(
            &values.client,
            cubes(1),
            CubeDim::new_1d(1024),
            slice(values, 1),
            slice(aux.unwrap_or(values), 1),
            slice(&list, 1),
            slice(&count, 1),
            limit,
            n,
            aux.is_some(),
        );
    }
    (list, count)
}

/// Σ weights[i]·rows[i], or Σ rows[i], in steps that each sum up to 32 rows: enough cubes to fill the device, few rows for each.
fn sum_rows(weights: Option<CubeTensor>, rows: CubeTensor) -> CubeTensor {
    const EACH: usize = 32;
    let [n, d] = dims2(&rows);
    let width = width_of(d);
    let (mut weights, mut rows, mut left) = (weights, rows, n);
    loop {
        let parts = left.div_ceil(EACH);
        let out = empty(&rows, [parts, d], DType::F32);
        // SAFETY: the kernel checks its rows and columns.
        #[allow(unsafe_code)]
        unsafe {
            reduce::sum_rows::launch_unchecked(
                &rows.client,
                cubes(parts),
                CubeDim::new_1d(units_for(d / width)),
                width,
                slice(weights.as_ref().unwrap_or(&rows), 1),
                slice(&rows, width),
                slice(&out, width),
                d / width,
                left,
                EACH,
                weights.is_some(),
            );
        }
        if parts <= 1 {
            return reshaped(out, Shape::from([d]));
        }
        (weights, rows, left) = (None, out, parts);
    }
}

/// The sum of a contiguous tensor, or of its squares, in two steps of fixed order.
fn sum(x: &CubeTensor, squared: bool) -> CubeTensor {
    let n = len(x);
    let parts = empty(x, [n.div_ceil(UNITS * 8).clamp(1, 512)], DType::F32);
    let out = empty(x, [1], DType::F32);
    for (from, to, squared) in [(x, &parts, squared), (&parts, &out, false)] {
        // SAFETY: the kernel checks its position.
        #[allow(unsafe_code)]
        unsafe {
            reduce::sum_parts::launch_unchecked(
                &x.client,
                cubes(len(to)),
                CubeDim::new_1d(UNITS as u32),
                slice(from, 1),
                slice(to, 1),
                len(from),
                squared,
            );
        }
    }
    out
}

/// The tensor, contiguous and shared with nobody, so that a kernel may write into it.
fn owned(x: CubeTensor) -> CubeTensor {
    let x = contiguous(x);
    // Of a matrix a copy may have gaps between its rows.
    if x.handle.can_mut() { x } else { contiguous(x.copy()) }
}

fn transposed(x: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(x, 0, 1)
}

/// Units of a plane: 32. The kernels cut work and shared memory by it, so a device that may choose another size is refused.
fn plane_size(x: &CubeTensor) -> usize {
    let hardware = &x.client.properties().hardware;
    assert!(
        hardware.plane_size_min == 32 && hardware.plane_size_max == 32,
        "the SAE kernels need a GPU whose planes (warps, subgroups) have 32 units; those of {} have {} to {}: use --device cpu",
        x.client.properties().identity.name,
        hardware.plane_size_min,
        hardware.plane_size_max
    );
    32
}

/// Units of a cube that owns rows of `columns` vectors: whole planes, at most 256.
fn units_for(columns: usize) -> u32 {
    columns.next_multiple_of(32).min(256) as u32
}
