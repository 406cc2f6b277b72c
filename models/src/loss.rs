//! Next-token cross-entropy, its gradient at a cut, and labels drawn from the model's own output.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{Array2, ArrayView2};

use crate::decoder::{Cut, Decoder};
use crate::device::runs_on_cuda;
use crate::kernels::Measured;
use crate::said::next_tokens;

/// Draws a label at every scored position from the model's own output, by the inverse of its distribution function.
///
/// The result has the shape of the text whose next tokens they are, so that [`loss_gradient`] and [`token_cross_entropy`] take
/// it in place of the text: column t + 1 is the label of position t, and column 0 is 0, which nothing reads.
///
/// # Shapes
/// - `probs`: `[batch, context − 1, vocab]`
/// - `uniforms`: `batch · (context − 1)` numbers in [0, 1), row by row
pub fn sample_labels(probs: Tensor<3>, uniforms: &[f32]) -> Array2<u32> {
    let [batch, scored, vocab] = probs.dims();
    let (rows, device) = (batch * scored, probs.device());
    // In two steps, a block and a place in it: cumulative sums over the whole vocabulary cost its square on some devices.
    let width = (vocab as f64).sqrt().ceil() as usize;
    let blocks = vocab.div_ceil(width);
    let padding = blocks * width - vocab;
    let mut probs: Tensor<2> = probs.reshape([rows, vocab]);
    if padding > 0 {
        probs = Tensor::cat(vec![probs, Tensor::zeros([rows, padding], &device)], 1);
    }
    let probs: Tensor<3> = probs.reshape([rows, blocks, width]);
    let sums: Tensor<2> = probs.clone().sum_dim(2).reshape([rows, blocks]);
    let upto = sums.clone().cumsum(1);
    let total = upto.clone().narrow(1, blocks - 1, 1);
    let target: Tensor<2> = Tensor::from_data(TensorData::new(uniforms.to_vec(), [rows, 1]), &device);
    let target = target * total;
    let place = |cumulative: Tensor<2>, last: usize| -> Tensor<2, Int> {
        let below = cumulative.lower_equal(target.clone().expand([rows, last + 1]));
        below.int().sum_dim(1).clamp(0, last as i64)
    };
    let block = place(upto.clone(), blocks - 1);
    let before = upto.gather(1, block.clone()) - sums.gather(1, block.clone());
    let inside: Tensor<3> = probs.gather(1, block.clone().reshape([rows, 1, 1]).expand([rows, 1, width]));
    let inside: Tensor<2> = inside.reshape([rows, width]);
    let at = place(inside.cumsum(1) + before, width - 1);
    let labels = (block.mul_scalar(width as i64) + at).clamp(0, vocab as i64 - 1);
    let labels = labels.into_data().convert::<i32>().try_into_vec::<i32>().expect("converted to i32");
    let mut text = Array2::zeros((batch, scored + 1));
    for (row, labels) in text.rows_mut().into_iter().zip(labels.chunks(scored)) {
        for (slot, &label) in row.into_iter().skip(1).zip(labels) {
            *slot = label as u32;
        }
    }
    text
}

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

/// ∂(Σ_t ce_t)/∂a, a the activation at a cut: the gradient of the *sum* over a sequence's predictions, so that it does not depend on
/// the context length.
///
/// # Shapes
/// - `labels`: `[batch, context]`, the text whose next tokens are to be predicted: the tokens themselves, or labels of
///   [`sample_labels`]; the result is like [`Cut::value`].
pub fn loss_gradient(model: &Decoder, cut: &Cut, labels: ArrayView2<'_, u32>) -> Tensor<3> {
    loss_gradients(model, &[cut], &[labels]).remove(0).remove(0)
}

/// [`loss_gradient`] for several labels at several cuts of one pass, at different sites: for each labels one at each cut, in their order. On a
/// GPU those of one pass go back together. None depends on which others are asked for, but on a GPU on how many labels are.
///
/// # Shapes
/// - As [`loss_gradient`].
///
/// # Panics
/// If the cuts are of different passes.
pub fn loss_gradients(model: &Decoder, cuts: &[&Cut], labels: &[ArrayView2<'_, u32>]) -> Vec<Vec<Tensor<3>>> {
    if !model.goes_back_by_layers() {
        let of = |labels: &ArrayView2<'_, u32>| cuts.iter().map(|cut| gradient_of_pass(model, cut, *labels)).collect();
        return labels.iter().map(of).collect();
    }
    // A pass from one that it does not meet as it is, is another pass.
    let (shared, apart): (Vec<usize>, Vec<usize>) = (0..cuts.len()).partition(|&at| cuts[at].is_on_pass());
    let passes = std::iter::once(shared).chain(apart.into_iter().map(|at| vec![at])).filter(|pass| !pass.is_empty());
    let mut found: Vec<Vec<Option<Tensor<3>>>> = vec![vec![None; cuts.len()]; labels.len()];
    for pass in passes {
        let cuts: Vec<&Cut> = pass.iter().map(|&at| cuts[at]).collect();
        let gradients = model.back(&cuts, labels.len(), |logits, function| at_logits(logits, labels[function]));
        for (found, gradients) in found.iter_mut().zip(gradients) {
            pass.iter().zip(gradients).for_each(|(&at, gradient)| found[at] = Some(gradient));
        }
    }
    let whole = |of: Vec<Option<Tensor<3>>>| of.into_iter().map(|of| of.expect("every cut is of a pass")).collect();
    found.into_iter().map(whole).collect()
}

/// The gradient of the loss at logits, like them.
fn at_logits(logits: &Tensor<3>, labels: ArrayView2<'_, u32>) -> Tensor<3> {
    let [batch, context, vocab] = logits.dims();
    if runs_on_cuda(&logits.device()) {
        let labels = next_tokens(labels, logits);
        let measured = Measured::new(logits.clone().reshape([batch * context, vocab]), labels);
        return measured.loss_gradient().reshape([batch, context, vocab]);
    }
    let logits = logits.clone().autodiff().require_grad();
    let loss = token_cross_entropy(scored_log_probs(logits.clone()), labels, &logits.device());
    logits.grad(&loss.backward()).expect("the loss depends on the logits")
}

/// The gradient at a cut of one pass, forth and back.
fn gradient_of_pass(model: &Decoder, cut: &Cut, labels: ArrayView2<'_, u32>) -> Tensor<3> {
    let value = cut.value().autodiff().require_grad();
    let logits = model.forward_from(cut, value.clone());
    let gradients = token_cross_entropy(scored_log_probs(logits), labels, model.device()).sum().backward();
    value.grad(&gradients).expect("the loss depends on the activation")
}
