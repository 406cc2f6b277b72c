//! What there is to see at each place of each model, in a row.

use assay_probes::metrics::Subset;

use crate::analysis::{Analysis, Cell, Quantity, on, on_all};
use crate::frames::column_name;
use crate::markdown::{NONE, Table, percent};

/// From the smallest to the largest value over the SAEs at the largest budget, a row for each model and depth.
pub fn glance(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "tokens of outlying norm",
        "R²",
        "R² without them",
        "L0",
        "L0 without them",
        "CE_rec (pooled)",
    ]);
    for model in analysis.grid.models() {
        let budget = analysis.largest_budget_of(&model);
        for site in analysis.grid.sites() {
            let cells: Vec<&Cell> = analysis
                .cells
                .iter()
                .filter(|cell| cell.model == model && cell.site == site && cell.budget == budget)
                .collect();
            let Some(first) = cells.first() else { continue };
            let left = analysis.column(first, &column_name(Subset::NoOutlier, "tokens"));
            let out = left.zip(analysis.column(first, "tokens")).map(|(some, all)| 1.0 - some / all);
            let range = |quantity: Quantity| span(cells.iter().filter_map(|cell| analysis.value(cell, quantity)));
            table.row([
                model.clone(),
                analysis.names.site(&site),
                percent(out),
                range(on_all("r2")),
                range(on("r2", Subset::NoOutlier)),
                range(on_all("l0")),
                range(on("l0", Subset::NoOutlier)),
                range(on_all("ce_rec_pooled")),
            ]);
        }
    }
    table
}

/// `0.569 to 0.750`; with more decimals where the ends are close, and one number where there is one.
fn span(values: impl Iterator<Item = f64>) -> String {
    let ends = values.fold(None, |ends: Option<(f64, f64)>, v| match ends {
        Some((low, high)) => Some((low.min(v), high.max(v))),
        None => Some((v, v)),
    });
    let Some((low, high)) = ends else { return NONE.to_owned() };
    let decimals = match high - low {
        d if d > 10.0 => 1,
        d if d > 0.0 && d < 0.01 => 4,
        _ => 3,
    };
    if low == high { format!("{low:.decimals$}") } else { format!("{low:.decimals$} to {high:.decimals$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_decimals_that_tell_their_ends_apart() {
        assert_eq!(span([0.75, 0.569, 0.6].into_iter()), "0.569 to 0.750");
        assert_eq!(span([0.99821, 0.9996].into_iter()), "0.9982 to 0.9996");
        assert_eq!(span([8.0, 127.98].into_iter()), "8.0 to 128.0");
        assert_eq!(span([0.4381].into_iter()), "0.438");
        assert_eq!(span(std::iter::empty()), NONE);
    }
}
