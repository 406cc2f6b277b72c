//! Does the topology of a point's neighbourhood say more of its neighbours' labels than the geometry alone? The utility analysis of Obiohagwu's audit
//! (2026), with two changes: clusters of the neighbour graph are never split between fitting and testing, as neighbourhoods overlap, and what the columns of
//! topology gain is compared with what they gain when rows exchange them, as any five columns gain a little.

use std::collections::BTreeSet;

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::distances::Distances;
use super::error::{Result, TopologyError};
use super::local::{Neighbourhood, neighbourhood};
use super::metric::Metric;
use super::ridge::{ridge, vary};
use super::similar::spectral_labels;
use crate::stats::mean;

/// What is predicted of a row, from the labels of its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The mean over neighbours of the Jaccard similarity of their labels and its own. Undefined for rows without labels.
    Jaccard,
    /// The share of neighbours that have one of its labels. Likewise.
    AnyShared,
    /// The mean, over labels that it or a neighbour has, of the entropy in bits of the label among neighbours. Undefined without such a label.
    Entropy,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Jaccard, Self::AnyShared, Self::Entropy];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jaccard => "jaccard",
            Self::AnyShared => "any_shared",
            Self::Entropy => "entropy",
        }
    }

    /// Of a row of `labels`, `[n, labels]`, where a label is there or not.
    pub fn of(self, labels: ArrayView2<'_, bool>, row: usize, neighbours: &[usize]) -> Option<f64> {
        let own = labels.row(row);
        let near = |label: usize| neighbours.iter().filter(|&&j| labels[[j, label]]).count();
        let both = |j: usize| own.iter().zip(labels.row(j)).filter(|&(a, b)| *a && *b).count();
        let either = |j: usize| own.iter().zip(labels.row(j)).filter(|&(a, b)| *a || *b).count();
        let has_any = own.iter().any(|&has| has);
        let values: Vec<f64> = match self {
            Self::Jaccard => {
                neighbours.iter().filter(|_| has_any).map(|&j| both(j) as f64 / either(j) as f64).collect()
            }
            Self::AnyShared => neighbours.iter().filter(|_| has_any).map(|&j| f64::from(both(j) > 0)).collect(),
            Self::Entropy => {
                let active = (0..own.len()).filter(|&label| own[label] || near(label) > 0);
                active.map(|label| entropy(near(label) as f64 / neighbours.len() as f64)).collect()
            }
        };
        mean(&values)
    }
}

/// −p log₂ p − (1 − p) log₂(1 − p)
fn entropy(p: f64) -> f64 {
    [p, 1.0 - p].into_iter().filter(|&p| p > 0.0).map(|p| -p * p.log2()).sum()
}

/// What is known of each row's neighbourhood.
pub struct Surroundings {
    /// The neighbours of each row, nearest first.
    pub neighbours: Vec<Vec<usize>>,
    /// `[n, 9]`: of distances to neighbours mean, standard deviation, 90th percentile and maximum; of the patch's mean and standard deviation; density, participation
    /// ratio and the variance beyond three components, both 0 where all points of the patch are equal.
    pub geometry: Array2<f64>,
    /// `[n, 5]`: number, maximum, total, mean and 95th percentile of the patch's bars in dimension 1, 0 where there are none.
    pub topology: Array2<f64>,
}

impl Surroundings {
    /// Of the rows of a cloud `[n, d]`, each with its `k` nearest.
    ///
    /// # Errors
    /// If there are too few rows, or the cloud is not one of the metric.
    pub fn of(cloud: ArrayView2<'_, f64>, metric: Metric, k: usize) -> Result<Self> {
        let distances = Distances::between(cloud, metric)?;
        let n = cloud.nrows();
        let rows: Vec<Neighbourhood> =
            (0..n).into_par_iter().map(|row| neighbourhood(cloud, &distances, row, k)).collect::<Result<_>>()?;
        let geometry = rows.iter().map(|row| {
            [
                row.mean_neighbor_distance,
                row.std_neighbor_distance,
                row.p90_neighbor_distance,
                row.max_neighbor_distance,
                row.patch_distance_mean,
                row.patch_distance_std,
                row.density,
                row.participation_ratio.unwrap_or(0.0),
                row.pca3_residual.unwrap_or(0.0),
            ]
        });
        let topology = rows.iter().map(|row| {
            let bars = &row.bars;
            [bars.count as f64, bars.max.unwrap_or(0.0), bars.total, bars.mean.unwrap_or(0.0), bars.p95.unwrap_or(0.0)]
        });
        let (geometry, topology): (Vec<[f64; 9]>, Vec<[f64; 5]>) = (geometry.collect(), topology.collect());
        let (geometry, topology) = (Array2::from(geometry), Array2::from(topology));
        Ok(Self { neighbours: rows.into_iter().map(|row| row.neighbours).collect(), geometry, topology })
    }

