//! What a score has without what it is to measure: each SAE against the controls that its sweep made of it.

use assay_probes::stats::median;

use super::{Analysis, Cell, Quantity, Score, cells_of, on_all};
use crate::frames::ControlRun;

/// A score that is set against controls, turned nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What tables call it.
    pub name: &'static str,
    metric: &'static str,
    /// Whether a larger value is the better one; `None` where neither is.
    pub higher: Option<bool>,
}

/// The scores: of the code alone, of the reconstruction, and of what the model does with it.
pub const JUDGED: [Judged; 6] = [
    Judged { name: "L0", metric: "l0", higher: None },
    Judged { name: "R²", metric: "r2", higher: Some(true) },
    Judged { name: "CE_rec (pooled)", metric: "ce_rec_pooled", higher: Some(true) },
    Judged { name: "loss score, zero ablation", metric: "ce_loss_score", higher: Some(true) },
    Judged { name: "loss score, mean ablation", metric: "ce_loss_score_mean", higher: Some(true) },
    Judged { name: "KL", metric: "kl", higher: Some(false) },
];

impl Judged {
    /// The metric on all tokens.
    pub fn quantity(&self) -> Quantity {
        on_all(self.metric)
    }
}

/// SAEs of one condition, and a control of them.
#[derive(Clone, Debug)]
pub struct Controlled<'a> {
    /// Which control.
    pub control: &'a str,
    /// The SAEs.
    pub saes: &'a Cell,
    /// What was made of them.
    pub of: Cell,
}

/// Every cell with each of its controls: cell by cell, of each in the spec's order of controls.
pub fn controlled<'a>(analysis: &'a Analysis<'_>) -> Vec<Controlled<'a>> {
    let grid = analysis.grid;
    let cells_by = |name: &'a str| {
        let numbered = grid.controls.iter().enumerate().filter(|(_, ControlRun { control, .. })| control == name);
        (name, cells_of(numbered.map(|(at, of)| (grid.runs.len() + at, &of.run))))
    };
    let by_control: Vec<(&str, Vec<Cell>)> = grid.control_names().into_iter().map(cells_by).collect();
    let of_cell = |saes: &'a Cell| {
        let found = by_control.iter().filter_map(|(control, cells)| {
            let of = cells.iter().find(|of| of.is_of(&saes.model, &saes.site, saes.budget, &saes.setting))?;
            Some(Controlled { control, saes, of: of.clone() })
        });
        found.collect::<Vec<_>>()
    };
    analysis.cells.iter().flat_map(of_cell).collect()
}

impl Controlled<'_> {
    /// The SAE's value minus the control's, paired by seed and sequence.
    pub fn difference(&self, analysis: &Analysis<'_>, quantity: Quantity) -> Score {
        analysis.difference(&self.of, self.saes, quantity)
    }
}

/// One score and one control, over all conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<'a> {
    /// Which control.
    pub control: &'a str,
    /// Which score.
    pub score: Judged,
    /// The median of the SAEs' values, and of the control's.
    pub medians: [Option<f64>; 2],
    /// Conditions in which the SAE is better, in which the control is, by intervals that exclude 0, and all in which both have a value.
    pub better: Option<[usize; 3]>,
}

/// Every control and score.
pub fn outcomes<'a>(analysis: &'a Analysis<'_>) -> Vec<Outcome<'a>> {
    let all = controlled(analysis);
    let mut out = Vec::new();
    for control in analysis.grid.control_names() {
        let of: Vec<&Controlled<'_>> = all.iter().filter(|found| found.control == control).collect();
        for score in JUDGED {
            let values = |cell: for<'b> fn(&'b Controlled<'a>) -> &'b Cell| {
                let found: Vec<f64> = of.iter().filter_map(|of| analysis.value(cell(of), score.quantity())).collect();
                median(&found)
            };
            let better = score.higher.map(|higher| {
                let mut counts = [0; 3];
                for found in &of {
                    let difference = found.difference(analysis, score.quantity());
                    counts[2] += usize::from(difference.value.is_some());
                    let Some(interval) = difference.interval else { continue };
                    let (above, below) = (interval.low > 0.0, interval.high < 0.0);
                    let [sae, other] = if higher { [above, below] } else { [below, above] };
                    counts[0] += usize::from(sae);
                    counts[1] += usize::from(other);
                }
                counts
            });
            out.push(Outcome { control, score, medians: [values(|of| of.saes), values(|found| &found.of)], better });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::made::{MODELS, Made, Place, grid, noise};
    use super::*;

    /// The control of a cell is worse by 0.3 in R² and as good in CE_rec.
    #[test]
    fn a_control_is_set_against_the_saes_of_its_own_condition() {
        let made = |r2: f64| {
            move |(model, k, _, seed): Place<'_>, at: usize| {
                let wobble = 0.01 * noise(&[k, seed, at as u64, u64::from(model == "large")]);
                Made::new(r2 + 0.01 * k as f64 + wobble, 0.9 + wobble)
            }
        };
        let mut grid_of_both = grid(&MODELS, &[4, 8], &[1000], 2, 12, made(0.5));
        let plain = grid_of_both.clone();
        let controls = grid(&MODELS, &[8, 4], &[1000], 2, 12, made(0.2)).runs;
        let control = "frozen-decoder".to_owned();
        grid_of_both.controls = controls.into_iter().map(|run| ControlRun { control: control.clone(), run }).collect();
        let analysis = Analysis::new(&grid_of_both);
        let found = controlled(&analysis);
        assert_eq!(found.len(), analysis.cells.len());
        for one in &found {
            assert_eq!((&one.saes.model, &one.saes.setting), (&one.of.model, &one.of.setting));
            let r2 = one.difference(&analysis, on_all("r2"));
            assert!((r2.value.unwrap() - 0.3).abs() < 1e-9, "{r2:?}");
            assert!(r2.interval.unwrap().low > 0.29);
            assert!(one.difference(&analysis, on_all("ce_rec_pooled")).value.unwrap().abs() < 1e-12);
        }
        let outcomes = outcomes(&analysis);
        let of = |name: &str| outcomes.iter().find(|outcome| outcome.score.name == name).unwrap();
        assert_eq!(of("R²").better, Some([4, 0, 4]));
        assert_eq!(of("CE_rec (pooled)").better, Some([0, 0, 4]));
        let [sae, other] = of("R²").medians.map(Option::unwrap);
        assert!((sae - other - 0.3).abs() < 1e-9);
        // What compares runs does not see them.
        let without = Analysis::new(&plain);
        assert_eq!(analysis.cells.len(), without.cells.len());
        let [a, b] = [&analysis, &without].map(|analysis| analysis.score(&analysis.cells[0], on_all("r2")).value);
        assert_eq!(a, b);
        assert!(controlled(&without).is_empty());
    }
}
