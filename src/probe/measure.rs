//! Every representation on a task: scores of its probes on test texts, the bits of its labels, and the differences.

use std::collections::BTreeSet;

use assay_probes::probing::{
    Features, Gram, Probed, Protocol, SCORES, Tested, label_only_bits, orders, permuted_labels, prequential, probe,
};
use assay_probes::stats::{Resamples, mean, sample_sd};
use ndarray::ArrayView1;
use rayon::prelude::*;

use super::measured::{Measured, compare};
use super::task::Task;
use crate::interrupt;

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepresentationKind {
    /// Latents of an SAE.
    Sae,
    /// The activations that the SAE reads.
    Residual,
    /// Their principal components.
    Principal,
    /// How often each token is in the text.
    Words,
    /// Latents of random directions.
    RandomDictionary,
    /// Latents of the SAE, the labels permuted.
    Permuted,
    /// Latents of the SAE on a model whose weights were drawn anew.
    RandomModel,
    /// The activations of that model.
    RandomResidual,
    /// Latents of the SAE with permuted decoder rows.
    PermutedDecoder,
}

impl RepresentationKind {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sae => "sae",
            Self::Residual => "residual",
            Self::Principal => "pca",
            Self::Words => "words",
            Self::RandomDictionary => "random_dictionary",
            Self::Permuted => "permuted_labels",
            Self::RandomModel => "random_model",
            Self::RandomResidual => "random_model_residual",
            Self::PermutedDecoder => "permuted_decoder",
        }
    }

    /// Whether a probe of all columns says something that no other row does: principal components are a rotation.
    pub(super) fn has_all(self) -> bool {
        !matches!(self, Self::Principal | Self::Permuted | Self::PermutedDecoder)
    }
}

/// A representation of the texts of a set.
pub struct Representation {
    /// What it is called in tables.
    pub name: String,
    /// What it is.
    pub kind: RepresentationKind,
    /// One row per text.
    pub features: Features,
}

/// How tasks are measured.
#[derive(Clone, Debug)]
pub struct Measures {
    /// How probes are fitted.
    pub protocol: Protocol,
    /// Columns that probes read.
    pub ks: Vec<usize>,
    /// Whether probes of all columns are fitted too.
    pub all: bool,
    /// Whether probes of all columns, or of more than 512 columns (`CODED`), code the labels too, which takes the third power of the texts.
    pub code_all: bool,
    /// Orders of the prequential code; 0: no code.
    pub orders: usize,
    /// Replicates of the bootstrap.
    pub resamples: usize,
    /// Seed of all draws.
    pub seed: u64,
}

/// A representation on a task, or on the mean of all.
#[derive(Clone, Debug)]
pub struct Row {
    /// The task; none of the mean over tasks.
    pub task: Option<String>,
    /// The representation.
    pub representation: String,
    /// What it is.
    pub kind: RepresentationKind,
    /// Columns that the probe reads; `None`: all.
    pub k: Option<usize>,
    /// Texts fitted on and tested; of a mean those of all its tasks, each counted once.
    pub texts: [usize; 2],
    /// Which columns, the best first; empty where all are read.
    pub columns: Vec<usize>,
    /// The inverse strength of the penalty.
    pub c: Option<f64>,
    /// Fits that did not converge, of the probe and of the code.
    pub not_converged: usize,
    /// By [`SCORES`].
    pub scores: Vec<Measured>,
    /// Bits a label by the prequential code.
    pub bits: Option<Measured>,
    /// Bits a label without a representation.
    pub label_only: f64,
    /// The standard deviation of the bits per label over the orders.
    pub orders_sd: Option<f64>,
}

impl Row {
    /// Bits without the representation over bits with it: above 1 it tells something.
    pub fn compression(&self) -> Option<f64> {
        self.bits.as_ref()?.value.filter(|bits| *bits > 0.0).map(|bits| self.label_only / bits)
    }

    /// All measured numbers.
    pub(super) fn measured(&mut self) -> impl Iterator<Item = &mut Measured> {
        self.scores.iter_mut().chain(&mut self.bits)
    }
}

/// One probe to fit.
struct Job<'a> {
    of: &'a Local<'a>,
    k: Option<usize>,
}

/// A representation of the texts of a task.
struct Local<'a> {
    of: &'a Representation,
    features: Features,
    gram: Option<Gram>,
}

