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
    loss_gradients(model, &[cut], &[], labels).remove(0)
}

/// [`loss_gradient`] at several cuts of one pass, at different sites, in their order. On a GPU those in later layers than another's come from
/// its pass: one forward and one back from the lowest serve all of them, and they are what they are alone but for rounding. `company` are cuts
/// of the same pass that count for that though they are not asked for: with the same company a gradient has the same bits, whichever others
/// are asked for. On the CPU each has a pass of its own, so that no bit of one depends on the others.
///
/// # Shapes
/// - As [`loss_gradient`].
///
/// # Panics
/// If the cuts are of different passes.
pub fn loss_gradients(model: &Decoder, cuts: &[&Cut], company: &[&Cut], labels: ArrayView2<'_, u32>) -> Vec<Tensor<3>> {
    let mut gradients = vec![None; cuts.len()];
    let asked_for = |cut: &Cut| cuts.iter().position(|asked| asked.site() == cut.site());
    let mut left: Vec<&Cut> = cuts.to_vec();
    left.extend(company.iter().filter(|cut| asked_for(cut).is_none()));
    left.sort_by_key(|cut| cut.site().hook);
    while !left.is_empty() {
        let base = left.remove(0);
        let lowest = base.site().hook.layer;
        let shares = |cut: &&Cut| model.shares_passes() && cut.is_on_pass() && cut.site().hook.layer > lowest;
        let (with_it, others): (Vec<&Cut>, Vec<&Cut>) = left.into_iter().partition(shares);
        left = others;
        if std::iter::once(&base).chain(&with_it).all(|cut| asked_for(cut).is_none()) {
            continue;
        }
        // With all of the company: a leaf less, and what comes back to an activation is added up in another order.
        let found = gradients_from(model, base, &with_it, labels);
        for (cut, gradient) in std::iter::once(base).chain(with_it).zip(found) {
            if let Some(at) = asked_for(cut) {
                gradients[at] = Some(gradient);
            }
        }
    }
    gradients.into_iter().map(|gradient| gradient.expect("every cut is the lowest of a pass or on one")).collect()
}

/// The gradient at `cut`, then those at `along`, cuts in later layers.
fn gradients_from(model: &Decoder, cut: &Cut, along: &[&Cut], labels: ArrayView2<'_, u32>) -> Vec<Tensor<3>> {
    let value = cut.value().autodiff().require_grad();
    // Zeros that are added have the gradient of what they are added to.
    let zeros = |of: &&Cut| (of.site().hook, of.value().zeros_like().autodiff().require_grad());
    let leaves: Vec<_> = along.iter().map(zeros).collect();
    let logits = model.forward_through(cut, value.clone(), &leaves);
    let gradients = if runs_on_cuda(model.device()) {
        // The gradient at the logits is known in closed form; its product with them sends it back.
        let inner = logits.clone().inner();
        let [batch, context, vocab] = inner.dims();
        let labels = next_tokens(labels, &inner);
        let at_logits = Measured::new(inner.reshape([batch * context, vocab]), labels).loss_gradient();
        (logits * at_logits.reshape([batch, context, vocab]).autodiff()).sum().backward()
    } else {
        token_cross_entropy(scored_log_probs(logits), labels, model.device()).sum().backward()
    };
    let leaves = leaves.iter().map(|(_, leaf)| leaf);
    let of = |leaf: &Tensor<3>| leaf.grad(&gradients).expect("the loss depends on the activation");
    std::iter::once(&value).chain(leaves).map(of).collect()
}
