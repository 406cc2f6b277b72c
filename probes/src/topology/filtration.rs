//! What scales a Rips complex grows along.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;

use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, Side};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::distances::Distances;
use super::error::{Result, TopologyError};

/// Which distances the complex is built on, made of a metric's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filtration {
    /// The metric's own.
    Plain,
    /// Rips weighted by the distance to a measure (Anai et al. 2020, arXiv:1811.04757, with p = 1): with fᵢ the root mean square distance to
    /// the `neighbours` nearest points, the point itself among them, an edge is as long as dᵢⱼ + fᵢ + fⱼ, or as 2·max f where
    /// dᵢⱼ ≤ |fᵢ − fⱼ|. Few far points then make no loop. A point enters at 2f, which the bars of dimension 0 leave out: they are born at 0.
    Dtm {
        /// k
        neighbours: usize,
    },
    /// The length of the shortest path on the symmetric graph of the `neighbours` nearest points, whose edges are as long as the metric has them: along
    /// a surface and not across, as far as the graph has no edge across (Tenenbaum, de Silva and Langford 2000). Infinite between components.
    Geodesic {
        /// k
        neighbours: usize,
    },
    /// The effective resistance on the symmetric graph of the `neighbours` nearest points, corrected as by von Luxburg, Radl and Hein
    /// (2014): rᵢⱼ − 1/degᵢ − 1/degⱼ + 2aᵢⱼ/(degᵢ degⱼ); what Damrich, Berens and Kobak (arXiv:2311.03087) found to withstand noise in many
    /// dimensions. Infinite between components.
    Resistance {
        /// k
        neighbours: usize,
    },
}

impl Filtration {
    /// How many points it needs.
    pub fn least_points(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Dtm { neighbours } | Self::Geodesic { neighbours } | Self::Resistance { neighbours } => {
                neighbours + 1
            }
        }
    }

    /// The distances that the complex is built on.
    ///
    /// # Errors
    /// If there are fewer points than neighbours are asked for, or the graph's Laplacian can't be inverted.
    pub fn of(self, distances: Distances) -> Result<Distances> {
        let enough = |what: &'static str| {
            let (points, needed) = (distances.len(), self.least_points());
            if points < needed { Err(TopologyError::TooFew { points, needed, what }) } else { Ok(()) }
        };
        match self {
            Self::Plain => Ok(distances),
            Self::Dtm { neighbours } => {
                enough("the distance to a measure of so many neighbours")?;
                Ok(dtm(&distances, neighbours))
            }
            Self::Geodesic { neighbours } => {
                enough("a graph of so many neighbours")?;
                Ok(geodesic(&distances, neighbours))
            }
            Self::Resistance { neighbours } => {
                enough("a graph of so many neighbours")?;
                resistance(&distances, neighbours)
            }
        }
    }
}

impl fmt::Display for Filtration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Dtm { neighbours } => write!(f, "dtm:{neighbours}"),
            Self::Geodesic { neighbours } => write!(f, "geodesic:{neighbours}"),
            Self::Resistance { neighbours } => write!(f, "resistance:{neighbours}"),
        }
    }
}

impl FromStr for Filtration {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, number) = text.split_once(':').map_or((text, None), |(name, number)| (name, Some(number)));
        let neighbours = |usual: usize| match number.map(str::parse) {
            None => Ok(usual),
            Some(Ok(k)) if k > 0 => Ok(k),
            Some(_) => Err(format!("`{text}`: the number of neighbours is a whole number above 0")),
        };
        match name {
            "plain" if number.is_none() => Ok(Self::Plain),
            "dtm" => Ok(Self::Dtm { neighbours: neighbours(8)? }),
            "geodesic" => Ok(Self::Geodesic { neighbours: neighbours(8)? }),
            "resistance" => Ok(Self::Resistance { neighbours: neighbours(15)? }),
            _ => Err(format!("`{text}` is no filtration; there are plain, dtm[:K], geodesic[:K] and resistance[:K]")),
        }
    }
}

fn dtm(distances: &Distances, k: usize) -> Distances {
    let n = distances.len();
    let weight = |i: usize| {
        let squares: f64 = distances.nearest(i, k - 1).iter().map(|&j| distances.at(i, j).powi(2)).sum();
        (squares / k as f64).sqrt()
    };
    let f: Vec<f64> = (0..n).map(weight).collect();
    Distances::from_fn(n, |i, j| {
        let d = distances.at(i, j);
        if d <= (f[i] - f[j]).abs() { 2.0 * f[i].max(f[j]) } else { d + f[i] + f[j] }
    })
}

