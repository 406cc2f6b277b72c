//! The verdict of one evaluation: does R² tell what the SAE keeps of the model?
//!
//! **What is compared.** R² with the loss score under mean ablation, (ce_mean − ce_recon)/(ce_mean − ce_orig). Both are 0 for an SAE
//! that gives the mean activation whatever it is given, and 1 for one that gives every activation back, so that their difference
//! has a meaning: it says how much further along the same way the one is than the other. CE_rec, the loss score under zero ablation
//! and KL have other zeros (a doubled loss, zeros in place of activations) or another unit. They stand beside it with their own
//! signs and decide nothing: CE_rec, say, divides by the model's own loss, so that one SAE scores higher on text that the
//! model finds harder.
//!
//! **How it is decided.** By the 95 % percentile interval of the paired difference, R² minus the loss score, over resampled sequences; the
//! same rule in both directions:
//!
//! | interval | outcome |
//! | --- | --- |
//! | inside ±[`AGREE`] | agree |
//! | above +[`DIFFER`] | R² overstates |
//! | below −[`DIFFER`] | R² understates |
//! | anything else | undecided, with roughly how many sequences would decide, if any number would |
//!
//! The two lie on either side of [`GAP`], by about as much as the difference of one SAE varies from text to text, of which the interval of
//! one text knows nothing: over the texts of `tests/verdict.rs`, from the model's training text to source code, its standard deviation
//! was 0.03 for one SAE and 0.01 for another. With GAP alone as threshold, the same SAE would agree on one text and be understated on the
//! next, each time with confidence.
//!
//! "Agree" is a claim of equivalence (two one-sided tests, Schuirmann 1987), for which a 90 % interval would do if it covered 90 %. On
//! sequences as skewed as text is, the percentile interval covers less than its level (about 92 instead of 95 % with 32
//! sequences), so the 95 % interval is taken, which the tables show too: each of the three claims is then wrong in about 5 % of draws at
//! worst, with the true difference at its threshold (`simulation.rs`).
//!
//! **What goes before it**, in this order, since a comparison would mean nothing:
//!
//! | case | outcome |
//! | --- | --- |
//! | ce_orig ≥ ln(vocabulary), ≥ ce_mean or ≥ ce_zero: the tokens are not this model's text | foreign tokens |
//! | no latent fires (L0 = 0): the reconstruction is one constant | useless |
//! | R² ≤ 0, and loss score ≤ 0 or CE_rec ≤ 0 (a doubled loss): both say the same | useless |
//! | R² undefined (activations that do not vary), or the loss score | undecided |
//! | fewer than [`MIN_SEQUENCES`] sequences or [`MIN_REPLICATES`] replicates, or no interval | undecided |
//!
//! R² > 0 with a loss score ≤ 0, and R² ≤ 0 with a behaviour of use, are differences like others: the interval decides, and the
//! text names the sign. Two scores that are both within GAP of 0 may agree; the text says that the SAE is of little use then.
//!
//! [`Reason`]s and [`Warning`]s qualify the outcome and never change it.

mod compare;
mod facts;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use assay_probes::Sums;
use assay_probes::metrics::{Subset, total};
use assay_probes::stats::Resamples;
use serde::Serialize;

use crate::frames::{Bootstrap, RunResult, Setting};
use crate::markdown;
use crate::replicates::Replicates;
use compare::{CE_REC, Difference, Evidence, LOSS_SCORE, LOSS_SCORE_MEAN, R2};
pub use facts::{Reason, Rule, Warning, WarningKind};

/// How far two scores must lie apart to contradict each other: a tenth of the way from the mean activation to a perfect
/// reconstruction. Less may be real, but changes no conclusion.
pub const GAP: f64 = 0.1;

/// Inside ± this the scores agree: [`GAP`], less what differs from text to text.
pub const AGREE: f64 = 0.075;

/// Beyond ± this they contradict each other: [`GAP`], and what differs from text to text.
pub const DIFFER: f64 = 0.125;

/// Fewer sequences than this decide nothing: the bootstrap's intervals are then too narrow (83 % of 95 at 8 sequences).
pub const MIN_SEQUENCES: usize = 32;

/// Fewer bootstrap replicates than this decide nothing: the ends of a 95 % interval rest on a fortieth of them.
pub const MIN_REPLICATES: usize = 1000;

/// What an evaluation says of R².
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The two scores differ by less than [`AGREE`].
    Agree,
    /// R² is higher by more than [`DIFFER`].
    Overstates,
    /// R² is lower by more than [`DIFFER`].
    Understates,
    /// Anything between, or there is no interval that could decide.
    Undecided,
    /// The SAE is of no use, and both scores say so.
    Useless,
    /// The tokens are not this model's text, so that no score means anything.
    ForeignTokens,
}

/// R² beside a score of behaviour.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The metric.
    pub score: &'static str,
    /// Whether it decides the verdict: the loss score under mean ablation does.
    pub decides: bool,
    /// R² minus the score; null where one is undefined.
    pub difference: Option<f64>,
    /// The 95 % interval of that.
    pub interval_95: Option<[f64; 2]>,
    /// What this interval alone would say.
    pub outcome: Outcome,
}

