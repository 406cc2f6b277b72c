//! Is there more of a loop in a cloud than in clouds that have none? What `assay topology` asks of a file, and a sweep of its SAEs.

mod estimate;
mod files;
mod sweep;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result, ensure};
use assay_probes::topology::{
    Audit, AuthorRule, Band, Cloud, Draws, Filtration, Growth, Landmarks, Metric, Null, Pipeline, Statistic, audit,
    author_rule, over_metrics,
};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::interrupt;

pub use files::{CloudFound, Place, check_writable_in, remove, write};
pub use sweep::{Task, TopologyRecord, measure, tasks};

/// Principal components that are kept by default.
const COMPONENTS: usize = 50;
/// Points up to which dimension 2 is computed.
pub const MOST_IN_DIMENSION_2: usize = 300;
/// Subsamples of the earlier rule.
const AUTHOR_RUNS: usize = 8;
/// Points of the smallest loop.
const LEAST: usize = 4;

/// How a cloud is audited.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// What scales are.
    pub filtration: Filtration,
    /// What to compare with; none for bars alone.
    pub nulls: Vec<Null>,
    /// Draws of each null.
    pub draws: usize,
    /// Everything random follows from it.
    pub seed: u64,
    /// A claim needs every null's p at or below this.
    pub alpha: f64,
    /// Rows at most.
    pub rows: usize,
    /// Principal components.
    pub components: Components,
    /// Landmarks, if they stand for the cloud.
    pub landmarks: Option<Landmarks>,
    /// The highest dimension of homology.
    pub max_dim: usize,
    /// The longest edge.
    pub threshold: Option<f64>,
}

/// How many principal components of a cloud are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Components {
    /// Fifty where there are nulls and the metric is neither of angles, which are about the origin and not the mean, nor of sets; else all.
    #[default]
    Usual,
    /// All.
    All,
    /// So many.
    Count(usize),
}

impl FromStr for Components {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let count = text.parse().ok().filter(|&count: &usize| count > 0);
        count.map(Self::Count).ok_or_else(|| format!("{text}: a number above 0, or all, is expected"))
    }
}

/// Points that are audited.
#[derive(Clone, Debug)]
pub struct Points {
    /// Those themselves.
    pub cloud: Arc<Array2<f64>>,
    /// How many there were before so many were chosen.
    pub rows: usize,
    /// All points of the file, where those of a label are audited.
    pub all: Option<Arc<Array2<f64>>>,
}

impl Points {
    /// As a null sees them.
    pub fn cloud(&self) -> Cloud<'_> {
        Cloud { points: self.cloud.view(), all: self.all.as_ref().unwrap_or(&self.cloud).view() }
    }
}

/// What was found of a cloud in one metric.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Audited {
    /// The metric.
    pub metric: Metric,
    /// The filtration.
    pub filtration: String,
    /// Points that bars were computed of.
    pub points: usize,
    /// Their dimensions.
    pub dimensions: usize,
    /// Rows that there were.
    pub rows: usize,
    /// Principal components that were kept, if not all.
    pub components: Option<usize>,
    /// Landmarks, if they stood for the cloud.
    pub landmarks: Option<usize>,
    /// Draws of each null that were asked for.
    pub draws: usize,
    /// The seed.
    pub seed: u64,
    /// The level.
    pub alpha: f64,
    /// p of pi over all metrics together, the largest over nulls; without nulls there is none.
    pub p_over_metrics: Option<f64>,
    /// The bars and the tests.
    pub audit: Audit,
    /// The earlier rule.
    pub author: Option<AuthorRule>,
    /// What parts of it say; none without nulls, or where landmarks stand for it.
    #[serde(default)]
    pub growth: Option<Growth>,
    /// The confidence band of its bars, of a plain filtration of all points in a metric proper.
    #[serde(default)]
    pub band: Option<Band>,
}

/// Whether a metric is of sets or counts, which a Gaussian is none of.
pub fn is_of_sets(metric: Metric) -> bool {
    matches!(metric, Metric::Jaccard | Metric::Tanimoto)
}

