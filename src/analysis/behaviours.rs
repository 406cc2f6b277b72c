//! What the model does with a reconstruction, measured in six ways that need not agree.

use assay_probes::metrics::{CE_INCREASE, Metric, Subset, metric, total};

use super::{Quantity, Turned};
use crate::frames::RunResult;

/// A metric of behaviour, turned so that higher is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// Its name in tables.
    pub name: &'static str,
    metric: &'static str,
    /// −1 where the metric itself is better when lower.
    pub sign: f64,
}

/// All of them: the pooled CE_rec first, which no few sequences lead; the reference texts' own second.
pub const BEHAVIOURS: [Behaviour; 6] = [
    Behaviour { name: "CE_rec (pooled)", metric: "ce_rec_pooled", sign: 1.0 },
    Behaviour { name: "CE_rec (per sequence, the reference's)", metric: "ce_rec", sign: 1.0 },
    Behaviour { name: "loss score, zero ablation", metric: "ce_loss_score", sign: 1.0 },
    Behaviour { name: "loss score, mean ablation", metric: "ce_loss_score_mean", sign: 1.0 },
    Behaviour { name: "−ΔL (nats)", metric: "ce_increase", sign: -1.0 },
    Behaviour { name: "−KL (nats)", metric: "kl", sign: -1.0 },
];

/// The behaviour of that metric.
///
/// # Panics
/// If there is none: names are those of this program.
pub fn behaviour(metric: &str) -> &'static Behaviour {
    BEHAVIOURS.iter().find(|b| b.metric == metric).expect("a behaviour's metric")
}

impl Behaviour {
    /// The metric on all tokens, not turned.
    pub fn quantity(&self) -> Quantity {
        (self.metric(), Subset::All)
    }

    /// The same with its sign.
    pub fn turned(&self) -> Turned {
        (self.quantity(), self.sign)
    }

    fn metric(&self) -> &'static Metric {
        if self.metric == CE_INCREASE.name { &CE_INCREASE } else { metric(self.metric).expect("a metric's name") }
    }

    /// Of a run, turned.
    pub fn of(&self, run: &RunResult) -> Option<f64> {
        let sums = total(&run.sequences)[Subset::All.index()];
        Some(self.sign * (self.metric().value)(&sums)?)
    }
}
