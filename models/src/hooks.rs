//! Hook points: places in the forward pass whose activation can be captured or replaced.

use std::fmt;
use std::str::FromStr;

use crate::config::NeoxConfig;
use crate::error::{ModelError, Result};

/// Which activation of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// The residual stream that enters the layer.
    ResidPre,
    /// What attention adds to it.
    AttnOut,
    /// The stream between attention and MLP; exists only without parallel residual.
    ResidMid,
    /// What the MLP adds.
    MlpOut,
    /// The residual stream that leaves the layer: the raw output of `GPTNeoXLayer`, neither
    /// mean-centred nor passed through the final LayerNorm.
    ResidPost,
}

/// A hook point, written as in TransformerLens: `blocks.{layer}.hook_resid_post`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookPoint {
    /// Layer, from 0.
    pub layer: usize,
    /// Which activation of that layer.
    pub kind: HookKind,
}

impl HookPoint {
    /// `blocks.{layer}.hook_resid_post`.
    pub fn resid_post(layer: usize) -> Self {
        Self { layer, kind: HookKind::ResidPost }
    }

    /// Whether the forward pass can go on from what is put here: it can where the whole residual stream passes.
    pub fn is_patchable(&self) -> bool {
        !matches!(self.kind, HookKind::AttnOut | HookKind::MlpOut)
    }

    /// Checks that a model of this shape has the hook.
    ///
    /// # Errors
    /// If the layer is beyond the last, or `hook_resid_mid` is asked of a parallel-residual model.
    pub fn check(&self, config: &NeoxConfig) -> Result<()> {
        if self.layer >= config.n_layers {
            return Err(ModelError::HookBeyondModel { hook: *self, n_layers: config.n_layers });
        }
        if self.kind == HookKind::ResidMid && config.parallel_residual {
            return Err(ModelError::NoResidMid { hook: *self });
        }
        Ok(())
    }
}

const KINDS: [(HookKind, &str); 5] = [
    (HookKind::ResidPre, "hook_resid_pre"),
    (HookKind::AttnOut, "hook_attn_out"),
    (HookKind::ResidMid, "hook_resid_mid"),
    (HookKind::MlpOut, "hook_mlp_out"),
    (HookKind::ResidPost, "hook_resid_post"),
];

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks.{}.{}", self.layer, self.kind)
    }
}

impl FromStr for HookPoint {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self> {
        let parse = || {
            let (layer, kind) = name.strip_prefix("blocks.")?.split_once('.')?;
            let kind = KINDS.iter().find(|(_, text)| *text == kind)?.0;
            Some(Self { layer: layer.parse().ok()?, kind })
        };
        parse().ok_or_else(|| ModelError::HookName { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (kind, _) in KINDS {
            let hook = HookPoint { layer: 17, kind };
            assert_eq!(hook.to_string().parse::<HookPoint>().unwrap(), hook);
        }
        for bad in ["", "blocks.3", "blocks.x.hook_resid_post", "block.3.hook_resid_post", "blocks.3.hook_resid"] {
            assert!(bad.parse::<HookPoint>().is_err(), "{bad}");
        }
    }
}
