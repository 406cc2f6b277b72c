//! What qualifies a verdict: scores that a few tokens or a weak opponent make, tokens and codes that are not what they should be.

use assay_probes::Sums;
use assay_probes::metrics::{Subset, ratio};
use assay_probes::stats::Interval;
use serde::Serialize;

use super::compare::{CE_REC, Evidence, LOSS_SCORE, LOSS_SCORE_MEAN, R2, Score, on_all};
use super::{GAP, MIN_SEQUENCES, Outcome};
use crate::frames::Setting;
use crate::markdown;

/// What a score depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// R² on tokens of huge norm.
    MassiveTokens,
    /// R² on position 0.
    FirstTokens,
    /// `ce_loss_score` on how bad zeros are: it is above the loss score under mean ablation.
    ZeroAblation,
}

/// A score that owes what it is to a few tokens or to a weak opponent, by more than [`GAP`].
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    /// On what it depends.
    pub rule: Rule,
    /// The score.
    pub about: &'static str,
    /// Whether it is higher or lower for it.
    pub outcome: Outcome,
    /// That score minus the one without.
    pub difference: f64,
    /// The 95 % interval of the difference.
    pub interval_95: [f64; 2],
    /// In words, with the numbers.
    pub text: String,
}

/// What else a reader has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// Fewer sequences than a verdict needs.
    FewSequences,
    /// No latent fires on any token.
    NoLiveLatent,
    /// More latents are active than the activations have dimensions.
    DenseCode,
    /// L0 is not what the SAE was trained for.
    SparsityMissed,
    /// The activations do not vary, so R² is undefined.
    ConstantActivations,
    /// The mean activation costs more than a uniform guess, so almost anything scores well beside it.
    CatastrophicAblation,
    /// CE_rec and the loss score under mean ablation lie on different sides of R².
    MeasuresDisagree,
}

/// A warning.
#[derive(Clone, Debug, Serialize)]
pub struct Warning {
    /// Of what.
    pub kind: WarningKind,
    /// In words, with the numbers.
    pub text: String,
}

/// By what share L0 may differ from the one that was asked for without a word: BatchTopK, whose k is a mean over the tokens of a batch, and the
/// classes that are steered to a target end within it when they were trained long enough.
const SPARSITY_WITHIN: f64 = 0.25;

/// What is said where an SAE was trained for another L0 than it has.
fn sparsity_missed(setting: &Setting, l0: f64) -> Option<String> {
    let wanted = setting.wanted_l0().filter(|wanted| (l0 / wanted - 1.0).abs() > SPARSITY_WITHIN)?;
    let shown = |value| markdown::number(Some(value));
    let is_steered = setting.knob.as_deref().is_some_and(|knob| knob.starts_with("target_l0"));
    Some(match (is_steered, l0 < wanted) {
        (true, _) => format!(
            "The target L0 of {} was not reached: {} latents are active per token. The penalty is steered there while the SAE is trained, \
             and the steps were too few for that: give more training tokens.",
            shown(wanted),
            shown(l0),
        ),
        (false, true) => format!(
            "k is {}, and {} latents are active per token: of those chosen, no more are positive, and the others stay 0. A k of about as \
             many chooses the same.",
            shown(wanted),
            shown(l0),
        ),
        (false, false) => format!(
            "k is {}, a mean over the tokens of a batch in training, and {} latents are active per token here: the threshold that was \
             learned lets more through on this text.",
            shown(wanted),
            shown(l0),
        ),
    })
}

