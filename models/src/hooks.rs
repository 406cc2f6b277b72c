//! Hook points: places in the forward pass whose activation can be captured or replaced.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{DecoderConfig, Layout, NormKind};
use crate::error::{ModelError, Result};

/// Which activation of a layer. In a file it is written by its short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HookKind {
    /// The residual stream that enters the layer.
    ResidPre,
    /// What attention's heads mix from the values, before W_O: `[n_heads · d_head]` wide, head by head.
    Z,
    /// What attention adds to it: after the norm that some families put there.
    AttnOut,
    /// The stream between attention and MLP; exists only without parallel residual.
    ResidMid,
    /// What the norm before the MLP makes of the stream, without its gain and bias; exists only where there is such a norm.
    MlpNormalized,
    /// What the MLP's matrices read: after that norm, with its gain and bias; where there is none, the stream itself. TransformerLens'
    /// `hook_mlp_in` is another place, before the norm.
    MlpIn,
    /// What the MLP adds, likewise.
    MlpOut,
    /// The residual stream that leaves the layer: the raw output of the layer's class in transformers, neither mean-centred nor passed
    /// through the final norm.
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

    /// Checks that a model of this shape has the hook.
    ///
    /// # Errors
    /// If the layer is beyond the last, `hook_resid_mid` is asked of a parallel-residual model, or `ln2.hook_normalized` of one whose MLP
    /// reads the stream as it is.
    pub fn check(&self, config: &DecoderConfig) -> Result<()> {
        if self.layer >= config.n_layers() {
            return Err(ModelError::HookBeyondModel { hook: *self, n_layers: config.n_layers() });
        }
        if self.kind == HookKind::ResidMid && config.layout == Layout::Parallel {
            return Err(ModelError::NoResidMid { hook: *self });
        }
        if self.kind == HookKind::MlpNormalized && !config.layout.has_pre_norm() {
            return Err(ModelError::NoMlpNorm { hook: *self });
        }
        Ok(())
    }

    /// How wide the activation is: d_model, but n_heads·d_head of `attn.hook_z`.
    pub fn width(&self, config: &DecoderConfig) -> usize {
        match self.kind {
            HookKind::Z => config.attention.d_q(),
            HookKind::ResidPre
            | HookKind::AttnOut
            | HookKind::ResidMid
            | HookKind::MlpNormalized
            | HookKind::MlpIn
            | HookKind::MlpOut
            | HookKind::ResidPost => config.d_model,
        }
    }
}

/// Every kind with its name in TransformerLens and its short name, in the order in which a forward pass meets them.
const KINDS: [(HookKind, &str, &str); 8] = [
    (HookKind::ResidPre, "hook_resid_pre", "resid_pre"),
    (HookKind::Z, "attn.hook_z", "z"),
    (HookKind::AttnOut, "hook_attn_out", "attn_out"),
    (HookKind::ResidMid, "hook_resid_mid", "resid_mid"),
    (HookKind::MlpNormalized, "ln2.hook_normalized", "mlp_normalized"),
    (HookKind::MlpIn, "mlp.hook_in", "mlp_in"),
    (HookKind::MlpOut, "hook_mlp_out", "mlp_out"),
    (HookKind::ResidPost, "hook_resid_post", "resid_post"),
];

impl HookKind {
    /// Every kind, in the order in which a forward pass meets them.
    pub const ALL: [Self; 8] = [
        Self::ResidPre,
        Self::Z,
        Self::AttnOut,
        Self::ResidMid,
        Self::MlpNormalized,
        Self::MlpIn,
        Self::MlpOut,
        Self::ResidPost,
    ];