/// Which points are among the `k` nearest of one another, one way or the other.
fn graph(distances: &Distances, k: usize) -> Vec<Vec<bool>> {
    let n = distances.len();
    let mut edges = vec![vec![false; n]; n];
    for (i, j) in (0..n).flat_map(|i| distances.nearest(i, k).into_iter().map(move |j| (i, j))) {
        edges[i][j] = true;
        edges[j][i] = true;
    }
    edges
}

fn geodesic(distances: &Distances, k: usize) -> Distances {
    let edges = graph(distances, k);
    let near = |i: usize| -> Vec<(usize, f64)> {
        let others = (0..edges.len()).filter(|&j| edges[i][j]);
        others.map(|j| (j, distances.at(i, j))).collect()
    };
    let graph: Vec<Vec<(usize, f64)>> = (0..edges.len()).map(near).collect();
    let paths: Vec<Vec<f64>> = (0..graph.len()).into_par_iter().map(|from| shortest_paths(&graph, from)).collect();
    Distances::from_fn(graph.len(), |i, j| paths[i][j])
}

/// From one point to all, by Dijkstra's algorithm (1959). Each point has a list of others with lengths that are not negative.
fn shortest_paths(graph: &[Vec<(usize, f64)>], from: usize) -> Vec<f64> {
    let mut length = vec![f64::INFINITY; graph.len()];
    length[from] = 0.0;
    // The bits of numbers that are not negative are in the order of the numbers.
    let mut open = BinaryHeap::from([(Reverse(0.0_f64.to_bits()), from)]);
    while let Some((Reverse(bits), at)) = open.pop() {
        let so_far = f64::from_bits(bits);
        if so_far > length[at] {
            continue;
        }
        for &(next, step) in &graph[at] {
            if so_far + step < length[next] {
                length[next] = so_far + step;
                open.push((Reverse(length[next].to_bits()), next));
            }
        }
    }
    length
}

fn resistance(distances: &Distances, k: usize) -> Result<Distances> {
    let n = distances.len();
    let edges = graph(distances, k);
    let degree: Vec<f64> = edges.iter().map(|row| row.iter().filter(|&&e| e).count() as f64).collect();
    let component = components(&edges);
    let mut to = vec![0; n];
    let mut inverses = Vec::new();
    for id in 0..component.iter().max().map_or(0, |last| last + 1) {
        let members: Vec<usize> = (0..n).filter(|&i| component[i] == id).collect();
        members.iter().enumerate().for_each(|(at, &i)| to[i] = at);
        // L + 11ᵀ/m is positive definite, and its inverse is L⁺ + 11ᵀ/m, whose ones cancel in a resistance.
        let share = 1.0 / members.len() as f64;
        let laplacian = Mat::from_fn(members.len(), members.len(), |a, b| {
            let (i, j) = (members[a], members[b]);
            let value = if i == j { degree[i] } else { -f64::from(u8::from(edges[i][j])) };
            value + share
        });
        inverses.push(laplacian.llt(Side::Lower).map_err(|_| TopologyError::Spectrum)?.inverse());
    }
    Ok(Distances::from_fn(n, |i, j| {
        if component[i] != component[j] {
            return f64::INFINITY;
        }
        let inverse = &inverses[component[i]];
        let (a, b) = (to[i], to[j]);
        let whole = inverse[(a, a)] + inverse[(b, b)] - 2.0 * inverse[(a, b)];
        let near = f64::from(u8::from(edges[i][j])) * 2.0 / (degree[i] * degree[j]);
        (whole - 1.0 / degree[i] - 1.0 / degree[j] + near).max(0.0)
    }))
}

/// The number of each point's component, from 0, in the order of their first points.
pub(super) fn components(edges: &[Vec<bool>]) -> Vec<usize> {
    let mut component = vec![usize::MAX; edges.len()];
    let mut next = 0;
    for first in 0..edges.len() {
        if component[first] != usize::MAX {
            continue;
        }
        let mut open = vec![first];
        component[first] = next;
        while let Some(i) = open.pop() {
            for j in 0..edges.len() {
                if edges[i][j] && component[j] == usize::MAX {
                    component[j] = next;
                    open.push(j);
                }
            }
        }
        next += 1;
    }
    component
}
