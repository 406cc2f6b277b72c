//! An earlier rule, for comparison.

use ndarray::{Array2, ArrayView2, Axis};
use rand::seq::index::sample;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::audit::{Pipeline, Stream};
use super::error::Result;
use super::nulls::{Drawable, Null};
use super::statistics::BarStatistics;
use crate::stats::quantile;

/// The rule of Obiohagwu's audit of odour embeddings (2026), but for the shrinkage of its Gaussian null: the mean over subsamples of the longest bar, over the largest, among nulls, of the
/// 95th percentile of the longest bar of one draw a subsample; "robust" above 1. Shown beside p-values for comparison alone: the percentile of
/// eight draws is nearly their maximum, and ratios of different metrics or numbers of points can't be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorRule {
    /// ratio_author
    pub ratio: Option<f64>,
    /// The least share, among nulls, of subsamples whose longest bar exceeds that percentile.
    pub fraction: Option<f64>,
    /// The longest bar of each subsample.
    pub maxima: Vec<f64>,
}

/// The rule on `runs` subsamples of `rows` rows without replacement.
///
/// # Errors
/// As [`Pipeline::diagram`].
pub fn author_rule(
    cloud: ArrayView2<'_, f64>,
    pipeline: &Pipeline,
    nulls: &[Null],
    [runs, rows]: [usize; 2],
    seed: u64,
) -> Result<AuthorRule> {
    let longest = |cloud: ArrayView2<'_, f64>| -> Result<f64> {
        Ok(BarStatistics::of(&pipeline.loops(&pipeline.diagram(cloud)?)).max.unwrap_or(0.0))
    };
    let run = |run: usize| -> Result<(f64, Vec<f64>)> {
        let mut rng = Stream::Author.of(seed, run);
        let chosen = sample(&mut rng, cloud.nrows(), rows.min(cloud.nrows())).into_vec();
        let cloud: Array2<f64> = cloud.select(Axis(0), &chosen);
        let of_null = |(index, &null): (usize, &Null)| {
            longest(Drawable::of(null, cloud.view(), seed)?.draw(&mut Stream::Null(index).of(seed, run)).view())
        };
        Ok((longest(cloud.view())?, nulls.iter().enumerate().map(of_null).collect::<Result<_>>()?))
    };
    let found = (0..runs).into_par_iter().map(run).collect::<Result<Vec<_>>>()?;
    let maxima: Vec<f64> = found.iter().map(|(max, _)| *max).collect();
    let bounds: Vec<f64> = (0..nulls.len())
        .filter_map(|null| {
            let mut values: Vec<f64> = found.iter().map(|(_, nulls)| nulls[null]).collect();
            values.sort_by(f64::total_cmp);
            quantile(&values, 0.95)
        })
        .collect();
    let highest = bounds.iter().copied().max_by(f64::total_cmp);
    let above = |bound: &f64| maxima.iter().filter(|&max| max > bound).count() as f64 / runs as f64;
    Ok(AuthorRule {
        ratio: highest.filter(|&bound| bound > 0.0).map(|bound| maxima.iter().sum::<f64>() / runs as f64 / bound),
        fraction: bounds.iter().map(above).min_by(f64::total_cmp),
        maxima,
    })
}
