//! The verdict of one evaluation: does R² tell what the SAE does to the model, and if not, why not.
//!
//! Every rule compares two scores of the same sequences, 1 at best both, and speaks only where they differ by [`GAP`] or more and
//! the 95 % bootstrap interval of their paired difference excludes 0. Rules about R² decide; rules about `ce_loss_score` warn.

use assay_probes::metrics::{metric, ratio, total};
use assay_probes::stats::Interval;
use assay_probes::{Metric, Subset, Sums};
use serde::Serialize;

use crate::markdown;
use crate::replicates::Replicates;

/// How far two scores must lie apart to contradict each other: a tenth of the way from a useless SAE to a perfect one. Less may be
/// real, but changes no conclusion.
pub const GAP: f64 = 0.1;

/// Fewer sequences than this have no bootstrap interval worth the name, so nothing is decided.
pub const MIN_SEQUENCES: usize = 8;

const LEVEL: f64 = 0.95;

/// Which scores contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// R² with and without tokens of huge norm.
    MassiveTokens,
    /// R² with and without position 0.
    FirstTokens,
    /// R² is above a score of behaviour.
    R2AboveBehaviour,
    /// R² is below CE_rec and the loss score against mean ablation.
    R2BelowBehaviour,
    /// `ce_loss_score` is above CE_rec: zero ablation is a weak opponent.
    LossScoreAboveCeRec,
    /// `ce_loss_score` is above that against mean ablation.
    LossScoreAboveMeanAblation,
}

impl Rule {
    /// Whether it speaks of R²; else of `ce_loss_score`.
    fn is_about_r2(self) -> bool {
        !matches!(self, Self::LossScoreAboveCeRec | Self::LossScoreAboveMeanAblation)
    }
}

/// A contradiction between two scores.
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    /// The rule.
    pub rule: Rule,
    /// The score that misleads.
    pub about: &'static str,
    /// That score minus the other.
    pub difference: f64,
    /// The 95 % interval of the difference.
    pub interval_95: [f64; 2],
    /// In words, with the numbers.
    pub text: String,
}

/// What an evaluation says of R².
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Whether R² misleads; null where it can't be decided.
    pub misleading: Option<bool>,
    /// Why, and what else misleads.
    pub reasons: Vec<Reason>,
    /// All of it in words: a line that sets R² beside CE_rec and the loss score, then one for each reason.
    pub text: String,
}

/// Judges an evaluation by the sums of its sequences and their bootstrap replicates.
pub fn verdict(sequences: &[[Sums; 3]], replicates: &Replicates) -> Verdict {
    let scores = Scores { totals: total(sequences), replicates };
    let known = [R2, CE_REC].iter().all(|score| scores.value(*score).is_some() && scores.interval(*score).is_some());
    if sequences.len() < MIN_SEQUENCES || !known {
        let why = if known {
            format!("{} sequences are too few, at least {MIN_SEQUENCES} are needed", sequences.len())
        } else {
            "R² or CE_rec is undefined or has no interval".to_owned()
        };
        let text = format!("Undecided whether R² misleads: {why}.");
        return Verdict { misleading: None, reasons: Vec::new(), text };
    }
    let rules = [
        scores.subset(Rule::MassiveTokens, Subset::NoOutlier),
        scores.subset(Rule::FirstTokens, Subset::NoFirst),
        scores.above_behaviour(),
        scores.below_behaviour(),
        scores.zero_ablation(Rule::LossScoreAboveCeRec, CE_REC),
        scores.zero_ablation(Rule::LossScoreAboveMeanAblation, LOSS_SCORE_MEAN),
    ];
    let reasons: Vec<Reason> = rules.into_iter().flatten().collect();
    let misleading = reasons.iter().any(|reason| reason.rule.is_about_r2());
    let r2 = |subset| markdown::score(scores.value(Score { subset, ..R2 }));
    let head = format!(
        "{}: {} ({} without first tokens, {} without tokens of huge norm) beside {} and {}.",
        if misleading { "R² is misleading here" } else { "R² and behaviour agree" },
        scores.named(R2),
        r2(Subset::NoFirst),
        r2(Subset::NoOutlier),
        scores.named(CE_REC),
        scores.named(LOSS_SCORE),
    );
    let text =
        std::iter::once(head).chain(reasons.iter().map(|reason| reason.text.clone())).collect::<Vec<_>>().join("\n- ");
    Verdict { misleading: Some(misleading), reasons, text }
}

