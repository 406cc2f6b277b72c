//! How good decisions are, on all test rows or on a bootstrap replicate of them.

/// Names of the scores, in the order of [`Scores::values`].
pub const SCORES: [&str; 5] = ["accuracy", "balanced_accuracy", "auroc", "f1", "weighted_f1"];

/// The scores of a probe; `None` where a class that it needs has no rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Share of rows on the right side; a decision of exactly 0 is negative, as scikit-learn's.
    pub accuracy: Option<f64>,
    /// Mean of the two classes' recalls.
    pub balanced_accuracy: Option<f64>,
    /// The chance that a positive row is above a negative one, ties counted half (Mann and Whitney 1947).
    pub auroc: Option<f64>,
    /// 2·TP/(2·TP + FP + FN) of the positive class.
    pub f1: Option<f64>,
    /// The classes' F1, weighted by their rows, as sae-probes reports it.
    pub weighted_f1: Option<f64>,
}

impl Scores {
    /// The scores by their [`SCORES`].
    pub fn values(&self) -> [Option<f64>; 5] {
        [self.accuracy, self.balanced_accuracy, self.auroc, self.f1, self.weighted_f1]
    }
}

/// Test rows with their decisions, in ascending order of these.
#[derive(Clone, Debug)]
pub struct Tested {
    /// Row, decision, label.
    rows: Vec<(usize, f64, bool)>,
}

impl Tested {
    /// Of decisions and labels of the same rows.
    pub fn new(decisions: &[f64], labels: &[bool]) -> Self {
        let rows = decisions.iter().zip(labels).enumerate();
        let mut rows: Vec<_> = rows.map(|(row, (&decision, &label))| (row, decision, label)).collect();
        rows.sort_by(|a, b| a.1.total_cmp(&b.1));
        Self { rows }
    }

    /// The scores of all rows, each counted once.
    pub fn scores(&self) -> Scores {
        self.weighted(|_| 1.0)
    }

    /// The scores where row r counts `weight(r)` times.
    pub fn weighted(&self, weight: impl Fn(usize) -> f64) -> Scores {
        // By label, then by decision.
        let mut counts = [[0.0; 2]; 2];
        let (mut below, mut pairs) = (0.0, 0.0);
        let mut at = 0;
        while at < self.rows.len() {
            let decision = self.rows[at].1;
            let mut tied = [0.0; 2];
            while let Some(&(row, _, label)) = self.rows.get(at).filter(|row| row.1 == decision) {
                tied[usize::from(label)] += weight(row);
                at += 1;
            }
            for class in [0, 1] {
                counts[class][usize::from(decision > 0.0)] += tied[class];
            }
            pairs += tied[1] * (below + 0.5 * tied[0]);
            below += tied[0];
        }
        let [[tn, fp], [fne, tp]] = counts;
        let ratio = |above: f64, below: f64| (below > 0.0).then(|| above / below);
        let (negatives, positives) = (tn + fp, fne + tp);
        let f1 = |hits: f64| ratio(2.0 * hits, 2.0 * hits + fp + fne).or((negatives + positives > 0.0).then_some(0.0));
        let both = |a: Option<f64>, b: Option<f64>| Some(0.5 * (a? + b?));
        let of_class = |hits: f64, rows: f64| if rows > 0.0 { f1(hits).map(|f1| f1 * rows) } else { Some(0.0) };
        let weighted = of_class(tn, negatives).zip(of_class(tp, positives)).map(|(a, b)| a + b);
        Scores {
            accuracy: ratio(tn + tp, negatives + positives),
            balanced_accuracy: both(ratio(tn, negatives), ratio(tp, positives)),
            auroc: ratio(pairs, positives * negatives),
            f1: if positives > 0.0 { f1(tp) } else { None },
            weighted_f1: weighted.and_then(|sum| ratio(sum, negatives + positives)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// scikit-learn 1.9.1:
    ///
    /// ```python
    /// d = np.array([-1.0, 0.5, 0.5, 2.0, -0.25, 0.0, 1.0]); y = [0, 0, 1, 1, 1, 0, 0]; p = d > 0
    /// accuracy_score(y, p), balanced_accuracy_score(y, p), roc_auc_score(y, d), f1_score(y, p), f1_score(y, p, average="weighted")
    /// ```
    #[test]
    fn agree_with_scikit_learn() {
        let labels = [false, false, true, true, true, false, false];
        let tested = Tested::new(&[-1.0, 0.5, 0.5, 2.0, -0.25, 0.0, 1.0], &labels);
        let expected = [0.5714285714285714, 0.5833333333333333, 0.625, 0.5714285714285714, 0.5714285714285714];
        for ((found, expected), name) in tested.scores().values().into_iter().zip(expected).zip(SCORES) {
            assert!((found.unwrap() - expected).abs() < 1e-12, "{name}: {found:?}");
        }
    }

    #[test]
    fn what_needs_a_class_that_is_not_there_is_undefined() {
        let scores = Tested::new(&[1.0, -1.0], &[false, false]).scores();
        assert_eq!((scores.accuracy, scores.balanced_accuracy, scores.auroc, scores.f1), (Some(0.5), None, None, None));
        assert_eq!(Tested::new(&[], &[]).scores().values(), [None; 5]);
    }

    proptest! {
        #[test]
        fn scale_and_order_change_nothing(
            rows in prop::collection::vec((-9i32..9, any::<bool>()), 2..40), scale in 0.01..50.0f64,
        ) {
            let decisions: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let scores = Tested::new(&decisions, &labels).scores();
            let scaled: Vec<f64> = decisions.iter().rev().map(|d| d * scale).collect();
            let reversed: Vec<bool> = labels.iter().rev().copied().collect();
            let other = Tested::new(&scaled, &reversed).scores();
            prop_assert_eq!(scores, other);
            // With both classes swapped and all decisions negated the same pairs are in order.
            let negated: Vec<f64> = decisions.iter().map(|d| -d).collect();
            let swapped: Vec<bool> = labels.iter().map(|label| !label).collect();
            let mirrored = Tested::new(&negated, &swapped).scores().auroc;
            prop_assert!(scores.auroc.zip(mirrored).is_none_or(|(a, b)| (a - b).abs() < 1e-12));
            // A row that counts twice is a row that is there twice.
            let twice = Tested::new(&decisions, &labels).weighted(|row| if row == 0 { 2.0 } else { 1.0 });
            let (mut more, mut of_more) = (decisions.clone(), labels.clone());
            more.push(decisions[0]);
            of_more.push(labels[0]);
            for (a, b) in twice.values().into_iter().zip(Tested::new(&more, &of_more).scores().values()) {
                prop_assert!(a.zip(b).map_or(a == b, |(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
            }
        }
    }
}
