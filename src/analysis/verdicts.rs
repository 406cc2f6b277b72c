//! The hypotheses: each rule's numbers and what follows from them.

use assay_probes::stats::Interval;
use assay_probes::stats::hypotheses::{Evidence, HYPOTHESES, Hypothesis, Verdict, h0, h1, h2, h3};

use super::{Analysis, gaps, leaderboard, mismatch_and_failure};
use crate::markdown::signed_with_interval;

/// A rule applied to one condition.
pub struct Finding {
    /// What is tested.
    pub hypothesis: Hypothesis,
    /// Which models, depth and k, or which proxy.
    pub condition: String,
    /// The number that the rule looks at, in words.
    pub numbers: String,
    /// What follows.
    pub verdict: Verdict,
}

/// H0 and H1 at every depth and k of the largest budget, last model against first, and H2 for each depth. H0 and H1 look at
/// the wider of the bootstrap's interval and t over seeds ([`super::Score::widest`]).
pub fn findings(analysis: &Analysis<'_>) -> Vec<Finding> {
    let models = analysis.grid.models();
    let budget = analysis.largest_budget();
    let gaps = gaps(analysis);
    let between_ends = |g: &&super::Gap<'_>| {
        models.first() == Some(&g.from.model) && models.last() == Some(&g.to.model) && g.to.budget == budget
    };
    let (mut out, mut adjudicated) = (Vec::new(), Vec::new());
    for gap in gaps.iter().filter(between_ends) {
        let same = |g: &&super::Gap<'_>| {
            (&g.from.model, &g.to.model, &g.to.depth, g.to.k)
                == (&gap.from.model, &gap.to.model, &gap.to.depth, gap.to.k)
        };
        let evidence = Evidence { seeds: gap.mismatches.1, budgets: gaps.iter().filter(same).count() };
        let condition = format!("{} − {}, {}, k {}", gap.to.model, gap.from.model, gap.to.depth, gap.to.k);
        let (zero, one) = (h0(gap.ce_rec.widest(), evidence), h1(gap.residual.widest(), evidence));
        let finding = |at: usize, numbers: String, verdict: &Verdict| Finding {
            hypothesis: HYPOTHESES[at],
            condition: condition.clone(),
            numbers,
            verdict: verdict.clone(),
        };
        let shown = |what: &str, s: super::Score| format!("{what} {}", signed_with_interval(s.value, s.widest()));
        out.push(finding(0, shown("ΔCE_rec", gap.ce_rec), &zero));
        out.push(finding(1, shown("ΔR² − ΔCE_rec", gap.residual), &one));
        adjudicated.push((gap.to.depth.clone(), evidence, zero, one));
    }
    let undecided = || Verdict::Undecided("H0 and H1 have not been tested".to_owned());
    for depth in analysis.grid.depths() {
        let of_depth = || adjudicated.iter().filter(|(d, ..)| *d == depth);
        let seeds = of_depth().map(|(_, e, ..)| e.seeds).min().unwrap_or(0);
        let evidence = Evidence { seeds, budgets: analysis.grid.budgets().len() };
        // Decided as soon as it is at one k: the rule asks that the question was settled first, not which way.
        let settled = |pick: fn(&(String, Evidence, Verdict, Verdict)) -> &Verdict| {
            let found = of_depth().map(pick).find(|v| v.is_decided()).or_else(|| of_depth().map(pick).next());
            found.cloned().unwrap_or_else(undecided)
        };
        let (zero, one) = (settled(|a| &a.2), settled(|a| &a.3));
        let ranks = leaderboard(analysis, Some(&depth), budget);
        for rank in ["1/swd", "1/fwd"].iter().filter_map(|name| ranks.iter().find(|r| r.name == *name)) {
            for (how, advantage) in [("pooled", rank.advantage), ("within fixed k", rank.advantage_within)] {
                let Some(advantage) = advantage else { continue };
                let interval: Option<Interval> = advantage.interval;
                out.push(Finding {
                    hypothesis: HYPOTHESES[2],
                    condition: format!("{} against R², {depth}, {how}", rank.name),
                    numbers: format!("difference of Spearman {}", signed_with_interval(advantage.value, interval)),
                    verdict: h2(interval, evidence, &zero, &one),
                });
            }
        }
    }
    out.extend(dimensional_mismatch(analysis, &adjudicated));
    out
}

/// H3, over all hook points with estimates of mutual information; `None` without any.
fn dimensional_mismatch(
    analysis: &Analysis<'_>,
    adjudicated: &[(String, Evidence, Verdict, Verdict)],
) -> Option<Finding> {
    let (correlation, regimes) = mismatch_and_failure(analysis);
    if analysis.grid.information.is_empty() {
        return None;
    }
    let seeds = adjudicated.iter().map(|(_, e, ..)| e.seeds).min().unwrap_or(analysis.grid.seeds().len());
    let evidence = Evidence { seeds, budgets: analysis.grid.budgets().len() };
    let undecided = Verdict::Undecided("H0 and H1 have not been tested".to_owned());
    let settled = adjudicated.iter().find(|(_, _, zero, one)| zero.is_decided() || one.is_decided());
    let (zero, one) = settled.or(adjudicated.first()).map_or((&undecided, &undecided), |(_, _, zero, one)| (zero, one));
    let interval = correlation.and_then(|c| c.interval);
    Some(Finding {
        hypothesis: HYPOTHESES[3],
        condition: format!("{regimes} hook points"),
        numbers: format!("Spearman {}", signed_with_interval(correlation.and_then(|c| c.value), interval)),
        verdict: h3(interval, regimes, evidence, zero, one),
    })
}
