//! How often the rule is wrong, on sequences drawn from real ones.
//!
//! The population is the 64 sequences of one run of a sweep (medium, mid depth, k 4): losses with a long tail, and CE_rec with a
//! skewness below −1. Its patched loss is scaled until the difference of the two scores is the one that is wanted; samples are drawn with replacement,
//! so that difference is the true one. Each sample is judged as an evaluation is.
//!
//! Before, the rule was: a difference counts if it is ±[`GAP`] or more and its interval excludes 0, else the scores agree. It is
//! simulated beside, under `before`.

use std::sync::LazyLock;

use assay_probes::Sums;
use assay_probes::metrics::{Subset, metric, total};
use assay_probes::stats::Resamples;
use rayon::prelude::*;

use super::compare::{CE_REC, Evidence, LOSS_SCORE_MEAN, R2, Score};
use super::*;

const DRAWS: usize = 400;

/// The sums of the population's sequences.
static POPULATION: LazyLock<Vec<Sums>> = LazyLock::new(|| {
    let mut lines = include_str!("../../tests/fixtures/sequence-sums.csv").lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let sums = |line: &str| {
        let mut values = vec![0.0; Sums::FIELDS.len()];
        for (name, value) in names.iter().zip(line.split(',')) {
            let field = Sums::FIELDS.iter().position(|field| field == name).unwrap();
            values[field] = value.parse().unwrap();
        }
        Sums::from_values(&values).unwrap()
    };
    lines.map(sums).collect()
});

/// The population with R² − `score` = `gap`.
fn with_gap(score: Score, gap: f64) -> Vec<[Sums; 3]> {
    let all = total(&POPULATION.iter().map(|s| [*s; 3]).collect::<Vec<_>>())[Subset::All.index()];
    let of = |score: Score, sums: &Sums| (metric(score.metric).unwrap().value)(sums).unwrap();
    let target = of(R2, &all) - gap;
    // Both scores are linear in the patched loss, and 1 where it is the model's own.
    let scale = (1.0 - target) / (1.0 - of(score, &all));
    let scaled = |sums: &Sums| Sums { ce_recon: sums.ce_orig + scale * (sums.ce_recon - sums.ce_orig), ..*sums };
    POPULATION.iter().map(|sums| [scaled(sums); 3]).collect()
}

/// Shares of samples in which R² is said to agree, overstate, understate; and to agree by the rule before.
struct Rates {
    agree: f64,
    overstates: f64,
    understates: f64,
    agreed_before: f64,
}

fn rates(score: Score, gap: f64, count: usize) -> Rates {
    let population = with_gap(score, gap);
    let counts = Resamples::draw(count, MIN_REPLICATES, 1).counts();
    let judged: Vec<(Outcome, bool)> = Resamples::draw(population.len(), DRAWS, 2)
        .map(|rows| rows[..count].iter().map(|&row| population[row as usize]).collect::<Vec<_>>())
        .par_iter()
        .map(|sample| {
            let replicates = Replicates::new(sample, &counts);
            let evidence = Evidence {
                sequences: count,
                totals: total(sample),
                replicates: &replicates,
                vocab_size: 4096,
                trained: None,
            };
            let difference = evidence.difference(R2, score).unwrap();
            let counted_before = difference.value.abs() >= GAP && difference.interval.excludes_zero();
            (evidence.outcome(Some(&difference)), !counted_before)
        })
        .collect();
    let share = |holds: &dyn Fn(&(Outcome, bool)) -> bool| {
        judged.iter().filter(|judged| holds(judged)).count() as f64 / judged.len() as f64
    };
    Rates {
        agree: share(&|(outcome, _)| *outcome == Outcome::Agree),
        overstates: share(&|(outcome, _)| *outcome == Outcome::Overstates),
        understates: share(&|(outcome, _)| *outcome == Outcome::Understates),
        agreed_before: share(&|(_, agreed)| *agreed),
    }
}

/// The loss score that decides, and the noisier CE_rec, which the rule must stand just as well.
const SCORES: [Score; 2] = [LOSS_SCORE_MEAN, CE_REC];

#[test]
fn at_a_true_gap_of_0_15_they_hardly_ever_agree() {
    for score in SCORES {
        for gap in [0.15, -0.15] {
            let rates = rates(score, gap, MIN_SEQUENCES);
            assert!(rates.agree <= 0.05, "{} at {gap}: {}", score.name, rates.agree);
        }
    }
    // By the rule before, of CE_rec, it was one in eight.
    let before = rates(CE_REC, 0.15, MIN_SEQUENCES).agreed_before;
    assert!(before > 0.1, "{before}");
}

#[test]
fn at_no_gap_nothing_is_over_or_understated() {
    for score in SCORES {
        let rates = rates(score, 0.0, MIN_SEQUENCES);
        assert!(rates.overstates + rates.understates <= 0.01, "{} {}", rates.overstates, rates.understates);
    }
    // And where the sequences suffice they agree.
    assert!(rates(LOSS_SCORE_MEAN, 0.0, MIN_SEQUENCES).agree >= 0.95);
}

/// The worst case: the true difference is the threshold itself, so that each claim is wrong.
#[test]
fn at_the_thresholds_each_claim_is_rare_in_both_directions() {
    for score in SCORES {
        for sign in [1.0, -1.0] {
            let agree = rates(score, sign * AGREE, MIN_SEQUENCES).agree;
            let clear = rates(score, sign * DIFFER, MIN_SEQUENCES);
            // 5 % and two standard errors of 400 draws.
            for (claim, rate) in
                [("agree", agree), ("overstates", clear.overstates), ("understates", clear.understates)]
            {
                assert!(rate <= 0.072, "{} {sign}: {claim} in {rate}", score.name);
            }
        }
    }
}

#[test]
fn beyond_the_thresholds_the_right_direction_is_found() {
    for gap in [0.25, -0.25] {
        let Rates { overstates, understates, .. } = rates(LOSS_SCORE_MEAN, gap, MIN_SEQUENCES);
        let (right, wrong) = if gap > 0.0 { (overstates, understates) } else { (understates, overstates) };
        assert!(right >= 0.95 && wrong == 0.0, "{gap}: {right} {wrong}");
    }
}
