//! What the comparisons of a grid could have shown, and how many evaluation sequences more would take.

use assay_probes::stats::hypotheses::CE_REC_MARGIN;

use super::{Analysis, Cell, Score, behaviour, contrasts, pairs};
use crate::frames::Class;

/// What a cell is compared with.
pub enum Against<'a> {
    /// An earlier model's cell at equal k.
    Model(&'a Cell),
    /// The SAEs of an earlier class at equal L0.
    ClassAtL0(Class),
    /// The same at equal k, where the L0 lies outside of what was measured of the class.
    ClassAtK(Class),
}

/// A comparison by the pooled CE_rec.
pub struct Precision<'a> {
    /// The later model's or class's cell.
    pub cell: &'a Cell,
    /// The earlier ones.
    pub against: Against<'a>,
    /// Later minus earlier.
    pub difference: Score,
    /// Evaluation sequences that it is known from.
    pub sequences: usize,
}

impl Precision<'_> {
    /// How many evaluation sequences it takes to show with the usual power that a difference of 0 lies within ±[`CE_REC_MARGIN`], as far as sequences
    /// decide that.
    pub fn needed(&self) -> Option<u64> {
        self.difference.sequences_needed(CE_REC_MARGIN)
    }
}

/// Every comparison of two models at equal site, budget and setting, and of two classes at equal model, site, budget and L0, or else k.
pub fn precisions<'a>(analysis: &'a Analysis<'_>) -> Vec<Precision<'a>> {
    let metric = behaviour("ce_rec_pooled");
    let sequences = |cell: &Cell| analysis.runs(cell).map(|run| run.sequences.len()).min().unwrap_or(0);
    let of = |cell: &'a Cell, against, difference| Precision { cell, against, difference, sequences: sequences(cell) };
    let models = pairs(analysis)
        .into_iter()
        .map(|(from, to)| of(to, Against::Model(from), analysis.improvement(from, to, metric)));
    let classes = contrasts(analysis).into_iter().filter_map(|contrast| {
        let class = contrast.against;
        let (against, difference) = match (contrast.ce_rec.at_l0, contrast.ce_rec.at_k) {
            (Some(difference), _) => (Against::ClassAtL0(class), difference),
            (None, Some(difference)) => (Against::ClassAtK(class), difference),
            (None, None) => return None,
        };
        Some(of(contrast.cell, against, difference))
    });
    models.chain(classes).collect()
}

#[cfg(test)]
mod tests {
    use super::super::made::{MODELS, Made, Place, grid, noise};
    use super::*;
    use assay_probes::stats::values_needed;

    /// A table of seeds × sequences whose error is known from the values themselves.
    #[test]
    fn as_many_sequences_are_needed_as_their_values_say() {
        let made = |(model, _, _, seed): Place<'_>, at: usize| {
            let later = u64::from(model == MODELS[1]);
            let of_sequence = 0.05 * noise(&[later, at as u64]);
            Made::new(0.5, 0.5 + 0.02 * later as f64 + of_sequence + 0.001 * noise(&[7, later, seed]))
        };
        let grid = grid(&MODELS, &[4], &[1000], 3, 40, made);
        let analysis = Analysis::new(&grid);
        let [found] = &precisions(&analysis)[..] else { panic!("one pair of models") };
        assert_eq!(found.sequences, 40);
        // Every sequence has the same loss, so that the pooled CE_rec is a plain mean.
        let values: Vec<f64> = (0..40).map(|at| 0.05 * (noise(&[1, at]) - noise(&[0, at]))).collect();
        let sd = assay_probes::stats::sample_sd(&values).unwrap();
        let error = found.difference.of_sequences.unwrap();
        assert!((error.value - sd / 40.0_f64.sqrt()).abs() < 1e-12 && error.df == 39.0, "{error:?} {sd}");
        assert_eq!(found.needed(), values_needed(error, CE_REC_MARGIN, 0.05, 0.8));
        assert!(found.needed() > Some(40), "{:?}", found.needed());
        // Seeds move the difference by less than the margin, whatever they are.
        let seeds: Vec<f64> = (0..3).map(|seed| 0.001 * (noise(&[7, 1, seed]) - noise(&[7, 0, seed]))).collect();
        let of_seeds = found.difference.of_seeds.unwrap();
        let expected = assay_probes::stats::sample_sd(&seeds).unwrap() / 3.0_f64.sqrt();
        assert!((of_seeds.value - expected).abs() < 1e-12 && of_seeds.df == 2.0);
        let whole = found.difference.error.unwrap();
        assert!((whole.value.powi(2) - error.value.powi(2) - of_seeds.value.powi(2)).abs() < 1e-12);
    }
}