    /// The short name: `resid_post`, `z`, `mlp_in`.
    pub fn short_name(self) -> &'static str {
        self.names().1
    }

    fn name(self) -> &'static str {
        self.names().0
    }

    fn names(self) -> (&'static str, &'static str) {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or(("", ""), |(_, name, short)| (name, short))
    }

    /// Whether it is the residual stream itself, not a part of what is computed from it.
    pub fn is_residual(self) -> bool {
        matches!(self, Self::ResidPre | Self::ResidMid | Self::ResidPost)
    }

    /// Whether it is read by a matrix as it is, not through a norm: `attn.hook_z` and the MLP's inputs.
    fn is_read_as_it_is(self) -> bool {
        matches!(self, Self::Z | Self::MlpNormalized | Self::MlpIn)
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<HookKind> for String {
    fn from(kind: HookKind) -> Self {
        kind.short_name().to_owned()
    }
}

impl TryFrom<String> for HookKind {
    type Error = ModelError;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl FromStr for HookKind {
    type Err = ModelError;

    /// From either name: `resid_post` or `hook_resid_post`.
    fn from_str(name: &str) -> Result<Self> {
        let kind = Self::ALL.into_iter().find(|kind| kind.short_name() == name || kind.name() == name);
        let meant = |HookPoint { layer, kind }: HookPoint| {
            format!(" (did you mean `{}`? The layer, {layer}, is given beside it)", kind.short_name())
        };
        kind.ok_or_else(|| ModelError::HookKindName {
            name: name.to_owned(),
            meant: meant_by(name).map(meant).unwrap_or_default(),
            known: Self::ALL.map(Self::short_name).join(", "),
        })
    }
}

/// Where an SAE reads activations and writes its reconstructions: a hook point, and what is done to the activations there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The hook point.
    pub hook: HookPoint,
    /// Subtract the mean over d_model, as TransformerLens' processed models do (`center_writing_weights`). A model whose every reader
    /// of the residual stream starts with a LayerNorm gives the same logits with the mean left out, but for rounding.
    pub center: bool,
    /// Of `attn.hook_z`: z − b_V, as in TransformerLens' processed models, which fold the values' biases into the output's
    /// (`fold_value_biases`). Each query's weights add up to 1, so that all of z has the biases b_V of its values in it; they are added again to
    /// what is patched in. Where a model's values have no biases it changes nothing.
    pub without_value_bias: bool,
}

impl Site {
    /// Checks that a model of this shape has the site.
    ///
    /// # Errors
    /// As [`HookPoint::check`]; if `attn.hook_z` or an input of the MLP is to be centred, which matrices read as it is: without its mean the
    /// model would say something else; if the norms that read the residual stream don't take its mean out; if another hook than
    /// `attn.hook_z` is to be without the values' biases.
    pub fn check(&self, config: &DecoderConfig) -> Result<()> {
        if self.center && self.hook.kind.is_read_as_it_is() {
            return Err(ModelError::CenteredInput { hook: self.hook });
        }
        if self.without_value_bias && self.hook.kind != HookKind::Z {
            return Err(ModelError::NoValueBias { hook: self.hook });
        }
        if self.center && config.norm.kind != NormKind::Layer {
            return Err(ModelError::CenteredRms { hook: self.hook });
        }
        self.hook.check(config)
    }

    /// Whether the activation there is what the model has at the hook. Put back, it then gives the same logits bit for bit, else the same
    /// but for rounding.
    pub fn is_plain(&self) -> bool {
        !self.center && !self.without_value_bias
    }
}

impl From<HookPoint> for Site {
    fn from(hook: HookPoint) -> Self {
        Self { hook, center: false, without_value_bias: false }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self { center: true, .. } => ", centred over d_model",
            Self { without_value_bias: true, .. } => ", without the values' biases",
            _ => "",
        };
        write!(f, "{}{what}", self.hook)
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
            let kind = KINDS.iter().find(|(_, text, _)| *text == kind)?.0;
            Some(Self { layer: layer.parse().ok()?, kind })
        };
        parse().ok_or_else(|| ModelError::HookName {
            name: name.to_owned(),
            meant: meant_by(name).map(|hook| format!(" (did you mean {hook}?)")).unwrap_or_default(),
            known: HookKind::ALL.map(HookKind::name).join(", "),
        })
    }
}

/// The hook point that a name of another notation stands for: `resid_post.3`, or a module of transformers, whose output it is, such as
/// `gpt_neox.layers.3` or `model.layers.3.mlp`.
fn meant_by(name: &str) -> Option<HookPoint> {
    let digits = |c: char| c.is_ascii_digit();
    let from = name.find(digits)?;
    let layer = name[from..].split(|c| !digits(c)).next()?.parse().ok()?;
    let of_ours =
        KINDS.iter().filter(|(_, long, short)| name.contains(long) || (short.len() > 1 && name.contains(short)));
    let of_a_module = || {
        let parts: Vec<&str> = name.split('.').collect();
        let has = |names: &[&str]| parts.iter().any(|part| names.contains(part));
        let kind = match parts.last() {
            Some(&"mlp") => HookKind::MlpOut,
            Some(&("attention" | "attn" | "self_attn")) => HookKind::AttnOut,
            Some(last) if last.parse::<usize>().is_ok() => HookKind::ResidPost,
            _ => return None,
        };
        has(&["layers", "h", "blocks"]).then_some(kind)
    };
    let kind =
        of_ours.map(|(kind, long, _)| (long.len(), *kind)).max_by_key(|(length, _)| *length).map(|(_, kind)| kind);
    Some(HookPoint { layer, kind: kind.or_else(of_a_module)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_notations_are_understood_enough_to_ask() {
        for (name, meant) in [
            ("resid_post.3", Some("blocks.3.hook_resid_post")),
            ("blocks.12.resid_mid", Some("blocks.12.hook_resid_mid")),
            ("3.mlp_out", Some("blocks.3.hook_mlp_out")),
            ("gpt_neox.layers.3", Some("blocks.3.hook_resid_post")),
            ("model.layers.30.mlp", Some("blocks.30.hook_mlp_out")),
            ("transformer.h.0.attn", Some("blocks.0.hook_attn_out")),
            ("layers.3", Some("blocks.3.hook_resid_post")),
            ("blocks.3.attn.hook_q", None),
            ("embed", None),
            ("layers.99999999999999999999999", None),
            ("pythia-70m", None),
        ] {
            assert_eq!(meant_by(name).map(|hook| hook.to_string()).as_deref(), meant, "{name}");
            let error = name.parse::<HookPoint>().unwrap_err().to_string();
            assert_eq!(error.contains("did you mean"), meant.is_some(), "{error}");
        }
        let error = "blocks.3.hook_resid_post".parse::<HookKind>().unwrap_err().to_string();
        assert!(error.contains("did you mean `resid_post`? The layer, 3, is given beside it"), "{error}");
    }

    #[test]
    fn names_round_trip() {
        for kind in HookKind::ALL {
            assert_eq!(kind.to_string().parse::<HookKind>().unwrap(), kind);
            assert_eq!(kind.short_name().parse::<HookKind>().unwrap(), kind);
            let hook = HookPoint { layer: 17, kind };
            assert_eq!(hook.to_string().parse::<HookPoint>().unwrap(), hook);
        }
        for bad in ["", "blocks.3", "blocks.x.hook_resid_post", "block.3.hook_resid_post", "blocks.3.hook_resid"] {
            assert!(bad.parse::<HookPoint>().is_err(), "{bad}");
        }
    }
}
