//! Clouds that have something of a cloud, but no loop of it.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array2, ArrayView2, Axis};
use rand::Rng;
use rand::seq::SliceRandom;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::clusters::k_means;
use super::error::{Result, TopologyError};
use super::spectrum::{Axes, ledoit_wolf};

/// What a null keeps of a cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Null {
    /// Mean and covariance, shrunk as by Ledoit and Wolf: a Gaussian.
    Gaussian,
    /// The distribution along each principal axis: the coordinates there, each shuffled by itself.
    Axes,
    /// The distribution of each column, each shuffled by itself. It depends on the basis, and takes all correlation away: a straw man for
    /// dense clouds.
    Columns,
    /// Of a cloud of zeros and ones, how many ones each row and each column has: a table of the same margins (Gotelli 2000), by exchanges of two ones
    /// of different rows and columns where both corners across are zeros, until there were five for each one, or 250 were tried for each.
    Margins,
    /// The clusters of k-means, each replaced by a Gaussian of its own mean and shrunk covariance. It asks whether there is a loop beside the
    /// arrangement of clusters: one that runs through several of them is kept, so that it is no null for a circle.
    Clusters {
        /// How many.
        count: usize,
    },
    /// Which points have the label: as many of all points, chosen at random, as of shuffled labels.
    Labels,
}

/// Points, and all of those that they were chosen from because they have a label; without one they are the same.
#[derive(Clone, Copy, Debug)]
pub struct Cloud<'a> {
    /// `[n, d]`
    pub points: ArrayView2<'a, f64>,
    /// `[m, d]` with m ≥ n.
    pub all: ArrayView2<'a, f64>,
}

impl<'a> From<ArrayView2<'a, f64>> for Cloud<'a> {
    fn from(points: ArrayView2<'a, f64>) -> Self {
        Self { points, all: points }
    }
}

impl fmt::Display for Null {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gaussian => f.write_str("gaussian"),
            Self::Axes => f.write_str("axes"),
            Self::Columns => f.write_str("columns"),
            Self::Clusters { count } => write!(f, "clusters:{count}"),
            Self::Margins => f.write_str("margins"),
            Self::Labels => f.write_str("labels"),
        }
    }
}

impl FromStr for Null {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None => match text {
                "gaussian" => return Ok(Self::Gaussian),
                "axes" => return Ok(Self::Axes),
                "columns" => return Ok(Self::Columns),
                "clusters" => return Ok(Self::Clusters { count: 8 }),
                "margins" => return Ok(Self::Margins),
                "labels" => return Ok(Self::Labels),
                _ => {}
            },
            Some(("clusters", count)) => {
                if let Some(count) = count.parse().ok().filter(|&count| count > 0) {
                    return Ok(Self::Clusters { count });
                }
            }
            Some(_) => {}
        }
        Err(format!("`{text}` is no null; there are gaussian, axes, columns, margins, clusters[:K] and labels"))
    }
}

/// A null of one cloud, ready to be drawn from.
pub struct Drawable {
    kind: Prepared,
}

enum Prepared {
    Groups(Vec<(Vec<usize>, Normal)>, [usize; 2]),
    Axes(Axes, Array2<f64>),
    Columns(Array2<f64>),
    Margins(Array2<f64>),
    Subset(Array2<f64>, usize),
}

/// A Gaussian of a cloud's mean and shrunk covariance.
struct Normal {
    axes: Axes,
    deviations: Vec<f64>,
}

impl Normal {
    fn of(cloud: ArrayView2<'_, f64>) -> Result<Self> {
        let axes = Axes::of(cloud)?;
        let shrinkage = ledoit_wolf(cloud);
        let mean = axes.variances.mean().unwrap_or(0.0);
        let deviations = axes.variances.iter().map(|v| ((1.0 - shrinkage) * v + shrinkage * mean).sqrt()).collect();
        Ok(Self { axes, deviations })
    }

    fn draw(&self, points: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
        let scores = Array2::from_shape_fn((points, self.deviations.len()), |(_, axis)| {
            rng.sample::<f64, _>(StandardNormal) * self.deviations[axis]
        });
        self.axes.points(scores.view())
    }
}

