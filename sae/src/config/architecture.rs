//! The classes of SAE that are trained here.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::classes::{BatchTopK, Gated, GroupMax, Hierarchical, JumpRelu, Matryoshka, Sparsity, Standard, TopK};
use super::coefficient::Coefficient;
use crate::error::{Result, SaeError};

/// A class of SAE with its settings. It is written as its name under `architecture`, which `topk` goes without, and its settings beside that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub enum Architecture {
    /// See [`TopK`].
    TopK(TopK),
    /// See [`GroupMax`].
    GroupMax(GroupMax),
    /// See [`Hierarchical`].
    Hierarchical(Hierarchical),
    /// See [`BatchTopK`].
    BatchTopK(BatchTopK),
    /// See [`Matryoshka`].
    Matryoshka(Matryoshka),
    /// See [`JumpRelu`].
    JumpRelu(JumpRelu),
    /// See [`Gated`].
    Gated(Gated),
    /// See [`Standard`].
    Standard(Standard),
}

/// The number by which the sparsity of a class is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knob {
    /// The setting's key.
    pub key: &'static str,
    /// Its value.
    pub value: f64,
}

impl std::fmt::Display for Knob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.key, self.value)
    }
}

impl Architecture {
    /// The names of all of them.
    pub const NAMES: [&'static str; 8] =
        ["topk", "groupmax", "hierarchical", "batchtopk", "matryoshka", "jumprelu", "gated", "standard"];

    /// TopK with k latents per token.
    pub fn topk(k: usize) -> Self {
        Self::TopK(TopK { k })
    }

    /// GroupMax with k groups.
    pub fn groupmax(k: usize) -> Self {
        Self::GroupMax(GroupMax { k })
    }

    /// The name, as it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TopK(_) => "topk",
            Self::GroupMax(_) => "groupmax",
            Self::Hierarchical(_) => "hierarchical",
            Self::BatchTopK(_) => "batchtopk",
            Self::Matryoshka(_) => "matryoshka",
            Self::JumpRelu(_) => "jumprelu",
            Self::Gated(_) => "gated",
            Self::Standard(_) => "standard",
        }
    }

    /// Whether it is the one that goes without saying.
    pub fn is_topk(&self) -> bool {
        matches!(self, Self::TopK(_))
    }

    /// Latents chosen per token, mean over the batch, where that is a setting.
    pub fn k(&self) -> Option<f64> {
        match self {
            Self::TopK(TopK { k }) | Self::GroupMax(GroupMax { k }) | Self::Hierarchical(Hierarchical { k, .. }) => {
                Some(*k as f64)
            }
            Self::BatchTopK(BatchTopK { k, .. }) | Self::Matryoshka(Matryoshka { k, .. }) => Some(*k),
            Self::JumpRelu(_) | Self::Gated(_) | Self::Standard(_) => None,
        }
    }

    /// The same at the largest k that it is trained for.
    pub(crate) fn at_largest_k(&self) -> Self {
        match self {
            Self::Hierarchical(class) => Self::Hierarchical(Hierarchical { k: class.largest(), ..class.clone() }),
            other => other.clone(),
        }
    }

    /// The number by which sparsity is set.
    pub fn knob(&self) -> Knob {
        let (key, value) = match self {
            Self::TopK(TopK { k }) | Self::GroupMax(GroupMax { k }) | Self::Hierarchical(Hierarchical { k, .. }) => {
                ("k", *k as f64)
            }
            Self::BatchTopK(BatchTopK { k, .. }) | Self::Matryoshka(Matryoshka { k, .. }) => ("k", *k),
            Self::JumpRelu(JumpRelu { sparsity: Sparsity::Quadratic { target_l0 }, .. })
            | Self::JumpRelu(JumpRelu { target_l0: Some(target_l0), .. })
            | Self::Gated(Gated { target_l0: Some(target_l0), .. })
            | Self::Standard(Standard { target_l0: Some(target_l0), .. }) => ("target_l0", *target_l0),
            Self::JumpRelu(JumpRelu { l0_coefficient, .. }) => ("l0_coefficient", *l0_coefficient),
            Self::Gated(Gated { l1_coefficient, .. }) | Self::Standard(Standard { l1_coefficient, .. }) => {
                ("l1_coefficient", *l1_coefficient)
            }
        };
        Knob { key, value }
    }

    /// The coefficient of its sparsity penalty, where it has one.
    pub(crate) fn coefficient(&self) -> Option<Coefficient> {
        match self {
            Self::JumpRelu(class) => Some(class.coefficient()),
            Self::Gated(class) => Some(class.coefficient()),
            Self::Standard(class) => Some(class.coefficient()),
            Self::TopK(_) | Self::GroupMax(_) | Self::Hierarchical(_) | Self::BatchTopK(_) | Self::Matryoshka(_) => {
                None
            }
        }
    }

    /// Whether as many latents are chosen of every token.
    pub(crate) fn is_fixed_rows(&self) -> bool {
        matches!(self, Self::TopK(_) | Self::GroupMax(_) | Self::Hierarchical(_))
    }

    /// Whether it chooses latents by comparing them: then it can compare them in units of the decoder's norms, and dead ones have an
    /// auxiliary loss.
    pub(crate) fn chooses(&self) -> bool {
        self.k().is_some()
    }

    /// Whether a loss of its own asks which latents are dead.
    pub(crate) fn asks_for_dead(&self) -> bool {
        matches!(self, Self::JumpRelu(JumpRelu { pre_act_coefficient, .. }) if *pre_act_coefficient > 0.0)
    }

    /// Checks that the settings can be.
    ///
    /// # Errors
    /// Names the first that cannot.
    pub fn check(&self, d_sae: usize) -> Result<()> {
        match self {
            Self::TopK(class) => class.check(d_sae),
            Self::GroupMax(class) => class.check(d_sae),
            Self::Hierarchical(class) => class.check(d_sae),
            Self::BatchTopK(class) => class.check(d_sae),
            Self::Matryoshka(class) => class.check(d_sae),
            Self::JumpRelu(class) => class.check(d_sae),
            Self::Gated(class) => class.check(d_sae),
            Self::Standard(class) => class.check(d_sae),
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<Map<String, Value>> for Architecture {
    type Error = SaeError;

    fn try_from(mut keys: Map<String, Value>) -> Result<Self> {
        fn of<T: DeserializeOwned>(name: &str, keys: Map<String, Value>) -> Result<T> {
            serde_json::from_value(Value::Object(keys))
                .map_err(|error| SaeError::Setting(format!("architecture = \"{name}\": {error}")))
        }
        let name = match keys.remove("architecture") {
            None => "topk".to_owned(),
            Some(Value::String(name)) => name,
            Some(other) => return Err(SaeError::Setting(format!("architecture = {other} is no name"))),
        };
        // A coefficient that is steered to a target may start anywhere; the quadratic penalty has a target of its own.
        let coefficient = match name.as_str() {
            "jumprelu" if keys.get("sparsity").is_none_or(|sparsity| sparsity != "quadratic") => Some("l0_coefficient"),
            "gated" | "standard" => Some("l1_coefficient"),
            _ => None,
        };
        if let Some(coefficient) = coefficient.filter(|coefficient| !keys.contains_key(*coefficient)) {
            if !keys.contains_key("target_l0") {
                return Err(SaeError::Setting(format!(
                    "architecture = \"{name}\": give `{coefficient}`, or `target_l0`, the active latents per token to steer it to"
                )));
            }
            keys.insert(coefficient.to_owned(), Coefficient::START.into());
        }
        match name.as_str() {
            "topk" => of(&name, keys).map(Self::TopK),
            "groupmax" => of(&name, keys).map(Self::GroupMax),
            "hierarchical" => of(&name, keys).map(Self::Hierarchical),
            "batchtopk" => of(&name, keys).map(Self::BatchTopK),
            "matryoshka" => of(&name, keys).map(Self::Matryoshka),
            "jumprelu" => of(&name, keys).map(Self::JumpRelu),
            "gated" => of(&name, keys).map(Self::Gated),
            "standard" => of(&name, keys).map(Self::Standard),
            other => Err(SaeError::Setting(format!(
                "architecture = \"{other}\" cannot be trained; {} can",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

impl From<Architecture> for Map<String, Value> {
    fn from(architecture: Architecture) -> Self {
        let name = architecture.name();
        let settings = match &architecture {
            Architecture::TopK(class) => serde_json::to_value(class),
            Architecture::GroupMax(class) => serde_json::to_value(class),
            Architecture::Hierarchical(class) => serde_json::to_value(class),
            Architecture::BatchTopK(class) => serde_json::to_value(class),
            Architecture::Matryoshka(class) => serde_json::to_value(class),
            Architecture::JumpRelu(class) => serde_json::to_value(class),
            Architecture::Gated(class) => serde_json::to_value(class),
            Architecture::Standard(class) => serde_json::to_value(class),
        };
        let Ok(Value::Object(mut keys)) = settings else { unreachable!("settings are objects of numbers and names") };
        if !architecture.is_topk() {
            keys.insert("architecture".to_owned(), name.into());
        }
        keys
    }
}