    /// Clusters of the graph that joins each row with its neighbours, whichever of the two lists the other: spectral clustering into at most `count`, a number for each row.
    ///
    /// # Errors
    /// If eigenvectors can't be found.
    pub fn clusters(&self, count: usize, seed: u64) -> Result<Vec<usize>> {
        let n = self.neighbours.len();
        let mut joined = Array2::zeros((n, n));
        for (row, near) in self.neighbours.iter().enumerate() {
            for &other in near {
                joined[[row, other]] = 1.0;
                joined[[other, row]] = 1.0;
            }
        }
        spectral_labels(joined.view(), count, seed)
    }
}

/// A fold for each row, so that no cluster is in two: the clusters in a random order, each to the fold that has the fewest rows.
pub fn folds(clusters: &[usize], count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut names: Vec<usize> = clusters.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    names.shuffle(rng);
    let mut sizes = vec![0; count];
    let mut fold_of = vec![0; clusters.iter().max().map_or(0, |most| most + 1)];
    for name in names {
        let smallest = (0..count).fold(0, |best, fold| if sizes[fold] < sizes[best] { fold } else { best });
        sizes[smallest] += clusters.iter().filter(|&&of| of == name).count();
        fold_of[name] = smallest;
    }
    clusters.iter().map(|&of| fold_of[of]).collect()
}

/// How rows are split, and how often they exchange their topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Splits {
    /// Clusters of the neighbour graph.
    pub clusters: usize,
    /// Folds.
    pub folds: usize,
    /// Times that rows are clustered and dealt out anew.
    pub repeats: usize,
    /// Times that rows of a cluster exchange their topology.
    pub permutations: usize,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Default for Splits {
    fn default() -> Self {
        Self { clusters: 25, folds: 5, repeats: 3, permutations: 199, seed: 0 }
    }
}

/// Why nothing can be said of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undefined {
    /// It is defined for no row.
    NoRows,
    /// It is the same for all rows, but for rounding.
    Constant,
    /// In no split there are rows to fit it on and others among which it varies.
    NoSplit,
}

/// What the topology of neighbourhoods adds to their geometry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Utility {
    /// What is predicted.
    pub target: Target,
    /// Rows for which it is defined.
    pub rows: usize,
    /// Why there are no values, where there are none.
    pub undefined: Option<Undefined>,
    /// Splits with an R² of all three.
    pub splits: usize,
    /// R² by geometry, by topology and by both, means over splits.
    pub r2: Option<[f64; 3]>,
    /// R²(both) − R²(geometry), the mean over splits; a difference that may be rounding is 0.
    pub gain: Option<f64>,
    /// The share of splits in which that is above 0.
    pub share_positive: Option<f64>,
    /// The same difference of rank correlations.
    pub gain_spearman: Option<f64>,
    /// The 5th, 50th and 95th percentile of the gain where rows of a cluster exchange their topology.
    pub permuted: Option<[f64; 3]>,
    /// (1 + exchanges that gain as much)/(1 + exchanges).
    pub p: Option<f64>,
}

/// Splits a cloud's rows by cluster, and asks how well each target is predicted. `tick` is called after each target and stops it by an error of its own.
///
/// # Errors
/// If there are too few rows for the splits, or `tick`'s.
pub fn utility<E: From<TopologyError>>(
    surroundings: &Surroundings,
    labels: ArrayView2<'_, bool>,
    splits: &Splits,
    mut tick: impl FnMut() -> std::result::Result<(), E>,
) -> std::result::Result<Vec<Utility>, E> {
    let mut clusterings = Vec::with_capacity(splits.repeats);
    for repeat in 0..splits.repeats {
        clusterings.push(surroundings.clusters(splits.clusters, splits.seed + repeat as u64)?);
    }
    let mut found = Vec::with_capacity(Target::ALL.len());
    for target in Target::ALL {
        found.push(of_target(surroundings, labels, splits, &clusterings, target)?);
        tick()?;
    }
    Ok(found)
}

/// Differences of R² below this, or below this share of it, are rounding.
const ROUNDING: f64 = 1e-9;

/// a − b, or 0 where that may be rounding.
fn difference(a: f64, b: f64) -> f64 {
    if (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1.0) { 0.0 } else { a - b }
}

/// A split: the rows that are fitted, and those that are tested.
type Split = (Vec<usize>, Vec<usize>);

