//! What a model says of next tokens, at the positions that predict a token of the same context, and what that is compared by.

use burn::tensor::{Int, Tensor, TensorData};
use ndarray::ArrayView2;

use crate::device::runs_on_cuda;
use crate::divergence::kl_divergence;
use crate::kernels::Measured;
use crate::loss::{scored_log_probs, token_cross_entropy};

/// Distributions over next tokens. A CUDA device keeps the logits and what one pass over them found; elsewhere log-probabilities are kept.
pub struct Said(Kept);

#[expect(clippy::large_enum_variant, reason = "there are a few a batch")]
enum Kept {
    /// Rows of all positions, the last of a context without a label, of contexts of so many tokens.
    Logits { measured: Measured, context: usize },
    /// `[batch, context − 1, vocab]`, and the labels.
    LogProbs { log_probs: Tensor<3>, probs: Option<Tensor<3>>, labels: ndarray::Array2<u32> },
}

impl Said {
    /// # Shapes
    /// - `logits`: `[batch, context, vocab]`; `labels`: `[batch, context]`, the text whose next tokens are to be predicted
    pub fn new(logits: Tensor<3>, labels: ArrayView2<'_, u32>) -> Self {
        let [batch, context, vocab] = logits.dims();
        if runs_on_cuda(&logits.device()) {
            let labels = next_tokens(labels, &logits);
            let measured = Measured::new(logits.reshape([batch * context, vocab]), labels);
            return Self(Kept::Logits { measured, context });
        }
        Self(Kept::LogProbs { log_probs: scored_log_probs(logits), probs: None, labels: labels.to_owned() })
    }

    /// The same where it is what others are compared with ([`Self::divergence`], [`Self::probs`]).
    #[must_use]
    pub fn as_reference(mut self) -> Self {
        if let Kept::LogProbs { log_probs, probs, .. } = &mut self.0 {
            *probs = Some(log_probs.clone().exp());
        }
        self
    }

    /// Cross-entropy of each next token, in nats: −log p(token t+1 | tokens ≤ t); `batch · (context − 1)` of them.
    pub fn losses(&self) -> Vec<f32> {
        match &self.0 {
            Kept::Logits { measured, context } => scored(host(measured.losses.clone()), *context),
            Kept::LogProbs { log_probs, labels, .. } => {
                host(token_cross_entropy(log_probs.clone(), labels.view(), &log_probs.device()))
            }
        }
    }

    /// The likeliest next token at each position, the first of them where several are.
    pub fn likeliest(&self) -> Vec<i32> {
        match &self.0 {
            Kept::Logits { measured, context } => scored(host_int(measured.argmax.clone()), *context),
            Kept::LogProbs { log_probs, .. } => host_int(log_probs.clone().argmax(2)),
        }
    }

    /// Probabilities, `[batch, context − 1, vocab]`.
    pub fn probs(&self) -> Tensor<3> {
        match &self.0 {
            Kept::Logits { measured, context } => {
                let probs = measured.probs();
                let [rows, vocab] = probs.dims();
                let batch = rows / context;
                probs.reshape([batch, *context, vocab]).narrow(1, 0, context - 1)
            }
            Kept::LogProbs { log_probs, probs, .. } => probs.clone().unwrap_or_else(|| log_probs.clone().exp()),
        }
    }

    /// KL(self ‖ other) at each position, in nats.
    ///
    /// # Panics
    /// If the other is on another device.
    pub fn divergence(&self, other: &Self) -> Vec<f32> {
        match (&self.0, &other.0) {
            (Kept::Logits { measured, context }, Kept::Logits { measured: other, .. }) => {
                scored(host(measured.divergence(other)), *context)
            }
            (Kept::LogProbs { log_probs, .. }, Kept::LogProbs { log_probs: other, .. }) => {
                host(kl_divergence(self.probs(), log_probs.clone(), other.clone()))
            }
            _ => panic!("two devices"),
        }
    }
}

/// Of every position the token after it, −1 at the last of a context; `[batch · context]`.
pub(crate) fn next_tokens(tokens: ArrayView2<'_, u32>, like: &Tensor<3>) -> Tensor<1, Int> {
    let of_context = |row: ndarray::ArrayView1<'_, u32>| -> Vec<i32> {
        row.iter().skip(1).map(|&token| token as i32).chain(std::iter::once(-1)).collect()
    };
    let labels: Vec<i32> = tokens.rows().into_iter().flat_map(of_context).collect();
    let count = labels.len();
    Tensor::from_data(TensorData::new(labels, [count]), &like.device())
}

/// All but the last position of each context.
fn scored<T: Copy>(values: Vec<T>, context: usize) -> Vec<T> {
    values.chunks(context).flat_map(|row| &row[..row.len() - 1]).copied().collect()
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().expect("losses are f32")
}

fn host_int<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32")
}
