//! Whether classes with an order, as the days of a week, lie around in that order.

use std::f64::consts::TAU;

use ndarray::{Array2, ArrayView2, Axis};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::error::{Result, TopologyError};

/// All orders are tried up to this many: those of nine classes.
const MOST_ORDERS: usize = 20_160;
/// Orders with values this close are alike.
const TIE: f64 = 1e-12;

/// A test of the order of classes about a circle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderTest {
    /// The share of the variance of the classes' means that is in the first Fourier harmonic along the order: 1 where they are a regular
    /// polygon, in this order.
    pub share: f64,
    /// The mean share over all orders: 2/(m − 1).
    pub chance: f64,
    /// The share of orders whose share is as large, the given one among them. Orders that differ by a rotation or a reflection are one.
    pub p: f64,
    /// How many were tried.
    pub orders: usize,
    /// Whether those are all there are, (m − 1)!/2.
    pub all: bool,
}

/// The mean of each class's rows, `[m, d]`, each class counting alike. `labels` are numbers below `classes`.
///
/// # Errors
/// If a class has no row.
pub fn class_means(cloud: ArrayView2<'_, f64>, labels: &[usize], classes: usize) -> Result<Array2<f64>> {
    let mut means = Array2::zeros((classes, cloud.ncols()));
    for (class, mut mean) in means.axis_iter_mut(Axis(0)).enumerate() {
        let rows: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == class).collect();
        let points = rows.len();
        let of = cloud.select(Axis(0), &rows).mean_axis(Axis(0));
        mean.assign(&of.ok_or(TopologyError::TooFew { points, needed: 1, what: "the mean of a class" })?);
    }
    Ok(means)
}

/// Tests the order of the rows of `means`, `[m, d]`: of up to nine classes against all orders, else against `draws` random ones, where
/// p = (1 + those with as large a share)/(draws + 1).
///
/// # Errors
/// If there are fewer than four classes, which have one order, or all means are equal.
pub fn order_test(means: ArrayView2<'_, f64>, draws: usize, seed: u64) -> Result<OrderTest> {
    let m = means.nrows();
    let centre = means.mean_axis(Axis(0)).filter(|_| m >= 4);
    let centre = centre.ok_or(TopologyError::TooFew { points: m, needed: 4, what: "an order of classes" })?;
    let centred = &means - &centre;
    let gram = centred.dot(&centred.t());
    let total: f64 = gram.diag().sum();
    if total <= 0.0 {
        return Err(TopologyError::TooFew { points: 1, needed: 4, what: "an order of different classes" });
    }
    // Σ |F₁|² of both conjugate frequencies, over m Σ‖mean‖²; place[k] is where class k stands.
    let cosines: Vec<f64> = (0..m).map(|step| (TAU * step as f64 / m as f64).cos()).collect();
    let share = |place: &[usize]| {
        let of_row = |j: usize| (0..m).map(|k| gram[[j, k]] * cosines[place[j].abs_diff(place[k])]).sum::<f64>();
        2.0 * (0..m).map(of_row).sum::<f64>() / (m as f64 * total)
    };
    let AmongOrders { value, p, orders, all } = among_orders(m, draws, seed, share);
    Ok(OrderTest { share: value, chance: 2.0 / (m - 1) as f64, p, orders, all })
}

/// Where the given order of some classes stands among others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AmongOrders {
    /// Of the given order.
    pub value: f64,
    /// The share of orders with as large a value, the given one among them; of random orders (1 + those)/(draws + 1).
    pub p: f64,
    /// How many were tried.
    pub orders: usize,
    /// Whether those are all there are, (m − 1)!/2.
    pub all: bool,
}

/// The value of the order 0 to m − 1 of `m` classes, m at least 3, beside other orders': all of them of up to nine classes, else `draws` random
/// ones. `value` is told where each class stands, and must not change where an order is rotated or mirrored.
pub fn among_orders(m: usize, draws: usize, seed: u64, mut value: impl FnMut(&[usize]) -> f64) -> AmongOrders {
    let mut place: Vec<usize> = (0..m).collect();
    let observed = value(&place);
    let mut reached = 0;
    let mut see = |place: &[usize]| reached += usize::from(value(place) >= observed - TIE);
    let all = (3..m).try_fold(1_usize, usize::checked_mul).filter(|&count| count <= MOST_ORDERS);
    if let Some(orders) = all {
        // The first class stays, and of two mirrored orders one has its second place before its last.
        each_order(&mut place, 1, &mut |place| {
            if place[1] < place[m - 1] {
                see(place);
            }
        });
        return AmongOrders { value: observed, p: reached as f64 / orders as f64, orders, all: true };
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..draws {
        place.shuffle(&mut rng);
        see(&place);
    }
    AmongOrders { value: observed, p: (1 + reached) as f64 / (draws + 1) as f64, orders: draws, all: false }
}

/// Every order of what stands from `from` on.
fn each_order(place: &mut Vec<usize>, from: usize, see: &mut impl FnMut(&[usize])) {
    if from == place.len() {
        return see(place);
    }
    for other in from..place.len() {
        place.swap(from, other);
        each_order(place, from + 1, see);
        place.swap(from, other);
    }
}