/// The verdict of an evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// [`AGREE`].
    pub agree_within: f64,
    /// [`DIFFER`].
    pub differ_beyond: f64,
    /// R² beside the scores of behaviour, the one that decides first.
    pub comparisons: Vec<Comparison>,
    /// Where it is undecided, roughly how many sequences like these would decide; null where none would, or nobody can say.
    pub sequences_needed: Option<usize>,
    /// Scores that owe what they are to a few tokens, or to a weak opponent.
    pub reasons: Vec<Reason>,
    /// What else a reader of the scores has to know.
    pub warnings: Vec<Warning>,
    /// All of it in words: one plain sentence, the numbers that decide, then a line for each explanation, reason and warning.
    pub text: String,
}

/// Judges a run of a sweep on the held-out text that it was evaluated on, by the sweep's own bootstrap.
pub fn of_run(run: &RunResult, bootstrap: Bootstrap, vocab_size: usize) -> Verdict {
    let counts = Resamples::draw(run.sequences.len(), bootstrap.resamples, bootstrap.seed).counts();
    judge(&run.sequences, &Replicates::new(&run.sequences, &counts), vocab_size, Some(&run.setting))
}

/// Judges an evaluation by the sums of its sequences and their bootstrap replicates. `vocab_size` is the model's.
pub fn verdict(sequences: &[[Sums; 3]], replicates: &Replicates, vocab_size: usize) -> Verdict {
    judge(sequences, replicates, vocab_size, None)
}

/// The same of an SAE that was trained here with a setting, or of which nobody knows how it was trained.
fn judge(sequences: &[[Sums; 3]], replicates: &Replicates, vocab_size: usize, trained: Option<&Setting>) -> Verdict {
    let evidence = Evidence { sequences: sequences.len(), totals: total(sequences), replicates, vocab_size, trained };
    let comparisons: Vec<Comparison> =
        [LOSS_SCORE_MEAN, CE_REC, LOSS_SCORE].into_iter().map(|score| evidence.comparison(score)).collect();
    let main = evidence.difference(R2, LOSS_SCORE_MEAN);
    let outcome = evidence.outcome(main.as_ref());
    let undecided = outcome == Outcome::Undecided;
    let sequences_needed = main.as_ref().filter(|_| undecided).and_then(|d| d.sequences_needed(sequences.len()));
    // What qualifies a score is said only where scores mean something.
    let foreign = outcome == Outcome::ForeignTokens;
    let reasons = if foreign { Vec::new() } else { evidence.reasons() };
    let warnings = evidence.warnings(outcome);
    let numbers = evidence.numbers(outcome, main.as_ref(), sequences_needed);
    let explained = matches!(outcome, Outcome::Overstates | Outcome::Understates).then(|| evidence.explanation());
    let text = [evidence.sentence(outcome), numbers]
        .into_iter()
        .chain((!foreign).then(|| evidence.beside(&comparisons)))
        .chain(explained)
        .chain(reasons.iter().map(|reason| reason.text.clone()))
        .chain(warnings.iter().map(|warning| warning.text.clone()))
        .collect::<Vec<_>>()
        .join("\n- ");
    Verdict {
        outcome,
        agree_within: AGREE,
        differ_beyond: DIFFER,
        comparisons,
        sequences_needed,
        reasons,
        warnings,
        text,
    }
}