/// Measures the representations of a set, whose rows are its texts `used`, on a task. `drawn` are resamples of the set's documents, which
/// all its tasks share. `None` where somebody asked to stop ([`interrupt::requested`]).
pub fn measure(
    task: &Task,
    used: &[usize],
    representations: &[Representation],
    drawn: &Resamples,
    measures: &Measures,
) -> Option<Vec<Row>> {
    let rows: Vec<usize> =
        task.rows.iter().map(|row| used.binary_search(row).expect("a task's texts are read")).collect();
    let local = |of: &'_ Representation| -> (Features, Option<Gram>) {
        let features = of.features.of_rows(&rows);
        let wide = features.columns() > rows.len();
        let wanted = measures.all && of.kind.has_all();
        let gram = (wide && wanted).then(|| Gram::of(&features));
        (features, gram)
    };
    let locals: Vec<Local<'_>> = representations
        .iter()
        .map(|of| {
            let (features, gram) = local(of);
            Local { of, features, gram }
        })
        .collect();
    let ks = |of: &Local<'_>| -> Vec<Option<usize>> {
        let columns = of.features.columns();
        let sparse = measures.ks.iter().filter(|&&k| k < columns).map(|&k| Some(k));
        sparse.chain((measures.all && of.of.kind.has_all()).then_some(None)).collect()
    };
    let jobs: Vec<Job<'_>> = locals.iter().flat_map(|of| ks(of).into_iter().map(move |k| Job { of, k })).collect();
    let orders = orders(&(0..rows.len()).collect::<Vec<_>>(), &task.documents, measures.orders, measures.seed);
    let counts = drawn.counts();
    let weights = Weights { counts: &counts };
    let row = |job: &Job<'_>| (!interrupt::requested()).then(|| job.row(task, &orders, &weights, measures));
    let mut found = jobs.par_iter().map(row).collect::<Option<Vec<Row>>>()?;
    // Scores rest on the documents that are tested; fewer are never too sure of themselves in bits, which rest on all.
    let tested: BTreeSet<usize> = task.split.test.iter().map(|&row| task.documents[row]).collect();
    compare(&mut found, tested.len());
    Some(found)
}

/// How often each document is in a replicate.
struct Weights<'a> {
    counts: &'a ndarray::Array2<f64>,
}

impl Weights<'_> {
    fn replicates<T: Send>(&self, value: impl Fn(&ArrayView1<'_, f64>) -> T + Sync) -> Vec<T> {
        (0..self.counts.nrows()).map(|replicate| value(&self.counts.row(replicate))).collect()
    }
}

/// Columns of a probe, at most, that codes the labels without being asked to: a code fits some dozen probes.
pub const CODED: usize = 512;
/// Permutations of the labels that a control is the mean over.
pub const PERMUTATIONS: usize = 20;

