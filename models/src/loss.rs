//! Next-token cross-entropy, and its gradient at a hook.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::ArrayView2;

use crate::decoder::Decoder;
use crate::error::Result;
use crate::hooks::HookPoint;

/// Log-probabilities of the positions that predict a token of the same context.
///
/// # Shapes
/// - `logits`: `[batch, context, vocab]`; the result is `[batch, context − 1, vocab]`.
pub fn scored_log_probs(logits: Tensor<3>) -> Tensor<3> {
    let [batch, context, vocab] = logits.dims();
    log_softmax(logits.slice([0..batch, 0..context - 1, 0..vocab]), 2)
}

/// Cross-entropy of each next token, in nats: −log p(token t+1 | tokens ≤ t).
///
/// # Shapes
/// - `log_probs`: `[batch, context − 1, vocab]` from [`scored_log_probs`]
/// - `tokens`: `[batch, context]`; the result is `[batch, context − 1]`.
pub fn token_cross_entropy(log_probs: Tensor<3>, tokens: ArrayView2<'_, u32>, device: &Device) -> Tensor<2> {
    let [batch, scored, _] = log_probs.dims();
    let targets: Vec<i32> = tokens
        .rows()
        .into_iter()
        .flat_map(|row| row.into_iter().skip(1).map(|&t| t as i32).collect::<Vec<_>>())
        .collect();
    let targets: Tensor<3, Int> = Tensor::from_data(TensorData::new(targets, [batch, scored, 1]), device);
    log_probs.gather(2, targets).neg().reshape([batch, scored])
}

/// ∂(Σ_t ce_t)/∂h at `hook`: the gradient of the *sum* over a sequence's predictions, so that it
/// does not depend on the context length.
///
/// # Shapes
/// - `h`: `[batch, context, d_model]`, returned alike.
///
/// # Errors
/// If the forward pass can't continue from `hook`.
pub fn loss_gradient(model: &Decoder, hook: HookPoint, h: Tensor<3>, tokens: ArrayView2<'_, u32>) -> Result<Tensor<3>> {
    let h = h.autodiff().require_grad();
    let device = h.device();
    let logits = model.forward_from(hook, h.clone())?;
    let loss = token_cross_entropy(scored_log_probs(logits), tokens, &device).sum();
    let gradients = loss.backward();
    Ok(h.grad(&gradients).expect("the loss depends on h"))
}
