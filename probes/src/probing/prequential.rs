//! Prequential coding of labels: how many bits they cost somebody who has the representation (Voita and Titov 2020, "Information-theoretic
//! probing with minimum description length").
//!
//! The rows come in an order. Each block of them is coded with a probe that was fitted, from scratch, on the rows before it. A
//! representation from which a concept is learned from few rows needs few bits, where accuracies are all alike. Where the paper leaves
//! something open, or their code pays for nothing that it learns from:
//!
//! - **Label-only baseline.** The code without a representation is that of Krichevsky and Trofimov (1981), not one bit a label, which any
//!   rare label would beat. The rows of the first block, and those whose predecessors are all of one class, are coded by it.
//! - **No infinite cost.** A probe fitted on t rows says (1 − ε)·p + ε/2 with ε = 1/(t + 2).
//! - **Penalties without a held-out set.** All [`SETTINGS`] of C code side by side, and are mixed by Bayes' rule with equal weights at first:
//!   never more than log₂ of their number worse than the best of them. Rows are divided by the root of their mean square first, so that
//!   one grid suits every representation.
//! - **Selection inside each prefix.** The k columns of a block's probe are chosen on the rows before the block.
//! - **Several orders**, of documents and not of rows, shared by all that is compared. All sums are in f64, bits to the base 2.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::design::{Design, Gram};
use super::features::Features;
use super::logistic::{Fit, fit, log1p_exp};
use super::ranking::Ranking;

/// The values of C that are mixed.
pub const SETTINGS: [f64; 7] = [1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4];

/// Where blocks end, as shares of the rows (Voita and Titov 2020).
const FRACTIONS: [f64; 11] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0];

/// The first block has at least so many rows.
const FIRST: usize = 8;

/// Ends of the blocks of `rows` rows, the last of which is their number.
pub fn boundaries(rows: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = FRACTIONS.iter().map(|fraction| (fraction * rows as f64).floor() as usize).collect();
    ends.retain(|&end| end >= FIRST.min(rows) && end > 0);
    ends.dedup();
    ends
}

/// Bits of labels in the code of Krichevsky and Trofimov (1981), in which the next label is p with the chance (n_p + ½)/(t + 1); their
/// order does not matter.
pub fn label_only_bits(labels: &[bool]) -> f64 {
    let mut counts = [0.0; 2];
    labels.iter().map(|&label| kt_bits(&mut counts, label)).sum()
}

fn kt_bits(counts: &mut [f64; 2], label: bool) -> f64 {
    let class = usize::from(label);
    let bits = -((counts[class] + 0.5) / (counts[0] + counts[1] + 1.0)).log2();
    counts[class] += 1.0;
    bits
}

/// Orders of `rows` in which those of one document stay together, each of the documents shuffled by its own stream of the seed.
pub fn orders(rows: &[usize], documents: &[usize], count: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|&row| (documents[row], row));
    let together: Vec<&[usize]> = sorted.chunk_by(|&a, &b| documents[a] == documents[b]).collect();
    let order = |stream: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Streams 0 and 1 split and permute.
        rng.set_stream(2 + stream as u64);
        let mut together = together.clone();
        together.shuffle(&mut rng);
        together.concat()
    };
    (0..count).map(order).collect()
}

/// What the labels cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Prequential {
    /// Bits of all labels in each order.
    pub totals: Vec<f64>,
    /// Bits of each row's label, a mean over the orders; in the order of the rows, as their numbers ascend.
    pub of_rows: Vec<f64>,
    /// Fits that did not converge, over all orders, blocks and settings.
    pub not_converged: usize,
}