/// A metric on a subset.
#[derive(Clone, Copy)]
struct Score {
    metric: &'static str,
    subset: Subset,
    /// The name in sentences.
    name: &'static str,
}

const fn on_all(metric: &'static str, name: &'static str) -> Score {
    Score { metric, subset: Subset::All, name }
}

const R2: Score = on_all("r2", "R²");
const CE_REC: Score = on_all("ce_rec", "CE_rec");
const LOSS_SCORE: Score = on_all("ce_loss_score", "loss score against zero ablation");
const LOSS_SCORE_MEAN: Score = on_all("ce_loss_score_mean", "loss score against mean ablation");

/// A difference of two scores that counts.
struct Difference {
    value: f64,
    interval: Interval,
}

struct Scores<'a> {
    totals: [Sums; 3],
    replicates: &'a Replicates,
}

impl Scores<'_> {
    fn value(&self, score: Score) -> Option<f64> {
        (definition(score).value)(&self.totals[score.subset.index()])
    }

    fn interval(&self, score: Score) -> Option<Interval> {
        self.replicates.interval(definition(score), score.subset, LEVEL)
    }

    /// `R² 0.812 [0.801, 0.823]`.
    fn named(&self, score: Score) -> String {
        format!("{} {}", score.name, markdown::with_interval(self.value(score), self.interval(score)))
    }

    /// A metric on all tokens, as text.
    fn number(&self, metric: &'static str) -> String {
        markdown::number(self.value(on_all(metric, metric)))
    }

    /// a − b, if they differ by [`GAP`] in one direction and the interval excludes 0.
    fn difference(&self, a: Score, b: Score) -> Option<Difference> {
        let value = self.value(a)? - self.value(b)?;
        let of = |score| self.replicates.values(definition(score), score.subset);
        let paired: Vec<Option<f64>> = of(a).into_iter().zip(of(b)).map(|(a, b)| Some(a? - b?)).collect();
        let interval = Interval::percentile(&paired, LEVEL)?;
        let excludes_zero = interval.low > 0.0 || interval.high < 0.0;
        (value.abs() >= GAP && excludes_zero).then_some(Difference { value, interval })
    }

    fn reason(rule: Rule, difference: &Difference, text: String) -> Reason {
        let about = if rule.is_about_r2() { "r2" } else { "ce_loss_score" };
        let Interval { low, high } = difference.interval;
        Reason { rule, about, difference: difference.value, interval_95: [low, high], text }
    }

    /// R² that a few tokens make or break.
    fn subset(&self, rule: Rule, subset: Subset) -> Option<Reason> {
        let without = Score { subset, ..R2 };
        let difference = self.difference(R2, without)?;
        let [all, rest] = [Subset::All, subset].map(|subset| self.totals[subset.index()]);
        let share = |of: fn(&Sums) -> f64| markdown::percent(ratio(of(&rest), of(&all)).map(|left| 1.0 - left));
        let which = match subset {
            Subset::NoFirst => "the first token of each sequence",
            _ => "the tokens whose norm exceeds 10 times the median",
        };
        let text = format!(
            "{} on all tokens is {} without {which}: they are {} of the tokens, and with them goes {} of the variance.",
            self.named(R2),
            markdown::with_interval(self.value(without), self.interval(without)),
            share(|s| s.tokens),
            share(|s| s.sst),
        );
        Some(Self::reason(rule, &difference, text))
    }

    /// R² above what the model keeps.
    fn above_behaviour(&self) -> Option<Reason> {
        let contradicting: Vec<(Score, Difference)> = [CE_REC, LOSS_SCORE, LOSS_SCORE_MEAN]
            .into_iter()
            .filter_map(|score| Some((score, self.difference(R2, score).filter(|d| d.value > 0.0)?)))
            .collect();
        let (_, largest) = contradicting.iter().max_by(|a, b| a.1.value.total_cmp(&b.1.value))?;
        let scores: Vec<String> = contradicting.iter().map(|(score, _)| self.named(*score)).collect();
        let text = format!(
            "{} is above {}: the loss goes from {} to {} nats (KL {}). {}",
            self.named(R2),
            scores.join(" and "),
            self.number("ce_orig"),
            self.number("ce_recon"),
            self.number("kl"),
            self.sensitivity(),
        );
        Some(Self::reason(Rule::R2AboveBehaviour, largest, text))
    }

    /// R² below what the model keeps.
    fn below_behaviour(&self) -> Option<Reason> {
        let below = |score| self.difference(R2, score).filter(|d| d.value < 0.0);
        let (by_loss, by_mean) = (below(CE_REC)?, below(LOSS_SCORE_MEAN)?);
        let smaller = if by_loss.value > by_mean.value { by_loss } else { by_mean };
        let text = format!(
            "{} is below {} and {}: much of what is not reconstructed does not matter to the model. {}",
            self.named(R2),
            self.named(CE_REC),
            self.named(LOSS_SCORE_MEAN),
            self.sensitivity(),
        );
        Some(Self::reason(Rule::R2BelowBehaviour, &smaller, text))
    }

    /// Where errors lie: Fisher-weighted distortion, beside what it would be without preferred directions.
    fn sensitivity(&self) -> String {
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

    /// A loss score that owes its height to how bad zero ablation is.
    fn zero_ablation(&self, rule: Rule, other: Score) -> Option<Reason> {
        let difference = self.difference(LOSS_SCORE, other).filter(|d| d.value > 0.0)?;
        let (flattered, other) = (self.named(LOSS_SCORE), self.named(other));
        let text = match rule {
            Rule::LossScoreAboveMeanAblation => format!(
                "The {other} is below the {flattered}: the mean activation costs {} nats, zeros {}.",
                self.number("ce_mean"),
                self.number("ce_zero"),
            ),
            _ => format!(
                "The {flattered} flatters, {other} is lower: zeros cost {} nats where the model has {} and the SAE leaves {}.",
                self.number("ce_zero"),
                self.number("ce_orig"),
                self.number("ce_recon"),
            ),
        };
        Some(Self::reason(rule, &difference, text))
    }
}

