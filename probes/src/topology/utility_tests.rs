//! The utility analysis against scikit-learn and numpy, and on rows of which it is known what must come out.

use ndarray::Array2;
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::*;

/// Values of `tests/golden/scripts/make_utility.py`.
fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/utility/utility.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn matrix(value: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

#[test]
fn ridge_agrees_with_scikit_learn() {
    let golden = golden();
    let (geometry, topology) = (matrix(&golden["geometry"]), matrix(&golden["topology"]));
    let both = ndarray::concatenate(ndarray::Axis(1), &[geometry.view(), topology.view()]).unwrap();
    let y: Vec<f64> = serde_json::from_value(golden["y"].clone()).unwrap();
    let folds: Vec<usize> = serde_json::from_value(golden["folds"].clone()).unwrap();
    for (name, x) in [("geometry", geometry), ("topology", topology), ("both", both)] {
        for (fold, expected) in golden["ridge"][name].as_array().unwrap().iter().enumerate() {
            let (test, train): (Vec<usize>, Vec<usize>) = (0..y.len()).partition(|&row| folds[row] == fold);
            let found = ridge(x.view(), &y, &train, &test).unwrap();
            let close = |found: f64, key: &str| {
                let expected = expected[key].as_f64().unwrap();
                assert!(
                    (found - expected).abs() < 1e-9 * expected.abs().max(1.0),
                    "{name} {fold} {key}: {found} and {expected}"
                );
            };
            close(found.penalty, "alpha");
            close(found.r2.unwrap(), "r2");
            close(found.spearman.unwrap(), "spearman");
        }
    }
}

#[test]
fn targets_and_projections_agree_with_numpy() {
    let golden = golden();
    let labels = matrix(&golden["labels"]).mapv(|value| value > 0.5);
    let neighbours: Vec<Vec<usize>> = serde_json::from_value(golden["neighbours"].clone()).unwrap();
    let mut undefined = 0;
    for (row, expected) in golden["targets"].as_array().unwrap().iter().enumerate() {
        for (target, key) in [(Target::Jaccard, "jaccard"), (Target::AnyShared, "any"), (Target::Entropy, "entropy")] {
            match (target.of(labels.view(), row, &neighbours[row]), expected[key].as_f64()) {
                (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-12, "{row} {key}"),
                (found, expected) => {
                    assert_eq!(found, expected, "{row} {key}");
                    undefined += 1;
                }
            }
        }
    }
    // Two of each of three rows without labels.
    assert_eq!(undefined, 6);
    let counts = matrix(&golden["counts"]);
    let scores = principal_scores(counts.view(), golden["pca"]["components"].as_u64().unwrap() as usize).unwrap();
    let expected: Vec<f64> = serde_json::from_value(golden["pca"]["distances"].clone()).unwrap();
    let found = Distances::between(scores.view(), Metric::Euclidean).unwrap();
    assert!(found.condensed().iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-9));
}

/// Johnson and Lindenstrauss: over 400 projections to 8 dimensions a squared distance is kept on average, with a standard deviation of √(2/8) each.
#[test]
fn random_projections_keep_squared_distances_on_average() {
    let cloud = ndarray::arr2(&[[1.0, 2.0, 0.0, -1.0, 3.0], [0.0, 0.0, 2.0, 1.0, 1.0]]);
    let of = |cloud: &Array2<f64>| Distances::between(cloud.view(), Metric::Euclidean).unwrap().at(0, 1).powi(2);
    let mean = (0..400).map(|seed| of(&random_projection(cloud.view(), 8, seed))).sum::<f64>() / 400.0;
    assert!((mean / of(&cloud) - 1.0).abs() < 5.0 * 0.5 / 20.0, "{mean}");
}

#[test]
fn no_cluster_is_in_two_folds() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let clusters: Vec<usize> = (0..200).map(|_| rng.random_range(0..17)).collect();
    let found = folds(&clusters, 5, &mut rng);
    for (row, fold) in found.iter().enumerate() {
        assert!((0..200).all(|other| clusters[other] != clusters[row] || found[other] == *fold));
    }
    assert!((0..5).all(|fold| found.iter().filter(|&&of| of == fold).count() >= 20), "{found:?}");
}

