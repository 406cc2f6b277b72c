//! Which columns a k-sparse probe takes: those whose mean differs most between the classes.

use super::features::Features;

/// How columns are ranked, by the rows of training alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// |mean₊ − mean₋| of the columns as they are (SAEBench, `get_top_k_mean_diff_mask`).
    Difference,
    /// The same after each column was divided by the mean of its magnitudes where it is not 0 (sae-probes 0.4.2,
    /// `mean_act_normalization`; 1e-6 is added to the count and to the mean, as there).
    Normalized,
}

const EPS: f64 = 1e-6;

impl Ranking {
    /// The first `k` columns, the best first, ties to the lowest index; all if there are not that many. `labels` are those of `rows`.
    pub fn top(self, features: &Features, rows: &[usize], labels: &[bool], k: usize) -> Vec<usize> {
        let score = self.scores(features, rows, labels);
        let mut order: Vec<usize> = (0..score.len()).collect();
        let best_first = |&a: &usize, &b: &usize| score[b].total_cmp(&score[a]).then(a.cmp(&b));
        let k = k.min(order.len());
        if k < order.len() {
            order.select_nth_unstable_by(k, best_first);
            order.truncate(k);
        }
        order.sort_unstable_by(best_first);
        order
    }

    /// What columns are ranked by, a number a column; 0 for all where a class is missing.
    fn scores(self, features: &Features, rows: &[usize], labels: &[bool]) -> Vec<f64> {
        let columns = features.columns();
        let count = [false, true].map(|class| labels.iter().filter(|&&label| label == class).count() as f64);
        if count.contains(&0.0) {
            return vec![0.0; columns];
        }
        let mut difference = vec![0.0; columns];
        let (mut magnitude, mut active) = (vec![0.0; columns], vec![0.0; columns]);
        for (&row, &label) in rows.iter().zip(labels) {
            let share = if label { 1.0 / count[1] } else { -1.0 / count[0] };
            for (column, value) in features.row(row) {
                difference[column] += share * value;
                magnitude[column] += value.abs();
                active[column] += f64::from(u8::from(value != 0.0));
            }
        }
        let scaled = |column: usize| match self {
            Self::Difference => difference[column].abs(),
            Self::Normalized => difference[column].abs() / (magnitude[column] / (active[column] + EPS) + EPS),
        };
        (0..columns).map(scaled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    #[test]
    fn the_two_rules_differ_where_columns_have_other_scales() {
        // Means of the classes differ by 10 in the first column, by 1 in the second, which is 0 in the other class.
        let features =
            Features::dense(&array![[100.0, 0.0, 5.0], [100.0, 0.0, 5.0], [110.0, 1.0, 5.0], [110.0, 1.0, 5.0]]);
        let (rows, labels) = ([0, 1, 2, 3], [false, false, true, true]);
        assert_eq!(Ranking::Difference.top(&features, &rows, &labels, 2), [0, 1]);
        assert_eq!(Ranking::Normalized.top(&features, &rows, &labels, 2), [1, 0]);
        assert_eq!(Ranking::Difference.top(&features, &rows, &labels, 9), [0, 1, 2]);
        assert_eq!(Ranking::Difference.top(&features, &rows[..2], &labels[..2], 2), [0, 1], "ties to the lowest");
    }

    proptest! {
        #[test]
        fn the_order_of_rows_and_the_names_of_classes_change_no_choice(
            values in prop::collection::vec(-3i32..4, 40), flip in any::<bool>(),
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let features = Features::dense(&ndarray::Array2::from_shape_vec((8, 5), values).unwrap());
            let labels: Vec<bool> = (0..8).map(|row| row % 4 == 0).collect();
            let rows: Vec<usize> = (0..8).collect();
            for ranking in [Ranking::Difference, Ranking::Normalized] {
                let found = ranking.top(&features, &rows, &labels, 3);
                let other: Vec<usize> = rows.iter().rev().copied().collect();
                let of_other: Vec<bool> = other.iter().map(|&row| labels[row] != flip).collect();
                let scores = |rows: &[usize], labels: &[bool]| ranking.scores(&features, rows, labels);
                for (a, b) in scores(&rows, &labels).into_iter().zip(scores(&other, &of_other)) {
                    prop_assert!((a - b).abs() < 1e-12);
                }
                prop_assert_eq!(found.len(), 3);
            }
        }
    }
}