fn definition(score: Score) -> &'static Metric {
    metric(score.metric).expect("a verdict's metrics are in METRICS")
}

#[cfg(test)]
mod tests {
    use assay_probes::stats::Resamples;

    use super::*;

    /// Twelve sequences, a little unlike one another; `change` makes the case.
    fn judged(change: impl Fn(&mut [Sums; 3])) -> Verdict {
        judged_of(12, change)
    }

    fn judged_of(count: usize, change: impl Fn(&mut [Sums; 3])) -> Verdict {
        let sequences: Vec<[Sums; 3]> = (0..count)
            .map(|i| {
                let wobble = 1.0 + 0.01 * (i % 4) as f64;
                let sums = Sums {
                    tokens: 100.0,
                    elements: 1000.0,
                    sse: 20.0 * wobble,
                    sst: 100.0,
                    norm_sq: 120.0,
                    scored: 99.0,
                    ce_orig: 300.0,
                    ce_recon: 360.0 * wobble,
                    ce_zero: 610.0,
                    ce_mean: 600.0,
                    kl: 20.0,
                    fwd: 2.0 * wobble,
                    fisher_trace: 1000.0,
                    drawn: 99.0,
                    sequences: 1.0,
                    ce_rec: 2.0 - 1.2 * wobble,
                    ..Sums::default()
                };
                let mut subsets = [sums; 3];
                change(&mut subsets);
                subsets
            })
            .collect();
        let counts = Resamples::draw(count, 500, 0).counts();
        verdict(&sequences, &Replicates::new(&sequences, &counts))
    }

    fn rules(verdict: &Verdict) -> Vec<Rule> {
        verdict.reasons.iter().map(|reason| reason.rule).collect()
    }