impl Job<'_> {
    /// The labels that are probed: the task's own, or some permutations of them. Those of a task are its own and the same whatever else is
    /// measured. They are permuted among the texts to fit on and among those to test: labels to test that stay would be told by whichever
    /// columns tell them, and permuted ones to fit on only decide, as a coin does, for which side such columns speak. So chance is exactly
    /// an AUROC of ½ only where both are permuted (Ojala and Garriga 2010, "Permutation Tests for Studying Classifier Performance").
    fn labels(&self, task: &Task, seed: u64) -> Vec<Vec<bool>> {
        if self.of.of.kind != RepresentationKind::Permuted {
            return vec![task.labels.clone()];
        }
        let permuted = |draw: usize| {
            let mut labels = task.labels.clone();
            for (at, side) in [&task.split.train, &task.split.test].into_iter().enumerate() {
                let of_side: Vec<bool> = side.iter().map(|&row| labels[row]).collect();
                let permuted = permuted_labels(&of_side, seed, &format!("{} {draw} {at}", task.name));
                side.iter().zip(permuted).for_each(|(&row, label)| labels[row] = label);
            }
            labels
        };
        (0..PERMUTATIONS).map(permuted).collect()
    }

    fn row(&self, task: &Task, orders: &[Vec<usize>], weights: &Weights<'_>, measures: &Measures) -> Row {
        let (features, gram, split) = (&self.of.features, self.of.gram.as_ref(), &task.split);
        let labels = self.labels(task, measures.seed);
        let fitted = |labels: &Vec<bool>| probe(measures.protocol, features, gram, labels, split, self.k);
        let probed: Vec<Probed> = labels.iter().map(fitted).collect();
        let mut not_converged = probed.iter().filter(|probed| !probed.fit.has_converged()).count();
        let mut row = Row {
            task: Some(task.name.clone()),
            representation: self.of.of.name.clone(),
            kind: self.of.of.kind,
            k: self.k,
            texts: [split.train.len(), split.test.len()],
            columns: Vec::new(),
            c: None,
            not_converged: 0,
            scores: self.scores(task, &labels, &probed, weights),
            bits: None,
            label_only: label_only_bits(&task.labels) / task.labels.len() as f64,
            orders_sd: None,
        };
        if let [probed] = probed.as_slice() {
            (row.columns, row.c) = (probed.columns.clone().unwrap_or_default(), Some(probed.c));
        }
        let is_narrow = self.k.is_some_and(|k| k <= CODED);
        if !orders.is_empty() && (is_narrow || measures.code_all) {
            let (per_label, bits, failed) = self.code(&labels, orders, measures);
            let replicates = weights.replicates(|counts| {
                let weight = |row: usize| counts[task.documents[row]];
                let total: f64 = (0..bits.len()).map(weight).sum();
                let sum: f64 = bits.iter().enumerate().map(|(row, bits)| weight(row) * bits).sum();
                (total > 0.0).then(|| sum / total)
            });
            row.bits = Some(Measured::new(mean(&per_label), replicates));
            row.orders_sd = sample_sd(&per_label);
            not_converged += failed;
        }
        row.not_converged = not_converged;
        row
    }

    /// Scores of the test texts: the mean over the probes, each with its labels.
    fn scores(&self, task: &Task, labels: &[Vec<bool>], probed: &[Probed], weights: &Weights<'_>) -> Vec<Measured> {
        let test = &task.split.test;
        let tested: Vec<Tested> = labels
            .iter()
            .zip(probed)
            .map(|(labels, probed)| {
                let of_test: Vec<bool> = test.iter().map(|&row| labels[row]).collect();
                Tested::new(&probed.decisions, &of_test)
            })
            .collect();
        let means = |weight: &dyn Fn(usize) -> f64| {
            let values: Vec<_> = tested.iter().map(|tested| tested.weighted(weight).values()).collect();
            // A replicate may lack a class of one permutation and have both of the others.
            let of = |at: usize| values.iter().filter_map(|values| values[at]).collect::<Vec<f64>>();
            std::array::from_fn::<_, { SCORES.len() }, _>(|at| mean(&of(at)))
        };
        let replicates = weights.replicates(|counts| means(&|row: usize| counts[task.documents[test[row]]]));
        let values = means(&|_| 1.0).into_iter().enumerate();
        values.map(|(at, value)| Measured::new(value, replicates.iter().map(|of| of[at]).collect())).collect()
    }

    /// Bits a label in each order; those of each label, a mean over the orders; and fits that did not converge. Of permuted labels each
    /// order codes another permutation.
    fn code(&self, labels: &[Vec<bool>], orders: &[Vec<usize>], measures: &Measures) -> (Vec<f64>, Vec<f64>, usize) {
        let ranking = measures.protocol.ranking();
        let code = |labels: &[bool], orders: &[Vec<usize>]| {
            prequential(&self.of.features, self.of.gram.as_ref(), labels, orders, ranking, self.k)
        };
        let found = match labels {
            [labels] => vec![code(labels, orders)],
            several => {
                let labels = several.iter().cycle();
                orders.iter().zip(labels).map(|(order, labels)| code(labels, std::slice::from_ref(order))).collect()
            }
        };
        let n = self.of.features.rows() as f64;
        let per_label = found.iter().flat_map(|found| &found.totals).map(|total| total / n).collect();
        let of_label = |at: usize| found.iter().map(|found| found.of_rows[at]).sum::<f64>() / found.len() as f64;
        let bits = (0..self.of.features.rows()).map(of_label).collect();
        (per_label, bits, found.iter().map(|found| found.not_converged).sum())
    }
}