/// Codes the labels of the rows of `orders`, all of which hold the same rows; `k` columns are chosen by `ranking` in each prefix, or all
/// are taken. `labels` are those of all rows of the representation, `gram` is of all its columns.
pub fn prequential(
    features: &Features,
    gram: Option<&Gram>,
    labels: &[bool],
    orders: &[Vec<usize>],
    ranking: Ranking,
    k: Option<usize>,
) -> Prequential {
    let coded = orders.par_iter().map(|order| Coder { features, gram, labels, ranking, k }.code(order));
    let coded: Vec<(Vec<f64>, usize)> = coded.collect();
    let mut of_row = vec![0.0; features.rows()];
    for (order, (bits, _)) in orders.iter().zip(&coded) {
        order.iter().zip(bits).for_each(|(&row, bits)| of_row[row] += bits / orders.len() as f64);
    }
    let mut rows = orders.first().cloned().unwrap_or_default();
    rows.sort_unstable();
    Prequential {
        totals: coded.iter().map(|(bits, _)| bits.iter().sum()).collect(),
        of_rows: rows.into_iter().map(|row| of_row[row]).collect(),
        not_converged: coded.iter().map(|(_, failed)| failed).sum(),
    }
}

struct Coder<'a> {
    features: &'a Features,
    gram: Option<&'a Gram>,
    labels: &'a [bool],
    ranking: Ranking,
    k: Option<usize>,
}

