use std::f64::consts::TAU;
use std::path::Path;

use ndarray::{Array1, Array2};
use serde_json::Value;

use super::*;

/// Values of scikit-learn, numpy and DREiMac: `tests/golden/scripts/make_circles.py`.
fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/circles/circles.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn matrix(value: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// m points of a regular polygon in a plane of five dimensions, in order.
fn polygon(m: usize) -> Array2<f64> {
    Array2::from_shape_fn((m, 5), |(k, axis)| {
        let (sin, cos) = (TAU * k as f64 / m as f64).sin_cos();
        [1.0 + 0.6 * cos, 0.6 * sin, 0.8 * cos, -2.0, 0.8 * sin][axis]
    })
}

#[test]
fn indices_of_planes_agree_with_scikit_learn_and_a_grid() {
    for plane in golden()["planes"].as_array().unwrap() {
        let points = matrix(&plane["points"]);
        let expected = plane["separability"].as_f64().unwrap();
        let found = separability(points.view()).unwrap();
        assert!((found - expected).abs() < 1e-9, "{}: {found} and {expected}", plane["name"]);
        // A grid of offsets can miss a few points of the best line, and finds none that an exact search does not.
        let (found, grid) = (mixture(points.view(), EPSILON).unwrap(), plane["mixture"].as_f64().unwrap());
        assert!(found >= grid - 1e-12 && found <= grid + 0.02, "{}: {found} and {grid}", plane["name"]);
    }
    let one = Array2::from_elem((5, 2), 3.0);
    assert_eq!((separability(one.view()), mixture(one.view(), EPSILON)), (None, None));
}

/// Of 4000 normal quantiles along a line almost all directions see the same Gaussian: erf(0.1/√2) = 0.0797 at ε 0.1.
#[test]
fn a_gaussian_on_a_line_has_the_mixture_of_its_density() {
    let quantile = |i: usize| crate::stats::inverse::normal((i as f64 + 0.5) / 4000.0).unwrap();
    let line = Array2::from_shape_fn((4000, 2), |(i, axis)| if axis == 0 { quantile(i) } else { 0.5 * quantile(i) });
    // At a right angle to the line all projections are 0 but for rounding: no direction of the 180 is there exactly.
    let found = mixture(line.view(), EPSILON).unwrap();
    assert!((found - 0.0797).abs() < 0.002, "{found}");
}

#[test]
fn planes_are_pairs_of_neighbouring_components() {
    let cloud = Array2::from_shape_fn((200, 7), |(i, axis)| {
        ((i * (axis + 3) * 7919 + axis * 104_729) % 1009) as f64 / 1009.0 * (7 - axis) as f64
    });
    let found = planes(cloud.view(), 0.0).unwrap();
    let pairs: Vec<[usize; 2]> = found.iter().map(|plane| plane.components).collect();
    assert_eq!(pairs, [[0, 1], [1, 2], [2, 3], [3, 4]]);
    assert!(found.iter().all(|plane| plane.points == 200));
    assert!(planes(cloud.view(), 2.0).unwrap()[0].points < 200);
    assert!(planes(cloud.view(), 1e9).unwrap().is_empty());
}

#[test]
fn orders_agree_with_numpy() {
    for order in golden()["orders"].as_array().unwrap() {
        let found = order_test(matrix(&order["means"]).view(), 99, 0).unwrap();
        assert!((found.share - order["share"].as_f64().unwrap()).abs() < 1e-12, "{found:?}");
        assert!((found.p - order["p"].as_f64().unwrap()).abs() < 1e-12, "{found:?} {}", order["p"]);
        assert_eq!((found.orders as u64, found.all), (order["orders"].as_u64().unwrap(), true));
    }
}

/// A polygon has all its variance in the first harmonic; the corners of a simplex have 2/(m − 1) in any order.
#[test]
fn orders_of_polygons_and_simplices_are_known() {
    let found = order_test(polygon(7).view(), 0, 0).unwrap();
    assert!((found.share - 1.0).abs() < 1e-12 && (found.p - 1.0 / 360.0).abs() < 1e-15, "{found:?}");
    let simplex = order_test(Array2::eye(7).view(), 0, 0).unwrap();
    assert!((simplex.share - 2.0 / 6.0).abs() < 1e-12 && simplex.p == 1.0, "{simplex:?}");
    let twelve = order_test(polygon(12).view(), 999, 1).unwrap();
    assert_eq!((twelve.orders, twelve.all, twelve.p), (999, false, 0.001));
    assert!(order_test(polygon(3).view(), 0, 0).unwrap_err().to_string().contains("3 points"));
    let labels: Vec<usize> = (0..14).map(|row| row % 7).collect();
    let twice = ndarray::concatenate![ndarray::Axis(0), polygon(7), polygon(7)];
    assert!((class_means(twice.view(), &labels, 7).unwrap() - polygon(7)).iter().all(|d| d.abs() < 1e-12));
    assert!(class_means(twice.view(), &labels, 8).is_err());
}

/// Angles that go around in order correlate with it alone among all 360 orders; angles that tell classes apart in no order with many.
#[test]
fn a_coordinate_is_judged_by_other_orders() {
    let p = |angle_of: [f64; 7]| {
        let angles: Vec<f64> = (0..28).map(|text| angle_of[text % 7]).collect();
        let correlation = |place: &[usize]| {
            let classes: Vec<f64> = (0..28).map(|text| TAU * place[text % 7] as f64 / 7.0).collect();
            circular_correlation(&angles, &classes).unwrap().abs()
        };
        among_orders(7, 0, 0, correlation)
    };
    let around = p(std::array::from_fn(|class| TAU * class as f64 / 7.0 + 0.5));
    assert!((around.value - 1.0).abs() < 1e-12 && (around.p - 1.0 / 360.0).abs() < 1e-15 && around.all, "{around:?}");
    let apart = p([0.0, 3.0, 0.2, 5.0, 1.0, 2.5, 4.0]);
    // By numpy and itertools.
    assert!(
        (apart.value - 0.084_490_504_706_866).abs() < 1e-12 && (apart.p - 244.0 / 360.0).abs() < 1e-15,
        "{apart:?}"
    );
}

#[test]
fn rows_that_are_alike_are_grouped_as_by_scikit_learn() {
    let spectral_golden = &golden()["spectral"];
    let rows = matrix(&spectral_golden["rows"]);
    let labels: Vec<usize> = serde_json::from_value(spectral_golden["labels"].clone()).unwrap();
    let groups = spectral(rows.view(), 6, 0).unwrap();
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [8; 6]);
    for group in groups {
        assert!(group.iter().all(|&row| labels[row] == labels[group[0]]), "{group:?}");
    }
    let near = |pairs: &[(usize, f64)]| pairs.to_vec();
    let nearest = [near(&[(2, 0.9)]), near(&[(3, 0.4)]), near(&[(0, 0.9), (4, 0.6)]), near(&[]), near(&[(2, 0.6)])];
    assert_eq!(linked(&nearest, 0.5), [vec![0, 2, 4]]);
    assert_eq!(linked(&nearest, 0.3), [vec![0, 2, 4], vec![1, 3]]);
}

