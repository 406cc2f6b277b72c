//! The decision rules for H0 to H3 of the reference write-up (part 2, "hypothesis stack"), fixed before the data are
//! seen.
//!
//! Every rule is a function of numbers, so that a report can print the numbers beside the verdict. "Δ" is the larger
//! model minus the smaller, at the same depth and k; intervals are of the level the report states.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;

/// Differences of ce_rec up to this, either way, count as none.
pub const CE_REC_MARGIN: f64 = 0.01;
/// Training seeds below which nothing is decided.
pub const MIN_SEEDS: usize = 3;
/// Regimes (pairs of model and depth) below which H3 is not decided.
pub const MIN_REGIMES: usize = 6;

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
        rule: "Supported if the interval of Δce_rec at the largest token budget lies within ±0.01, rejected if it lies \
               wholly outside, undecided if it straddles an edge. Undecided below 3 seeds or with a single token \
               budget.",
    },
    Hypothesis {
        name: "H1",
        claim: "A residual gap: R² and ce_rec still differ in how far they favour one model once training has \
               converged.",
        rule: "Supported if the interval of ΔR² − Δce_rec at the largest token budget excludes 0 (its sign says which way), \
               rejected if it lies within ±0.01, undecided otherwise: such data show no gap and could have missed one. \
               Undecided below 3 seeds or with a single token budget.",
    },
    Hypothesis {
        name: "H2",
        claim: "Geometry-aware proxies: sensitivity-weighted distortion predicts ce_rec better than R² does.",
        rule: "Supported if the paired interval of ρ(proxy, ce_rec) − ρ(R², ce_rec) lies above 0, rejected if it lies below 0, \
               undecided if it holds 0; the proxy is 1/swd, and likewise 1/fwd. Signed: higher is meant to be better, so a \
               proxy that goes against ce_rec is a bad one, however closely. Interpreted only once H0 or H1 is decided. \
               Undecided below 3 seeds.",
    },
    Hypothesis {
        name: "H3",
        claim: "Dimensional mismatch: task-relevant dimensionality departs from the participation ratio where proxies \
               fail worst.",
        rule: "Supported if the interval of the rank correlation, over regimes (model, depth), between |ln(dimensionality \
               inferred from mutual information / participation ratio)| and the size of the proxy failure lies above 0, \
               rejected if it lies below 0, undecided if it holds 0. Interpreted only once H0 or H1 is decided. Undecided \
               below 6 regimes or below 3 seeds.",
    },
];

/// What the data say about a hypothesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Its rule is met.
    Supported,
    /// The opposite is.
    Rejected,
    /// Neither, with the reason in words.
    Undecided(String),
}

impl Verdict {
    /// Whether there is a decision.
    pub fn is_decided(&self) -> bool {
        !matches!(self, Self::Undecided(_))
    }
}

impl fmt::Display for Verdict {
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

fn is_negligible(interval: Interval) -> bool {
    MARGIN.contains(interval.low) && MARGIN.contains(interval.high)
}

/// H0, from the interval of Δce_rec at the largest token budget.
pub fn h0(delta_ce_rec: Option<Interval>, evidence: Evidence) -> Verdict {
    decide(evidence.shows_a_trend(), delta_ce_rec, |interval| {
        if is_negligible(interval) {
            Verdict::Supported
        } else if !MARGIN.overlaps(&interval) {
            Verdict::Rejected
        } else {
            Verdict::Undecided(format!("the interval {} straddles an edge of ±{CE_REC_MARGIN}", show(interval)))
        }
    })
}

/// H1, from the interval of ΔR² − Δce_rec at the largest token budget.
pub fn h1(residual_gap: Option<Interval>, evidence: Evidence) -> Verdict {
    decide(evidence.shows_a_trend(), residual_gap, |interval| {
        if interval.excludes_zero() {
            Verdict::Supported
        } else if is_negligible(interval) {
            Verdict::Rejected
        } else {
            Verdict::Undecided(format!("the interval {} holds 0 and reaches beyond ±{CE_REC_MARGIN}", show(interval)))
        }
    })
}

/// H2, from the paired interval of ρ(proxy, ce_rec) − ρ(R², ce_rec), and the verdicts on H0 and H1.
pub fn h2(advantage: Option<Interval>, evidence: Evidence, h0: &Verdict, h1: &Verdict) -> Verdict {
    decide(evidence.enough_seeds().and_then(|()| adjudicated(h0, h1)), advantage, sign)
}

/// H3, from the interval of the rank correlation between |ln(inferred dimensionality / participation ratio)| and
/// the size of the proxy failure over `regimes` pairs of model and depth, and the verdicts on H0 and H1.
pub fn h3(correlation: Option<Interval>, regimes: usize, evidence: Evidence, h0: &Verdict, h1: &Verdict) -> Verdict {
    let enough = || {
        evidence.enough_seeds()?;
        if regimes < MIN_REGIMES {
            let s = if regimes == 1 { "" } else { "s" };
            return Err(format!("{regimes} regime{s}, and at least {MIN_REGIMES} are needed"));
        }
        adjudicated(h0, h1)
    };
    decide(enough(), correlation, sign)
}

fn adjudicated(h0: &Verdict, h1: &Verdict) -> Result<(), String> {
    if h0.is_decided() || h1.is_decided() { Ok(()) } else { Err("neither H0 nor H1 is decided".into()) }
}

fn decide(enough: Result<(), String>, interval: Option<Interval>, rule: impl Fn(Interval) -> Verdict) -> Verdict {
    match (enough, interval) {
        (Err(reason), _) => Verdict::Undecided(reason),
        (Ok(()), None) => Verdict::Undecided("the interval is undefined".into()),
        (Ok(()), Some(interval)) => rule(interval),
    }
}

fn sign(interval: Interval) -> Verdict {
    if interval.low > 0.0 {
        Verdict::Supported
    } else if interval.high < 0.0 {
        Verdict::Rejected
    } else {
        Verdict::Undecided(format!("the interval {} holds 0", show(interval)))
    }
}

fn show(interval: Interval) -> String {
    format!("[{:.3}, {:.3}]", interval.low, interval.high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Rejected, Supported};

    const ENOUGH: Evidence = Evidence { seeds: 3, budgets: 2 };

    fn interval(low: f64, high: f64) -> Option<Interval> {
        Some(Interval { low, high })
    }

    fn reason(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Undecided(reason) => reason,
            decided => panic!("{decided}"),
        }
    }