/// The nulls of the earlier rule, as far as they are of the metric.
fn author_nulls(metric: Metric) -> Vec<Null> {
    match metric {
        Metric::Jaccard => vec![Null::Columns, Null::Margins],
        Metric::Tanimoto => vec![Null::Columns],
        _ => vec![Null::Columns, Null::Gaussian],
    }
}

impl Settings {
    /// What is wrong with them. `names` gives the name of a setting where they were given.
    ///
    /// # Errors
    /// If a null is none of a metric, no p can be as small as is asked, or a number is out of range.
    pub fn check(&self, metrics: &[Metric], named: impl Fn(&str) -> String) -> Result<()> {
        let (nulls, draws, alpha) = (named("nulls"), named("draws"), named("alpha"));
        ensure!(self.nulls.is_empty() || self.draws > 0, "{draws} 0: a null needs a draw; give 1 or more");
        if let Some(metric) = metrics.iter().find(|&&metric| is_of_sets(metric)) {
            let shown: Vec<String> = self.nulls.iter().map(ToString::to_string).collect();
            let margins = (*metric == Metric::Jaccard).then_some(Null::Margins);
            let is_one = |null: &Null| matches!(null, Null::Columns | Null::Labels) || margins == Some(*null);
            ensure!(
                self.nulls.iter().all(is_one),
                "a draw of {} is none of the metric {metric}: give {nulls} columns{} or labels, or none",
                shown.join(","),
                if margins.is_some() { ", margins" } else { "" }
            );
        }
        ensure!(self.alpha > 0.0 && self.alpha < 1.0, "{alpha} {}: a number between 0 and 1 is expected", self.alpha);
        let floor = 1.0 / (self.draws + 1) as f64;
        ensure!(
            self.nulls.is_empty() || floor <= self.alpha,
            "with {draws} {} no p is below {floor:.3}, so none reaches {alpha} {}; give {draws} {} or more",
            self.draws,
            self.alpha,
            draws_for(1, self.alpha)
        );
        ensure!(self.rows > 0, "{} 0: give 1 or more", named("rows"));
        ensure!(self.landmarks.is_none_or(|landmarks| landmarks.count > 0), "{} 0: give 1 or more", named("landmarks"));
        Ok(())
    }

    fn pipeline(&self, metric: Metric, width: usize) -> Pipeline {
        let components = match self.components {
            Components::All => None,
            Components::Count(count) => Some(count),
            Components::Usual => {
                (!self.nulls.is_empty() && !metric.is_angular() && !is_of_sets(metric)).then_some(COMPONENTS)
            }
        };
        Pipeline {
            components: components.filter(|&count| count < width),
            metric,
            filtration: self.filtration,
            landmarks: self.landmarks,
            max_dim: self.max_dim,
            threshold: self.threshold,
        }
    }

    /// Audits a cloud in one metric. Of fewer points than a loop has nothing is drawn. `tick` is told of draws as they are made. `None` as soon as somebody asks to stop: what was begun is left behind.
    ///
    /// # Errors
    /// If the cloud is not one of the metric.
    pub fn audit(&self, metric: Metric, points: &Points, tick: impl FnMut(usize)) -> Result<Option<Audited>> {
        let (settings, points) = (self.clone(), points.clone());
        let work = move |said: &Sender<usize>| settings.whole_audit(metric, &points, said);
        interrupt::unless_requested(work, tick)?.transpose()
    }

