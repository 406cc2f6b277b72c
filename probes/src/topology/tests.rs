use std::path::PathBuf;

use ndarray::Array2;
use serde_json::Value;

use super::known_clouds as known;
use super::*;

/// Clouds with the diagrams that ripser.py and GUDHI give, in the layout that `tests/golden/README.md` tells.
fn golden() -> PathBuf {
    let given = std::env::var_os("ASSAY_GOLDEN_TOPOLOGY").map(PathBuf::from);
    given.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/topology"))
}

/// Those of [`golden`], and others, some of which are barely clouds.
fn clouds() -> Vec<Value> {
    let others = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/topology-others");
    let in_dir = |dir: PathBuf| {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "json") && !path.ends_with("pairs.json"));
        paths.sort();
        paths
    };
    let (given, others) = (in_dir(golden()), in_dir(others));
    assert!(given.len() >= 3 && others.len() == 10, "{given:?}");
    let read = |path: &PathBuf| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    given.iter().chain(&others).map(read).collect()
}

fn points(cloud: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(cloud["points"].clone()).unwrap();
    let d = rows.first().map_or(0, Vec::len);
    Array2::from_shape_vec((rows.len(), d), rows.concat()).unwrap()
}

fn bars(value: &Value) -> Vec<(f64, f64)> {
    let bars: Vec<(f64, Option<f64>)> = serde_json::from_value(value.clone()).unwrap();
    bars.into_iter().map(|(birth, death)| (birth, death.unwrap_or(f64::INFINITY))).collect()
}

/// Equal multisets: sorted by both keys, each pair of bars close. Bars shorter than the tolerance may be missing.
fn assert_same(found: &[Bar], expected: &[(f64, f64)], tolerance: f64, what: &str) {
    let found = found.iter().map(|bar| (bar.birth, bar.death.unwrap_or(f64::INFINITY)));
    let sorted = |bars: Vec<(f64, f64)>| {
        let mut bars: Vec<_> = bars.into_iter().filter(|(b, d)| d - b > 2.0 * tolerance).collect();
        let key = |x: f64| (x / tolerance / 10.0).round();
        bars.sort_by(|a, b| key(a.0).total_cmp(&key(b.0)).then(a.1.total_cmp(&b.1)));
        bars
    };
    let (found, expected) = (sorted(found.collect()), sorted(expected.to_vec()));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (f, e) in found.iter().zip(&expected) {
        let close = |f: f64, e: f64| f == e || (f - e).abs() <= tolerance;
        assert!(close(f.0, e.0) && close(f.1, e.1), "{what}: {f:?} and {e:?}");
    }
}

#[test]
fn diagrams_agree_with_gudhi_and_ripser() {
    for cloud in clouds() {
        let points = points(&cloud);
        for run in cloud["runs"].as_array().unwrap() {
            let metric: Metric = run["metric"].as_str().unwrap().parse().unwrap();
            let distances = Distances::between(points.view(), metric).unwrap();
            let diagram = persistence(&distances, 1, run["thresh"].as_f64()).unwrap();
            for (dimension, name) in ["H0", "H1"].into_iter().enumerate() {
                let what = format!("{} {metric} {name}", cloud["name"]);
                assert_same(&diagram.bars[dimension], &bars(&run["gudhi"][name]), 1e-9, &what);
                assert_same(&diagram.bars[dimension], &bars(&run["ripser"][name]), 1e-6, &what);
            }
            let (found, stats) = (BarStatistics::of(&diagram.finite(1)), &run["stats"]);
            // Ties that rounding breaks make bars of its length, which count, and are no two engines' the same.
            let is_long = |(birth, death): (f64, f64)| death - birth > 1e-9;
            let counts =
                diagram.finite(1).into_iter().all(is_long) && bars(&run["gudhi"]["H1"]).into_iter().all(is_long);
            assert!(!counts || Some(found.count as u64) == stats["n"].as_u64(), "{}", cloud["name"]);
            let close = |found: Option<f64>, key: &str| {
                let Some(expected) = stats[key].as_f64() else {
                    assert_eq!(found.filter(|_| key != "total"), None, "{key}");
                    return;
                };
                let found = found.unwrap();
                assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{key}: {found} and {expected}");
            };
            close(distances.enclosing_radius(), "enclosing_radius");
            close(Some(distances.diameter()), "diameter");
            close(found.max, "max");
            close(found.entropy, "entropy_nats");
            close(found.pi, "max_death_over_birth");
            if found.count > 0 {
                close(Some(found.total), "total");
                close(Some(found.total_squared), "total_squared");
            }
            if counts {
                close(found.mean, "mean");
                close(found.p95, "p95");
            }
            if counts && found.count > 0 {
                let top: Vec<f64> = serde_json::from_value(stats["top"].clone()).unwrap();
                assert_eq!(found.longest.len(), top.len());
                assert!(found.longest.iter().zip(&top).all(|(f, e)| (f - e).abs() < 1e-9));
            }
        }
    }
}

