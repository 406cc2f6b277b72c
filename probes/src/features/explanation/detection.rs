//! How well an explanation tells windows in which a latent fires from those in which it does not.

use super::{Classes, Example, Explanation};
use crate::probing::Tested;

/// What was detected in held-out windows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Detection {
    /// The chance that a window in which it fires scores above one in which it does not, ties counted half; ½ by chance.
    pub auroc: Option<f64>,
    /// The mean of both kinds' shares that are told right, above the score that does best on the windows to explain by.
    pub balanced_accuracy: Option<f64>,
}

/// Scores an explanation on held-out windows, with the threshold from windows to explain by.
pub fn detect(explanation: &Explanation, by: &[Example], held_out: &[Example], classes: &Classes) -> Detection {
    let scored = |windows: &[Example]| -> (Vec<f64>, Vec<bool>) {
        windows.iter().map(|window| (explanation.score(window, classes), window.is_active())).unzip()
    };
    let (scores, labels) = scored(by);
    let threshold = threshold(&scores, &labels);
    let (scores, labels) = scored(held_out);
    let decisions: Vec<f64> = scores.into_iter().map(|score| score - threshold).collect();
    let found = Tested::new(&decisions, &labels).scores();
    Detection { auroc: found.auroc, balanced_accuracy: found.auroc.and(found.balanced_accuracy) }
}

/// The score above which a window is taken for one in which it fires: between two of those that were seen, or below them all, the one of the
/// best balanced accuracy, ties to the highest.
fn threshold(scores: &[f64], labels: &[bool]) -> f64 {
    let mut different = scores.to_vec();
    different.sort_by(|a, b| b.total_cmp(a));
    different.dedup();
    let between = different.windows(2).map(|pair| 0.5 * (pair[0] + pair[1]));
    let candidates = between.chain(different.last().map(|last| last - 1.0));
    let accuracy = |threshold: f64| {
        let decisions: Vec<f64> = scores.iter().map(|score| score - threshold).collect();
        Tested::new(&decisions, labels).scores().balanced_accuracy.unwrap_or(0.0)
    };
    let mut best = (0.0, f64::NEG_INFINITY);
    for candidate in candidates {
        let found = accuracy(candidate);
        if found > best.1 {
            best = (candidate, found);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(tokens: &[u32], fires: bool) -> Example {
        let mut of = vec![false; tokens.len()];
        of[0] = fires;
        Example { tokens: tokens.to_vec(), before: Vec::new(), first: 0, fires: of }
    }

    /// scikit-learn 1.9.1:
    ///
    /// ```python
    /// y = [1, 1, 1, 1, 0, 0, 0, 0]; s = [.9, .5, 0, .9, .5, 0, 0, .9]
    /// roc_auc_score(y, s), balanced_accuracy_score(y, [v > .25 for v in s]), balanced_accuracy_score(y, [v > .7 for v in s])
    /// ```
    #[test]
    fn agrees_with_scikit_learn() {
        let active = [&[1, 7][..], &[2], &[3], &[2, 1]].map(|tokens| window(tokens, true));
        let silent = [&[2][..], &[3], &[3, 4], &[1]].map(|tokens| window(tokens, false));
        let held_out: Vec<Example> = active.into_iter().chain(silent).collect();
        let explanation = Explanation::Tokens(vec![(1, 0.9), (2, 0.5)]);
        // Windows to explain by that put the threshold between 0 and ½, and between ½ and 0.9.
        let low = [window(&[2], true), window(&[1], true), window(&[3], false)];
        let high = [window(&[1], true), window(&[2], false), window(&[3], false)];
        for (by, balanced) in [(low, 0.625), (high, 0.625)] {
            let found = detect(&explanation, &by, &held_out, &Classes::default());
            assert_eq!(found, Detection { auroc: Some(0.65625), balanced_accuracy: Some(balanced) });
        }
        let found = detect(&explanation, &[], &held_out[..2], &Classes::default());
        assert_eq!(found, Detection::default(), "of one kind of window nothing is known");
    }
}
