//! Activations at some sites, from one pass.

use assay_kernels::Precision;
use burn::tensor::Tensor;
use ndarray::ArrayView2;

use super::block::Block;
use super::{Decoder, Visitor};
use crate::config::DecoderConfig;
use crate::error::Result;
use crate::hooks::{HookKind, HookPoint, Site};
use crate::kernels::{self, BlockShape};

/// The activations at some hooks of a pass.
struct Captures<'a> {
    hooks: &'a [HookPoint],
    captured: Vec<Option<Tensor<3>>>,
}

impl Visitor for Captures<'_> {
    fn wants(&self, hook: HookPoint) -> bool {
        self.hooks.contains(&hook)
    }
    fn at(&mut self, at: HookPoint, value: Tensor<3>) -> Tensor<3> {
        for (slot, _) in self.captured.iter_mut().zip(self.hooks).filter(|(_, hook)| **hook == at) {
            *slot = Some(value.clone());
        }
        value
    }
}

impl Decoder {
    /// Activations at `sites`, from one pass that stops after the highest of them.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, context]`; the result has one `[batch, context, d_model]` per site, in the order of `sites`.
    ///
    /// # Errors
    /// If a site does not exist in this model, a token is not in the vocabulary, or the context is longer than the model allows.
    pub fn capture(&self, tokens: ArrayView2<'_, u32>, sites: &[Site]) -> Result<Vec<Tensor<3>>> {
        for site in sites {
            site.check(&self.config)?;
        }
        let hooks: Vec<HookPoint> = sites.iter().map(|site| site.hook).collect();
        let captured = self.capture_hooks(tokens, &hooks)?;
        Ok(sites.iter().zip(captured).map(|(site, h)| self.at_site(site, h)).collect())
    }

    /// The activation at a site, of what the model has at its hook: `[batch, context, width]` both.
    pub(super) fn at_site(&self, site: &Site, h: Tensor<3>) -> Tensor<3> {
        match self.value_bias(site) {
            Some(bias) => h - bias,
            None if site.center => h.clone() - h.mean_dim(2),
            None => h,
        }
    }

    /// What is left out of the activation at a site, and added to what is patched in there.
    pub(super) fn value_bias(&self, site: &Site) -> Option<Tensor<3>> {
        let attention = &self.layers[site.hook.layer].attention;
        site.without_value_bias.then(|| attention.value_bias(&self.config.attention)).flatten()
    }

    /// As [`Self::capture`], of hooks that are known to exist, nothing done to the activations.
    pub(super) fn capture_hooks(&self, tokens: ArrayView2<'_, u32>, hooks: &[HookPoint]) -> Result<Vec<Tensor<3>>> {
        let Some(last) = hooks.iter().map(|h| h.layer).max() else {
            return Ok(Vec::new());
        };
        let x = self.embed(tokens)?;
        Ok(self.in_parts(x, |x| {
            let mut captures = Captures { hooks, captured: vec![None; hooks.len()] };
            self.run_layers(x, 0..last + 1, &mut captures);
            captures.captured.into_iter().map(|h| h.expect("every checked hook lies on the path")).collect()
        }))
    }

    /// As [`Self::capture`], with the layers' products in a format of choice. In bf16 where [`Self::has_bf16`] and only the residual
    /// stream before and after layers is asked for; else in f32.
    ///
    /// # Errors
    /// As [`Self::capture`].
    pub fn capture_in(
        &self,
        precision: Precision,
        tokens: ArrayView2<'_, u32>,
        sites: &[Site],
    ) -> Result<Vec<Tensor<3>>> {
        // How many blocks come before each hook, if it lies between blocks.
        let depths: Option<Vec<usize>> = sites
            .iter()
            .map(|site| match site.hook.kind {
                HookKind::ResidPre => Some(site.hook.layer),
                HookKind::ResidPost => Some(site.hook.layer + 1),
                HookKind::Z
                | HookKind::AttnOut
                | HookKind::ResidMid
                | HookKind::MlpNormalized
                | HookKind::MlpIn
                | HookKind::MlpOut => None,
            })
            .collect();
        let depths = depths.filter(|_| precision == Precision::Bf16 && self.has_bf16());
        let Some((depths, last)) = depths.and_then(|d| d.iter().copied().max().map(|last| (d, last))) else {
            return self.capture(tokens, sites);
        };
        for site in sites {
            site.check(&self.config)?;
        }
        let (batch, context) = tokens.dim();
        let DecoderConfig { d_model, attention, norm, layout, mlp, ref ropes, .. } = self.config;
        let positions = self.positions(context);
        let packed = self.packed.get_or_init(|| self.layers.iter().map(Block::packed).collect());
        let mut x = self.embed(tokens)?.reshape([batch * context, d_model]);
        let mut captured = vec![None; sites.len()];
        let mut keep = |depth: usize, x: &Tensor<2>| {
            for (slot, &wanted) in captured.iter_mut().zip(&depths) {
                if wanted == depth {
                    *slot = Some(x.clone().reshape([batch, context, d_model]));
                }
            }
        };
        keep(0, &x);
        for (index, (layer, block)) in self.layers.iter().zip(packed).enumerate().take(last) {
            let kind = layer.kind;
            let rotary_dims = kind.rope.map_or(0, |rope| ropes[rope].dims);
            let shape = BlockShape { batch, context, attention, kind, rotary_dims, norm, layout, mlp };
            x = kernels::block(x, block, kind.rope.map(|rope| positions.rotary(rope)), shape);
            keep(index + 1, &x);
        }
        Ok(sites
            .iter()
            .zip(captured)
            .map(|(site, h)| self.at_site(site, h.expect("every checked hook lies on the path")))
            .collect())
    }
}
