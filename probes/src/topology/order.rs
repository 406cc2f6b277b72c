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
/// Orders with shares this close are alike.
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
    let mut place: Vec<usize> = (0..m).collect();
    let observed = share(&place);
    let as_large = |place: &[usize]| share(place) >= observed - TIE;
    let count = (3..m).try_fold(1_usize, usize::checked_mul);
    let (p, orders, all) = match count.filter(|&count| count <= MOST_ORDERS) {
        Some(count) => {
            let mut reached = 0;
            // The first class stays, and of two mirrored orders one has its second place before its last.
            each_order(&mut place, 1, &mut |place| reached += usize::from(place[1] < place[m - 1] && as_large(place)));
            (reached as f64 / count as f64, count, true)
        }
        None => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut drawn = || {
                place.shuffle(&mut rng);
                as_large(&place)
            };
            let reached = (0..draws).filter(|_| drawn()).count();
            ((1 + reached) as f64 / (draws + 1) as f64, draws, false)
        }
    };
    Ok(OrderTest { share: observed, chance: 2.0 / (m - 1) as f64, p, orders, all })
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
