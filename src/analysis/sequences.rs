//! What single sequences and seeds do to a difference between two models.

use assay_probes::metrics::{Sums, total};
use assay_probes::stats::Components;

use super::{Analysis, Behaviour, Cell};

/// How much of a difference hangs on a few sequences.
pub struct Influence {
    /// The difference on all sequences, positive where the later model's SAE is better.
    pub difference: f64,
    /// The sequence without which it comes nearest to 0 or furthest beyond it.
    pub sequence: usize,
    /// The difference without that one.
    pub without_one: f64,
    /// The difference without the three sequences that carry most of it.
    pub without_three: f64,
    /// Share of the difference that the tenth of the sequences with the largest contributions carries; contributions are the jackknife's
    /// pseudo-values (Quenouille 1956), of a mean the sequences' own values.
    pub top_tenth: f64,
}

/// The influence of sequences on a difference of behaviour, the mean over seeds; `None` where it is undefined, 0, or of fewer than ten
/// sequences.
pub fn influence(analysis: &Analysis<'_>, from: &Cell, to: &Cell, behaviour: &Behaviour) -> Option<Influence> {
    let pairs: Vec<_> = analysis
        .runs(from)
        .filter_map(|a| analysis.runs(to).find(|b| b.seed == a.seed).map(|b| [&a.sequences, &b.sequences]))
        .collect();
    let sequences = pairs.iter().flatten().map(|s| s.len()).min()?;
    (sequences >= 10).then_some(())?;
    let (metric, subset) = behaviour.quantity();
    let without = |left_out: &[usize]| -> Option<f64> {
        let value = |all: &[[Sums; 3]]| {
            let kept = all.iter().enumerate().filter(|(at, _)| !left_out.contains(at)).map(|(_, sums)| sums);
            (metric.value)(&total(kept)[subset.index()])
        };
        let differences: Option<Vec<f64>> =
            pairs.iter().map(|[a, b]| Some(behaviour.sign * (value(b)? - value(a)?))).collect();
        assay_probes::stats::mean(&differences?)
    };
    let difference = without(&[]).filter(|d| *d != 0.0)?;
    let n = sequences as f64;
    let mut contributions: Vec<(usize, f64, f64)> = (0..sequences)
        .map(|at| without(&[at]).map(|left| (at, left, n * difference - (n - 1.0) * left)))
        .collect::<Option<_>>()?;
    // Those first that push the difference in its own direction.
    contributions.sort_by(|a, b| (b.2 * difference.signum()).total_cmp(&(a.2 * difference.signum())));
    let sum = |of: &[(usize, f64, f64)]| of.iter().map(|c| c.2).sum::<f64>();
    let three: Vec<usize> = contributions.iter().take(3).map(|c| c.0).collect();
    Some(Influence {
        difference,
        sequence: contributions[0].0,
        without_one: contributions[0].1,
        without_three: without(&three)?,
        top_tenth: sum(&contributions[..sequences.div_ceil(10)]) / sum(&contributions),
    })
}

/// The variances of the difference of CE_rec between two models: over seeds, over sequences, and what is left. Of the CE_rec per sequence, a plain mean over
/// sequences; `None` below two seeds, or where a sequence has none.
pub fn seed_components(analysis: &Analysis<'_>, from: &Cell, to: &Cell) -> Option<Components> {
    let (metric, subset) = super::behaviour("ce_rec").quantity();
    let of_sequence = |sums: &[Sums; 3]| (metric.value)(&sums[subset.index()]);
    let table: Option<Vec<Vec<f64>>> = analysis
        .runs(from)
        .filter_map(|a| analysis.runs(to).find(|b| b.seed == a.seed).map(|b| (a, b)))
        .map(|(a, b)| {
            let pairs = a.sequences.iter().zip(&b.sequences);
            pairs.map(|(a, b)| Some(of_sequence(b)? - of_sequence(a)?)).collect()
        })
        .collect();
    Components::of(&table?)
}