#[test]
fn landmarks_and_neighbourhoods_agree_with_numpy() {
    let mut seen = [0, 0];
    for cloud in clouds() {
        let points = points(&cloud);
        let distances = Distances::between(points.view(), Metric::Euclidean).unwrap();
        if let Some(order) = cloud["landmarks"].as_array() {
            let expected: Vec<usize> = order.iter().map(|i| i.as_u64().unwrap() as usize).collect();
            assert_eq!(landmarks(&distances, expected[0], expected.len()), expected, "{}", cloud["name"]);
            seen[0] += 1;
        }
        let k = cloud["local"]["k"].as_u64().unwrap_or(0) as usize;
        for row in cloud["local"]["rows"].as_array().into_iter().flatten() {
            let found = neighbourhood(points.view(), &distances, row["row"].as_u64().unwrap() as usize, k).unwrap();
            let flat = serde_json::to_value(&found).unwrap();
            assert_eq!(flat["neighbours"], row["neighbours"]);
            let number = |found: &Value, key: &str| {
                let (found, expected) = (found.as_f64().unwrap_or(0.0), row[key].as_f64().unwrap());
                assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{key}: {found} and {expected}");
            };
            for key in [
                "mean_neighbor_distance",
                "std_neighbor_distance",
                "p90_neighbor_distance",
                "max_neighbor_distance",
                "patch_distance_mean",
                "patch_distance_std",
                "density",
                "participation_ratio",
                "pca3_residual",
            ] {
                number(&flat[key], key);
            }
            for (ours, theirs) in [
                ("count", "h1_count"),
                ("max", "h1_max"),
                ("total", "h1_total"),
                ("mean", "h1_mean"),
                ("p95", "h1_p95"),
            ] {
                number(&flat["bars"][ours], theirs);
            }
            seen[1] += 1;
        }
    }
    assert!(std::env::var_os("ASSAY_GOLDEN_TOPOLOGY").is_some() || seen == [6, 5], "{seen:?}");
}

#[test]
fn distances_of_diagrams_agree_with_gudhi() {
    let Ok(text) = std::fs::read_to_string(golden().join("pairs.json")) else { return };
    let first_run = |name: &str| {
        let cloud = clouds().into_iter().find(|cloud| cloud["name"] == name).unwrap();
        bars(&cloud["runs"][0]["gudhi"]["H1"])
    };
    let pairs: Vec<Value> = serde_json::from_str(&text).unwrap();
    for pair in pairs {
        let [a, b] = ["a", "b"].map(|side| first_run(pair[side].as_str().unwrap()));
        let close = |found: f64, key: &str, tolerance: f64| {
            let expected = pair[key].as_f64().unwrap();
            assert!((found - expected).abs() <= tolerance * expected, "{pair}: {found}");
        };
        close(bottleneck(&a, &b), "bottleneck", 1e-9);
        close(wasserstein_1(&a, &b), "w1_inf", 1e-4);
        close(wasserstein_2(&a, &b), "w2_euclid", 1e-4);
    }
}

fn audited(cloud: &Array2<f64>, seed: u64) -> Audit {
    let draws = Draws { count: 39, stop_after: 10, seed };
    let nulls = [Null::Gaussian, Null::Axes];
    audit::<TopologyError>(cloud.view(), &Pipeline::plain(Metric::Euclidean), &nulls, &draws, |_| Ok(())).unwrap()
}

/// What must be said of clouds that have loops, and of some that have none but are not Gaussian.
#[test]
fn known_clouds_get_known_answers() {
    let rng = &mut known::rng(5);
    let loops = |cloud: Array2<f64>| audited(&cloud, 1);
    let circle = loops(known::circles(80, &[0.0], 0.05, rng));
    assert_eq!(circle.exceeds(Statistic::Pi, 0.05), Some(true));
    assert_eq!(circle.exceeds(Statistic::Max, 0.05), Some(true));
    assert!(circle.statistics.longest[0] > 1.0 && circle.statistics.longest.get(1).is_none_or(|&l| l < 0.2));
    // Two loops: the second bar is above the nulls', too.
    let eight = loops(known::circles(120, &[-1.0, 1.0], 0.03, rng));
    assert_eq!(eight.exceeds(Statistic::Second, 0.05), Some(true));
    for (name, cloud) in [
        ("Gaussian", known::gaussian(80, 8, rng)),
        ("clusters", known::clusters(80, 3, 10, rng)),
        ("clusters in many dimensions", known::clusters(80, 32, 10, rng)),
    ] {
        let found = loops(cloud);
        assert_eq!(found.exceeds(Statistic::Pi, 0.05), Some(false), "{name}: {:?}", found.largest_p(Statistic::Pi));
    }
}