    fn whole_audit(&self, metric: Metric, points: &Points, said: &Sender<usize>) -> Result<Audited> {
        let cloud = points.cloud.view();
        let pipeline = self.pipeline(metric, cloud.ncols());
        let left = if self.landmarks.is_some() { pipeline.distances(cloud)?.len() } else { cloud.nrows() };
        let nulls = if left < LEAST { &[] } else { &self.nulls[..] };
        let draws = Draws { count: self.draws, seed: self.seed, ..Draws::default() };
        let tick = |made| said.send(made).context("nobody waits for the rest");
        let audit = audit::<anyhow::Error>(points.cloud(), &pipeline, nulls, &draws, tick)?;
        // It looks at halves of the cloud.
        let half = cloud.nrows().div_ceil(2);
        let author = (!nulls.is_empty() && half >= self.filtration.least_points().max(LEAST)).then(|| {
            let of = [AUTHOR_RUNS, half];
            let pipeline = Pipeline { components: None, max_dim: 1, ..pipeline.clone() };
            author_rule(cloud, &pipeline, &author_nulls(metric), of, self.seed)
        });
        let loops = pipeline.loops(&audit.diagram);
        let is_whole = !nulls.is_empty() && self.landmarks.is_none();
        let growth = is_whole.then(|| Growth::of(points.cloud(), &loops, &pipeline, nulls, self.seed));
        let is_banded = is_whole && metric.is_metric() && self.filtration == Filtration::Plain;
        let band = is_banded.then(|| pipeline.distances(cloud).map(|of| Band::of(&of, &loops, self.alpha, self.seed)));
        Ok(Audited {
            metric,
            filtration: self.filtration.to_string(),
            points: audit.points,
            dimensions: cloud.ncols(),
            rows: points.rows,
            components: pipeline.components,
            landmarks: self.landmarks.map(|landmarks| landmarks.count),
            draws: self.draws,
            seed: self.seed,
            alpha: self.alpha,
            p_over_metrics: None,
            audit,
            author: author.transpose()?,
            growth: growth.transpose()?,
            band: band.transpose()?.flatten(),
        })
    }
}

/// What to say where one of `tests` that stands out alone can't be told from chance: its p, once all are looked at together, is `tests/(draws + 1)`,
/// in which `draws` is what was asked for by the setting of that name. `None` where it can.
pub fn too_few_draws(
    tests: usize,
    what: &str,
    draws: usize,
    alpha: f64,
    named: impl Fn(&str) -> String,
) -> Option<String> {
    let least = tests as f64 / (draws + 1) as f64;
    (least > alpha).then(|| {
        format!(
            "of {tests} {what} looked at together, one that stands out alone has a p of {least:.3} at best with {} {draws}, above {} {alpha}; \
             {} {} would do",
            named("draws"),
            named("alpha"),
            named("draws"),
            draws_for(tests, alpha)
        )
    })
}

/// The fewest draws with which the least p of a test, times so many `tests`, is at most `alpha`.
fn draws_for(tests: usize, alpha: f64) -> usize {
    // Of 1/0.05 the quotient is 20 exactly; of others it may be a last bit above the whole number that it is.
    (tests as f64 / alpha * (1.0 - 1e-12)).ceil() as usize - 1
}

/// Gives what was found of one cloud in several metrics the p of all of them together.
pub fn together(found: &mut [Audited]) {
    let audits: Vec<&Audit> = found.iter().map(|found| &found.audit).collect();
    if let Some(together) = over_metrics(&audits, Statistic::Pi) {
        found.iter_mut().zip(together).for_each(|(found, p)| found.p_over_metrics = Some(p));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_suffice_for_tests_that_are_looked_at_together() {
        let named = |name: &str| format!("--{name}");
        // 10/200 is 0.05, and 11/200 more.
        assert_eq!(too_few_draws(10, "clouds", 199, 0.05, named), None);
        let text = too_few_draws(11, "clouds", 199, 0.05, named).unwrap();
        assert!(text.starts_with("of 11 clouds") && text.contains("--draws 219 would do"), "{text}");
        for (tests, alpha) in [(1, 0.05), (1, 0.1), (1, 0.01), (3, 0.05), (7, 0.01), (49, 0.001), (12, 0.3)] {
            let enough = draws_for(tests, alpha);
            let least = |draws: usize| tests as f64 / (draws + 1) as f64;
            assert!(
                least(enough) <= alpha * (1.0 + 1e-9) && least(enough - 1) > alpha * (1.0 + 1e-9),
                "{tests} {alpha}"
            );
            assert_eq!(too_few_draws(tests, "", enough, alpha, named), None);
        }
    }
}
