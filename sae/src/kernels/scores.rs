//! Codes whose rows have any length, chosen from pre-activations that are kept until all of the batch are known.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::{Coming, Dead, Encoder, SaeOps, ScoresOf, VectorOf};
use crate::code::{Rows, SparseCode};

/// The pre-activations of a batch.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Without factors, `[batch, d_sae]`.
    pre: Tensor<2>,
    /// Of every group of neighbours the largest pre·scale, where the backend has a use for it.
    maxima: Tensor<2>,
    scale: Option<Tensor<1>>,
}

/// pre = input·W_encᵀ + b_enc, to choose from.
///
/// # Shapes
/// - `input`: `[batch, d_model]`
pub fn scores(input: Tensor<2>, encoder: Encoder) -> Scores {
    let scale = encoder.scale.clone();
    let (pre, maxima) = Dispatch::sae_scores(input.into_dispatch(), encoder.into_dispatch());
    Scores { pre: Tensor::from_dispatch(pre), maxima: Tensor::from_dispatch(maxima), scale }
}

impl Scores {
    fn to_dispatch(&self) -> ScoresOf<Dispatch> {
        ScoresOf {
            pre: self.pre.clone().into_dispatch(),
            maxima: self.maxima.clone().into_dispatch(),
            scale: self.scale.clone().map_or(VectorOf::None, |scale| VectorOf::Latents(scale.into_dispatch())),
        }
    }

    fn d_sae(&self) -> usize {
        self.pre.dims()[1]
    }

    /// The `count` latents of the batch of largest pre·scale among those above 0, all of them where there are fewer; ties go to the first
    /// token, and of a token to the lowest index. Values are pre-activations. With them the least pre·scale that was chosen, in one
    /// element; 0 if none was.
    ///
    /// The last token may have entries of value 0 behind its own.
    pub fn largest(&self, count: usize) -> (SparseCode, Tensor<1>) {
        if count == 0 {
            // Of less than one latent per token, and few tokens.
            let ([tokens, n], device) = (self.pre.dims(), self.pre.device());
            let starts = Tensor::from_data(vec![0_i32; tokens + 1].as_slice(), &device);
            let (values, index) = (Tensor::zeros([1], &device), Tensor::from_data([0_i32], &device));
            return (SparseCode::of_kernel(values, index, Rows::Starts(starts), n), Tensor::zeros([1], &device));
        }
        let (values, indices, starts, least) = Dispatch::sae_largest(self.to_dispatch(), count);
        let rows = Rows::Starts(Tensor::from_dispatch(starts));
        let code =
            SparseCode::of_kernel(Tensor::from_dispatch(values), Tensor::from_dispatch(indices), rows, self.d_sae());
        (code, Tensor::from_dispatch(least))
    }

    /// Of each token the `dead.k` latents of largest pre·scale among the dead of each range, which begins where the one before ends:
    /// without the ReLU, so negative values are kept. Where fewer are dead, the entries left over have value 0.
    pub fn dead(&self, dead: &Dead, ends: &[usize]) -> Vec<SparseCode> {
        let mut first = 0;
        let of_range = |&end: &usize| {
            let since_fired = dead.since_fired.clone().narrow(0, first, end - first).into_dispatch();
            let (values, indices) = Dispatch::sae_dead(self.to_dispatch(), since_fired, dead.after, dead.k, first);
            first = end;
            SparseCode::trusted(Tensor::from_dispatch(values), Tensor::from_dispatch(indices), self.d_sae())
        };
        ends.iter().map(of_range).collect()
    }

    /// The latents above their thresholds, θ_j < pre_j, and with `low` those between, low_j < pre_j ≤ θ_j. Values are pre-activations.
    ///
    /// How many there are is read from the device, which waits for it, unless `room` guesses: then the codes have room for so many entries,
    /// how many there are goes to the place beside, and the codes are of no use if that is more.
    ///
    /// # Shapes
    /// - `threshold`, `low`: `[d_sae]`
    pub fn split(&self, threshold: Tensor<1>, low: Option<Tensor<1>>, room: Option<([usize; 2], Coming)>) -> Split {
        let both = low.is_some();
        let low = low.unwrap_or_else(|| threshold.clone());
        let (values, indices, starts, low_values, low_indices, low_starts, active) =
            Dispatch::sae_split(self.to_dispatch(), threshold.into_dispatch(), low.into_dispatch(), both, room);
        let code = |values, indices, starts| {
            let rows = Rows::Starts(Tensor::from_dispatch(starts));
            SparseCode::of_kernel(Tensor::from_dispatch(values), Tensor::from_dispatch(indices), rows, self.d_sae())
        };
        Split {
            above: code(values, indices, starts),
            between: both.then(|| code(low_values, low_indices, low_starts)),
            active: Tensor::from_dispatch(active),
        }
    }
}

/// What [`Scores::split`] finds.
#[derive(Clone, Debug)]
pub struct Split {
    /// The latents above their thresholds.
    pub above: SparseCode,
    /// Those between two, where they are asked for.
    pub between: Option<SparseCode>,
    /// How many entries there are above, whether there is room for them or not; one element, exact up to 2²⁴.
    pub active: Tensor<1>,
}
