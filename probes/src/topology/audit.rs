//! Is there more of a loop than in clouds that have none?

use ndarray::ArrayView2;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::distances::{Distances, check_numbers};
use super::error::Result;
use super::filtration::Filtration;
use super::landmarks::{landmarks, without_outliers};
use super::metric::Metric;
use super::nulls::{Cloud, Drawable, Null};
use super::rips::{Bar, Diagram, persistence};
use super::spectrum::principal_scores;
use super::statistics::{BarStatistics, Statistic};
use super::together::adjusted;
use crate::stats::quantile;

/// What is done to a cloud, and to every draw of a null alike, before its bars are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Principal components that are kept, if the cloud has more dimensions.
    pub components: Option<usize>,
    /// How far points are apart.
    pub metric: Metric,
    /// What the complex is built on.
    pub filtration: Filtration,
    /// How many landmarks stand for the cloud, chosen after a share of outliers is dropped; `None` for all points.
    pub landmarks: Option<Landmarks>,
    /// The highest dimension of homology.
    pub max_dim: usize,
    /// The longest edge.
    pub threshold: Option<f64>,
}

/// How landmarks are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Landmarks {
    /// How many.
    pub count: usize,
    /// The share of points that is dropped first, those farthest from their tenth nearest neighbour.
    pub trimmed: f64,
}

/// Points of the smallest loop.
const LEAST: usize = 4;
/// The neighbour whose distance tells an outlier.
const OUTLIER_NEIGHBOUR: usize = 10;

impl Pipeline {
    /// Plain Rips of all points in one metric, up to dimension 1.
    pub fn plain(metric: Metric) -> Self {
        Self { components: None, metric, filtration: Filtration::Plain, landmarks: None, max_dim: 1, threshold: None }
    }

    /// How many points a cloud needs to go through it and have a loop.
    pub(super) fn least_points(&self) -> usize {
        self.filtration.least_points().max(LEAST)
    }

    /// The distances that a cloud's complex is built on. Landmarks begin at row 0, or at the first that is no outlier.
    ///
    /// # Errors
    /// If the cloud is not one of the metric or too small for what is asked.
    pub fn distances(&self, cloud: ArrayView2<'_, f64>) -> Result<Distances> {
        let distances = match self.components {
            Some(k) if k < cloud.ncols() => {
                // Of the cloud itself: principal axes would spread a wrong one over all rows.
                check_numbers(cloud)?;
                Distances::between(principal_scores(cloud, k)?.view(), self.metric)?
            }
            _ => Distances::between(cloud, self.metric)?,
        };
        let distances = match self.landmarks {
            Some(Landmarks { count, trimmed }) if count < distances.len() => {
                let kept = without_outliers(&distances, OUTLIER_NEIGHBOUR, trimmed);
                let kept = distances.among(&kept);
                kept.among(&landmarks(&kept, 0, count))
            }
            _ => distances,
        };
        self.filtration.of(distances)
    }

    /// A cloud's bars.
    ///
    /// # Errors
    /// As [`Self::distances`], or if the engine refuses.
    pub fn diagram(&self, cloud: ArrayView2<'_, f64>) -> Result<Diagram> {
        persistence(&self.distances(cloud)?, self.max_dim, self.threshold)
    }

    /// A diagram's bars (birth, death) in one dimension, if that was computed; those that live at the threshold are as long as it lets them be, in
    /// the cloud and in draws alike.
    fn bars(&self, diagram: &Diagram, dimension: usize) -> Option<Vec<(f64, f64)>> {
        let ends = |bar: &Bar| Some((bar.birth, bar.death.or(self.threshold)?));
        let bars = diagram.bars.get(dimension)?.iter().filter_map(ends);
        Some(bars.filter(|(birth, death)| death > birth).collect())
    }

    /// Those of dimension 1.
    pub fn loops(&self, diagram: &Diagram) -> Vec<(f64, f64)> {
        self.bars(diagram, 1).unwrap_or_default()
    }

    /// Of the bars in one dimension, if that was computed.
    fn statistics(&self, diagram: &Diagram, dimension: usize) -> Option<BarStatistics> {
        self.bars(diagram, dimension).map(|bars| BarStatistics::of(&bars))
    }

