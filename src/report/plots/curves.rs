//! R² above CE_rec against k.

use super::{Context, Plot, point};
use crate::analysis::on_all;
use crate::report::figure::{Axis, Figure, Look, Panel, Scale, Series, Spread, share_y};

/// A column a depth, a row a metric, a line a model.
pub fn plot(context: &Context<'_>) -> Plot {
    let columns = context.depths.len().max(1);
    let mut panels = Vec::new();
    for (name, label) in [("r2", "R²"), ("ce_rec_pooled", "CE_rec")] {
        for depth in &context.depths {
            let series = context.along_k(depth).map(|(at, cells)| Series {
                look: Look::of_model(at),
                points: cells
                    .iter()
                    .filter_map(|cell| {
                        let score = context.analysis.score(cell, on_all(name));
                        Some(context.marked(cell, point(cell.k as f64, score)?))
                    })
                    .collect(),
                joined: true,
                spread: Spread::Band,
            });
            let y = Axis::new(label, Scale::Linear);
            panels.push(Panel::new(format!("{label}, {depth}"), context.k_axis(), y, series.collect()));
        }
    }
    panels.chunks_mut(columns).for_each(share_y);
    Plot {
        figure: Figure {
            title: "Reconstruction (R²) and behaviour (CE_rec)".to_owned(),
            subtitle: context.subtitle(),
            legend: context.keys_with_hollow(),
            columns,
            panel: (330, 230),
            panels,
        },
        caption: format!(
            "R² and pooled CE_rec against k, a column per depth ({}, {}); {}. The bands are of each model alone: that two overlap says little \
             of their difference, which is paired and stands in the next figure. The rows have axes of their own, and axes are truncated.",
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}