    #[test]
    fn scores_that_agree_leave_nothing_to_say() {
        let found = judged(|_| ());
        assert_eq!((found.misleading, rules(&found)), (Some(false), vec![]), "{}", found.text);
        assert!(found.text.starts_with("R² and behaviour agree: R² 0.797 ["), "{}", found.text);
    }

    #[test]
    fn a_few_tokens_may_carry_the_variance() {
        let found = judged(|subsets| {
            subsets[Subset::NoOutlier.index()].sst = 40.0;
            subsets[Subset::NoOutlier.index()].tokens = 98.0;
        });
        assert_eq!((found.misleading, rules(&found)), (Some(true), vec![Rule::MassiveTokens]));
        let reason = &found.reasons[0];
        assert!(reason.difference > 0.29 && reason.interval_95[0] > 0.0, "{reason:?}");
        assert!(
            reason.text.contains("2.0 % of the tokens") && reason.text.contains("60.0 % of the variance"),
            "{}",
            reason.text
        );
        let first = judged(|subsets| subsets[Subset::NoFirst.index()].sst = 40.0);
        assert_eq!(rules(&first), [Rule::FirstTokens]);
    }

    #[test]
    fn reconstruction_without_behaviour_is_named_with_where_errors_lie() {
        let lost = |fwd: f64| {
            judged(move |subsets| {
                subsets[0].ce_recon *= 1.4;
                subsets[0].ce_rec = 2.0 - 1.4 * (2.0 - subsets[0].ce_rec);
                subsets[0].fwd = fwd;
            })
        };
        let found = lost(50.0);
        assert_eq!(found.misleading, Some(true));
        assert_eq!(rules(&found)[0], Rule::R2AboveBehaviour);
        assert!(found.text.contains("errors lie where the loss is sensitive."), "{}", found.text);
        assert!(lost(0.5).text.contains("where the loss is less sensitive."), "{}", lost(0.5).text);
    }

    #[test]
    fn behaviour_without_reconstruction_is_named_too() {
        let found = judged(|subsets| subsets.iter_mut().for_each(|sums| sums.sse = 60.0));
        assert_eq!((found.misleading, rules(&found)), (Some(true), vec![Rule::R2BelowBehaviour]));
        assert!(found.reasons[0].difference < 0.0);
    }

    #[test]
    fn a_disastrous_ablation_flatters_the_loss_score_but_not_r2() {
        let found = judged(|subsets| subsets[0].ce_zero = 3000.0);
        assert_eq!(found.misleading, Some(false), "{}", found.text);
        assert_eq!(rules(&found), [Rule::LossScoreAboveCeRec, Rule::LossScoreAboveMeanAblation]);
        assert!(found.reasons.iter().all(|reason| reason.about == "ce_loss_score"));
        assert!(found.text.contains("zeros cost 30.30 nats where the model has 3.030"), "{}", found.text);
        assert!(found.text.contains("the mean activation costs 6.061 nats, zeros 30.30"), "{}", found.text);
    }

    #[test]
    fn small_or_uncertain_differences_decide_nothing() {
        // 0.09 apart: below the gap.
        let close = judged(|subsets| subsets.iter_mut().for_each(|sums| sums.sse = 13.0));
        assert_eq!(rules(&close), []);
        // Half of the sequences say one thing, half the other: the mean differs by more than the gap, but may be 0.
        let toggle = std::cell::Cell::new(false);
        let torn = judged(|subsets| {
            toggle.set(!toggle.get());
            let without = &mut subsets[Subset::NoOutlier.index()];
            without.sse = if toggle.get() { 0.0 } else { 70.0 };
        });
        assert_eq!(rules(&torn), []);
    }

    #[test]
    fn too_few_sequences_leave_it_undecided() {
        let found = judged_of(MIN_SEQUENCES - 1, |_| ());
        assert_eq!(found.misleading, None);
        assert!(found.text.contains("too few"), "{}", found.text);
        let undefined = judged(|subsets| subsets.iter_mut().for_each(|sums| sums.sst = 0.0));
        assert_eq!(undefined.misleading, None);
    }
}