    /// What is compared with nulls.
    fn compared(&self, diagram: &Diagram) -> Compared {
        let bars = self.loops(diagram);
        let (loops, voids) = (BarStatistics::of(&bars), self.statistics(diagram, 2));
        let statistics = Statistic::up_to(self.max_dim);
        Compared {
            values: statistics.iter().map(|statistic| statistic.of(&loops, voids.as_ref())).collect(),
            lengths: bars.iter().map(|(birth, death)| death - birth).collect(),
        }
    }
}

/// What is compared of the cloud and of draws.
struct Compared {
    /// Statistics, in the order of [`Statistic::up_to`].
    values: Vec<Option<f64>>,
    /// Of the bars in dimension 1.
    lengths: Vec<f64>,
}

/// The statistics of the cloud and of the draws of a null, in the order of [`Statistic::up_to`], with those that need all of them.
struct Beside {
    observed: Vec<Option<f64>>,
    draws: Vec<Vec<Option<f64>>>,
}

impl Beside {
    fn of(cloud: &Compared, draws: &[Compared]) -> Self {
        let longest = |of: &Compared| of.lengths.iter().copied().fold(0.0, f64::max);
        let mut maxima: Vec<f64> = draws.iter().chain([cloud]).map(longest).collect();
        maxima.sort_by(f64::total_cmp);
        let limit = quantile(&maxima, 0.5).unwrap_or(0.0);
        let whole = |of: &Compared| {
            let mut values = of.values.clone();
            let above = of.lengths.iter().filter(|&&length| length > limit).count();
            values[Statistic::Above.place()] = Some(above as f64);
            values
        };
        Self { observed: whole(cloud), draws: draws.iter().map(whole).collect() }
    }

    /// Whether every statistic was reached so often that its p is known to be large.
    fn is_decided(&self, stop_after: usize) -> bool {
        let reached = |s: usize| self.draws.iter().filter(|draw| reaches(draw[s], self.observed[s])).count();
        (0..self.observed.len()).all(|s| reached(s) >= stop_after)
    }
}

/// How many draws, and of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draws {
    /// Draws of each null, B.
    pub count: usize,
    /// A null is drawn from no more once every statistic was reached this many times (Besag and Clifford 1991): its p-values are large.
    pub stop_after: usize,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Default for Draws {
    fn default() -> Self {
        Self { count: 199, stop_after: 20, seed: 0 }
    }
}

/// A statistic of a cloud beside those of a null's draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Of what.
    pub statistic: Statistic,
    /// The cloud's; `None` where it has too few bars.
    pub observed: Option<f64>,
    /// The draws' 5th, 50th and 95th percentile, counted as 0 where there are too few bars.
    pub null: [f64; 3],
    /// (1 + draws that reach the observed value)/(1 + draws), or, where drawing stopped early, 20/draws. Never 0.
    pub p: f64,
    /// The same of all statistics of this null together, by the least p of each draw (Westfall and Young 1993): the chance that *any* of them
    /// is as extreme.
    pub p_adjusted: f64,
}

/// What a null's draws say of a cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgainstNull {
    /// Which.
    pub null: Null,
    /// Draws made.
    pub draws: usize,
    /// A test for each statistic, in the order of [`Statistic::up_to`].
    pub tests: Vec<Test>,
    /// The longest bar of each draw, in the order of draws.
    pub maxima: Vec<f64>,
    /// All of them of each draw.
    #[serde(skip)]
    statistics: Vec<Vec<Option<f64>>>,
}

/// A cloud's bars in dimension 1, and whether nulls have as much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The bars.
    pub diagram: Diagram,
    /// Of those of dimension 1.
    pub statistics: BarStatistics,
    /// Of those of dimension 2, where that was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voids: Option<BarStatistics>,
    /// How many points the complex was built on.
    pub points: usize,
    /// The scales: the largest distance, and the enclosing radius.
    pub diameter: f64,
    /// See [`Distances::enclosing_radius`].
    pub enclosing_radius: Option<f64>,
    /// A row for each null.
    pub nulls: Vec<AgainstNull>,
}

