//! The hypotheses: each rule's numbers and what follows from them.

use assay_probes::stats::holm;
use assay_probes::stats::hypotheses::{CE_REC_MARGIN, Decision, Evidence, HYPOTHESES, Hypothesis, h0, h1, h2, h3};

use super::{Analysis, Given, Score, Trend, behaviour, leaderboard, mismatch_and_failure, models_at_equal, trends};
use crate::markdown::{p_value, signed_with_interval, tokens_text};

/// A rule applied to one condition.
pub struct Finding {
    /// What is tested.
    pub hypothesis: Hypothesis,
    /// Which models, site and setting, or which proxy.
    pub condition: String,
    /// The number that the rule looks at, in words.
    pub numbers: String,
    /// What follows.
    pub verdict: Decision,
}

/// The metric of behaviour that all rules read.
const METRIC: &str = "ce_rec_pooled";

/// H0 and H1 at every site and setting of the largest budget, last model against first; H2 over all sites together; H3 over the hook
/// points with estimates. Empty with one model, which has no pair.
pub fn findings(analysis: &Analysis<'_>) -> Vec<Finding> {
    let models = analysis.grid.models();
    let budget = analysis.largest_budget();
    let all = trends(analysis, behaviour(METRIC));
    let between_ends = |t: &&Trend<'_>| {
        models.first() == Some(&t.from.model) && models.last() == Some(&t.to.model) && t.to.budget == budget
    };
    let (mut out, mut released, mut seeds) = (Vec::new(), true, usize::MAX);
    for trend in all.iter().filter(between_ends) {
        let same = |t: &&Trend<'_>| {
            (&t.from.model, &t.to.model, &t.to.site, &t.to.setting)
                == (&trend.from.model, &trend.to.model, &trend.to.site, &trend.to.setting)
        };
        let evidence =
            Evidence { seeds: analysis.common_seeds(trend.from, trend.to), budgets: all.iter().filter(same).count() };
        let setting = analysis.names.setting_with("k ", &trend.to.setting);
        let condition = format!("{} − {}, {}, {setting}", trend.to.model, trend.from.model, analysis.site(trend.to));
        let equal = models_at_equal(analysis, &trend.from.model, trend.to, behaviour(METRIC).turned(), Given::R2);
        let zero = h0(trend.difference.difference(), trend.change.as_ref().and_then(Score::difference), evidence);
        let one = h1(equal.as_ref().and_then(Score::difference), evidence);
        released &= zero.is_decided() || one.is_decided();
        seeds = seeds.min(evidence.seeds);
        let finding = |at: usize, numbers: String, verdict: Decision| Finding {
            hypothesis: HYPOTHESES[at],
            condition: condition.clone(),
            numbers,
            verdict,
        };
        let shown = |score: Score| signed_with_interval(score.value, score.interval);
        let numbers = [
            Some(format!("ΔCE_rec {}", shown(trend.difference))),
            trend.change.map(|change| format!("changed by the last budget by {}", shown(change))),
            trend.difference.smallest_margin().map(|margin| {
                format!("±{margin:.3} is the margin that it has 80 % power for (the rule's is ±{CE_REC_MARGIN})")
            }),
        ];
        out.push(finding(0, numbers.into_iter().flatten().collect::<Vec<_>>().join("; "), zero));
        out.push(finding(1, format!("ΔCE_rec at equal R² {}", equal.map_or_else(|| "—".to_owned(), shown)), one));
    }
    if out.is_empty() {
        return out;
    }
    let evidence = Evidence { seeds, budgets: analysis.grid.budgets().len() };
    out.extend(proxies(analysis, budget, evidence, released));
    out.extend(dimensional_mismatch(analysis, evidence, released));
    out
}

/// H2 of −SWD and −FWD, all sites together, p-values adjusted for there being two.
fn proxies(analysis: &Analysis<'_>, budget: u64, evidence: Evidence, released: bool) -> Vec<Finding> {
    let sites = analysis.grid.sites();
    let site = if sites.len() == 1 { sites.first() } else { None };
    let (ranks, cells) = leaderboard(analysis, site, budget, behaviour(METRIC));
    let tested: Vec<_> = ["−SWD", "−FWD"].iter().filter_map(|n| ranks.iter().find(|r| r.proxy.name == *n)).collect();
    let adjusted = holm(&tested.iter().map(|r| r.p.unwrap_or(f64::NAN)).collect::<Vec<_>>());
    let finding = |(rank, p): (&&super::ProxyRank, f64)| {
        let advantage = rank.advantage?;
        let p = rank.p.map(|_| p);
        Some(Finding {
            hypothesis: HYPOTHESES[2],
            condition: format!(
                "{} against R², {}, {}",
                rank.proxy.name,
                analysis.names.scope(site),
                tokens_text(budget)
            ),
            numbers: format!(
                "difference of Pearson within fixed k {}{}",
                signed_with_interval(advantage.value, advantage.interval),
                p.map_or_else(String::new, |p| format!("; swap test p {} by Holm", p_value(p))),
            ),
            verdict: h2(advantage.value, p, cells, evidence, released),
        })
    };
    tested.iter().zip(adjusted).filter_map(finding).collect()
}

/// H3, over all hook points with estimates of mutual information; `None` without any.
fn dimensional_mismatch(analysis: &Analysis<'_>, evidence: Evidence, released: bool) -> Option<Finding> {
    if analysis.grid.information.is_empty() {
        return None;
    }
    let (correlation, regimes) = mismatch_and_failure(analysis);
    let interval = correlation.and_then(|c| c.interval);
    let verdict = h3(interval, regimes, evidence, released);
    // A correlation of a handful of rows is no number to print.
    let shown = correlation.filter(|_| verdict.is_decided()).and_then(|c| c.value);
    Some(Finding {
        hypothesis: HYPOTHESES[3],
        condition: format!("{regimes} hook points"),
        numbers: shown.map_or_else(
            || "—".to_owned(),
            |value| format!("Spearman {}", signed_with_interval(Some(value), interval)),
        ),
        verdict,
    })
}