impl Coder<'_> {
    /// Bits of each label in the order, and how many fits did not converge.
    fn code(&self, order: &[usize]) -> (Vec<f64>, usize) {
        let labels: Vec<bool> = order.iter().map(|&row| self.labels[row]).collect();
        let mut bits = Vec::with_capacity(order.len());
        // Logarithms of the settings' weights, each times the probability that it gave to what was coded.
        let mut weights = [0.0; SETTINGS.len()];
        let mut counts = [0.0; 2];
        let (mut start, mut failed) = (0, 0);
        for end in boundaries(order.len()) {
            let (before, block) = (&labels[..start], &labels[start..end]);
            if before.contains(&true) && before.contains(&false) {
                let (costs, unsolved) = self.costs(&order[..start], before, &order[start..end], block);
                failed += unsolved;
                for row in 0..block.len() {
                    let prior = log_sum_exp(&weights);
                    weights.iter_mut().zip(&costs).for_each(|(weight, costs)| *weight -= costs[row]);
                    bits.push((prior - log_sum_exp(&weights)) / std::f64::consts::LN_2);
                }
                block.iter().for_each(|&label| counts[usize::from(label)] += 1.0);
            } else {
                bits.extend(block.iter().map(|&label| kt_bits(&mut counts, label)));
            }
            start = end;
        }
        (bits, failed)
    }

    /// Nats of each label of a block under each setting, fitted on the rows before it.
    fn costs(&self, prefix: &[usize], before: &[bool], block: &[usize], labels: &[bool]) -> (Vec<Vec<f64>>, usize) {
        let columns = self.k.map(|k| self.ranking.top(self.features, prefix, before, k));
        let design = Design::new(self.features, self.gram, prefix, block, columns.as_deref()).scaled();
        let epsilon = 1.0 / (prefix.len() as f64 + 2.0);
        let mut last: Option<Fit> = None;
        let mut failed = 0;
        let of_setting = |c: f64| {
            let found = fit(&design.train, before, c, last.as_ref());
            failed += usize::from(!found.has_converged());
            let decisions = found.decisions(&design.test);
            last = Some(found);
            let cost = |(d, &label): (f64, &bool)| {
                let p = (-log1p_exp(if label { -d } else { d })).exp();
                -((1.0 - epsilon) * p + 0.5 * epsilon).ln()
            };
            decisions.into_iter().zip(labels).map(cost).collect()
        };
        (SETTINGS.into_iter().map(of_setting).collect(), failed)
    }
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probing::permuted_labels;
    use ndarray::Array2;
    use rand::Rng;

    fn entropy(labels: &[bool]) -> f64 {
        let n = labels.len() as f64;
        let p = labels.iter().filter(|&&label| label).count() as f64 / n;
        -n * (p * p.log2() + (1.0 - p) * (1.0 - p).log2())
    }

    fn known(rows: usize, seed: u64) -> (Features, Vec<bool>, Vec<Vec<usize>>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let labels: Vec<bool> = (0..rows).map(|_| rng.random::<f64>() < 0.3).collect();
        let dense = Array2::from_shape_fn((rows, 12), |(row, column)| {
            if column == 5 && labels[row] { 1.0 } else { rng.random_range(0.0..0.2) }
        });
        let all: Vec<usize> = (0..rows).collect();
        let orders = orders(&all, &all, 10, seed);
        (Features::dense(&dense), labels, orders)
    }

    #[test]
    fn blocks_are_those_of_the_paper_but_for_the_first() {
        assert_eq!(boundaries(1000), [8, 16, 32, 62, 125, 250, 500, 1000]);
        assert_eq!(boundaries(100_000)[..3], [100, 200, 400]);
        assert_eq!(boundaries(20), [10, 20]);
        assert_eq!((boundaries(3), boundaries(0)), (vec![3], vec![]));
    }

    #[test]
    fn the_label_only_code_is_a_probability_and_near_the_entropy() {
        // The probabilities of all sequences of six labels add up to 1.
        let total: f64 = (0..64u32)
            .map(|bits| (0..6).map(|at| bits >> at & 1 == 1).collect::<Vec<_>>())
            .map(|labels| (-label_only_bits(&labels)).exp2())
            .sum();
        assert!((total - 1.0).abs() < 1e-12, "{total}");
        let labels: Vec<bool> = (0..1000).map(|at| at % 10 == 0).collect();
        // n·H + ½·log₂ n + O(1)
        let excess = label_only_bits(&labels) - entropy(&labels);
        assert!((4.0..7.0).contains(&excess), "{excess}");
    }

    #[test]
    fn a_column_that_is_the_label_costs_little_and_permuted_labels_cost_their_entropy() {
        let (features, labels, orders) = known(400, 4);
        let gram = Gram::of(&features);
        for k in [Some(1), Some(3), None] {
            let found = prequential(&features, Some(&gram), &labels, &orders, Ranking::Difference, k);
            assert_eq!(found.not_converged, 0);
            let bits = found.totals.iter().sum::<f64>() / 10.0;
            assert!(bits < 0.25 * label_only_bits(&labels), "{k:?}: {bits}");
            let of_rows: f64 = found.of_rows.iter().sum();
            assert!((of_rows - bits).abs() < 1e-9 * bits);
        }
        for seed in 0..3 {
            let permuted = permuted_labels(&labels, seed, "");
            let found = prequential(&features, Some(&gram), &permuted, &orders, Ranking::Difference, Some(2));
            // Less than the entropy of the labels only by luck: a bit saved has the chance ½.
            let bits = found.totals.iter().sum::<f64>() / 10.0;
            assert!(bits > entropy(&permuted) - 4.0, "{bits} {}", entropy(&permuted));
        }
    }

    #[test]
    fn a_prefix_of_one_class_is_coded_by_the_label_only_code() {
        let (features, _, orders) = known(50, 5);
        let labels = vec![false; 50];
        let found = prequential(&features, None, &labels, &orders[..1], Ranking::Difference, Some(2));
        assert!((found.totals[0] - label_only_bits(&labels)).abs() < 1e-9);
    }

    #[test]
    fn documents_stay_together_and_a_seed_gives_the_same_orders() {
        let documents = [0, 1, 0, 2, 1, 2, 0];
        let found = orders(&[0, 1, 2, 4, 6], &documents, 4, 9);
        assert_eq!(found, orders(&[0, 1, 2, 4, 6], &documents, 4, 9));
        assert!(found.iter().any(|order| order[0] == 0) && found.iter().any(|order| order[0] == 1));
        for order in found {
            assert!(order == [0, 2, 6, 1, 4] || order == [1, 4, 0, 2, 6], "{order:?}");
        }
    }
}