impl Evidence<'_> {
    /// Mean loss of a uniform guess, nats.
    fn uniform(&self) -> f64 {
        (self.vocab_size as f64).ln()
    }

    /// Whether the model's own loss is no better than a uniform guess, or than what it does without the activation.
    pub(super) fn is_foreign(&self) -> bool {
        let ablated = ["ce_mean", "ce_zero"].into_iter().filter_map(|name| self.value(on_all(name, name)));
        let limit = ablated.fold(self.uniform(), f64::min);
        self.value(on_all("ce_orig", "")).is_some_and(|ce| ce >= limit)
    }

    pub(super) fn why_foreign(&self) -> String {
        format!(
            "The model's own loss is {} nats per token, where a uniform guess among {} \
             tokens costs {}, the mean activation at the hook {} and zeros {}. Were they made with this model's tokenizer? Give other \
             tokens, or --text.",
            self.number("ce_orig"),
            self.vocab_size,
            markdown::number(Some(self.uniform())),
            self.number("ce_mean"),
            self.number("ce_zero"),
        )
    }

    pub(super) fn reasons(&self) -> Vec<Reason> {
        let rules = [
            self.subset(Rule::MassiveTokens, Subset::NoOutlier),
            self.subset(Rule::FirstTokens, Subset::NoFirst),
            self.zero_ablation(),
        ];
        rules.into_iter().flatten().collect()
    }

    /// A reason, if the interval of the difference of two scores lies wholly outside ±[`GAP`]. Both are of the same text.
    fn reason(&self, rule: Rule, score: Score, without: Score, text: impl FnOnce(Outcome) -> String) -> Option<Reason> {
        let difference = self.difference(score, without)?;
        let outcome = difference.beyond(GAP)?;
        Some(Reason {
            rule,
            about: score.metric,
            outcome,
            difference: difference.value,
            interval_95: [difference.interval.low, difference.interval.high],
            text: text(outcome),
        })
    }

    /// R² that a few tokens make or break.
    fn subset(&self, rule: Rule, subset: Subset) -> Option<Reason> {
        let without = Score { subset, ..R2 };
        let [all, rest] = [Subset::All, subset].map(|subset| self.totals[subset.index()]);
        let share = |of: fn(&Sums) -> f64| markdown::percent(ratio(of(&rest), of(&all)).map(|left| 1.0 - left));
        let which = match subset {
            Subset::NoFirst => "the first token of each sequence",
            _ => "the tokens whose norm exceeds 10 times the median",
        };
        self.reason(rule, R2, without, |outcome| {
            let does = if outcome == Outcome::Overstates { "raise" } else { "lower" };
            format!(
                "A few tokens {does} R²: {} on all tokens, {} without {which}, which are {} of the tokens and {} of the variance.",
                markdown::with_interval(self.value(R2), self.interval(R2)),
                markdown::with_interval(self.value(without), self.interval(without)),
                share(|s| s.tokens),
                share(|s| s.sst),
            )
        })
    }

    /// A loss score that owes its height to how bad zero ablation is.
    fn zero_ablation(&self) -> Option<Reason> {
        let text = |_| {
            format!(
                "Zero ablation flatters: the {} is above the {}, since zeros cost {} nats and the mean activation {}.",
                self.named(LOSS_SCORE),
                self.named(LOSS_SCORE_MEAN),
                self.number("ce_zero"),
                self.number("ce_mean"),
            )
        };
        self.reason(Rule::ZeroAblation, LOSS_SCORE, LOSS_SCORE_MEAN, text)
            .filter(|reason| reason.outcome == Outcome::Overstates)
    }

    pub(super) fn warnings(&self, outcome: Outcome) -> Vec<Warning> {
        let all = &self.totals[Subset::All.index()];
        let (l0, d_model) = (ratio(all.l0, all.tokens).unwrap_or_default(), ratio(all.elements, all.tokens));
        let shown = markdown::number;
        let ce_mean = self.value(on_all("ce_mean", ""));
        let sided = |score| self.difference(R2, score).and_then(|d| d.beyond(GAP));
        let opposite = [(Outcome::Overstates, Outcome::Understates), (Outcome::Understates, Outcome::Overstates)];
        let disagree = sided(LOSS_SCORE_MEAN).zip(sided(CE_REC)).is_some_and(|sides| opposite.contains(&sides));
        let foreign = outcome == Outcome::ForeignTokens;
        let missed = self.trained.and_then(|setting| sparsity_missed(setting, l0));
        let found = [
            (
                WarningKind::FewSequences,
                self.sequences < MIN_SEQUENCES && outcome != Outcome::Undecided,
                format!("{} sequences are few: intervals are too narrow below {MIN_SEQUENCES}.", self.sequences),
            ),
            (
                WarningKind::NoLiveLatent,
                self.has_no_live_latent(),
                "No latent is active on any of these tokens (L0 is 0): the reconstruction is one constant. Was the SAE trained on this \
                 hook and this model?"
                    .to_owned(),
            ),
            (
                WarningKind::DenseCode,
                d_model.is_some_and(|d| l0 > d),
                format!(
                    "The code is not sparse: {} latents are active per token, more than the activations have dimensions ({}).{}",
                    shown(Some(l0)),
                    shown(d_model),
                    if self.trained.is_none() { " A TopK SAE that was read as one without k looks like this." } else { "" },
                ),
            ),
            (
                WarningKind::SparsityMissed,
                missed.is_some(),
                missed.unwrap_or_default(),
            ),
            (
                WarningKind::ConstantActivations,
                all.tokens > 0.0 && self.value(R2).is_none(),
                "The activations do not vary on these tokens but for rounding, so there is no variance to explain and R² is undefined. \
                 Give text that varies."
                    .to_owned(),
            ),
            (
                WarningKind::CatastrophicAblation,
                !foreign && ce_mean.is_some_and(|ce| ce > self.uniform()),
                format!(
                    "The mean activation costs {} nats, more than a uniform guess ({}): beside so bad an ablation a loss score is high for \
                     almost any SAE. CE_rec and KL do not depend on it.",
                    shown(ce_mean),
                    shown(Some(self.uniform())),
                ),
            ),
            (
                WarningKind::MeasuresDisagree,
                !foreign && disagree,
                format!(
                    "Behaviour has two signs here: R² lies between the {} and {}. Say which one a conclusion rests on.",
                    self.named(LOSS_SCORE_MEAN),
                    self.named(CE_REC),
                ),
            ),
        ];
        found.into_iter().filter(|(_, holds, _)| *holds).map(|(kind, _, text)| Warning { kind, text }).collect()
    }

    /// Where errors lie: Fisher-weighted distortion, beside what it would be without preferred directions.
    pub(super) fn sensitivity(&self) -> String {
        let deviation = on_all("fisher_euclidean", "");
        match self.value(deviation).zip(self.interval(deviation)) {
            None => format!("The sensitivity-weighted distortion is {}.", self.number("swd")),
            Some((value, interval)) => {
                let where_to = match interval {
                    Interval { low, .. } if low > 1.0 => "errors lie where the loss is sensitive",
                    Interval { high, .. } if high < 1.0 => "errors lie where the loss is less sensitive",
                    _ => "errors have no preference for where the loss is sensitive",
                };
                format!(
                    "The Fisher-weighted distortion is {}, {} times that of errors as large without a preferred direction: {where_to}.",
                    self.number("fwd"),
                    markdown::with_interval(Some(value), Some(interval)),
                )
            }
        }
    }
}
