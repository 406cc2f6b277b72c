//! Which clouds of a sweep have more of a loop than their nulls, over all of them together.

use std::collections::BTreeSet;

use assay_probes::stats::{benjamini_hochberg, mean};

use super::Analysis;
use crate::frames::LoopTest;

/// A cloud and what is to be said of it.
pub struct CloudLoops<'a> {
    /// A test of it, by which it is known.
    pub of: &'a LoopTest,
    /// Seeds of rows and draws.
    pub seeds: usize,
    /// By metric, in the order of the spec.
    pub metrics: Vec<MetricLoops<'a>>,
    /// p of pi: the least over metrics, of their min-P together, and of that the largest over seeds. `None` where nothing was drawn.
    pub p: Option<f64>,
    /// The same among all clouds of the sweep (Benjamini and Hochberg 1995).
    pub q: Option<f64>,
}

/// What was found in one metric.
pub struct MetricLoops<'a> {
    /// The metric.
    pub metric: &'a str,
    /// The largest death/birth, its mean over seeds.
    pub pi: Option<f64>,
    /// p of pi in this metric alone, the largest over nulls and seeds.
    pub p: Option<f64>,
    /// The earlier rule's ratio, its mean over seeds.
    pub ratio_author: Option<f64>,
}

impl CloudLoops<'_> {
    /// Whether it stands beside all clouds of the sweep.
    pub fn stands(&self) -> Option<bool> {
        self.q.map(|q| q <= self.of.alpha)
    }
}

/// Every cloud that was audited, in the order of the sweep.
pub fn cloud_loops<'a>(analysis: &Analysis<'a>) -> Vec<CloudLoops<'a>> {
    let tests = &analysis.grid.loops.tests;
    let mut found: Vec<CloudLoops<'a>> = tests.chunk_by(|a, b| a.cloud == b.cloud).map(of_cloud).collect();
    let tested: Vec<f64> = found.iter().filter_map(|cloud| cloud.p).collect();
    let adjusted = benjamini_hochberg(&tested);
    let drawn = found.iter_mut().filter(|cloud| cloud.p.is_some());
    drawn.zip(adjusted).for_each(|(cloud, q)| cloud.q = Some(q));
    found
}

/// The kinds of clouds, `decoder` and others, in the order of the sweep, each with its clouds.
pub fn kinds_of_clouds<'a, 'b>(found: &'b [CloudLoops<'a>]) -> Vec<(&'a str, Vec<&'b CloudLoops<'a>>)> {
    let mut kinds: Vec<(&'a str, Vec<&'b CloudLoops<'a>>)> = Vec::new();
    for cloud in found {
        match kinds.iter_mut().find(|(kind, _)| *kind == cloud.of.what) {
            Some((_, clouds)) => clouds.push(cloud),
            None => kinds.push((&cloud.of.what, vec![cloud])),
        }
    }
    kinds
}

fn of_cloud(tests: &[LoopTest]) -> CloudLoops<'_> {
    let pi: Vec<&LoopTest> = tests.iter().filter(|test| test.statistic == "pi").collect();
    let mut metrics: Vec<MetricLoops<'_>> = Vec::new();
    for test in &pi {
        if metrics.iter().any(|known| known.metric == test.metric) {
            continue;
        }
        let same = || pi.iter().filter(|other| other.metric == test.metric);
        // One value a seed: all nulls have it.
        let of_seeds = |of: fn(&LoopTest) -> Option<f64>| {
            let values: Option<Vec<f64>> =
                same().filter(|other| other.null == test.null).map(|test| of(test)).collect();
            mean(&values?)
        };
        metrics.push(MetricLoops {
            metric: &test.metric,
            pi: of_seeds(|test| test.observed),
            p: same().filter_map(|test| test.p).max_by(f64::total_cmp),
            ratio_author: of_seeds(|test| test.ratio_author),
        });
    }
    let mut of_seed: Vec<(u64, f64)> = Vec::new();
    for (seed, p) in pi.iter().filter_map(|test| Some((test.seed, test.p_over_metrics?))) {
        match of_seed.iter_mut().find(|(known, _)| *known == seed) {
            Some((_, least)) => *least = least.min(p),
            None => of_seed.push((seed, p)),
        }
    }
    let seeds = pi.iter().map(|test| test.seed).collect::<BTreeSet<u64>>().len();
    let p = of_seed.into_iter().map(|(_, p)| p).max_by(f64::total_cmp);
    CloudLoops { of: &tests[0], seeds, metrics, p, q: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::made::{MODELS, Made, grid};

    fn test(cloud: &str, metric: &str, seed: u64, null: &str, p: f64, together: f64) -> LoopTest {
        LoopTest {
            cloud: cloud.to_owned(),
            what: "decoder".to_owned(),
            model: "little".to_owned(),
            depth: "mid".to_owned(),
            metric: metric.to_owned(),
            seed,
            points: 50,
            null: null.to_owned(),
            statistic: "pi".to_owned(),
            observed: Some(1.0 + seed as f64),
            null_p95: Some(1.2),
            p: Some(p),
            p_over_metrics: Some(together),
            ratio_author: None,
            alpha: 0.05,
        }
    }

    /// By hand: a claim needs every null and seed, one of the metrics, and its place among all clouds.
    #[test]
    fn a_cloud_stands_beside_all_others() {
        let mut grid = grid(&MODELS, &[4, 8], &[1000], 1, 4, |_, _| Made::new(0.5, 0.5));
        let mut tests = Vec::new();
        // In angles each seed has 0.005, once both metrics are asked 0.01 and 0.02; the Euclidean metric shows nothing.
        for (seed, together) in [(0, 0.01), (1, 0.02)] {
            for null in ["gaussian", "axes"] {
                tests.push(test("a", "euclidean", seed, null, 0.5, 0.7));
            }
            for null in ["gaussian", "axes"] {
                tests.push(test("a", "angular", seed, null, 0.005, together));
            }
        }
        tests.push(test("b", "angular", 0, "gaussian", 0.04, 0.04));
        tests.push(test("c", "angular", 0, "gaussian", 0.9, 0.9));
        tests.push(LoopTest { p: None, p_over_metrics: None, ..test("d", "angular", 0, "none", 0.0, 0.0) });
        grid.loops.tests = tests;
        let analysis = Analysis::new(&grid);
        let found = cloud_loops(&analysis);
        let names: Vec<&str> = found.iter().map(|cloud| cloud.of.cloud.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!((found[0].seeds, found[0].p), (2, Some(0.02)));
        let euclidean = &found[0].metrics[0];
        assert_eq!((euclidean.metric, euclidean.p, euclidean.pi), ("euclidean", Some(0.5), Some(1.5)));
        // Three p: 0.02 · 3/1, 0.04 · 3/2, 0.9.
        assert_eq!(found.iter().map(|cloud| cloud.q).collect::<Vec<_>>(), [Some(0.06), Some(0.06), Some(0.9), None]);
        assert_eq!(found[0].stands(), Some(false));
        assert_eq!(found[3].stands(), None);
    }
}
