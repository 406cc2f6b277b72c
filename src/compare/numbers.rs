//! Where counterparts are looked for, and why there may be none.

use std::fmt;

use assay_probes::stats::Interval;

use super::published::{End, Published, is_budget};
use crate::markdown::tokens_text;

/// A number that answers to a published one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counterpart {
    /// The number; of a row that is an end of an interval, that end.
    pub value: f64,
    /// Its interval, if it has one and is not an end itself.
    pub interval: Option<Interval>,
    /// Whether it is a claimed bound itself and no measured number.
    pub is_bound: bool,
}

/// Why there is no counterpart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No such model.
    Model(String),
    /// Nothing on the residual stream after a block, which published numbers are of.
    Hook,
    /// Nothing of TopK SAEs, which published numbers are of.
    Architecture,
    /// No SAE that is trained for its reconstruction alone, which the texts' are.
    Objective,
    /// Not at this depth.
    Depth(String),
    /// The depth is at another layer, or the layer isn't there.
    Layer(String),
    /// Not with this token budget.
    Budget(String),
    /// Not with this k.
    K(u64),
    /// No such quantity, or not of what the row speaks of.
    Quantity(String),
    /// There is a value but no interval.
    Interval(String),
    /// The quantity has no value there, such as k* of a target that is never reached.
    Undefined(String),
    /// More than one answers: the published row leaves a key open.
    Ambiguous(String),
}

impl Missing {
    /// The reason in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Model(_) => "model",
            Self::Hook => "hook",
            Self::Architecture => "architecture",
            Self::Objective => "objective",
            Self::Depth(_) => "depth",
            Self::Layer(_) => "layer",
            Self::Budget(_) => "budget",
            Self::K(_) => "k",
            Self::Quantity(_) => "quantity",
            Self::Interval(_) => "interval",
            Self::Undefined(_) => "undefined",
            Self::Ambiguous(_) => "ambiguous",
        }
    }

    /// No run has the published budget.
    pub(super) fn budget(published: Option<u64>) -> Self {
        Self::Budget(published.map_or_else(|| "unknown".to_owned(), tokens_text))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(name) if name.is_empty() => f.write_str("no number over all models"),
            Self::Model(name) => write!(f, "model {name} is not there"),
            Self::Hook => f.write_str("no SAE on hook_resid_post"),
            Self::Architecture => f.write_str("no TopK SAE"),
            Self::Objective => f.write_str("no SAE that is trained for its reconstruction alone"),
            Self::Depth(name) => write!(f, "no depth {name}"),
            Self::Layer(what) => f.write_str(what),
            Self::Budget(tokens) => write!(f, "no budget of {tokens}"),
            Self::K(k) => write!(f, "no k = {k}"),
            Self::Quantity(name) => write!(f, "no quantity {name}"),
            Self::Interval(name) => write!(f, "{name} has no interval"),
            Self::Undefined(name) => write!(f, "{name} is undefined"),
            Self::Ambiguous(what) => f.write_str(what),
        }
    }
}

/// Something that numbers can be looked up in.
pub trait Numbers {
    /// What answers to a published number: the same models, depth, layer where one is given, k, budget and quantity.
    ///
    /// # Errors
    /// With the first key that nothing has.
    fn find(&self, wanted: &Published) -> Result<Counterpart, Missing>;
}

/// Keeps what a key fits.
pub(super) fn narrow<T>(found: &mut Vec<&T>, fits: impl Fn(&T) -> bool, missing: Missing) -> Result<(), Missing> {
    found.retain(|candidate| fits(candidate));
    if found.is_empty() { Err(missing) } else { Ok(()) }
}

/// Published numbers answer to published numbers.
impl Numbers for Vec<Published> {
    fn find(&self, wanted: &Published) -> Result<Counterpart, Missing> {
        let mut rows: Vec<&Published> = self.iter().collect();
        narrow(&mut rows, |r| r.model == wanted.model, Missing::Model(wanted.model.clone()))?;
        narrow(&mut rows, |r| r.depth == wanted.depth, Missing::Depth(wanted.depth.clone().unwrap_or_default()))?;
        let layer = format!("no layer {}", wanted.layer.unwrap_or_default());
        narrow(&mut rows, |r| wanted.layer.is_none_or(|layer| r.layer == Some(layer)), Missing::Layer(layer))?;
        let same_budget = |r: &Published| match (wanted.tokens, r.tokens) {
            (Some(wanted), Some(tokens)) => is_budget(wanted, tokens),
            (wanted, tokens) => wanted == tokens,
        };
        narrow(&mut rows, same_budget, Missing::budget(wanted.tokens))?;
        narrow(&mut rows, |r| r.k == wanted.k, Missing::K(wanted.k.unwrap_or_default()))?;
        narrow(&mut rows, |r| r.quantity == wanted.quantity, Missing::Quantity(wanted.quantity.clone()))?;
        let missing = match wanted.end {
            End::Value => Missing::Undefined(wanted.quantity.clone()),
            End::Low | End::High => Missing::Interval(wanted.quantity.clone()),
        };
        narrow(&mut rows, |r| r.end == wanted.end, missing)?;
        // A text prints one number in several cells, and two experiments measure the same: the likest cell is meant.
        let unlike = |r: &&&Published| {
            (r.experiment != wanted.experiment, r.table != wanted.table, r.row != wanted.row, r.column != wanted.column)
        };
        let likest = rows.iter().min_by_key(unlike).expect("narrowing leaves one");
        Ok(Counterpart { value: likest.value, interval: likest.interval(self), is_bound: likest.is_bound() })
    }
}
