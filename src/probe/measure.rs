//! Every representation on a task: scores of its probes on test texts, the bits of its labels, and the differences.

use std::collections::{BTreeMap, BTreeSet};

use assay_probes::probing::{
    Features, Gram, Protocol, SCORES, Tested, label_only_bits, orders, permuted_labels, prequential, probe,
};
use assay_probes::stats::{Interval, Resamples, StandardError, mean, minimum_detectable, sample_sd};
use ndarray::ArrayView1;
use rayon::prelude::*;

use super::task::Task;
use crate::replicates::{LEVEL, paired_interval};

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
    /// Latents of the SAE, the labels of training permuted.
    Permuted,
    /// Latents of the SAE on a model whose weights were drawn anew.
    RandomModel,
    /// The activations of that model.
    RandomResidual,
    /// Latents of the SAE with permuted decoder rows.
    PermutedDecoder,
}

impl Kind {
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
    fn has_all(self) -> bool {
        !matches!(self, Self::Principal | Self::Permuted | Self::PermutedDecoder)
    }
}

/// A representation of the texts of a set.
pub struct Representation {
    /// What it is called in tables.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// A row a text.
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
    /// Whether probes of all columns code the labels too, which takes the third power of the texts.
    pub code_all: bool,
    /// Orders of the prequential code; 0: no code.
    pub orders: usize,
    /// Replicates of the bootstrap.
    pub resamples: usize,
    /// Seed of all draws.
    pub seed: u64,
}

/// A row less another on the same texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Against {
    /// The difference.
    pub difference: Option<f64>,
    /// Its percentile interval over documents, paired.
    pub interval: Option<Interval>,
    /// The smallest true difference that a test at 5 % finds with the chance 80 %, by the bootstrap's standard error of this one.
    pub smallest: Option<f64>,
}

/// A number with its replicates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The number itself.
    pub value: Option<f64>,
    /// The percentile interval over documents.
    pub interval: Option<Interval>,
    /// Less the SAE's.
    pub sae: Against,
    /// Less the bag of words'.
    pub words: Against,
    replicates: Vec<Option<f64>>,
}

/// A representation on a task, or on the mean of all.
#[derive(Clone, Debug)]
pub struct Row {
    /// The task; none of the mean over tasks.
    pub task: Option<String>,
    /// The representation.
    pub representation: String,
    /// What it is.
    pub kind: Kind,
    /// Columns that the probe reads; `None`: all.
    pub k: Option<usize>,
    /// Texts fitted on and tested, of all tasks together in a mean.
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
    /// The standard deviation of the bits a label over the orders.
    pub orders_sd: Option<f64>,
}

impl Row {
    /// Bits without the representation over bits with it: above 1 it tells something.
    pub fn compression(&self) -> Option<f64> {
        self.bits.as_ref()?.value.filter(|bits| *bits > 0.0).map(|bits| self.label_only / bits)
    }

    /// All measured numbers.
    fn measured(&mut self) -> impl Iterator<Item = &mut Measured> {
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
/// all its tasks share.
pub fn measure(
    task: &Task,
    used: &[usize],
    representations: &[Representation],
    drawn: &Resamples,
    measures: &Measures,
) -> Vec<Row> {
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
    let weights = Weights { task, counts: &counts };
    let mut found: Vec<Row> = jobs.par_iter().map(|job| job.row(task, &orders, &weights, measures)).collect();
    // Scores rest on the documents that are tested; fewer are never too sure of themselves in bits, which rest on all.
    let tested: BTreeSet<usize> = task.split.test.iter().map(|&row| task.documents[row]).collect();
    compare(&mut found, tested.len());
    found
}

/// How often each row's document is in a replicate.
struct Weights<'a> {
    task: &'a Task,
    counts: &'a ndarray::Array2<f64>,
}

impl Weights<'_> {
    fn replicates<T: Send>(&self, value: impl Fn(&ArrayView1<'_, f64>) -> T + Sync) -> Vec<T> {
        (0..self.counts.nrows()).map(|replicate| value(&self.counts.row(replicate))).collect()
    }
}

impl Job<'_> {
    fn row(&self, task: &Task, orders: &[Vec<usize>], weights: &Weights<'_>, measures: &Measures) -> Row {
        let Local { of, features, gram } = self.of;
        let (protocol, split) = (measures.protocol, &task.split);
        let permuted = of.kind == Kind::Permuted;
        let mut labels = task.labels.clone();
        if permuted {
            let of_train: Vec<bool> = split.train.iter().map(|&row| labels[row]).collect();
            let others = permuted_labels(&of_train, measures.seed);
            split.train.iter().zip(others).for_each(|(&row, label)| labels[row] = label);
        }
        let probed = probe(protocol, features, gram.as_ref(), &labels, split, self.k);
        let of_test: Vec<bool> = split.test.iter().map(|&row| task.labels[row]).collect();
        let tested = Tested::new(&probed.decisions, &of_test);
        let document = |row: usize| weights.task.documents[row];
        let replicates = weights.replicates(|counts| tested.weighted(|row| counts[document(split.test[row])]).values());
        let scores = tested
            .scores()
            .values()
            .into_iter()
            .enumerate()
            .map(|(at, value)| Measured::new(value, replicates.iter().map(|values| values[at]).collect()));
        let mut not_converged = usize::from(!probed.fit.has_converged());
        let (mut bits, mut orders_sd) = (None, None);
        // The code reads all labels, so that permuted ones are permuted everywhere.
        let coded = if permuted { permuted_labels(&task.labels, measures.seed) } else { task.labels.clone() };
        let n = coded.len() as f64;
        if !orders.is_empty() && (self.k.is_some() || measures.code_all) {
            let found = prequential(features, gram.as_ref(), &coded, orders, protocol.ranking(), self.k);
            not_converged += found.not_converged;
            let per_label: Vec<f64> = found.totals.iter().map(|total| total / n).collect();
            let replicates = weights.replicates(|counts| {
                let weight = |row: usize| counts[document(row)];
                let total: f64 = (0..coded.len()).map(weight).sum();
                let sum: f64 = found.of_rows.iter().enumerate().map(|(row, bits)| weight(row) * bits).sum();
                (total > 0.0).then(|| sum / total)
            });
            bits = Some(Measured::new(mean(&per_label), replicates));
            orders_sd = sample_sd(&per_label);
        }
        Row {
            task: Some(task.name.clone()),
            representation: of.name.clone(),
            kind: of.kind,
            k: self.k,
            texts: [split.train.len(), split.test.len()],
            columns: probed.columns.unwrap_or_default(),
            c: Some(probed.c),
            not_converged,
            scores: scores.collect(),
            bits,
            label_only: label_only_bits(&coded) / n,
            orders_sd,
        }
    }
}

