//! Clouds of which it is known what must be said, and how often it is said of clouds without a loop.

use std::f64::consts::{PI, TAU};

use ndarray::{Array1, Array2, ArrayView2};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal, StudentT};
use rayon::prelude::*;

use super::tests::clouds;
use super::*;

type Made = fn(&mut ChaCha8Rng) -> Array2<f64>;

/// What must be said of a cloud.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// More than the nulls by π, and so many bars that are longer than the nulls' of the same rank.
    Loops(usize),
    /// Anything: there is no loop in the cloud, and yet it has a shape that neither null has, so that some draws of it have more than both.
    Open,
    /// No more than both nulls by π.
    None,
}

const N: usize = 150;

fn of_rows<const D: usize>(mut row: impl FnMut() -> [f64; D]) -> Array2<f64> {
    Array2::from((0..N).map(|_| row()).collect::<Vec<_>>())
}

fn torus(rng: &mut ChaCha8Rng) -> Array2<f64> {
    // Uniform in area.
    of_rows(|| {
        loop {
            let (around, across) = (rng.random::<f64>() * TAU, rng.random::<f64>() * TAU);
            let radius = 2.0 + across.cos();
            if rng.random::<f64>() * 3.0 < radius {
                return [radius * around.cos(), radius * around.sin(), across.sin()];
            }
        }
    })
}

fn sphere(rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows(|| {
        let at: [f64; 3] = std::array::from_fn(|_| rng.sample(StandardNormal));
        let norm = at.iter().map(|v| v * v).sum::<f64>().sqrt();
        at.map(|v| v / norm)
    })
}

fn swiss_roll(rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows(|| {
        let turn = 1.5 * PI * (1.0 + 2.0 * rng.random::<f64>());
        [turn * turn.cos(), 10.0 * rng.random::<f64>(), turn * turn.sin()]
    })
}

fn power_law(rng: &mut ChaCha8Rng) -> Array2<f64> {
    clouds::gaussian(N, 64, rng) * &Array1::from_shape_fn(64, |j| (j as f64 + 1.0).powf(-0.75))
}

fn heavy_tails(rng: &mut ChaCha8Rng) -> Array2<f64> {
    let tails = StudentT::new(3.0).unwrap();
    Array2::from_shape_fn((N, 16), |_| tails.sample(rng))
}

fn outliers(rng: &mut ChaCha8Rng) -> Array2<f64> {
    let mut cloud = clouds::gaussian(N, 32, rng);
    for row in 0..N / 50 {
        cloud.row_mut(row * 50).mapv_inplace(|v| v * 10.0);
    }
    cloud
}

fn cube(rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows::<3>(|| std::array::from_fn(|_| rng.random()))
}

fn disc(rng: &mut ChaCha8Rng) -> Array2<f64> {
    of_rows(|| {
        let (radius, angle) = (rng.random::<f64>().sqrt(), rng.random::<f64>() * TAU);
        [radius * angle.cos(), radius * angle.sin()]
    })
}

fn circle_beside_clusters(rng: &mut ChaCha8Rng) -> Array2<f64> {
    let mut cloud = Array2::zeros((N, 16));
    cloud.slice_mut(ndarray::s![..60, ..2]).assign(&clouds::circles(60, &[0.0], 0.03, rng));
    cloud.slice_mut(ndarray::s![60.., ..]).assign(&clouds::clusters(N - 60, 16, 6, rng));
    cloud
}

const KNOWN: [(&str, Made, Verdict); 15] = [
    ("circle, noise 0.05", |rng| clouds::circles(N, &[0.0], 0.05, rng), Verdict::Loops(1)),
    ("figure eight", |rng| clouds::circles(N, &[-1.0, 1.0], 0.03, rng), Verdict::Loops(2)),
    ("torus in space", torus, Verdict::Loops(3)),
    ("circle beside 6 clusters, 16 dimensions", circle_beside_clusters, Verdict::Loops(0)),
    ("sphere", sphere, Verdict::Open),
    ("Swiss roll", swiss_roll, Verdict::None),
    ("Gaussian, 8 dimensions", |rng| clouds::gaussian(N, 8, rng), Verdict::None),
    ("power law, 64 dimensions", power_law, Verdict::None),
    ("10 clusters, 3 dimensions", |rng| clouds::clusters(N, 3, 10, rng), Verdict::None),
    ("10 clusters, 32 dimensions", |rng| clouds::clusters(N, 32, 10, rng), Verdict::None),
    ("Student t of 3, 16 dimensions", heavy_tails, Verdict::None),
    ("2 % outliers, 32 dimensions", outliers, Verdict::None),
    ("ReLU code, 64 dimensions", |rng| clouds::gaussian(N, 64, rng).mapv(|v| (v - 1.0).max(0.0)), Verdict::None),
    ("cube in space", cube, Verdict::Open),
    ("disc", disc, Verdict::Open),
];