/// Where a score is in [`Row::scores`].
pub fn score(name: &str) -> usize {
    SCORES.iter().position(|known| *known == name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Labelled, Means, Wanted, numbered, tasks};

    /// 200 texts of four classes, each with a column that tells it but for some noise, and noise.
    fn set() -> (Labelled, Features) {
        let labelled = (0..200).map(|at| (format!("text {at}"), format!("c{}", at % 4), None));
        let set = Labelled::new("s", labelled).unwrap();
        let noise = |at: usize| ((at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24);
        let mut features = Features::new(8);
        for (row, &class) in set.labels.iter().enumerate() {
            let value = |column: usize| if column == class { 2.0 } else { 0.0 } + noise(8 * row + column);
            features.push((0..8).map(|column| (column, value(column))));
        }
        (set, features)
    }

    /// What permuted labels came to before this was so: one permutation, of the labels to fit on alone. Its AUROC was anything from 0 to
    /// 1, as columns that tell the labels to test were chosen and spoke for either side.
    #[test]
    fn permuted_labels_are_chance_and_their_intervals_say_so() {
        let (set, features) = set();
        let of = |kind, name: &str| Representation { name: name.to_owned(), kind, features: features.clone() };
        let representations = [of(RepresentationKind::Sae, "SAE"), of(RepresentationKind::Permuted, "permuted")];
        let all: Vec<usize> = (0..set.texts.len()).collect();
        let (seeds, mut covered, mut aurocs, mut bits) = (60, 0, Vec::new(), Vec::new());
        for seed in 0..seeds {
            let (mut tasks, _) = tasks(&set, Wanted { most: 200, test_share: 0.25, balance: true, seed });
            let documents = numbered(&mut tasks);
            let drawn = Resamples::draw(documents, 200, seed);
            let (protocol, ks) = (Protocol::SaeBench, vec![1]);
            let measures = Measures { protocol, ks, all: false, code_all: false, orders: 2, resamples: 200, seed };
            let mut means = Means::default();
            for task in &tasks {
                means.add(&measure(task, &all, &representations, &drawn, &measures).unwrap(), 0, task);
            }
            let rows = means.finish();
            let [sae, permuted] = [RepresentationKind::Sae, RepresentationKind::Permuted]
                .map(|kind| rows.iter().find(|row| row.kind == kind).unwrap());
            assert!(sae.scores[score("auroc")].value > Some(0.95) && permuted.columns.is_empty());
            let auroc = &permuted.scores[score("auroc")];
            aurocs.push(auroc.value.unwrap());
            covered += usize::from(auroc.interval.unwrap().contains(0.5));
            bits.push(permuted.bits.as_ref().unwrap().value.unwrap() - permuted.label_only);
        }
        let [(mean_of, error), (excess, _)] = [&aurocs, &bits]
            .map(|values| (mean(values).unwrap(), sample_sd(values).unwrap() / (values.len() as f64).sqrt()));
        assert!((mean_of - 0.5).abs() < 3.0 * error && error < 0.005, "{mean_of} ± {error}");
        // 57 are expected of intervals at 95 %; fewer than 52 come less than once in a hundred times.
        assert!(covered >= 52, "{covered} of {seeds}");
        assert!(excess > 0.0, "permuted labels cost no less than without a representation: {excess}");
    }

    #[test]
    fn a_mean_counts_each_text_once() {
        let (set, features) = set();
        let (mut tasks, _) = tasks(&set, Wanted { most: 200, test_share: 0.25, balance: true, seed: 0 });
        let documents = numbered(&mut tasks);
        let drawn = Resamples::draw(documents, 100, 0);
        let representations = [Representation { name: "SAE".to_owned(), kind: RepresentationKind::Sae, features }];
        let all: Vec<usize> = (0..set.texts.len()).collect();
        let (protocol, ks) = (Protocol::SaeBench, vec![1]);
        let measures = Measures { protocol, ks, all: false, code_all: false, orders: 0, resamples: 100, seed: 0 };
        let mut means = Means::default();
        for task in &tasks {
            means.add(&measure(task, &all, &representations, &drawn, &measures).unwrap(), 0, task);
        }
        let row = means.finish().remove(0);
        let different = |side: fn(&Task) -> &Vec<usize>| {
            let rows = tasks.iter().flat_map(|task| side(task).iter().map(|&row| task.rows[row]));
            rows.collect::<BTreeSet<usize>>().len()
        };
        assert_eq!(row.texts, [different(|task| &task.split.train), different(|task| &task.split.test)]);
        assert!(row.texts[0] + row.texts[1] <= 200, "{:?}", row.texts);
    }
}
