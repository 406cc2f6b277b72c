//! What a model says with another activation patched in, against what it says without: the KL divergence, and its gradient at the
//! activation.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use ndarray::ArrayView2;

use crate::decoder::{Cut, Decoder};
use crate::error::Result;
use crate::hooks::Site;

/// KL(p ‖ q) of next-token distributions, in nats.
///
/// # Shapes
/// - `probs` and `log_probs` of p, `other`, the log-probabilities of q: `[batch, positions, vocab]`; the result is `[batch, positions, 1]`.
pub fn kl_divergence(probs: Tensor<3>, log_probs: Tensor<3>, other: Tensor<3>) -> Tensor<3> {
    (probs * (log_probs - other)).sum_dim(2)
}

/// A pass over some contexts as the model makes it, cut at some sites: what all SAEs share that are patched into it there.
pub struct CleanPass<'a> {
    model: &'a Decoder,
    cuts: Vec<Cut>,
    /// Of the next token at every position, `[batch, context, vocab]`.
    log_probs: Tensor<3>,
    probs: Tensor<3>,
}

/// Bytes that a pass over so many tokens takes beside the model, about, with so many SAEs patched in at the time: what the model says of
/// each token twice, and of each SAE the logits, their gradient and what leads from one to the other.
pub fn clean_pass_bytes(tokens: usize, vocab_size: usize, at_once: usize) -> u64 {
    [tokens, vocab_size, 2 + 5 * at_once].iter().fold(4, |product, &n| product.saturating_mul(n as u64))
}

impl<'a> CleanPass<'a> {
    /// Runs the model. What it says is that of the pass through the highest of the sites.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, context]`
    ///
    /// # Errors
    /// As [`Decoder::cut`].
    ///
    /// # Panics
    /// Without a site.
    pub fn new(model: &'a Decoder, tokens: ArrayView2<'_, u32>, sites: &[Site]) -> Result<Self> {
        let cuts = model.cut(tokens, sites)?;
        let last = cuts.iter().max_by_key(|cut| cut.site().hook).expect("a pass is cut somewhere");
        let log_probs = log_softmax(model.forward_from(last, last.value()), 2);
        let probs = log_probs.clone().exp();
        Ok(Self { model, cuts, log_probs, probs })
    }

    fn cut(&self, site: Site) -> &Cut {
        self.cuts.iter().find(|cut| cut.site() == site).expect("the pass is cut at the site")
    }

    /// The activations at a site, `[batch · context, width]`.
    ///
    /// # Panics
    /// If the pass is not cut there.
    pub fn activations(&self, site: Site) -> Tensor<2> {
        self.cut(site).value().flatten(0, 1)
    }

    /// KL(p ‖ q) at every position, p what the model says and q the same with `patched` in place of the activations at a site; and the
    /// gradient of its mean with respect to `patched`.
    ///
    /// The gradient at the logits is (softmax(q) − softmax(p))/positions, whose product with them goes back: the divergence itself needs
    /// no graph.
    ///
    /// # Shapes
    /// - `patched`: as [`Self::activations`]; the results are `[batch · context]` and like it.
    ///
    /// # Panics
    /// If the pass is not cut there, or `patched` has another shape.
    pub fn divergence(&self, site: Site, patched: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let cut = self.cut(site);
        let [batch, context, width] = cut.value().dims();
        let value = patched.reshape([batch, context, width]).autodiff().require_grad();
        let logits = self.model.forward_from(cut, value.clone());
        let other = log_softmax(logits.clone().inner(), 2);
        let kl = kl_divergence(self.probs.clone(), self.log_probs.clone(), other.clone());
        let at_logits = (other.exp() - self.probs.clone()).div_scalar((batch * context) as f64);
        let gradients = (logits * at_logits.autodiff()).sum().backward();
        let gradient = value.grad(&gradients).expect("the logits depend on the activation");
        (kl.reshape([batch * context]), gradient.reshape([batch * context, width]))
    }
}
