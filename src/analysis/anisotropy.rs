//! How much of the gap is a few directions or a few tokens? ΔR² under controls that take each away.

use assay_probes::metrics::Subset;

use super::{Analysis, Cell, Quantity, Score, on};

/// R² with something taken away.
pub struct Control {
    /// What is taken away.
    pub name: &'static str,
    metric: &'static str,
    subset: Subset,
}

/// The controls; the first takes nothing away.
pub const CONTROLS: [Control; 8] = [
    Control { name: "R²", metric: "r2", subset: Subset::All },
    Control { name: "mean not subtracted", metric: "r2_uncentered", subset: Subset::All },
    Control { name: "without position 0", metric: "r2", subset: Subset::NoFirst },
    Control { name: "without ‖a‖ outliers", metric: "r2", subset: Subset::NoOutlier },
    Control { name: "without top direction", metric: "r2_deflated_1", subset: Subset::All },
    Control { name: "without top 2", metric: "r2_deflated_2", subset: Subset::All },
    Control { name: "without top 4", metric: "r2_deflated_4", subset: Subset::All },
    Control { name: "without top 8", metric: "r2_deflated_8", subset: Subset::All },
];

impl Control {
    /// The metric and subset that it is.
    pub fn quantity(&self) -> Quantity {
        on(self.metric, self.subset)
    }
}

/// ΔR² of two models' cells under each control.
pub fn explained(analysis: &Analysis<'_>, from: &Cell, to: &Cell) -> Vec<Score> {
    CONTROLS.iter().map(|control| analysis.difference(from, to, control.quantity())).collect()
}
