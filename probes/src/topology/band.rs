//! How far a cloud may be from the shape that its points are drawn from.

use rand::seq::index::sample;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::audit::Stream;
use super::distances::Distances;
use crate::stats::quantile;

/// Subsamples of a cloud.
const DRAWS: usize = 1000;
/// Points below which n/ln n of them are no part.
const LEAST: usize = 4;

/// A confidence band about the diagonal of a Rips diagram, by subsampling (Fasy et al. 2014, arXiv:1303.7117, section 4.1): of subsamples of n/ln n
/// points, without replacement, the Hausdorff distance to the cloud is T, and c, twice the upper α quantile of T, bounds the distance of the
/// cloud from the shape that it is drawn from, with a confidence of 1 − α as the points become many. Moving points by c moves a bar's ends by 2c in
/// edge lengths, so that a bar which is longer than 4c is not noise by this. c is about the distance of nearest neighbours: in more than a few
/// dimensions no bar is so long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Points of a subsample.
    pub points: usize,
    /// c, an edge length.
    pub c: f64,
    /// Bars of dimension 1 that are longer than 4c.
    pub above: usize,
}

impl Band {
    /// Of points whose distances are a metric's, and their bars (birth, death). `None` for fewer than four points.
    pub fn of(distances: &Distances, loops: &[(f64, f64)], alpha: f64, seed: u64) -> Option<Self> {
        let n = distances.len();
        if n < LEAST {
            return None;
        }
        let points = (n as f64 / (n as f64).ln()) as usize;
        // With all neighbours of a point in order, the first that is chosen is the nearest: after about ln n of them.
        let order: Vec<Vec<u32>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let mut others: Vec<u32> = (0..n as u32).collect();
                others.sort_by(|&a, &b| distances.at(i, a as usize).total_cmp(&distances.at(i, b as usize)));
                others
            })
            .collect();
        let hausdorff = |draw: usize| {
            let mut chosen = vec![false; n];
            for row in sample(&mut Stream::Band.of(seed, draw), n, points) {
                chosen[row] = true;
            }
            let nearest =
                |i: usize| order[i].iter().find(|&&j| chosen[j as usize]).map(|&j| distances.at(i, j as usize));
            (0..n).filter_map(nearest).fold(0.0, f64::max)
        };
        let mut found: Vec<f64> = (0..DRAWS).into_par_iter().map(hausdorff).collect();
        found.sort_by(f64::total_cmp);
        let c = 2.0 * quantile(&found, 1.0 - alpha)?;
        Some(Self { points, c, above: loops.iter().filter(|(birth, death)| death - birth > 4.0 * c).count() })
    }
}
