//! Inputs without tokens: a vector of its own for every occurrence of one.

use ndarray::ArrayView2;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::redrawn::Normal;

/// What stands in the place of the rows of an embedding: independent normal numbers with the mean and the spread of all its values. The
/// seed and the tokens of the context up to the occurrence say which. So they are the same in any batch, and two occurrences have the same
/// only if all tokens before them are the same too.
pub(super) struct Occurrences {
    pub(super) normal: Normal,
    pub(super) seed: u64,
}

impl Occurrences {
    /// Those of `[batch, context]` tokens, `d_model` numbers each.
    pub(super) fn rows(&self, tokens: ArrayView2<'_, u32>, d_model: usize) -> Vec<f32> {
        let mut rows = vec![0.0; tokens.len() * d_model];
        let contexts = rows.par_chunks_mut((tokens.ncols() * d_model).max(1)).enumerate();
        contexts.for_each(|(at, context)| {
            let mut before = blake3::Hasher::new();
            before.update(&self.seed.to_le_bytes());
            for (token, row) in tokens.row(at).iter().zip(context.chunks_mut(d_model)) {
                before.update(&token.to_le_bytes());
                self.normal.fill(row, &mut ChaCha8Rng::from_seed(*before.finalize().as_bytes()));
            }
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn an_occurrence_is_told_by_its_context_and_not_by_its_batch() {
        let normal = Normal::of(&[1.0, 3.0]);
        let of = |seed, tokens: ArrayView2<'_, u32>| Occurrences { normal, seed }.rows(tokens, 3);
        let tokens = array![[5, 5, 7, 5], [5, 5, 9, 5]];
        let found = of(1, tokens.view());
        let row = |context: usize, at: usize| &found[(context * 4 + at) * 3..][..3];
        assert_eq!((row(0, 0), row(0, 1)), (row(1, 0), row(1, 1)), "the same contexts so far");
        assert_ne!(row(0, 0), row(0, 1), "one token twice");
        assert_ne!(row(0, 3), row(1, 3), "one token at one place after others");
        assert_eq!(of(1, tokens.slice(ndarray::s![1.., ..])), &found[12..]);
        assert_ne!(of(2, tokens.view()), found);
        assert!(of(1, ndarray::Array2::zeros((2, 0)).view()).is_empty());
    }
}