    /// The intervals of Δce_rec that part 2 gives for the middle layer at k = 8: 10M tokens (were it the largest
    /// budget), and 100M tokens, whose upper end of +0.013 leaves H0 open.
    #[test]
    fn the_published_intervals() {
        assert_eq!(h0(interval(-0.117, -0.082), ENOUGH), Rejected);
        assert_eq!(
            reason(&h0(interval(0.004, 0.013), ENOUGH)),
            "the interval [0.004, 0.013] straddles an edge of ±0.01"
        );
    }

    #[test]
    fn h0_asks_where_the_whole_interval_lies() {
        assert_eq!(h0(interval(-0.01, 0.01), ENOUGH), Supported);
        assert_eq!(h0(interval(0.004, 0.009), ENOUGH), Supported);
        assert_eq!(h0(interval(0.011, 0.02), ENOUGH), Rejected);
        assert!(!h0(interval(-0.05, 0.05), ENOUGH).is_decided());
        assert_eq!(reason(&h0(None, ENOUGH)), "the interval is undefined");
    }

    #[test]
    fn h1_asks_for_zero() {
        assert_eq!(h1(interval(0.083, 0.091), ENOUGH), Supported);
        assert_eq!(h1(interval(-0.05, -0.01), ENOUGH), Supported);
        assert_eq!(h1(interval(-0.01, 0.01), ENOUGH), Rejected);
        let wide = h1(interval(-0.01, 0.05), ENOUGH);
        assert_eq!(reason(&wide), "the interval [-0.010, 0.050] holds 0 and reaches beyond ±0.01");
    }

    #[test]
    fn few_seeds_or_one_budget_decide_nothing() {
        let one_seed = Evidence { seeds: 1, budgets: 2 };
        let one_budget = Evidence { seeds: 4, budgets: 1 };
        for rule in [h0, h1] {
            assert_eq!(reason(&rule(interval(0.1, 0.2), one_seed)), "1 training seed, and at least 3 are needed");
            let verdict = rule(interval(0.1, 0.2), one_budget);
            assert_eq!(reason(&verdict), "a single token budget, in which no trend with training can be seen");
        }
        let two_seeds = Evidence { seeds: 2, budgets: 2 };
        assert!(reason(&h2(interval(0.1, 0.2), two_seeds, &Rejected, &Supported)).starts_with("2 training seeds"));
        assert!(reason(&h3(interval(0.1, 0.2), 6, two_seeds, &Rejected, &Supported)).starts_with("2 training seeds"));
    }

    #[test]
    fn h2_and_h3_wait_for_h0_or_h1() {
        let open = Verdict::Undecided("x".into());
        let h3 = |interval, regimes, h0: &Verdict, h1: &Verdict| h3(interval, regimes, ENOUGH, h0, h1);
        for (ends, expected) in [((0.1, 0.4), Supported), ((-0.4, -0.1), Rejected)] {
            let interval = interval(ends.0, ends.1);
            for (h0, h1) in [(&open, &Supported), (&Rejected, &open), (&Supported, &Rejected)] {
                assert_eq!(h2(interval, ENOUGH, h0, h1), expected);
                assert_eq!(h3(interval, 6, h0, h1), expected);
            }
            assert_eq!(reason(&h2(interval, ENOUGH, &open, &open)), "neither H0 nor H1 is decided");
            assert_eq!(reason(&h3(interval, 6, &open, &open)), "neither H0 nor H1 is decided");
            assert_eq!(reason(&h3(interval, 5, &Rejected, &open)), "5 regimes, and at least 6 are needed");
        }
        assert_eq!(
            reason(&h2(interval(-0.137, 0.75), ENOUGH, &open, &Supported)),
            "the interval [-0.137, 0.750] holds 0"
        );
        assert!(!h3(interval(0.0, 0.5), 6, &open, &Supported).is_decided());
    }

    #[test]
    fn the_rules_name_the_limits_that_the_code_uses() {
        assert!(HYPOTHESES[0].rule.contains(&format!("±{CE_REC_MARGIN}")));
        assert!(HYPOTHESES.iter().all(|h| h.rule.contains(&format!("{MIN_SEEDS} seeds"))));
        assert!(HYPOTHESES[3].rule.contains(&format!("{MIN_REGIMES} regimes")));
        assert_eq!(Verdict::Undecided("why".into()).to_string(), "undecided: why");
    }
}