/// Equally spaced points are alike, and so are the steps of the smoothest coordinate: it is the angle.
#[test]
fn the_coordinate_of_a_polygon_is_its_angle() {
    for m in [8, 13, 30] {
        let cloud = polygon(m);
        let distances = Distances::between(cloud.view(), Metric::Euclidean).unwrap();
        let found = circular_coordinate(&distances).unwrap().unwrap();
        let steps: Vec<f64> = (0..m).map(|k| (found.angles[(k + 1) % m] - found.angles[k]).rem_euclid(TAU)).collect();
        let expected = TAU / m as f64;
        let forward = steps.iter().all(|step| (step - expected).abs() < 1e-9);
        let backward = steps.iter().all(|step| (step - (TAU - expected)).abs() < 1e-9);
        assert!(forward || backward, "{m}: {steps:?}");
    }
}

#[test]
fn coordinates_agree_with_dreimac() {
    let golden = golden();
    let cloud = matrix(&golden["coordinate"]["points"]);
    let distances = Distances::between(cloud.view(), Metric::Euclidean).unwrap();
    let found = circular_coordinate(&distances).unwrap().unwrap();
    // DREiMac weighs by a partition of unity, so the two are alike and not equal.
    let rho = circular_correlation(&found.angles, &numbers(&golden["coordinate"]["angles"])).unwrap();
    assert!(rho.abs() > 0.97, "{rho}");
    let line = Array2::from_shape_fn((6, 1), |(i, _)| i as f64);
    let line = Distances::between(line.view(), Metric::Euclidean).unwrap();
    assert_eq!(circular_coordinate(&line).unwrap(), None);
}

#[test]
fn the_correlation_is_that_of_fisher_and_lee() {
    let golden = &golden()["correlation"];
    let (a, b) = (numbers(&golden["a"]), numbers(&golden["b"]));
    assert!((circular_correlation(&a, &b).unwrap() - golden["rho"].as_f64().unwrap()).abs() < 1e-12);
    let moved: Vec<f64> = a.iter().map(|angle| 2.0 - angle).collect();
    assert!((circular_correlation(&a, &moved).unwrap() + 1.0).abs() < 1e-12);
    assert_eq!(circular_correlation(&[1.0; 5], &a[..5]), None);
}

/// A turn by 2π/m takes each corner to the next, and leaves what is outside of the plane.
#[test]
fn a_polygon_turns_into_itself() {
    let means = polygon(7);
    let turning = Turning::of_order(means.view()).unwrap();
    let outside = Array1::from_vec(vec![0.0, 0.0, 0.0, 5.0, 0.0]);
    for k in 0..7 {
        let turned = turning.turned((&means.row(k) + &outside).view(), TAU / 7.0);
        let expected = &means.row((k + 1) % 7) + &outside;
        assert!((&turned - &expected).iter().all(|d| d.abs() < 1e-12), "{k}: {turned}");
    }
    let random = Turning::random(means.view(), 3).unwrap();
    let turned = random.turned(means.row(0), 1.0);
    let centre = means.mean_axis(ndarray::Axis(0)).unwrap();
    let radius = |point: &Array1<f64>| (point - &centre).mapv(|v| v * v).sum();
    assert!((radius(&turned) - radius(&means.row(0).to_owned())).abs() < 1e-12);
    assert!(Turning::of_order(Array2::ones((7, 5)).view()).is_err());
}
