//! How often clouds of which the answer is known have more of a loop than the nulls: of clouds drawn anew, with binomial intervals. A single draw of
//! a sphere, a cube, a disc or a Swiss roll says nothing: neither null has their shape, and some draws have more of a loop than both.

use rayon::prelude::*;

use super::known_clouds::{self as known, Made};
use super::*;
use crate::stats::{clopper_pearson, quantile};

const ALPHA: f64 = 0.05;
const NULLS: [Null; 2] = [Null::Gaussian, Null::Axes];
/// Clouds of a kind.
const CLOUDS: u64 = 20;

/// What is certain of a kind of cloud.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// It has a loop that so many points show: each cloud has more than both nulls.
    Loop,
    /// It has none: more than both nulls no more often than a rate of α allows.
    None,
    /// It has no loop and a shape that neither null has, or loops that so few points barely show: the rate is printed.
    Rate,
}

/// At least and at most so many of so many clouds.
type Count = [usize; 3];

struct Kind {
    name: &'static str,
    make: Made,
    expected: Expected,
    /// How many of how many clouds an earlier measurement with ripser.py found above the Gaussian, above permuted principal axes, and above both.
    earlier: [Option<Count>; 3],
}

const fn kind(name: &'static str, make: Made, expected: Expected, earlier: [Option<Count>; 3]) -> Kind {
    Kind { name, make, expected, earlier }
}

const UNKNOWN: [Option<Count>; 3] = [None; 3];

/// Those that take little time first.
const KINDS: [Kind; 15] = [
    kind("circle, noise 0.05", |n, rng| known::circles(n, &[0.0], 0.05, rng), Expected::Loop, UNKNOWN),
    kind("circle beside 6 clusters, 16 dimensions", known::circle_beside_clusters, Expected::Loop, UNKNOWN),
    kind("sphere", known::sphere, Expected::Rate, [None, None, Some([12, 18, 20])]),
    kind("cube in space", known::cube, Expected::Rate, [Some([3, 3, 20]), Some([1, 1, 20]), None]),
    kind("disc", known::disc, Expected::Rate, UNKNOWN),
    kind("ReLU code, 64 dimensions", known::relu_code, Expected::Rate, [Some([1, 2, 20]), Some([4, 5, 20]), None]),
    kind("figure eight", |n, rng| known::circles(n, &[-1.0, 1.0], 0.03, rng), Expected::Loop, UNKNOWN),
    kind("torus in space", known::torus, Expected::Rate, UNKNOWN),
    kind("Swiss roll", known::swiss_roll, Expected::Rate, UNKNOWN),
    kind("Gaussian, 8 dimensions", |n, rng| known::gaussian(n, 8, rng), Expected::None, UNKNOWN),
    kind("power law, 64 dimensions", known::power_law, Expected::None, [Some([0, 2, 15]), None, None]),
    kind("10 clusters, 3 dimensions", |n, rng| known::clusters(n, 3, 10, rng), Expected::None, UNKNOWN),
    kind("10 clusters, 32 dimensions", |n, rng| known::clusters(n, 32, 10, rng), Expected::None, UNKNOWN),
    kind("Student t of 3, 16 dimensions", known::heavy_tails, Expected::None, UNKNOWN),
    kind("2 % outliers, 32 dimensions", known::outliers, Expected::None, [Some([0, 0, 15]), None, None]),
];

/// So many clouds of a kind, each with `draws` of both nulls, all of which are made.
fn audits(make: Made, [points, draws]: [usize; 2], clouds: u64, pipeline: &Pipeline) -> Vec<Audit> {
    let of_cloud = |seed: u64| {
        let draws = Draws { count: draws, stop_after: draws, seed };
        let cloud = make(points, &mut known::rng(500 + seed));
        audit::<TopologyError>(cloud.view(), pipeline, &NULLS, &draws, |_| Ok(())).unwrap()
    };
    (0..clouds).into_par_iter().map(of_cloud).collect()
}

/// How many are above the Gaussian, the axes, and both.
fn above(found: &[Audit], statistic: Statistic) -> [usize; 3] {
    let p = |found: &Audit, null: usize| {
        found.nulls[null].tests.iter().find(|test| test.statistic == statistic).map(|test| test.p).unwrap()
    };
    let count = |is: &dyn Fn(&Audit) -> bool| found.iter().filter(|found| is(found)).count();
    [
        count(&|found| p(found, 0) <= ALPHA),
        count(&|found| p(found, 1) <= ALPHA),
        count(&|found| found.exceeds(statistic, ALPHA) == Some(true)),
    ]
}

