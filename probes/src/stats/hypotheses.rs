//! The decision rules for H0 to H3 of the reference write-up (part 2, "hypothesis stack"), fixed before the data are
//! seen.
//!
//! Every rule is a function of numbers, so that a report can print the numbers beside the verdict. "Δ" is the larger
//! model minus the smaller, at the same depth and k. No rule subtracts scores of different units, and each has three outcomes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;

/// Differences of ce_rec up to this, either way, count as none.
pub const CE_REC_MARGIN: f64 = 0.01;
/// Training seeds below which nothing is decided.
pub const MIN_SEEDS: usize = 3;
/// Cells (model, depth, k) below which correlations get no interval and H2 is not decided.
pub const MIN_CELLS: usize = 12;
/// Regimes (pairs of model and depth) below which H3 is not decided.
pub const MIN_REGIMES: usize = 12;
/// The chance of a wrong decision that H2 allows all of its tests together.
pub const ALPHA: f64 = 0.05;

/// A hypothesis and the rule that decides it, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hypothesis {
    /// H0 to H3.
    pub name: &'static str,
    /// What it says.
    pub claim: &'static str,
    /// How it is decided.
    pub rule: &'static str,
}

/// The four, in the order in which they are decided.
pub const HYPOTHESES: [Hypothesis; 4] = [
    Hypothesis {
        name: "H0",
        claim: "Optimisation only: the difference in ce_rec between models vanishes as SAEs are trained longer.",
        rule: "Supported if the 90 % interval of Δce_rec (pooled over tokens) at the largest token budget lies within ±0.01 (two one-sided tests at 5 %). \
               Rejected if its 95 % interval lies wholly outside and the difference has stopped closing: the 90 % interval of what the \
               last increase of the budget changed rules out that it closed by more than 0.01. Undecided otherwise, below 3 seeds, and \
               with a single token budget.",
    },
    Hypothesis {
        name: "H1",
        claim: "A residual gap: once training has converged, the models' SAEs differ in ce_rec at equal R².",
        rule: "Looks at Δce_rec (pooled) at equal R²: the larger model's ce_rec minus that of the smaller model's path at the same R², linear between \
               neighbouring k, at the largest token budget. Supported if the 95 % interval lies wholly outside ±0.01, rejected if the 90 % interval lies \
               within, undecided otherwise, below 3 seeds, with a single token budget, and where the two paths have no R² in common.",
    },
    Hypothesis {
        name: "H2",
        claim: "Geometry-aware proxies: sensitivity-weighted distortion predicts ce_rec better than R² does.",
        rule: "Compares Pearson's correlation with the pooled ce_rec within fixed depth and k, of −SWD and of −FWD against R². Supported if the \
               proxy's is higher and a test that swaps the two in blocks of one depth and k rejects that they are exchangeable, rejected if it is lower and the \
               test does; p-values by Holm over the proxies, 5 % for all together. Interpreted only once H0 or H1 is decided at every k. \
               Undecided below 3 seeds or 12 cells (model, depth, k).",
    },
    Hypothesis {
        name: "H3",
        claim: "Dimensional mismatch: task-relevant dimensionality departs from the participation ratio where proxies \
               fail worst.",
        rule: "Supported if the interval of the rank correlation, over regimes (model, depth), between |ln(dimensionality \
               inferred from mutual information / participation ratio)| and the size of the proxy failure lies above 0, \
               rejected if it lies below 0, undecided if it contains 0. Interpreted only once H0 or H1 is decided at every k. Undecided \
               below 12 regimes or below 3 seeds.",
    },
];

/// What the data say about a hypothesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Its rule is met.
    Supported,
    /// The opposite is.
    Rejected,
    /// Neither, with the reason in words.
    Undecided(String),
}

impl Decision {
    /// Whether there is a decision.
    pub fn is_decided(&self) -> bool {
        !matches!(self, Self::Undecided(_))
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Supported => f.write_str("supported"),
            Self::Rejected => f.write_str("rejected"),
            Self::Undecided(reason) => write!(f, "undecided: {reason}"),
        }
    }
}