/// A circle beside clusters: the longest bar is no longer than the nulls', whose Gaussian fills the gaps; π sees it.
#[test]
fn a_circle_beside_clusters_is_seen_by_the_ratio_alone() {
    let rng = &mut known::rng(7);
    let mut cloud = Array2::zeros((140, 16));
    cloud.slice_mut(ndarray::s![..60, ..2]).assign(&known::circles(60, &[0.0], 0.03, rng));
    cloud.slice_mut(ndarray::s![60.., ..]).assign(&known::clusters(80, 16, 6, rng));
    let found = audited(&cloud, 2);
    assert_eq!(found.exceeds(Statistic::Pi, 0.05), Some(true), "{:?}", found.largest_p(Statistic::Pi));
    assert_eq!(found.exceeds(Statistic::Max, 0.05), Some(false));
}

/// Of 60 clouds that are draws of the null itself, about α are rejected: the count is within its binomial's 99.9 %.
#[test]
fn the_error_rate_is_what_was_asked_for() {
    let rejected = |seed: u64| {
        let cloud = known::gaussian(40, 5, &mut known::rng(1000 + seed));
        let draws = Draws { count: 19, stop_after: 19, seed };
        let pipeline = Pipeline::plain(Metric::Euclidean);
        let found = audit::<TopologyError>(cloud.view(), &pipeline, &[Null::Gaussian], &draws, |_| Ok(())).unwrap();
        found.largest_p(Statistic::Pi).unwrap() <= 0.2
    };
    let count = (0..60).filter(|&seed| rejected(seed)).count();
    // 60 × 0.2 = 12, standard deviation 3.1.
    assert!((3..=23).contains(&count), "{count} of 60");
}

#[test]
fn draws_do_not_depend_on_threads() {
    let cloud = known::circles(50, &[0.0], 0.2, &mut known::rng(3));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_string(&audited(&cloud, 4)).unwrap())
    };
    assert_eq!(with(1), with(8));
}

#[test]
fn nulls_keep_what_they_promise() {
    let rng = &mut known::rng(11);
    let mut cloud = known::gaussian(400, 4, rng);
    for mut row in cloud.rows_mut() {
        row[1] += 2.0 * row[0];
        row[3] = row[3].powi(3);
    }
    let drawn = |null: Null| Drawable::of(null, cloud.view(), 0).unwrap().draw(&mut known::rng(12));
    let sorted = |column: ndarray::ArrayView1<'_, f64>| {
        let mut values = column.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let columns = drawn(Null::Columns);
    assert_ne!(columns, cloud);
    for (a, b) in columns.columns().into_iter().zip(cloud.columns()) {
        assert_eq!(sorted(a), sorted(b));
    }
    let axes = Axes::of(cloud.view()).unwrap();
    let of_axes = axes.scores(drawn(Null::Axes).view(), 4);
    for (a, b) in of_axes.columns().into_iter().zip(axes.scores(cloud.view(), 4).columns()) {
        assert!(sorted(a).iter().zip(sorted(b)).all(|(a, b)| (a - b).abs() < 1e-9));
    }
    // Variances along the axes, shrunk towards their mean, to sampling error.
    let found = axes.scores(drawn(Null::Gaussian).view(), 4);
    let (shrinkage, mean) = (ledoit_wolf(cloud.view()), axes.variances.mean().unwrap());
    for (column, variance) in found.columns().into_iter().zip(&axes.variances) {
        let expected = (1.0 - shrinkage) * variance + shrinkage * mean;
        assert!((column.var(0.0) / expected).ln().abs() < 0.3, "{} and {expected}", column.var(0.0));
    }
    // Of zeros and ones the sums of rows and columns.
    let bits = known::gaussian(30, 12, rng).mapv(|v| f64::from(u8::from(v > 0.6)));
    let swapped = Drawable::of(Null::Margins, bits.view(), 0).unwrap().draw(&mut known::rng(14));
    assert!(swapped != bits && swapped.iter().all(|&v| v == 0.0 || v == 1.0));
    for axis in [0, 1] {
        assert_eq!(swapped.sum_axis(ndarray::Axis(axis)), bits.sum_axis(ndarray::Axis(axis)));
    }
    let refused = Drawable::of(Null::Margins, cloud.view(), 0).err().unwrap().to_string();
    assert!(refused.contains("zeros and ones"), "{refused}");
    // Clusters stay where they are.
    let two = {
        let mut two = known::gaussian(60, 3, rng) * 0.1;
        two.slice_mut(ndarray::s![..20, 0]).mapv_inplace(|v| v + 10.0);
        two
    };
    let drawn = Drawable::of(Null::Clusters { count: 2 }, two.view(), 0).unwrap().draw(&mut known::rng(13));
    assert_eq!(drawn.column(0).iter().filter(|&&x| x > 5.0).count(), 20);
}

