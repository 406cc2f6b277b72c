//! A coordinate that goes around with the longest loop of a cloud (de Silva, Morozov and Vejdemo-Johansson 2011, arXiv:0905.4887).

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::distances::Distances;
use super::error::{Result, TopologyError};
use super::filtration::components;
use super::rips::persistence;

/// Coefficients are whole numbers modulo this prime while the class is followed.
const PRIME: i64 = 47;
/// Points at most: the work grows with the triangles.
const MOST_POINTS: usize = 400;

/// An angle for each point.
#[derive(Clone, Debug, PartialEq)]
pub struct CircularCoordinate {
    /// In [0, 2π).
    pub angles: Vec<f64>,
    /// The bar of its loop.
    pub bar: (f64, f64),
}

/// The circular coordinate of the longest bar of dimension 1: the class's cocycle at the middle of the bar, in whole numbers, made as smooth
/// as it can be by least squares over all edges there. `None` where no bar dies. Where it begins and which way it turns means nothing.
///
/// # Errors
/// If there are more than 400 points, or the cocycle over Z/47 is none over the whole numbers.
pub fn circular_coordinate(distances: &Distances) -> Result<Option<CircularCoordinate>> {
    let points = distances.len();
    let failed = |message: &str| TopologyError::Engine { points, dimension: 1, message: message.to_owned() };
    if points > MOST_POINTS {
        return Err(failed("a circular coordinate is of 400 points at most; choose landmarks"));
    }
    let bars = persistence(distances, 1, None)?.finite(1);
    let Some(&bar) = bars.iter().max_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0))) else { return Ok(None) };
    let mut followed = Followed::new(distances, f64::midpoint(bar.0, bar.1));
    let class = followed.run().into_iter().find(|(_, birth)| *birth == bar.0);
    let (class, _) = class.ok_or_else(|| failed("its longest class has no cocycle"))?;
    let cocycle = followed.cocycle(class);
    if !followed.is_cocycle(&cocycle) {
        return Err(failed("the cocycle of its longest class is none over the whole numbers"));
    }
    let angles = followed.smoothed(&cocycle).ok_or(TopologyError::Spectrum)?;
    Ok(Some(CircularCoordinate { angles, bar }))
}

/// Persistent cohomology over Z/47 by annotations (Dey, Fan and Wang 2014): each edge has what every living class gives it.
struct Followed {
    points: usize,
    /// (a, b) with a < b and their length, the shortest first.
    edges: Vec<([usize; 2], f64)>,
    /// The number of each edge, `[points · points]`, or none where it is too long.
    number: Vec<Option<usize>>,
    /// Of each edge that is in: class and coefficient, none of them 0.
    annotations: Vec<BTreeMap<usize, i64>>,
}

impl Followed {
    /// With all edges up to a length.
    fn new(distances: &Distances, longest: f64) -> Self {
        let points = distances.len();
        let pairs = (0..points).flat_map(|b| (0..b).map(move |a| [a, b]));
        let edges = pairs.map(|[a, b]| ([a, b], distances.at(a, b)));
        let mut edges: Vec<_> = edges.filter(|(_, length)| *length <= longest).collect();
        edges.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut number = vec![None; points * points];
        for (at, ([a, b], _)) in edges.iter().enumerate() {
            number[a * points + b] = Some(at);
            number[b * points + a] = Some(at);
        }
        let annotations = Vec::with_capacity(edges.len());
        Self { points, edges, number, annotations }
    }

    /// Adds all edges, each with the triangles that it is the last edge of. The classes that live at the end, and where they were born.
    fn run(&mut self) -> Vec<(usize, f64)> {
        let mut component: Vec<usize> = (0..self.points).collect();
        // Of each class, its birth while it lives and the edges that may have a coefficient of it.
        let mut births: Vec<Option<f64>> = Vec::new();
        let mut holders: Vec<Vec<usize>> = Vec::new();
        for at in 0..self.edges.len() {
            let ([a, b], length) = self.edges[at];
            let (of_a, of_b) = (component[a], component[b]);
            if of_a != of_b {
                component.iter_mut().filter(|of| **of == of_b).for_each(|of| *of = of_a);
                self.annotations.push(BTreeMap::new());
                continue;
            }
            self.annotations.push(BTreeMap::from([(births.len(), 1)]));
            births.push(Some(length));
            holders.push(vec![at]);
            for c in 0..self.points {
                let sides = [self.number[a * self.points + c], self.number[b * self.points + c]];
                let [Some(ac), Some(bc)] = sides else { continue };
                if c != a && c != b && ac < at && bc < at {
                    let boundary = self.boundary([a, b, c]);
                    if let Some((&youngest, _)) = boundary.last_key_value() {
                        births[youngest] = None;
                        self.kill(youngest, &boundary, &mut holders);
                    }
                }
            }
        }
        births.into_iter().enumerate().filter_map(|(class, birth)| Some((class, birth?))).collect()
    }