/// What is wrong with what was found of a kind.
fn wrong(kind: &Kind, found: &[Audit]) -> Vec<String> {
    let by_pi = above(found, Statistic::Pi);
    let as_expected = match kind.expected {
        Expected::Loop => by_pi[2] == found.len(),
        Expected::None => by_pi[2] as u64 <= most_at(ALPHA, found.len() as u64, 0.001),
        Expected::Rate => true,
    };
    let mut wrong = Vec::new();
    if !as_expected {
        wrong.push(format!("{}: {} of {}, {:?}", kind.name, by_pi[2], found.len(), kind.expected));
    }
    for (count, earlier) in by_pi.into_iter().zip(kind.earlier) {
        let Some([least, most, of]) = earlier else { continue };
        // Both are counts with an error of their own: their 95 % intervals have to meet.
        let ours = clopper_pearson(count, found.len(), 0.95).unwrap();
        let low = clopper_pearson(least, of, 0.95).unwrap().low;
        let high = clopper_pearson(most, of, 0.95).unwrap().high;
        if ours.high < low || ours.low > high {
            wrong.push(format!("{}: {count} of {}, earlier {least} to {most} of {of}", kind.name, found.len()));
        }
    }
    wrong
}

/// Circles are told from both nulls every time, and rates of clouds without a loop agree with those that were measured earlier by another program.
#[test]
fn rates_of_known_answers_are_those_measured_earlier() {
    let found = |kind: &Kind| wrong(kind, &audits(kind.make, [100, 39], CLOUDS, &Pipeline::plain(Metric::Euclidean)));
    let wrong: Vec<String> = KINDS[..6].iter().flat_map(found).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The tables of rates in `results/topology/README.md`, of 20 clouds of every kind:
/// `cargo test --release -p assay-probes --lib -- --ignored --nocapture the_table_of_rates`.
#[test]
#[ignore = "takes ten minutes of one core"]
fn the_table_of_rates_says_what_it_must() {
    let mut all_wrong = Vec::new();
    println!(
        "| cloud | points, draws | longest bar: median, range | above the Gaussian, the axes, both by π | rate of both, 95 % | by the longest bar |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for size in [[100, 39], [150, 99]] {
        for kind in &KINDS {
            let found = audits(kind.make, size, CLOUDS, &Pipeline::plain(Metric::Euclidean));
            print_row(kind.name, size, &found);
            all_wrong.extend(wrong(kind, &found));
        }
    }
    assert!(all_wrong.is_empty(), "{all_wrong:?}");
}

/// What explains that spheres pass: every one has a void that does, and no circle or torus.
#[test]
#[ignore = "takes minutes"]
fn the_table_of_voids_says_what_it_must() {
    let with_voids = Pipeline { max_dim: 2, ..Pipeline::plain(Metric::Euclidean) };
    println!("| cloud | above both by π | more of a void than both | explained by it |\n| --- | --- | --- | --- |");
    for (kind, explained) in [(&KINDS[0], 0), (&KINDS[7], 0), (&KINDS[2], CLOUDS as usize)] {
        let found = audits(kind.make, [100, 39], CLOUDS, &with_voids);
        let count = found.iter().filter(|found| found.is_explained_by_a_void(ALPHA) == Some(true)).count();
        let [loops, voids] = [Statistic::Pi, Statistic::Void].map(|statistic| above(&found, statistic)[2]);
        println!("| {} | {loops} | {voids} | {count} |", kind.name);
        assert_eq!(count, explained, "{}", kind.name);
    }
}

/// What explains that Swiss rolls pass: their loops go between their turns. On a graph of fifteen neighbours they are still there while the points are so
/// few that neighbours lie on the next turn.
#[test]
#[ignore = "takes minutes"]
fn the_table_of_swiss_rolls() {
    println!(
        "| Swiss roll by | points, draws | longest bar: median, range | above the Gaussian, the axes, both by π | rate of both, 95 % | by the longest bar |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let resistance = |neighbours| Filtration::Resistance { neighbours };
    let geodesic = |neighbours| Filtration::Geodesic { neighbours };
    for (filtration, size) in [
        (geodesic(5), [150, 39]),
        (geodesic(8), [150, 39]),
        (geodesic(5), [300, 39]),
        (geodesic(8), [300, 39]),
        (resistance(5), [150, 39]),
        (resistance(15), [150, 39]),
        (resistance(8), [300, 39]),
        (resistance(15), [300, 39]),
        (resistance(15), [500, 19]),
    ] {
        let pipeline = Pipeline { filtration, ..Pipeline::plain(Metric::Euclidean) };
        print_row(&filtration.to_string(), size, &audits(known::swiss_roll, size, CLOUDS, &pipeline));
    }
}

fn print_row(name: &str, [points, draws]: [usize; 2], found: &[Audit]) {
    let counts = |statistic| above(found, statistic).map(|count| count.to_string()).join(", ");
    let rate = clopper_pearson(above(found, Statistic::Pi)[2], found.len(), 0.95).unwrap();
    let mut longest: Vec<f64> = found.iter().filter_map(|found| found.statistics.max).collect();
    longest.sort_by(f64::total_cmp);
    let at = |q: f64| quantile(&longest, q).unwrap();
    println!(
        "| {name} | {points}, {draws} | {:.3} [{:.3}, {:.3}] | {} | [{:.2}, {:.2}] | {} |",
        at(0.5),
        at(0.0),
        at(1.0),
        counts(Statistic::Pi),
        rate.low,
        rate.high,
        counts(Statistic::Max)
    );
}

/// The rates over clouds without a loop, 200 of each kind or as many as `ASSAY_CLOUDS` says, side by side on all cores:
/// `cargo test --release -p assay-probes --lib -- --ignored --nocapture rates_over_200`. What is above both nulls by π at α 0.05 must lie within the
/// binomial's 99.9 % of at most α; where the null is the truth, as the Gaussian is of Gaussian clouds, what is above it alone has to be α within that
/// interval on both sides. The earlier rule, whose ratio calls a loop robust above 1, stands beside it.
#[test]
#[ignore = "takes ten minutes of one core"]
fn rates_over_200_null_clouds_are_what_was_asked_for() {
    let kinds: Vec<&Kind> =
        KINDS.iter().filter(|kind| kind.name.starts_with("Gaussian") || kind.name.starts_with("10 clusters")).collect();
    let count: u64 = std::env::var("ASSAY_CLOUDS").map_or(200, |text| text.parse().unwrap());
    let pipeline = Pipeline::plain(Metric::Euclidean);
    let of_cloud = |(kind, seed): (usize, u64)| {
        let cloud = (kinds[kind].make)(100, &mut known::rng(7000 + seed));
        let draws = Draws { count: 39, stop_after: 4, seed };
        let found = audit::<TopologyError>(cloud.view(), &pipeline, &NULLS, &draws, |_| Ok(())).unwrap();
        let author = author_rule(cloud.view(), &pipeline, &[Null::Columns, Null::Gaussian], [8, 50], seed).unwrap();
        (found, author.ratio.is_some_and(|ratio| ratio > 1.0))
    };
    let all: Vec<(usize, u64)> = (0..kinds.len()).flat_map(|kind| (0..count).map(move |seed| (kind, seed))).collect();
    let (found, robust): (Vec<Audit>, Vec<bool>) = all.into_par_iter().map(of_cloud).collect();
    // The largest count that a rate of α gives with a chance of 0.001 or more: of 200, 21.
    let most = most_at(ALPHA, count, 0.001);
    println!(
        "| cloud without a loop | clouds | above the Gaussian, the axes, both by π | rate of both, 95 % (Clopper and Pearson) | ratio_author > 1 |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for ((kind, found), robust) in kinds.iter().zip(found.chunks(count as usize)).zip(robust.chunks(count as usize)) {
        let by_pi = above(found, Statistic::Pi);
        let interval = clopper_pearson(by_pi[2], found.len(), 0.95).unwrap();
        let counts = by_pi.map(|count| count.to_string()).join(", ");
        let robust = robust.iter().filter(|&&robust| robust).count();
        println!("| {} | {count} | {counts} | [{:.3}, {:.3}] | {robust} |", kind.name, interval.low, interval.high);
        let of_truth = clopper_pearson(by_pi[0], found.len(), 0.999).unwrap();
        let is_truth = kind.name.starts_with("Gaussian");
        let holds = by_pi[2] as u64 <= most && (!is_truth || (of_truth.low..=of_truth.high).contains(&ALPHA));
        wrong.extend((!holds).then_some((kind.name, by_pi)));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
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