impl Drawable {
    /// What is kept of a cloud of a point or more. `seed` is of k-means alone.
    ///
    /// # Errors
    /// If eigenvalues can't be found, or a null of zeros and ones is asked of a cloud of others.
    pub fn of<'a>(null: Null, cloud: impl Into<Cloud<'a>>, seed: u64) -> Result<Self> {
        let Cloud { points: cloud, all } = cloud.into();
        let shape = [cloud.nrows(), cloud.ncols()];
        let kind = match null {
            Null::Gaussian => Prepared::Groups(vec![((0..shape[0]).collect(), Normal::of(cloud)?)], shape),
            Null::Axes => {
                let axes = Axes::of(cloud)?;
                // Beyond as many axes as there are points, less one, nothing varies.
                let scores = axes.scores(cloud, shape[0].min(shape[1]));
                Prepared::Axes(axes, scores)
            }
            Null::Columns => Prepared::Columns(cloud.to_owned()),
            Null::Margins => {
                let other = cloud.indexed_iter().find(|&(_, &value)| value != 0.0 && value != 1.0);
                if let Some(((row, column), &value)) = other {
                    return Err(TopologyError::NoBit { row, column, value });
                }
                Prepared::Margins(cloud.to_owned())
            }
            Null::Labels => Prepared::Subset(all.to_owned(), shape[0]),
            Null::Clusters { count } => {
                let labels = k_means(cloud, count, seed);
                let groups = (0..count).map(|id| (0..shape[0]).filter(|&i| labels[i] == id).collect::<Vec<_>>());
                let groups = groups.filter(|rows| !rows.is_empty());
                let of = |rows: Vec<usize>| Ok((rows.clone(), Normal::of(cloud.select(Axis(0), &rows).view())?));
                Prepared::Groups(groups.map(of).collect::<Result<_>>()?, shape)
            }
        };
        Ok(Self { kind })
    }

    /// A cloud of the null, as large as that which it was made of.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Array2<f64> {
        match &self.kind {
            Prepared::Groups(groups, [n, d]) => {
                let mut cloud = Array2::zeros((*n, *d));
                for (rows, normal) in groups {
                    let drawn = normal.draw(rows.len(), rng);
                    for (&row, values) in rows.iter().zip(drawn.rows()) {
                        cloud.row_mut(row).assign(&values);
                    }
                }
                cloud
            }
            Prepared::Axes(axes, scores) => axes.points(shuffled(scores, rng).view()),
            Prepared::Columns(cloud) => shuffled(cloud, rng),
            Prepared::Margins(cloud) => swapped(cloud, rng),
            Prepared::Subset(all, points) => all.select(Axis(0), &sample(rng, all.nrows(), *points).into_vec()),
        }
    }
}

/// Every column in an order of its own.
fn shuffled(columns: &Array2<f64>, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let mut result = columns.clone();
    for mut column in result.columns_mut() {
        let mut values = column.to_vec();
        values.shuffle(rng);
        column.assign(&ndarray::Array1::from(values));
    }
    result
}

/// Exchanges that are made, and that are tried at most, for each one of a table.
const SWAPS: usize = 5;
const TRIES: usize = 250;

/// A table of zeros and ones with the same sums of rows and columns.
fn swapped(table: &Array2<f64>, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let mut table = table.clone();
    let mut ones: Vec<[usize; 2]> =
        table.indexed_iter().filter(|&(_, &value)| value == 1.0).map(|((row, column), _)| [row, column]).collect();
    let (mut made, mut tried) = (0, 0);
    while made < SWAPS * ones.len() && tried < TRIES * ones.len() {
        tried += 1;
        let [first, second] = [(); 2].map(|()| rng.random_range(0..ones.len()));
        let ([i, a], [j, b]) = (ones[first], ones[second]);
        // In one row or column a corner across is one of the two.
        if table[[i, b]] == 0.0 && table[[j, a]] == 0.0 {
            for ([row, column], value) in [([i, a], 0.0), ([j, b], 0.0), ([i, b], 1.0), ([j, a], 1.0)] {
                table[[row, column]] = value;
            }
            (ones[first], ones[second]) = ([i, b], [j, a]);
            made += 1;
        }
    }
    table
}
