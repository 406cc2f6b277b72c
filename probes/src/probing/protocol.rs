//! How a probe is fitted: SAEBench's way and that of sae-probes.

use ndarray::Axis;

use super::design::{Design, Gram};
use super::features::Features;
use super::logistic::{Fit, fit};
use super::ranking::Ranking;
use super::sampling::Split;
use super::scores::Tested;

/// A protocol of k-sparse probing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SAEBench 0.6.0, `sparse_probing`: columns by |mean₊ − mean₋|, C = 1.
    SaeBench,
    /// sae-probes 0.4.2, the setting `normal` with the penalty `l2`: columns by the difference of means after division by the mean of what
    /// is not 0; C from ten values by the AUROC of validation rows.
    SaeProbes,
}

/// sae-probes' `np.logspace(5, -5, 10)`, in its order: the first of equals is taken.
fn penalties() -> impl Iterator<Item = f64> {
    (0..10).map(|at| 10f64.powf(5.0 - 10.0 * f64::from(at) / 9.0))
}

/// A probe and what it says of the test rows.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The columns that it reads, the best first; `None`: all.
    pub columns: Option<Vec<usize>>,
    /// The fit; its weights are those of the columns, less their means, or of coordinates where all of many are read ([`Design`]).
    pub fit: Fit,
    /// The inverse strength of the penalty.
    pub c: f64,
    /// x·w + b of each test row.
    pub decisions: Vec<f64>,
}

impl Protocol {
    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeBench => "saebench",
            Self::SaeProbes => "sae-probes",
        }
    }

    /// How columns are ranked.
    pub fn ranking(self) -> Ranking {
        match self {
            Self::SaeBench => Ranking::Difference,
            Self::SaeProbes => Ranking::Normalized,
        }
    }

    fn c(self, design: &Design, labels: &[bool]) -> f64 {
        match self {
            Self::SaeBench => 1.0,
            Self::SaeProbes => validated(design, labels),
        }
    }
}

/// Fits a probe of the k best columns, or of all. `labels` are those of all rows; `gram` is that of all columns.
///
/// # Panics
/// If a class has no row to fit on.
pub fn probe(
    protocol: Protocol,
    features: &Features,
    gram: Option<&Gram>,
    labels: &[bool],
    split: &Split,
    k: Option<usize>,
) -> Probed {
    let of_train: Vec<bool> = split.train.iter().map(|&row| labels[row]).collect();
    let columns = k.map(|k| protocol.ranking().top(features, &split.train, &of_train, k));
    let design = Design::new(features, gram, &split.train, &split.test, columns.as_deref());
    let c = protocol.c(&design, &of_train);
    let fit = fit(&design.train, &of_train, c, None);
    let decisions = fit.decisions(&design.test);
    Probed { columns, fit, c, decisions }
}

/// The C with the highest mean AUROC on validation rows (sae-probes, `find_best_reg`): of 128 rows or more the last 20 %, 100 at most; of
/// fewer, six folds with as much of each class. The package shuffles those folds and leaves out every pair of 12 rows or fewer; rows are
/// in an order by chance here already, and so few are folded too.
fn validated(design: &Design, labels: &[bool]) -> f64 {
    let n = labels.len();
    let both = |labels: &[bool]| labels.contains(&true) && labels.contains(&false);
    let last = n - (n / 5).min(100);
    // Held-out rows of one class would choose nothing.
    let folds: Vec<Vec<usize>> = if n >= 128 && both(&labels[last..]) && both(&labels[..last]) {
        vec![(last..n).collect()]
    } else {
        let mut folds = vec![Vec::new(); 6];
        let mut seen = [0; 2];
        for (row, &label) in labels.iter().enumerate() {
            folds[seen[usize::from(label)] % 6].push(row);
            seen[usize::from(label)] += 1;
        }
        folds
    };
    let of = |rows: &[usize]| rows.iter().map(|&row| labels[row]).collect::<Vec<_>>();
    let mut sums = vec![0.0; penalties().count()];
    for fold in &folds {
        let rest: Vec<usize> = (0..n).filter(|row| !fold.contains(row)).collect();
        let (fitted, held) = (of(&rest), of(fold));
        if !both(&held) || !both(&fitted) {
            continue;
        }
        let (train, test) = (design.train.select(Axis(0), &rest), design.train.select(Axis(0), fold));
        let mut last: Option<Fit> = None;
        // From the strongest penalty to the weakest: each fit begins near its end.
        for (at, c) in penalties().enumerate().collect::<Vec<_>>().into_iter().rev() {
            let found = fit(&train, &fitted, c, last.as_ref());
            sums[at] += Tested::new(&found.decisions(&test), &held).scores().auroc.unwrap_or(0.0);
            last = Some(found);
        }
    }
    let best = (0..sums.len()).max_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(b.cmp(&a)));
    penalties().nth(best.unwrap_or_default()).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probing::{permuted_labels, stratified};
    use crate::stats::{Interval, Resamples};
    use ndarray::Array2;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// 300 rows: the first column is the label but for some noise, the others are noise.
    fn rows(seed: u64) -> (Features, Vec<bool>, Split) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let labels: Vec<bool> = (0..300).map(|_| rng.random()).collect();
        let dense = Array2::from_shape_fn((300, 20), |(row, column)| {
            let noise: f64 = rng.random_range(-1.0..1.0);
            if column == 0 { f64::from(u8::from(labels[row])) + 0.1 * noise } else { noise }
        });
        let classes: Vec<usize> = labels.iter().map(|&label| usize::from(label)).collect();
        let split = stratified(&classes, &(0..300).collect::<Vec<_>>(), 0.5, seed);
        (Features::dense(&dense), labels, split)
    }

    fn accuracy_of(labels: &[bool], split: &Split, decisions: &[f64], seed: u64) -> (f64, Interval) {
        let of_test: Vec<bool> = split.test.iter().map(|&row| labels[row]).collect();
        let tested = Tested::new(decisions, &of_test);
        let counts = Resamples::draw(of_test.len(), 500, seed).counts();
        let replicates: Vec<_> = counts.rows().into_iter().map(|c| tested.weighted(|row| c[row]).accuracy).collect();
        (tested.scores().accuracy.unwrap(), Interval::percentile(&replicates, 0.95).unwrap())
    }

    #[test]
    fn a_column_that_is_the_label_is_found_and_noise_is_chance() {
        for protocol in [Protocol::SaeBench, Protocol::SaeProbes] {
            let (features, labels, split) = rows(1);
            let found = probe(protocol, &features, None, &labels, &split, Some(1));
            assert_eq!(found.columns.as_deref(), Some(&[0][..]));
            assert!(found.fit.has_converged());
            assert_eq!(accuracy_of(&labels, &split, &found.decisions, 1).0, 1.0);
        }
        // Noise, and labels that were permuted: of 40 intervals at 95 %, seven or more miss chance less than once in 200 times.
        let mut missed = [0; 2];
        for seed in 0..40 {
            let (features, labels, split) = rows(seed + 10);
            let mut noise = features.to_dense();
            noise.column_mut(0).fill(0.0);
            let noise = Features::dense(&noise);
            let permuted = permuted_labels(&labels, seed, "");
            for (missed, (features, labels)) in missed.iter_mut().zip([(&noise, &labels), (&features, &permuted)]) {
                let found = probe(Protocol::SaeBench, features, None, labels, &split, Some(2));
                let interval = accuracy_of(labels, &split, &found.decisions, seed).1;
                *missed += usize::from(!interval.contains(0.5));
            }
        }
        assert!(missed.iter().all(|&missed| missed < 7), "{missed:?}");
    }
}