/// Rows with one of two labels; `shared` of ten neighbours of each have its own. Topology knows of it as far as `known` says.
fn made(known: f64) -> (Surroundings, Array2<bool>) {
    let n = 150;
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let labels = Array2::from_shape_fn((n, 2), |(row, label)| row % 2 == label);
    let mut geometry = Array2::zeros((n, 9));
    let mut topology = Array2::zeros((n, 5));
    let mut neighbours = Vec::new();
    for row in 0..n {
        let shared = rng.random_range(0..=10);
        let mut of = |parity: usize, count: usize| {
            sample(rng, n / 2, count).into_iter().map(|at| 2 * at + parity).collect::<Vec<usize>>()
        };
        neighbours.push([of(row % 2, shared), of(1 - row % 2, 10 - shared)].concat());
        geometry.row_mut(row).mapv_inplace(|_| rng.random());
        topology.row_mut(row).mapv_inplace(|_| rng.random());
        topology[[row, 2]] += known * shared as f64;
    }
    (Surroundings { neighbours, geometry, topology }, labels)
}

#[test]
fn what_topology_adds_is_seen_and_nothing_else() {
    let splits = Splits { clusters: 12, permutations: 39, ..Splits::default() };
    let of = |known: f64| {
        let (surroundings, labels) = made(known);
        utility::<TopologyError>(&surroundings, labels.view(), &splits, || Ok(())).unwrap()
    };
    let [jaccard, any, _] = &of(1.0)[..] else { panic!("three targets") };
    for found in [jaccard, any] {
        assert_eq!((found.rows, found.splits, found.p), (150, 15, Some(1.0 / 40.0)), "{found:?}");
        assert!(found.gain.unwrap() > 0.8 && found.share_positive == Some(1.0), "{found:?}");
        // Exchanged within clusters, it says little.
        assert!(found.permuted.unwrap()[2] < 0.3, "{found:?}");
    }
    for found in of(0.0) {
        assert!(found.p.unwrap() > 0.05 && found.gain.unwrap() < 0.1, "{found:?}");
    }
}

#[test]
fn the_analysis_is_the_same_on_any_number_of_threads() {
    let (surroundings, labels) = made(0.3);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let splits = Splits { permutations: 9, ..Splits::default() };
        pool.install(|| utility::<TopologyError>(&surroundings, labels.view(), &splits, || Ok(())).unwrap())
    };
    assert_eq!(with(1), with(4));
}

/// Targets that are the same everywhere are said to be, whatever rounding makes of them, and columns that say nothing gain nothing.
#[test]
fn what_does_not_vary_is_said_to_and_rounding_gains_nothing() {
    let splits = Splits { clusters: 12, permutations: 19, ..Splits::default() };
    let of = |surroundings: &Surroundings, labels: &Array2<bool>| {
        utility::<TopologyError>(surroundings, labels.view(), &splits, || Ok(())).unwrap()
    };
    let (mut surroundings, labels) = made(0.0);
    let n = labels.nrows();
    // One label of all: each target is 1, 1 and 0. None at all: the first two are undefined, and so is the third, as no label is active.
    for (there, expected) in [(true, [Undefined::Constant; 3]), (false, [Undefined::NoRows; 3])] {
        let found = of(&surroundings, &Array2::from_elem((n, 1), there));
        assert_eq!(found.iter().map(|of| of.undefined.unwrap()).collect::<Vec<_>>(), expected);
        assert!(found.iter().all(|of| of.r2.is_none() && of.gain.is_none() && of.p.is_none()), "{found:?}");
        assert!(found.iter().all(|of| of.gain_spearman.is_none() && of.permuted.is_none()), "{found:?}");
    }
    // Topology of one value, and of one value but for its last bits.
    for last_bits in [0.0, 1e-16] {
        let rng = &mut ChaCha8Rng::seed_from_u64(9);
        surroundings.topology.mapv_inplace(|_| 0.1 + last_bits * f64::from(rng.random_range(0..4_u8)));
        for found in of(&surroundings, &labels).iter().filter(|of| of.undefined.is_none()) {
            assert_eq!((found.gain, found.share_positive, found.p), (Some(0.0), Some(0.0), Some(1.0)), "{found:?}");
        }
    }
    // 0.1 + 0.2 and 0.3 are one value.
    let x = Array2::from_shape_fn((8, 2), |(i, j)| ((i * 3 + j) % 5) as f64);
    let y = [0.3, 0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2, 0.3];
    let found = ridge(x.view(), &y, &[0, 1, 2, 3], &[4, 5, 6, 7]).unwrap();
    assert_eq!((found.r2, found.spearman), (None, None));
}