impl Measured {
    fn new(value: Option<f64>, replicates: Vec<Option<f64>>) -> Self {
        Self { value, interval: Interval::percentile(&replicates, LEVEL), replicates, ..Self::default() }
    }

    fn minus(&self, other: &Self, documents: usize) -> Against {
        let pairs = self.replicates.iter().zip(&other.replicates);
        let differences: Option<Vec<f64>> = pairs.map(|(own, other)| Some((*own)? - (*other)?)).collect();
        let error = differences.and_then(|differences| sample_sd(&differences)).filter(|sd| *sd > 0.0);
        let error = error.map(|value| StandardError { value, df: documents.saturating_sub(1) as f64 });
        Against {
            difference: self.value.zip(other.value).map(|(own, other)| own - other),
            interval: paired_interval(self.replicates.clone(), other.replicates.clone(), LEVEL),
            smallest: error.and_then(|error| minimum_detectable(error, 0.05, 0.8)),
        }
    }
}

/// Sets what each row has less the first SAE's and the bag of words' row of the same k.
fn compare(rows: &mut [Row], documents: usize) {
    let first = rows.iter().find(|row| row.kind == Kind::Sae).map(|row| row.representation.clone());
    let references: Vec<Row> = rows
        .iter()
        .filter(|row| row.kind == Kind::Words || Some(&row.representation) == first.as_ref() && row.kind == Kind::Sae)
        .cloned()
        .collect();
    for row in rows.iter_mut() {
        let is_other = |other: &&Row| other.k == row.k && other.representation != row.representation;
        for mut other in references.iter().filter(is_other).cloned().collect::<Vec<_>>() {
            let of_sae = other.kind == Kind::Sae;
            let pairs: Vec<Measured> = other.measured().map(|measured| measured.clone()).collect();
            for (own, other) in row.measured().zip(&pairs) {
                let against = own.minus(other, documents);
                if of_sae { own.sae = against } else { own.words = against }
            }
        }
    }
}

/// Adds up tasks: the mean of each representation and k over all tasks, the replicates of the tasks being averaged one by one. Tasks of one
/// set share their draw of documents, those of others have draws of their own.
#[derive(Default)]
pub struct Means {
    rows: Vec<Row>,
    /// Tasks that each has been in.
    counted: Vec<usize>,
    tasks: usize,
    documents: usize,
    place: BTreeMap<(String, Option<usize>), usize>,
}

impl Means {
    /// Adds a task's rows, of a set of so many documents.
    pub fn add(&mut self, rows: &[Row], documents: usize) {
        self.tasks += 1;
        self.documents = self.documents.max(documents);
        for row in rows {
            let key = (row.representation.clone(), row.k);
            if let Some(&at) = self.place.get(&key) {
                let sum = &mut self.rows[at];
                let mut row = row.clone();
                sum.texts = [sum.texts[0] + row.texts[0], sum.texts[1] + row.texts[1]];
                sum.not_converged += row.not_converged;
                sum.label_only += row.label_only;
                for (sum, own) in sum.measured().zip(row.measured()) {
                    let add = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
                    sum.value = add(sum.value, own.value);
                    sum.replicates.iter_mut().zip(&own.replicates).for_each(|(a, b)| *a = add(*a, *b));
                }
                self.counted[at] += 1;
            } else if self.tasks == 1 {
                self.place.insert(key, self.rows.len());
                self.rows.push(Row { task: None, columns: Vec::new(), c: None, orders_sd: None, ..row.clone() });
                self.counted.push(1);
            }
        }
    }

    /// The means, of rows that every task has; none of a single task.
    pub fn finish(self) -> Vec<Row> {
        let tasks = self.tasks as f64;
        if self.tasks < 2 {
            return Vec::new();
        }
        let counted = self.rows.into_iter().zip(self.counted);
        let mut rows: Vec<Row> = counted.filter(|(_, count)| *count == self.tasks).map(|(row, _)| row).collect();
        for row in &mut rows {
            row.label_only /= tasks;
            for measured in row.measured() {
                let over = |value: &Option<f64>| value.map(|sum| sum / tasks);
                *measured = Measured::new(over(&measured.value), measured.replicates.iter().map(over).collect());
            }
        }
        compare(&mut rows, self.documents);
        rows
    }
}

/// Where a score is in [`Row::scores`].
pub fn score(name: &str) -> usize {
    SCORES.iter().position(|known| *known == name).unwrap_or_default()
}