/// p of a label that means nothing is uniform, and that of points which lie on a circle among others is the least that there is.
#[test]
fn shuffled_labels_are_a_null_of_points_that_have_one() {
    let p = |points: ndarray::ArrayView2<'_, f64>, all: ndarray::ArrayView2<'_, f64>, seed: u64| {
        let draws = Draws { count: 19, stop_after: 19, seed };
        let pipeline = Pipeline::plain(Metric::Euclidean);
        let found =
            audit::<TopologyError>(Cloud { points, all }, &pipeline, &[Null::Labels], &draws, |_| Ok(())).unwrap();
        found.largest_p(Statistic::Pi).unwrap()
    };
    // All of them are one label's: a draw is the cloud itself in another order.
    let all = known::gaussian(40, 3, &mut known::rng(21));
    assert_eq!(p(all.view(), all.view(), 0), 1.0);
    let of_nothing = |seed: u64| {
        let all = known::gaussian(120, 3, &mut known::rng(4000 + seed));
        p(all.slice(ndarray::s![..40, ..]), all.view(), seed) <= 0.2
    };
    let rejected = (0..60).filter(|&seed| of_nothing(seed)).count();
    // 12 of 60 are expected, standard deviation 3.1.
    assert!((3..=23).contains(&rejected), "{rejected} of 60");
    let mut all = known::gaussian(120, 2, &mut known::rng(22));
    all.slice_mut(ndarray::s![..40, ..]).assign(&known::circles(40, &[0.0], 0.03, &mut known::rng(23)));
    assert_eq!(p(all.slice(ndarray::s![..40, ..]), all.view(), 0), 1.0 / 20.0);
}

/// scipy 1.17.1: with l = ln ln of the ratios, `40 * gumbel_l.sf(l.max() - l.mean() - euler_gamma)`.
#[test]
fn the_screen_without_draws_is_the_gumbel_laws() {
    let with_largest = |largest: f64| {
        let ratios = (1..40).map(|i| 1.0 + f64::from(i) / 50.0).chain([largest]);
        universal_p(&ratios.map(|ratio| (2.0, 2.0 * ratio)).collect::<Vec<_>>())
    };
    assert_eq!(with_largest(3.5), Some(1.0));
    for (largest, expected) in [(12.0, 0.2535301392610369), (30.0, 0.04140367343540772)] {
        assert!((with_largest(largest).unwrap() - expected).abs() < 1e-12, "{largest}");
    }
    assert_eq!(universal_p(&[(1.0, 2.0); 29]), None);
}

/// `sklearn.covariance.ledoit_wolf_shrinkage` of scikit-learn 1.9.1.
#[test]
fn shrinkage_agrees_with_scikit_learn() {
    let cloud = Array2::from_shape_fn((7, 3), |(i, j)| ((i * i * (j + 1) + 3 * j) % 11) as f64);
    assert!((ledoit_wolf(cloud.view()) - 0.5293118807983793).abs() < 1e-12, "{}", ledoit_wolf(cloud.view()));
    // Of two points it is 0, whatever rounding makes of it: a negative one would make draws of NaN.
    for pair in 0..200 {
        let pair = Array2::from_shape_fn((2, 4), |(i, j)| ((pair * 8 + i * 4 + j) as f64 * 0.7).sin() * 10.0);
        assert!((0.0..1e-12).contains(&ledoit_wolf(pair.view())), "{pair}");
    }
}

