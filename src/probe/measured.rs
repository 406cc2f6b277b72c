//! A number with its interval, and what it has less another.

use assay_probes::stats::{Interval, StandardError, minimum_detectable, sample_sd};

use super::measure::{RepresentationKind, Row};
use crate::replicates::{LEVEL, paired_interval};

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
    pub(super) replicates: Vec<Option<f64>>,
}

impl Measured {
    pub(super) fn new(value: Option<f64>, replicates: Vec<Option<f64>>) -> Self {
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
pub(super) fn compare(rows: &mut [Row], documents: usize) {
    let first = rows.iter().find(|row| row.kind == RepresentationKind::Sae).map(|row| row.representation.clone());
    let references: Vec<Row> = rows
        .iter()
        .filter(|row| {
            row.kind == RepresentationKind::Words
                || Some(&row.representation) == first.as_ref() && row.kind == RepresentationKind::Sae
        })
        .cloned()
        .collect();
    for row in rows.iter_mut() {
        let is_other = |other: &&Row| other.k == row.k && other.representation != row.representation;
        for mut other in references.iter().filter(is_other).cloned().collect::<Vec<_>>() {
            let of_sae = other.kind == RepresentationKind::Sae;
            let pairs: Vec<Measured> = other.measured().map(|measured| measured.clone()).collect();
            for (own, other) in row.measured().zip(&pairs) {
                let against = own.minus(other, documents);
                if of_sae { own.sae = against } else { own.words = against }
            }
        }
    }
}