/// The table of `results/topology/README.md`: `cargo test --release -p assay-probes --lib -- --nocapture the_table_of_known_answers`.
#[test]
fn the_table_of_known_answers_says_what_it_must() {
    let nulls = [Null::Gaussian, Null::Axes];
    let pipeline = Pipeline::plain(Metric::Euclidean);
    let draws = Draws { count: 99, stop_after: 20, seed: 0 };
    let of_cloud = |(at, (_, make, _)): (usize, &(&str, Made, Verdict))| {
        let cloud = make(&mut clouds::rng(100 + at as u64));
        let found = audit::<TopologyError>(cloud.view(), &pipeline, &nulls, &draws, |_| Ok(())).unwrap();
        let author = author_rule(cloud.view(), &pipeline, &[Null::Columns, Null::Gaussian], [8, N / 2], 0).unwrap();
        (found, author.ratio)
    };
    let found: Vec<_> = KNOWN.par_iter().enumerate().map(of_cloud).collect();
    println!(
        "| cloud | longest bars | π | p by max | p by π | more than both nulls by π | bars longer than the nulls' | ratio_author |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for ((name, _, expected), (found, ratio)) in KNOWN.iter().zip(&found) {
        let p = |statistic: Statistic| {
            let of = |null: &AgainstNull| null.tests.iter().find(|test| test.statistic == statistic).unwrap().p;
            found.nulls.iter().map(of).map(|p| format!("{p:.2}")).collect::<Vec<_>>().join("/")
        };
        let more = found.exceeds(Statistic::Pi, 0.05) == Some(true);
        let of_rank = [Statistic::Max, Statistic::Second, Statistic::Third];
        let bars = of_rank.into_iter().take_while(|&s| found.exceeds(s, 0.05) == Some(true)).count();
        let longest: Vec<String> = found.statistics.longest.iter().take(3).map(|l| format!("{l:.3}")).collect();
        println!(
            "| {name} | {} | {:.2} | {} | {} | {} | {bars} | {:.2} |",
            longest.join(" "),
            found.statistics.pi.unwrap(),
            p(Statistic::Max),
            p(Statistic::Pi),
            if more { "yes" } else { "no" },
            ratio.unwrap()
        );
        let as_expected = match *expected {
            Verdict::Loops(count) => more && bars == count,
            Verdict::Open => true,
            Verdict::None => !more,
        };
        wrong.extend((!as_expected).then_some(*name));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A sphere, which may pass by the plain test without a loop, has a bar of dimension 2 that is longer than all of dimension 1.
#[test]
fn a_sphere_is_told_by_dimension_2() {
    let of = |cloud: ArrayView2<'_, f64>, max_dim: usize| {
        persistence(&Distances::between(cloud, Metric::Euclidean).unwrap(), max_dim, None).unwrap()
    };
    let longest = |diagram: &Diagram, dimension: usize| {
        diagram.finite(dimension).iter().map(|(birth, death)| death - birth).fold(0.0, f64::max)
    };
    let sphere = of(sphere(&mut clouds::rng(31)).view(), 2);
    assert!(longest(&sphere, 2) > 1.5 * longest(&sphere, 1), "{} {}", longest(&sphere, 2), longest(&sphere, 1));
}

/// p of 200 clouds that are draws of the null itself are uniform among the twentieths: Kolmogorov and Smirnov's distance is below its 99 % point.
#[test]
fn p_values_of_the_null_are_uniform() {
    let p = |seed: u64| {
        let cloud = clouds::gaussian(40, 4, &mut clouds::rng(3000 + seed));
        let draws = Draws { count: 19, stop_after: 19, seed };
        let pipeline = Pipeline::plain(Metric::Euclidean);
        let found = audit::<TopologyError>(cloud.view(), &pipeline, &[Null::Gaussian], &draws, |_| Ok(())).unwrap();
        [Statistic::Pi, Statistic::Max, Statistic::Total].map(|statistic| found.largest_p(statistic).unwrap())
    };
    let found: Vec<[f64; 3]> = (0..200_u64).into_par_iter().map(p).collect();
    for (at, statistic) in ["pi", "max", "total"].into_iter().enumerate() {
        let share = |most: f64| found.iter().filter(|p| p[at] <= most + 1e-9).count() as f64 / found.len() as f64;
        let farthest = (1..=20).map(|k| f64::from(k) / 20.0).map(|p| (share(p) - p).abs()).fold(0.0, f64::max);
        // 1.628/√200; of a law with steps the distance is smaller yet.
        assert!(farthest < 0.115, "{statistic}: {farthest}");
    }
}

/// The rates of the known answers over clouds without a loop, 200 of each kind or as many as `ASSAY_CLOUDS` says, side by side on all cores:
/// `cargo test --release -p assay-probes --lib -- --ignored --nocapture rates_over_200`. What is rejected at α 0.05 by π against both nulls must
/// lie within the binomial's 99.9 % of at most α; the earlier rule, whose ratio calls a loop robust above 1, stands beside it.
#[test]
#[ignore = "takes half an hour of one core"]
fn rates_over_200_null_clouds_are_what_was_asked_for() {
    type Made = fn(&mut rand_chacha::ChaCha8Rng) -> Array2<f64>;
    let kinds: [(&str, Made); 3] = [
        ("Gaussian in 8 dimensions", |rng| clouds::gaussian(100, 8, rng)),
        ("10 clusters in 3 dimensions", |rng| clouds::clusters(100, 3, 10, rng)),
        ("10 clusters in 32 dimensions", |rng| clouds::clusters(100, 32, 10, rng)),
    ];
    let count: u64 = std::env::var("ASSAY_CLOUDS").map_or(200, |text| text.parse().unwrap());
    let nulls = [Null::Gaussian, Null::Axes];
    let pipeline = Pipeline::plain(Metric::Euclidean);
    let of_cloud = |(kind, seed): (usize, u64)| {
        let cloud = kinds[kind].1(&mut clouds::rng(7000 + seed));
        let draws = Draws { count: 39, stop_after: 4, seed };
        let found = audit::<TopologyError>(cloud.view(), &pipeline, &nulls, &draws, |_| Ok(())).unwrap();
        let author = author_rule(cloud.view(), &pipeline, &[Null::Columns, Null::Gaussian], [8, 50], seed).unwrap();
        (found.exceeds(Statistic::Pi, 0.05).unwrap(), author.ratio.is_some_and(|ratio| ratio > 1.0))
    };
    let all: Vec<(usize, u64)> = (0..kinds.len()).flat_map(|kind| (0..count).map(move |seed| (kind, seed))).collect();
    let found: Vec<(bool, bool)> = all.into_par_iter().map(of_cloud).collect();
    // The largest count that a rate of α gives with a chance of 0.001 or more: of 200, 21.
    let most = most_at(0.05, count, 0.001);
    println!(
        "| cloud without a loop | clouds | p of pi ≤ 0.05 against both nulls | rate, 95 % (Clopper and Pearson) | ratio_author > 1 |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut too_many = Vec::new();
    for ((name, _), found) in kinds.iter().zip(found.chunks(count as usize)) {
        let rejected = found.iter().filter(|(rejected, _)| *rejected).count();
        let author = found.iter().filter(|(_, author)| *author).count();
        let interval = crate::stats::clopper_pearson(rejected, found.len(), 0.95).unwrap();
        println!("| {name} | {count} | {rejected} | [{:.3}, {:.3}] | {author} |", interval.low, interval.high);
        too_many.extend((rejected as u64 > most).then_some((*name, rejected)));
    }
    assert!(too_many.is_empty(), "more than {most} of {count}: {too_many:?}");
}

/// The largest k of which a binomial of `trials` and `rate` has k or more with a probability of at least `chance`.
fn most_at(rate: f64, trials: u64, chance: f64) -> u64 {
    let mut of = (1.0 - rate).powi(trials as i32);
    let mut at_least = 1.0;
    let mut k = 0;
    while at_least - of >= chance && k < trials {
        at_least -= of;
        of *= (trials - k) as f64 / (k + 1) as f64 * rate / (1.0 - rate);
        k += 1;
    }
    k
}

/// scipy 1.17.1: `binom.sf(20, 200, 0.05)`, the chance of 21 or more, is 0.00116, and that of 22 or more 0.00048.
#[test]
fn the_bound_of_rates_is_the_binomials() {
    assert_eq!(most_at(0.05, 200, 0.001), 21);
}
