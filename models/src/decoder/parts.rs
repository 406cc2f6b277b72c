//! Passes on the CPU, some contexts at a time: what the layers make of a part stays in the cache, and all that they do runs on all
//! cores, not the products alone.

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::Decoder;

/// Tokens of a part at least: products of fewer rows would spend their time on the weights.
const TOKENS: usize = 256;

impl Decoder {
    /// What `run` makes of the residual stream of all contexts, made of each part of them. A context's numbers depend on no other, and no
    /// sum in a product on how many rows it has, so the bits are those of one pass.
    ///
    /// # Shapes
    /// - `x`: `[batch, context, d_model]`; results of `run` keep the first dimension.
    pub(super) fn in_parts(&self, x: Tensor<3>, run: impl Fn(Tensor<3>) -> Vec<Tensor<3>> + Sync) -> Vec<Tensor<3>> {
        let [batch, context, _] = x.dims();
        let parts = parts(batch, context);
        // A GPU wants large passes, and a gradient goes back through one.
        if self.pinned || x.is_autodiff() || parts.len() < 2 {
            return run(x);
        }
        // Each thread takes its share one after the other: waiting for a product in a pass, it must not begin pass upon pass.
        let share = parts.len().div_ceil(rayon::current_num_threads());
        let done: Vec<Vec<Vec<Tensor<3>>>> = parts
            .par_chunks(share)
            .map(|parts| parts.iter().map(|part| run(x.clone().slice(part.clone()))).collect())
            .collect();
        let mut done: Vec<_> = done.into_iter().flatten().map(Vec::into_iter).collect();
        let mut next = || done.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>();
        std::iter::from_fn(|| next().map(|parts| Tensor::cat(parts, 0))).collect()
    }
}

/// Which contexts go through the layers together, of about equal numbers; fixed by the shape alone.
fn parts(batch: usize, context: usize) -> Vec<Range<usize>> {
    let count = (batch / TOKENS.div_ceil(context.max(1))).max(1);
    let start = |part: usize| part * batch / count;
    (0..count).map(|part| start(part)..start(part + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn parts_cover_all_contexts_and_are_not_small() {
        for (batch, context) in [(0, 8), (1, 1), (3, 128), (32, 128), (33, 100), (1000, 1), (7, 4096), (5, 0)] {
            let parts = parts(batch, context);
            assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, batch));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            let small = parts.iter().any(|part| part.len() * context < super::TOKENS);
            assert!(parts.len() == 1 || !small, "{batch} × {context}: {parts:?}");
        }
        assert_eq!(parts(32, 128).len(), 16);
    }
}
