//! Loops in clouds: how many stand, and each of them.

use crate::analysis::{Analysis, CloudLoops, cloud_loops, kinds_of_clouds};
use crate::markdown::{NONE, Table, number};

use super::yes_no;

/// A row a kind of cloud.
pub fn loops(analysis: &Analysis<'_>) -> Table {
    let mut table =
        Table::new(["points", "clouds", "tested", "p ≤ α", "so many by chance", "stand (q ≤ α)", "ratio_author > 1"]);
    let found = cloud_loops(analysis);
    for (kind, of) in kinds_of_clouds(&found) {
        let count = |holds: &dyn Fn(&CloudLoops<'_>) -> bool| of.iter().filter(|cloud| holds(cloud)).count();
        let tested = count(&|cloud| cloud.p.is_some());
        let alpha = of.first().map_or(f64::NAN, |cloud| cloud.of.alpha);
        table.row([
            kind.to_owned(),
            of.len().to_string(),
            tested.to_string(),
            count(&|cloud| cloud.p.is_some_and(|p| p <= alpha)).to_string(),
            number(Some(alpha * tested as f64)),
            count(&|cloud| cloud.stands() == Some(true)).to_string(),
            count(&|cloud| cloud.metrics.iter().any(|found| found.ratio_author.is_some_and(|ratio| ratio > 1.0)))
                .to_string(),
        ]);
    }
    table
}

/// A row a cloud and metric.
pub fn clouds(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "cloud",
        "points",
        "seeds",
        "metric",
        "pi",
        "p",
        "ratio_author",
        "p, all metrics",
        "q, all clouds",
        "stands",
    ]);
    for cloud in cloud_loops(analysis) {
        for found in &cloud.metrics {
            table.row([
                cloud.of.model.clone(),
                cloud.of.depth.clone(),
                cloud.of.cloud.clone(),
                cloud.of.points.to_string(),
                cloud.seeds.to_string(),
                found.metric.to_owned(),
                number(found.pi),
                found.p.map_or_else(|| NONE.to_owned(), |p| number(Some(p))),
                number(found.ratio_author),
                number(cloud.p),
                number(cloud.q),
                yes_no(cloud.stands()),
            ]);
        }
    }
    table
}
