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

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use burn::tensor::{Device, Distribution};
    use ndarray::Array2;

    use super::*;

    fn logits(shape: [usize; 3], seed: u64) -> Tensor<3> {
        Device::flex().seed(seed);
        Tensor::random(shape, Distribution::Normal(0.0, 4.0), &Device::flex())
    }

    fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let close = (found - expected).abs() <= 2e-5 * expected.abs().max(1.0);
            assert!(
                close || found == expected || found.is_nan() && expected.is_nan(),
                "{what}, {at}: {found}, not {expected}"
            );
        }
    }

    /// Vocabularies of any length, with ties, infinities, and what is not a number.
    #[test]
    fn a_cuda_device_finds_what_the_cpu_does() {
        for (seed, [batch, context, vocab]) in
            [[2, 3, 5], [1, 2, 1], [3, 17, 4096], [2, 9, 50_257]].into_iter().enumerate()
        {
            let shape = [batch, context, vocab];
            let tokens = Array2::from_shape_fn((batch, context), |(b, t)| ((7 * b + 3 * t) % vocab) as u32);
            let mut of_p = logits(shape, seed as u64);
            if vocab > 100 {
                let ties = Tensor::full([1, 1, 2], 30.0, &Device::flex());
                of_p = of_p.slice_assign([0..1, 0..1, 40..42], ties);
                let none = Tensor::full([1, 1, 1], f32::NEG_INFINITY, &Device::flex());
                of_p = of_p.slice_assign([0..1, 1..2, 50..51], none);
            }
            let of_q = logits(shape, 100 + seed as u64);
            let said = |device: &Device| {
                let on = |x: &Tensor<3>| Tensor::from_data(x.to_data(), device);
                let (p, q) = (Said::new(on(&of_p), tokens.view()).as_reference(), Said::new(on(&of_q), tokens.view()));
                let probs = host(p.probs());
                (p.losses(), p.likeliest(), q.divergence(&p), q.losses(), q.likeliest(), probs)
            };
            let (found, expected) = (said(&Device::cuda(0)), said(&Device::flex()));
            assert_close("losses", &found.0, &expected.0);
            assert_eq!(found.1, expected.1);
            assert_close("the divergence", &found.2, &expected.2);
            assert_close("losses", &found.3, &expected.3);
            assert_eq!(found.4, expected.4);
            assert_close("probabilities", &found.5, &expected.5);
        }
        let rows = Tensor::<3>::from_data([[[0.0, f32::NAN, 1.0], [0.0, 1.0, 2.0]]], &Device::cuda(0));
        assert!(Said::new(rows, Array2::zeros((1, 2)).view()).losses()[0].is_nan(), "it is to be seen");
    }
}