#[test]
fn small_clouds_have_the_bars_that_they_must() {
    let of = |points: usize| {
        let cloud = Array2::from_shape_fn((points, 2), |(i, _)| i as f64);
        let distances = Distances::between(cloud.view(), Metric::CityBlock).unwrap();
        persistence(&distances, 1, None).unwrap().bars
    };
    let never = Bar { birth: 0.0, death: None };
    assert_eq!(of(0), [vec![], vec![]]);
    assert_eq!(of(1), [vec![never], vec![]]);
    assert_eq!(of(2), [vec![Bar { birth: 0.0, death: Some(2.0) }, never], vec![]]);
    // m equally spaced points of a circle: one bar [2r sin(π/m), 2r sin(π⌈m/3⌉/m)).
    for m in [4, 7, 12, 39] {
        let angle = |i: usize| std::f64::consts::TAU * i as f64 / m as f64;
        let cloud = Array2::from_shape_fn((m, 2), |(i, j)| if j == 0 { angle(i).cos() } else { angle(i).sin() });
        let distances = Distances::between(cloud.view(), Metric::Euclidean).unwrap();
        let found = persistence(&distances, 1, None).unwrap().finite(1);
        let chord = |steps: f64| 2.0 * (std::f64::consts::PI * steps / m as f64).sin();
        // Equal chords differ in their last bits, which makes bars of that length.
        let long: Vec<_> = found.into_iter().filter(|(birth, death)| death - birth > 1e-9).collect();
        let expected = (chord(1.0), chord((m as f64 / 3.0).ceil()));
        assert_eq!(long.len(), 1, "{m}");
        assert!((long[0].0 - expected.0).abs() < 1e-12 && (long[0].1 - expected.1).abs() < 1e-12, "{m}: {long:?}");
    }
}

#[test]
fn clouds_that_are_none_are_refused() {
    let of = |values: [f64; 4], metric: Metric| {
        Distances::between(Array2::from_shape_vec((2, 2), values.to_vec()).unwrap().view(), metric)
            .unwrap_err()
            .to_string()
    };
    assert!(of([0.0, 1.0, f64::NAN, 1.0], Metric::Euclidean).contains("row 1, column 0 of the cloud is NaN"));
    assert!(
        of([0.0, 1.0, -1e200, 1.0], Metric::Euclidean).contains("row 1, column 0 of the cloud is -1e200, too large")
    );
    assert!(of([0.0, 0.0, 1.0, 1.0], Metric::Angular).contains("row 0 of the cloud is zero"));
    assert!(of([0.0, 1.0, 0.5, 1.0], Metric::Jaccard).contains("0 or 1"));
    assert!(of([0.0, 1.0, -0.5, 1.0], Metric::Tanimoto).contains("not negative"));
    let few = Distances::from_fn(3, |_, _| 1.0);
    assert!(Filtration::Dtm { neighbours: 8 }.of(few).unwrap_err().to_string().contains("3 points"));
}

/// Resistances of a path of three points, by hand: 1, 1 and 2 between neighbours' neighbours, less 1/deg of both ends and plus 2a/(deg deg).
#[test]
fn resistance_is_that_of_the_graph() {
    let line = Distances::from_fn(3, |i, j| (i as f64 - j as f64).abs() * if i + j == 1 { 1.0 } else { 1.1 });
    let found = Filtration::Resistance { neighbours: 1 }.of(line).unwrap();
    let (near, far) = (1.0 - 1.0 - 0.5 + 1.0, 2.0 - 1.0 - 1.0);
    for (i, j, expected) in [(0, 1, near), (1, 2, near), (0, 2, far)] {
        assert!((found.at(i, j) - expected).abs() < 1e-12, "{i} {j}: {}", found.at(i, j));
    }
    let apart = Distances::from_fn(4, |i, j| if i / 2 == j / 2 { 1.0 } else { 9.0 });
    assert_eq!(Filtration::Resistance { neighbours: 1 }.of(apart).unwrap().at(0, 3), f64::INFINITY);
}

const GEODESIC: [(usize, usize, f64); 5] = [
    (2, 0, 2.0615528128088303),
    (3, 0, 3.179586801558725),
    (6, 0, 6.359173603117451),
    (5, 2, 3.3541019662496847),
    (4, 1, 3.3541019662496847),
];

/// scipy 1.17.1: `shortest_path` of the graph of `sklearn.neighbors.kneighbors_graph(x, 2)`, made symmetric; and components apart.
#[test]
fn geodesic_distances_go_along_the_graph() {
    let at = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.5], [2.5, 1.5], [2.0, 2.5], [1.0, 3.0], [0.0, 3.0]];
    let cloud = Array2::from(at.to_vec());
    let of = |cloud: &Array2<f64>, neighbours: usize| {
        let distances = Distances::between(cloud.view(), Metric::Euclidean).unwrap();
        Filtration::Geodesic { neighbours }.of(distances).unwrap()
    };
    let found = of(&cloud, 2);
    for (i, j, expected) in GEODESIC {
        assert!((found.at(i, j) - expected).abs() < 1e-12, "{i} {j}: {}", found.at(i, j));
    }
    let apart = ndarray::arr2(&[[0.0], [1.0], [9.0], [10.0]]);
    assert_eq!(of(&apart, 1).at(0, 3), f64::INFINITY);
}

