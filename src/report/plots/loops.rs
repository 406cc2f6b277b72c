//! Bars of the clouds that come nearest to a claim.

use super::{Context, Plot};
use crate::analysis::{CloudLoops, cloud_loops};
use crate::frames::LoopTest;
use crate::report::figure::Figure;
use crate::report::loops::{Envelope, LoopPanel, figure};

/// Clouds that are drawn.
const MOST: usize = 6;

/// A panel for each of the clouds with the least p, in the metric in which theirs is least, with the first seed.
pub fn plot(context: &Context<'_>) -> Plot {
    let mut found = cloud_loops(context.analysis);
    found.retain(|cloud| cloud.p.is_some());
    // Stable: of equals the earlier in the sweep.
    found.sort_by(|a, b| a.p.unwrap_or(1.0).total_cmp(&b.p.unwrap_or(1.0)));
    found.truncate(MOST);
    let panels: Vec<LoopPanel> = found.iter().map(|cloud| panel(context, cloud)).collect();
    let title = "Loops: bars of dimension 1, of the clouds with the least p".to_owned();
    let figure = if panels.is_empty() { Figure::new(title, Vec::new(), Vec::new()) } else { figure(title, &panels) };
    Plot {
        figure,
        caption: format!(
            "Each bar at its birth and death, of up to {MOST} clouds, in the metric in which the p of the cloud is least, for the first seed. The lines are what all bars of 95 % of a null's draws \
             stay below, by death/birth (full) and by death − birth (dashed). A bar above a line is longer than the longest of most draws. The table says which \
             clouds stand when all that were looked at are counted."
        ),
    }
}

fn panel(context: &Context<'_>, cloud: &CloudLoops<'_>) -> LoopPanel {
    let loops = &context.analysis.grid.loops;
    let least = cloud.metrics.iter().min_by(|a, b| a.p.unwrap_or(1.0).total_cmp(&b.p.unwrap_or(1.0)));
    let metric = least.map_or("", |found| found.metric);
    let seed = cloud.of.seed;
    let bars = loops.bars.iter().filter(|bar| bar.cloud == cloud.of.cloud && bar.metric == metric && bar.seed == seed);
    let of = |test: &&LoopTest| test.cloud == cloud.of.cloud && test.metric == metric && test.seed == seed;
    let tests: Vec<&LoopTest> = loops.tests.iter().filter(of).collect();
    let mut envelopes: Vec<Envelope> = Vec::new();
    for test in &tests {
        if envelopes.iter().all(|known| known.null != test.null) {
            let upper = |statistic: &str| {
                let same = |other: &&&LoopTest| other.null == test.null && other.statistic == statistic;
                tests.iter().find(same).and_then(|test| test.null_p95)
            };
            envelopes.push(Envelope { null: test.null.clone(), pi: upper("pi"), max: upper("max") });
        }
    }
    LoopPanel {
        title: cloud.of.cloud.clone(),
        metric: Some(metric.to_owned()),
        bars: bars.map(|bar| (bar.birth, bar.death)).collect(),
        envelopes,
    }
}
