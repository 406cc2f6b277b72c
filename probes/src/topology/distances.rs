//! The distances of all pairs of a cloud's points.

use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

use super::error::{Result, TopologyError};
use super::metric::Metric;

/// Distances of n points: d(1,0), d(2,0), d(2,1), d(3,0), …
#[derive(Clone, Debug, PartialEq)]
pub struct Distances {
    points: usize,
    condensed: Vec<f64>,
}

impl Distances {
    /// Of the rows of a cloud. Every pair is computed by itself, so that equal rows have distance 0, and in whatever order, so that
    /// threads change no bit.
    ///
    /// # Errors
    /// If a value is not finite, or not what the metric is of.
    pub fn between(cloud: ArrayView2<'_, f64>, metric: Metric) -> Result<Self> {
        check(cloud, metric)?;
        let cloud = prepared(cloud, metric);
        let n = cloud.nrows();
        let rows: Vec<Vec<f64>> = (0..n)
            .into_par_iter()
            .map(|i| (0..i).map(|j| distance(cloud.row(i), cloud.row(j), metric)).collect())
            .collect();
        Ok(Self { points: n, condensed: rows.concat() })
    }

    /// What `of(i, j)` gives for all j < i.
    pub fn from_fn(points: usize, mut of: impl FnMut(usize, usize) -> f64) -> Self {
        let mut condensed = Vec::with_capacity(points * points.saturating_sub(1) / 2);
        for i in 0..points {
            condensed.extend((0..i).map(|j| of(i, j)));
        }
        Self { points, condensed }
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.points
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.points == 0
    }

    /// The distance of two points.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        match i.cmp(&j) {
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => self.condensed[i * (i - 1) / 2 + j],
            std::cmp::Ordering::Less => self.condensed[j * (j - 1) / 2 + i],
        }
    }

    /// All of them, row by row of the lower triangle.
    pub fn condensed(&self) -> &[f64] {
        &self.condensed
    }

    /// The same, given away.
    pub(super) fn into_condensed(self) -> Vec<f64> {
        self.condensed
    }

    /// The largest; 0 for fewer than two points.
    pub fn diameter(&self) -> f64 {
        self.condensed.iter().copied().fold(0.0, f64::max)
    }

    /// The least radius of a ball about one of the points that holds all: above it a Rips complex is a cone, and nothing is born.
    /// `None` without points.
    pub fn enclosing_radius(&self) -> Option<f64> {
        let farthest = |i: usize| (0..self.points).map(|j| self.at(i, j)).fold(0.0, f64::max);
        (0..self.points).map(farthest).min_by(f64::total_cmp)
    }

    /// Those among some of the points, in the order given.
    pub fn among(&self, rows: &[usize]) -> Self {
        Self::from_fn(rows.len(), |i, j| self.at(rows[i], rows[j]))
    }

    /// The `k` nearest of a point, itself left out; ties to the lower index.
    pub fn nearest(&self, point: usize, k: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..self.points).filter(|&j| j != point).collect();
        others.sort_by(|&a, &b| self.at(point, a).total_cmp(&self.at(point, b)));
        others.truncate(k);
        others
    }
}

/// Sums of fourth powers of values up to this are numbers, which the nulls need.
const LARGEST: f64 = 1e70;

/// The first value of a cloud that is none to compute with.
pub(super) fn check_numbers(cloud: ArrayView2<'_, f64>) -> Result<()> {
    let wrong = cloud.indexed_iter().find(|(_, value)| !value.is_finite() || value.abs() > LARGEST);
    wrong.map_or(Ok(()), |((row, column), &value)| {
        Err(match value.is_finite() {
            true => TopologyError::TooLarge { row, column, value },
            false => TopologyError::NotFinite { row, column, value },
        })
    })
}

/// The first value of a cloud that is not what a metric is of.
fn check(cloud: ArrayView2<'_, f64>, metric: Metric) -> Result<()> {
    check_numbers(cloud)?;
    for (row, values) in cloud.rows().into_iter().enumerate() {
        for (column, &value) in values.iter().enumerate() {
            let (of, suits) = match metric {
                Metric::Jaccard => ("0 or 1", value == 0.0 || value == 1.0),
                Metric::Tanimoto => ("not negative", value >= 0.0),
                _ => ("", true),
            };
            if !suits {
                return Err(TopologyError::Unsuitable { row, column, value, metric: metric.name(), of });
            }
        }
        if metric.is_angular() && values.iter().all(|&v| v == 0.0) {
            return Err(TopologyError::Zero { row });
        }
    }
    Ok(())
}

/// Rows of norm 1, for metrics of directions.
fn prepared(cloud: ArrayView2<'_, f64>, metric: Metric) -> Array2<f64> {
    let mut cloud = cloud.as_standard_layout().into_owned();
    if metric.is_angular() {
        for mut row in cloud.rows_mut() {
            // Scaled first: a square of a large or small value would overflow or vanish.
            let largest = row.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            row.mapv_inplace(|v| v / largest);
            let norm = row.dot(&row).sqrt();
            row.mapv_inplace(|v| v / norm);
        }
    }
    cloud
}

fn distance(x: ArrayView1<'_, f64>, y: ArrayView1<'_, f64>, metric: Metric) -> f64 {
    let pairs = || x.iter().zip(y);
    match metric {
        Metric::Euclidean => squared(x, y).sqrt(),
        // ‖x − y‖²/2 and 2·arcsin(‖x − y‖/2) of unit vectors: exact where they are close, and 0 where they are equal.
        Metric::Cosine => squared(x, y) / 2.0,
        Metric::Angular => 2.0 * (squared(x, y).sqrt() / 2.0).min(1.0).asin(),
        Metric::CityBlock => pairs().map(|(x, y)| (x - y).abs()).sum(),
        Metric::Chebyshev => pairs().map(|(x, y)| (x - y).abs()).fold(0.0, f64::max),
        Metric::Jaccard | Metric::Tanimoto => {
            let both = x.dot(&y);
            let either = x.dot(&x) + y.dot(&y) - both;
            if either == 0.0 { 0.0 } else { 1.0 - both / either }
        }
    }
}

/// Sums that run beside each other, so that a processor can add several at once.
const LANES: usize = 8;

/// ‖x − y‖², in eight sums of every eighth square that are added up in order: the same bits on every processor.
pub(super) fn squared(x: ArrayView1<'_, f64>, y: ArrayView1<'_, f64>) -> f64 {
    match (x.as_slice(), y.as_slice()) {
        (Some(x), Some(y)) => squared_slices(x, y),
        _ => squared_slices(&x.to_vec(), &y.to_vec()),
    }
}

fn squared_slices(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder());
    for (lane, (x, y)) in rest.enumerate() {
        sums[lane] += (x - y) * (x - y);
    }
    for (x, y) in xs.zip(ys) {
        for lane in 0..LANES {
            sums[lane] += (x[lane] - y[lane]) * (x[lane] - y[lane]);
        }
    }
    sums.iter().sum()
}
