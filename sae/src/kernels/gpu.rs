//! The operations on any GPU that CubeCL reaches. What each kernel does is in the file of its name under `gpu/`.

#![allow(
    clippy::assign_op_pattern,
    clippy::collapsible_if,
    clippy::manual_div_ceil,
    clippy::needless_range_loop,
    reason = "kernels are written in the operators that CubeCL translates"
)]

/// A kernel for the element type of the rows that it gathers: f32, or bf16 where half the bytes matter more than the last digits.
macro_rules! launch_for {
    ($rows:expr, $kernel:ident) => {
        match $rows.dtype {
            DType::BF16 => $kernel::launch_unchecked::<half::bf16>,
            _ => $kernel::launch_unchecked::<f32>,
        }
    };
}

mod adam;
mod code;
mod decode;
mod gradients;
mod jump;
mod lists;
mod nested;
mod reduce;
mod scan;
mod select;
mod sums;
#[cfg(test)]
mod tests;

use assay_kernels::product::f32_product;
use assay_kernels::tensor::contiguous;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use self::code::{Code, Levels};
use self::gradients::marks::Marks;
use self::select::Scores;
use super::adam::AdamStep;
use super::{
    AuxiliaryOf, CodeOf, Coming, EncoderOf, GradientOf, JumpOf, LevelsOf, SaeOps, ScoresOf, Selection, VectorOf,
};

/// Units of a cube for work that is element by element.
const UNITS: usize = 256;

impl SaeOps for CubeBackend {
    fn sae_product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        f32_product(lhs, rhs)
    }

    fn sae_encode(input: CubeTensor, encoder: EncoderOf<Self>, selection: Selection) -> (CubeTensor, CubeTensor) {
        Scores::new(input, encoder).choose(selection)
    }

    fn sae_encode_with_dead(
        input: CubeTensor,
        encoder: EncoderOf<Self>,
        selection: Selection,
        since_fired: CubeTensor,
        dead_after: i32,
        k_aux: usize,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let scores = Scores::new(input, encoder);
        let (values, indices) = scores.choose(selection);
        let (dead_values, dead_indices) = scores.dead(&contiguous(since_fired), dead_after, k_aux, 0);
        (values, indices, dead_values, dead_indices)
    }

    fn sae_scores(input: CubeTensor, encoder: EncoderOf<Self>) -> (CubeTensor, CubeTensor) {
        Scores::new(input, encoder).into_parts()
    }

    fn sae_largest(scores: ScoresOf<Self>, count: usize) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        Scores::kept(scores).largest(count)
    }

    fn sae_dead(
        scores: ScoresOf<Self>,
        since_fired: CubeTensor,
        dead_after: i32,
        k: usize,
        first: usize,
    ) -> (CubeTensor, CubeTensor) {
        Scores::kept(scores).dead(&contiguous(since_fired), dead_after, k, first)
    }

    fn sae_split(
        scores: ScoresOf<Self>,
        threshold: CubeTensor,
        low: CubeTensor,
        both: bool,
        room: Option<([usize; 2], Coming)>,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let ([above, between], active) = Scores::kept(scores).split(threshold, low, both, room);
        (above.0, above.1, above.2, between.0, between.1, between.2, active)
    }

    fn sae_mark(code: CodeOf<Self>, d_sae: usize) -> (CubeTensor, CubeTensor) {
        let Marks { bits, counts } = Code::new(code).marks(d_sae);
        (bits, counts)
    }

    fn sae_nested_residuals(
        code: CodeOf<Self>,
        ends: CubeTensor,
        w_dec: CubeTensor,
        b_dec: CubeTensor,
        x: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        nested::residuals(&Code::new(code), ends, w_dec, b_dec, x)
    }

    fn sae_nested_gradients(residuals: CubeTensor, output_grad: CubeTensor, factor: CubeTensor) -> CubeTensor {
        nested::gradients(residuals, output_grad, factor)
    }

    fn sae_latent_sums(
        code: CodeOf<Self>,
        first: CubeTensor,
        second: CubeTensor,
        d_sae: usize,
    ) -> (CubeTensor, CubeTensor) {
        nested::sums(&Code::new(code), first, second, d_sae)
    }

    fn sae_jump_gradients(
        code: CodeOf<Self>,
        z_grads: CubeTensor,
        jump: JumpOf<Self>,
        active: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        jump::gradients(&Code::new(code), z_grads, jump, active)
    }

    fn sae_spread(code: CodeOf<Self>, numbers: CubeTensor) -> CubeTensor {
        nested::spread(&Code::new(code), numbers)
    }

    fn sae_decode(code: CodeOf<Self>, w_dec: CubeTensor) -> CubeTensor {
        decode::decoded(&Code::new(code), w_dec)
    }

    fn sae_residual(
        code: CodeOf<Self>,
        w_dec: CubeTensor,
        b_dec: CubeTensor,
        x: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        decode::residual_and_squares(&Code::new(code), w_dec, b_dec, x)
    }

    fn sae_value_gradients(
        grad: CubeTensor,
        code: CodeOf<Self>,
        w_dec: CubeTensor,
        levels: LevelsOf<Self>,
    ) -> CubeTensor {
        decode::gradients_of_values(grad, &Code::new(code), w_dec, &Levels::new(levels))
    }

    fn sae_latent_gradients(
        main: GradientOf<Self>,
        auxiliary: AuxiliaryOf<Self>,
        input: CubeTensor,
        w_dec: CubeTensor,
        since_fired: CubeTensor,
        fires: CubeTensor,
        project: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        gradients::gradients_and_counters(main, auxiliary, input, w_dec, since_fired, fires, project)
    }

    fn sae_sum_squares(x: CubeTensor) -> CubeTensor {
        sums::sum(&contiguous(x), true)
    }

    fn sae_row_norms(x: CubeTensor) -> CubeTensor {
        sums::norms_of_rows(x)
    }

    fn sae_scale_rows(x: CubeTensor, factors: CubeTensor) -> CubeTensor {
        sums::scaled_rows(x, factors)
    }

    fn sae_clip_factor(squares: CubeTensor, extra: CubeTensor, vectors: VectorOf<Self>, limit: f64) -> CubeTensor {
        sums::factor_of_clipping(squares, extra, vectors, limit)
    }

    fn sae_column_sums(rows: CubeTensor) -> CubeTensor {
        sums::summed_rows(None, contiguous(rows))
    }

    fn sae_weighted_rows(weights: CubeTensor, rows: CubeTensor) -> CubeTensor {
        sums::summed_rows(Some(contiguous(weights)), contiguous(rows))
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
        adam::updated(param, grad, first, second, clip, AdamStep { lr, beta1, beta2, eps, step }, unit_rows)
    }
}

/// The tensor, contiguous and shared with nobody, so that a kernel may write into it.
fn owned(x: CubeTensor) -> CubeTensor {
    let x = contiguous(x);
    // Of a matrix a copy may have gaps between its rows.
    if x.handle.can_mut() { x } else { contiguous(x.copy()) }
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
