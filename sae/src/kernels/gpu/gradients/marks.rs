//! Which tokens each latent is active on: a bit a token, in order by construction, whatever order the bits were set in.

use assay_kernels::tensor::{contiguous, cubes_for, len, slice, zeros};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernels::GradientOf;
use crate::kernels::gpu::UNITS;
use crate::kernels::gpu::code::{Code, Levels, row_start, token_of};

/// A sparse code with the gradients of its values and of what it decodes to, and the tokens of each latent.
#[derive(Clone)]
pub(super) struct Marked {
    pub code: Code,
    pub value_grads: CubeTensor,
    pub output_grad: CubeTensor,
    pub levels: Levels,
    pub marks: Marks,
}

/// The tokens of each latent.
#[derive(Clone)]
pub(in crate::kernels::gpu) struct Marks {
    /// A bit a token, `[n · tokens / 32]`.
    pub bits: CubeTensor,
    /// Marked tokens of each latent, `[n]`.
    pub counts: CubeTensor,
}

impl Marked {
    /// With the tokens of `n` latents.
    pub(super) fn new(gradient: GradientOf<CubeBackend>, n: usize) -> Self {
        let code = Code::new(gradient.code);
        let (value_grads, output_grad) = (contiguous(gradient.value_grads), contiguous(gradient.output_grad));
        let marks = code.marks(n);
        Self { code, value_grads, output_grad, levels: Levels::new(gradient.levels), marks }
    }
}

impl Marks {
    /// Marks the tokens of `n` latents.
    pub(in crate::kernels::gpu) fn new(code: &Code, n: usize) -> Self {
        let (entries, words) = (len(&code.values), code.tokens.div_ceil(32));
        // One buffer, zeroed once; the second part begins where any device can read.
        let first = n.next_multiple_of(64);
        let both = zeros(&code.values, [first + n * words], DType::U32);
        let part = |handle, shape: Shape, dtype| {
            CubeTensor::new_contiguous(both.client.clone(), both.device.clone(), shape, handle, dtype)
        };
        let counts = part(both.handle.clone(), Shape::from([n]), DType::I32);
        let bits = part(both.handle.clone().offset_start(4 * first as u64), Shape::from([n * words]), DType::I32);
        // SAFETY: the kernel checks its position; indices are below d_sae, and rows within the entries, by construction.
        #[allow(unsafe_code)]
        unsafe {
            mark::launch_unchecked(
                &bits.client,
                cubes_for(entries, UNITS),
                CubeDim::new_1d(UNITS as u32),
                slice(&code.values, 1),
                slice(&code.indices, 1),
                slice(code.starts(), 1),
                slice(&bits, 1),
                slice(&counts, 1),
                code.k,
                words,
                code.tokens,
                entries,
                code.ragged(),
            );
        }
        Self { bits, counts }
    }
}

/// Sets bit `token` in the row of every latent that is active on it, and counts the latent's tokens.
#[cube(launch_unchecked)]
fn mark(
    values: &[f32],
    indices: &[i32],
    starts: &[i32],
    marks: &[Atomic<u32>],
    counts: &[Atomic<i32>],
    k: usize,
    words: usize,
    tokens: usize,
    len: usize,
    #[comptime] ragged: bool,
) {
    let mut end = len;
    if comptime!(ragged) {
        // What lies behind the last row is no token's.
        end = row_start(starts, tokens, k, ragged);
    }
    if ABSOLUTE_POS < end && values[ABSOLUTE_POS] != 0.0f32 {
        let token = token_of(starts, ABSOLUTE_POS, k, tokens, ragged);
        let latent = usize::cast_from(indices[ABSOLUTE_POS]);
        marks[latent * words + token / 32].fetch_or(1u32 << (token % 32) as u32);
        counts[latent].fetch_add(1i32);
    }
}