/// A Swiss roll's longest bar is a fifth of its diameter in space, where it goes between two turns, and not along the roll.
#[test]
fn a_swiss_roll_has_no_long_bar_along_the_roll() {
    let roll = known::swiss_roll(300, &mut known::rng(41));
    let longest = |filtration: Filtration| {
        let pipeline = Pipeline { filtration, ..Pipeline::plain(Metric::Euclidean) };
        let distances = pipeline.distances(roll.view()).unwrap();
        let bars = persistence(&distances, 1, None).unwrap().finite(1);
        BarStatistics::of(&bars).max.unwrap() / distances.diameter()
    };
    let (across, along) = (longest(Filtration::Plain), longest(Filtration::Geodesic { neighbours: 5 }));
    assert!(across > 0.18 && along < 0.08, "{across} and {along}");
}

/// numpy: all 35 subsamples of 7/ln 7 = 3 of these points; of their Hausdorff distances to all 60 % are at most √34 and 94 % at most √37.
#[test]
fn a_confidence_band_is_of_all_subsamples() {
    let at = [[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [7.0, 1.0], [8.0, 5.0], [2.0, 6.0]];
    let distances = Distances::between(Array2::from(at.to_vec()).view(), Metric::Euclidean).unwrap();
    let bars = [(1.0, 48.0), (1.0, 49.0), (1.0, 50.0)];
    let of = |alpha: f64| Band::of(&distances, &bars, alpha, 5).unwrap();
    let (half, fifth) = (of(0.5), of(0.2));
    assert!(
        (half.c - 2.0 * 34.0_f64.sqrt()).abs() < 1e-12 && (fifth.c - 2.0 * 37.0_f64.sqrt()).abs() < 1e-12,
        "{half:?}"
    );
    // 4c is 46.6 and 48.7.
    assert_eq!((half.points, half.above, fifth.above), (3, 3, 1));
    assert_eq!(Band::of(&distances.among(&[0, 1, 2]), &bars, 0.5, 5), None);
}

/// A circle's ratio grows with its points, and its bar is in nearly every half; a Gaussian's in fewer.
#[test]
fn a_loop_grows_and_comes_again() {
    let of = |cloud: &Array2<f64>| {
        let pipeline = Pipeline::plain(Metric::Euclidean);
        let loops = pipeline.loops(&pipeline.diagram(cloud.view()).unwrap());
        Growth::of(cloud.view(), &loops, &pipeline, &[Null::Gaussian], 3).unwrap()
    };
    let circle = of(&known::circles(120, &[0.0], 0.03, &mut known::rng(31)));
    let gaussian = of(&known::gaussian(120, 8, &mut known::rng(32)));
    for growth in [&circle, &gaussian] {
        let sizes: Vec<[usize; 2]> = growth.sizes.iter().map(|size| [size.share, size.points]).collect();
        assert_eq!(sizes, [[4, 30], [2, 60]]);
        for size in &growth.sizes {
            assert!(size.nulls.len() == 1 && size.cloud.least <= size.cloud.mean && size.cloud.mean <= size.cloud.most);
        }
    }
    let [quarters, halves] = [0, 1].map(|at| circle.sizes[at].cloud);
    assert!(halves.mean > 1.3 * quarters.mean, "{circle:?}");
    assert!(halves.least > circle.sizes[1].nulls[0].most, "{circle:?}");
    let [circle, gaussian] = [&circle, &gaussian].map(|growth| growth.recurrence.as_ref().unwrap());
    assert!(circle.found > 13 && circle.parts == 16, "{circle:?}");
    assert!(gaussian.found < circle.found, "{gaussian:?}");
}

/// Where there are fewer points than dimensions, the same distances by the points' products.
#[test]
fn scores_are_those_of_the_axes() {
    let cloud = known::gaussian(9, 20, &mut known::rng(17));
    let [short, long] =
        [principal_scores(cloud.view(), 5).unwrap(), Axes::of(cloud.view()).unwrap().scores(cloud.view(), 5)];
    let of = |scores: &Array2<f64>| Distances::between(scores.view(), Metric::CityBlock).unwrap();
    let (short, long) = (of(&short), of(&long));
    assert!(short.condensed().iter().zip(long.condensed()).all(|(a, b)| (a - b).abs() < 1e-9));
}

/// By hand.
#[test]
fn statistics_together_are_those_of_westfall_and_young() {
    let some = |values: [f64; 2]| values.map(Some).to_vec();
    // First: observed 3, draws 5, 1, 2. Second: observed 9, draws 1, 7, None.
    let draws = [some([5.0, 1.0]), some([1.0, 7.0]), vec![Some(2.0), None]];
    // Ranks of the draws: (1/4, 3/4), (4/4, 2/4), (3/4, 4/4): least 1/4, 1/2, 3/4. Observed: 2/4 and 1/4.
    let found = super::together::adjusted(&[Some(3.0), Some(9.0)], &draws);
    assert_eq!(found, [3.0 / 4.0, 2.0 / 4.0]);
}

/// A circle is one in both metrics; over both its p is no less than in either, and that of a Gaussian stays large.
#[test]
fn metrics_together_have_a_p_of_their_own() {
    let both = |cloud: &Array2<f64>| {
        let draws = Draws { count: 39, stop_after: 10, seed: 3 };
        [Metric::Euclidean, Metric::CityBlock].map(|metric| {
            let nulls = [Null::Gaussian, Null::Axes];
            audit::<TopologyError>(cloud.view(), &Pipeline::plain(metric), &nulls, &draws, |_| Ok(())).unwrap()
        })
    };
    let together = |audits: &[Audit; 2]| over_metrics(&[&audits[0], &audits[1]], Statistic::Pi).unwrap();
    let circle = both(&known::circles(60, &[0.0], 0.05, &mut known::rng(4)));
    assert_eq!(together(&circle), [1.0 / 40.0; 2]);
    let gaussian = both(&known::gaussian(60, 6, &mut known::rng(5)));
    for (audit, p) in gaussian.iter().zip(together(&gaussian)) {
        assert!(p >= audit.largest_p(Statistic::Pi).unwrap(), "{p}");
    }
    let bare = Audit { nulls: Vec::new(), ..circle[0].clone() };
    assert_eq!(over_metrics(&[&bare], Statistic::Pi), None);
}

mod properties {
    use super::super::known_clouds::{gaussian, rng};
    use super::super::*;
    use ndarray::{Array2, Axis};
    use proptest::prelude::*;
    use rand::Rng as _;

    fn bars(cloud: &Array2<f64>) -> Diagram {
        persistence(&Distances::between(cloud.view(), Metric::Euclidean).unwrap(), 1, None).unwrap()
    }

    /// Bars by the textbook: the columns of the boundary matrix of all simplices up to triangles, in the order of the filtration, are reduced from left to right
    /// (Edelsbrunner, Letscher and Zomorodian 2002). It shares nothing with the engine.
    fn by_reduction(distances: &Distances, threshold: f64) -> Vec<Vec<(f64, f64)>> {
        let n = distances.len();
        let mut simplices: Vec<(f64, Vec<usize>)> = (0..n).map(|i| (0.0, vec![i])).collect();
        for i in 0..n {
            for j in 0..i {
                simplices.push((distances.at(i, j), vec![j, i]));
                simplices.extend((0..j).map(|k| {
                    let longest = distances.at(i, j).max(distances.at(i, k)).max(distances.at(j, k));
                    (longest, vec![k, j, i])
                }));
            }
        }
        simplices.retain(|(scale, _)| *scale <= threshold);
        simplices.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.len().cmp(&b.1.len())).then(a.1.cmp(&b.1)));
        let place = |vertices: &[usize]| simplices.iter().position(|(_, of)| of == vertices).unwrap();
        let mut owner: Vec<Option<Vec<usize>>> = vec![None; simplices.len()];
        let mut dies = vec![f64::INFINITY; simplices.len()];
        let mut is_birth = vec![true; simplices.len()];
        for (at, (scale, vertices)) in simplices.iter().enumerate().filter(|(_, (_, vertices))| vertices.len() > 1) {
            let without = |left: usize| vertices.iter().copied().filter(|&v| v != vertices[left]).collect::<Vec<_>>();
            let mut column: Vec<usize> = (0..vertices.len()).map(|left| place(&without(left))).collect();
            column.sort_unstable();
            while let Some(other) = column.last().and_then(|&low| owner[low].as_ref()) {
                // Their sum modulo 2.
                let (mine, both): (Vec<usize>, Vec<usize>) = column.iter().partition(|row| !other.contains(row));
                column = mine.into_iter().chain(other.iter().copied().filter(|row| !both.contains(row))).collect();
                column.sort_unstable();
            }
            if let Some(&low) = column.last() {
                dies[low] = *scale;
                is_birth[at] = false;
                owner[low] = Some(column);
            }
        }
        let of = |dimension: usize| {
            let born = (0..simplices.len()).filter(|&at| is_birth[at] && simplices[at].1.len() == dimension + 1);
            let mut bars: Vec<(f64, f64)> = born.map(|at| (simplices[at].0, dies[at])).filter(|(b, d)| d > b).collect();
            bars.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            bars
        };
        vec![of(0), of(1)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Two engines, on matrices that are no distances of points: whole numbers, so that there are ties, zeros and pairs that never meet.
        #[test]
        fn two_engines_agree(seed in 0u64..1000, n in 0usize..12, values in 1u8..9, never in 0u8..3, cut in 0u8..9) {
            let mut rng = rng(seed);
            let mut draw = || rng.random_range(0..values + never);
            let distances = Distances::from_fn(n, |_, _| {
                let value = draw();
                if value < values { f64::from(value) } else { f64::INFINITY }
            });
            // Among pairs that never meet, the threshold is the longest that do.
            for threshold in [None, Some(f64::from(cut))] {
                let found = persistence(&distances, 1, threshold).unwrap();
                let finite = distances.condensed().iter().copied().filter(|d| d.is_finite()).fold(0.0, f64::max);
                let expected = by_reduction(&distances, threshold.unwrap_or(finite));
                for (found, expected) in found.bars.iter().zip(&expected) {
                    let found: Vec<_> = found.iter().map(|b| (b.birth, b.death.unwrap_or(f64::INFINITY))).collect();
                    prop_assert_eq!(&found, expected);
                }
            }
        }

        /// Orders, rigid motions and scales do not change a diagram but for the scale.
        #[test]
        fn diagrams_follow_the_cloud(seed in 0u64..1000, n in 3usize..24, scale in 0.1f64..10.0, angle in 0.0f64..6.0) {
            let cloud = gaussian(n, 2, &mut rng(seed));
            let of = bars(&cloud);
            let mut order: Vec<usize> = (0..n).rev().collect();
            order.rotate_left(seed as usize % n);
            prop_assert_eq!(&bars(&cloud.select(Axis(0), &order)), &of);
            let (s, c) = angle.sin_cos();
            let moved = cloud.dot(&ndarray::arr2(&[[c, s], [-s, c]])) * scale + 3.0;
            for dimension in 0..2 {
                let found = bars(&moved).finite(dimension);
                let scaled: Vec<_> = of.finite(dimension).iter().map(|(b, d)| (b * scale, d * scale)).collect();
                prop_assert!(bottleneck(&found, &scaled) < 1e-9 * (1.0 + scale));
            }
        }

        /// Moving every point by δ at most moves the diagram by 2δ at most (Chazal, de Silva and Oudot 2014).
        #[test]
        fn diagrams_are_stable(seed in 0u64..1000, n in 3usize..24, delta in 0.0f64..0.2) {
            let cloud = gaussian(n, 3, &mut rng(seed));
            let mut moved = gaussian(n, 3, &mut rng(seed + 5000));
            for mut row in moved.rows_mut() {
                let norm = row.dot(&row).sqrt();
                row.mapv_inplace(|v| v / norm * delta);
            }
            let moved = &cloud + &moved;
            for dimension in 0..2 {
                let [a, b] = [&cloud, &moved].map(|cloud| bars(cloud).finite(dimension));
                prop_assert!(bottleneck(&a, &b) <= 2.0 * delta + 1e-12);
            }
        }

        /// A threshold cuts bars off, and changes nothing else.
        #[test]
        fn a_threshold_truncates(seed in 0u64..1000, n in 3usize..24, threshold in 0.0f64..3.0) {
            let cloud = gaussian(n, 2, &mut rng(seed));
            let distances = Distances::between(cloud.view(), Metric::Euclidean).unwrap();
            let cut = persistence(&distances, 1, Some(threshold)).unwrap();
            for (found, whole) in cut.bars.iter().zip(&bars(&cloud).bars) {
                let mut expected: Vec<Bar> = whole.iter().filter(|bar| bar.birth <= threshold).copied().collect();
                for bar in &mut expected {
                    bar.death = bar.death.filter(|&death| death <= threshold);
                }
                expected.sort_by(|a, b| {
                    let last = |bar: &Bar| bar.death.unwrap_or(f64::INFINITY);
                    a.birth.total_cmp(&b.birth).then(last(a).total_cmp(&last(b)))
                });
                prop_assert_eq!(found, &expected);
            }
        }

        /// Monotone changes of distances change bars alike: 1 − cos and its arc.
        #[test]
        fn cosine_and_angular_have_the_same_bars(seed in 0u64..1000, n in 3usize..20) {
            let cloud = gaussian(n, 4, &mut rng(seed));
            let of = |metric| persistence(&Distances::between(cloud.view(), metric).unwrap(), 1, None).unwrap();
            let (cosine, angular) = (of(Metric::Cosine), of(Metric::Angular));
            let as_cosine = |x: f64| 1.0 - x.cos();
            let changed: Vec<_> = angular.finite(1).iter().map(|&(b, d)| (as_cosine(b), as_cosine(d))).collect();
            prop_assert!(bottleneck(&cosine.finite(1), &changed) < 1e-12);
        }
    }
}