fn of_target(
    surroundings: &Surroundings,
    labels: ArrayView2<'_, bool>,
    splits: &Splits,
    clusterings: &[Vec<usize>],
    target: Target,
) -> Result<Utility> {
    let values: Vec<Option<f64>> =
        surroundings.neighbours.iter().enumerate().map(|(row, near)| target.of(labels, row, near)).collect();
    let rows: Vec<usize> = (0..values.len()).filter(|&row| values[row].is_some()).collect();
    let y: Vec<f64> = values.iter().map(|value| value.unwrap_or(0.0)).collect();
    let mut all: Vec<Split> = Vec::new();
    for (repeat, clusters) in clusterings.iter().enumerate() {
        let of = folds(clusters, splits.folds, &mut stream(splits.seed, repeat as u64));
        for fold in 0..splits.folds {
            let (test, train): Split = rows.iter().partition(|&&row| of[row] == fold);
            if !test.is_empty() && train.len() > 1 {
                all.push((train, test));
            }
        }
    }
    let (geometry, topology) = (surroundings.geometry.view(), surroundings.topology.view());
    let both = concatenate(Axis(1), &[geometry, topology]).expect("a row of each for each point");
    let fits = |x: ArrayView2<'_, f64>| -> Result<Vec<_>> {
        all.iter().map(|(train, test)| ridge(x, &y, train, test)).collect()
    };
    let [by_geometry, by_topology, by_both] = [fits(geometry)?, fits(topology)?, fits(both.view())?];
    let gains: Vec<f64> = (0..all.len())
        .filter(|&at| by_topology[at].r2.is_some())
        .filter_map(|at| Some(difference(by_both[at].r2?, by_geometry[at].r2?)))
        .collect();
    let mean_r2 = |fits: &[super::ridge::Fit]| mean(&fits.iter().filter_map(|fit| fit.r2).collect::<Vec<_>>());
    let of_ranks = |at: usize| Some(difference(by_both[at].spearman?, by_geometry[at].spearman?));
    let gain = mean(&gains);
    let base: Vec<Option<f64>> = by_geometry.iter().map(|fit| fit.r2).collect();
    let exchanged = |draw: usize| -> Result<Option<f64>> {
        let mut rng = stream(splits.seed, (1 << 32) + draw as u64);
        let order = exchange(&clusterings[0], &mut rng);
        let other = topology.select(Axis(0), &order);
        let both = concatenate(Axis(1), &[geometry, other.view()]).expect("a row of each for each point");
        let fits = fits(both.view())?;
        let gains = fits.iter().zip(&base).filter_map(|(fit, base)| Some(difference(fit.r2?, (*base)?)));
        Ok(mean(&gains.collect::<Vec<_>>()))
    };
    let defined: Vec<f64> = values.iter().copied().flatten().collect();
    let undefined = match gain {
        _ if defined.is_empty() => Some(Undefined::NoRows),
        _ if !vary(&defined) => Some(Undefined::Constant),
        None => Some(Undefined::NoSplit),
        Some(_) => None,
    };
    let draws = if gain.is_some() { splits.permutations } else { 0 };
    let drawn = (0..draws).into_par_iter().map(exchanged).collect::<Result<Vec<_>>>()?;
    let mut drawn: Vec<f64> = drawn.into_iter().flatten().collect();
    drawn.sort_by(f64::total_cmp);
    let at = |q: f64| crate::stats::quantile(&drawn, q);
    Ok(Utility {
        target,
        rows: rows.len(),
        undefined,
        splits: gains.len(),
        r2: mean_r2(&by_geometry).zip(mean_r2(&by_topology)).zip(mean_r2(&by_both)).map(|((g, t), b)| [g, t, b]),
        gain,
        share_positive: gain.map(|_| gains.iter().filter(|&&gain| gain > 0.0).count() as f64 / gains.len() as f64),
        gain_spearman: mean(&(0..all.len()).filter_map(of_ranks).collect::<Vec<_>>()),
        permuted: at(0.05).zip(at(0.5)).zip(at(0.95)).map(|((low, middle), high)| [low, middle, high]),
        p: gain
            .filter(|_| draws > 0)
            .map(|gain| (1 + drawn.iter().filter(|&&other| other >= gain).count()) as f64 / (1 + drawn.len()) as f64),
    })
}

/// A random order of rows in which each stays in its cluster.
fn exchange(clusters: &[usize], rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..clusters.len()).collect();
    for name in clusters.iter().copied().collect::<BTreeSet<_>>() {
        let rows: Vec<usize> = (0..clusters.len()).filter(|&row| clusters[row] == name).collect();
        let mut shuffled = rows.clone();
        shuffled.shuffle(rng);
        rows.iter().zip(shuffled).for_each(|(&row, other)| order[row] = other);
    }
    order
}

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// A Gaussian random projection of a cloud to `k` dimensions, with entries of variance 1/k as scikit-learn's `GaussianRandomProjection` has them: squared
/// distances are kept on average.
pub fn random_projection(cloud: ArrayView2<'_, f64>, k: usize, seed: u64) -> Array2<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let deviation = (k as f64).sqrt().recip();
    let matrix = Array2::from_shape_fn((cloud.ncols(), k), |_| rng.sample::<f64, _>(StandardNormal) * deviation);
    cloud.dot(&matrix)
}
