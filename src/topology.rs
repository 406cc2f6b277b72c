//! Is there more of a loop in a cloud than in clouds that have none? What `assay topology` asks of a file, and a sweep of its SAEs.

mod files;
mod sweep;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use assay_models::memory;
use assay_probes::topology::{
    Audit, AuthorRule, Cloud, Drawable, Draws, Filtration, Landmarks, Metric, Null, Pipeline, Statistic, audit,
    author_rule, over_metrics,
};
use burn::tensor::Device;
use indicatif::DecimalBytes;
use ndarray::{Array2, ArrayView2, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
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
/// Points of the smallest cloud that is timed, how much larger each next one is, and the seconds from which on a time says enough.
const TIMED_FROM: usize = 50;
const TIMED_STEP: f64 = 1.25;
const TIMED_SECONDS: f64 = 0.3;
/// The power of the number of points that bars of random directions in 576 dimensions take from 200 to 300 points.
const MOST_POWER: f64 = 6.0;

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
}

/// Whether a metric is of sets or counts, which a Gaussian is none of.
pub fn is_of_sets(metric: Metric) -> bool {
    matches!(metric, Metric::Jaccard | Metric::Tanimoto)
}

/// The nulls of the earlier rule, as far as they are of the metric.
fn author_nulls(metric: Metric) -> Vec<Null> {
    if is_of_sets(metric) { vec![Null::Columns] } else { vec![Null::Columns, Null::Gaussian] }
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
            ensure!(
                self.nulls.iter().all(|null| matches!(null, Null::Columns | Null::Labels)),
                "a draw of {} is none of the metric {metric}: give {nulls} columns or labels, or none",
                shown.join(",")
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

    /// Refuses what would take more memory than there is, or would not end, of a cloud of so many rows. `remedy` says which settings choose
    /// fewer points.
    ///
    /// # Errors
    /// With the figure.
    pub fn check_size(&self, rows: usize, remedy: &str) -> Result<()> {
        let rows = self.rows.min(rows);
        let points = self.landmarks.map_or(rows, |landmarks| landmarks.count).min(rows);
        ensure!(
            self.max_dim < 2 || points <= MOST_IN_DIMENSION_2,
            "dimension 2 of {points} points takes too long; choose {MOST_IN_DIMENSION_2} with {remedy}"
        );
        // Distances twice over, and of an activation-like cloud of 5000 points another 1.4 GiB of the engine's.
        let pairs = (rows * rows.saturating_sub(1) / 2) as u64;
        let at_once = if self.nulls.is_empty() { 1 } else { rayon::current_num_threads() as u64 };
        let needed = (pairs * 8 * 2 + (points * points) as u64 * 60) * at_once;
        let free = memory::free(&Device::flex());
        ensure!(
            free.is_none_or(|free| needed <= free),
            "{points} points take about {}, and {} are free; choose fewer with {remedy}",
            DecimalBytes(needed),
            DecimalBytes(free.unwrap_or(0))
        );
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

    /// Seconds of all draws of a cloud in one metric on all cores, about: of each null one draw is timed on as many of its first points as take
    /// long enough to be timed, and its time carried on to all points as a power of their number. Where more points make bars harder to find than
    /// that, as in many dimensions, it takes longer.
    ///
    /// # Errors
    /// If the cloud is not one of the metric.
    pub fn seconds<'a>(&self, metric: Metric, cloud: impl Into<Cloud<'a>>) -> Result<f64> {
        let cloud = cloud.into();
        let pipeline = self.pipeline(metric, cloud.points.ncols());
        let mut seconds = 0.0;
        for &null in self.nulls.iter().filter(|_| cloud.points.nrows() >= LEAST) {
            let draw = Drawable::of(null, cloud, self.seed)?.draw(&mut ChaCha8Rng::seed_from_u64(self.seed));
            seconds += seconds_of_bars(&pipeline, draw.view())? * self.draws as f64;
        }
        Ok(seconds / rayon::current_num_threads().min(self.draws.max(1)) as f64)
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
        let nulls = if cloud.nrows() < LEAST { &[] } else { &self.nulls[..] };
        let pipeline = self.pipeline(metric, cloud.ncols());
        let draws = Draws { count: self.draws, seed: self.seed, ..Draws::default() };
        let tick = |made| said.send(made).context("nobody waits for the rest");
        let audit = audit::<anyhow::Error>(points.cloud(), &pipeline, nulls, &draws, tick)?;
        // It looks at halves of the cloud.
        let half = cloud.nrows().div_ceil(2);
        let author = (!nulls.is_empty() && half >= LEAST).then(|| {
            let of = [AUTHOR_RUNS, half];
            let pipeline = Pipeline { components: None, max_dim: 1, ..pipeline.clone() };
            author_rule(cloud, &pipeline, &author_nulls(metric), of, self.seed)
        });
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
        })
    }
}

/// Seconds of a cloud's bars on one core, as [`Settings::seconds`] has them. Where landmarks stand for the cloud, it is their number that grows.
fn seconds_of_bars(pipeline: &Pipeline, cloud: ArrayView2<'_, f64>) -> Result<f64> {
    let all = pipeline.landmarks.map_or(cloud.nrows(), |landmarks| landmarks.count.min(cloud.nrows()));
    let timed = |points: usize| -> Result<f64> {
        let started = Instant::now();
        match pipeline.landmarks {
            Some(landmarks) => {
                let fewer = Landmarks { count: points, ..landmarks };
                Pipeline { landmarks: Some(fewer), ..pipeline.clone() }.diagram(cloud)?
            }
            None => pipeline.diagram(cloud.slice(s![..points, ..]))?,
        };
        Ok(started.elapsed().as_secs_f64())
    };
    let mut times: Vec<(usize, f64)> = Vec::new();
    let mut points = TIMED_FROM.min(all);
    loop {
        times.push((points, timed(points)?));
        if points == all {
            return Ok(times[times.len() - 1].1);
        }
        if times.len() > 2 && times[times.len() - 1].1 >= TIMED_SECONDS {
            break;
        }
        points = ((points as f64 * TIMED_STEP) as usize).min(all);
    }
    let [(few, short), _, (many, long)] = times[times.len() - 3..] else { unreachable!("three were timed") };
    // A busy machine makes times, and so the power, as large as it likes.
    let power = ((long / short).ln() / (many as f64 / few as f64).ln()).clamp(2.0, MOST_POWER);
    Ok(long * (all as f64 / many as f64).powf(power))
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

    #[test]
    fn a_time_that_is_carried_on_is_of_the_size_of_one_that_is_measured() {
        let cloud = Array2::from_shape_fn((400, 3), |(i, j)| ((i * 7919 + j * 104_729) % 1000) as f64 / 1000.0);
        let pipeline = Pipeline::plain(Metric::Euclidean);
        let guessed = seconds_of_bars(&pipeline, cloud.view()).unwrap();
        let started = Instant::now();
        pipeline.diagram(cloud.view()).unwrap();
        let measured = started.elapsed().as_secs_f64();
        assert!(guessed > measured / 20.0 && guessed < measured * 20.0, "{guessed} and {measured}");
    }
}