impl Evidence<'_> {
    /// The table of cases.
    fn outcome(&self, main: Option<&Difference>) -> Outcome {
        let at_most_zero = |score| self.value(score).is_some_and(|value| value <= 0.0);
        if self.is_foreign() {
            Outcome::ForeignTokens
        } else if self.has_no_live_latent()
            || at_most_zero(R2) && (at_most_zero(LOSS_SCORE_MEAN) || at_most_zero(CE_REC))
        {
            Outcome::Useless
        } else if self.sequences < MIN_SEQUENCES || self.replicate_count() < MIN_REPLICATES {
            Outcome::Undecided
        } else {
            main.map_or(Outcome::Undecided, Difference::outcome)
        }
    }

    /// The outcome in one plain sentence, for a reader who knows none of the metrics.
    fn sentence(&self, outcome: Outcome) -> String {
        let share = |score| self.value(score).map(|value| format!("{:.0} %", 100.0 * value));
        let (r2, kept) = (share(R2), share(LOSS_SCORE_MEAN));
        let keeps = match self.value(LOSS_SCORE_MEAN) {
            Some(value) if value <= 0.0 => "nothing".to_owned(),
            _ => kept.clone().unwrap_or_default(),
        };
        let keeps = format!("On this text the SAE keeps {keeps} of what the activation does for the model's loss");
        let r2_is = match self.value(R2) {
            Some(value) if value <= 0.0 => ": it is not even above 0".to_owned(),
            _ => format!(" ({})", r2.clone().unwrap_or_default()),
        };
        match outcome {
            Outcome::Agree => {
                let little = [R2, LOSS_SCORE_MEAN].iter().all(|score| self.value(*score).is_some_and(|v| v < GAP));
                let of_use = if little { ": the SAE is of little use" } else { "" };
                format!("{keeps}, and R² says about as much{r2_is}{of_use}.")
            }
            Outcome::Overstates => format!("{keeps}; R² overstates that{r2_is}."),
            Outcome::Understates => format!("{keeps}; R² understates that{r2_is}."),
            Outcome::Undecided => match r2.zip(kept) {
                Some((r2, _)) if self.value(R2).is_some_and(|value| value <= 0.0) => format!(
                    "{keeps}, while R² is negative ({r2}): its reconstructions lie farther from the activations than their mean does."
                ),
                Some((r2, _)) => format!("{keeps}; whether R² ({r2}) tells that is undecided."),
                None => "It is undecided whether R² tells what the SAE keeps of the model on this text.".to_owned(),
            },
            Outcome::Useless => "On this text the SAE is of no use to the model, and R² says so too.".to_owned(),
            Outcome::ForeignTokens => "There is no verdict, because these tokens are not this model's text.".to_owned(),
        }
    }

    /// The numbers by which it was decided.
    fn numbers(&self, outcome: Outcome, main: Option<&Difference>, needed: Option<usize>) -> String {
        let scores = format!("{} and {}", self.named(R2), self.named(LOSS_SCORE_MEAN));
        let by = main.map_or_else(|| markdown::NONE.to_owned(), Difference::shown);
        match outcome {
            Outcome::Agree => format!("{scores} differ by {by}, within ±{AGREE}."),
            Outcome::Overstates => format!("{scores} differ by {by}, more than {DIFFER}."),
            Outcome::Understates => format!("{scores} differ by {by}, more than {DIFFER} the other way."),
            Outcome::Undecided => self.why_undecided(main, needed),
            Outcome::Useless => {
                let why = if self.has_no_live_latent() { "No latent fires (L0 is 0). " } else { "" };
                format!(
                    "{why}{}, {}, {}; 0 is the mean activation, or a doubled loss.",
                    self.named(R2),
                    self.named(LOSS_SCORE_MEAN),
                    self.named(CE_REC)
                )
            }
            Outcome::ForeignTokens => self.why_foreign(),
        }
    }

    fn why_undecided(&self, main: Option<&Difference>, needed: Option<usize>) -> String {
        let undefined: Vec<&str> = [R2, LOSS_SCORE_MEAN]
            .iter()
            .filter(|score| self.value(**score).is_none())
            .map(|score| score.name)
            .collect();
        if !undefined.is_empty() {
            let the = if undefined[0] == R2.name { "" } else { "The " };
            return format!("{the}{} is undefined here.", undefined.join(" and the "));
        }
        let Some(main) = main else {
            return "In some of the resamples one of the scores is undefined, because the mean activation costs hardly more than the \
                    model's own; other or more text would decide."
                .to_owned();
        };
        let by = format!("{} and {} differ by {}", self.named(R2), self.named(LOSS_SCORE_MEAN), main.shown());
        if self.replicate_count() < MIN_REPLICATES {
            let count = self.replicate_count();
            return format!(
                "{by}, by {count} bootstrap replicates, which are too few; give --resamples {MIN_REPLICATES} or more."
            );
        }
        if self.sequences < MIN_SEQUENCES {
            let count = self.sequences;
            let needed = needed
                .filter(|n| *n > MIN_SEQUENCES)
                .map_or_else(String::new, |n| format!(" (roughly {n} would decide)"));
            return format!("{by}, and {count} sequences are too few: give {MIN_SEQUENCES} or more{needed}.");
        }
        let remedy = needed.map_or_else(
            || {
                format!(
                    "a difference between {AGREE} and {DIFFER} depends on the choice of text, so more sequences of this text would not decide"
                )
            },
            |n| format!("roughly {n} sequences like these would decide"),
        );
        format!("{by}, which is neither surely within ±{AGREE} nor surely beyond ±{DIFFER}; {remedy}.")
    }

    /// The scores that decide nothing, with their own signs.
    fn beside(&self, comparisons: &[Comparison]) -> String {
        let shown: Vec<String> = comparisons
            .iter()
            .zip([LOSS_SCORE_MEAN, CE_REC, LOSS_SCORE])
            .filter(|(comparison, _)| !comparison.decides)
            .map(|(comparison, score)| {
                let difference = markdown::signed(comparison.difference);
                format!("{} (R² minus it: {difference})", self.named(score))
            })
            .collect();
        format!("Beside it, on other scales: {}, KL {} nats.", shown.join(", "), self.number("kl"))
    }

    /// What becomes of the loss, and where errors lie.
    fn explanation(&self) -> String {
        format!(
            "The loss goes from {} to {} nats. {}",
            self.number("ce_orig"),
            self.number("ce_recon"),
            self.sensitivity()
        )
    }

    /// Whether the code is empty on every token.
    fn has_no_live_latent(&self) -> bool {
        let sums = &self.totals[Subset::All.index()];
        sums.tokens > 0.0 && sums.l0 == 0.0
    }
}