    /// What the classes give the boundary of a triangle.
    fn boundary(&self, mut triangle: [usize; 3]) -> BTreeMap<usize, i64> {
        triangle.sort_unstable();
        let mut sum = BTreeMap::new();
        for (edge, sign) in self.sides(triangle) {
            add(&mut sum, &self.annotations[edge], sign);
        }
        sum
    }

    /// The edges bc, ac and ab of a triangle a < b < c that are there, with their signs in its boundary.
    fn sides(&self, [a, b, c]: [usize; 3]) -> Vec<(usize, i64)> {
        let number = |x: usize, y: usize| self.number[x * self.points + y];
        let sides = [(number(b, c), 1), (number(a, c), -1), (number(a, b), 1)];
        sides.into_iter().filter_map(|(edge, sign)| Some((edge?, sign))).collect()
    }

    /// Takes a class out, so that the boundary gets nothing from any.
    fn kill(&mut self, class: usize, boundary: &BTreeMap<usize, i64>, holders: &mut [Vec<usize>]) {
        let inverse = inverse(boundary[&class]);
        for edge in std::mem::take(&mut holders[class]) {
            if let Some(&coefficient) = self.annotations[edge].get(&class) {
                add(&mut self.annotations[edge], boundary, -coefficient * inverse);
                for &other in boundary.keys().filter(|other| **other != class) {
                    holders[other].push(edge);
                }
            }
        }
    }

    /// The values of a class on all edges, as whole numbers about 0.
    fn cocycle(&self, class: usize) -> Vec<i64> {
        let value = |of: &BTreeMap<usize, i64>| of.get(&class).copied().unwrap_or(0);
        self.annotations.iter().map(value).map(|v| if v > PRIME / 2 { v - PRIME } else { v }).collect()
    }

    /// Whether the values add up to 0 around every triangle.
    fn is_cocycle(&self, values: &[i64]) -> bool {
        self.edges.iter().all(|([a, b], _)| {
            (b + 1..self.points).all(|c| {
                let sides = self.sides([*a, *b, c]);
                sides.len() < 3 || sides.iter().map(|(edge, sign)| sign * values[*edge]).sum::<i64>() == 0
            })
        })
    }

    /// The angles whose steps along edges are the values, up to whole turns, and whose squares are least.
    fn smoothed(&self, values: &[i64]) -> Option<Vec<f64>> {
        let n = self.points;
        let mut joined = vec![vec![false; n]; n];
        let mut right = Mat::zeros(n, 1);
        for (([a, b], _), &value) in self.edges.iter().zip(values) {
            joined[*a][*b] = true;
            joined[*b][*a] = true;
            right[(*a, 0)] += value as f64;
            right[(*b, 0)] -= value as f64;
        }
        let component = components(&joined);
        // A constant on each component changes no step: what is added to the Laplacian sets its mean to 0.
        let laplacian = Mat::from_fn(n, n, |i, j| {
            let degree = || joined[i].iter().filter(|&&edge| edge).count() as f64;
            let value = if i == j { degree() } else { -f64::from(u8::from(joined[i][j])) };
            value + f64::from(u8::from(component[i] == component[j]))
        });
        let solved = laplacian.llt(Side::Lower).ok()?.solve(&right);
        Some((0..n).map(|i| solved[(i, 0)].rem_euclid(1.0) * TAU).collect())
    }
}

/// Adds `factor` times `other`, and keeps no 0.
fn add(sum: &mut BTreeMap<usize, i64>, other: &BTreeMap<usize, i64>, factor: i64) {
    for (&class, &coefficient) in other {
        let value = (sum.get(&class).copied().unwrap_or(0) + factor * coefficient).rem_euclid(PRIME);
        if value == 0 {
            sum.remove(&class)
        } else {
            sum.insert(class, value)
        };
    }
}

/// The inverse modulo the prime, by Fermat's little theorem.
fn inverse(value: i64) -> i64 {
    (0..PRIME - 2).fold(1, |power, _| power * value % PRIME)
}

/// ρ_T of two sets of angles (Fisher and Lee 1983): the correlation of the sines of all differences, from −1 to 1; 1 where one is the other
/// and a constant, −1 where it is mirrored. `None` where the angles of one lie on a diameter.
///
/// # Panics
/// If there are not as many of the one as of the other.
pub fn circular_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "an angle for an angle");
    let sum = |of: fn(f64, f64) -> f64| a.iter().zip(b).map(|(&a, &b)| of(a, b)).sum::<f64>();
    let products = sum(|a, b| a.cos() * b.cos()) * sum(|a, b| a.sin() * b.sin())
        - sum(|a, b| a.cos() * b.sin()) * sum(|a, b| a.sin() * b.cos());
    let spread = |angles: &[f64]| {
        let (cos, sin) = angles.iter().fold((0.0, 0.0), |(c, s), a| (c + (2.0 * a).cos(), s + (2.0 * a).sin()));
        let n = angles.len() as f64;
        (n * n - cos * cos - sin * sin).max(0.0)
    };
    let scale = (spread(a) * spread(b)).sqrt();
    (scale > 1e-9 * (a.len() * a.len()) as f64).then(|| 4.0 * products / scale)
}