impl Audit {
    /// The statistics that were looked at, with the cloud's values; without those that need a null's draws.
    pub fn observed(&self) -> impl Iterator<Item = (Statistic, Option<f64>)> {
        let statistics = Statistic::up_to(if self.voids.is_some() { 2 } else { 1 }).iter();
        let own = statistics.filter(|&&statistic| statistic != Statistic::Above);
        own.map(|&statistic| (statistic, statistic.of(&self.statistics, self.voids.as_ref())))
    }

    /// Whether a void explains what there is of loops: π of dimension 2 is above every null at level `alpha`, too, and the longest bar there is
    /// longer than any of dimension 1. The surface of a sphere is so: caps about its points leave holes between them before they close it. A torus
    /// is not, whose loops outlive its void. `None` without nulls or dimension 2.
    pub fn is_explained_by_a_void(&self, alpha: f64) -> Option<bool> {
        let longest = self.voids.as_ref()?.max;
        Some(self.exceeds(Statistic::Void, alpha)? && longest > self.statistics.max)
    }

    /// Whether a statistic is above every null at level `alpha`: an intersection-union test, which needs no correction. `None` without nulls. It
    /// says that there is more of a loop than in these nulls, not that there is a loop: a sphere passes, too.
    pub fn exceeds(&self, statistic: Statistic, alpha: f64) -> Option<bool> {
        self.largest_p(statistic).map(|p| p <= alpha)
    }

    /// The largest p of a statistic over all nulls.
    pub fn largest_p(&self, statistic: Statistic) -> Option<f64> {
        let of = |null: &AgainstNull| null.tests.iter().find(|test| test.statistic == statistic).map(|test| test.p);
        self.nulls.iter().filter_map(of).max_by(f64::total_cmp)
    }
}

/// The p of a statistic of one cloud in several metrics, for each of them the chance that the statistic is as extreme in *any*: the largest over the
/// nulls. `audits` are of one cloud, with the same nulls and seed, so that their draws are the same; of nulls that one stopped drawing from
/// earlier, its draws count. `None` without nulls.
pub fn over_metrics(audits: &[&Audit], statistic: Statistic) -> Option<Vec<f64>> {
    let s = statistic.place();
    let nulls = audits.iter().map(|audit| audit.nulls.len()).min().filter(|&nulls| nulls > 0)?;
    let of_null = |null: usize| {
        let observed: Vec<Option<f64>> = audits.iter().map(|audit| audit.nulls[null].tests[s].observed).collect();
        let draws = audits.iter().map(|audit| audit.nulls[null].draws).min().unwrap_or(0);
        let of_draw = |draw: usize| audits.iter().map(|audit| audit.nulls[null].statistics[draw][s]).collect();
        let together = adjusted(&observed, &(0..draws).map(of_draw).collect::<Vec<_>>());
        let alone = audits.iter().map(|audit| audit.nulls[null].tests[s].p);
        together.into_iter().zip(alone).map(|(together, alone)| together.max(alone)).collect::<Vec<f64>>()
    };
    (0..nulls).map(of_null).reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a.max(b)).collect())
}

/// Draws at a time; whether to go on is asked in between. No result depends on it, or on threads.
const BLOCK: usize = 16;

/// Audits a cloud. Each draw has a random stream of its own and goes through the whole pipeline. `tick` is called after every block of
/// draws with how many there were, and may stop it with an error of its own.
///
/// # Errors
/// As [`Pipeline::diagram`], or `tick`'s.
pub fn audit<'a, E: From<super::TopologyError>>(
    cloud: impl Into<Cloud<'a>>,
    pipeline: &Pipeline,
    nulls: &[Null],
    draws: &Draws,
    mut tick: impl FnMut(usize) -> std::result::Result<(), E>,
) -> std::result::Result<Audit, E> {
    let cloud = cloud.into();
    let distances = pipeline.distances(cloud.points)?;
    let diagram = persistence(&distances, pipeline.max_dim, pipeline.threshold)?;
    let compared = pipeline.compared(&diagram);
    let mut against = Vec::with_capacity(nulls.len());
    for (index, &null) in nulls.iter().enumerate() {
        let drawable = Drawable::of(null, cloud, draws.seed)?;
        let mut found: Vec<Compared> = Vec::new();
        let mut beside = Beside::of(&compared, &found);
        while found.len() < draws.count && !beside.is_decided(draws.stop_after) {
            let block = found.len()..(found.len() + BLOCK).min(draws.count);
            let of_draw = |draw: usize| -> Result<_> {
                let mut rng = Stream::Null(index).of(draws.seed, draw);
                Ok(pipeline.compared(&pipeline.diagram(drawable.draw(&mut rng).view())?))
            };
            let made = block.len();
            found.extend(block.into_par_iter().map(of_draw).collect::<Result<Vec<_>>>()?);
            beside = Beside::of(&compared, &found);
            tick(made)?;
        }
        against.push(against_null(null, Statistic::up_to(pipeline.max_dim), beside, draws.stop_after));
    }
    Ok(Audit {
        statistics: BarStatistics::of(&pipeline.loops(&diagram)),
        voids: pipeline.statistics(&diagram, 2),
        points: distances.len(),
        diameter: distances.diameter(),
        enclosing_radius: distances.enclosing_radius(),
        diagram,
        nulls: against,
    })
}

