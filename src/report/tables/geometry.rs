//! How many directions hold the variance.

use crate::frames::Grid;
use crate::markdown::{Table, number};

/// Geometry of every layer.
pub fn geometry(grid: &Grid) -> Table {
    let mut table = Table::new([
        "model",
        "layer",
        "raw PR",
        "PR/d_model",
        "PR without top 1",
        "top 2",
        "top 4",
        "top 8",
        "PR, mean not subtracted",
        "variance",
        "top eigenvalue %",
        "mean ‖a‖",
        "max ‖a‖",
        "outliers %",
    ]);
    for (model, layers) in &grid.geometry {
        for layer in layers {
            table.row([
                model.clone(),
                layer.layer.to_string(),
                number(layer.pr),
                number(layer.pr_over_d_model),
                number(layer.pr_deflated_1),
                number(layer.pr_deflated_2),
                number(layer.pr_deflated_4),
                number(layer.pr_deflated_8),
                number(layer.pr_uncentered),
                number(Some(layer.variance)),
                number(layer.top_eigenvalue_share.map(|s| 100.0 * s)),
                number(Some(layer.mean_norm)),
                number(Some(layer.max_norm)),
                number(Some(100.0 * layer.outlier_frac)),
            ]);
        }
    }
    table
}
