//! The encoder's product, and the selection of latents from it. Floats are compared as integers of the same order ("keys"). A selection is
//! exact, without sorting; ties go to the lowest index.
//!
//! - `topk.rs`: the k largest of a token; `groups.rs`: the largest of each group; `dead.rs`: the largest among the dead latents.
//! - `batch.rs`: the largest of a batch; `split.rs`: those above their thresholds; `reaching.rs`: what both read.

mod batch;
mod candidates;
mod dead;
mod digits;
mod groups;
mod reaching;
mod split;
mod topk;

use assay_kernels::packed::GROUP;
use assay_kernels::product::f32_product;
use assay_kernels::tensor::{contiguous, cubes_for, dims2, empty, slice};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::UNITS;
use crate::kernels::{EncoderOf, Precision, ScoresOf, Selection, VectorOf};

/// Pre-activations with their bias, `[tokens, n]`, and the largest scaled one of every group of latents.
pub(super) struct Scores {
    pre: CubeTensor,
    maxima: CubeTensor,
    /// Factors in the selection, or something of their type that is not looked at.
    scale: CubeTensor,
    scaled: bool,
}

impl Scores {
    pub(super) fn new(input: CubeTensor, encoder: EncoderOf<CubeBackend>) -> Self {
        let (input, w_enc, b_enc) = (contiguous(input), contiguous(encoder.w_enc), contiguous(encoder.b_enc));
        let (scaled, precision) = (matches!(encoder.scale, VectorOf::Latents(_)), encoder.precision);
        let scale = match encoder.scale {
            VectorOf::Latents(scale) => contiguous(scale),
            VectorOf::None => b_enc.clone(),
        };
        let ([tokens, _], [n, _]) = (dims2(&input), dims2(&w_enc));
        let entries = tokens.saturating_mul(n);
        assert!(
            entries <= u32::MAX as usize,
            "{entries} pre-activations at once: kernels count to 2³²; take fewer tokens per step"
        );
        #[cfg(feature = "cuda")]
        if assay_kernels::gemm::suits(&input.client, n, dims2(&w_enc)[1]) {
            use assay_kernels::gemm;
            use assay_kernels::packed::{Packed, Side};
            let [_, d] = dims2(&w_enc);
            let (a, b) = match precision {
                Precision::F32 => (
                    Packed::split(&input, tokens, d, Side::Left, false),
                    Packed::split(&w_enc, n, d, Side::Right, false),
                ),
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
            finish_scores::launch_unchecked(
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

    /// Scores that were kept.
    pub(super) fn kept(scores: ScoresOf<CubeBackend>) -> Self {
        let pre = contiguous(scores.pre);
        let (scale, scaled) = match scores.scale {
            VectorOf::Latents(scale) => (contiguous(scale), true),
            VectorOf::None => (pre.clone(), false),
        };
        Self { pre, maxima: contiguous(scores.maxima), scale, scaled }
    }

    /// Pre-activations and maxima.
    pub(super) fn into_parts(self) -> (CubeTensor, CubeTensor) {
        (self.pre, self.maxima)
    }

    /// Values and indices of the latents that `selection` chooses, `[tokens, k]`.
    pub(super) fn choose(&self, selection: Selection) -> (CubeTensor, CubeTensor) {
        match selection {
            Selection::TopK { k } => self.topk(k),
            Selection::GroupMax { k } => self.largest_of_groups(k),
        }
    }

    /// Room for values and indices, `[tokens, k]`.
    fn room(&self, k: usize) -> (CubeTensor, CubeTensor) {
        let [tokens, _] = dims2(&self.pre);
        (empty(&self.pre, [tokens, k], DType::F32), empty(&self.pre, [tokens, k], DType::I32))
    }
}

fn transposed(x: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(x, 0, 1)
}

/// Adds the bias to every pre-activation and takes the largest pre·scale of every group: what Hopper's product does on the way.
#[cube(launch_unchecked)]
pub(super) fn finish_scores(
    pre: &mut [f32],
    bias: &[f32],
    scale: &[f32],
    maxima: &mut [f32],
    n: usize,
    groups: usize,
    len: usize,
    #[comptime] scaled: bool,
) {
    if ABSOLUTE_POS < len {
        let token = ABSOLUTE_POS / groups;
        let group = ABSOLUTE_POS % groups;
        let mut best = f32::new(-f32::INFINITY);
        for i in 0..GROUP {
            let latent = group * GROUP + i;
            if latent < n {
                let v = pre[token * n + latent] + bias[latent];
                pre[token * n + latent] = v;
                let mut score = v;
                if comptime!(scaled) {
                    score *= scale[latent];
                }
                best = max(best, score);
            }
        }
        maxima[ABSOLUTE_POS] = best;
    }
}

/// An integer with the order of the float: negative floats reversed, then positive ones; −0 is made +0 first. NaN is below all.
#[cube]
fn key_of(x: f32) -> u32 {
    let bits = u32::reinterpret(x + 0.0f32);
    let key = select(bits >> 31 == 1u32, !bits, bits | 0x8000_0000u32);
    select(bits & 0x7FFF_FFFFu32 > 0x7F80_0000u32, 1u32, key)
}

/// The float that a key was made from.
#[cube]
fn float_of(key: u32) -> f32 {
    f32::reinterpret(select(key >> 31 == 1u32, key & 0x7FFF_FFFFu32, !key))
}

/// Key of a latent's pre-activation, scaled.
#[cube]
fn key_at(pre: &[f32], scale: &[f32], row: usize, latent: usize, #[comptime] scaled: bool) -> u32 {
    let mut v = pre[row + latent];
    if comptime!(scaled) {
        v *= scale[latent];
    }
    key_of(v)
}
