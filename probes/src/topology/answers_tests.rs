//! Clouds of which it is known what must be said.

use rayon::prelude::*;

use super::known_clouds::{self as known, Made};
use super::*;
use crate::stats::clopper_pearson;

/// What must be said of a cloud.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// More than the nulls by π, and so many bars that are longer than the nulls' of the same rank.
    Loops(usize),
    /// Nothing of a single draw: there is no loop in the cloud, and yet a shape that neither null has, so that some draws have more than both. How
    /// often they do is the answer, which `rates_tests.rs` has.
    Rate,
    /// No more than both nulls by π.
    None,
}

const N: usize = 150;

const KNOWN: [(&str, Made, Verdict); 15] = [
    ("circle, noise 0.05", |n, rng| known::circles(n, &[0.0], 0.05, rng), Verdict::Loops(1)),
    ("figure eight", |n, rng| known::circles(n, &[-1.0, 1.0], 0.03, rng), Verdict::Loops(2)),
    ("torus in space", known::torus, Verdict::Loops(3)),
    ("circle beside 6 clusters, 16 dimensions", known::circle_beside_clusters, Verdict::Loops(0)),
    ("sphere", known::sphere, Verdict::Rate),
    ("Swiss roll", known::swiss_roll, Verdict::Rate),
    ("Gaussian, 8 dimensions", |n, rng| known::gaussian(n, 8, rng), Verdict::None),
    ("power law, 64 dimensions", known::power_law, Verdict::None),
    ("10 clusters, 3 dimensions", |n, rng| known::clusters(n, 3, 10, rng), Verdict::None),
    ("10 clusters, 32 dimensions", |n, rng| known::clusters(n, 32, 10, rng), Verdict::None),
    ("Student t of 3, 16 dimensions", known::heavy_tails, Verdict::None),
    ("2 % outliers, 32 dimensions", known::outliers, Verdict::None),
    ("ReLU code, 64 dimensions", known::relu_code, Verdict::Rate),
    ("cube in space", known::cube, Verdict::Rate),
    ("disc", known::disc, Verdict::Rate),
];

/// The table of `results/topology/README.md`: `cargo test --release -p assay-probes --lib -- --nocapture the_table_of_known_answers`.
#[test]
fn the_table_of_known_answers_says_what_it_must() {
    let nulls = [Null::Gaussian, Null::Axes];
    let pipeline = Pipeline::plain(Metric::Euclidean);
    let draws = Draws { count: 99, stop_after: 20, seed: 0 };
    let of_cloud = |(at, (_, make, _)): (usize, &(&str, Made, Verdict))| {
        let cloud = make(N, &mut known::rng(100 + at as u64));
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
            Verdict::Rate => true,
            Verdict::None => !more,
        };
        wrong.extend((!as_expected).then_some(*name));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A sphere may have more of a loop than the nulls without one: its void explains it. The loops of a circle and a torus are longer than any void.
#[test]
fn a_void_explains_a_sphere_and_no_loop() {
    let explained = |make: Made, seed: u64| {
        let pipeline = Pipeline { max_dim: 2, ..Pipeline::plain(Metric::Euclidean) };
        let draws = Draws { count: 19, stop_after: 19, seed };
        let cloud = make(100, &mut known::rng(31 + seed));
        let found =
            audit::<TopologyError>(cloud.view(), &pipeline, &[Null::Gaussian, Null::Axes], &draws, |_| Ok(())).unwrap();
        assert_eq!(found.nulls[0].tests.last().unwrap().statistic, Statistic::Void);
        found.is_explained_by_a_void(0.05)
    };
    for seed in 0..2 {
        assert_eq!(explained(known::sphere, seed), Some(true), "sphere {seed}");
    }
    assert_eq!(explained(known::torus, 0), Some(false));
    assert_eq!(explained(|n, rng| known::circles(n, &[0.0], 0.05, rng), 0), Some(false));
}

/// p of 200 clouds that are draws of the null itself are uniform among the twentieths: Kolmogorov and Smirnov's distance is below its 99 % point.
#[test]
fn p_values_of_the_null_are_uniform() {
    let p = |seed: u64| {
        let cloud = known::gaussian(40, 4, &mut known::rng(3000 + seed));
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
        // The rate of false positives itself: α within the binomial's interval.
        let interval = clopper_pearson((share(0.05) * 200.0).round() as usize, 200, 0.999).unwrap();
        assert!((interval.low..=interval.high).contains(&0.05), "{statistic}: {}", share(0.05));
    }
}
