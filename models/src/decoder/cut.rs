//! A forward pass cut at a site, which can go on with something else in place of the activation there.

use burn::tensor::Tensor;
use ndarray::ArrayView2;

use super::Decoder;
use crate::error::Result;
use crate::hooks::{HookKind, HookPoint, Site};

/// The state of a forward pass at a site: the activation there, and what of the residual stream passes beside it. Made by
/// [`Decoder::cut`]; [`Decoder::forward_from`] goes on from it.
#[derive(Clone, Debug)]
pub struct Cut {
    pub(super) site: Site,
    pub(super) value: Tensor<3>,
    /// What the activation, or what a layer's matrices make of it, is one summand of together with; empty where the activation is the whole
    /// residual stream. Of `ln2.hook_normalized` first what the norm gives.
    pub(super) beside: Vec<Tensor<3>>,
}

impl Cut {
    /// Where it is.
    pub fn site(&self) -> Site {
        self.site
    }

    /// Whether a pass from an earlier layer meets the activation as it is: not one that is centred, say, or `ln2.hook_normalized`,
    /// which a pass computes for those alone who ask.
    pub(crate) fn is_on_pass(&self) -> bool {
        self.site.is_plain() && self.site.hook.kind != HookKind::MlpNormalized
    }

    /// The activation there, `[batch, context, d_model]`, or as wide as [`HookPoint::width`] says.
    pub fn value(&self) -> Tensor<3> {
        self.value.clone()
    }
}

impl Decoder {
    /// The state of a forward pass at each of `sites`, from one pass that stops after the highest of them.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, context]`; the result has one cut per site, in the order of `sites`.
    ///
    /// # Errors
    /// As [`Self::capture`].
    pub fn cut(&self, tokens: ArrayView2<'_, u32>, sites: &[Site]) -> Result<Vec<Cut>> {
        for site in sites {
            site.check(&self.config)?;
        }
        let hooks = sites.iter().flat_map(|site| {
            let beside = self.beside(site.hook.kind).iter().map(|&kind| HookPoint { kind, ..site.hook });
            std::iter::once(site.hook).chain(beside)
        });
        let mut captured = self.capture_hooks(tokens, &hooks.collect::<Vec<_>>())?.into_iter();
        let cut = |&site: &Site| {
            let value = self.at_site(&site, captured.next().expect("one per hook"));
            let beside = captured.by_ref().take(self.beside(site.hook.kind).len()).collect();
            Cut { site, value, beside }
        };
        Ok(sites.iter().map(cut).collect())
    }

    /// Logits of the pass that was cut, with `value` in place of the activation there. Costs only what comes after the cut, and is
    /// differentiable with respect to `value`. The cut's own value gives the logits of the whole pass, bit for bit where the site [is plain](Site::is_plain).
    ///
    /// # Shapes
    /// - `value`: as [`Cut::value`]; the result is `[batch, context, vocab_size]`.
    ///
    /// # Panics
    /// If `value` has another shape, or the cut is of another model.
    pub fn forward_from(&self, cut: &Cut, value: Tensor<3>) -> Tensor<3> {
        let (x, next) = self.stream_after(cut, value);
        self.unembed(self.run_unseen(x, next..self.layers.len()))
    }

    /// The residual stream at the next place where the whole of it passes, with `value` in place of what was cut, and the layer
    /// that reads it.
    pub(super) fn stream_after(&self, cut: &Cut, value: Tensor<3>) -> (Tensor<3>, usize) {
        let HookPoint { layer: index, kind } = cut.site.hook;
        let layer = &self.layers[index];
        let value = match self.value_bias(&cut.site) {
            Some(bias) => value + bias,
            None => value,
        };
        let mut beside = cut.beside.iter().cloned();
        let mlp_out = |input: Tensor<3>| layer.mlp_out(&self.config, input, self.pinned);
        let value = match (kind, &layer.norm_mlp) {
            (HookKind::Z, _) => layer.attn_out(value, self.pinned),
            (HookKind::MlpNormalized, Some(norm)) => {
                let output = beside.next().expect("what the norm gives is kept");
                mlp_out(norm.changed(output, cut.value(), value))
            }
            (HookKind::MlpIn, _) => mlp_out(value),
            _ => value,
        };
        let x = beside.fold(value, |sum, part| sum + part);
        match kind {
            HookKind::ResidPre => (x, index),
            HookKind::Z | HookKind::AttnOut | HookKind::ResidMid if !self.is_parallel() => {
                (mlp_out(layer.mlp_in(x.clone())) + x, index + 1)
            }
            HookKind::Z
            | HookKind::AttnOut
            | HookKind::ResidMid
            | HookKind::MlpNormalized
            | HookKind::MlpIn
            | HookKind::MlpOut
            | HookKind::ResidPost => (x, index + 1),
        }
    }

    /// What is added to an activation of that kind on the way to the next place where the whole residual stream passes, in the order in
    /// which [`Self::run_layers`] adds it, so that the sum has the same bits; before it, what the norm gives whose normalised activation it is.
    fn beside(&self, kind: HookKind) -> &'static [HookKind] {
        match kind {
            HookKind::ResidPre | HookKind::ResidMid | HookKind::ResidPost => &[],
            HookKind::Z | HookKind::AttnOut if self.is_parallel() => &[HookKind::MlpOut, HookKind::ResidPre],
            HookKind::Z | HookKind::AttnOut => &[HookKind::ResidPre],
            HookKind::MlpNormalized if self.is_parallel() => &[HookKind::MlpIn, HookKind::AttnOut, HookKind::ResidPre],
            HookKind::MlpNormalized => &[HookKind::MlpIn, HookKind::ResidMid],
            HookKind::MlpIn | HookKind::MlpOut if self.is_parallel() => &[HookKind::AttnOut, HookKind::ResidPre],
            HookKind::MlpIn | HookKind::MlpOut => &[HookKind::ResidMid],
        }
    }
}