/// What random numbers are for.
pub(super) enum Stream {
    /// Draws of the null of this number.
    Null(usize),
    /// Which rows the parts of a cloud have.
    Parts,
    /// Which rows subsamples have that a confidence band is made of.
    Band,
    /// Which rows the subsamples of the earlier rule have.
    Author,
}

impl Stream {
    /// Those of one draw.
    pub(super) fn of(self, seed: u64, draw: usize) -> ChaCha8Rng {
        let number = match self {
            Self::Null(null) => null as u64 + 1,
            Self::Parts => (1 << 31) - 2,
            Self::Band => (1 << 31) - 1,
            Self::Author => 1 << 31,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((number << 32) + draw as u64);
        rng
    }
}

/// Whether a value of a draw is as large as the observed one; no bars are less than any.
fn reaches(draw: Option<f64>, observed: Option<f64>) -> bool {
    draw >= observed
}

fn against_null(null: Null, statistics: &[Statistic], beside: Beside, stop_after: usize) -> AgainstNull {
    let Beside { observed, draws } = beside;
    let count = draws.len();
    let p = |s: usize| {
        // The draw at which this statistic was reached often enough, had one stopped there.
        let mut reached = 0;
        for (at, draw) in draws.iter().enumerate() {
            reached += usize::from(reaches(draw[s], observed[s]));
            if reached == stop_after {
                return stop_after as f64 / (at + 1) as f64;
            }
        }
        (1 + reached) as f64 / (count + 1) as f64
    };
    let together = adjusted(&observed, &draws);
    let test = |(s, &statistic): (usize, &Statistic)| {
        let mut values: Vec<f64> = draws.iter().map(|draw| draw[s].unwrap_or(0.0)).collect();
        values.sort_by(f64::total_cmp);
        let at = |q: f64| quantile(&values, q).unwrap_or(f64::NAN);
        Test {
            statistic,
            observed: observed[s],
            null: [at(0.05), at(0.5), at(0.95)],
            p: p(s),
            p_adjusted: together[s].max(p(s)),
        }
    };
    let longest = Statistic::Max.place();
    AgainstNull {
        null,
        draws: count,
        tests: statistics.iter().enumerate().map(test).collect(),
        maxima: draws.iter().map(|draw| draw[longest].unwrap_or(0.0)).collect(),
        statistics: draws,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: the longest bars are 5, and 2, 4 and 1 of draws, their median 3.
    #[test]
    fn bars_are_counted_above_the_median_of_the_longest() {
        let of =
            |lengths: &[f64]| Compared { values: vec![None; Statistic::up_to(1).len()], lengths: lengths.to_vec() };
        let beside = Beside::of(&of(&[5.0, 3.0, 3.5]), &[of(&[2.0]), of(&[1.0, 4.0]), of(&[1.0])]);
        let above = Statistic::Above.place();
        assert_eq!(beside.observed[above], Some(2.0));
        assert_eq!(beside.draws.iter().map(|draw| draw[above]).collect::<Vec<_>>(), [Some(0.0), Some(1.0), Some(0.0)]);
        assert_eq!(Statistic::up_to(2)[above], Statistic::Above);
    }
}
