//! Which rows are fitted on and which are tested: no document on both sides, classes in equal parts.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Rows on two sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// To fit on.
    pub train: Vec<usize>,
    /// To test on.
    pub test: Vec<usize>,
}

/// Splits rows by document: each document is on one side, and of every class about the share `train` of its rows is to be fitted on.
/// A document belongs to the class that most of its rows have. Both sides are shuffled.
///
/// # Panics
/// If there are not as many documents as classes.
pub fn stratified(classes: &[usize], documents: &[usize], train: f64, seed: u64) -> Split {
    assert_eq!(classes.len(), documents.len(), "a document a row");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rows_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    documents.iter().enumerate().for_each(|(row, &document)| rows_of.entry(document).or_default().push(row));
    let mut strata: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
    for rows in rows_of.into_values() {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        rows.iter().for_each(|&row| *counts.entry(classes[row]).or_default() += 1);
        let of_most = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        strata.entry(of_most.map_or(0, |(class, _)| *class)).or_default().push(rows);
    }
    let mut split = Split { train: Vec::new(), test: Vec::new() };
    for mut stratum in strata.into_values() {
        stratum.shuffle(&mut rng);
        let all: usize = stratum.iter().map(Vec::len).sum();
        let wanted = (train * all as f64).round() as usize;
        let mut taken = 0;
        for rows in stratum {
            let side = if taken < wanted { &mut split.train } else { &mut split.test };
            taken += rows.len();
            side.extend(rows);
        }
    }
    split.train.shuffle(&mut rng);
    split.test.shuffle(&mut rng);
    split
}

/// As many rows of a class as of the others, `most` in all at most; those of the others evenly from each, as far as it has rows
/// (SAEBench, `get_multi_label_train_test_data`). `rows` are taken in their order.
pub fn balanced(rows: &[usize], classes: &[usize], positive: usize, most: usize) -> Vec<usize> {
    let mut others: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut own = Vec::new();
    for &row in rows {
        if classes[row] == positive { own.push(row) } else { others.entry(classes[row]).or_default().push(row) }
    }
    let other_rows: usize = others.values().map(Vec::len).sum();
    let half = own.len().min(other_rows).min(most / 2);
    let mut taken = vec![0; others.len()];
    let mut missing = half;
    while missing > 0 {
        for (taken, rows) in taken.iter_mut().zip(others.values()) {
            if missing > 0 && *taken < rows.len() {
                *taken += 1;
                missing -= 1;
            }
        }
    }
    let negatives = others.values().zip(taken).flat_map(|(rows, taken)| rows[..taken].iter().copied());
    let mut chosen: Vec<usize> = own[..half].iter().copied().chain(negatives).collect();
    // In the order in which they were given.
    let place: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(at, &row)| (row, at)).collect();
    chosen.sort_by_key(|row| place[row]);
    chosen
}

/// The numbers below `count` in a random order.
pub fn permutation(count: usize, seed: u64) -> Vec<usize> {
    // Not the stream that split the rows.
    permutation_by(count, seed, 1)
}

fn permutation_by(count: usize, seed: u64, stream: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut rng);
    order
}

/// The same labels in another order: what a representation cannot know. Other `name`s give other orders, however many labels there are: with
/// one for all, what chance does to one task it would do to all of its size.
pub fn permuted_labels(labels: &[bool], seed: u64, name: &str) -> Vec<bool> {
    // The stream is FNV-1a of the name (Fowler, Noll and Vo), away from the few that other draws have.
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash) | 1 << 63;
    permutation_by(labels.len(), seed, stream).into_iter().map(|row| labels[row]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_document_is_on_both_sides_and_every_row_on_one(
            rows in prop::collection::vec((0usize..3, 0usize..12), 1..80), train in 0.1..0.9f64, seed in 0u64..100,
        ) {
            let classes: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let documents: Vec<usize> = rows.iter().map(|row| row.1).collect();
            let split = stratified(&classes, &documents, train, seed);
            let mut all: Vec<usize> = split.train.iter().chain(&split.test).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..rows.len()).collect::<Vec<_>>());
            prop_assert!(split.train.iter().all(|&a| split.test.iter().all(|&b| documents[a] != documents[b])));
            prop_assert_eq!(split, stratified(&classes, &documents, train, seed));
        }

        #[test]
        fn halves_are_equal_and_others_even(classes in prop::collection::vec(0usize..4, 1..60), most in 0usize..40) {
            let rows: Vec<usize> = (0..classes.len()).collect();
            let chosen = balanced(&rows, &classes, 1, most);
            let of = |class: usize| chosen.iter().filter(|&&row| classes[row] == class).count();
            let there = |class: usize| classes.iter().filter(|&&c| c == class).count();
            prop_assert_eq!(2 * of(1), chosen.len());
            prop_assert!(chosen.len() <= most && chosen.windows(2).all(|pair| pair[0] < pair[1]));
            for (a, b) in [(0, 2), (0, 3), (2, 3)] {
                prop_assert!(of(a).abs_diff(of(b)) <= 1 || of(a) == there(a) || of(b) == there(b));
            }
        }
    }

    #[test]
    fn every_class_is_on_both_sides_in_its_share() {
        let classes: Vec<usize> = (0..100).map(|row| usize::from(row % 10 == 0)).collect();
        let documents: Vec<usize> = (0..100).collect();
        let split = stratified(&classes, &documents, 0.8, 3);
        let of = |rows: &[usize]| rows.iter().filter(|&&row| classes[row] == 1).count();
        assert_eq!((split.train.len(), of(&split.train), of(&split.test)), (80, 8, 2));
        let labels: Vec<bool> = (0..50).map(|row| row < 20).collect();
        let permuted = permuted_labels(&labels, 0, "a");
        assert_ne!(permuted, labels);
        assert_ne!(permuted, permuted_labels(&labels, 0, "b"));
        assert_eq!(permuted.iter().filter(|&&label| label).count(), 20);
    }
}
