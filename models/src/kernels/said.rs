//! What a CUDA device makes of logits in one pass over them; see `said.cu`.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Tensor};

/// Backend operations on logits, `[rows, vocab]`; only for devices that [`runs_on_cuda`](crate::device::runs_on_cuda) names.
#[backend_extension(Flex, Cube: cfg(feature = "cuda"))]
pub trait SaidOps: Backend {
    /// See [`Measured::new`].
    fn said_measure(
        _logits: FloatTensor<Self>,
        _labels: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>) {
        unreachable!("other devices have no such kernel")
    }

    /// See [`Measured::divergence`].
    fn said_divergence(
        _logits: FloatTensor<Self>,
        _max: FloatTensor<Self>,
        _sum: FloatTensor<Self>,
        _other: FloatTensor<Self>,
        _other_max: FloatTensor<Self>,
        _other_sum: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unreachable!("other devices have no such kernel")
    }

    /// See [`Measured::loss_gradient`].
    fn said_gradient(
        _logits: FloatTensor<Self>,
        _labels: IntTensor<Self>,
        _max: FloatTensor<Self>,
        _sum: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unreachable!("other devices have no such kernel")
    }
}

impl SaidOps for Flex {}

/// Rows of logits, and what was found in a pass over them.
pub(crate) struct Measured {
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    /// The largest logit of every row.
    max: Tensor<1>,
    /// Σ exp(x − max)
    sum: Tensor<1>,
    /// −ln p(label), 0 where there is no label.
    pub(crate) losses: Tensor<1>,
    /// The first of the largest logits.
    pub(crate) argmax: Tensor<1, Int>,
}

impl Measured {
    /// # Shapes
    /// - `logits`: `[rows, vocab]`; `labels`: `[rows]`, below 0 where there is none
    pub(crate) fn new(logits: Tensor<2>, labels: Tensor<1, Int>) -> Self {
        let (max, sum, losses, argmax) =
            Dispatch::said_measure(logits.clone().into_dispatch(), labels.clone().into_dispatch());
        Self {
            logits,
            labels,
            max: Tensor::from_dispatch(max),
            sum: Tensor::from_dispatch(sum),
            losses: Tensor::from_dispatch(losses),
            argmax: Tensor::from_dispatch(argmax),
        }
    }

    /// KL(self ‖ other) of every row.
    pub(crate) fn divergence(&self, other: &Self) -> Tensor<1> {
        let [p, q] = [self, other].map(|said| [said.max.clone(), said.sum.clone()].map(Tensor::into_dispatch));
        let ([p_max, p_sum], [q_max, q_sum]) = (p, q);
        let [x, y] = [self, other].map(|said| said.logits.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::said_divergence(x, p_max, p_sum, y, q_max, q_sum))
    }

    /// ∂ loss/∂ logits of every row, 0 where there is no label.
    pub(crate) fn loss_gradient(&self) -> Tensor<2> {
        let [max, sum] = [&self.max, &self.sum].map(|x| x.clone().into_dispatch());
        let labels = self.labels.clone().into_dispatch();
        Tensor::from_dispatch(Dispatch::said_gradient(self.logits.clone().into_dispatch(), labels, max, sum))
    }

    /// Probabilities, `[rows, vocab]`.
    pub(crate) fn probs(&self) -> Tensor<2> {
        let powers = (self.logits.clone() - self.max.clone().unsqueeze_dim(1)).exp();
        powers / self.sum.clone().unsqueeze_dim(1)
    }
}