/// What a sweep can tell at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Training seeds behind the numbers; the fewest of any cell.
    pub seeds: usize,
    /// Different token budgets of the sweep.
    pub budgets: usize,
}

impl Evidence {
    fn enough_seeds(&self) -> Result<(), String> {
        if self.seeds < MIN_SEEDS {
            let s = if self.seeds == 1 { "" } else { "s" };
            return Err(format!("{} training seed{s}, and at least {MIN_SEEDS} are needed", self.seeds));
        }
        Ok(())
    }

    fn shows_a_trend(&self) -> Result<(), String> {
        self.enough_seeds()?;
        if self.budgets < 2 {
            return Err("a single token budget, in which no trend with training can be seen".into());
        }
        Ok(())
    }
}

const MARGIN: Interval = Interval { low: -CE_REC_MARGIN, high: CE_REC_MARGIN };

/// A difference with the two intervals that rules read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Of 95 %: it excludes what a two-sided test at 5 % rejects.
    pub test: Interval,
    /// Of 90 %: within a margin, two one-sided tests at 5 % show equivalence (Schuirmann 1987).
    pub equivalence: Interval,
}

impl Difference {
    fn is_negligible(&self) -> bool {
        MARGIN.contains(self.equivalence.low) && MARGIN.contains(self.equivalence.high)
    }

    fn is_beyond(&self) -> bool {
        !MARGIN.overlaps(&self.test)
    }

    fn straddles(&self) -> Decision {
        Decision::Undecided(format!("the interval {} straddles an edge of ±{CE_REC_MARGIN}", show(self.test)))
    }
}

/// H0, from Δce_rec at the largest token budget and from what it changed since the budget before.
pub fn h0(last: Option<Difference>, change: Option<Difference>, evidence: Evidence) -> Decision {
    decide(evidence.shows_a_trend(), last.zip(change), |(last, change)| {
        // Towards 0 is up for a difference below it.
        let closed = if last.test.high < 0.0 { change.equivalence.high } else { -change.equivalence.low };
        if last.is_negligible() {
            Decision::Supported
        } else if !last.is_beyond() {
            last.straddles()
        } else if closed > CE_REC_MARGIN {
            let (by, margin) = (show(change.equivalence), CE_REC_MARGIN);
            Decision::Undecided(format!(
                "the difference may still be closing: the last budget changed it by {by} (90 %), and {margin} counts"
            ))
        } else {
            Decision::Rejected
        }
    })
}

/// H1, from Δce_rec at equal R² at the largest token budget.
pub fn h1(at_equal_r2: Option<Difference>, evidence: Evidence) -> Decision {
    let in_common = || at_equal_r2.ok_or_else(|| "the two paths have no R² in common there".to_owned());
    decide(evidence.shows_a_trend().and_then(|()| in_common().map(|_| ())), at_equal_r2, |difference| {
        if difference.is_negligible() {
            Decision::Rejected
        } else if difference.is_beyond() {
            Decision::Supported
        } else {
            difference.straddles()
        }
    })
}

/// H2, from the difference of two correlations and its p-value, adjusted for all tests of the report, over `cells` of the grid.
pub fn h2(difference: Option<f64>, p: Option<f64>, cells: usize, evidence: Evidence, released: bool) -> Decision {
    let enough = || {
        evidence.enough_seeds()?;
        if cells < MIN_CELLS {
            return Err(format!("{cells} cells, and at least {MIN_CELLS} are needed"));
        }
        adjudicated(released)
    };
    decide(enough(), difference.zip(p), |(difference, p)| {
        if p > ALPHA {
            Decision::Undecided(format!("p = {p:.3} by Holm"))
        } else if difference > 0.0 {
            Decision::Supported
        } else {
            Decision::Rejected
        }
    })
}

