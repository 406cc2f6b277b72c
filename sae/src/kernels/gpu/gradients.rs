//! Gradients of the encoder, its bias and the decoder as sums over each latent's tokens, in token order: no float atomics, nothing
//! of size [B, k, d].
//!
//! First every active entry sets a bit in a table [d_sae, B/32] (`marks.rs`): a set of tokens per latent, in order by construction,
//! whatever order the bits were set in. Then a cube takes a latent (`latents.rs`): it lists the set's tokens, looks up the latent's place
//! among each token's ascending indices, and sums the rows. The cube holds the latent's whole gradient then, so the part parallel to its
//! decoder row, the sum of squares and the latent's counters cost no further pass.
//!
//! A latent with more than [`HOT`] active tokens would keep one processor busy long after all others are done. Such latents are
//! listed, [`PARTS`] cubes each sum a stretch of tokens, and one adds the stretches up in order (`hot.rs`).

mod hot;
mod latents;
pub(super) mod marks;
mod sums;

use assay_kernels::tensor::{contiguous, cubes, dims2, empty, len, slice, width_of};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use self::hot::{hot_gradients, hot_parts};
use self::latents::latent_gradients;
use self::marks::Marked;
use super::lists::positions_above;
use super::{owned, units_for};
use crate::kernels::{AuxiliaryOf, GradientOf};

/// Active tokens above which a latent is shared out; also what the list of a cube holds.
const HOT: usize = 512;
/// Cubes that share a hot latent.
const PARTS: usize = 8;

/// See [`crate::kernels::latent_gradients`]: the three gradients, their squares, and the counters.
pub(super) fn gradients_and_counters(
    main: GradientOf<CubeBackend>,
    auxiliary: AuxiliaryOf<CubeBackend>,
    input: CubeTensor,
    w_dec: CubeTensor,
    since_fired: CubeTensor,
    fires: CubeTensor,
    project: bool,
) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
    let (input, w_dec) = (contiguous(input), contiguous(w_dec));
    let ([tokens, d], [n, _]) = (dims2(&input), dims2(&w_dec));
    let (since_fired, fires) = (owned(since_fired), owned(fires));
    let main = Marked::new(main, n);
    let with_aux = matches!(auxiliary, AuxiliaryOf::Path(_));
    let aux = match auxiliary {
        AuxiliaryOf::Path(path) => Marked::new(path, n),
        AuxiliaryOf::None => main.clone(),
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
        launch_for!(input, latent_gradients)(
            &input.client,
            cubes(n),
            CubeDim::new_1d(units),
            width,
            slice(&main.marks.bits, 1),
            slice(&main.code.values, 1),
            slice(&main.value_grads, 1),
            slice(&main.code.indices, 1),
            slice(main.code.starts(), 1),
            slice(main.levels.ends(&main.code), 1),
            slice(&main.output_grad, width),
            slice(&aux.marks.bits, 1),
            slice(&aux.code.values, 1),
            slice(&aux.value_grads, 1),
            slice(&aux.code.indices, 1),
            slice(aux.code.starts(), 1),
            slice(aux.levels.ends(&aux.code), 1),
            slice(&aux.output_grad, width),
            slice(&main.marks.counts, 1),
            slice(&aux.marks.counts, 1),
            slice(&input, width),
            slice(&w_dec, width),
            slice(&g_enc, width),
            slice(&g_bias, 1),
            slice(&g_dec, width),
            slice(&squares, 1),
            slice(&since_fired, 1),
            slice(&fires, 1),
            main.code.k,
            aux.code.k,
            words,
            columns,
            n,
            tokens as i32,
            per_unit,
            main.code.ragged(),
            with_aux,
            aux.code.ragged(),
            main.levels.nested(),
            aux.levels.nested(),
            project,
        );
    }
    // A latent can only be hot if there are more tokens than that; a batch has room for so many hot ones.
    let entries = len(&main.code.values) + if with_aux { len(&aux.code.values) } else { 0 };
    let most = (entries / (HOT + 1)).min(n);
    if tokens > HOT && most > 0 {
        let (hot, n_hot) = positions_above(&main.marks.counts, with_aux.then_some(&aux.marks.counts), HOT as i32);
        let part_enc = empty(&input, [most * PARTS, d], DType::F32);
        let part_dec = empty(&input, [most * PARTS, d], DType::F32);
        let part_bias = empty(&input, [most * PARTS], DType::F32);
        // SAFETY: as above; cubes beyond the number of hot latents leave at once.
        #[allow(unsafe_code)]
        unsafe {
            launch_for!(input, hot_parts)(
                &input.client,
                cubes(most * PARTS),
                CubeDim::new_1d(units),
                width,
                slice(&main.marks.bits, 1),
                slice(&main.code.values, 1),
                slice(&main.value_grads, 1),
                slice(&main.code.indices, 1),
                slice(main.code.starts(), 1),
                slice(main.levels.ends(&main.code), 1),
                slice(&main.output_grad, width),
                slice(&aux.marks.bits, 1),
                slice(&aux.code.values, 1),
                slice(&aux.value_grads, 1),
                slice(&aux.code.indices, 1),
                slice(aux.code.starts(), 1),
                slice(aux.levels.ends(&aux.code), 1),
                slice(&aux.output_grad, width),
                slice(&input, width),
                slice(&hot, 1),
                slice(&n_hot, 1),
                slice(&part_enc, width),
                slice(&part_dec, width),
                slice(&part_bias, 1),
                main.code.k,
                aux.code.k,
                words,
                columns,
                tokens,
                per_unit,
                main.code.ragged(),
                with_aux,
                aux.code.ragged(),
                main.levels.nested(),
                aux.levels.nested(),
            );
            hot_gradients::launch_unchecked(
                &input.client,
                cubes(most),
                CubeDim::new_1d(units),
                width,
                slice(&part_enc, width),
                slice(&part_dec, width),
                slice(&part_bias, 1),
                slice(&hot, 1),
                slice(&n_hot, 1),
                slice(&main.marks.counts, 1),
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