/// H3, from the interval of the rank correlation between |ln(inferred dimensionality / participation ratio)| and
/// the size of the proxy failure over `regimes` pairs of model and depth.
pub fn h3(correlation: Option<Interval>, regimes: usize, evidence: Evidence, released: bool) -> Decision {
    let enough = || {
        evidence.enough_seeds()?;
        if regimes < MIN_REGIMES {
            let s = if regimes == 1 { "" } else { "s" };
            return Err(format!("{regimes} regime{s}, and at least {MIN_REGIMES} are needed"));
        }
        adjudicated(released)
    };
    decide(enough(), correlation, sign)
}

fn adjudicated(released: bool) -> Result<(), String> {
    if released { Ok(()) } else { Err("neither H0 nor H1 is decided at every k".into()) }
}

fn decide<T>(enough: Result<(), String>, numbers: Option<T>, rule: impl Fn(T) -> Decision) -> Decision {
    match (enough, numbers) {
        (Err(reason), _) => Decision::Undecided(reason),
        (Ok(()), None) => Decision::Undecided("the interval is undefined".into()),
        (Ok(()), Some(numbers)) => rule(numbers),
    }
}

/// Above 0, below it, or neither.
fn sign(interval: Interval) -> Decision {
    if !interval.excludes_zero() {
        Decision::Undecided(format!("the interval {} contains 0", show(interval)))
    } else if interval.low > 0.0 {
        Decision::Supported
    } else {
        Decision::Rejected
    }
}

fn show(interval: Interval) -> String {
    format!("[{:+.3}, {:+.3}]", interval.low, interval.high)
}

#[cfg(test)]
mod tests {
    use super::Decision::*;
    use super::*;
    use crate::stats::StandardError;
    use crate::stats::crossed::tests::normal;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const ENOUGH: Evidence = Evidence { seeds: 3, budgets: 2 };

    /// A difference of that size, known with that standard error.
    fn difference(value: f64, error: f64) -> Option<Difference> {
        let error = StandardError { value: error, df: 60.0 };
        Some(Difference { test: error.interval(value, 0.95)?, equivalence: error.interval(value, 0.90)? })
    }

    fn reason(verdict: &Decision) -> &str {
        match verdict {
            Undecided(reason) => reason,
            decided => panic!("{decided}"),
        }
    }

    #[test]
    fn h0_asks_whether_the_difference_is_gone_or_has_stopped_closing() {
        let flat = difference(0.002, 0.003);
        assert_eq!(h0(difference(0.001, 0.003), flat, ENOUGH), Supported);
        assert_eq!(h0(difference(-0.05, 0.01), flat, ENOUGH), Rejected);
        assert_eq!(h0(difference(0.05, 0.01), flat, ENOUGH), Rejected);
        // It widens: that is no closing.
        assert_eq!(h0(difference(-0.05, 0.01), difference(-0.03, 0.005), ENOUGH), Rejected);
        assert_eq!(h0(difference(0.05, 0.01), difference(0.03, 0.005), ENOUGH), Rejected);
        assert!(reason(&h0(difference(-0.083, 0.015), difference(0.116, 0.03), ENOUGH)).contains("still be closing"));
        assert!(reason(&h0(difference(0.083, 0.015), difference(-0.116, 0.03), ENOUGH)).contains("still be closing"));
        assert!(reason(&h0(difference(-0.022, 0.0107), flat, ENOUGH)).contains("straddles"));
        assert_eq!(reason(&h0(None, flat, ENOUGH)), "the interval is undefined");
    }

    #[test]
    fn h1_asks_for_more_than_the_margin() {
        assert_eq!(h1(difference(0.087, 0.002), ENOUGH), Supported);
        assert_eq!(h1(difference(-0.03, 0.005), ENOUGH), Supported);
        // Away from 0, and negligible all the same.
        assert_eq!(h1(difference(0.005, 0.0015), ENOUGH), Rejected);
        assert!(reason(&h1(difference(0.02, 0.01), ENOUGH)).contains("straddles"));
        assert_eq!(reason(&h1(None, ENOUGH)), "the two paths have no R² in common there");
    }

    #[test]
    fn few_seeds_or_one_budget_decide_nothing() {
        let one_seed = Evidence { seeds: 1, budgets: 2 };
        let one_budget = Evidence { seeds: 4, budgets: 1 };
        let large = difference(0.15, 0.01);
        for rule in [|d, e| h0(d, d, e), h1] {
            assert_eq!(reason(&rule(large, one_seed)), "1 training seed, and at least 3 are needed");
            let verdict = rule(large, one_budget);
            assert_eq!(reason(&verdict), "a single token budget, in which no trend with training can be seen");
        }
        let two_seeds = Evidence { seeds: 2, budgets: 2 };
        let interval = Some(Interval { low: 0.1, high: 0.2 });
        assert!(reason(&h2(Some(0.1), Some(0.01), 12, two_seeds, true)).starts_with("2 training seeds"));
        assert!(reason(&h3(interval, 12, two_seeds, true)).starts_with("2 training seeds"));
    }

    #[test]
    fn h2_and_h3_wait_for_h0_or_h1_and_for_enough_rows() {
        let h2 = |difference, p, cells, released| h2(Some(difference), Some(p), cells, ENOUGH, released);
        assert_eq!(h2(0.1, 0.04, 12, true), Supported);
        assert_eq!(h2(-0.1, 0.04, 12, true), Rejected);
        assert_eq!(reason(&h2(0.1, 0.06, 12, true)), "p = 0.060 by Holm");
        assert_eq!(reason(&h2(0.1, 0.04, 8, true)), "8 cells, and at least 12 are needed");
        assert_eq!(reason(&h2(0.1, 0.04, 12, false)), "neither H0 nor H1 is decided at every k");
        let h3 = |low, high, regimes, released| h3(Some(Interval { low, high }), regimes, ENOUGH, released);
        assert_eq!(h3(0.1, 0.4, 12, true), Supported);
        assert_eq!(h3(-0.4, -0.1, 12, true), Rejected);
        assert_eq!(reason(&h3(0.1, 0.4, 6, true)), "6 regimes, and at least 12 are needed");
        assert_eq!(reason(&h3(0.1, 0.4, 12, false)), "neither H0 nor H1 is decided at every k");
        assert_eq!(reason(&h3(0.0, 0.5, 12, true)), "the interval [+0.000, +0.500] contains 0");
    }

    /// At a true difference on the very edge of the margin a wrong decision either way is made in at most 5 % (equivalence) or
    /// 2.5 % (beyond) of samples; standard errors as in the sweeps.
    #[test]
    fn a_difference_on_the_edge_is_decided_wrongly_no_more_often_than_the_level() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        for error in [0.002, 0.005, 0.02] {
            let (mut negligible, mut beyond, samples) = (0, 0, 4000);
            for _ in 0..samples {
                let found = difference(CE_REC_MARGIN + error * normal(&mut rng), error);
                match h1(found, ENOUGH) {
                    Rejected => negligible += 1,
                    Supported => beyond += 1,
                    Undecided(_) => {}
                }
            }
            let share = |count: i32| f64::from(count) / f64::from(samples);
            // The standard error of a share of 4,000 near 0.05 is 0.35 %.
            assert!(share(negligible) <= 0.06, "{error}: {}", share(negligible));
            assert!(share(beyond) <= 0.035, "{error}: {}", share(beyond));
        }
    }

    #[test]
    fn the_rules_name_the_limits_that_the_code_uses() {
        assert!(HYPOTHESES[0].rule.contains(&format!("±{CE_REC_MARGIN}")));
        assert!(HYPOTHESES[1].rule.contains(&format!("±{CE_REC_MARGIN}")));
        assert!(HYPOTHESES.iter().all(|h| h.rule.contains(&format!("{MIN_SEEDS} seeds"))));
        assert!(HYPOTHESES[2].rule.contains(&format!("{MIN_CELLS} cells")));
        assert!(HYPOTHESES[2].rule.contains(&format!("{} %", 100.0 * ALPHA)));
        assert!(HYPOTHESES[3].rule.contains(&format!("{MIN_REGIMES} regimes")));
        assert_eq!(Undecided("why".into()).to_string(), "undecided: why");
    }
}
